"""Checkpoints of LangGraph threads, as rows: one statement and one round trip for each operation.

This layer knows rows, not frameworks: values arrive as JSON text or as the serializer's bytes.

A put writes only what is new. Messages are rows of their own, numbered per thread under the lock
of the conversation's row, so that any number of writers can append to one thread and none can
lose a message; a checkpoint keeps half-open ranges of those numbers. An edit in the middle, a
fork or a removal is therefore another list of ranges over the same rows. Other values are blobs
by channel and version, unchanged ones are not written again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from memory_plugin.capabilities import checkpoint_sql as sql
from memory_plugin.capabilities import checkpoint_upkeep_sql as upkeep
from memory_plugin.capabilities.thread_removal import DELETE_THREADS, LOCK_THREADS, remove_locked
from memory_plugin.capabilities.thread_removal import unlocked as _unlocked
from memory_plugin.db.database import Database, Record
from memory_plugin.errors import InvalidInputError

Range = tuple[int, int]
"""Messages from the first `seq` up to, not including, the second."""

FIRST_PAGE = 8
NEXT_PAGE = 64


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One channel's value: JSON text, or the serializer's type and bytes.

    One that is not `changed` is written only where its version is not stored.
    """

    channel: str
    version: str
    json: str | None
    type: str | None
    blob: bytes | None
    changed: bool = True


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to be stored: readable where the serializer allows it, exact in any case.

    `origin` is 0 for the conversation's own messages, 2 for those of a subgraph or another channel.
    """

    id: UUID
    origin: int
    role: str | None
    message_id: str | None
    name: str | None
    text: str | None
    body: str | None
    type: str | None
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class MessageRef:
    """A stretch of a channel's list: numbers of stored rows, or places (from 1) among the new ones."""

    channel: str
    start: int
    end: int
    fresh: bool


@dataclass(frozen=True, slots=True)
class CheckpointPut:
    """Everything one put writes. `versions`, `checkpoint` and `metadata` are JSON text.

    `length` is the number of messages in the conversation, where this put changes it, and
    `promoted` are messages that only a subgraph had so far. `buffer` is JSON text merged into the
    memory buffer, and `buffer_removed` names channels that left it; None leaves the buffer alone.

    `anchor` (namespace, id) is the checkpoint that unchanged values and earlier messages are taken
    over from, and `extras` are messages taken over from elsewhere: where one of these is not there
    any more, nothing is written.

    `repeatable` (JSON text) holds the versions of the channels that `messages` belong to: where the
    checkpoint is stored with these already, nothing is written, so that a put that is tried again
    adds no message twice. None writes in any case.
    """

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: str
    versions: str
    metadata: str
    user_id: str | None = None
    blobs: Sequence[StoredBlob] = ()
    refs: Sequence[MessageRef] = ()
    messages: Sequence[NewMessage] = ()
    repeatable: str | None = None
    length: int | None = None
    promoted: Sequence[int] = ()
    buffer: str | None = None
    buffer_removed: Sequence[str] = ()
    anchor: tuple[str, str] | None = None
    extras: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class PutResult:
    """What came of a put.

    Where it was written, `base` is the number before its first new message. Where not, `repeated`
    says whether it was stored before; else something it takes over is gone.
    """

    base: int | None
    repeated: bool


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """One write of a task; `idx` is its position, negative for LangGraph's special channels."""

    idx: int
    channel: str
    json: str | None
    type: str | None
    blob: bytes | None


@dataclass(frozen=True, slots=True)
class MessageRow:
    """A stored message as a checkpoint reads it; `origin` as in `NewMessage`."""

    seq: int
    origin: int
    body: str | None
    type: str | None
    raw: bytes | None


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """A checkpoint with all its values: `refs` (JSON text) says which of `messages` stand where."""

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: str
    versions: str
    metadata: str
    refs: str | None
    messages: Sequence[MessageRow] = ()
    blobs: Sequence[StoredBlob] = ()
    writes: Sequence[tuple[str, PendingWrite]] = field(default=())


@dataclass(frozen=True, slots=True)
class CheckpointFilter:
    """What a listing shows.

    `metadata` maps keys to JSON text that must be equal; None values of `thread_id`, `namespace`
    and `checkpoint_id` leave that side open.
    """

    thread_id: str | None = None
    namespace: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    limit: int | None = None


class Checkpoints:
    """Reads and writes the checkpoints of one tenant."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    async def put(self, given: CheckpointPut) -> PutResult:
        """Store a checkpoint with its messages and values, all or nothing, in one statement."""
        statement, arguments = _put_statement(given)
        statement = self._database.sql(statement)
        row = await _unlocked(lambda: self._database.fetchrow(statement, self._tenant, *arguments))
        assert row is not None  # the statement always answers
        return PutResult(row["base"], row["repeated"])

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
        unique = {write.idx: write for write in writes}.values()
        if not unique:
            return
        await self._database.execute(
            self._database.sql(sql.PUT_WRITES),
            self._tenant,
            thread_id,
            namespace,
            checkpoint_id,
            task_id,
            task_path,
            [write.idx for write in unique],
            [write.channel for write in unique],
            [write.json for write in unique],
            [write.type for write in unique],
            [write.blob for write in unique],
        )

    async def get(self, thread_id: str, namespace: str, checkpoint_id: str | None = None) -> CheckpointRow | None:
        """One checkpoint with its values and pending writes; without an id the latest."""
        if checkpoint_id is None:
            row = await self._database.fetchrow(
                self._database.sql(sql.get(latest=True)), self._tenant, thread_id, namespace
            )
        else:
            row = await self._database.fetchrow(
                self._database.sql(sql.get(latest=False)), self._tenant, thread_id, namespace, checkpoint_id
            )
        return None if row is None else _row(row)

    async def list(self, wanted: CheckpointFilter) -> AsyncIterator[CheckpointRow]:
        """Checkpoints, newest first, a page at a time: stopping early reads no further."""
        left = wanted.limit
        last: tuple[str, str, str] | None = None
        size = FIRST_PAGE
        while left is None or left > 0:
            page = size if left is None else min(size, left)
            statement, arguments = sql.listing(self._tenant, wanted, last, page)
            rows = await self._database.fetch(self._database.sql(statement), *arguments)
            for row in rows:
                yield _row(row)
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
        )
        return {row["channel"]: row["refs"] for row in rows}

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
            self._database.sql(upkeep.DELTA_HISTORY), self._tenant, thread_id, namespace, list(channels), checkpoint_id
        )


def _put_statement(given: CheckpointPut) -> tuple[str, list[Any]]:
    """The statement for what the put has, and its arguments after the tenant."""
    messages = given.messages
    touched = bool(messages or given.promoted) or given.length is not None or given.buffer is not None
    repeatable = bool(messages) and given.repeatable is not None
    statement = sql.put(
        touched=touched,
        messages=bool(messages),
        repeatable=repeatable,
        buffer=given.buffer is not None,
        blobs=bool(given.blobs),
        promoted=bool(given.promoted),
        anchored=given.anchor is not None,
        extras=bool(given.extras),
    )
    arguments: list[Any] = [
        given.thread_id,
        given.namespace,
        given.checkpoint_id,
        given.parent_id,
        given.checkpoint,
        given.versions,
        given.metadata,
        given.user_id,
        [ref.channel for ref in given.refs],
        [ref.start for ref in given.refs],
        [ref.end for ref in given.refs],
        [ref.fresh for ref in given.refs],
    ]
    if touched:
        # messages that were in the index's past without being its business come to it now
        rewind = min(given.promoted) - 1 if given.promoted else None
        arguments += [len(messages), given.length, rewind]
    if messages:
        arguments += _columns(messages, _MESSAGE_FIELDS)
    if repeatable:
        arguments.append(given.repeatable)
    if given.buffer is not None:
        arguments += [given.buffer, list(given.buffer_removed)]
    if given.blobs:
        arguments += _columns(given.blobs, _BLOB_FIELDS)
    if given.promoted:
        arguments.append(list(given.promoted))
    if given.anchor is not None:
        arguments += given.anchor
    if given.extras:
        arguments.append(list(given.extras))
    return statement, arguments


_MESSAGE_FIELDS = ("id", "origin", "role", "message_id", "name", "text", "body", "type", "raw")
_BLOB_FIELDS = ("channel", "version", "json", "type", "blob", "changed")


def _columns(rows: Sequence[Any], fields: Sequence[str]) -> list[list[Any]]:
    return [[getattr(row, name) for row in rows] for name in fields]


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
        messages=[
            MessageRow(*each)
            for each in zip(
                row["message_seqs"] or (),
                row["message_origins"] or (),
                row["message_bodies"] or (),
                row["message_types"] or (),
                row["message_raws"] or (),
                strict=True,
            )
        ],
        blobs=[
            StoredBlob(*each)
            for each in zip(
                row["blob_channels"] or (),
                row["blob_versions"] or (),
                row["blob_values"] or (),
                row["blob_types"] or (),
                row["blob_blobs"] or (),
                strict=True,
            )
        ],
        writes=[
            (task, PendingWrite(*rest))
            for task, *rest in zip(
                row["write_tasks"] or (),
                row["write_idxs"] or (),
                row["write_channels"] or (),
                row["write_values"] or (),
                row["write_types"] or (),
                row["write_blobs"] or (),
                strict=True,
            )
        ],
    )
