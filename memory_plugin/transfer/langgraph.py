"""The two ways: `import_langgraph` and `export_langgraph`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import NotFoundError
from memory_plugin.memory import Memory
from memory_plugin.transfer import official_schema
from memory_plugin.transfer.items import ItemExport, ItemImport
from memory_plugin.transfer.moving import WORKERS, Mover
from memory_plugin.transfer.official import OfficialReading
from memory_plugin.transfer.official_writing import OfficialThreads
from memory_plugin.transfer.own import OwnThreads, QuietMemory
from memory_plugin.transfer.serializers import serializers
from memory_plugin.transfer.values import ItemCounts, Progress, Report

__all__ = ["Options", "QuietMemory", "export_langgraph", "import_langgraph"]

_TURN = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"


@dataclass(frozen=True, slots=True)
class Options:
    """What is moved, and how.

    Args:
        threads: an id, or a pattern with `*`, `?` and `[...]`; None is all.
        store: the items of the store too.
        serde: `module:attribute` of the serializer that both sides use; None is LangGraph's.
        encrypted: AES with the key in LANGGRAPH_AES_KEY, on both sides.
        dry_run: write and compare nothing, only count.
        verify_only: write nothing, compare everything.
        verify: compare what was written, value by value.
    """

    threads: str | None = None
    store: bool = True
    serde: str | None = None
    encrypted: bool = False
    dry_run: bool = False
    verify_only: bool = False
    verify: bool = True

    @property
    def writes(self) -> bool:
        """Whether anything is stored."""
        return not (self.dry_run or self.verify_only)

    @property
    def compares(self) -> bool:
        """Whether values are compared."""
        return not self.dry_run and (self.verify or self.verify_only)


async def import_langgraph(memory: Memory, url: str, options: Options, progress: Progress) -> Report:
    """Move threads and items of the official saver and store into this one.

    All is read as it was at one moment, the beginning of the run, whatever is written there
    meanwhile. Nothing in the source is changed.

    Args:
        memory: the store; a `QuietMemory` keeps what comes in out of the index until it has its times.
        url: the official database.

    Raises:
        NotFoundError: it has no tables of LangGraph.
        UnsupportedError: its tables are too old, or those of the shallow saver.
        ConfigurationError: the URL or the serializer cannot work.
        DatabaseUnavailableError: one of the databases is gone; the next run goes on from there.
    """
    started, report = time.monotonic(), Report()
    reader, serde = serializers(options.serde, encrypted=options.encrypted)
    async with (
        _turn(memory, needed=options.writes),
        _official(memory, url, size=1) as database,
        _snapshot(database) as connection,
    ):
        tables = await official_schema.inspect(connection, official_schema.shown(database.url))
        if tables.has_saver:
            source = OfficialReading(connection, reader, options.threads)
            await _mover(source, OwnThreads(memory, serde), options, progress).run(report)
        if options.store and tables.has_store:
            report.items = ItemCounts()
            moving = ItemImport(memory, report.items, progress, write=options.writes, compare=options.compares)
            await moving.run(connection, vectors=tables.has_vectors)
    report.seconds = time.monotonic() - started
    return report


async def export_langgraph(memory: Memory, url: str, options: Options, progress: Progress) -> Report:
    """Move the tenant's threads and items into tables of the official saver and store, made where they are not.

    Args:
        url: the official database.

    Raises:
        UnsupportedError: there are tables that are too old, or those of the shallow saver.
        ConfigurationError: the URL or the serializer cannot work.
        DatabaseUnavailableError: one of the databases is gone; the next run goes on from there.
    """
    started, report = time.monotonic(), Report()
    reader, serde = serializers(options.serde, encrypted=options.encrypted)
    async with _official(memory, url, size=2 * WORKERS) as database:
        shown = official_schema.shown(database.url)
        if options.writes:
            tables = await official_schema.ensure(database, shown, store=options.store)
        else:
            async with database.raw() as connection:
                tables = await official_schema.inspect(connection, shown, required=not options.dry_run)
        if not (tables.has_saver or options.dry_run):
            raise NotFoundError(f"There are no tables of LangGraph's PostgreSQL saver on {shown}: export to it first.")
        target = OfficialThreads(database, reader, serde, exists=tables.has_saver)
        await _mover(OwnThreads(memory, serde, options.threads), target, options, progress).run(report)
        if options.store and tables.has_store:
            report.items = ItemCounts()
            moving = ItemExport(database, report.items, progress, write=options.writes, compare=options.compares)
            await moving.run(memory)
    report.seconds = time.monotonic() - started
    return report


def _mover(
    source: OfficialReading | OwnThreads, target: OfficialThreads | OwnThreads, options: Options, progress: Progress
) -> Mover:
    return Mover(
        source,
        target,
        progress,
        verify_only=options.verify_only,
        dry_run=options.dry_run,
        verify=options.verify,
    )


@asynccontextmanager
async def _turn(memory: Memory, *, needed: bool) -> AsyncIterator[None]:
    """One import of a tenant after the other: two that put the same message would make two rows of it."""
    if not needed or memory.settings.pool_size == 1:  # the only connection is wanted for the work
        yield
        return
    async with memory.database.transaction() as connection:
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        await connection.execute(_TURN, f"memory-plugin: import into {memory.database.schema} of {memory.tenant}")
        yield


@asynccontextmanager
async def _official(memory: Memory, url: str, *, size: int) -> AsyncIterator[Database]:
    settings = memory.settings
    database = Database(
        url,
        schema="public",
        pool_size=size,
        connect_timeout=settings.connect_timeout,
        statement_timeout=settings.statement_timeout,
        prepared=settings.prepared_statements,
    )
    try:
        yield database
    finally:
        await database.close()


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[Connection]:
    """A connection that shows the database as it is now, for as long as it is needed."""
    async with database.raw() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield connection
