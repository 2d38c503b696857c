"""Working memory: the one text an agent keeps about a chat or about a user, with every version of it.

A working memory always belongs to somebody: there is no shared default, so that a forgotten id can
never show one user's notes to another.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from memory_plugin.capabilities.conversation_sql import HISTORY
from memory_plugin.capabilities.conversations import messages_of
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import ConflictError, InvalidInputError, NotFoundError
from memory_plugin.types import Message, UserMemory, WorkingMemory, WorkingMemoryScope
from memory_plugin.validation import clean_text, identifier, positive_limit

ATTEMPTS = 100
"""How often a write is tried while others write the same text; each round one of them gets through."""

_EMPTY = "(nothing yet)"

_MISSING = frozenset({"undefined", "null", "None"})
"""How a missing id looks once somebody made text of it; as an id it would be one that everybody shares."""

_MAX_VERSION = 2**31 - 1

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

_PAIR = """
WITH latest AS (
    SELECT max(version) AS version FROM {s}.working_memory WHERE tenant_id = $1 AND scope = $2 AND scope_id = $3
)
SELECT w.scope, w.scope_id, w.content, w.version, w.updated_at, latest.version AS latest
FROM latest, {s}.working_memory w
WHERE w.tenant_id = $1 AND w.scope = $2 AND w.scope_id = $3
  AND w.version IN (coalesce($4::integer, coalesce($5::integer, latest.version) - 1),
                    coalesce($5::integer, latest.version))
"""

# What a chat says of itself at its beginning: the messages as `HISTORY` has them, then the texts.
_CHAT = f"""
WITH said AS (
{HISTORY}
), texts AS (
    (SELECT 'chat' AS part, scope_id AS owner, content, version, updated_at AS created_at, updated_at
     FROM {{s}}.working_memory WHERE tenant_id = $1 AND scope = 'chat' AND scope_id = $2
     ORDER BY version DESC LIMIT 1)
    UNION ALL
    (SELECT 'user', scope_id, content, version, updated_at, updated_at
     FROM {{s}}.working_memory WHERE tenant_id = $1 AND scope = 'user' AND scope_id = $4
     ORDER BY version DESC LIMIT 1)
    UNION ALL
    (SELECT 'summary', user_id, content, version, created_at, updated_at
     FROM {{s}}.user_memory WHERE tenant_id = $1 AND user_id = $4
     ORDER BY version DESC LIMIT 1)
)
SELECT 'message' AS part, id, thread_id, seq, role, message_id, name, text, body, said_at, place,
       NULL::text AS owner, NULL::integer AS version, NULL::timestamptz AS created_at FROM said
UNION ALL
SELECT part, NULL, NULL, NULL, NULL, NULL, NULL, content, NULL, updated_at, NULL, owner, version, created_at FROM texts
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


@dataclass(frozen=True, slots=True)
class ChatContext:
    """What an agent needs when a chat goes on: None where nothing was written.

    Attributes:
        messages: the newest of the chat, oldest first.
        chat: the working memory of the chat, `user` that of its user.
        summary: what is known about the user.
    """

    messages: Sequence[Message] = ()
    chat: WorkingMemory | None = None
    user: WorkingMemory | None = None
    summary: UserMemory | None = None


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
        self._pair = database.sql(_PAIR)
        self._chat = database.sql(_CHAT)
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

    async def diff(
        self,
        before: int | None = None,
        after: int | None = None,
        *,
        thread_id: str | None = None,
        user_id: str | None = None,
    ) -> str:
        """What changed from one version to another, as a unified diff; empty when nothing did.

        Args:
            before: 0 is the empty text before the first version; by default the one before `after`.
            after: the current version by default.

        Raises:
            NotFoundError: there is no such version.
            InvalidInputError: not exactly one of `thread_id` and `user_id`, or an empty one.
        """
        scope, scope_id = _owner(thread_id, user_id)
        asked = (_version(before, "before"), _version(after, "after"))
        rows = await self._database.fetch(self._pair, self._tenant, scope, scope_id, *asked, repeat=Repeat.READ)
        texts: dict[int, WorkingMemory | str] = {0: "", **{row["version"]: _working_memory(row) for row in rows}}
        last = rows[0]["latest"] if asked[1] is None and rows else asked[1]
        first = last - 1 if asked[0] is None and last is not None else asked[0]
        for number in (first, last):
            if number is None or number not in texts:
                raise NotFoundError(
                    f"The working memory of {scope} {scope_id!r} has no version {number or 1}: "
                    "`versions` shows those it has."
                )
        return diff(texts[first or 0], texts[last or 0])

    async def with_history(
        self, thread_id: str | None = None, *, user_id: str | None = None, limit: int = 20
    ) -> ChatContext:
        """The newest messages of a chat, its working memory, and that and the summary of its user, in one round trip.

        Args:
            thread_id: None where only the user's part is wanted.
            user_id: None where only the chat's part is wanted.
            limit: how many messages; 0 for none.

        Raises:
            InvalidInputError: neither `thread_id` nor `user_id`, or an empty one.
        """
        if thread_id is None and user_id is None:
            raise InvalidInputError("There is nothing to load without a thread_id and a user_id: name at least one.")
        size = positive_limit(limit)
        rows = await self._database.fetch(
            self._chat,
            self._tenant,
            None if thread_id is None else _named(thread_id, "thread_id"),
            size,
            None if user_id is None else _named(user_id, "user_id"),
            repeat=Repeat.READ,
        )
        texts = {row["part"]: row for row in rows if row["part"] != "message"}
        summary = texts.get("summary")
        return ChatContext(
            messages=messages_of([row for row in rows if row["part"] == "message"], size) if size else [],
            chat=_of_chat("chat", texts.get("chat")),
            user=_of_chat("user", texts.get("user")),
            summary=None
            if summary is None
            else UserMemory(
                summary["owner"], summary["text"], summary["version"], summary["created_at"], summary["said_at"]
            ),
        )

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
        return "chat", _named(thread_id, "thread_id")
    return "user", _named(user_id, "user_id")


def _named(value: object, what: str) -> str:
    """The id, if it is one and not the word for a missing one."""
    name = identifier(value, what)
    if name in _MISSING:
        raise InvalidInputError(
            f"{what} is {name!r}, a missing id made into text: give the real one, nothing is shared by default."
        )
    return name


def _expected(version: int | None) -> int | None:
    return _version(version, "expected_version")


def _version(version: int | None, what: str) -> int | None:
    return None if version is None else positive_limit(version, what, maximum=_MAX_VERSION)


def _of_chat(scope: WorkingMemoryScope, row: Record | None) -> WorkingMemory | None:
    return None if row is None else WorkingMemory(scope, row["owner"], row["text"], row["version"], row["said_at"])


def _working_memory(row: Record) -> WorkingMemory:
    return WorkingMemory(row["scope"], row["scope_id"], row["content"], row["version"], row["updated_at"])
