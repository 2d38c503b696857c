"""The one PostgreSQL that every contender works on: a database for each, made and dropped here."""

from __future__ import annotations

import asyncio
import logging
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from benchmarks.checkpointer.rows import OFFICIAL, OURS
from memory_plugin.db.database import normalise_url
from memory_plugin.db.embedded import EmbeddedServer

# a checkpoint of the server in the middle of a measurement would hit whoever is at work
_CALM = ("ALTER SYSTEM SET max_wal_size = '4GB'", "ALTER SYSTEM SET checkpoint_timeout = '1h'")


@dataclass(frozen=True, slots=True)
class Server:
    """A server, a directory for files beside it, and whether a commit waits for the disk."""

    url: str
    directory: Path
    synchronous: bool

    @asynccontextmanager
    async def databases(self, purpose: str) -> AsyncIterator[dict[str, str]]:
        """An empty database for each contender, by its name; dropped at the end."""
        ending = f"{purpose}_{secrets.token_hex(4)}"
        names = {contender: f"bench_{contender}_{ending}" for contender in (OURS, OFFICIAL)}
        setting = "on" if self.synchronous else "off"
        for name in names.values():
            await run_sql(
                self.url,
                f"CREATE DATABASE {name}",
                f"ALTER DATABASE {name} SET synchronous_commit = {setting}",
            )
        try:
            yield {contender: with_database(self.url, name) for contender, name in names.items()}
        finally:
            await run_sql(self.url, *(f"DROP DATABASE {name} WITH (FORCE)" for name in names.values()))

    async def version(self) -> str:
        """The version of PostgreSQL."""
        connection = await asyncpg.connect(self.url)
        try:
            return str(await connection.fetchval("SHOW server_version"))
        finally:
            await connection.close()


def with_database(url: str, name: str) -> str:
    """The URL with another database in it."""
    parts = urlsplit(url)
    # urlunsplit would drop the empty host of a unix socket
    return urlunsplit(parts._replace(path=f"/{name}", netloc=parts.netloc or ""))


async def run_sql(url: str, *statements: str) -> None:
    """Run statements one by one, each in its own transaction."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def open_server(url: str | None, *, synchronous: bool, settings: Sequence[str] = ()) -> AsyncIterator[Server]:
    """The server of this URL, or an embedded one in a temporary directory that is removed at the end.

    Args:
        settings: statements that change those of an embedded one before it starts.
    """
    # what the driver logs while databases go away is of no interest here
    loggers = [logging.getLogger(name) for name in ("psycopg.pool", "memory_plugin")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    directory = Path(tempfile.mkdtemp(prefix="memory-plugin-benchmark-"))
    try:
        if url is not None:
            yield Server(normalise_url(url), directory, synchronous)
            return
        embedded = await asyncio.to_thread(EmbeddedServer.start, directory / "postgres")
        try:
            await run_sql(embedded.url, *_CALM, *settings, "SELECT pg_reload_conf()")
            if settings:  # what a server takes for its buffers it takes when it starts
                await asyncio.to_thread(embedded.stop)
                embedded = await asyncio.to_thread(EmbeddedServer.start, directory / "postgres")
            yield Server(embedded.url, directory, synchronous)
        finally:
            await asyncio.to_thread(embedded.stop)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def upstream_of(urls: Sequence[str]) -> tuple[str, int]:
    """Where the server of these URLs listens: the path of a socket and 0, or a host and its port."""
    from urllib.parse import parse_qs

    parts = urlsplit(urls[0])
    query = parse_qs(parts.query)
    host = parts.hostname or query.get("host", ["localhost"])[0]
    port = parts.port or int(query.get("port", ["5432"])[0])
    return (f"{host}/.s.PGSQL.{port}", 0) if host.startswith("/") else (host, port)


def through(url: str, port: int) -> str:
    """The URL of the same database by way of a proxy on this port of this machine."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    return urlunsplit(("postgresql", f"{user}@127.0.0.1:{port}", parts.path, "sslmode=disable", ""))
