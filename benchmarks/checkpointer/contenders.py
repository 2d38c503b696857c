"""The savers that are compared, each opened the way its documentation says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import asyncpg
from langgraph.checkpoint.base import BaseCheckpointSaver

from benchmarks.checkpointer.conversation import Thread
from benchmarks.checkpointer.rows import OFFICIAL, OURS
from benchmarks.checkpointer.server import run_sql
from memory_plugin import Memory
from memory_plugin.settings import Settings

POOL = 8
"""Connections at the most, of each side."""

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND n.nspname !~ '^(pg_|information_schema)'
  AND ($1::text[] = '{}' OR (c.relname = ANY ($1)) <> $2)
"""


async def _nothing() -> None:
    return None


async def _no_bytes() -> int:
    return 0


async def _no_backends() -> list[int]:
    return []


_FLOOR = (
    "CREATE TABLE IF NOT EXISTS floor (said text)",
    "GRANT INSERT ON floor TO PUBLIC",
    "GRANT USAGE ON SCHEMA public TO PUBLIC",
)
"""A table without anything, for what a driver's own statement takes."""


_OWN_TABLES = ("conversations", "messages", "checkpoints", "checkpoint_blobs", "checkpoint_writes")
"""Those of ours that hold what a checkpointer is given; the others that grow are there for searching."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A saver under test.

    `settle` ends the work that it has put off, `fresh` makes a saver that knows nothing yet over the
    same database, `size` is the bytes that its tables take up, `index_size` those of what others of
    its tables hold for searching, `stock` the threads that are in it. `driver` sends one statement the way
    the saver sends its own, `backends` are the server's processes that work for it.
    """

    name: str
    saver: BaseCheckpointSaver[Any]
    fresh: Callable[[], BaseCheckpointSaver[Any]]
    size: Callable[[], Awaitable[int]]
    index_size: Callable[[], Awaitable[int]] = _no_bytes
    settle: Callable[[], Awaitable[object]] = _nothing
    driver: Callable[[str], Awaitable[object]] | None = None
    backends: Callable[[], Awaitable[list[int]]] = _no_backends
    stock: dict[tuple[str, int], list[Thread]] = field(default_factory=dict)

    def with_stock_of(self, other: Contender) -> Contender:
        """This saver over the same database as the other one: it finds the same threads."""
        return replace(self, stock=other.stock)


TITLES = {
    OURS: ("ConversationSaver", "memory-plugin"),
    OFFICIAL: ("AsyncPostgresSaver", "langgraph-checkpoint-postgres"),
    "sqlite": ("AsyncSqliteSaver", "langgraph-checkpoint-sqlite"),
}


def titles() -> dict[str, str]:
    """By name: the class, and the version of its package where that is installed."""
    return {name: f"{kind} ({package} {version(package)})" for name, (kind, package) in TITLES.items() if _has(name)}


def _has(name: str) -> bool:
    return name != "sqlite" or find_spec("aiosqlite") is not None


async def _tables_size(url: str, names: Sequence[str] = (), *, others: bool = False) -> int:
    """Bytes of all tables, of those named, or of all others, with indexes and what is stored out of line."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("VACUUM")
        return cast("int", await connection.fetchval(_SIZE, list(names), others))
    finally:
        await connection.close()


async def _backends(url: str) -> list[int]:
    """The processes of the server at work for a database, without the one that tells."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return [row["pid"] for row in rows]
    finally:
        await connection.close()


@asynccontextmanager
async def open_ours(url: str) -> AsyncIterator[Contender]:
    """Our saver, without an embedder as `ConversationSaver.from_conn_string` opens it; words are indexed."""
    await run_sql(url, *_FLOOR)
    async with Memory.open(url, embeddings=False, settings=Settings(pool_size=POOL)) as memory:
        yield Contender(
            OURS,
            memory.checkpointer,
            fresh=memory.make_checkpointer,
            size=lambda: _tables_size(url, _OWN_TABLES),
            index_size=lambda: _tables_size(url, _OWN_TABLES, others=True),
            settle=memory.indexed,
            driver=memory.database.fetch,
            backends=lambda: _backends(url),
        )


@asynccontextmanager
async def open_official(url: str) -> AsyncIterator[Contender]:
    """LangGraph's saver for PostgreSQL over a pool."""
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg import AsyncConnection
    from psycopg.rows import DictRow, dict_row
    from psycopg_pool import AsyncConnectionPool

    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        url,
        min_size=1,
        max_size=POOL,
        open=False,
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    )
    async with pool:
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
        await run_sql(url, *_FLOOR)

        async def driver(statement: str) -> None:
            async with pool.connection() as connection:
                await connection.execute(cast("Any", statement))

        yield Contender(
            OFFICIAL,
            saver,
            fresh=lambda: AsyncPostgresSaver(pool),
            size=lambda: _tables_size(url),
            driver=driver,
            backends=lambda: _backends(url),
        )


@asynccontextmanager
async def open_sqlite(path: Path, *, synchronous: bool) -> AsyncIterator[Contender]:
    """LangGraph's saver for SQLite, which keeps a journal as it chooses itself."""
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    async with AsyncSqliteSaver.from_conn_string(str(path)) as saver:
        await saver.setup()
        if not synchronous:
            await saver.conn.execute("PRAGMA synchronous = OFF")

        async def size() -> int:
            pages = await (await saver.conn.execute("PRAGMA page_count")).fetchone()
            page = await (await saver.conn.execute("PRAGMA page_size")).fetchone()
            assert pages is not None
            assert page is not None
            return int(pages[0]) * int(page[0])

        yield Contender("sqlite", saver, fresh=lambda: AsyncSqliteSaver(saver.conn), size=size)


@asynccontextmanager
async def open_all(
    urls: dict[str, str], sqlite: Path | None = None, *, synchronous: bool = False
) -> AsyncIterator[list[Contender]]:
    """The contenders over these databases, with SQLite where a file is named and its package installed."""
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_ours(urls[OURS])),
            await stack.enter_async_context(open_official(urls[OFFICIAL])),
        ]
        if sqlite is not None and _has("sqlite"):
            opened.append(await stack.enter_async_context(open_sqlite(sqlite, synchronous=synchronous)))
        yield opened
