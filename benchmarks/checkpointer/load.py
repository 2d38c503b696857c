"""Many tasks at once: each works on a thread of its own, the contenders take turns slice by slice."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from benchmarks.checkpointer.cells import threads, undisturbed
from benchmarks.checkpointer.contenders import Contender
from benchmarks.checkpointer.conversation import Thread
from benchmarks.checkpointer.measured import Result

LENGTH = 100
"""Messages of each thread when a slice begins; the rows say so."""

_ANSWERS = 128
"""More than a thread takes in a slice."""

Work = Callable[[Contender, Thread, random.Random], Awaitable[object]]


async def _aput(_: Contender, thread: Thread, __: random.Random) -> None:
    await thread.put(*thread.appended())


async def _aput_writes(contender: Contender, thread: Thread, chance: random.Random) -> None:
    task = str(uuid.UUID(int=chance.getrandbits(128)))
    await contender.saver.aput_writes(thread.config, thread.writes(), task, "~__pregel_pull, agent")


async def _aget_tuple(contender: Contender, thread: Thread, _: random.Random) -> None:
    found = await contender.saver.aget_tuple(thread.newest)
    assert found is not None
    assert len(found.checkpoint["channel_values"]["messages"]) == len(thread.messages)


# `writes` piled up on a checkpoint would burden whoever reads it: they go last
LOADS: dict[str, Work] = {
    "throughput-aput": _aput,
    "throughput-aget_tuple": _aget_tuple,
    "throughput-aput_writes": _aput_writes,
}


async def measure_load(
    key: str,
    result: Result,
    contenders: Sequence[Contender],
    *,
    tasks: int,
    slices: int,
    seconds: float,
    length: int,
    chance: random.Random,
    advance: Callable[[int], None],
) -> None:
    """Operations finished in a second, by slices; a sample is a slice.

    Threads grow while they are put to, by more the faster a saver is; each slice begins anew.
    """
    order = list(contenders)
    caught_up: dict[str, float] = {}
    grown = {each.name: length for each in contenders}
    for contender in order:
        await threads(contender, chance, length, tasks, "load")
    for _ in range(slices):
        chance.shuffle(order)
        for contender in order:
            stock = contender.stock[("load", length)][:tasks]
            result.of(contender.name).samples.append(await _slice(LOADS[key], contender, stock, seconds, chance))
            grown[contender.name] = max(grown[contender.name], *(len(each.messages) for each in stock))
            began = time.perf_counter()
            await contender.settle()
            caught_up[contender.name] = caught_up.get(contender.name, 0) + time.perf_counter() - began
            advance(1)
    if key == "throughput-aput":
        lengths = ", ".join(f"{name} {length}" for name, length in grown.items())
        result.notes["messages at the end of the longest slice"] = lengths
        result.notes["index of words, made up after a slice by ours"] = (
            f"{caught_up[contenders[0].name] / slices:.2f} s"
        )


async def _slice(
    work: Work, contender: Contender, stock: Sequence[Thread], seconds: float, chance: random.Random
) -> float:
    """Operations a second of all tasks together."""
    for thread in stock:
        thread.rewind()
    # the first one of each thread is not counted: connections are opened, statements prepared
    await asyncio.gather(*(_aput(contender, thread, chance) for thread in stock))
    await asyncio.gather(*(work(contender, thread, chance) for thread in stock))
    await contender.settle()
    for thread in stock:
        thread.think(_ANSWERS)

    async def repeat(thread: Thread, end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await work(contender, thread, chance)
            done += 1
        return done

    with undisturbed():
        began = time.perf_counter()
        done = await asyncio.gather(*(repeat(thread, began + seconds) for thread in stock))
        return sum(done) / (time.perf_counter() - began)
