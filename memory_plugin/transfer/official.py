"""Threads in the tables of `langgraph-checkpoint-postgres`, read as its saver reads them.

A checkpoint is a row of JSON with the small values in it; the others are blobs by channel and
version, which many checkpoints share. Each is fetched and decoded once while it is in use.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any

from langgraph.checkpoint.base import writes_sort_key
from langgraph.checkpoint.serde.types import TASKS

from memory_plugin.db.database import Connection, Record
from memory_plugin.errors import InvalidInputError
from memory_plugin.transfer.serializers import Reader
from memory_plugin.transfer.values import Entry, Found, Place, State, ThreadSize, Unreadable, Write, time_of

CHUNK = 32
"""Checkpoints that are looked at together."""

ROOM = 8 << 20
"""Bytes of values that are decoded together, unless one checkpoint has more."""

_PAGE = 500

Blob = tuple[str, str, str]
"""Namespace, channel and version of a value."""

_THREADS = """
SELECT thread_id, count(*) AS checkpoints FROM checkpoints
WHERE $1::text IS NULL OR thread_id > $1 GROUP BY thread_id ORDER BY thread_id LIMIT $2
"""
_THREAD = "SELECT thread_id, count(*) AS checkpoints FROM checkpoints WHERE thread_id = $1 GROUP BY thread_id"
_INDEX = "SELECT checkpoint_ns, checkpoint_id, checkpoint ->> 'ts' AS ts FROM checkpoints WHERE thread_id = $1"
_COUNTS = """
SELECT checkpoint_ns, checkpoint_id, count(*) AS writes FROM checkpoint_writes
WHERE thread_id = $1 GROUP BY checkpoint_ns, checkpoint_id
"""
_SIZES = """
SELECT checkpoint_ns, channel, version, octet_length(blob) AS size FROM checkpoint_blobs
WHERE thread_id = $1 AND octet_length(blob) > 65536
"""
_WRITE_SIZES = """
SELECT checkpoint_ns, checkpoint_id, sum(octet_length(blob)) AS size FROM checkpoint_writes
WHERE thread_id = $1 GROUP BY checkpoint_ns, checkpoint_id HAVING sum(octet_length(blob)) > 65536
"""
_HEADS = """
SELECT c.* FROM unnest($2::text[], $3::text[]) AS w (ns, id), LATERAL (
    SELECT checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint::text, metadata::text FROM checkpoints
    WHERE thread_id = $1 AND checkpoint_ns = w.ns AND checkpoint_id = w.id LIMIT 1
) AS c
"""
_BLOBS = """
SELECT w.*, b.* FROM unnest($2::text[], $3::text[], $4::text[]) AS w (ns, channel, version), LATERAL (
    SELECT type, blob FROM checkpoint_blobs
    WHERE thread_id = $1 AND checkpoint_ns = w.ns AND channel = w.channel AND version = w.version LIMIT 1
) AS b
"""
_WRITES = """
SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob FROM checkpoint_writes
WHERE thread_id = $1 AND checkpoint_id = ANY ($2::text[])
"""
_SENDS = """
SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx, type, blob FROM checkpoint_writes
WHERE thread_id = $1 AND checkpoint_id = ANY ($2::text[]) AND channel = $3
"""


class OfficialReading:
    """Reads threads over one connection, which may be in a transaction that shows one moment.

    Args:
        reader: decodes the values.
        pattern: which threads: an id, or a pattern with `*`, `?` and `[...]`.
    """

    def __init__(self, connection: Connection, reader: Reader, pattern: str | None = None) -> None:
        self._connection = connection
        self._reader = reader
        self._pattern = pattern
        self._lock = asyncio.Lock()

    async def fetch(self, statement: str, *arguments: Any) -> list[Record]:
        """All rows; the connection serves one at a time."""
        async with self._lock:
            return await self._connection.fetch(statement, *arguments)

    async def threads(self) -> AsyncIterator[ThreadSize]:
        """All wanted threads, by id."""
        pattern, last = self._pattern, None
        if pattern is not None and not set(pattern) & set("*?["):
            for row in await self.fetch(_THREAD, pattern):
                yield ThreadSize(*row)
            return
        while True:
            rows = await self.fetch(_THREADS, last, _PAGE)
            for row in rows:
                if pattern is None or fnmatch.fnmatchcase(row["thread_id"], pattern):
                    yield ThreadSize(*row)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["thread_id"]

    async def index(self, thread_id: str) -> dict[Place, Entry]:
        """What the thread has; writes without their checkpoint are none of it."""
        writes = {
            (row["checkpoint_ns"], row["checkpoint_id"]): row["writes"] for row in await self.fetch(_COUNTS, thread_id)
        }
        return {
            Place(row["checkpoint_id"], row["checkpoint_ns"]): Entry(
                writes.get((row["checkpoint_ns"], row["checkpoint_id"]), 0), time_of(row["ts"])
            )
            for row in await self.fetch(_INDEX, thread_id)
        }

    async def batches(self, thread_id: str, places: Sequence[Place]) -> AsyncIterator[list[Found]]:
        """These checkpoints, as many at a time as memory may hold."""
        thread = _Thread(self, self._reader, thread_id)
        await thread.weigh()
        for start in range(0, len(places), CHUNK):
            async for batch in thread.read(places[start : start + CHUNK]):
                yield batch


class _Thread:
    """One pass over a thread."""

    def __init__(self, source: OfficialReading, reader: Reader, thread_id: str) -> None:
        self._source = source
        self._reader = reader
        self._id = thread_id
        self._values: dict[Blob, Any] = {}
        self._faults: dict[Blob, str] = {}
        self._large: dict[Blob, int] = {}
        self._large_writes: dict[Place, int] = {}

    async def weigh(self) -> None:
        """Learn which values are large."""
        for row in await self._source.fetch(_SIZES, self._id):
            self._large[row["checkpoint_ns"], row["channel"], row["version"]] = row["size"]
        for row in await self._source.fetch(_WRITE_SIZES, self._id):
            self._large_writes[Place(row["checkpoint_id"], row["checkpoint_ns"])] = int(row["size"])

    async def read(self, places: Sequence[Place]) -> AsyncIterator[list[Found]]:
        rows = await self._source.fetch(
            _HEADS, self._id, [place.namespace for place in places], [place.checkpoint_id for place in places]
        )
        heads = {Place(row["checkpoint_id"], row["checkpoint_ns"]): row for row in rows}
        batch: list[tuple[Place, Record, dict[str, Any]]] = []
        room, seen = ROOM, set(self._values)
        for place in places:
            if place not in heads:
                continue
            checkpoint: dict[str, Any] = json.loads(heads[place]["checkpoint"])
            blobs = set(_blobs_of(place, checkpoint)) - seen
            size = sum(self._large.get(blob, 0) for blob in blobs) + self._large_writes.get(place, 0)
            if batch and size > room:
                yield await self._decode(batch)
                batch, room = [], ROOM
            batch.append((place, heads[place], checkpoint))
            room -= size
            seen |= blobs
        if batch:
            yield await self._decode(batch)

    async def _decode(self, batch: Sequence[tuple[Place, Record, dict[str, Any]]]) -> list[Found]:
        wanted = {blob for place, _, checkpoint in batch for blob in _blobs_of(place, checkpoint)}
        for kept in (self._values, self._faults):
            for blob in kept.keys() - wanted:
                del kept[blob]
        await self._fetch_blobs(wanted - self._values.keys() - self._faults.keys())
        writes = await self._fetch_writes([place for place, _, _ in batch])
        sends = await self._fetch_sends([(place, head) for place, head, checkpoint in batch if _is_old(checkpoint)])
        return [self._state(place, head, checkpoint, writes, sends) for place, head, checkpoint in batch]

    async def _fetch_blobs(self, wanted: Iterable[Blob]) -> None:
        keys = sorted(wanted)
        if not keys:
            return
        columns = [list(column) for column in zip(*keys, strict=True)]
        for row in await self._source.fetch(_BLOBS, self._id, *columns):
            blob = (row["ns"], row["channel"], row["version"])
            if row["type"] == "empty":
                continue
            try:
                self._values[blob] = self._reader.load(row["type"], row["blob"])
            except InvalidInputError as error:
                self._faults[blob] = f"channel {row['channel']!r}: {error}"

    async def _fetch_writes(self, places: Sequence[Place]) -> dict[Place, list[Record]]:
        found: dict[Place, list[Record]] = {place: [] for place in places}
        for row in await self._source.fetch(_WRITES, self._id, [place.checkpoint_id for place in places]):
            place = Place(row["checkpoint_id"], row["checkpoint_ns"])
            if place in found:
                found[place].append(row)
        return found

    async def _fetch_sends(self, old: Sequence[tuple[Place, Record]]) -> dict[Place, list[Record]]:
        """By parent, the packets that it sent: before version 4 a checkpoint reads them from there."""
        found: dict[Place, list[Record]] = {}
        parents = [head["parent_checkpoint_id"] for _, head in old if head["parent_checkpoint_id"]]
        for row in await self._source.fetch(_SENDS, self._id, parents, TASKS) if parents else ():
            found.setdefault(Place(row["checkpoint_id"], row["checkpoint_ns"]), []).append(row)
        return found

    def _state(
        self,
        place: Place,
        head: Record,
        checkpoint: dict[str, Any],
        writes: Mapping[Place, Sequence[Record]],
        sends: Mapping[Place, Sequence[Record]],
    ) -> Found:
        blobs = _blobs_of(place, checkpoint)
        faults = [self._faults[blob] for blob in blobs if blob in self._faults]
        if faults:
            return Unreadable(place, faults[0])
        try:
            values = {
                **(checkpoint.get("channel_values") or {}),
                **{blob[1]: self._values[blob] for blob in blobs if blob in self._values},
            }
            parent = Place(head["parent_checkpoint_id"] or "", place.namespace)
            if _is_old(checkpoint) and sends.get(parent):
                self._take_sends(place, checkpoint, values, sends[parent])
            return State(
                place,
                head["parent_checkpoint_id"] or None,
                {**checkpoint, "channel_values": values},
                json.loads(head["metadata"]),
                [self._write(row) for row in sorted(writes[place], key=_order)],
            )
        except InvalidInputError as error:
            return Unreadable(place, str(error))

    def _take_sends(
        self, place: Place, checkpoint: dict[str, Any], values: dict[str, Any], sends: Sequence[Record]
    ) -> None:
        versions = checkpoint["channel_versions"]
        values[TASKS] = [self._reader.load(row["type"], row["blob"]) for row in sorted(sends, key=_order)]
        newest = max(versions.values()) if versions else f"{1:032}.0"
        if isinstance(newest, str):
            # a fork has its parent's versions and other packets: one version may not name both
            newest += ("" if "." in newest else ".") + place.checkpoint_id.replace("-", "")
        versions[TASKS] = newest

    def _write(self, row: Record) -> Write:
        try:
            value = self._reader.load(row["type"], row["blob"])
        except InvalidInputError as error:
            raise InvalidInputError(f"write to {row['channel']!r}: {error}") from error
        return Write(row["task_id"], row["task_path"], row["idx"], row["channel"], value)


def _blobs_of(place: Place, checkpoint: Mapping[str, Any]) -> list[Blob]:
    return [
        (place.namespace, channel, str(version)) for channel, version in checkpoint.get("channel_versions", {}).items()
    ]


def _is_old(checkpoint: Mapping[str, Any]) -> bool:
    return int(checkpoint.get("v", 1)) < 4


def _order(row: Record) -> tuple[str, str, int]:
    return writes_sort_key(row["task_path"], row["task_id"], row["idx"])
