"""TableMemoryProvider: memory in tables that the application has already."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Connection, Engine, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncEngine

from memory_plugin.errors import ConfigurationError, ConflictError
from memory_plugin.message_shape import message_shape
from memory_plugin.providers import message_rows, note_rows
from memory_plugin.providers.checking import TableReport, Wanted, check, make
from memory_plugin.providers.columns import MESSAGES, WORKING_MEMORY, Bound, Meaning, bind
from memory_plugin.providers.groups import TableConversations, TableWorkingMemories
from memory_plugin.providers.message_rows import ROLES, StoredMessage, order_of
from memory_plugin.providers.note_rows import Owner
from memory_plugin.providers.running import Again, Runner
from memory_plugin.sync import SyncProxy
from memory_plugin.types import WorkingMemory, WorkingMemoryScope
from memory_plugin.validation import clean_text, positive_limit

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.langchain.history import ConversationHistory


T = TypeVar("T")


class TableMemoryProvider:
    """Messages and working memories in tables of your own, on any engine of SQLAlchemy.

    Methods are coroutines for both kinds of engines; inside a plain `with` they are called without
    await. The engine stays yours: nothing here closes it.

    Args:
        engine: of PostgreSQL, MySQL, MariaDB, SQLite or libSQL.
        working_memory_table, messages_table: a `Table`, a mapped class, or a name ("chat" or
            "schema.chat") whose columns are then read from the database. One may be left out.
        working_memory_columns, messages_columns: column names by meaning, where they are not the
            usual ones; None for what the table has a column for that is something else.
        constants: values that every row has, by column name, such as the tenant's.
        roles: how the table names who speaks, by LangChain's word for it.

    Raises:
        ConfigurationError: the engine is none, no table was given, or a column is not there.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        working_memory_table: Table | type | str | None = None,
        messages_table: Table | type | str | None = None,
        working_memory_columns: Mapping[str, str | None] | None = None,
        messages_columns: Mapping[str, str | None] | None = None,
        constants: Mapping[str, Any] | None = None,
        roles: Mapping[str, str] = ROLES,
    ) -> None:
        self._runner = Runner(engine)
        self._roles = dict(roles)
        given = {
            "messages": (messages_table, MESSAGES, messages_columns),
            "working_memory": (working_memory_table, WORKING_MEMORY, working_memory_columns),
        }
        self._wanted = {
            name: _wanted(table, meanings, columns or {}, constants or {}, of_messages=name == "messages")
            for name, (table, meanings, columns) in given.items()
            if table is not None
        }
        if not self._wanted:
            raise ConfigurationError("There is no table: give messages_table, working_memory_table, or both.")
        self._bound: dict[str, Bound] = {}
        for name, wanted in self._wanted.items():
            if wanted.table is not None:
                self._bound[name] = _usable(name, wanted.table, wanted)

    # -- the four methods

    async def get_working_memory(
        self,
        *,
        thread_id: object = None,
        user_id: object = None,
        scope: WorkingMemoryScope | None = None,
    ) -> WorkingMemory | None:
        """The text kept about a chat or a user; None while nothing was written.

        Args:
            scope: whose, where both ids are given.

        Raises:
            InvalidInputError: the id that is needed is missing.
        """
        owner = Owner(scope, thread_id, user_id)
        return await self._run("working_memory", lambda c, bound: note_rows.read(c, bound, owner))

    async def update_working_memory(
        self,
        content: str,
        *,
        thread_id: object = None,
        user_id: object = None,
        scope: WorkingMemoryScope | None = None,
        expected_version: int | None = None,
    ) -> WorkingMemory:
        """Replace the whole text; the same text again changes nothing.

        Args:
            expected_version: the version that the new text was made from, 0 for none; the table needs
                a column for it.

        Raises:
            ConflictError: somebody wrote another version in between.
            InvalidInputError: the id that is needed is missing, or the text cannot be stored.
        """
        owner = Owner(scope, thread_id, user_id)
        text = clean_text(content, "content")
        expected = None if expected_version is None else positive_limit(expected_version, "expected_version")
        try:
            return await self._run(
                "working_memory", lambda c, bound: note_rows.write(c, bound, owner, text, expected=expected)
            )
        except Again as error:
            raise ConflictError(
                f"The working memory of {owner!r} could not be written: others write it all the time, or another "
                "owner has the same key in this table (`check()` says whether its key fits)."
            ) from error

    async def save_message(
        self,
        thread_id: object,
        message: Any,
        *,
        user_id: object = None,
        at: datetime | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredMessage:
        """Add a message at the end of a chat.

        Args:
            message: a LangChain message, a {"role", "content"} dict, a (role, text) pair or plain text.
            at: when it was said; now by default.
            extra: values for more columns, by column name.

        Raises:
            InvalidInputError: the message cannot be understood or stored.
            UnsupportedError: the table has no column for the whole message, and this one needs it.
        """
        return (await self.save_messages(thread_id, [message], user_id=user_id, at=at, extra=extra))[0]

    async def get_messages(
        self, thread_id: object, *, limit: int | None = None, user_id: object = None
    ) -> list[StoredMessage]:
        """The messages of a chat, oldest first.

        Args:
            limit: only the newest so many.
            user_id: nothing of a chat in which this user never said anything.
        """
        size = None if limit is None else positive_limit(limit, maximum=1_000_000)
        if size == 0:
            return []
        return await self._run(
            "messages",
            lambda c, bound: message_rows.read(c, bound, thread_id, limit=size, user_id=user_id, roles=self._roles),
        )

    # -- beside them

    async def save_messages(
        self,
        thread_id: object,
        messages: Sequence[Any],
        *,
        user_id: object = None,
        at: datetime | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> list[StoredMessage]:
        """Add messages at the end of a chat, all of them or none."""
        shapes = [message_shape(message) for message in messages]
        times = message_rows.times_of(at, len(shapes))
        return await self._run(
            "messages",
            lambda c, bound: message_rows.write(
                c, bound, thread_id, shapes, times, user_id=user_id, extra=extra, roles=self._roles
            ),
        )

    async def clear_messages(self, thread_id: object) -> int:
        """Remove all messages of a chat; how many there were."""
        return await self._run("messages", lambda c, bound: message_rows.clear(c, bound, thread_id))

    async def delete_working_memory(
        self, *, thread_id: object = None, user_id: object = None, scope: WorkingMemoryScope | None = None
    ) -> int:
        """Remove the text kept about a chat or a user; how many rows there were."""
        owner = Owner(scope, thread_id, user_id)
        return await self._run("working_memory", lambda c, bound: note_rows.delete_one(c, bound, owner))

    # -- the tables

    async def check(self) -> TableReport:
        """What the tables lack, exactly, with the statements that add it; `print` shows both."""
        wanted = list(self._wanted.values())
        return await self._runner.run(lambda c: check(c, wanted))

    async def create_tables(self) -> list[str]:
        """Make the tables that are not there yet, as they are declared; their names.

        A table that was given by its name alone gets the usual columns.
        """
        wanted = list(self._wanted.values())
        return await self._runner.run(lambda c: make(c, wanted))

    # -- faces

    def history(
        self, thread_id: object, *, limit: int | None = None, user_id: str | None = None
    ) -> ConversationHistory:
        """The LangChain chat history of a chat, over the messages table.

        Args:
            limit: show only the newest so many messages.
            user_id: who says what is added.
        """
        from memory_plugin.langchain.history import ConversationHistory

        return ConversationHistory(self, self.bridge, thread_id, limit=limit, user_id=user_id)

    @cached_property
    def conversations(self) -> TableConversations:
        """The messages, under the names that `Memory.conversations` has."""
        return TableConversations(self)

    @cached_property
    def working_memory(self) -> TableWorkingMemories:
        """The working memories, under the names that `Memory.working_memory` has."""
        return TableWorkingMemories(self)

    @property
    def bridge(self) -> Bridge:
        """The way of sync calls to the engine."""
        return self._runner.bridge

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._runner.stop()

    def __enter__(self) -> Any:
        return SyncProxy(self, self._runner.start())

    def __exit__(self, *exc_info: object) -> None:
        self._runner.stop()

    async def _run(self, which: str, work: Callable[[Connection, Bound], T]) -> T:
        wanted = self._wanted.get(which)
        if wanted is None:
            raise ConfigurationError(f"This provider has no {which}_table: give one when you make it.")

        def call(connection: Connection) -> T:
            bound = self._bound.get(which)
            if bound is None:
                shown = Table(wanted.name, MetaData(), schema=wanted.schema, autoload_with=connection)
                bound = self._bound[which] = _usable(which, shown, wanted)
            return work(connection, bound)

        return await self._runner.run(call)


def _wanted(
    table: Table | type | str,
    meanings: tuple[Meaning, ...],
    chosen: Mapping[str, str | None],
    constants: Mapping[str, Any],
    *,
    of_messages: bool,
) -> Wanted:
    if isinstance(table, str):
        schema, _, name = table.rpartition(".")
        return Wanted(name, schema or None, None, meanings, chosen, constants, of_messages)
    found = table if isinstance(table, Table) else getattr(table, "__table__", None)
    if not isinstance(found, Table):
        raise ConfigurationError(
            f"{table!r} is not a table: pass a SQLAlchemy Table, a mapped class, or the table's name."
        )
    return Wanted(found.name, found.schema, found, meanings, chosen, constants, of_messages)


def _usable(which: str, table: Table, wanted: Wanted) -> Bound:
    """The table's columns, when they are enough.

    Raises:
        ConfigurationError: they are not.
    """
    bound = bind(table, wanted.meanings, wanted.chosen, wanted.constants)
    if which == "messages":
        order_of(bound)
    elif not note_rows.unique_over(bound):
        raise ConfigurationError(
            f"The table {table.name!r} cannot say whose a working memory is: it needs a text `id`, or `scope` with "
            "`thread_id` or `user_id`."
        )
    return bound
