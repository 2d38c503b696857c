"""One transaction around a checkpoint, the memories of its turn, and whatever the caller writes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from memory_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.db.database import Connection, Database
    from memory_plugin.db.joined import Joined


class Transaction:
    """For `async with`, and in sync code for `with`: what is written inside is applied together or not at all."""

    def __init__(self, database: Database, bridge: Bridge, connection: Any) -> None:
        self._database = database
        self._bridge = bridge
        self._given = connection
        self._scope: AbstractAsyncContextManager[Joined] | None = None
        self._before: Joined | None = None

    async def _begin(self) -> Joined:
        if self._scope is not None:
            raise ConfigurationError("This transaction was entered before: ask the store for another one.")
        self._scope = self._database.joined(self._given)
        return await self._scope.__aenter__()

    async def _end(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._scope is not None  # it was entered
        await self._scope.__aexit__(kind, error, trace)

    async def __aenter__(self) -> Connection:
        from memory_plugin.db.joined import bind

        joined = await self._begin()
        self._before = bind(joined)
        return joined.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from memory_plugin.db.joined import bind

        bind(self._before)
        await self._end(kind, error, trace)

    def __enter__(self) -> Self:
        from memory_plugin.db.joined import bind

        if self._given is not None:
            raise ConfigurationError("In sync code a transaction is on a connection of the store: pass none.")
        self._before = bind(self._bridge.run(self._begin()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from memory_plugin.db.joined import bind

        bind(self._before)
        self._bridge.run(self._end(kind, error, trace))


class Transacts(ABC):
    """A store whose operations can share a transaction."""

    database: Database

    @property
    @abstractmethod
    def bridge(self) -> Bridge:
        """The way for sync code to this store."""

    def transaction(self, connection: Any = None) -> Transaction:
        """A transaction that everything joins that is done inside, over every face of this store.

            async with memory.transaction() as connection:
                await graph.ainvoke(...)
                await memory.remember("Alice moved to Oslo", user_id="alice")
                await connection.execute("UPDATE orders SET ...")

        It is committed at the end, and rolled back where the body raises. Inside another one it is a
        part of that, which can be undone by itself. Tasks that are started inside belong to it; await
        them before its end. Indexing is no part of it: what it wrote is found after it was committed.

        Args:
            connection: one of yours that has begun a transaction, to join that: an asyncpg
                connection, or SQLAlchemy's AsyncConnection or AsyncSession over asyncpg. You commit it.

        Raises (on entering):
            ConfigurationError: a connection that cannot be used.
        """
        return Transaction(self.database, self.bridge, connection)
