"""Connections: SQLAlchemy owns the pool, hot statements run on the raw asyncpg connection below it.

This is the one place where a driver's error becomes one of ours.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool
from sqlalchemy.util import greenlet_spawn

from memory_plugin.db import dialect
from memory_plugin.db.pool import LoopPool
from memory_plugin.errors import (
    ConfigurationError,
    ContentTooLargeError,
    DatabaseError,
    DatabaseUnavailableError,
    ExtensionMissingError,
    InvalidInputError,
    MemoryPluginError,
    SchemaVersionError,
    StorageFullError,
)

Connection = asyncpg.Connection
Record = asyncpg.Record

_SCHEMA_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,62}\Z")
_DRIVER_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    AsyncAdapt_asyncpg_dbapi.Error,
    DBAPIError,
    PoolTimeout,
    OSError,
    TimeoutError,
)
# SQLAlchemy spellings that asyncpg's own URL parser does not know
_DROPPED_PARAMETERS = {"prepared_statement_cache_size", "async_fallback"}


def normalise_url(url: str) -> str:
    """The URL as asyncpg takes it.

    Raises:
        ConfigurationError: it is not a PostgreSQL URL, or no URL at all.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # read only when asked for: a bad one says so here
    except ValueError as error:
        raise ConfigurationError(f"The database URL cannot be read: {error}.") from error
    scheme, _, driver = parts.scheme.partition("+")
    if scheme not in {"postgresql", "postgres"} or driver not in {"", "asyncpg", "psycopg", "psycopg2"}:
        raise ConfigurationError(
            f"The database URL must start with postgresql:// (got {parts.scheme or 'no scheme'}://): "
            "other databases are served by memory_plugin.providers only."
        )
    query = [(key, value) for key, value in parse_qsl(parts.query) if key not in _DROPPED_PARAMETERS]
    query = [("sslmode" if key == "ssl" else key, value) for key, value in query]
    return urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(query, safe="/"), ""))


def hide_password(url: str) -> str:
    """The URL fit to be shown: without its password, wherever and however badly it is written."""
    shown = re.sub(r"(://[^:/@]*:).*@", r"\1***@", url)
    return re.sub(r"(?i)([?&][^=&]*password=)[^&]*", r"\1***", shown)


def quote_schema(schema: str) -> str:
    """The schema's name, quoted for a statement.

    Raises:
        ConfigurationError: it is not a plain identifier.
    """
    if not _SCHEMA_NAME.match(schema):
        raise ConfigurationError(
            f"{schema!r} cannot be a schema name: "
            "use up to 63 letters, digits and underscores, not starting with a digit."
        )
    return f'"{schema}"'


def translate(error: BaseException, *, target: str = "the database") -> MemoryPluginError:
    """The error of ours that says what a driver's error means and what to do."""
    original: BaseException = getattr(error, "orig", None) or error
    while isinstance(original, AsyncAdapt_asyncpg_dbapi.Error) and original.__cause__ is not None:
        original = original.__cause__
    sqlstate = getattr(original, "sqlstate", None)
    message = str(original).strip() or type(original).__name__
    return _by_sqlstate(sqlstate, message, target) or _by_type(original, message, target)


def _by_sqlstate(sqlstate: str | None, message: str, target: str) -> MemoryPluginError | None:
    if sqlstate is None:
        return None
    known: dict[str, tuple[type[DatabaseError], str]] = {
        "28P01": (DatabaseUnavailableError, f"{target} refused the credentials: check user and password in the URL."),
        "28000": (DatabaseUnavailableError, f"{target} refused this role: {message}."),
        "3D000": (DatabaseUnavailableError, f"{message} on {target}: create it first, or correct the URL."),
        "53300": (
            DatabaseUnavailableError,
            f"{target} has no free connection: lower MEMORY_POOL_SIZE or raise max_connections.",
        ),
        "53100": (
            StorageFullError,
            f"{target} has no disk space left: free some, then try again; nothing was written.",
        ),
        "42501": (
            DatabaseError,
            f"This role may not do that on {target}: {message}. Grant the right, or use another role.",
        ),
        "42P01": (SchemaVersionError, f"A table is missing on {target} ({message}): run `memory-plugin migrate up`."),
        "3F000": (
            SchemaVersionError,
            f"The schema is missing on {target} ({message}): run `memory-plugin migrate up`.",
        ),
        "42883": (
            SchemaVersionError,
            f"A function is missing on {target} ({message}): run `memory-plugin migrate up`.",
        ),
        "42704": (ExtensionMissingError, f"{message} on {target}: is pgvector installed and on the search path?"),
        "0A000": (DatabaseError, f"{target} does not support this: {message}."),
        "57014": (DatabaseError, f"{target} ended the statement: it was cancelled or ran into statement_timeout."),
        "26000": (
            DatabaseUnavailableError,
            f"A pooler before {target} does not keep prepared statements: set MEMORY_PREPARED_STATEMENTS=false.",
        ),
        "42P05": (
            DatabaseUnavailableError,
            f"A pooler before {target} does not keep prepared statements: set MEMORY_PREPARED_STATEMENTS=false.",
        ),
        "25006": (DatabaseError, f"{target} is read-only (a replica?): connect to the primary."),
    }
    if sqlstate in known:
        kind, text = known[sqlstate]
        return kind(text, sqlstate=sqlstate)
    if sqlstate in {"54000", "22001"}:
        return ContentTooLargeError(f"A value is too large for PostgreSQL ({message}): split it; nothing was written.")
    if sqlstate[:2] == "22":
        return InvalidInputError(f"PostgreSQL cannot hold a value that was given ({message}); nothing was written.")
    if sqlstate[:2] in {"08", "57"}:
        return DatabaseUnavailableError(f"{target} closed the connection ({message}): try again.", sqlstate=sqlstate)
    return DatabaseError(f"{target} refused a statement: {message}", sqlstate=sqlstate)


def _by_type(error: BaseException, message: str, target: str) -> MemoryPluginError:
    if isinstance(error, PoolTimeout):
        return DatabaseUnavailableError(
            f"All connections to {target} stayed busy: raise MEMORY_POOL_SIZE, or look for an operation that hangs."
        )
    if isinstance(error, TimeoutError):
        return DatabaseUnavailableError(f"{target} did not answer in time: is it up, and is the address right?")
    if isinstance(error, ssl.SSLError):
        return DatabaseUnavailableError(f"TLS with {target} failed ({message}): check sslmode and the certificates.")
    if isinstance(error, asyncpg.InterfaceError) and "invalid" in message.lower() and "dsn" in message.lower():
        return ConfigurationError(f"The database URL cannot be read: {message}.")
    if (
        isinstance(error, asyncpg.DataError | asyncpg.exceptions.DataError)
        or "invalid input for query argument" in message
    ):
        return InvalidInputError(f"A value cannot be stored ({message}); nothing was written.")
    if isinstance(error, OSError):
        return DatabaseUnavailableError(
            f"{target} cannot be reached ({message}): is it running, and is the address right?"
        )
    return DatabaseUnavailableError(f"The connection to {target} failed ({message}): try again.")


class Database:
    """A pool of connections to one database, and the schema the store lives in.

    Args:
        url: `postgresql://` URL; a unix-socket directory goes in `?host=`.
        schema: PostgreSQL schema of the tables.
        pool_size: connections at the most; 0 opens one per operation.
        prepared: use named prepared statements; off behind poolers that do not track them.
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
    ) -> None:
        self.url = normalise_url(url)
        self.schema = schema
        self._quoted = quote_schema(schema)
        self._target = hide_password(self.url)
        self._connect_arguments: dict[str, Any] = {
            "timeout": connect_timeout,
            "statement_cache_size": 1024 if prepared else 0,
        }
        if statement_timeout is not None:
            self._connect_arguments["server_settings"] = {"statement_timeout": str(int(statement_timeout * 1000))}
        pool: dict[str, Any] = (
            {"poolclass": LoopPool, "pool_size": pool_size, "pool_timeout": max(30.0, connect_timeout)}
            if pool_size
            else {"poolclass": NullPool}
        )
        self.engine: AsyncEngine = create_async_engine(
            dialect.URL,
            async_creator=self._connect,
            pool_reset_on_return=None,
            isolation_level="AUTOCOMMIT",
            execution_options={"schema_translate_map": {None: schema}},
            **pool,
        )
        self._pool = self._own_pool()

    def _own_pool(self) -> LoopPool | None:
        pool = self.engine.pool
        return pool if isinstance(pool, LoopPool) else None

    def __repr__(self) -> str:
        return f"Database({self._target!r}, schema={self.schema!r})"

    def sql(self, statement: str) -> str:
        """The statement with the store's schema in place of `{s}`."""
        return statement.replace("{s}", self._quoted)

    async def _connect(self) -> Connection:
        try:
            return await asyncpg.connect(self.url, **self._connect_arguments)
        except ValueError as error:
            raise ConfigurationError(f"The database URL cannot be read: {error}.") from error

    def raw(self) -> AbstractAsyncContextManager[Connection]:
        """A raw connection in autocommit: each statement is its own transaction.

        Raises:
            DatabaseError: or one of its kinds, translated from what the driver raised.
        """
        if self._pool is None:
            return self._unpooled()
        return _Borrowed(self._pool, self._target)

    @asynccontextmanager
    async def _unpooled(self) -> AsyncIterator[Connection]:
        """A connection that is opened for this and closed after it."""
        try:
            fairy = cast("Any", await self.engine.raw_connection())
            try:
                yield cast("Connection", fairy.driver_connection)
            finally:
                await greenlet_spawn(fairy.close)
        except _DRIVER_ERRORS as error:
            raise translate(error, target=self._target) from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A raw connection inside one transaction, rolled back when the body raises."""
        async with self.raw() as connection:
            try:
                async with connection.transaction():
                    yield connection
            except asyncio.CancelledError:
                connection.terminate()  # a BEGIN or COMMIT that was cancelled leaves nobody sure where it stands
                raise

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        """All rows of one statement."""
        async with self.raw() as connection:
            return await connection.fetch(statement, *arguments)

    async def fetchrow(self, statement: str, *arguments: Any) -> Record | None:
        """The first row of one statement, or None."""
        async with self.raw() as connection:
            return await connection.fetchrow(statement, *arguments)

    async def fetchval(self, statement: str, *arguments: Any) -> Any:
        """The first value of the first row of one statement, or None."""
        async with self.raw() as connection:
            return await connection.fetchval(statement, *arguments)

    async def execute(self, statement: str, *arguments: Any) -> str:
        """Run one statement; the answer is PostgreSQL's command tag."""
        async with self.raw() as connection:
            return await connection.execute(statement, *arguments)

    async def executemany(self, statement: str, arguments: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row of arguments, all or nothing."""
        async with self.raw() as connection:
            await connection.executemany(statement, arguments)

    async def close(self) -> None:
        """Close every connection; closing again does nothing."""
        await self.engine.dispose()
        self._pool = self._own_pool()


class _Borrowed:
    """A connection of the pool for the length of an `async with`."""

    __slots__ = ("_connection", "_entry", "_pool", "_target")

    def __init__(self, pool: LoopPool, target: str) -> None:
        self._pool = pool
        self._target = target

    async def __aenter__(self) -> Connection:
        entry = self._pool.take()
        if entry is None:
            try:
                entry = await self._pool.acquire()
            except _DRIVER_ERRORS as error:
                raise translate(error, target=self._target) from error
        self._entry: ConnectionPoolEntry = entry
        self._connection = cast("Connection", entry.driver_connection)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not self._connection.is_closed() and self._connection.is_in_transaction():
            self._connection.terminate()  # what was under way is not known: such a connection is not used again
        self._pool.give(self._entry)
        if isinstance(error, _DRIVER_ERRORS):
            raise translate(error, target=self._target) from error
