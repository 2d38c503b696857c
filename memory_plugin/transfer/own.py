"""Threads in this store, read and written by its own checkpointer."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from functools import cached_property
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.serde.base import SerializerProtocol

from memory_plugin.capabilities.checkpoint_rows import PendingWrite
from memory_plugin.errors import DatabaseUnavailableError
from memory_plugin.langgraph.checkpointer import ConversationSaver
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.names import original_name, stored_name
from memory_plugin.memory import Memory
from memory_plugin.transfer import own_sql as sql
from memory_plugin.transfer.values import Entry, Found, Place, State, ThreadSize, Unreadable, Write

CHUNK = 16
"""Checkpoints that are read together."""

_PAGE = 500

_REMEMBERED = 4096
"""Messages that are kept built."""


class QuietMemory(Memory):
    """A store that is not indexed while it is filled: first everything gets the time it had."""

    def kick(self) -> None:
        """Leave it in the queue; `indexed` takes it from there."""


class _Codec(ValueCodec):
    """Builds a message that stands in many checkpoints once; nobody here changes one."""

    def __init__(self, serde: SerializerProtocol, *, plain_metadata: Collection[str]) -> None:
        super().__init__(serde, plain_metadata=plain_metadata)
        self._built: OrderedDict[tuple[Any, ...], BaseMessage] = OrderedDict()

    def load_message(
        self, body: str | None, text: str | None, message_id: str | None, type: str | None, raw: bytes | None
    ) -> BaseMessage:
        key = (body, text, message_id, type, raw)
        message = self._built.get(key)
        if message is None:
            message = self._built[key] = super().load_message(*key)
            if len(self._built) > _REMEMBERED:
                self._built.popitem(last=False)
        return message


class _Saver(ConversationSaver):
    """The checkpointer, with a codec that is quick where history is read from one end to the other."""

    @cached_property
    def _codec(self) -> ValueCodec:  # its serializer is never exchanged
        return _Codec(self.serde, plain_metadata=self._plain)


class OwnThreads:
    """The threads of one tenant.

    Args:
        pattern: which threads: an id, or a pattern with `*`, `?` and `[...]`.
    """

    def __init__(self, memory: Memory, serde: SerializerProtocol, pattern: str | None = None) -> None:
        self._memory = memory
        self._database = memory.database
        self._tenant = memory.tenant
        self._pattern = pattern
        self._saver = _Saver(memory, memory.bridge, serde=serde)
        self._codec = ValueCodec(serde)

    def _sql(self, statement: str) -> str:
        return self._database.sql(statement)

    async def threads(self) -> AsyncIterator[ThreadSize]:
        """All wanted threads that have a checkpoint, by id."""
        last: str | None = None
        while True:
            rows = await self._database.fetch(self._sql(sql.THREADS), self._tenant, last, _PAGE)
            for row in rows:
                if self._pattern is None or fnmatch.fnmatchcase(row["thread_id"], self._pattern):
                    yield ThreadSize(*row)
            if len(rows) < _PAGE:
                return
            last = rows[-1]["thread_id"]

    async def index(self, thread_id: str) -> dict[Place, Entry]:
        """What the thread has; `at` is when the checkpoint was stored, or the time it was given."""
        rows = await self._database.fetch(self._sql(sql.COUNTS), self._tenant, thread_id)
        writes = {(row["checkpoint_ns"], row["checkpoint_id"]): row["writes"] for row in rows}
        rows = await self._database.fetch(self._sql(sql.INDEX), self._tenant, thread_id)
        return {
            Place(row["checkpoint_id"], original_name(row["checkpoint_ns"])): Entry(
                writes.get((row["checkpoint_ns"], row["checkpoint_id"]), 0), row["created_at"]
            )
            for row in rows
        }

    # -- reading

    async def batches(self, thread_id: str, places: Sequence[Place]) -> AsyncIterator[list[Found]]:
        """These checkpoints as the checkpointer gives them."""
        for start in range(0, len(places), CHUNK):
            chunk = places[start : start + CHUNK]
            tuples = await self._tuples(thread_id, chunk)
            writes = await self._writes(thread_id, chunk)
            yield [_state(place, tuples[place], writes.get(place, ())) for place in chunk if place in tuples]

    async def _tuples(self, thread_id: str, places: Sequence[Place]) -> dict[Place, CheckpointTuple | Exception]:
        """Neighbours in one listing; what it did not show, or could not read, one by one."""
        found: dict[Place, CheckpointTuple | Exception] = {}
        wanted = set(places)
        before = _config(thread_id, "", f"{places[-1].checkpoint_id}!")  # sorts right behind it
        listing = self._saver.alist({"configurable": {"thread_id": thread_id}}, before=before, limit=len(places))
        try:
            async with aclosing(cast("Any", listing)) as listed:
                async for each in listed:
                    place = _place_of(each)
                    if place in wanted:
                        found[place] = each
        except DatabaseUnavailableError:
            raise
        except Exception:  # noqa: BLE001, S110 - serializers fail in their own ways; below it shows for which
            pass
        for place in wanted - found.keys():
            try:
                one = await self._saver.aget_tuple(_config(thread_id, place.namespace, place.checkpoint_id))
            except DatabaseUnavailableError:
                raise
            except Exception as error:  # noqa: BLE001 - likewise; it is told with the name of the checkpoint
                found[place] = error
            else:
                if one is not None:
                    found[place] = one
        return found

    async def _writes(self, thread_id: str, places: Sequence[Place]) -> dict[Place, list[tuple[str, str, int]]]:
        """Task, path and place of the pending writes, in the order in which the checkpointer gives them."""
        found: dict[Place, list[tuple[str, str, int]]] = defaultdict(list)
        ids = [place.checkpoint_id for place in places]
        for row in await self._database.fetch(self._sql(sql.WRITES), self._tenant, thread_id, ids):
            place = Place(row["checkpoint_id"], original_name(row["checkpoint_ns"]))
            found[place].append((original_name(row["task_id"]), original_name(row["task_path"]), row["idx"]))
        return found

    # -- writing

    async def put(self, thread_id: str, states: Sequence[tuple[State, Mapping[str, Any]]]) -> None:
        """Store checkpoints by the checkpointer, and their writes at the places they had."""
        for state, new_versions in states:
            config = _config(thread_id, state.place.namespace, state.parent_id)
            user = state.metadata.get("user_id")
            if isinstance(user, str | int) and not isinstance(user, bool):
                config["metadata"] = {"user_id": user}
            await self._saver.aput(
                config,
                state.checkpoint,  # type: ignore[arg-type]  # it was a Checkpoint when it was put there
                state.metadata,  # type: ignore[arg-type]  # likewise
                dict(new_versions),
            )
            await self._put_writes(thread_id, state)

    async def _put_writes(self, thread_id: str, state: State) -> None:
        tasks: dict[tuple[str, str], list[PendingWrite]] = defaultdict(list)
        for write in state.writes:
            stored = self._codec.dump(write.value)
            tasks[write.task_id, write.task_path].append(PendingWrite(write.idx, stored_name(write.channel), *stored))
        for (task_id, task_path), writes in tasks.items():
            await self._memory.checkpoints.put_writes(
                thread_id,
                stored_name(state.place.namespace),
                state.place.checkpoint_id,
                stored_name(task_id),
                stored_name(task_path),
                writes,
            )

    async def date(self, thread_id: str, times: Mapping[Place, datetime]) -> None:
        """Give checkpoints, and the messages that they brought, the times they had."""
        if times:
            await self._database.execute(self._sql(sql.DATE), self._tenant, thread_id, *_columns(times))

    async def finish(self, thread_id: str, index: Mapping[Place, Entry], *, ahead: bool) -> None:
        """Give the conversation its times: its first day is what tells a finished thread from an unfinished one."""
        root = [entry.at for place, entry in index.items() if entry.at is not None and place.namespace == ""]
        times = [entry.at for entry in index.values() if entry.at is not None]
        if not times:
            return
        last = None if ahead else max(root or times)
        async with self._database.transaction() as connection:
            await connection.fetch(self._sql(sql.WAIT_FOR_INDEX), self._tenant, thread_id)
            await connection.execute(self._sql(sql.FINISH), self._tenant, thread_id, min(times), last)

    async def is_finished(self, thread_id: str, index: Mapping[Place, Entry]) -> bool:
        """Whether the conversation is as old as its first checkpoint."""
        created = await self._database.fetchval(self._sql(sql.CREATED), self._tenant, thread_id)
        first = min((entry.at for entry in index.values() if entry.at is not None), default=None)
        return created is not None and first is not None and created <= first


def _columns(times: Mapping[Place, datetime]) -> list[list[str]]:
    return [
        [stored_name(place.namespace) for place in times],
        [place.checkpoint_id for place in times],
        [at.isoformat() for at in times.values()],
    ]


def _config(thread_id: str, namespace: str, checkpoint_id: str | None) -> RunnableConfig:
    place: dict[str, Any] = {"thread_id": thread_id, "checkpoint_ns": namespace}
    if checkpoint_id is not None:
        place["checkpoint_id"] = checkpoint_id
    return {"configurable": place}


def _place_of(found: CheckpointTuple) -> Place:
    configurable = found.config["configurable"]
    return Place(configurable["checkpoint_id"], configurable["checkpoint_ns"])


def _state(place: Place, found: CheckpointTuple | Exception, writes: Sequence[tuple[str, str, int]]) -> Found:
    if isinstance(found, Exception):
        return Unreadable(place, f"{type(found).__name__}: {found}")
    pending = found.pending_writes or []
    if len(pending) != len(writes):  # another task of a live thread wrote in between
        return Unreadable(place, "its pending writes changed while they were read: run it again")
    parent = found.parent_config["configurable"]["checkpoint_id"] if found.parent_config else None
    return State(
        place,
        parent,
        cast("dict[str, Any]", found.checkpoint),
        cast("dict[str, Any]", found.metadata),
        [
            Write(task, path, idx, channel, value)
            for (task, path, idx), (_, channel, value) in zip(writes, pending, strict=True)
        ],
    )
