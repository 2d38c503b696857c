"""Conversations and their messages: what history shows, whichever face wrote it.

The history of a thread is the message list of its latest root checkpoint, with the messages that
were appended directly (by chat history or the API) in the place where they arrived.
"""

from __future__ import annotations

import builtins
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from memory_plugin.capabilities import conversation_sql as sql
from memory_plugin.capabilities.conversation_care import ConversationCare
from memory_plugin.capabilities.thread_listing import Order, Wanted, read_cursor, statement, write_cursor
from memory_plugin.capabilities.thread_removal import (
    DELETE_LOCKED,
    DELETE_THREADS,
    LOCK_THREADS,
    LOCK_USER,
    remove_locked,
    unlocked,
)
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import InvalidInputError, NotFoundError
from memory_plugin.jsonable import dumps_exact, loads_exact
from memory_plugin.message_shape import MessageShape, message_shape, whole_body
from memory_plugin.types import Conversation, Message, Page, uuid7
from memory_plugin.validation import (
    MAX_TEXT,
    clean_text,
    identifier,
    moment,
    optional_identifier,
    positive_limit,
)

MAX_MESSAGE = 16 * MAX_TEXT


class Conversations(ConversationCare):
    """The threads of one tenant.

    Args:
        user_id: the user of new threads when a call names none.
        changed: called after messages were stored.
        language: that the messages are indexed in.
        catch_up: brings what was written into the search index, before a search.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        user_id: str | None = None,
        changed: Callable[[], None] = lambda: None,
        language: str = "english",
        catch_up: Callable[[], Awaitable[Any]] | None = None,
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id
        self._changed = changed
        self._language = language
        self._search_ready = catch_up

    async def create(
        self,
        thread_id: str | None = None,
        *,
        user_id: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Conversation:
        """Make a conversation, or fill in what an existing one of that id lacks.

        Args:
            thread_id: any text; None makes a new UUID.
        """
        row = await self._database.fetchrow(
            self._database.sql(sql.CREATE),
            self._tenant,
            str(uuid7()) if thread_id is None else identifier(thread_id, "thread_id"),
            optional_identifier(user_id if user_id is not None else self._user_id, "user_id"),
            None if title is None else clean_text(title, "title", limit=MAX_TEXT),
            _json(metadata or {}, "metadata"),
            repeat=Repeat.IDEMPOTENT,
        )
        assert row is not None  # the statement always returns the row
        return _conversation(row)

    async def get(self, thread_id: str) -> Conversation:
        """One conversation.

        Raises:
            NotFoundError: there is none of that id for this tenant.
        """
        thread = identifier(thread_id, "thread_id")
        row = await self._database.fetchrow(self._database.sql(sql.GET), self._tenant, thread, repeat=Repeat.READ)
        if row is None:
            raise NotFoundError(f"There is no conversation {thread!r}: `conversations.list()` shows those there are.")
        return _conversation(row)

    async def list(
        self,
        *,
        user_id: str | None = None,
        search: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        order: Order = "recent",
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Conversation]:
        """Conversations, the most recently active first; one statement for a page.

        Args:
            user_id: only those of this user.
            search: only those with all these words in the title or id, or in one of their messages,
                without regard to case and accents; the last may be the beginning of a word.
            metadata: only those whose metadata contains this, as PostgreSQL's `@>` means it.
            since, until: last active in this half-open period.
            order: "relevance" puts those first whose title has the words, then those with the most
                and shortest messages that have.
            cursor: where to read on, from the page before with the same arguments.

        Raises:
            InvalidInputError: the cursor is not one of ours, or the order is an unknown word.
        """
        if order not in {"recent", "relevance"}:
            raise InvalidInputError(f"order must be 'recent' or 'relevance', not {order!r}.")
        size = positive_limit(limit)
        after = read_cursor(cursor, order)
        text = clean_text(search, "search") if search is not None else ""
        wanted = Wanted(
            user_id=optional_identifier(user_id, "user_id"),
            search=text if text.strip() else None,
            metadata=None if metadata is None else _json(metadata, "metadata"),
            since=moment(since, "since"),
            until=moment(until, "until"),
            order=order,
        )
        if wanted.search is not None and after is None and self._search_ready is not None:
            await self._search_ready()
        query, arguments = statement(sql.OF_CONVERSATION, self._tenant, self._language, wanted, after, size + 1)
        rows = await self._database.fetch(self._database.sql(query), *arguments, repeat=Repeat.READ)
        items = [_conversation(row) for row in rows[:size]]
        more = len(rows) > size > 0
        return Page(items, write_cursor(rows[size - 1], order) if more else None)

    async def set_title(self, thread_id: str, title: str | None) -> Conversation:
        """Give a conversation a title; the conversation is made if it is not there yet."""
        row = await self._database.fetchrow(
            self._database.sql(sql.SET_TITLE),
            self._tenant,
            identifier(thread_id, "thread_id"),
            self._user_id,
            None if title is None else clean_text(title, "title", limit=MAX_TEXT),
            repeat=Repeat.IDEMPOTENT,
        )
        assert row is not None  # the statement always returns the row
        return _conversation(row)

    async def delete(self, thread_id: str) -> dict[str, int]:
        """Erase a conversation with its messages, checkpoints and working memory; rows by table."""
        ids = [identifier(thread_id, "thread_id")]
        return await unlocked(
            lambda: remove_locked(self._database, self._tenant, LOCK_THREADS, ids, DELETE_THREADS, ids)
        )

    async def delete_user(self, user_id: str) -> dict[str, int]:
        """Erase every conversation of a user; rows by table."""
        ids = [identifier(user_id, "user_id")]
        return await unlocked(lambda: remove_locked(self._database, self._tenant, LOCK_USER, ids, DELETE_LOCKED))

    async def append(
        self,
        thread_id: str,
        messages: Sequence[Any] | Any,
        *,
        at: datetime | Sequence[datetime] | None = None,
        user_id: str | None = None,
    ) -> builtins.list[Message]:
        """Add messages at the end of a conversation, in one statement; it is made if need be.

        Args:
            messages: LangChain messages, {"role", "content"} dicts, (role, text) pairs or plain
                text (said by a person). `name` is the speaker, `id` is kept.
            at: when they were said: one time for all, or one for each; now by default.

        Raises:
            InvalidInputError: a message cannot be understood or stored, or the number of times
                is not the number of messages; nothing was written.
        """
        thread = identifier(thread_id, "thread_id")
        shapes = [_checked(message) for message in _as_list(messages)]
        if not shapes:
            return []
        times = _times(at, len(shapes))
        ids = [uuid7() for _ in shapes]
        rows = await self._database.fetch(
            self._database.sql(sql.APPEND),
            self._tenant,
            thread,
            optional_identifier(user_id if user_id is not None else self._user_id, "user_id"),
            len(shapes),
            ids,
            [shape.role for shape in shapes],
            [shape.message_id for shape in shapes],
            [shape.name for shape in shapes],
            [shape.text for shape in shapes],
            [shape.body for shape in shapes],
            times,
        )
        self._changed()
        return [_message(row) for row in rows]

    async def messages(self, thread_id: str, *, limit: int | None = None) -> builtins.list[Message]:
        """The history of a thread, oldest first; an unknown thread has none.

        Messages that an encrypting serializer wrote cannot be read here and are left out.

        Args:
            limit: only the newest so many.
        """
        size = None if limit is None else positive_limit(limit, maximum=1_000_000)
        if size == 0:
            return []
        rows = await self._database.fetch(
            self._database.sql(sql.HISTORY),
            self._tenant,
            identifier(thread_id, "thread_id"),
            size,
            repeat=Repeat.READ,
        )
        return messages_of(rows, size)

    async def clear(self, thread_id: str) -> int:
        """Erase what was said in a thread and the state of its agent; how many messages there were.

        The conversation itself stays, with its title, user and metadata.
        """
        ids = [identifier(thread_id, "thread_id")]
        counts = await unlocked(lambda: remove_locked(self._database, self._tenant, LOCK_THREADS, ids, sql.CLEAR, ids))
        return counts["messages"]

    async def hydrate(self, ids: Sequence[tuple[str, int]]) -> dict[tuple[str, int], Message]:
        """The messages at these places (thread, seq)."""
        rows = await self._database.fetch(
            self._database.sql(sql.HYDRATE),
            self._tenant,
            [thread for thread, _ in ids],
            [seq for _, seq in ids],
            repeat=Repeat.READ,
        )
        return {(row["thread_id"], row["seq"]): _message(row) for row in rows}

    # -- the memory buffer

    async def get_buffer(self, thread_id: str) -> dict[str, Any] | None:
        """The live state kept with a conversation; None where there is none."""
        text = await self._database.fetchval(
            self._database.sql(sql.GET_BUFFER), self._tenant, identifier(thread_id, "thread_id"), repeat=Repeat.READ
        )
        return None if text is None else loads_exact(text)

    async def set_buffer(self, thread_id: str, buffer: Mapping[str, Any] | None) -> None:
        """Replace the whole buffer; None empties it. The conversation is made if need be."""
        await self._database.execute(
            self._database.sql(sql.SET_BUFFER),
            self._tenant,
            identifier(thread_id, "thread_id"),
            self._user_id,
            None if buffer is None else _json(buffer, "buffer"),
            repeat=Repeat.IDEMPOTENT,
        )

    async def merge_buffer(self, thread_id: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Set these keys of the buffer and leave the others; the whole buffer afterwards."""
        text = await self._database.fetchval(
            self._database.sql(sql.MERGE_BUFFER),
            self._tenant,
            identifier(thread_id, "thread_id"),
            self._user_id,
            _json(values, "values"),
            repeat=Repeat.IDEMPOTENT,
        )
        merged: dict[str, Any] = loads_exact(text)
        return merged

    async def find_by_buffer(self, containment: Mapping[str, Any], *, limit: int = 20) -> builtins.list[Conversation]:
        """Conversations whose buffer contains this structure, as PostgreSQL's `@>` means it."""
        rows = await self._database.fetch(
            self._database.sql(sql.FIND_BY_BUFFER),
            self._tenant,
            _json(containment, "containment"),
            positive_limit(limit),
            repeat=Repeat.READ,
        )
        return [_conversation(row) for row in rows]


def messages_of(rows: Sequence[Record], size: int | None) -> list[Message]:
    """What the statement `HISTORY` answered, in order, the newest `size` of it."""
    ordered = _merge([row for row in rows if row["place"] is not None], [row for row in rows if row["place"] is None])
    return [_message(row) for row in (ordered if size is None else ordered[-size:])]


def _json(value: Mapping[str, Any], what: str) -> str:
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} must be a mapping of names to values, not {type(value).__name__}.")
    text = dumps_exact(dict(value))
    if text is None:
        raise InvalidInputError(f"{what} holds something that JSON cannot: use text, numbers, lists and dicts.")
    return text


def _as_list(messages: Sequence[Any] | Any) -> list[Any]:
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        return [messages]
    if isinstance(messages, tuple) and len(messages) == 2 and all(isinstance(part, str) for part in messages):
        return [messages]  # one (role, text) pair
    return list(messages)


def _checked(message: Any) -> MessageShape:
    shape = message_shape(message)
    for part in (shape.body, shape.text):
        if len(part) > MAX_MESSAGE:
            clean_text(part, "the message", limit=MAX_MESSAGE)
    return shape


def _times(at: datetime | Sequence[datetime] | None, count: int) -> list[datetime]:
    if at is None:
        return [datetime.now(UTC)] * count
    if isinstance(at, datetime):
        at = [at] * count
    if len(at) != count:
        raise InvalidInputError(
            f"There are {count} messages but {len(at)} times in `at`: give one for each, or one for all."
        )
    checked = [moment(each, "at") for each in at]
    return [each if each is not None else datetime.now(UTC) for each in checked]


def _merge(state: Sequence[Record], appended: Sequence[Record]) -> list[Record]:
    """The state's list in its order, each appended message after the last one that came before it."""
    state = sorted(state, key=lambda row: row["place"])
    waiting = sorted(appended, key=lambda row: row["seq"])
    merged: list[Record] = []
    latest = [0] * (len(state) + 1)  # the earliest arrival among this and all later places
    latest[-1] = 2**63 - 1
    for index in range(len(state) - 1, -1, -1):
        latest[index] = min(latest[index + 1], state[index]["seq"])
    taken = 0
    for index, row in enumerate(state):
        while taken < len(waiting) and waiting[taken]["seq"] < latest[index]:
            merged.append(waiting[taken])
            taken += 1
        merged.append(row)
    return [*merged, *waiting[taken:]]


def _message(row: Record) -> Message:
    return Message(
        id=row["id"],
        thread_id=row["thread_id"],
        seq=row["seq"],
        role=row["role"] or "",
        text=row["text"] or "",
        body=whole_body(row["body"], row["text"], row["message_id"]) if row["body"] is not None else {},
        at=row["said_at"],
        message_id=row["message_id"],
        name=row["name"],
    )


def _conversation(row: Record) -> Conversation:
    return Conversation(
        thread_id=row["thread_id"],
        user_id=row["user_id"],
        title=row["title"],
        metadata=loads_exact(row["metadata"]),
        message_count=row["message_count"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        memory_buffer=None if row["memory_buffer"] is None else loads_exact(row["memory_buffer"]),
    )
