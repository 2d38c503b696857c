"""Fills a store as applications do, and looks at its tables, its log and its processors."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from benchmarks.checkpointer.server import Server, open_server, run_sql, with_database
from benchmarks.load.people import LongTail
from memory_plugin import Memory

WORDS = 4000
"""Words of the language that texts are made of; how often each comes falls with its rank."""

QUESTION, ANSWER, FACT, PASSAGE = 150, 600, 80, 900
"""Characters of a human message, of an answer, of a fact, and of a passage of a document."""

_SIZES = """
SELECT c.relname AS name, pg_table_size(c.oid) AS heap, pg_indexes_size(c.oid) AS indexes
FROM pg_class c WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
"""


@dataclass(frozen=True, slots=True)
class Size:
    """A table: its rows, and the bytes that one takes with what is stored out of line, and in all indexes."""

    table: str
    rows: int
    heap: float
    indexes: float

    @property
    def total(self) -> float:
        """Bytes of a row in all."""
        return self.heap + self.indexes


@dataclass(frozen=True, slots=True)
class Cost:
    """What one operation costs: processor time of the server, time until the answer, bytes of its log."""

    operation: str
    server: float
    waited: float
    log: float


@dataclass(slots=True)
class Measurement:
    """All that was measured.

    Attributes:
        turns: of conversations, two messages each.
        facts: that were remembered.
        passages: of documents.
    """

    turns: int
    facts: int
    passages: int = 0
    sizes: list[Size] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    version: str = ""

    def bytes_of(self, *tables: str) -> float:
        """Bytes of all rows of these tables."""
        return sum(each.rows * each.total for each in self.sizes if each.table in tables)


def texts(seed: int) -> Callable[[int], str]:
    """Makes texts of a length in characters, out of words that come as often as words do."""
    chance, tail = random.Random(seed), LongTail(WORDS, 1.0)
    spelled = ["".join(chance.choices("etaoinshrdlucmfwyp", k=chance.randint(2, 10))) for _ in range(WORDS)]

    def text(characters: int) -> str:
        words: list[str] = []
        while sum(map(len, words)) + len(words) < characters:
            words.append(spelled[tail.pick(chance)])
        return " ".join(words).capitalize() + "."

    return text


class Meter:
    """Reads the processors and the log of a server on this machine."""

    def __init__(self, admin: asyncpg.Connection[asyncpg.Record]) -> None:
        self._admin = admin

    async def read(self) -> tuple[float, int]:
        """Seconds that the backends of this database have worked, and the position in the log."""
        import psutil

        pids = await self._admin.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
        times = [psutil.Process(row["pid"]).cpu_times() for row in pids]
        position = await self._admin.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")
        return sum(each.user + each.system for each in times), int(position)

    async def cost(self, operation: str, times: int, run: Callable[[int], Awaitable[Any]]) -> Cost:
        """Run something so many times, one after the other."""
        for number in range(5):
            await run(-1 - number)  # prepared, planned, warm
        worked, position = await self.read()
        began = time.perf_counter()
        for number in range(times):
            await run(number)
        waited = time.perf_counter() - began
        worked_now, position_now = await self.read()
        return Cost(operation, (worked_now - worked) / times, waited / times, (position_now - position) / times)


async def measure(
    *, conversations: int, turns: int, seed: int, url: str | None, advance: Callable[[str, float], None]
) -> Measurement:
    """Fill a database of its own on this server, or on an embedded one, and measure."""
    async with open_server(url, synchronous=False) as server:
        name = f"sizes_{secrets.token_hex(4)}"
        await run_sql(server.url, f"CREATE DATABASE {name}")
        try:
            return await _measure(server, with_database(server.url, name), conversations, turns, seed, advance)
        finally:
            await run_sql(server.url, f"DROP DATABASE {name} WITH (FORCE)")


async def _measure(
    server: Server, url: str, conversations: int, turns: int, seed: int, advance: Callable[[str, float], None]
) -> Measurement:
    found = Measurement(conversations * turns, conversations * turns)
    # when documents get their second vector is up to the background
    async with Memory.open(url, document_embeddings=False) as memory:
        admin = await asyncpg.connect(url)
        try:
            await _fill(memory, found, conversations, turns, texts(seed), advance)
            await memory.indexed()
            found.sizes = await _sizes(memory, admin)
            advance("costs", 0)
            found.costs = await _costs(memory, Meter(admin), texts(seed + 1))
            found.version = await server.version()
        finally:
            await admin.close()
    return found


async def _fill(
    memory: Memory,
    found: Measurement,
    conversations: int,
    turns: int,
    text: Callable[[int], str],
    advance: Callable[[str, float], None],
) -> None:
    for number in range(conversations):
        user = f"user-{number % (conversations // 5 or 1)}"
        graph = _graph(memory, text)
        for turn in range(turns):
            await _turn(graph, f"thread-{number}", user, text)
            await memory.remember(text(FACT), user_id=user, key=f"fact-{number}-{turn}")
        if number % 5 == 0:
            body = "\n\n".join(text(PASSAGE) for _ in range(10))
            await memory.references.add(text=body, title=f"Document {number}", source=f"doc-{number}")
        await memory.working_memory.update(text(PASSAGE), thread_id=f"thread-{number}")
        advance("filling", 1)
    found.passages = await memory.database.fetchval("SELECT count(*) FROM memory.chunks")


def _graph(memory: Memory, text: Callable[[int], str]) -> Any:
    from langchain_core.messages import AIMessage
    from langgraph.graph import START, MessagesState, StateGraph

    async def answer(state: MessagesState) -> dict[str, Any]:  # noqa: ARG001 - LangGraph's signature
        return {"messages": [AIMessage(text(ANSWER))]}

    return StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile(
        checkpointer=memory.checkpointer
    )  # fmt: skip


async def _turn(graph: Any, thread: str, user: str, text: Callable[[int], str]) -> None:
    from langchain_core.messages import HumanMessage

    place = {"configurable": {"thread_id": thread, "user_id": user}}
    await graph.ainvoke({"messages": [HumanMessage(text(QUESTION))]}, place)


async def _sizes(memory: Memory, admin: asyncpg.Connection[asyncpg.Record]) -> list[Size]:
    await memory._indexer.stop()  # noqa: SLF001 - nothing writes while the tables are looked at
    await admin.execute("VACUUM (ANALYZE)")
    sizes = []
    for row in await admin.fetch(_SIZES):
        rows = await admin.fetchval(f'SELECT count(*) FROM memory."{row["name"]}"')
        if rows:
            sizes.append(Size(row["name"], rows, row["heap"] / rows, row["indexes"] / rows))
    return sorted(sizes, key=lambda each: -each.rows * each.total)


async def _costs(memory: Memory, meter: Meter, text: Callable[[int], str]) -> list[Cost]:
    graph = _graph(memory, text)

    async def turn(number: int) -> None:
        await _turn(graph, f"thread-{number % 20}", "user-0", text)

    async def index(_: int) -> None:
        await memory.conversations.append("indexed", text(ANSWER), user_id="user-0")
        await memory.passages.catch_up()
        await memory.passages.fill()

    async def ask(_: int) -> None:
        await memory.recall(text(40), user_id="user-0")

    async def remember(number: int) -> None:
        await memory.remember(text(FACT), user_id="user-1", key=f"more-{number}")

    async def read(number: int) -> None:
        await memory.conversations.messages(f"thread-{number % 20}", limit=20)

    memory.kick = lambda: None  # type: ignore[method-assign] # what the index costs is measured by itself
    await asyncio.sleep(0.5)
    return [
        await meter.cost("agent turn (one read, three checkpoints, two tasks)", 100, turn),
        await meter.cost("a message into the index, with its vector", 100, index),
        await meter.cost("recall", 100, ask),
        await meter.cost("remember", 100, remember),
        await meter.cost("the last 20 messages of a thread", 100, read),
    ]
