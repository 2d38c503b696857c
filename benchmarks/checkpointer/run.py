"""One run: opens the contenders, measures the chosen rows, in an order that favours nobody."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from benchmarks.checkpointer.cells import CELLS, aget_tuple, aput, aput_writes, count, measure
from benchmarks.checkpointer.contenders import Contender, open_all, titles
from benchmarks.checkpointer.measured import Result
from benchmarks.checkpointer.proxy import Proxy, running_proxy
from benchmarks.checkpointer.report import Report, machine
from benchmarks.checkpointer.rows import BY_KEY, ROWS
from benchmarks.checkpointer.server import Server, open_server, through, upstream_of

DELAYED = {
    "aput-1000-1ms": (aput(1000), 0.001),
    "aput-1000-10ms": (aput(1000), 0.010),
    "aget_tuple-100-1ms": (aget_tuple(100), 0.001),
    "aput_writes-1ms": (aput_writes(100), 0.001),
}


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: operations a cell, turns of the agent, and slices of the throughput."""

    iterations: int = 60
    turns: int = 200
    slices: int = 4
    seconds: float = 1.0
    tasks: int = 64


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run; `url` None starts an embedded server."""

    groups: Sequence[str]
    size: Size
    seed: int = 1
    url: str | None = None
    synchronous: bool = False


Advance = Callable[[str, float], None]
"""Told what is measured, and how much of it is done since the last call, in steps."""


def steps(plan: Plan) -> int:
    """How many steps a run takes: an operation of each contender is one, so is a turn, a slice is ten."""
    size, chosen = plan.size, [row for row in ROWS if row.group in plan.groups]
    latency = sum(row.key in CELLS or row.key in DELAYED for row in chosen) * size.iterations
    return latency


async def run(plan: Plan, advance: Advance) -> Report:
    """Measure everything that is planned."""
    results = {row.key: Result(row) for row in ROWS if row.group in plan.groups}
    before = os.getloadavg()[0]
    async with open_server(plan.url, synchronous=plan.synchronous) as server:
        version = await server.version()
        await _single_operations(plan, server, results, advance)
    return Report(
        list(results.values()),
        titles(),
        machine(version, (before, os.getloadavg()[0])),
        {
            "iterations": plan.size.iterations,
            "seed": plan.seed,
            "synchronous_commit": "on" if plan.synchronous else "off",
        },
    )


async def _single_operations(plan: Plan, server: Server, results: dict[str, Result], advance: Advance) -> None:
    chance = random.Random(plan.seed)
    local = [key for key in results if key in CELLS]
    delayed = [key for key in results if key in DELAYED]
    if not local and not delayed:
        return
    async with (
        server.databases("operations") as urls,
        open_all(urls, server.directory / "operations.sqlite", synchronous=plan.synchronous) as contenders,
    ):
        for key in local:
            await measure(
                CELLS[key],
                results[key],
                contenders,
                plan.size.iterations,
                chance,
                lambda: advance(key, 1),  # noqa: B023
            )
        async with _far_away(urls) as (proxy, distant):
            for key in local:
                await count(CELLS[key], results[key], distant, proxy, chance)
            for key in delayed:
                cell, delay = DELAYED[key]
                await count(cell, results[key], distant, proxy, chance)
                await proxy.delay(delay)
                await measure(
                    cell,
                    results[key],
                    distant,
                    plan.size.iterations,
                    chance,
                    lambda: advance(key, 1),  # noqa: B023
                )
                await proxy.delay(0)


@asynccontextmanager
async def _far_away(urls: dict[str, str]) -> AsyncIterator[tuple[Proxy, list[Contender]]]:
    """The same databases by way of a proxy."""
    async with (
        running_proxy(*upstream_of(list(urls.values()))) as proxy,
        open_all({name: through(url, proxy.port) for name, url in urls.items()}) as contenders,
    ):
        yield proxy, contenders
