"""Single operations, timed one at a time: the contenders take turns in random order.

An operation is made ready first, without being timed; then nothing but the saver's own call is.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.checkpointer.contenders import Contender
from benchmarks.checkpointer.conversation import Thread
from benchmarks.checkpointer.measured import Processor, Result
from benchmarks.checkpointer.proxy import Proxy
from benchmarks.processor import ACCOUNTED, account_of, worked

WARM = 4
"""Operations that are not counted, before those that are."""

WATCHED = 20
"""Operations of which it is told how long processors worked."""

SETTLE = 0.1
"""Seconds after which what savers put off is done between operations, before it would start by itself."""


@dataclass(frozen=True, slots=True)
class Operation:
    """A call to time, and how to make sure afterwards that it did what it should."""

    call: Callable[[], Awaitable[Any]]
    check: Callable[[Any], None] = lambda _: None

    async def __call__(self) -> None:
        """Call and check, without a watch."""
        self.check(await self.call())


Cell = Callable[[Contender, random.Random, int], AsyncIterator[Operation]]
"""Gives operations to time, one after the other, for about so many iterations."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile: a full collection takes longer than any operation here."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


async def threads(
    contender: Contender, chance: random.Random, length: int, count: int, use: str = "messages"
) -> list[Thread]:
    """Threads with conversations of about this length, loaded; from the stock as far as it goes."""
    stock = contender.stock.setdefault((use, length), [])
    while len(stock) < count:
        thread = Thread(contender.saver, f"{use}-{length}-{len(stock) + 1}", chance)
        await thread.begin(length)
        stock.append(thread)
    await contender.settle()
    for thread in stock[:count]:
        await thread.load(contender.saver)
    return stock[:count]


def _enough(length: int, iterations: int) -> int:
    """So many threads that none grows by more than a tenth while it is measured."""
    return max(3, -(-(iterations + WARM) * 10 // length))


def aput(length: int, *, fresh: bool = False) -> Cell:
    """One more answer is appended to the list and put.

    With `fresh`, a saver that knows nothing has just loaded the list.
    """

    async def operations(contender: Contender, chance: random.Random, iterations: int) -> AsyncIterator[Operation]:
        for thread in itertools.cycle(await threads(contender, chance, length, _enough(length, iterations))):
            if fresh:
                await thread.load(contender.fresh())
            checkpoint, metadata, versions = thread.appended()
            yield Operation(partial(thread.put, checkpoint, metadata, versions))

    return operations


def aput_writes(length: int) -> Cell:
    """What a task wrote, on a checkpoint that nobody reads."""

    async def operations(contender: Contender, chance: random.Random, iterations: int) -> AsyncIterator[Operation]:
        for thread in itertools.cycle(await threads(contender, chance, length, max(3, iterations // 4), "writes")):
            writes, task = thread.writes(), str(uuid.UUID(int=chance.getrandbits(128)))
            yield Operation(partial(contender.saver.aput_writes, thread.config, writes, task, "~__pregel_pull, agent"))

    return operations


def aget_tuple(length: int, *, first: bool = False) -> Cell:
    """The newest checkpoint of a thread that was read before; with `first`, by a saver that knows nothing."""

    async def operations(contender: Contender, chance: random.Random, _: int) -> AsyncIterator[Operation]:
        for thread in itertools.cycle(await threads(contender, chance, length, 4)):
            saver = contender.fresh() if first else contender.saver
            yield Operation(partial(saver.aget_tuple, thread.newest), partial(_check, thread))

    return operations


def _check(thread: Thread, found: Any) -> None:
    messages = found.checkpoint["channel_values"]["messages"]
    if len(messages) != len(thread.messages) or messages[-1] != thread.messages[-1]:
        raise AssertionError(f"{type(thread.saver).__name__} gave another conversation than the one it was given.")


async def _listed(contender: Contender, thread: Thread, limit: int) -> list[Any]:
    return [each async for each in contender.saver.alist(thread.newest, limit=limit)]


def _check_list(thread: Thread, limit: int, listed: list[Any]) -> None:
    if len(listed) != limit:
        raise AssertionError(f"{type(thread.saver).__name__} listed {len(listed)} checkpoints instead of {limit}.")
    _check(thread, listed[0])


def alist(limit: int, checkpoints: int) -> Cell:
    """The newest checkpoints of a thread that grew by a message at each."""

    async def operations(contender: Contender, chance: random.Random, _: int) -> AsyncIterator[Operation]:
        made = await threads(contender, chance, 1, 2, "history")
        for thread in made:
            while len(thread.messages) < checkpoints:
                await thread.put(*thread.appended())
        await contender.settle()
        for thread in itertools.cycle(made):
            yield Operation(partial(_listed, contender, thread, limit), partial(_check_list, thread, limit))

    return operations


def by_driver(statement: str) -> Cell:
    """The least that a saver can do with its driver; one that cannot be asked gives no operation."""

    async def operations(contender: Contender, _chance: random.Random, _iterations: int) -> AsyncIterator[Operation]:
        while contender.driver is not None:
            yield Operation(partial(contender.driver, statement))

    return operations


def cells(shrink: int = 1) -> dict[str, Cell]:
    """By the key of the row; `shrink` makes conversations so many times shorter, to try the benchmark itself."""
    long, medium, short = (max(length // shrink, 2) for length in (1000, 100, 10))
    return {
        "floor-select": by_driver("SELECT 1"),
        "floor-insert": by_driver("INSERT INTO public.floor VALUES ('x')"),
        "aput-10": aput(short),
        "aput-100": aput(medium),
        "aput-1000": aput(long),
        "aput-1000-fresh": aput(long, fresh=True),
        "aput_writes": aput_writes(short),
        "aget_tuple-10": aget_tuple(short),
        "aget_tuple-100": aget_tuple(medium),
        "aget_tuple-1000": aget_tuple(long),
        "aget_tuple-1000-first": aget_tuple(long, first=True),
        "alist-10": alist(10, max(medium, 10)),
    }


DELAYED = {
    "aput-1000-1ms": ("aput-1000", 0.001),
    "aput-1000-10ms": ("aput-1000", 0.010),
    "aget_tuple-100-1ms": ("aget_tuple-100", 0.001),
    "aput_writes-1ms": ("aput_writes", 0.001),
}
"""Rows that are another row's operation, so many seconds of round trip away."""


class Watch:
    """Tells how long processors worked for an operation: this process, and the server's for one contender."""

    def __init__(self, backends: Sequence[int]) -> None:
        self._files = [account_of(pid) for pid in backends]
        self._can_tell = bool(self._files) and all(os.access(file, os.R_OK) for file in self._files)
        self._client = self._server = 0

    @classmethod
    async def of(cls, contender: Contender) -> Watch:
        """One for the processes that work for the contender now."""
        return cls(await contender.backends())

    def _served(self) -> int:
        return sum(map(worked, self._files))

    def start(self) -> None:
        """Note what was done until now."""
        if self._can_tell:
            self._server = self._served()
            self._client = time.process_time_ns()

    async def stop(self, work: list[Processor]) -> None:
        """Add what was done since."""
        if self._can_tell:
            client = time.process_time_ns() - self._client
            await asyncio.sleep(ACCOUNTED)
            work.append(Processor(client / 1e6, (self._served() - self._server) / 1e6))


async def measure(
    cell: Cell,
    result: Result,
    contenders: Sequence[Contender],
    iterations: int,
    chance: random.Random,
    advance: Callable[[], None],
) -> None:
    """Time this cell, in milliseconds."""
    order = []
    for contender in contenders:
        operations = cell(contender, chance, iterations)
        for _ in range(WARM):
            operation = await anext(operations, None)
            if operation is None:
                break  # nothing that this one can do
            await operation()
            await contender.settle()
        else:
            order.append((contender, operations))
    settled = time.perf_counter()
    with undisturbed():
        for _ in range(iterations):
            chance.shuffle(order)
            for contender, operations in order:
                operation = await anext(operations)
                began = time.perf_counter()
                found = await operation.call()
                result.of(contender.name).samples.append((time.perf_counter() - began) * 1000)
                operation.check(found)
                del found  # or the next one would free this one's messages while it is watched
            if time.perf_counter() - settled > SETTLE:
                for contender, _ in order:
                    await contender.settle()
                settled = time.perf_counter()
            advance()
        await _watch(order, result, min(iterations, WATCHED))


async def _watch(order: Sequence[tuple[Contender, AsyncIterator[Operation]]], result: Result, iterations: int) -> None:
    """Add how long processors work; apart, because looking at them lets caches and clocks of processors cool down."""
    watches = {contender.name: await Watch.of(contender) for contender, _ in order}
    for _ in range(iterations):
        for contender, operations in order:
            operation, watch = await anext(operations), watches[contender.name]
            watch.start()
            found = await operation.call()
            await watch.stop(result.of(contender.name).work)
            operation.check(found)
            del found
        for contender, _ in order:
            await contender.settle()


async def count(
    cell: Cell,
    result: Result,
    contenders: Sequence[Contender],
    proxy: Proxy,
    chance: random.Random,
    iterations: int = 5,
) -> None:
    """Count the round trips and the bytes of this cell's operation."""
    for contender in contenders:
        operations = cell(contender, chance, iterations)
        for _ in range(WARM):
            await (await anext(operations))()
        for _ in range(iterations):
            operation = await anext(operations)
            await contender.settle()
            await proxy.take()
            await operation()
            result.of(contender.name).traffic.append(await proxy.take())
