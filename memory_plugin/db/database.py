"""Connections: SQLAlchemy owns the pool, hot statements run on the raw asyncpg connection below it.

What a driver raises leaves here as one of our errors, and what a lost connection allows to be done
again is done again here.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import lru_cache, partial
from typing import Any, Self, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from memory_plugin.db.connections import Borrowed, Connection, Connections
from memory_plugin.db.joined import Given, Joined, given_connection, joined_to
from memory_plugin.db.repeating import Patience, Repeat
from memory_plugin.db.translation import DRIVER_ERRORS, Progress, not_applied, outcome_unknown, translate
from memory_plugin.db.urls import hide_secrets, normalise_url, quote_schema
from memory_plugin.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailableError,
    MemoryPluginError,
    OutcomeUnknownError,
)

__all__ = ["Connection", "Database", "Record", "Repeat", "normalise_url", "quote_schema", "translate"]

Record = asyncpg.Record

T = TypeVar("T")

RETRY_SECONDS = 10.0

_STATEMENTS = 1024
"""Statements whose text is kept, once for the stores of all tenants; as many as a connection keeps prepared."""

_DEADLOCK = "40P01"
"""Two statements waited for each other, and PostgreSQL ended this one; nothing of it was applied."""

_IN_THE_WAY = {"40001", "23505"}
"""What a repeated write runs into where the first one's work came in between: the next attempt sees it."""


class Database:
    """A pool of connections to one database, and the schema the store lives in.

    It belongs to one event loop.

    Args:
        url: `postgresql://` URL; a unix-socket directory goes in `?host=`.
        schema: PostgreSQL schema of the tables.
        pool_size: connections at the most; 0 opens one per operation.
        prepared: use named prepared statements; off behind poolers that do not track them. Where
            such a pooler is met they are turned off.
        retry_seconds: how long an operation is tried again after its connection failed.
        tenant: whose rows the sessions see; None for those of a login that row security does not hold for.
        role: what the sessions run as; None for the login itself.
    """

    def __init__(
        self,
        url: str,
        *,
        schema: str = "memory",
        pool_size: int = 8,
        connect_timeout: float = 10.0,
        statement_timeout: float | None = None,
        prepared: bool = True,
        retry_seconds: float = RETRY_SECONDS,
        tenant: str | None = None,
        role: str | None = None,
    ) -> None:
        self.url = normalise_url(url)
        self.tenant = tenant
        self.schema = schema
        self._quoted = quote_schema(schema)
        self._in_schema = lru_cache(_STATEMENTS)(partial(_in_schema, self._quoted, is_whole=tenant is None))
        self._target = hide_secrets(self.url)
        self._retry_seconds = retry_seconds
        self._connections = Connections(
            self.url,
            target=self._target,
            pool_size=pool_size,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
            prepared=prepared,
            retry_seconds=retry_seconds,
            role=role,
            options={"isolation_level": "AUTOCOMMIT", "execution_options": {"schema_translate_map": {None: schema}}},
        )
        self.engine: AsyncEngine = self._connections.engine
        self._login: dict[str, Any] = {
            "schema": schema,
            "connect_timeout": connect_timeout,
            "statement_timeout": statement_timeout,
            "prepared": prepared,
            "retry_seconds": retry_seconds,
        }

    def __repr__(self) -> str:
        return f"Database({self._target!r}, schema={self.schema!r})"

    def sql(self, statement: str) -> str:
        """The statement with the store's schema in place of `{s}`.

        `{seen}messages` is the table itself for a login that sees everything, and else a view of the
        tenant's rows: conditions on a view may use any index, those on a table under row security only
        such as tell nothing of what they compare, which leaves out `@>`, `@@` and arrays.
        """
        return self._in_schema(statement)

    @property
    def prepares(self) -> bool:
        """Whether statements are prepared under names, and so take one round trip."""
        return self._connections.prepares

    # -- whose rows

    def for_tenant(self, tenant: str) -> Self:
        """The same connections, which see the rows of another tenant when they are lent by it."""
        if self.tenant is None or tenant == self.tenant:
            return self  # a login that sees everything, or the same rows
        other = copy.copy(self)
        other.tenant = tenant
        return other

    def as_login(self) -> Database:
        """The database for what belongs to its owner, such as making an index: one connection per operation."""
        return Database(self.url, pool_size=0, **self._login)

    @property
    def role(self) -> str | None:
        """What the sessions run as; None for the login itself."""
        return self._connections.role

    @property
    def keeps_sessions(self) -> bool:
        """Whether a session keeps what it was told; not so behind a pooler that shares it."""
        return not self._connections.are_shared

    def work_as_login(self) -> None:
        """Run as the login itself from now on: it may not become the role that was asked for."""
        self._connections.work_as_login()

    def share_sessions(self) -> None:
        """Say in each transaction whose rows it sees: the sessions do not keep it."""
        self._connections.share()

    def shares_connections_with(self, other: Database) -> bool:
        """Whether it is this database, for whichever tenant."""
        return other.engine is self.engine

    # -- connections

    def change_connections(self, change: Callable[[type[Connection]], type[Connection]]) -> None:
        """Make the connections from now on of the class that `change` makes of theirs."""
        self._connections.change_class(change)

    def raw(self) -> AbstractAsyncContextManager[Connection]:
        """A raw connection in autocommit: each statement is its own transaction.

        Raises:
            DatabaseError: or one of its kinds, translated from what the driver raised.
        """
        joined = joined_to(self)
        return Borrowed(self._connections, self.tenant) if joined is None else joined.savepoint(self.tenant)

    @asynccontextmanager
    async def joined(self, given: Any = None) -> AsyncIterator[Joined]:
        """A transaction for the operations of a caller to join, see `memory_plugin.db.joined`.

        Args:
            given: a connection of the caller's that is inside a transaction, which stays the caller's to end.

        Raises:
            ConfigurationError: the connection cannot be used.
        """
        outer = joined_to(self)
        if outer is not None:
            if given is not None and (await given_connection(given)).connection is not outer.connection:
                raise ConfigurationError("There is a transaction on another connection already: end that one first.")
            async with outer.nested():
                yield outer
            return
        known = None if given is None else await given_connection(given)
        async with self.transaction() if known is None else nullcontext(known.connection) as connection:
            joined = Joined(self, known or Given(connection), self._lost_inside)
            try:
                yield joined
                joined.check()
            finally:
                joined.end()

    def _lost_inside(self, error: BaseException) -> MemoryPluginError:
        """The error of an operation inside a transaction: whatever it did is not applied."""
        return self._connections.translated(error, Progress.UNCOMMITTED)

    async def connect_alone(self) -> Connection:
        """A connection that is no part of the pool; the caller closes it.

        Raises:
            DatabaseError: or one of its kinds, translated from what the driver raised.
        """
        return await self._connections.alone()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A raw connection inside one transaction, rolled back when the body raises.

        Raises:
            OutcomeUnknownError: the connection was lost while it was committed.
            DatabaseUnavailableError: it was lost before; nothing was applied.
        """
        if (joined := joined_to(self)) is not None:
            async with joined.savepoint(self.tenant) as connection:
                yield connection
            return
        patience, begun = Patience(self._retry_seconds), False
        while True:
            try:
                async with self.raw() as connection:
                    progress = Progress.UNCOMMITTED
                    try:
                        transaction = connection.transaction()
                        await transaction.start()
                        begun = True
                        try:
                            yield connection
                        except (asyncio.CancelledError, GeneratorExit):
                            raise
                        except BaseException:
                            await _roll_back(connection, transaction)
                            raise
                        progress = Progress.SENT
                        await transaction.commit()
                    except (asyncio.CancelledError, GeneratorExit):
                        connection.terminate()  # a BEGIN or COMMIT that was cancelled leaves nobody sure
                        raise
                    except DRIVER_ERRORS as error:
                        raise self._connections.translated(error, progress) from error
            except DatabaseUnavailableError as error:
                if begun or not error.passing or not await patience.pause():
                    raise
            else:
                return

    # -- statements

    async def fetch(self, statement: str, *arguments: Any, repeat: Repeat = Repeat.NEVER) -> list[Record]:
        """All rows of one statement.

        Here and below `repeat` says what a lost connection allows; see `Repeat`.

        Raises:
            OutcomeUnknownError: the connection was lost before the answer, and stayed lost or the
                statement may not be repeated.
            DatabaseError: or another of its kinds; nothing was applied.
        """
        try:
            async with self.raw() as connection:
                return await connection.fetch(statement, *arguments)
        except DatabaseError as error:
            return await self._again(error, repeat, lambda connection: connection.fetch(statement, *arguments))

    async def fetchrow(self, statement: str, *arguments: Any, repeat: Repeat = Repeat.NEVER) -> Record | None:
        """The first row of one statement, or None."""
        try:
            async with self.raw() as connection:
                return await connection.fetchrow(statement, *arguments)
        except DatabaseError as error:
            return await self._again(error, repeat, lambda connection: connection.fetchrow(statement, *arguments))

    async def fetchval(self, statement: str, *arguments: Any, repeat: Repeat = Repeat.NEVER) -> Any:
        """The first value of the first row of one statement, or None."""
        try:
            async with self.raw() as connection:
                return await connection.fetchval(statement, *arguments)
        except DatabaseError as error:
            return await self._again(error, repeat, lambda connection: connection.fetchval(statement, *arguments))

    async def execute(self, statement: str, *arguments: Any, repeat: Repeat = Repeat.NEVER) -> str:
        """Run one statement; the answer is PostgreSQL's command tag."""
        try:
            async with self.raw() as connection:
                return await connection.execute(statement, *arguments)
        except DatabaseError as error:
            return await self._again(error, repeat, lambda connection: connection.execute(statement, *arguments))

    async def executemany(self, statement: str, arguments: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row of arguments, all or nothing."""
        async with self.raw() as connection:
            await connection.executemany(statement, arguments)

    async def _again(self, error: DatabaseError, repeat: Repeat, run: Callable[[Connection], Awaitable[T]]) -> T:
        """Run a statement again whose connection failed, as far as that is allowed, or that gave way to another."""
        if not isinstance(error, DatabaseUnavailableError) and error.sqlstate != _DEADLOCK:
            raise error
        if joined_to(self) is not None:
            raise error  # all went that came before in its transaction
        patience = Patience(self._retry_seconds)
        lost: OutcomeUnknownError | None = None
        failed: DatabaseError = error
        while True:
            if isinstance(failed, OutcomeUnknownError):
                lost = failed
            if not _may_repeat(failed, lost, repeat) or not await patience.pause():
                raise self._outcome(failed, lost, repeat) from failed.__cause__
            try:
                async with Borrowed(self._connections, self.tenant, patience) as connection:
                    if lost is None or repeat is Repeat.READ:
                        return await run(connection)
                    # The first may still be running on the server. This one then fails on the rows that it
                    # changes, instead of waiting for them and going on with what it saw before.
                    async with connection.transaction(isolation="repeatable_read"):
                        return await run(connection)
            except DatabaseError as again:
                failed = again

    def _outcome(self, failed: DatabaseError, lost: OutcomeUnknownError | None, repeat: Repeat) -> DatabaseError:
        """What to tell after the last attempt."""
        if lost is None or not isinstance(failed, DatabaseUnavailableError):
            return failed
        reason = str(lost.__cause__ or lost) or "no answer"
        if repeat is Repeat.READ:
            return not_applied(self._target, reason, sqlstate=lost.sqlstate)
        return outcome_unknown(self._target, reason, repeatable=repeat is Repeat.IDEMPOTENT, sqlstate=lost.sqlstate)

    def patience(self) -> Patience:
        """For an operation that is repeated by who runs it: pauses for as long as the settings say."""
        return Patience(self._retry_seconds)

    async def close(self) -> None:
        """Close every connection; closing again does nothing."""
        await self._connections.close()


def _in_schema(schema: str, statement: str, *, is_whole: bool) -> str:
    seen = f"{schema}." if is_whole else f"{schema}.seen_"
    return statement.replace("{seen}", seen).replace("{s}", schema)


def _may_repeat(failed: DatabaseError, lost: OutcomeUnknownError | None, repeat: Repeat) -> bool:
    if lost is not None and repeat is Repeat.NEVER:
        return False
    if isinstance(failed, DatabaseUnavailableError):
        return failed.passing
    if failed.sqlstate == _DEADLOCK:
        return True
    return lost is not None and failed.sqlstate in _IN_THE_WAY


async def _roll_back(connection: Connection, transaction: Any) -> None:
    """Undo it; whatever is in the way of that is less than what has gone wrong already."""
    try:
        if not connection.is_closed():
            await transaction.rollback()
    except DRIVER_ERRORS:
        connection.terminate()
