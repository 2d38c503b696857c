"""The public conformance suite, through every way into the checkpointer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

from memory_plugin import Memory
from memory_plugin.langgraph import ConversationSaver

KNOWN_TESTS = {
    "put": 17,
    "put_writes": 10,
    "get_tuple": 10,
    "list": 16,
    "delete_thread": 5,
    "delete_for_runs": 7,
    "copy_thread": 8,
    "prune": 8,
}
"""How many tests there were of each capability when this was written; the suite may grow."""

Opened = Callable[[str], AbstractAsyncContextManager[BaseCheckpointSaver[str]]]


class Threaded(BaseCheckpointSaver[str]):
    """Drives the sync face of a saver, each call in a thread of its own."""

    def __init__(self, saver: ConversationSaver) -> None:
        super().__init__(serde=saver.serde)
        self.saver = saver

    async def aget_tuple(self, config: Any) -> Any:
        return await asyncio.to_thread(self.saver.get_tuple, config)

    async def alist(self, config: Any, **options: Any) -> AsyncIterator[Any]:
        for each in await asyncio.to_thread(lambda: list(self.saver.list(config, **options))):
            yield each

    async def aput(self, *arguments: Any) -> Any:
        return await asyncio.to_thread(self.saver.put, *arguments)

    async def aput_writes(self, *arguments: Any, **options: Any) -> None:
        await asyncio.to_thread(self.saver.put_writes, *arguments, **options)

    async def adelete_thread(self, thread_id: str) -> None:
        await asyncio.to_thread(self.saver.delete_thread, thread_id)

    async def adelete_for_runs(self, run_ids: Any) -> None:
        await asyncio.to_thread(self.saver.delete_for_runs, run_ids)

    async def acopy_thread(self, source: str, target: str) -> None:
        await asyncio.to_thread(self.saver.copy_thread, source, target)

    async def aprune(self, thread_ids: Any, **options: Any) -> None:
        await asyncio.to_thread(self.saver.prune, thread_ids, **options)


@asynccontextmanager
async def of_a_memory(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with Memory.open(url) as memory:
        yield memory.checkpointer


@asynccontextmanager
async def from_conn_string(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with ConversationSaver.from_conn_string(url) as saver:
        yield saver


@asynccontextmanager
async def sync_beside_a_loop(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    async with ConversationSaver.from_conn_string(url) as saver:
        yield Threaded(saver)


@asynccontextmanager
async def async_on_another_loop(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    with ConversationSaver.from_conn_string(url) as saver:  # the loop of the store is on a thread of its own
        yield saver


@asynccontextmanager
async def encrypting(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=b"0123456789abcdef")
    # the suite filters on the keys that its metadata has
    plain = ["score", "writes", "run_id", "custom_key", "number", "flag", "tags"]
    async with ConversationSaver.from_conn_string(url, serde=serde, plain_metadata=plain) as saver:
        yield saver


@asynccontextmanager
async def never_warm(url: str) -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Forgets between any two calls, as if each came from another process."""

    class Forgetful(ConversationSaver):
        async def aput(self, *arguments: Any) -> Any:
            self._known.clear()
            return await super().aput(*arguments)

    async with Memory.open(url, embeddings=False) as memory:
        yield Forgetful(memory, memory.bridge)


@pytest.mark.parametrize(
    "opened",
    [of_a_memory, from_conn_string, sync_beside_a_loop, async_on_another_loop, encrypting, never_warm],
    ids=lambda opened: opened.__name__,
)
async def test_every_capability_is_there_and_passes(opened: Opened, database_url: str) -> None:
    @checkpointer_test(name=opened.__name__)
    async def saver() -> AsyncIterator[BaseCheckpointSaver[str]]:
        async with opened(database_url) as each:
            yield each

    report = await validate(saver)

    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert {name for name, result in report.results.items() if result.detected and result.passed} >= set(KNOWN_TESTS)
    assert {name: report.results[name].tests_passed >= count for name, count in KNOWN_TESTS.items()} == dict.fromkeys(
        KNOWN_TESTS, True
    )
