"""Writing threads into the tables of `langgraph-checkpoint-postgres`, as its saver would."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import InvalidInputError
from memory_plugin.transfer.comparing import kept_metadata, widened, widened_all
from memory_plugin.transfer.official import OfficialReading
from memory_plugin.transfer.serializers import Reader
from memory_plugin.transfer.values import Entry, Found, Place, State, ThreadSize

_BLOB = """
INSERT INTO checkpoint_blobs (thread_id, checkpoint_ns, channel, version, type, blob)
VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING
"""
_CHECKPOINT = """
INSERT INTO checkpoints (thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, metadata)
VALUES ($1, $2, $3, $4, $5::text::jsonb, $6::text::jsonb)
ON CONFLICT (thread_id, checkpoint_ns, checkpoint_id)
DO UPDATE SET checkpoint = excluded.checkpoint, metadata = excluded.metadata
"""
_WRITE = """
INSERT INTO checkpoint_writes (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, type, blob)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING
"""

_EXACT_FLOAT = 1e15
_PLAIN = (bool, str, int, float)


class OfficialThreads:
    """The official tables as a target.

    Each operation has a connection of its own for as long as it lasts.

    Args:
        exists: the tables are there; where they are not, nothing is in them.
    """

    def __init__(self, database: Database, reader: Reader, serde: SerializerProtocol, *, exists: bool = True) -> None:
        self._exists = exists
        self._database = database
        self._reader = reader
        self._serde = serde

    def _reading(self, connection: Connection) -> OfficialReading:
        return OfficialReading(connection, self._reader)

    async def threads(self) -> AsyncIterator[ThreadSize]:
        """All threads, by id."""
        async with self._database.raw() as connection:
            async for size in self._reading(connection).threads():
                yield size

    async def index(self, thread_id: str) -> dict[Place, Entry]:
        """What the thread has, without values; it has no times of its own."""
        if not self._exists:
            return {}
        async with self._database.raw() as connection:
            index = await self._reading(connection).index(thread_id)
        return {place: Entry(entry.writes, None) for place, entry in index.items()}

    async def batches(self, thread_id: str, places: Sequence[Place]) -> AsyncIterator[list[Found]]:
        """These checkpoints, as many at a time as memory may hold."""
        async with self._database.raw() as connection:
            async for batch in self._reading(connection).batches(thread_id, places):
                yield batch

    async def put(self, thread_id: str, states: Sequence[tuple[State, Mapping[str, Any]]]) -> None:
        """Store checkpoints, all or none."""
        blobs: list[tuple[Any, ...]] = []
        checkpoints: list[tuple[Any, ...]] = []
        writes: list[tuple[Any, ...]] = []
        for state, new_versions in states:
            place, stored = state.place, {name for name, value in state.values.items() if not _is_inline(value)}
            key = (thread_id, place.namespace)
            blobs += [
                (*key, name, str(widened(version)), *self._serde.dumps_typed(state.values[name]))
                for name, version in new_versions.items()
                if name in stored
            ]
            checkpoints.append(
                (
                    *key,
                    place.checkpoint_id,
                    state.parent_id,
                    _checkpoint_text(state, stored, new_versions),
                    _metadata_text(state),
                )
            )
            writes += [
                (
                    *key,
                    place.checkpoint_id,
                    write.task_id,
                    write.task_path,
                    write.idx,
                    write.channel,
                    *self._serde.dumps_typed(write.value),
                )
                for write in state.writes
            ]
        async with self._database.transaction() as connection:
            for statement, rows in ((_BLOB, blobs), (_CHECKPOINT, checkpoints), (_WRITE, writes)):
                if rows:
                    await connection.executemany(statement, rows)

    async def date(self, thread_id: str, times: Mapping[Place, datetime]) -> None:
        """The official tables keep no times but those inside the checkpoints."""

    async def finish(self, thread_id: str, index: Mapping[Place, Entry], *, ahead: bool) -> None:
        """Nothing is left to do."""

    async def is_finished(self, thread_id: str, index: Mapping[Place, Entry]) -> bool:  # noqa: ARG002 - the interface
        """Never: nothing there tells that a thread was compared before."""
        return False


def _is_inline(value: Any) -> bool:
    """Whether the value stands in the checkpoint's own JSON, and comes out of it as it was."""
    if value is None:
        return True
    kind = type(value)
    if kind not in _PLAIN:  # an enum that is a string would come back as the bare string
        return False
    if kind is str:
        return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if kind is float:
        # what JSONB turns into an integer, or refuses
        return math.isfinite(value) and abs(value) < _EXACT_FLOAT and repr(value) != "-0.0"
    return True


def _checkpoint_text(state: State, stored: set[str], new_versions: Mapping[str, Any]) -> str:
    checkpoint = dict(state.checkpoint)
    values = {name: value for name, value in state.values.items() if name not in stored}
    # the official mark of the checkpoint that made a snapshot
    values |= {name: True for name in stored & new_versions.keys() if isinstance(state.values[name], _DeltaSnapshot)}
    checkpoint["channel_values"] = values
    for name in ("channel_versions", "versions_seen"):
        checkpoint[name] = widened_all(checkpoint.get(name) or {})
    return _json(checkpoint, "the checkpoint")


def _metadata_text(state: State) -> str:
    return _json(kept_metadata(state.metadata), "its metadata")


def _json(value: Any, what: str) -> str:
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{what} has a value that the official tables cannot hold: {error}") from error
    if "\\u0000" in text:
        raise InvalidInputError(f"{what} has a NUL byte in it, which the official tables cannot hold")
    return text
