"""One run: fill, measure, report."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from benchmarks.checkpointer.server import Server, open_server, run_sql, with_database
from benchmarks.pages import machine
from benchmarks.recall.agreement import agreement
from benchmarks.recall.corpus import Corpus
from benchmarks.recall.filling import OWN_USER, Filled, copy, fill, without_indexes
from benchmarks.recall.measured import Times, timed
from benchmarks.recall.report import Report, Row
from memory_plugin.core import MemoryCore
from memory_plugin.settings import Settings

RECALL_GOAL = 30.0
WORDS_GOAL = 10.0
SINGLE_GOAL = 200.0
BULK_GOAL = 2_000.0
AGREEMENT_GOAL = 0.98

# the machine of the goals has memory for its data; an index of vectors is made in seconds only in memory
_SERVER = (
    "ALTER SYSTEM SET shared_buffers = '2GB'",
    "ALTER SYSTEM SET max_wal_size = '8GB'",
    "ALTER SYSTEM SET maintenance_work_mem = '1GB'",
    "ALTER SYSTEM SET checkpoint_timeout = '1h'",
)

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Args:
        sizes: memories of each measured tenant, the largest last: the goals are for that one.
        rows: memories in the table in all; other tenants have the rest.
        questions: how many are timed in a cell.
        writes: how many memories are written one by one; ten times as many in bulk.
    """

    sizes: Sequence[int] = (1_000, 10_000, 100_000)
    rows: int = 1_000_000
    questions: int = 200
    writes: int = 300
    seed: int = 1
    url: str | None = None


@dataclass(frozen=True, slots=True)
class _Measured:
    """A tenant, opened with the embedder and without."""

    filled: Filled
    core: MemoryCore
    words_only: MemoryCore


async def run(plan: Plan, step: Step) -> Report:
    """Fill a database of its own, measure, and drop it again."""
    before = os.getloadavg()[0]
    async with open_server(plan.url, synchronous=False, settings=_SERVER) as server:
        name = f"bench_recall_{secrets.token_hex(4)}"
        url = with_database(server.url, name)
        await run_sql(server.url, f"CREATE DATABASE {name}", f"ALTER DATABASE {name} SET synchronous_commit = off")
        try:
            rows = await _measure(plan, url, step)
            facts = await _facts(plan, server, before)
        finally:
            await run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")
    return Report(rows, plan.sizes, facts)


async def _facts(plan: Plan, server: Server, before: float) -> dict[str, str]:
    facts = machine(await server.version(), (before, os.getloadavg()[0]))
    return {
        "table": f"{plan.rows:,} memories of all tenants; {OWN_USER:,} to each user",
        "times": "median (95th percentile), by the clock of one client on the same machine",
        **facts,
    }


async def _measure(plan: Plan, url: str, step: Step) -> list[Row]:
    corpus = Corpus(plan.seed)
    async with AsyncExitStack() as stack:
        tenants: list[_Measured] = []
        for place, size in enumerate(plan.sizes):
            settings = Settings(tenant=f"tenant-{size}")
            core = await stack.enter_async_context(MemoryCore.open(url, settings=settings))
            words = await stack.enter_async_context(MemoryCore.open(url, settings=settings, embeddings="none"))
            if not place:
                again = await without_indexes(core.database.as_login())
            filled = await fill(core, settings.tenant, corpus, size, step)
            tenants.append(_Measured(filled, core, words))
        await _others(plan, tenants[-1], step)
        database = tenants[-1].core.database.as_login()
        step("indexes")
        for statement in again:
            await database.execute(statement)
        for each in tenants:
            await each.core.spaces.tend()
        await database.execute("VACUUM ANALYZE")
        rows = await _reading(plan, tenants, corpus, step)
        return [*rows, *await _writing(plan, tenants, corpus, step)]


async def _others(plan: Plan, largest: _Measured, step: Step) -> None:
    filled = sum(plan.sizes)
    for number in range((plan.rows - filled) // plan.sizes[-1]):
        await copy(largest.core.database.as_login(), largest.filled.tenant, f"other-{number}")
        step(f"other tenants: {(number + 1) * plan.sizes[-1]:,} memories")


def _cell(times: Times) -> str:
    return f"{times.p50:.1f} ({times.p95:.1f}) ms"


async def _reading(plan: Plan, tenants: Sequence[_Measured], corpus: Corpus, step: Step) -> list[Row]:
    rows = {
        "tenant": Row("recall over the tenant", goal=f"p95 under {RECALL_GOAL:.0f} ms"),
        "user": Row(f"recall, a user with {OWN_USER:,}", goal=f"p95 under {RECALL_GOAL:.0f} ms"),
        "words tenant": Row("by words alone, over the tenant"),
        "words user": Row(f"by words alone, a user with {OWN_USER:,}", goal=f"p95 under {WORDS_GOAL:.0f} ms"),
        "client": Row("of recall over the tenant: this process's processor"),
        "agreement": Row("best ten by words that are those of exact BM25", goal=f"at least {AGREEMENT_GOAL:.2f}"),
    }
    for each in tenants:
        size, chance = len(each.filled.texts), random.Random(plan.seed)
        places = [chance.randrange(size) for _ in range(plan.questions + 5)]
        questions = [corpus.question(each.filled.texts[place]) for place in places]
        users = [f"user-{place // OWN_USER}" for place in places]

        async def ask(core: MemoryCore, place: int, user: bool) -> object:
            return await core.recall(questions[place], user_id=users[place] if user else None, kinds=("memory",))  # noqa: B023

        for key, core, user in (
            ("tenant", each.core, False),
            ("user", each.core, True),
            ("words tenant", each.words_only, False),
            ("words user", each.words_only, True),
        ):
            step(f"{size:,}: {rows[key].title}")
            times = await timed(lambda place: ask(core, place, user), plan.questions)  # noqa: B023
            rows[key].cells[size] = _cell(times)
            limit = {"tenant": RECALL_GOAL, "user": RECALL_GOAL, "words user": WORDS_GOAL}.get(key)
            if limit is not None:
                rows[key].met = times.p95 < limit
            if key == "tenant":
                rows["client"].cells[size] = f"{times.processor_each:.1f} ms"
        part = await agreement(each.core, each.filled.tenant, questions[: min(100, plan.questions)])
        rows["agreement"].cells[size] = f"{part:.3f}"
        rows["agreement"].met = part >= AGREEMENT_GOAL
    return list(rows.values())


async def _writing(plan: Plan, tenants: Sequence[_Measured], corpus: Corpus, step: Step) -> list[Row]:
    single = Row("remember, one by one", goal=f"at least {SINGLE_GOAL:,.0f} a second")
    bulk = Row("remember_many, until found by words", goal=f"at least {BULK_GOAL:,.0f} a second")
    for each in tenants:
        size, core = len(each.filled.texts), each.words_only
        step(f"{size:,}: writing")
        texts = [corpus.text() for _ in range(plan.writes + 5)]
        times = await timed(lambda place: core.remember(texts[place], user_id="writer"), plan.writes)  # noqa: B023
        rate = 1000 * plan.writes / sum(times.wall)
        single.cells[size] = f"{rate:,.0f}/s"
        single.met = rate >= SINGLE_GOAL
        await core.passages.catch_up()
        rate = await _in_bulk(core, [corpus.text() for _ in range(10 * plan.writes)])
        bulk.cells[size] = f"{rate:,.0f}/s"
        bulk.met = rate >= BULK_GOAL
    return [single, bulk]


async def _in_bulk(core: MemoryCore, texts: Sequence[str]) -> float:
    began = time.perf_counter()
    await core.remember_many(texts, user_id="bulk writer")
    await core.passages.catch_up()
    return len(texts) / (time.perf_counter() - began)
