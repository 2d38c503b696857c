"""ConversationSaver: LangGraph's checkpointer over the store's own conversations.

    async with Memory.open() as memory:
        graph = builder.compile(checkpointer=memory.checkpointer)

What it writes is what chat history shows and recall finds: the same rows.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import orjson
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    SerializerProtocol,
    get_serializable_checkpoint_metadata,
)

from memory_plugin.capabilities.checkpoints import CheckpointFilter, CheckpointPut
from memory_plugin.capabilities.checkpoints import PendingWrite as StoredWrite
from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import dumps_exact, jsonb_text
from memory_plugin.langgraph.assemble import (
    ListToStore,
    blobs_of,
    buffer_of,
    is_own_channel,
    learn_from_put,
    plan_messages,
    take_list,
    tuple_of,
)
from memory_plugin.langgraph.codec import ValueCodec, drop_secrets
from memory_plugin.langgraph.known import KnownMessages, KnownThread
from memory_plugin.langgraph.opening import Opening
from memory_plugin.validation import identifier

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge
    from memory_plugin.core import MemoryCore

PRUNE_STRATEGIES = ("keep_latest", "delete")

# what the prune of a delta channel and a resumed subgraph must be able to read in any case
_PLAIN_METADATA = ("parents", "counters_since_delta_snapshot")


class ConversationSaver(BaseCheckpointSaver[str]):
    """A LangGraph checkpointer; made by `Memory.checkpointer` or `from_conn_string`.

    Args:
        core: the open store.
        bridge: the way of sync calls to it.
        serde: LangGraph serializer; an encrypting one leaves no value readable in the database.
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
        super().__init__(serde=serde)
        self._core = core
        self._bridge = bridge
        self._channel = messages_channel
        self._plain = (*_PLAIN_METADATA, *plain_metadata)
        self._secret_names = tuple(secret_names)
        self._known = KnownMessages()
        self._codecs: tuple[SerializerProtocol, ValueCodec] | None = None

    @classmethod
    def from_conn_string(
        cls,
        conn_string: str | None = None,
        *,
        serde: SerializerProtocol | None = None,
        tenant: str | None = None,
        schema: str | None = None,
        **options: Any,
    ) -> Opening[ConversationSaver]:
        """A saver with a store of its own, for `async with` or `with`.

        Args:
            conn_string: `postgresql://` URL; None takes MEMORY_DATABASE_URL or the embedded database.
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

    # -- reading

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint of `config`, or the latest of its thread and namespace."""
        thread_id, namespace, checkpoint_id = _place(config)
        row = await self._core.checkpoints.get(thread_id, namespace, checkpoint_id)
        if row is None:
            return None
        return tuple_of(self._codec, row, self._known.thread(thread_id), self._channel)

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
        thread = configurable.get("thread_id")
        wanted = CheckpointFilter(
            thread_id=None if thread is None else str(thread),
            namespace=configurable.get("checkpoint_ns"),
            checkpoint_id=configurable.get("checkpoint_id") or None,
            before=(before or {}).get("configurable", {}).get("checkpoint_id"),
            metadata=self._metadata_filter(filter or {}),
            limit=limit,
        )
        codec = self._codec
        async for row in self._core.checkpoints.list(wanted):
            yield tuple_of(codec, row, None, self._channel)

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
        thread_id, namespace, parent_id = _place(config)
        known = self._known.thread(thread_id)
        codec = self._codec
        values = checkpoint["channel_values"]
        versions = checkpoint["channel_versions"]
        # everything that the application may change later is encoded before the first await
        lists = [
            take_list(codec, known, channel, str(versions[channel]), value, channel in new_versions)
            for channel, value in values.items()
            if channel in versions and codec.is_messages(value)
        ]
        put = CheckpointPut(
            thread_id=thread_id,
            namespace=namespace,
            checkpoint_id=checkpoint["id"],
            parent_id=parent_id,
            checkpoint=_checkpoint_json(checkpoint),
            versions=jsonb_text(dict(versions)),
            metadata=self._metadata(config, metadata),
            user_id=self._user(config),
            blobs=blobs_of(codec, values, new_versions),
        )
        buffer = self._buffer(namespace, values, versions, new_versions)
        async with known.lock:
            if lists:
                await self._read_parent(known, thread_id, namespace, parent_id, lists)
            await self._store(put, known, lists, versions, buffer)
        return {
            "configurable": {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint["id"]}
        }

    async def _store(
        self,
        put: CheckpointPut,
        known: KnownThread,
        lists: Sequence[ListToStore],
        versions: ChannelVersions,
        buffer: tuple[str, list[str]] | None,
    ) -> None:
        plan = plan_messages(self._codec, known, put.namespace, lists, self._channel, versions)
        changed = buffer is not None and buffer[0] != known.buffer
        base = await self._core.checkpoints.put(
            CheckpointPut(
                thread_id=put.thread_id,
                namespace=put.namespace,
                checkpoint_id=put.checkpoint_id,
                parent_id=put.parent_id,
                checkpoint=put.checkpoint,
                versions=put.versions,
                metadata=put.metadata,
                user_id=put.user_id,
                blobs=put.blobs,
                refs=plan.refs,
                messages=plan.fresh,
                message_versions=jsonb_text(plan.versions),
                visible=plan.visible,
                promoted=plan.promoted,
                buffer=buffer[0] if buffer is not None and changed else None,
                buffer_removed=buffer[1] if buffer is not None and changed else (),
            )
        )
        if buffer is not None:
            known.buffer = buffer[0]
        if learn_from_put(known, put.namespace, lists, plan, base, self._channel):
            known.checkpoints.add((put.namespace, put.checkpoint_id))
            known.trim(sum(len(each.messages) for each in lists))
        else:
            self._known.forget(put.thread_id)
        if plan.visible:
            self._core.kick()

    async def _read_parent(
        self,
        known: KnownThread,
        thread_id: str,
        namespace: str,
        parent_id: str | None,
        lists: Sequence[ListToStore],
    ) -> None:
        """Learn the parent's messages where another process, or another saver, wrote them."""
        if parent_id is None or (namespace, parent_id) in known.checkpoints:
            return
        if all(len(taken.encoded) == 0 for taken in lists):
            return
        row = await self._core.checkpoints.get(thread_id, namespace, parent_id)
        if row is not None:
            tuple_of(self._codec, row, known, self._channel)

    async def aput_writes(
        self,
        config: RunnableConfig,
        writes: Sequence[tuple[str, Any]],
        task_id: str,
        task_path: str = "",
    ) -> None:
        """Store what a task wrote; may come before the checkpoint it belongs to."""
        thread_id, namespace, checkpoint_id = _place(config)
        if checkpoint_id is None:
            raise InvalidInputError("Writes belong to a checkpoint: the config needs configurable.checkpoint_id.")
        codec = self._codec
        stored = [
            StoredWrite(WRITES_IDX_MAP.get(channel, place), channel, *codec.dump(value))
            for place, (channel, value) in enumerate(writes)
        ]
        await self._core.checkpoints.put_writes(
            thread_id, namespace, checkpoint_id, str(task_id), task_path, stored
        )

    def _metadata(self, config: RunnableConfig, metadata: CheckpointMetadata) -> str:
        complete = get_serializable_checkpoint_metadata(config, metadata)
        return self._codec.dump_metadata(drop_secrets(cast("Mapping[str, Any]", complete), extra=self._secret_names))

    def _user(self, config: RunnableConfig) -> str | None:
        user = config["configurable"].get("user_id", (config.get("metadata") or {}).get("user_id"))
        return self._core.user_id if user is None else str(user)

    def _buffer(
        self,
        namespace: str,
        values: Mapping[str, Any],
        versions: ChannelVersions,
        new_versions: ChannelVersions,
    ) -> tuple[str, list[str]] | None:
        if namespace or all(is_own_channel(channel) or channel == self._channel for channel in new_versions):
            return None
        return buffer_of(self._codec, values, list(versions), self._core.settings.buffer_limit)

    # -- housekeeping

    async def adelete_thread(self, thread_id: str) -> None:
        """Erase a thread: its checkpoints in every namespace, and the conversation with its messages."""
        self._known.forget(str(thread_id))
        await self._core.checkpoints.delete_thread(str(thread_id))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Erase the checkpoints of these runs, and the messages that only they had.

        A checkpoint that a delta channel of a later one still lives on stays.
        """
        self._known.clear()
        await self._core.checkpoints.delete_for_runs([str(run_id) for run_id in run_ids])

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a thread with its whole history."""
        await self._core.checkpoints.copy_thread(str(source_thread_id), str(target_thread_id))
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
        ids = [str(thread_id) for thread_id in thread_ids]
        if strategy == "delete":
            for thread_id in ids:
                await self.adelete_thread(thread_id)
        elif ids:
            await self._core.checkpoints.prune(ids)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """What each channel got since its nearest stored value, in one query."""
        if not channels:
            return {}
        thread_id, namespace, checkpoint_id = _place(config)
        if checkpoint_id is None:
            latest = await self._core.checkpoints.get(thread_id, namespace)
            checkpoint_id = latest.checkpoint_id if latest is not None else ""
        rows = await self._core.checkpoints.delta_history(thread_id, namespace, checkpoint_id, channels)
        codec = self._codec
        history: dict[str, DeltaChannelHistory] = {channel: {"writes": []} for channel in channels}
        for row in rows:
            entry = history[row["channel"]]
            if row["part"] == "write":
                value = codec.load(row["value"], row["type"], row["blob"])
                entry["writes"].append(cast("PendingWrite", (row["task_id"], row["channel"], value)))
            elif row["in_messages"]:
                entry["seed"] = await self._messages_of(thread_id, namespace, row["checkpoint_id"], row["channel"])
            else:
                entry["seed"] = codec.load(row["value"], row["type"], row["blob"])
        return history

    async def _messages_of(self, thread_id: str, namespace: str, checkpoint_id: str, channel: str) -> Any:
        row = await self._core.checkpoints.get(thread_id, namespace, checkpoint_id)
        assert row is not None  # its refs were just read
        return tuple_of(self._codec, row, None, self._channel).checkpoint["channel_values"][channel]

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        """A version greater than `current`, with a random end: two forks never share one."""
        number = 0 if current is None else int(str(current).split(".", 1)[0])
        return f"{number + 1:012}.{random.getrandbits(32):08x}"  # noqa: S311 - told apart, not kept secret

    # -- the sync face

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """`aget_tuple` from a thread without the store's loop."""
        return self._bridge.run(self.aget_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """`alist` from a thread without the store's loop."""
        return self._bridge.iterate(self.alist(config, filter=filter, before=before, limit=limit))

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """`aput` from a thread without the store's loop."""
        return self._bridge.run(self.aput(config, checkpoint, metadata, new_versions))

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """`aput_writes` from a thread without the store's loop."""
        self._bridge.run(self.aput_writes(config, writes, task_id, task_path))

    def delete_thread(self, thread_id: str) -> None:
        """`adelete_thread` from a thread without the store's loop."""
        self._bridge.run(self.adelete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """`adelete_for_runs` from a thread without the store's loop."""
        self._bridge.run(self.adelete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """`acopy_thread` from a thread without the store's loop."""
        self._bridge.run(self.acopy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """`aprune` from a thread without the store's loop."""
        self._bridge.run(self.aprune(thread_ids, strategy=strategy))

    def get_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """`aget_delta_channel_history` from a thread without the store's loop."""
        return self._bridge.run(self.aget_delta_channel_history(config=config, channels=channels))


class Done:
    """An answer that is there already: `await saver.setup()` and `saver.setup()` both work."""

    def __await__(self) -> Iterator[None]:
        return iter(())


def _place(config: RunnableConfig) -> tuple[str, str, str | None]:
    """Thread, namespace and checkpoint id of a config."""
    configurable = config.get("configurable") or {}
    if configurable.get("thread_id") is None:
        raise InvalidInputError("The config needs configurable.thread_id: the conversation to read or write.")
    return (
        identifier(configurable["thread_id"], "thread_id"),
        str(configurable.get("checkpoint_ns") or ""),
        configurable.get("checkpoint_id") or None,
    )


def _checkpoint_json(checkpoint: Checkpoint) -> str:
    rest = {
        key: value for key, value in checkpoint.items() if key not in {"id", "channel_values", "channel_versions"}
    }
    return dumps_exact(rest, order=False, tuples=True) or jsonb_text(rest)
