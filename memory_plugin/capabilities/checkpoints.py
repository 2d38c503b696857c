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
from functools import cache
from typing import Any
from uuid import UUID

from memory_plugin.capabilities import checkpoint_sql as sql
from memory_plugin.db.database import Database, Record

Range = tuple[int, int]
"""Messages from the first `seq` up to, not including, the second."""

FIRST_PAGE = 8
NEXT_PAGE = 64


@dataclass(frozen=True, slots=True)
class StoredBlob:
    """One channel's value: JSON text, or the serializer's type and bytes; all None for an empty channel."""

    channel: str
    version: str
    json: str | None
    type: str | None
    blob: bytes | None


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

    `message_versions` (JSON text) holds the versions of the channels that `messages` belong to:
    a put that is repeated finds them stored and adds no message twice. `visible` is by how many
    messages the conversation grows. `buffer` is JSON text merged into the memory buffer, and
    `buffer_removed` names channels that left it; None leaves the buffer alone.
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
    message_versions: str = "{}"
    visible: int = 0
    promoted: Sequence[int] = ()
    buffer: str | None = None
    buffer_removed: Sequence[str] = ()


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
    """What a listing shows. `metadata` maps keys to JSON text that must be equal; None values of
    `thread_id`, `namespace` and `checkpoint_id` leave that side open."""

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
        self._put = cache(self._put_statement)

    def _put_statement(self, messages: bool, blobs: bool, promoted: bool, buffer: bool) -> str:
        return self._database.sql(sql.put(messages=messages, blobs=blobs, promoted=promoted, buffer=buffer))

    async def put(self, given: CheckpointPut) -> int | None:
        """Store a checkpoint; the number before its first new message, None when it added none.

        None is also the answer when the same put was stored before: its messages are there.
        """
        statement = self._put(bool(given.messages), bool(given.blobs), bool(given.promoted), given.buffer is not None)
        arguments: list[Any] = [
            self._tenant,
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
        if given.messages:
            arguments += [given.message_versions, len(given.messages), given.visible]
            arguments += [
                [message.id for message in given.messages],
                [message.origin for message in given.messages],
                [message.role for message in given.messages],
                [message.message_id for message in given.messages],
                [message.name for message in given.messages],
                [message.text for message in given.messages],
                [message.body for message in given.messages],
                [message.type for message in given.messages],
                [message.raw for message in given.messages],
            ]
        if given.blobs:
            arguments += [
                [blob.channel for blob in given.blobs],
                [blob.version for blob in given.blobs],
                [blob.json for blob in given.blobs],
                [blob.type for blob in given.blobs],
                [blob.blob for blob in given.blobs],
            ]
        if given.promoted:
            arguments.append(list(given.promoted))
        if given.buffer is not None:
            arguments += [given.buffer, list(given.buffer_removed)]
        base: int | None = await self._database.fetchval(statement, *arguments)
        return base

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

    async def refs_of_version(self, thread_id: str, namespace: str, channel: str, version: str) -> str | None:
        """The ranges (JSON text) under which a channel's list was stored at that version."""
        refs: str | None = await self._database.fetchval(
            self._database.sql(sql.REFS_OF_VERSION), self._tenant, thread_id, namespace, channel, version
        )
        return refs

    async def delete_thread(self, thread_id: str) -> dict[str, int]:
        """Remove a thread with everything in it; rows by table."""
        row = await self._database.fetchrow(self._database.sql(sql.DELETE_THREAD), self._tenant, thread_id)
        return {} if row is None else dict(row)

    async def delete_for_runs(self, run_ids: Sequence[str]) -> dict[str, int]:
        """Remove the checkpoints of these runs, and the messages that no other checkpoint has."""
        row = await self._database.fetchrow(self._database.sql(sql.DELETE_FOR_RUNS), self._tenant, list(run_ids))
        return {} if row is None else dict(row)

    async def copy_thread(self, source: str, target: str) -> None:
        """Copy a thread with its whole history; the ids of checkpoints stay."""
        await self._database.execute(self._database.sql(sql.COPY_THREAD), self._tenant, source, target)

    async def prune(self, thread_ids: Sequence[str]) -> dict[str, int]:
        """Keep of each namespace the latest checkpoint, and whatever a delta channel in it needs.

        Messages stay: they are the conversation, and what recall finds.
        """
        row = await self._database.fetchrow(self._database.sql(sql.PRUNE), self._tenant, list(thread_ids))
        return {} if row is None else dict(row)

    async def delta_history(
        self, thread_id: str, namespace: str, checkpoint_id: str, channels: Sequence[str]
    ) -> list[Record]:
        """Per channel: the nearest stored value among the ancestors and the writes since, oldest first."""
        return await self._database.fetch(
            self._database.sql(sql.DELTA_HISTORY), self._tenant, thread_id, namespace, list(channels), checkpoint_id
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
