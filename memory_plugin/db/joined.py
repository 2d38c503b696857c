"""Operations that are part of a caller's transaction.

Inside a transaction every operation of the context, and of the tasks that it starts, runs on one
connection, one after the other, each behind a savepoint: one that fails is undone by itself, and the
rest can go on. None is repeated after a lost connection, for all that came before it is lost too.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from memory_plugin.db.tenancy import see_locally
from memory_plugin.db.translation import DRIVER_ERRORS
from memory_plugin.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from memory_plugin.db.connections import Connection
    from memory_plugin.db.database import Database

P = ParamSpec("P")
T = TypeVar("T")

_current: ContextVar[Joined | None] = ContextVar("memory_plugin_transaction", default=None)

# a connection with codecs of its own for JSON would take our JSON text for a string, and encode it once more
_PROBE = "SELECT $1::jsonb::text AS sent, $1::jsonb AS received, '[1]'::json AS plain"


class Joined:
    """A transaction that operations join.

    Args:
        database: whose operations join.
        given: its connection, inside the transaction.
        translated: makes an error of ours of what the driver raised.
    """

    def __init__(self, database: Database, given: Given, translated: Callable[[BaseException], Exception]) -> None:
        self.connection = given.connection
        self._codecs = given.codecs
        self.database = database
        self.is_over = False
        self._translated = translated
        self._turn = asyncio.Lock()
        self._holder: asyncio.Task[Any] | None = None
        self._number = 0
        self._is_broken = False
        self._parts: dict[int, tuple[object, Any]] = {}
        self._at_end: list[Callable[[], None]] = []

    @asynccontextmanager
    async def savepoint(self, tenant: str | None) -> AsyncIterator[Connection]:
        """The connection, for one task at a time; what is done is undone where the body raises.

        Args:
            tenant: whose rows it sees; a caller's own connection keeps its role.

        Raises:
            DatabaseError: or one of its kinds, translated from what the driver raised.
        """
        async with self._own_turn():
            name = await self._mark(tenant)
            try:
                try:
                    yield self.connection
                except BaseException:
                    await self._undo(name)
                    raise
                await self.connection.execute(f"RELEASE SAVEPOINT {name}")
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error

    @asynccontextmanager
    async def nested(self) -> AsyncIterator[None]:
        """A part that is undone where the body raises; operations inside take their turns one by one."""
        async with self._own_turn():
            name = await self._mark()
        try:
            yield
        except BaseException:
            async with self._own_turn():
                await self._undo(name)
            raise
        async with self._own_turn():
            try:
                await self.connection.execute(f"RELEASE SAVEPOINT {name}")
            except DRIVER_ERRORS as error:
                raise self._translated(error) from error

    @asynccontextmanager
    async def _own_turn(self) -> AsyncIterator[None]:
        """The connection for this task alone, which may have it already."""
        task = asyncio.current_task()
        if self._holder is task:
            yield
            return
        async with self._turn:
            self._holder = task
            try:
                async with self._plain():
                    yield
            finally:
                self._holder = None

    @asynccontextmanager
    async def _plain(self) -> AsyncIterator[None]:
        """The connection gives JSON as text."""
        if self._codecs is None:
            yield
            return
        await self._codecs.aside(self.connection)
        try:
            yield
        finally:
            if not self.connection.is_closed():
                await self._codecs.back()

    async def _mark(self, tenant: str | None = None) -> str:
        """The name of a new savepoint; the rows of the tenant are seen from here on.

        It is told each time, in the same message: a caller may have gone back to a savepoint meanwhile.
        """
        self._number += 1
        name = f"memory_plugin_{self._number}"
        told = "" if tenant is None else f"{see_locally(tenant)}; "
        try:
            await self.connection.execute(f"{told}SAVEPOINT {name}")
        except DRIVER_ERRORS as error:
            raise self._translated(error) from error
        return name

    async def _undo(self, name: str) -> None:
        """Go back to the savepoint; where that is impossible the transaction must not be committed."""
        if self.connection.is_closed():
            return
        try:
            await self.connection.execute(f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}")
        except BaseException as error:
            self._is_broken = True
            if not isinstance(error, DRIVER_ERRORS):
                raise

    def part(self, owner: object, make: Callable[[], T]) -> T:
        """What the owner keeps for the length of this transaction, made when it is first asked for."""
        if id(owner) not in self._parts:
            self._parts[id(owner)] = (owner, make())
        made: T = self._parts[id(owner)][1]
        return made

    def at_end(self, then: Callable[[], None]) -> None:
        """Call this when the transaction is over, however it ended."""
        self._at_end.append(then)

    def check(self) -> None:
        """See that it can be committed.

        Raises:
            DatabaseError: an operation was interrupted and could not be undone by itself.
        """
        if self._is_broken:
            raise DatabaseError("An operation inside the transaction was interrupted: nothing of it was applied.")

    def end(self) -> None:
        """Take nothing more in."""
        self.is_over = True
        while self._at_end:
            self._at_end.pop()()


def joined_to(database: Database) -> Joined | None:
    """The transaction that an operation on this database, for whichever tenant, is part of now, if any."""
    joined = _current.get()
    if joined is None or joined.is_over or not joined.database.shares_connections_with(database):
        return None
    return joined


def is_joined() -> bool:
    """Whether operations of this context are part of a transaction."""
    joined = _current.get()
    return joined is not None and not joined.is_over


def bind(joined: Joined | None) -> Joined | None:
    """Let what follows in this context, and the tasks it starts, join; what was joined before."""
    before = _current.get()
    _current.set(joined)
    return before


@asynccontextmanager
async def together(database: Database) -> AsyncIterator[None]:
    """Several operations in one transaction, which is a part of the caller's where there is one."""
    async with database.joined() as joined:
        before = bind(joined)
        try:
            yield
        finally:
            bind(before)


def apart(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Run a coroutine function on connections of its own, also inside a transaction.

    For upkeep that is nobody's in particular, and must neither wait for the end of a caller's
    transaction nor be undone with it.
    """

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        before = bind(None)
        try:
            return await function(*args, **kwargs)
        finally:
            bind(before)

    return call


class _Codecs:
    """SQLAlchemy's own codecs for JSON, which are put aside while an operation of ours runs."""

    def __init__(self, dialect: Any, adapted: Any) -> None:
        self._dialect = dialect
        self._adapted = adapted

    async def aside(self, connection: Connection) -> None:
        for name in ("json", "jsonb"):
            await connection.reset_type_codec(name, schema="pg_catalog")

    async def back(self) -> None:
        await self._dialect.setup_asyncpg_json_codec(self._adapted)
        await self._dialect.setup_asyncpg_jsonb_codec(self._adapted)


@dataclass(frozen=True, slots=True)
class Given:
    """A connection that a caller passed; `codecs` where it has some that are in the way."""

    connection: Connection
    codecs: _Codecs | None = None


async def given_connection(given: Any) -> Given:
    """The asyncpg connection of what a caller passed, seen to be inside a transaction.

    Args:
        given: an asyncpg connection, also one of a pool, or SQLAlchemy's AsyncConnection or AsyncSession.

    Raises:
        ConfigurationError: it is something else, has not begun a transaction, or encodes JSON its own way.
    """
    import asyncpg
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

    connection, codecs = given, None
    if isinstance(connection, AsyncSession):
        connection = await connection.connection()
    if isinstance(connection, AsyncConnection):
        await connection.exec_driver_sql("SELECT 1")  # SQLAlchemy begins with the first statement, and not before
        dialect, raw = connection.dialect, await connection.get_raw_connection()
        connection = raw.driver_connection
        if hasattr(dialect, "setup_asyncpg_jsonb_codec"):
            codecs = _Codecs(dialect, raw.dbapi_connection)
    unwrapped = getattr(connection, "_con", connection)  # that of asyncpg's pool is a proxy
    if not isinstance(unwrapped, asyncpg.Connection):
        raise ConfigurationError(
            f"A transaction needs an asyncpg connection, or one of SQLAlchemy over asyncpg, not {type(given).__name__}."
        )
    if not connection.is_in_transaction():
        raise ConfigurationError("The connection is not inside a transaction: begin one on it first.")
    if not await _gives_text(unwrapped):
        if codecs is None:
            raise ConfigurationError("The connection has codecs of its own for json or jsonb: pass one without.")
        return Given(unwrapped, codecs)
    return Given(unwrapped)


async def _gives_text(connection: Connection) -> bool:
    probe = await connection.fetchrow(_PROBE, '{"a": 1}')
    assert probe is not None  # a SELECT without FROM always has a row
    return tuple(probe) == ('{"a": 1}', '{"a": 1}', "[1]")
