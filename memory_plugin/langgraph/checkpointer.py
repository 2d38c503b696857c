"""ConversationSaver: LangGraph's checkpointer over the store's own conversations.

    async with Memory.open() as memory:
        graph = builder.compile(checkpointer=memory.checkpointer)

What it writes is what chat history shows and recall finds: the same rows.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_serializable_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from memory_plugin.capabilities.checkpoint_rows import CheckpointFilter, Held
from memory_plugin.capabilities.checkpoint_rows import PendingWrite as StoredWrite
from memory_plugin.db.joined import joined_to
from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import clean_text, dumps_exact
from memory_plugin.langgraph.assemble import tuple_of, tuples_of
from memory_plugin.langgraph.buffer import buffer_of, is_own_channel
from memory_plugin.langgraph.clock import follow
from memory_plugin.langgraph.codec import ValueCodec, drop_secrets
from memory_plugin.langgraph.data_types import serializer_for
from memory_plugin.langgraph.entries import Entry
from memory_plugin.langgraph.faces import FacedSaver
from memory_plugin.langgraph.known import KnownInside, KnownMessages, KnownThread
from memory_plugin.langgraph.names import original_name, stored_name
from memory_plugin.langgraph.opening import Done, Opening
from memory_plugin.langgraph.places import checkpoint_id_of, place_of
from memory_plugin.langgraph.plan import PreparedPut, TakenList, blobs_of, take_list
from memory_plugin.langgraph.putting import Putting
from memory_plugin.langgraph.reading import read
from memory_plugin.validation import identifier

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore

PRUNE_STRATEGIES = ("keep_latest", "delete")

_BOOKKEEPING = frozenset({"v", "ts", "versions_seen", "updated_channels"})
"""Parts of a checkpoint that hold no value of the application."""

# what the prune of a delta channel and a resumed subgraph must be able to read in any case
_PLAIN_METADATA = ("parents", "counters_since_delta_snapshot")


class ConversationSaver(FacedSaver):
    """A LangGraph checkpointer; made by `Memory.checkpointer` or `from_conn_string`.

    Args:
        core: the open store.
        bridge: the way of sync calls to it.
        serde: LangGraph serializer; an encrypting one leaves no value readable in the database. None builds
            only classes that hold data, unless MEMORY_CHECKPOINT_TYPES says otherwise.
        messages_channel: the channel of the root state that is the conversation.
        plain_metadata: metadata keys that stay readable beside an encrypting serializer.
        secret_names: further names in `configurable` that are never stored.
    """

    def __init__(
        self,
        core: MemoryCore,
        bridge: Bridge,
        *,
        serde: SerializerProtocol | None = None,
        messages_channel: str = "messages",
        plain_metadata: Collection[str] = (),
        secret_names: Collection[str] = (),
    ) -> None:
        super().__init__(bridge, serde=serde or serializer_for(core.settings.checkpoint_types))
        self._core = core
        self._channel = messages_channel
        self._plain = (*_PLAIN_METADATA, *plain_metadata)
        self._secret_names = tuple(secret_names)
        limit = core.settings.checkpoint_cache * 1024 * 1024
        self._remembered = KnownMessages(limit, core._shared.threads)  # noqa: SLF001 - one limit for all tenants
        self._codecs: tuple[SerializerProtocol, ValueCodec] | None = None

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | None = None,
        *,
        serde: SerializerProtocol | None = None,
        tenant: str | None = None,
        schema: str | None = None,
        pipeline: bool = False,  # noqa: ARG003 - LangGraph's own saver takes it
        **options: Any,
    ) -> Opening[ConversationSaver]:
        """A saver with a store of its own, for `async with` or `with`.

        Args:
            conn_string: `postgresql://` URL; None takes MEMORY_DATABASE_URL or the embedded database.
            pipeline: makes no difference: every operation is one round trip in any case.
            options: as for the class.
        """
        return Opening(
            conn_string,
            lambda core, bridge: cls(core, bridge, serde=serde, **options),
            tenant=tenant,
            schema=schema,
            embeddings=False,
        )

    def setup(self) -> Done:
        """Nothing is left to do: opening the store made its schema. May be awaited or just called."""
        return Done()

    @property
    def _codec(self) -> ValueCodec:
        """The codec of the serializer as it is now: `with_allowlist` exchanges it on a copy."""
        if self._codecs is None or self._codecs[0] is not self.serde:
            self._codecs = (self.serde, ValueCodec(self.serde, plain_metadata=self._plain))
        return self._codecs[1]

    @property
    def _known(self) -> KnownMessages:
        """What is known of threads; inside a transaction apart, for it may yet be rolled back."""
        joined = joined_to(self._core.database)
        if joined is None:
            return self._remembered
        return joined.part(self._remembered, lambda: KnownInside(self._remembered, joined))

    # -- reading

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint of `config`, or the latest of its thread and namespace."""
        thread_id, namespace, checkpoint_id = place_of(config)
        return await self._owned(self._read(thread_id, namespace, checkpoint_id))

    async def _read(self, thread_id: str, namespace: str, checkpoint_id: str | None) -> CheckpointTuple | None:
        known = self._known.thread(thread_id)
        found = await read(self._core.checkpoints, self._codec, known, thread_id, namespace, checkpoint_id)
        if found is not None:
            follow(found.config["configurable"]["checkpoint_id"])
        return found

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Checkpoints, newest first, read a page at a time."""
        configurable = (config or {}).get("configurable", {})
        thread, namespace = configurable.get("thread_id"), configurable.get("checkpoint_ns")
        wanted = CheckpointFilter(
            thread_id=None if thread is None else identifier(thread, "thread_id"),
            namespace=None if namespace is None else stored_name(str(namespace)),
            checkpoint_id=checkpoint_id_of(configurable),
            before=checkpoint_id_of((before or {}).get("configurable", {})),
            metadata=self._metadata_filter(filter or {}),
            limit=limit,
        )
        async with aclosing(self._each_owned(self._listed(wanted))) as tuples:
            async for each in tuples:
                yield each

    async def _listed(self, wanted: CheckpointFilter) -> AsyncGenerator[CheckpointTuple]:
        codec = self._codec
        known = None if wanted.thread_id is None else self._known.thread(wanted.thread_id)
        rows: Mapping[int, Entry] = {}

        def holding() -> Held | None:
            nonlocal rows
            if known is None:
                return None
            # whatever is found to be wrong while the page is on its way: these are the rows that it leaves out
            rows = known.rows
            return known.held

        async for page in self._core.checkpoints.list(wanted, holding):
            for each in tuples_of(codec, page, rows):
                follow(each.config["configurable"]["checkpoint_id"])
                yield each

    def _metadata_filter(self, filter: Mapping[str, Any]) -> dict[str, str]:
        text = self._codec.dump_filter(filter)
        return {key: orjson.dumps(value).decode() for key, value in orjson.loads(text).items()}

    # -- writing

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint: one statement, and of its messages only those that are new."""
        prepared = self._prepare(config, checkpoint, metadata, new_versions)
        await self._owned(self._put(prepared))
        return _stored_config(prepared)

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput` from a thread without the store's loop; encodes in the calling thread."""
        prepared = self._prepare(config, checkpoint, metadata, new_versions)
        self._bridge.run(self._put(prepared))
        return _stored_config(prepared)

    def _prepare(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> PreparedPut:
        """Encode now: the application may change everything once the put is under way."""
        thread_id, namespace, parent_id = place_of(config)
        known, codec = self._known.thread(thread_id), self._codec
        values, versions = dict(checkpoint["channel_values"]), dict(checkpoint["channel_versions"])
        unchanged = {name: version for name, version in versions.items() if new_versions.get(name) != version}
        lists = {
            # the conversation comes first: what it shares with another channel is the conversation's
            name: take_list(codec, known, namespace, name, values[name])
            for name in sorted(values, key=lambda name: name != self._channel)
            if name in versions and name not in unchanged and codec.is_messages(values[name])
        }
        blobs = blobs_of(codec, values, new_versions, changed=True, lists=lists)
        root = namespace == ""
        length = self._length(known, parent_id, values, lists, versions, unchanged) if root else None
        buffer = None
        # a copy of the first checkpoint has no parent, as the first of a thread that nothing is known of
        forks = root and (known.newest != parent_id or (parent_id is None and metadata.get("source") == "fork"))
        if root and (forks or not all(is_own_channel(name) or name == self._channel for name in new_versions)):
            buffer = buffer_of(
                codec,
                values,
                versions,
                blobs,
                known.buffer_parts,
                conversation_channel=self._channel,
                limit=self._core.settings.buffer_limit,
            )
        return PreparedPut(
            thread_id=thread_id,
            namespace=namespace,
            checkpoint_id=identifier(checkpoint["id"], "the checkpoint's id"),
            parent_id=parent_id,
            checkpoint=_checkpoint_json(codec, checkpoint),
            metadata=self._metadata(config, metadata),
            user_id=self._user(config),
            versions=versions,
            unchanged=unchanged,
            values=values,
            lists=lists,
            blobs=blobs,
            buffer=buffer,
            length=length,
            forks=forks,
        )

    def _length(
        self,
        known: KnownThread,
        parent_id: str | None,
        values: Mapping[str, Any],
        lists: Mapping[str, TakenList],
        versions: Mapping[str, Any],
        unchanged: Mapping[str, Any],
    ) -> int | None:
        """How many messages the conversation has in this root state; None where that is not new."""
        channel = self._channel
        if channel in unchanged:
            return None
        if channel in versions and channel in values:
            value = values[channel]
            return len(value) if channel in lists or (type(value) is list and not value) else None
        parent = known.checkpoints.get(("", parent_id or ""))
        return None if parent is not None and channel not in parent.spans else 0

    async def _put(self, prepared: PreparedPut) -> None:
        known = self._known.thread(prepared.thread_id)
        await Putting(self._core.checkpoints, self._codec, known, prepared, conversation=self._channel).store()
        if prepared.length is not None or prepared.forks:
            self._core.kick()

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote; may come before the checkpoint it belongs to."""
        await self._owned(self._put_writes(config, self._encode(writes), task_id, task_path))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`aput_writes` from a thread without the store's loop; encodes in the calling thread."""
        self._bridge.run(self._put_writes(config, self._encode(writes), task_id, task_path))

    def _encode(self, writes: Sequence[tuple[str, Any]]) -> Sequence[StoredWrite]:
        codec = self._codec
        return [
            StoredWrite(WRITES_IDX_MAP.get(channel, place), stored_name(channel), *codec.dump(value))
            for place, (channel, value) in enumerate(writes)
        ]

    async def _put_writes(
        self, config: RunnableConfig, writes: Sequence[StoredWrite], task_id: str, task_path: str
    ) -> None:
        thread_id, namespace, checkpoint_id = place_of(config)
        if checkpoint_id is None:
            raise InvalidInputError("Writes belong to a checkpoint: the config needs configurable.checkpoint_id.")
        await self._core.checkpoints.put_writes(
            thread_id, namespace, checkpoint_id, stored_name(str(task_id)), stored_name(str(task_path)), writes
        )

    def _metadata(self, config: RunnableConfig, metadata: CheckpointMetadata) -> str:
        complete = get_serializable_checkpoint_metadata(config, metadata)
        return self._codec.dump_metadata(drop_secrets(cast("Mapping[str, Any]", complete), extra=self._secret_names))

    def _user(self, config: RunnableConfig) -> str | None:
        user = config["configurable"].get("user_id", (config.get("metadata") or {}).get("user_id"))
        if user is None or user == "":
            return self._core.user_id
        return identifier(clean_text(str(user)), "user_id")

    # -- housekeeping

    async def adelete_thread(self, thread_id: str) -> None:
        """Erase a thread: its checkpoints in every namespace, and the conversation with its messages."""
        await self.aprune([thread_id], strategy="delete")

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints of these runs, and the messages that only they had.

        A checkpoint that a delta channel of a later one still lives on stays.

        Raises:
            InvalidInputError: one id instead of a list.
        """
        if isinstance(run_ids, str):
            raise InvalidInputError("run_ids must be a list of run ids, not one text.")
        runs = [clean_text(str(run_id)) for run_id in run_ids]
        self._known.clear()
        await self._owned(self._core.checkpoints.delete_for_runs(runs, self._channel))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history.

        Raises:
            InvalidInputError: the target has a history of its own.
        """
        source = identifier(source_thread_id, "source_thread_id")
        target = identifier(target_thread_id, "target_thread_id")
        self._known.forget(target)
        await self._owned(self._copy(source, target))

    async def _copy(self, source: str, target: str) -> None:
        await self._core.checkpoints.copy_thread(source, target)
        self._core.kick()

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Thin out the history of threads.

        "keep_latest" keeps the newest checkpoint of each namespace, with the ancestors that its
        delta channels live on; "delete" erases the threads. Messages outlive "keep_latest": they
        are the conversation.

        Raises:
            InvalidInputError: another strategy, or one id instead of a list.
        """
        if isinstance(thread_ids, str):
            raise InvalidInputError("thread_ids must be a list of thread ids, not one text.")
        if strategy not in PRUNE_STRATEGIES:
            raise InvalidInputError(f"Unknown strategy {strategy!r}: use one of {', '.join(PRUNE_STRATEGIES)}.")
        ids = [identifier(thread_id, "thread_id") for thread_id in thread_ids]
        checkpoints = self._core.checkpoints
        if strategy == "delete":
            for thread_id in ids:
                self._known.forget(thread_id)
        await self._owned(checkpoints.prune(ids) if strategy == "keep_latest" else checkpoints.delete_threads(ids))

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What each channel got since its nearest stored value, in one query."""
        if not channels:
            return {}
        return await self._owned(self._delta_history(config, channels))

    async def _delta_history(
        self, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        thread_id, namespace, checkpoint_id = place_of(config)
        if checkpoint_id is None:
            latest = await self._core.checkpoints.get(thread_id, namespace)
            checkpoint_id = latest.checkpoint_id if latest is not None else ""
        rows = await self._core.checkpoints.delta_history(
            thread_id, namespace, checkpoint_id, [stored_name(channel) for channel in channels]
        )
        codec = self._codec
        history: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        for row in rows:
            channel = original_name(row["channel"])
            entry = history[channel]
            if row["part"] == "write":
                value = codec.load(row["value"], row["type"], row["blob"])
                entry["writes"].append((original_name(row["task_id"]), channel, value))
            elif row["in_messages"]:
                seed = await self._core.checkpoints.get(thread_id, namespace, row["checkpoint_id"])
                if seed is None:  # thinned out or deleted since: then all of it is another by now
                    return await self._delta_history(config, channels)
                entry["seed"] = tuple_of(codec, seed, None).checkpoint["channel_values"][channel]
            else:
                entry["seed"] = codec.load(row["value"], row["type"], row["blob"])
        return history

    def get_next_version(self, current: str | float | None, channel: None) -> str:  # noqa: ARG002 - LangGraph's
        """A version greater than `current`, with a random end: two forks never share one."""
        past = "" if current is None else str(current).split(".", 1)[0]
        # as wide as it was: versions are compared as text, also those that another saver gave
        return f"{int(past or 0) + 1:0{max(12, len(past))}}.{random.getrandbits(52):013x}"


def _stored_config(prepared: PreparedPut) -> RunnableConfig:
    return {
        "configurable": {
            "thread_id": prepared.thread_id,
            "checkpoint_ns": original_name(prepared.namespace),
            "checkpoint_id": prepared.checkpoint_id,
        }
    }


def _checkpoint_json(codec: ValueCodec, checkpoint: Checkpoint) -> str:
    rest: dict[str, Any] = {
        key: value for key, value in checkpoint.items() if key not in {"id", "channel_values", "channel_versions"}
    }
    if any(value for key, value in rest.items() if key not in _BOOKKEEPING):
        return codec.dump_metadata(rest)  # values of the application, such as the pending sends of old versions
    return dumps_exact(rest, tuples=True) or codec.dump_metadata(rest)
