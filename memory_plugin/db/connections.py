"""How connections are made, lent and taken back; SQLAlchemy's engine owns them."""

from __future__ import annotations

import itertools
import secrets
import ssl
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import greenlet_spawn

from memory_plugin.db import dialect
from memory_plugin.db.keepalive import keep_alive
from memory_plugin.db.pool import LoopPool
from memory_plugin.db.receiving import read_little
from memory_plugin.db.repeating import Patience
from memory_plugin.db.tenancy import (
    RoleUnavailableError,
    SharedConnection,
    TenantConnection,
    is_about_role,
    is_refused_by_pooler,
    startup_settings,
)
from memory_plugin.db.translation import DRIVER_ERRORS, POOLER_STATES, Progress, translate
from memory_plugin.db.urls import system_trust
from memory_plugin.errors import ConfigurationError, DatabaseUnavailableError, MemoryPluginError

Connection = asyncpg.Connection

# the tenant that asks for a connection, for one that has to be opened
_asking: ContextVar[str | None] = ContextVar("memory_plugin_tenant", default=None)

_MARK = secrets.token_hex(6)
_numbers = itertools.count(1)


# Arrays of PostgreSQL's own types: their numbers are part of its catalog and never change.
_ARRAYS = {
    1000: ("bool", 16), 1001: ("bytea", 17), 1005: ("int2", 21), 1007: ("int4", 23), 1016: ("int8", 20),
    1021: ("float4", 700), 1022: ("float8", 701), 1115: ("timestamp", 1114), 1182: ("date", 1082),
    1185: ("timestamptz", 1184), 1231: ("numeric", 1700), 199: ("json", 114), 2951: ("uuid", 2950),
    3807: ("jsonb", 3802),
}  # fmt: skip


class _Told(NamedTuple):
    """Stands for the statement that asks the server about types: one with a name disturbs no other."""

    name: str = "told"


class _NamedConnection(TenantConnection):
    """Its prepared statements have names that no other process uses; it knows the arrays of built-in types.

    Behind a pooler that shares connections a name can then be missing, but never be another
    client's statement. asyncpg asks each new connection for the types of arrays, and sets `jit` of
    the session meanwhile, which a pooler may give to somebody else.
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"memory_{prefix}_{_MARK}_{next(_numbers):x}"

    async def _introspect_types(
        self,
        typeoids: Iterable[int],
        timeout: float | None,  # noqa: ASYNC109 - asyncpg's
    ) -> tuple[Any, Any]:
        asked = set(typeoids)
        if not asked <= _ARRAYS.keys():
            return await super()._introspect_types(asked, timeout)  # type: ignore[misc, no-any-return]
        return [_array(oid, *_ARRAYS[oid]) for oid in asked], _Told()


class _NamedSharedConnection(SharedConnection, _NamedConnection):
    """The same behind a pooler that keeps nothing of a session."""


def _array(oid: int, name: str, element: int) -> dict[str, Any]:
    """What asyncpg would be told about an array."""
    absent = dict.fromkeys(("basetype", "range_subtype", "attrtypoids", "attrnames", "basetype_name"))
    known = {"oid": oid, "ns": "pg_catalog", "name": f"_{name}", "kind": b"b", "elemtype": element}
    return {**absent, **known, "elemdelim": ",", "elemtype_name": name, "range_subtype_name": None}


class Connections:
    """The connections to one database, on one event loop.

    Args:
        url: as asyncpg takes it.
        target: what to call the database in errors.
        pool_size: connections at the most; 0 opens one per operation.
        role: what the sessions run as; None for the login itself.
        options: for SQLAlchemy's engine.

    Attributes:
        pool: where idle connections are; None without pooling.
        role: None too where the login may not become it, see `work_as_login`.
    """

    def __init__(
        self,
        url: str,
        *,
        target: str,
        pool_size: int,
        connect_timeout: float,
        statement_timeout: float | None,
        prepared: bool,
        retry_seconds: float,
        role: str | None,
        options: dict[str, Any],
    ) -> None:
        self._url = url
        self.role = role
        self._target = target
        self._retry_seconds = retry_seconds
        self._reached = False
        self._named = prepared
        self._settings: dict[str, str] = {}
        self._arguments: dict[str, Any] = {
            "timeout": connect_timeout,
            "statement_cache_size": 1024 if prepared else 0,
            # the driver would parse and plan a statement of more than 15 kB each time
            "max_cacheable_statement_size": 1 << 16,
        }
        self._changes: list[Callable[[type[Connection]], type[Connection]]] = []
        self._are_shared = False
        if (trust := system_trust(url)) is not None:
            self._arguments["ssl"] = trust
        if statement_timeout is not None:
            self._settings["statement_timeout"] = str(int(statement_timeout * 1000))
        pooling: dict[str, Any] = (
            {"poolclass": LoopPool, "pool_size": pool_size, "pool_timeout": max(30.0, connect_timeout)}
            if pool_size
            else {"poolclass": NullPool}
        )
        self.engine: AsyncEngine = create_async_engine(
            dialect.URL, async_creator=self._connect, pool_reset_on_return=None, **pooling, **options
        )
        self.pool = self._own_pool()

    def _own_pool(self) -> LoopPool | None:
        pool = self.engine.pool
        return pool if isinstance(pool, LoopPool) else None

    @property
    def prepares(self) -> bool:
        """Whether statements are prepared under names."""
        return bool(self._arguments["statement_cache_size"])

    def change_class(self, change: Callable[[type[Connection]], type[Connection]]) -> None:
        """Make the connections from now on of the class that `change` makes of theirs."""
        self._changes.append(change)

    @property
    def are_shared(self) -> bool:
        """Whether nothing stays with a session, because a pooler gives it to others between transactions."""
        return self._are_shared

    def share(self) -> None:
        """Let each transaction say whose rows it sees, on new connections: the sessions do not keep it."""
        self._are_shared = True
        if self.pool is not None:
            self.pool.retire()

    def work_as_login(self) -> None:
        """Run as the login itself from now on, on new connections."""
        self.role = None
        if self.pool is not None:
            self.pool.retire()

    async def _connect(self) -> Connection:
        tenant = _asking.get()
        if not self._are_shared:
            try:
                connection = await self._open(_NamedConnection, startup_settings(self.role, tenant))
            except asyncpg.PostgresError as error:
                if is_about_role(error, self.role):
                    raise self._without_role(error) from error
                if tenant is None or not is_refused_by_pooler(error):
                    raise
                self._are_shared = True
            else:
                connection.tenant = tenant
                return cast("Connection", connection)
        shared = await self._open(_NamedSharedConnection, {})
        if tenant is not None:
            await shared.see(self.role, tenant)
        return cast("Connection", shared)

    async def _open(self, kind: type[Connection], settings: dict[str, str]) -> Any:
        for change in self._changes:
            kind = change(kind)
        try:
            connection: Connection = await asyncpg.connect(
                self._url,
                connection_class=kind,
                server_settings={**self._settings, **settings} or None,
                **self._arguments,
            )
        except ssl.SSLCertVerificationError:
            raise  # a ValueError too
        except ValueError as error:
            raise ConfigurationError(f"The database URL cannot be read: {error}.") from error
        keep_alive(connection)
        read_little(connection)
        return connection

    async def alone(self) -> Connection:
        """A connection of the login's own outside of the pool, which the caller closes."""
        try:
            return cast("Connection", await self._open(_NamedConnection, {}))
        except DRIVER_ERRORS as error:
            raise self.translated(error, Progress.UNSENT) from error

    async def borrow(self, patience: Patience | None, tenant: str | None) -> Lease:
        """A connection that is not lying idle; tried again where the database was reached before.

        Args:
            patience: for how long; None begins anew.
            tenant: whose rows one sees that has to be opened.
        """
        while True:
            try:
                asked = _asking.set(tenant)
                try:
                    lease = await self._lease()
                finally:
                    _asking.reset(asked)
            except DRIVER_ERRORS as error:
                failed = self.translated(error, Progress.UNSENT)
                if not isinstance(failed, DatabaseUnavailableError) or not failed.passing:
                    raise failed from error
                if not self._reached:
                    failed.passing = False  # rather a wrong address than one that will answer soon
                    raise failed from error
                patience = patience or Patience(self._retry_seconds)
                if not await patience.pause():
                    raise failed from error
            else:
                self._reached = True
                return lease

    async def _lease(self) -> Lease:
        if self.pool is not None:
            entry = await self.pool.acquire()
            return Lease(cast("Connection", entry.driver_connection), self.pool, entry)
        fairy = cast("Any", await self.engine.raw_connection())
        return Lease(cast("Connection", fairy.driver_connection), None, fairy)

    def translated(self, error: BaseException, progress: Progress) -> MemoryPluginError:
        """The error of ours; where it tells of a pooler that loses prepared statements, they are given up."""
        if isinstance(error, asyncpg.PostgresError) and is_about_role(error, self.role):
            return self._without_role(error)  # behind a pooler a transaction asks for it
        translated = translate(error, target=self._target, progress=progress)
        if isinstance(translated, DatabaseUnavailableError) and translated.sqlstate in POOLER_STATES:
            # the statement was not run: without names it can be, on new connections
            translated.passing = self._named
            if self.prepares and self.pool is not None:
                self.pool.retire()
            self._arguments["statement_cache_size"] = 0
        return translated

    def _without_role(self, error: asyncpg.PostgresError) -> RoleUnavailableError:
        return RoleUnavailableError(
            f"{self._target} does not let this login work as the role {self.role}: {error}.", sqlstate=error.sqlstate
        )

    async def close(self) -> None:
        """Close every connection; what is in use when it comes back."""
        await self.engine.dispose()
        self.pool = self._own_pool()


class Lease:
    """A connection, and to whom it goes back."""

    __slots__ = ("_holder", "_pool", "connection")

    def __init__(self, connection: Connection, pool: LoopPool | None, holder: Any) -> None:
        self.connection = connection
        self._pool = pool
        self._holder = holder

    def give_back(self) -> Awaitable[Any] | None:
        """What is left to await of it, if anything."""
        if self._pool is None:
            return greenlet_spawn(self._holder.close)
        self._pool.give(self._holder)
        return None


class Borrowed:
    """A connection for the length of an `async with`, which sees the rows of one tenant."""

    __slots__ = ("_connections", "_lease", "_patience", "_tenant")

    def __init__(self, connections: Connections, tenant: str | None, patience: Patience | None = None) -> None:
        self._connections = connections
        self._tenant = tenant
        self._patience = patience

    async def __aenter__(self) -> Connection:
        pool = self._connections.pool
        entry = pool.take(self._tenant) if pool is not None else None
        if entry is None:
            self._lease = await self._connections.borrow(self._patience, self._tenant)
        else:
            self._lease = Lease(cast("Connection", entry.driver_connection), pool, entry)
        connection = self._lease.connection
        told: Any = connection
        if told.tenant != self._tenant and self._tenant is not None:
            try:
                await told.see(self._connections.role, self._tenant)
            except BaseException as error:
                connection.terminate()  # whose rows it sees is not known
                await self.__aexit__(type(error), error, error.__traceback__)
                raise
        return connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            connection = self._lease.connection
            if not connection.is_closed() and connection.is_in_transaction():
                connection.terminate()  # what was under way is not known: such a connection is not used again
        rest = self._lease.give_back()
        if rest is not None:
            await rest
        if isinstance(error, DRIVER_ERRORS):
            raise self._connections.translated(error, Progress.SENT) from error
