"""How whole threads are removed, by whoever does it. `{s}` is the store's schema.

The rows of the conversations are locked before anything else, in one order: every writer of a
thread locks its conversation first too, so that a removal sees all that was written before it, and
what comes later finds nothing and makes the thread anew.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from memory_plugin.db.database import Database
from memory_plugin.errors import DatabaseError
from memory_plugin.telemetry import retried

T = TypeVar("T")

_DEADLOCK = "40P01"
_DEADLOCKS = 5

LOCK_THREADS = """
SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = ANY ($2) ORDER BY thread_id FOR UPDATE
"""

LOCK_USER = """
SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND user_id = ANY ($2) ORDER BY thread_id FOR UPDATE
"""

_VALUES = {
    "checkpoints": ("checkpoint", "versions", "message_refs", "metadata"),
    "checkpoint_blobs": ("value", "blob"),
    "checkpoint_writes": ("value", "blob"),
    "messages": ("text", "body", "raw"),
}


def size_of(table: str, row: str) -> str:
    """The bytes that the values of a row take as they are stored, as SQL."""
    columns = _VALUES.get(table, ())
    return " + ".join(f"coalesce(pg_column_size({row}.{column}), 0)" for column in columns) or "0"


_THREADS, _ASKED = "x.thread_id = ANY ($2)", "x.thread_id = ANY ($3)"

# $2 are the threads that were locked; what may be there without a conversation goes by $3
_PARTS = {
    "conversations": _THREADS,
    "messages": _THREADS,
    "checkpoints": _THREADS,
    "checkpoint_blobs": _THREADS,
    "checkpoint_writes": _ASKED,
    "proposals": _THREADS,
    "feedback": _THREADS,
    "shared_conversations": _THREADS,
    "passages": f"{_THREADS} AND x.kind = 2",
    "index_queue": "x.kind = 2 AND x.item = ANY ($2)",
    "working_memory": "x.scope = 'chat' AND x.scope_id = ANY ($3)",
    "agent_settings": "x.scope = 'thread' AND x.scope_id = ANY ($3)",
}

# a row that the indexer holds is removed by the indexer: waiting for it here could be a deadlock
_UNQUEUED = """(x.tenant_id, x.kind, x.item) IN (
        SELECT tenant_id, kind, item FROM {s}.index_queue
        WHERE tenant_id = $1 AND kind = 2 AND item = ANY ($2) FOR UPDATE SKIP LOCKED)"""


def removal(parts: Sequence[str] = tuple(_PARTS), *, measured: bool = False, counted_only: bool = False) -> str:
    """The statement that removes these parts of the threads; its row has the number of rows by table.

    Args:
        measured: say too how many `bytes` the values took.
        counted_only: remove nothing, and say what would be removed.
    """
    steps = []
    for table in parts:
        size = f"{size_of(table, 'x')} AS bytes"
        condition = f"x.tenant_id = $1 AND {_PARTS[table]}"
        if counted_only:
            steps.append(f"gone_{table} AS (SELECT {size} FROM {{s}}.{table} x WHERE {condition})")
        else:
            if table == "index_queue":
                condition = _UNQUEUED
            steps.append(f"gone_{table} AS (DELETE FROM {{s}}.{table} x WHERE {condition} RETURNING {size})")
    counts = [f"(SELECT count(*) FROM gone_{table}) AS {table}" for table in parts]
    if measured:
        sums = [f"(SELECT coalesce(sum(bytes), 0) FROM gone_{table})" for table in parts if table in _VALUES]
        counts.append(f"({' + '.join(sums)})::bigint AS bytes")
    every = "asked AS (SELECT $2::text[] AS locked, $3::text[] AS named)"
    return f"WITH {every},\n" + ",\n".join(steps) + "\nSELECT " + ", ".join(counts)


DELETE_THREADS = removal()
DELETE_LOCKED = DELETE_THREADS.replace("$3", "$2")

CONTENT = (
    "messages",
    "checkpoints",
    "checkpoint_blobs",
    "checkpoint_writes",
    "proposals",
    "feedback",
    "shared_conversations",
    "passages",
    "index_queue",
)
"""What is in a conversation, without the conversation."""


async def unlocked(run: Callable[[], Awaitable[T]]) -> T:
    """Run it again where PostgreSQL ended it to resolve a deadlock: it left nothing behind."""
    for attempt in range(_DEADLOCKS):
        try:
            return await run()
        except DatabaseError as error:
            if error.sqlstate != _DEADLOCK:
                raise
            retried(error)
            await asyncio.sleep(random.random() * 0.01 * 2**attempt)  # noqa: S311 - only to part them
    return await run()


async def remove_locked(
    database: Database, tenant: str, lock: str, ids: Sequence[str], removal: str, *arguments: Any
) -> dict[str, int]:
    """Remove from the threads that could be locked, while nobody puts into them; rows by table.

    Args:
        lock: gives the threads that it locked, for the tenant ($1) and the ids ($2).
        removal: takes the tenant, the locked threads and the arguments.
    """
    async with database.transaction() as connection:
        rows = await connection.fetch(database.sql(lock), tenant, list(ids))
        threads = [row["thread_id"] for row in rows]
        row = await connection.fetchrow(database.sql(removal), tenant, threads, *arguments)
    assert row is not None  # the counts
    return dict(row)
