"""How fast documents go in, stage by stage, and how much memory that takes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.checkpointer.server import Server, run_sql, with_database
from memory_plugin import Memory

Step = Callable[[str, int, int], None]

_WORDS = tuple(
    """
    abide abroad absorb accept account acid across actor adapt adjust admit adopt advance affair agent agree alarm album
    allow alloy almond alter amount anchor angle annual answer anvil apart appear apply approve arch area argue arise
    arrange arrow article artist ascend aside assign assume atlas attach attend author avenue avoid award axis bacon
    badge balance bamboo barrel basin basket batch battery beacon become belong bench bisque blanket blend border bottle
    branch brass bread bridge brief bronze brush bucket budget buffer builder burden cable cactus calendar camera canal
    candle canvas capital captain carbon cargo carpet castle cellar cement census ceramic chain chalk channel chapter
    charge cherry chief circle citizen claim clay clerk client climate clock cloud coast cobalt collar column comet
    compass cone confirm contract cool copper coral corner cotton council crack cradle crane credit crystal current
    curtain custom customer dairy damage danger debate decade deliver delta deposit desert design detail device diamond
    dinner direct distance ditch doctor document domain draft drawer drift drum dry duty eager eagle earn east echo edge
    edit effort elbow elder elect ember employ engine enter entry equal escape estate event exact example exhibit expert
    export fabric factor fairy fall family farm fashion fault feature ferry fever fiber field figure filter final fire
    flame flask fleet flood floor flour flower focus fold forest fork formal fossil frame freight fruit fuel furnace
    future galaxy garden gate gather gauge gentle ginger glacier glass glaze globe glove grain granite gravel green grid
    ground guard guest guide habit hammer handle harbor harvest heater height helmet hero hinge honey horizon hotel
    """.split()  # noqa: SIM905 - a page of words is read as one
)


@dataclass(slots=True)
class Ingested:
    """One load that went in: seconds by stage, and the most memory that this process had."""

    name: str
    files: int
    megabytes: float
    chunks: int
    stages: dict[str, float] = field(default_factory=dict)
    base: int = 0
    peak: int = 0
    failed: int = 0

    @property
    def seconds(self) -> float:
        """All stages, one after the other."""
        return sum(self.stages.values())

    @property
    def limiting(self) -> str:
        """The stage that took the longest."""
        return max(self.stages, key=lambda stage: self.stages[stage])


def write_manual(path: Path, size: int, seed: int) -> None:
    """A Markdown file of about so many bytes, of headings, paragraphs and lists, no two alike."""
    chance = random.Random(seed)
    written = number = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            number += 1
            sentences = [
                " ".join(chance.choices(_WORDS, k=chance.randint(8, 16))).capitalize() + f" {chance.randint(1, 9999)}."
                for _ in range(6)
            ]
            items = "".join(f"- {sentence}\n" for sentence in sentences[4:])
            written += file.write(f"## Part {number}\n\n{' '.join(sentences[:4])}\n\n{items}\n")


async def load(server: Server, folder: Path, name: str, step: Step) -> Ingested:
    """Store a folder, its stages apart: parsed in one thread, written, put in the index of words, embedded.

    The model for documents reads them too, if they are not too many for it.
    """
    from memory_plugin.capabilities.reference_files import read_file
    from memory_plugin.capabilities.reference_preparing import prepare

    files = await asyncio.to_thread(lambda: sorted(each for each in folder.iterdir() if each.is_file()))
    result = Ingested(name, len(files), sum(each.stat().st_size for each in files) / 1e6, 0)
    async with scratch(server) as memory, _watched(result):
        started = time.perf_counter()
        # a part of the files says what parsing costs by itself: the load below does it again beside the writing
        part = files[: max(1, len(files) // 4)]
        await asyncio.to_thread(lambda: [prepare(None, read_file(each), None, None) for each in part])
        alone = (time.perf_counter() - started) * result.megabytes / (sum(each.stat().st_size for each in part) / 1e6)
        started = time.perf_counter()
        report = await memory.references.add_many(
            folder, on_progress=lambda progress: step(name, progress.done, progress.total or 0)
        )
        both = time.perf_counter() - started
        result.failed = len(report.failed)
        result.stages["read, parse and chunk"] = min(alone, both)
        result.stages["write"] = max(0.0, both - alone)
        started = time.perf_counter()
        await memory.passages.catch_up()
        result.stages["index of words"] = time.perf_counter() - started
        started = time.perf_counter()
        await memory.passages.fill()
        result.stages["embed and store vectors"] = time.perf_counter() - started
        started = time.perf_counter()
        if await memory.spaces.build_documents() is not None:
            result.stages["the model for documents"] = time.perf_counter() - started
        result.chunks = await memory.database.fetchval("SELECT count(*) FROM memory.chunks")
    return result


@asynccontextmanager
async def scratch(server: Server) -> AsyncIterator[Memory]:
    """A store on a database of its own that is dropped again; nothing is indexed unless it is asked for."""
    await run_sql(server.url, "DROP DATABASE IF EXISTS bench_ingest WITH (FORCE)", "CREATE DATABASE bench_ingest")
    try:
        async with Memory.open(with_database(server.url, "bench_ingest")) as memory:
            memory.references._changed = None  # noqa: SLF001 - the stages are run one by one
            yield memory
    finally:
        await run_sql(server.url, "DROP DATABASE bench_ingest WITH (FORCE)")


@asynccontextmanager
async def _watched(result: Ingested) -> AsyncIterator[None]:
    """Notes the most memory that this process has meanwhile."""
    import psutil

    process = psutil.Process()
    result.base = result.peak = process.memory_info().rss

    async def watch() -> None:
        while True:
            result.peak = max(result.peak, await asyncio.to_thread(lambda: process.memory_info().rss))
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def search_times(memory: Memory, questions: int, step: Step) -> list[float]:
    """Milliseconds of searches for words and meaning, one after the other."""
    chance = random.Random(7)
    times = []
    for number in range(questions + 5):
        query = "how to " + " ".join(chance.choices(_WORDS, k=4)) + "?"
        started = time.perf_counter()
        await memory.references.search(query, limit=8)
        if number >= 5:  # the first ones open connections and prepare statements
            times.append(1000 * (time.perf_counter() - started))
            step("searching", number - 4, questions)
    return times
