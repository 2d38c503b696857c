"""Working memory: the one text an agent keeps about a chat or about a user, with every version of it.

A working memory always belongs to somebody: there is no shared default, so that a forgotten id can
never show one user's notes to another.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import ConflictError, InvalidInputError
from memory_plugin.types import UserMemory, WorkingMemory, WorkingMemoryScope
from memory_plugin.validation import clean_text, identifier, positive_limit

ATTEMPTS = 100
"""How often a write is tried while others write the same text; each round one of them gets through."""

_EMPTY = "(nothing yet)"

_GET = """
SELECT scope, scope_id, content, version, updated_at FROM {s}.working_memory
WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3
ORDER BY version DESC LIMIT $4
"""

# A concurrent writer of the same version makes the INSERT do nothing; `written` then has no row
# and the caller sees a content that is not its own.
_UPDATE = """
WITH latest AS (
    SELECT content, version, updated_at FROM {s}.working_memory
    WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3
    ORDER BY version DESC LIMIT 1
), written AS (
    INSERT INTO {s}.working_memory (tenant_id, scope, scope_id, version, content)
    SELECT $1, $2, $3, coalesce((SELECT version FROM latest), 0) + 1, $4
    WHERE NOT EXISTS (SELECT FROM latest WHERE content = $4)
      AND ($5::integer IS NULL OR $5 = coalesce((SELECT version FROM latest), 0))
    ON CONFLICT DO NOTHING
    RETURNING content, version, updated_at
)
SELECT content, version, updated_at FROM written
UNION ALL
SELECT content, version, updated_at FROM latest WHERE NOT EXISTS (SELECT FROM written)
"""

_DELETE = """
WITH gone AS (
    DELETE FROM {s}.working_memory WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3 RETURNING 1
)
SELECT count(*) FROM gone
"""


def template(sections: Mapping[str, str] | Iterable[str]) -> str:
    """A Markdown outline for a working memory: one heading for each section.

    Args:
        sections: the headings in order; as a mapping, each with the line that says what goes there.

    Raises:
        InvalidInputError: a heading is empty, or a text is not storable.
    """
    pairs = sections.items() if isinstance(sections, Mapping) else ((name, _EMPTY) for name in sections)
    parts = [f"## {identifier(name, 'section')}\n{clean_text(hint, 'hint')}\n" for name, hint in pairs]
    return "\n".join(parts)


DEFAULT_TEMPLATE = template(
    {
        "Key Facts": "- Names, dates, numbers and decisions that must not get lost.",
        "Current Focus": "- What is being worked on now, and the next step.",
        "Preferences": "- How answers should look, and what to avoid.",
    }
)
"""What an agent starts from while nothing was written yet."""


def diff(before: WorkingMemory | UserMemory | str, after: WorkingMemory | UserMemory | str) -> str:
    """What changed from one version to another, as a unified diff; empty when nothing did."""
    lines = difflib.unified_diff(
        _content(before).splitlines(),
        _content(after).splitlines(),
        _label(before),
        _label(after),
        lineterm="",
    )
    return "\n".join(lines)


def _content(value: WorkingMemory | UserMemory | str) -> str:
    return value if isinstance(value, str) else value.content


def _label(value: WorkingMemory | UserMemory | str) -> str:
    return "" if isinstance(value, str) else f"version {value.version}"


class WorkingMemories:
    """Reads and writes working memories, each under one thread or one user."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._get = database.sql(_GET)
        self._update = database.sql(_UPDATE)
        self._delete = database.sql(_DELETE)

    async def get(self, *, thread_id: str | None = None, user_id: str | None = None) -> WorkingMemory | None:
        """The current text, None while nothing was written.

        Raises:
            InvalidInputError: not exactly one of `thread_id` and `user_id`, or an empty one.
        """
        found = await self.versions(thread_id=thread_id, user_id=user_id, limit=1)
        return found[0] if found else None

    async def update(
        self,
        content: str,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
        expected_version: int | None = None,
    ) -> WorkingMemory:
        """Replace the text; the same text again makes no version.

        Args:
            expected_version: the version the new text was made from, 0 for none. Where the text in
                the store already is `content` this is not looked at, so that a write whose answer
                got lost can be repeated.

        Raises:
            ConflictError: somebody wrote another version in between.
            InvalidInputError: not exactly one of `thread_id` and `user_id`, an empty one, or a text
                that cannot be stored.
        """
        scope, scope_id = _owner(thread_id, user_id)
        content = clean_text(content, "content")
        expected = _expected(expected_version)
        for _ in range(ATTEMPTS):
            row = await self._database.fetchrow(
                self._update, self._tenant, scope, scope_id, content, expected, repeat=Repeat.IDEMPOTENT
            )
            if row is not None and row["content"] == content:
                return WorkingMemory(scope, scope_id, content, row["version"], row["updated_at"])
            if expected is not None and (row is None or row["version"] != expected):
                raise ConflictError(
                    f"The working memory of {scope} {scope_id!r} is at version "
                    f"{row['version'] if row else 0}, not {expected}: read it again and repeat the change."
                )
        raise ConflictError(
            f"The working memory of {scope} {scope_id!r} is being written all the time: try again later."
        )

    async def versions(
        self, *, thread_id: str | None = None, user_id: str | None = None, limit: int = 20
    ) -> list[WorkingMemory]:
        """The latest versions, newest first; none while nothing was written.

        Raises:
            InvalidInputError: not exactly one of `thread_id` and `user_id`, or an empty one.
        """
        scope, scope_id = _owner(thread_id, user_id)
        rows = await self._database.fetch(
            self._get, self._tenant, scope, scope_id, positive_limit(limit), repeat=Repeat.READ
        )
        return [_working_memory(row) for row in rows]

    async def delete(self, *, thread_id: str | None = None, user_id: str | None = None) -> dict[str, int]:
        """Erase the text with all its versions; rows erased, by table.

        Raises:
            InvalidInputError: not exactly one of `thread_id` and `user_id`, or an empty one.
        """
        return {
            "working_memory": await self._database.fetchval(
                self._delete, self._tenant, *_owner(thread_id, user_id), repeat=Repeat.IDEMPOTENT
            )
        }


def _owner(thread_id: str | None, user_id: str | None) -> tuple[WorkingMemoryScope, str]:
    if (thread_id is None) == (user_id is None):
        raise InvalidInputError(
            "A working memory belongs to one chat or to one user: give exactly one of thread_id and user_id."
        )
    if thread_id is not None:
        return "chat", identifier(thread_id, "thread_id")
    return "user", identifier(user_id, "user_id")


def _expected(version: int | None) -> int | None:
    return None if version is None else positive_limit(version, "expected_version", maximum=2**31 - 1)


def _working_memory(row: Record) -> WorkingMemory:
    return WorkingMemory(row["scope"], row["scope_id"], row["content"], row["version"], row["updated_at"])
