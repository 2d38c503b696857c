"""One run: opens the contenders, measures the chosen rows, in an order that favours nobody."""

from __future__ import annotations

import os
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpointer.cells import DELAYED, cells, count, measure
from benchmarks.checkpointer.contenders import Contender, open_all, titles
from benchmarks.checkpointer.load import LENGTH, LOADS, measure_load
from benchmarks.checkpointer.measured import Result
from benchmarks.checkpointer.proxy import Proxy, running_proxy
from benchmarks.checkpointer.report import Report
from benchmarks.checkpointer.rows import ROWS
from benchmarks.checkpointer.server import Server, open_server, through, upstream_of
from benchmarks.checkpointer.turns import measure_turns
from benchmarks.pages import machine

_BY_TURNS = ("turn", "bytes")
_SLICE = 10
"""Steps of the progress bar that a slice of throughput is."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured: operations of a cell, turns of the agent, slices of the throughput, SQLite or not.

    Conversations are `shrink` times shorter than the rows say: to try the benchmark itself.
    """

    iterations: int = 60
    turns: int = 200
    slices: int = 4
    seconds: float = 1.0
    tasks: int = 64
    sqlite: bool = True
    shrink: int = 1

    def file(self, server: Server, purpose: str) -> Path | None:
        """Where SQLite is to work; None leaves it out."""
        return server.directory / f"{purpose}.sqlite" if self.sqlite else None


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
    total = sum(row.key in cells() or row.key in DELAYED for row in chosen) * size.iterations
    total += sum(row.key in LOADS for row in chosen) * size.slices * _SLICE * (2 + size.sqlite)
    return total + (size.turns if any(row.group in _BY_TURNS for row in chosen) else 0)


async def run(plan: Plan, advance: Advance) -> Report:
    """Measure everything that is planned."""
    results = {row.key: Result(row) for row in ROWS if row.group in plan.groups}
    before = os.getloadavg()[0]
    async with open_server(plan.url, synchronous=plan.synchronous) as server:
        version = await server.version()
        await _single_operations(plan, server, results, advance)
        await _turns(plan, server, results, advance)
        await _load(plan, server, results, advance)
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
    made = cells(plan.size.shrink)
    local = [key for key in results if key in made]
    delayed = [key for key in results if key in DELAYED]
    if not local and not delayed:
        return
    async with (
        server.databases("operations") as urls,
        open_all(urls, plan.size.file(server, "operations"), synchronous=plan.synchronous) as contenders,
    ):
        for key in local:
            await measure(
                made[key],
                results[key],
                contenders,
                plan.size.iterations,
                chance,
                lambda: advance(key, 1),  # noqa: B023
            )
        async with _far_away(urls, contenders) as (proxy, distant):
            for key in local:
                await count(made[key], results[key], distant, proxy, chance)
            for key in delayed:
                cell, delay = made[DELAYED[key][0]], DELAYED[key][1]
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


async def _turns(plan: Plan, server: Server, results: dict[str, Result], advance: Advance) -> None:
    """The turns give rows of two groups: what nobody asked for is measured, and not shown."""
    if not any(result.row.group in _BY_TURNS for result in results.values()):
        return
    shown = {row.key: results.get(row.key, Result(row)) for row in ROWS if row.group in _BY_TURNS}
    async with (
        server.databases("turns") as urls,
        open_all(urls, plan.size.file(server, "turns"), synchronous=plan.synchronous) as contenders,
    ):
        await measure_turns(
            shown,
            contenders,
            turns=plan.size.turns,
            chance=random.Random(plan.seed),
            advance=lambda done: advance("turns of an agent", done),
        )


async def _load(plan: Plan, server: Server, results: dict[str, Result], advance: Advance) -> None:
    keys = [key for key in LOADS if key in results]
    if not keys:
        return
    async with (
        server.databases("load") as urls,
        open_all(urls, plan.size.file(server, "load"), synchronous=plan.synchronous) as contenders,
    ):
        for key in keys:
            await measure_load(
                key,
                results[key],
                contenders,
                tasks=plan.size.tasks,
                slices=plan.size.slices,
                seconds=plan.size.seconds,
                length=max(LENGTH // plan.size.shrink, 2),
                chance=random.Random(plan.seed),
                advance=lambda done: advance(key, done * _SLICE),  # noqa: B023
            )


@asynccontextmanager
async def _far_away(urls: dict[str, str], near: Sequence[Contender]) -> AsyncIterator[tuple[Proxy, list[Contender]]]:
    """The same databases by way of a proxy."""
    by_name = {each.name: each for each in near}
    async with (
        running_proxy(*upstream_of(list(urls.values()))) as proxy,
        open_all({name: through(url, proxy.port) for name, url in urls.items()}) as contenders,
    ):
        yield proxy, [each.with_stock_of(by_name[each.name]) for each in contenders]
