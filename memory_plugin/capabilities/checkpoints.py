"""Checkpoints of LangGraph threads, as rows: one statement and one round trip for each operation.

This layer knows rows, not frameworks: values arrive as JSON text or as the serializer's bytes.

A put writes only what is new. Messages are rows of their own, numbered per thread under the lock
of the conversation's row, so that any number of writers can append to one thread and none can
lose a message; a checkpoint keeps half-open ranges of those numbers. An edit in the middle, a
fork or a removal is therefore another list of ranges over the same rows. Other values are blobs
by channel and version, unchanged ones are not written again.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, NamedTuple

from memory_plugin.capabilities import checkpoint_sql as sql
from memory_plugin.capabilities import checkpoint_upkeep_sql as upkeep
from memory_plugin.capabilities.checkpoint_put import put_arguments, put_result
from memory_plugin.capabilities.checkpoint_rows import (
    CheckpointFilter,
    CheckpointPut,
    CheckpointRow,
    Held,
    MessageRows,
    PendingWrite,
    PutResult,
    StoredBlob,
)
from memory_plugin.capabilities.thread_removal import DELETE_THREADS, LOCK_THREADS, remove_locked
from memory_plugin.capabilities.thread_removal import unlocked as _unlocked
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.lanes import JoinedCalls
from memory_plugin.errors import InvalidInputError

FIRST_PAGE = 8
NEXT_PAGE = 64
"""Checkpoints read at once, at the most."""

MOST_PUTS = 64
"""Puts in one statement."""

_RANGE = re.compile(r"(\d+),(\d+)")


class _TaskWrites(NamedTuple):
    """What a task wrote."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    task_id: str
    task_path: str
    writes: Sequence[PendingWrite]


class Checkpoints:
    """Reads and writes the checkpoints of one tenant.

    Writes of many callers at once go together in few statements, each of them all or nothing.
    """

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._puts = JoinedCalls(self._put_all, key=lambda put: put.thread_id, most=MOST_PUTS)
        self._task_writes = JoinedCalls(self._write_all, key=lambda each: each[:4])

    async def put(self, given: CheckpointPut) -> PutResult:
        """Store a checkpoint with its messages and values, all or nothing."""
        [result] = await self._puts([given])
        return result

    async def _put_all(self, puts: Sequence[CheckpointPut]) -> builtins.list[PutResult]:
        # locks are taken in the order of the threads by everyone, so that nobody waits in a circle
        order = sorted(range(len(puts)), key=lambda place: puts[place].thread_id) if len(puts) > 1 else [0]
        statement, arguments = put_arguments([puts[place] for place in order])
        statement = self._database.sql(statement)
        # messages that are written in any case must not be written twice
        repeatable = all(put.repeatable is not None or not put.messages for put in puts)
        repeat = Repeat.IDEMPOTENT if repeatable else Repeat.NEVER
        rows = await _unlocked(lambda: self._database.fetch(statement, self._tenant, *arguments, repeat=repeat))
        results = {place: put_result(row[0]) for place, row in zip(order, rows, strict=True)}
        return [results[place] for place in range(len(puts))]

    async def put_writes(
        self,
        thread_id: str,
        namespace: str,
        checkpoint_id: str,
        task_id: str,
        task_path: str,
        writes: Sequence[PendingWrite],
    ) -> None:
        """Store a task's writes: the first of a regular place stays, special channels are replaced."""
        unique = list({write.idx: write for write in writes}.values())
        if unique:
            await self._task_writes([_TaskWrites(thread_id, namespace, checkpoint_id, task_id, task_path, unique)])

    async def _write_all(self, tasks: Sequence[_TaskWrites]) -> builtins.list[None]:
        statement, arguments = sql.put_writes([(*task[:5], *write) for task in tasks for write in task.writes])
        statement = self._database.sql(statement)
        await _unlocked(lambda: self._database.execute(statement, self._tenant, *arguments, repeat=Repeat.IDEMPOTENT))
        return [None] * len(tasks)

    async def get(
        self, thread_id: str, namespace: str, checkpoint_id: str | None = None, *, held: Held | None = None
    ) -> CheckpointRow | None:
        """One checkpoint with its values and pending writes; without an id the latest.

        Messages that the reader holds are left out, if they are the thread's.
        """
        statement = self._database.sql(sql.get(latest=checkpoint_id is None, held=held is not None))
        arguments: builtins.list[Any] = [self._tenant, thread_id, namespace]
        if checkpoint_id is not None:
            arguments.append(checkpoint_id)
        if held is not None:
            arguments += (held.start, held.end, held.row, held.id)
        row = await self._database.fetchrow(statement, *arguments, repeat=Repeat.READ)
        return None if row is None else _row(row)

    async def list(
        self, wanted: CheckpointFilter, holding: Callable[[], Held | None] | None = None
    ) -> AsyncIterator[builtins.list[CheckpointRow]]:
        """Pages of checkpoints, newest first: stopping early reads no further.

        Args:
            holding: asked before each page of one thread what its reader holds, which is left out as by `get`.
        """
        left = wanted.limit
        last: tuple[str, str, str] | None = None
        size = FIRST_PAGE if left is None else NEXT_PAGE
        while left is None or left > 0:
            page = size if left is None else min(size, left)
            held = holding() if holding is not None and wanted.thread_id is not None else None
            statement, arguments = sql.listing(self._tenant, wanted, last, page, held)
            rows = await self._database.fetch(self._database.sql(statement), *arguments, repeat=Repeat.READ)
            if rows:
                yield [_row(row) for row in rows]
            if len(rows) < page:
                return
            last = (rows[-1]["checkpoint_id"], rows[-1]["thread_id"], rows[-1]["checkpoint_ns"])
            left = None if left is None else left - len(rows)
            size = NEXT_PAGE

    async def refs_of_versions(
        self, thread_id: str, namespace: str, versions: Sequence[tuple[str, str]]
    ) -> dict[str, str]:
        """By channel, the ranges (JSON text) of its list at that version; left out where it had none."""
        rows = await self._database.fetch(
            self._database.sql(sql.REFS_OF_VERSIONS),
            self._tenant,
            thread_id,
            namespace,
            [channel for channel, _ in versions],
            [version for _, version in versions],
            repeat=Repeat.READ,
        )
        return {row["channel"]: row["refs"] for row in rows}

    async def said(self, thread_id: str, message_ids: Sequence[str]) -> MessageRows:
        """Those of these messages that are in the conversation beside any state."""
        rows = await self._database.fetch(
            self._database.sql(sql.SAID), self._tenant, thread_id, list(message_ids), repeat=Repeat.READ
        )
        seqs = [int(row["seq"]) for row in rows]
        bodies, texts, ids, types, raws = (
            [row[name] for row in rows] for name in ("body", "text", "message_id", "type", "raw")
        )
        return MessageRows(seqs, bodies, texts, ids, types, raws, internal=(), proof=None)

    async def delete_threads(self, thread_ids: Sequence[str]) -> dict[str, int]:
        """Remove threads with everything in them; rows by table."""
        ids = list(thread_ids)
        return await _unlocked(lambda: self._remove(LOCK_THREADS, ids, DELETE_THREADS, ids))

    async def delete_for_runs(self, run_ids: Sequence[str], conversation_channel: str = "messages") -> dict[str, int]:
        """Remove the checkpoints of these runs, and the messages that no other checkpoint has."""
        runs = list(run_ids)
        return await _unlocked(
            lambda: self._remove(upkeep.LOCK_RUNS, runs, upkeep.DELETE_FOR_RUNS, runs, conversation_channel)
        )

    async def prune(self, thread_ids: Sequence[str]) -> dict[str, int]:
        """Keep of each namespace the latest checkpoint, and whatever a delta channel in it needs.

        Messages stay: they are the conversation, and what recall finds.
        """
        return await _unlocked(lambda: self._remove(LOCK_THREADS, list(thread_ids), upkeep.PRUNE))

    async def _remove(self, lock: str, ids: Sequence[str], removal: str, *arguments: Any) -> dict[str, int]:
        return await remove_locked(self._database, self._tenant, lock, ids, removal, *arguments)

    async def copy_thread(self, source: str, target: str) -> None:
        """Copy a thread with its whole history; the ids of checkpoints stay.

        Raises:
            InvalidInputError: the target has messages or checkpoints of its own.
        """
        occupied = await self._database.fetchval(self._database.sql(upkeep.COPY_THREAD), self._tenant, source, target)
        if occupied:
            raise InvalidInputError(
                f"Thread {target!r} has a history of its own: delete it first, or copy {source!r} to a new thread id."
            )

    async def delta_history(
        self, thread_id: str, namespace: str, checkpoint_id: str, channels: Sequence[str]
    ) -> Sequence[Record]:
        """Per channel: the nearest stored value among the ancestors and the writes since, oldest first."""
        return await self._database.fetch(
            self._database.sql(upkeep.DELTA_HISTORY),
            self._tenant,
            thread_id,
            namespace,
            list(channels),
            checkpoint_id,
            repeat=Repeat.READ,
        )


def _row(row: Record) -> CheckpointRow:
    return CheckpointRow(
        thread_id=row["thread_id"],
        namespace=row["checkpoint_ns"],
        checkpoint_id=row["checkpoint_id"],
        parent_id=row["parent_checkpoint_id"],
        checkpoint=row["checkpoint"],
        versions=row["versions"],
        metadata=row["metadata"],
        refs=row["message_refs"],
        messages=_messages(row),
        blobs=_blobs(row),
        writes=_writes(row),
        kept=row["kept"],
    )


def _messages(row: Record) -> MessageRows | None:
    bodies = row["message_bodies"]
    if bodies is None:
        return None
    seqs = row["message_seqs"]
    return MessageRows(
        [seq for start, end in _RANGE.findall(row["message_ranges"]) for seq in range(int(start), int(end))]
        if seqs is None
        else list(map(int, seqs)),
        bodies,
        row["message_texts"],
        row["message_ids"],
        row["message_types"],
        _cut(row["message_raw"], row["message_sizes"]),
        list(map(int, row["message_internal"] or ())),
        row["message_proof"],
    )


def _blobs(row: Record) -> Sequence[StoredBlob]:
    channels = row["blob_channels"]
    if channels is None:
        return ()
    raws = _cut(row["blob_raw"], row["blob_sizes"]) or [None] * len(channels)
    return list(map(StoredBlob, channels, row["blob_versions"], row["blob_values"], row["blob_types"], raws))


def _writes(row: Record) -> Sequence[tuple[str, PendingWrite]]:
    tasks = row["write_tasks"]
    if tasks is None:
        return ()
    raws = _cut(row["write_raw"], row["write_sizes"]) or [None] * len(tasks)
    places = map(int, row["write_idxs"])
    writes = map(PendingWrite, places, row["write_channels"], row["write_values"], row["write_types"], raws)
    return list(zip(tasks, writes, strict=True))


def _cut(joined: bytes | None, sizes: Sequence[str | None] | None) -> builtins.list[bytes | None] | None:
    """The values that were strung together, by their lengths; None where there is none of them."""
    if sizes is None:
        return None
    parts: builtins.list[bytes | None] = []
    start = 0
    for size in sizes:
        end = start if size is None else start + int(size)
        parts.append(None if size is None or joined is None else joined[start:end])
        start = end
    return parts
