"""The one summary kept about a user, with every version of it."""

from __future__ import annotations

from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import ConflictError
from memory_plugin.types import UserMemory
from memory_plugin.validation import clean_text, identifier, positive_limit

ATTEMPTS = 100
"""How often a write is tried while others write the same summary; each round one of them gets through."""

_GET = """
SELECT user_id, content, version, created_at, updated_at FROM {s}.user_memory
WHERE tenant_id = $1 AND user_id = $2
ORDER BY version DESC LIMIT $3
"""

# A concurrent writer of the same version makes the INSERT do nothing; `written` then has no row
# and the caller sees a content that is not its own.
_SAVE = """
WITH latest AS (
    SELECT user_id, content, version, created_at, updated_at FROM {s}.user_memory
    WHERE tenant_id = $1 AND user_id = $2
    ORDER BY version DESC LIMIT 1
), written AS (
    INSERT INTO {s}.user_memory (tenant_id, user_id, version, content, created_at)
    SELECT $1, $2, coalesce((SELECT version FROM latest), 0) + 1, $3,
           coalesce((SELECT created_at FROM latest), now())
    WHERE NOT EXISTS (SELECT FROM latest WHERE content = $3)
    ON CONFLICT DO NOTHING
    RETURNING user_id, content, version, created_at, updated_at
)
SELECT user_id, content, version, created_at, updated_at FROM written
UNION ALL
SELECT user_id, content, version, created_at, updated_at FROM latest WHERE NOT EXISTS (SELECT FROM written)
"""

_DELETE = """
WITH gone AS (DELETE FROM {s}.user_memory WHERE tenant_id = $1 AND user_id = $2 RETURNING 1)
SELECT count(*) FROM gone
"""


class UserMemories:
    """Reads and writes the summaries of users."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._get = database.sql(_GET)
        self._save = database.sql(_SAVE)
        self._delete = database.sql(_DELETE)

    async def save(self, user_id: str, content: str) -> UserMemory:
        """Replace the summary; the same text again makes no version.

        Raises:
            InvalidInputError: the user is empty, or the text cannot be stored.
            ConflictError: others kept writing the same summary all the time.
        """
        user_id = identifier(user_id, "user_id")
        content = clean_text(content, "content")
        for _ in range(ATTEMPTS):
            row = await self._database.fetchrow(self._save, self._tenant, user_id, content, repeat=Repeat.IDEMPOTENT)
            if row is not None and row["content"] == content:
                return _user_memory(row)
        raise ConflictError(f"The summary of user {user_id!r} is being written all the time: try again later.")

    async def get(self, user_id: str) -> UserMemory | None:
        """The current summary, None while there is none.

        Raises:
            InvalidInputError: the user is empty.
        """
        found = await self.versions(user_id, limit=1)
        return found[0] if found else None

    async def versions(self, user_id: str, *, limit: int = 20) -> list[UserMemory]:
        """The latest versions, newest first; `created_at` is that of the first version in each.

        Raises:
            InvalidInputError: the user is empty.
        """
        user_id = identifier(user_id, "user_id")
        rows = await self._database.fetch(self._get, self._tenant, user_id, positive_limit(limit), repeat=Repeat.READ)
        return [_user_memory(row) for row in rows]

    async def delete(self, user_id: str) -> dict[str, int]:
        """Erase the summary with all its versions; rows erased, by table.

        Raises:
            InvalidInputError: the user is empty.
        """
        user_id = identifier(user_id, "user_id")
        return {
            "user_memory": await self._database.fetchval(self._delete, self._tenant, user_id, repeat=Repeat.IDEMPOTENT)
        }


def _user_memory(row: Record) -> UserMemory:
    return UserMemory(row["user_id"], row["content"], row["version"], row["created_at"], row["updated_at"])
