"""A run: a server and a database for it, agents that work at once, and what is looked at meanwhile."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from benchmarks.checkpointer.server import Server, open_server, run_sql, with_database
from benchmarks.load.agents import Agent
from benchmarks.load.measured import Measured, Sizes
from benchmarks.load.people import Everybody
from benchmarks.load.report import Left, Report
from benchmarks.pages import machine
from mcp_server import create_server
from memory_plugin import Memory
from memory_plugin.settings import Settings
from memory_plugin.tenants import KEPT

Advance = Callable[[str, float], None]
"""What is going on, and how many seconds more of the run are over."""

_TURNS_TO_WARM = 1
_PATIENCE = 6
"""How many times as long as was asked a warm-up may take at the most."""

_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run.

    Attributes:
        seconds: how long is measured, after the warm-up.
        warm_up: seconds before, in which caches and pools fill; more where the agents are not through yet.
        embeddings: as for `Memory.open`; None is the offline embedder, False none.
        cache: megabytes for messages of threads used last, of all tenants together.
    """

    seconds: float = 60.0
    warm_up: float = 20.0
    tenants: int = 1000
    agents: int = 64
    pool: int = 16
    seed: int = 1
    url: str | None = None
    embeddings: str | bool | None = None
    cache: int = 8

    @property
    def length(self) -> float:
        """Seconds of the whole run."""
        return self.seconds + self.warm_up


async def run(plan: Plan, advance: Advance = lambda *_: None) -> Report:
    """Run it; the report says what came of it."""
    load = os.getloadavg()[0]
    report = Report(plan.tenants, plan.agents, Measured(), Sizes(0.5))
    async with open_server(plan.url, synchronous=True) as server, _database(server) as url:
        admin = await asyncpg.connect(url)
        try:
            settings = Settings().model_copy(update={"pool_size": plan.pool, "checkpoint_cache": plan.cache})
            # the model for documents reads in the background, whatever the agents do: no part of what they cost
            models: dict[str, Any] = {"embeddings": plan.embeddings, "document_embeddings": False}
            async with Memory.open(url, settings=settings, **models) as memory:
                await memory.recall("what is read once stays open: models, word lists")
            before = _left(0)
            async with Memory.open(url, settings=settings, **models) as memory:
                await _work(plan, memory, report, advance)
                report.connections_open = await admin.fetchval(_OTHERS)
                report.connections_allowed = plan.pool + 1  # one more listens for changes
                await _given_back(memory)
                report.connections_lent = memory.database.engine.pool.checkedout()  # type: ignore[attr-defined]
            await _quiet(admin)
            report.left = _left(await admin.fetchval(_OTHERS)).beyond(before)
        finally:
            await admin.close()
        report.machine = machine(await server.version(), (load, os.getloadavg()[0]))
    report.options = {
        "warm-up": f"{plan.warm_up:g} s",
        "connections": plan.pool,
        "cache": f"{plan.cache} MB",
        "seed": plan.seed,
    }
    return report


@asynccontextmanager
async def _database(server: Server) -> AsyncIterator[str]:
    name = f"load_{secrets.token_hex(4)}"
    await run_sql(server.url, f"CREATE DATABASE {name}")
    try:
        yield with_database(server.url, name)
    finally:
        await run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


async def _work(plan: Plan, memory: Memory, report: Report, advance: Advance) -> None:
    """Let the agents work for as long as asked, and look at the process meanwhile."""
    import psutil

    process, measured, server = psutil.Process(), report.measured, create_server(memory)
    everybody = Everybody(plan.tenants, random.Random(plan.seed))
    agents = [
        Agent(memory, server, everybody, measured, random.Random(f"{plan.seed}/{number}"))
        for number in range(plan.agents)
    ]
    for number in range(min(KEPT, plan.tenants)):  # what is kept of so many tenants is there from the start
        _ = memory.for_tenant(f"tenant-{number}").checkpointer
    working = [asyncio.create_task(agent.work()) for agent in agents]
    began = seen = time.monotonic()
    end = began + plan.length
    try:
        while (now := time.monotonic()) < end or not measured.began:
            is_cold = not measured.began
            if is_cold and now - began >= plan.warm_up and _is_warm(agents, (now - began) / (plan.warm_up or 1)):
                measured.begin()
                end, is_cold = now + plan.seconds, False
            elif is_cold:
                end = now + plan.seconds + 1
            advance("warming up" if is_cold else "measuring", now - seen)
            seen = now
            if not is_cold:
                report.sizes.add(process.memory_info().rss)
            await asyncio.sleep(min(report.sizes.every, max(0.0, end - now)))
            if dead := next((task for task in working if task.done()), None):
                dead.result()  # an agent ends by an error alone: whatever could not be counted
                break
        measured.end()
    finally:
        for agent in agents:
            agent.is_over = True
        for outcome in await asyncio.gather(*working, return_exceptions=True):
            if isinstance(outcome, Exception):
                measured.failed("leaving", outcome)
    report.tenants_seen, report.busiest = len(everybody.seen), everybody.tenants.share(plan.tenants // 100 or 1)
    await memory.indexed()


def _is_warm(agents: list[Agent], times_asked: float) -> bool:
    """Whether everybody has done everything that is done for the first time; on a slow machine that takes longer."""
    return times_asked > _PATIENCE or all(agent.turns >= _TURNS_TO_WARM for agent in agents)


async def _given_back(memory: Memory) -> None:
    """Wait until what the stores do in the background is done."""
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while memory.database.engine.pool.checkedout():  # type: ignore[attr-defined] # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def _quiet(admin: asyncpg.Connection[asyncpg.Record]) -> None:
    """Wait until the server has seen every connection go."""
    with suppress(TimeoutError):
        async with asyncio.timeout(5):
            while await admin.fetchval(_OTHERS):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.05)


def _left(connections: int) -> Left:
    import psutil

    gc.collect()
    return Left(connections, len(asyncio.all_tasks()), psutil.Process().num_fds())
