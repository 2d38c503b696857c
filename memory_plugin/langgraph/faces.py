"""What makes one async checkpointer usable from everywhere: any thread, any event loop, sync or async."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

if TYPE_CHECKING:
    from memory_plugin.bridge import Bridge

T = TypeVar("T")


class FacedSaver(BaseCheckpointSaver[str]):
    """A checkpointer whose async methods do the work, on the event loop that owns the store.

    The sync methods are the async ones, sent to that loop and waited for.
    """

    def __init__(self, bridge: Bridge, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self._bridge = bridge

    async def _owned(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the owning loop, whichever loop this is.

        Raises:
            WrongLoopError: the owning loop has ended.
        """
        return await self._bridge.reach(coroutine)

    async def _each_owned(self, source: AsyncGenerator[T]) -> AsyncGenerator[T]:
        """The same for an async generator, step by step."""
        if asyncio.get_running_loop() is self._bridge.loop:
            async with aclosing(source):
                async for item in source:
                    yield item
            return

        end: Any = object()
        try:
            while (item := await self._owned(_next(source, end))) is not end:
                yield item
        finally:
            await self._owned(source.aclose())

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


async def _next(source: AsyncGenerator[T], end: T) -> T:
    return await anext(source, end)
