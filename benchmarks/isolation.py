"""What row security costs on the path of a checkpoint: the same operations with it and without, in turns.

    python -m benchmarks.isolation --write-docs docs/benchmarks.md

Two stores on one server differ in MEMORY_ROW_SECURITY alone. Each operation runs on one, then on the other, with the
order changing; beside the time on the clock it reads the processor time of this process and of the server's, which
other programs of the machine disturb less. The ratio is that of the medians. The server must run on this machine.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.checkpoint.base.id import uuid6

from benchmarks.pages import machine, place_of
from benchmarks.processor import ACCOUNTED, account_of, worked
from memory_plugin import Memory
from memory_plugin.db.embedded import EmbeddedServer
from memory_plugin.settings import Settings

PLACE = place_of("isolation")
GATE = 1.03
SIZES = (10, 100)
_WARM = 20


@dataclass(frozen=True, slots=True)
class Cost:
    """Medians of one operation, in microseconds: with row security and without."""

    operation: str
    processor: tuple[float, float]
    clock: tuple[float, float]
    statements: tuple[int, int]

    @property
    def ratio(self) -> float:
        """Of the processor times."""
        return self.processor[0] / self.processor[1]


class _Side:
    """One thread in one of the stores."""

    def __init__(self, memory: Memory, size: int) -> None:
        self.memory = memory
        self.backend = 0
        self.spot: Any = {"configurable": {"thread_id": f"t-{size}", "checkpoint_ns": ""}}
        self._at: Any = self.spot
        self._version: Any = None
        self._messages: list[BaseMessage] = []
        for number in range(size // 2):
            self._messages += [HumanMessage(f"question {number} " * 10, id=f"q{number}")]
            self._messages += [AIMessage(f"answer {number} " * 40, id=f"a{number}")]
        self._number = 0

    async def begin(self) -> None:
        self.backend = await self.memory.database.fetchval("SELECT pg_backend_pid()")
        await self.aput()

    async def aput(self) -> None:
        self._number += 1
        saver = self.memory.checkpointer
        self._version = saver.get_next_version(self._version, None)
        self._messages = [*self._messages, AIMessage(f"new {self._number} " * 60, id=f"n{self._number}")]
        checkpoint: Any = {
            "v": 4,
            "id": str(uuid6(clock_seq=self._number)),
            "ts": "2026-01-01T00:00:00+00:00",
            "channel_values": {"messages": self._messages},
            "channel_versions": {"messages": self._version},
            "versions_seen": {},
            "updated_channels": ["messages"],
        }
        metadata: Any = {"source": "loop", "step": self._number, "parents": {}}
        self._at = await saver.aput(self._at, checkpoint, metadata, {"messages": self._version})

    async def aput_writes(self) -> None:
        self._number += 1
        writes = [("messages", [AIMessage("x" * 600, id=f"w{self._number}")])]
        await self.memory.checkpointer.aput_writes(self._at, writes, f"task-{self._number}")

    async def aget_tuple(self) -> None:
        await self.memory.checkpointer.aget_tuple(self.spot)

    async def user_memory(self) -> None:
        await self.memory.user_memory.get("alice")

    def processor(self) -> int:
        """Nanoseconds of this process and of the server's process for this store."""
        return time.process_time_ns() + worked(account_of(self.backend))


async def _compare(on: _Side, off: _Side, name: str, repeats: int) -> Cost:
    processor: dict[_Side, list[int]] = {on: [], off: []}
    clock: dict[_Side, list[int]] = {on: [], off: []}
    operations: dict[_Side, Callable[[], Awaitable[None]]] = {side: getattr(side, name) for side in (on, off)}
    for side in (on, off):
        for _ in range(_WARM):
            await operations[side]()
    gc.collect()
    gc.disable()
    for turn in range(repeats):
        for side in (on, off) if turn % 2 else (off, on):
            used, began = side.processor(), time.perf_counter_ns()
            await operations[side]()
            clock[side].append(time.perf_counter_ns() - began)
            await asyncio.sleep(ACCOUNTED)
            processor[side].append(side.processor() - used)
    gc.enable()
    statements = (await _sent(on, operations[on]), await _sent(off, operations[off]))
    return Cost(
        name,
        (statistics.median(processor[on]) / 1000, statistics.median(processor[off]) / 1000),
        (statistics.median(clock[on]) / 1000, statistics.median(clock[off]) / 1000),
        statements,
    )


async def _sent(side: _Side, operation: Callable[[], Awaitable[None]]) -> int:
    """Statements that an operation sends."""
    sent: list[str] = []
    async with side.memory.database.raw() as connection:
        connection.add_query_logger(note := lambda record: sent.append(record.query))
    await operation()
    await asyncio.sleep(0.01)
    async with side.memory.database.raw() as connection:
        connection.remove_query_logger(note)
    return len(sent)


async def measure(url: str, repeats: int) -> list[Cost]:
    """The costs of every operation, on a server where the store is made."""
    found: list[Cost] = []
    async with (
        Memory.open(url, embeddings=False, settings=Settings(pool_size=1, tenant="on", row_security="required")) as on,
        Memory.open(url, embeddings=False, settings=Settings(pool_size=1, tenant="off", row_security="off")) as off,
    ):
        for memory in (on, off):
            await memory.user_memory.save("alice", "likes tea")
            memory.kick = lambda: None  # type: ignore[method-assign] # the index of words is made by another process
        for size in SIZES:
            sides = [_Side(memory, size) for memory in (on, off)]
            for side in sides:
                await side.begin()
            for name in ("aput", "aput_writes", "aget_tuple", *(("user_memory",) if size == SIZES[0] else ())):
                cost = await _compare(sides[0], sides[1], name, repeats)
                label = "one row by its key" if name == "user_memory" else f"{name}, {size} messages"
                found.append(Cost(label, cost.processor, cost.clock, cost.statements))
    return found


def markdown(costs: list[Cost], about: dict[str, str]) -> str:
    """The table of the page."""
    lines = [
        "| operation | processor time, with and without | ratio | gate | met | on the clock | statements |",
        "|---|---|---|---|---|---|---|",
    ]
    for cost in costs:
        met = "yes" if cost.ratio <= GATE else "**no**"
        lines.append(
            f"| {cost.operation} | {cost.processor[0]:.0f} and {cost.processor[1]:.0f} µs | {cost.ratio:.3f} "
            f"| at most {GATE:.2f} | {met} | {cost.clock[0]:.0f} and {cost.clock[1]:.0f} µs "
            f"| {cost.statements[0]} and {cost.statements[1]} |"
        )
    return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in about.items()), ""])


def main() -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=1000, help="of each operation on each side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--write-docs", type=Path, metavar="FILE", help="replace the table of this page")
    arguments = parser.parse_args()
    if arguments.write_docs is not None and not PLACE.is_on(arguments.write_docs):
        parser.error(f"the page must have {PLACE.begin} and {PLACE.end}")
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="isolation-") as folder:
        server = EmbeddedServer.start(Path(folder) / "postgres")
        try:
            costs = asyncio.run(measure(server.url, arguments.repeats))
        finally:
            server.stop()
    about = machine("18", (before, os.getloadavg()[0]))
    table = markdown(costs, about)
    sys.stdout.write(table)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"costs": [asdict(cost) for cost in costs], **about}, indent=2), "utf-8")
    if arguments.write_docs is not None:
        PLACE.write(arguments.write_docs, table)


if __name__ == "__main__":
    main()
