"""What goes wrong on the side of the clients: processes killed, clocks that disagree, lines that stall, embedders."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.base.id import uuid6
from langgraph.graph import START, MessagesState, StateGraph

from benchmarks.checkpointer.proxy import Proxy, running_proxy
from benchmarks.checkpointer.server import through, upstream_of
from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.db.keepalive import DEAD_AFTER
from memory_plugin.langgraph.clock import follow
from memory_plugin.settings import Settings
from tests.saver_tools import opened

ROOT = Path(__file__).resolve().parent.parent


async def finished(program: str, *arguments: str) -> tuple[int | None, str]:
    """Run a program in a process of its own; how it ended, and what it said of errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode, errors.decode()


# -- a client killed in the middle of a turn

TURN = """
import asyncio, os, signal, sys
from pathlib import Path
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from memory_plugin.langgraph import ConversationSaver

def graph(saver, log, dies):
    def charge(state):
        with Path(log).open("a") as file:
            file.write("charged\\n")
        return {"messages": [AIMessage("charged", id="charged")]}
    def answer(state):
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"messages": [AIMessage("done", id="done")]}
    builder = StateGraph(MessagesState).add_node("charge", charge).add_node("answer", answer)
    return builder.add_edge(START, "charge").add_edge("charge", "answer").compile(checkpointer=saver)

async def main():
    async with ConversationSaver.from_conn_string(sys.argv[1]) as saver:
        given = {"messages": [HumanMessage("pay", id="pay")]}
        place = {"configurable": {"thread_id": "t"}}
        await graph(saver, sys.argv[2], True).ainvoke(given, place, durability="sync")

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_client_killed_mid_turn_is_resumed_by_another_without_repeating_a_step(
    database_url: str, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    code, errors = await finished(TURN, database_url, str(log))
    assert code == -signal.SIGKILL, errors
    names: dict[str, Any] = {"__name__": "turn"}
    exec(TURN, names)
    place = {"configurable": {"thread_id": "t"}}
    async with opened(database_url, "default") as (memory, saver):
        state = await names["graph"](saver, log, False).ainvoke(None, place)
        assert [message.text for message in state["messages"]] == ["pay", "charged", "done"]
        kept = await memory.conversations.messages("t")
    assert [message.text for message in kept] == ["pay", "charged", "done"]
    assert log.read_text() == "charged\n"


# -- clocks that disagree

BEHIND = """
import asyncio, datetime, sys, time
HOUR = 3600
now_ns, now = time.time_ns, time.time
time.time_ns, time.time = (lambda: now_ns() - HOUR * 10**9), (lambda: now() - HOUR)

class Behind(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return super().now(tz) - datetime.timedelta(seconds=HOUR)

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
import memory_plugin.capabilities.conversations as conversations
from memory_plugin import Memory
conversations.datetime = Behind

async def main():
    async with Memory.open(sys.argv[1], embeddings=False) as memory:
        answer = lambda state: {"messages": [AIMessage("a2", id="a2")]}
        builder = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer")
        graph = builder.compile(checkpointer=memory.checkpointer)
        place = {"configurable": {"thread_id": "t"}}
        await graph.ainvoke({"messages": [HumanMessage("q2", id="q2")]}, place)
        await memory.conversations.append("plain", "second")
        await memory.remember("The door code is 2", user_id="u", key="door")
        await memory.agent_settings.set("prompt", "second")
        await memory.working_memory.update("second", thread_id="t")

asyncio.run(main())
"""


def talk(memory: Memory, answer: str) -> Any:
    async def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(answer, id=answer)]}

    builder = StateGraph(MessagesState).add_node("answer", node).add_edge(START, "answer")
    return builder.compile(checkpointer=memory.checkpointer)


async def test_a_writer_whose_clock_is_an_hour_behind_loses_no_turn_and_no_order(database_url: str) -> None:
    """Checkpoint ids follow the one that was read; everything else is ordered by the database."""
    place = {"configurable": {"thread_id": "t"}}
    async with Memory.open(database_url, embeddings=False) as memory:

        async def write(number: int, word: str) -> None:
            said = {"messages": [HumanMessage(f"q{number}", id=f"q{number}")]}
            await talk(memory, f"a{number}").ainvoke(said, place)
            await memory.conversations.append("plain", word)
            await memory.remember(f"The door code is {number}", user_id="u", key="door")
            await memory.agent_settings.set("prompt", word)
            await memory.working_memory.update(word, thread_id="t")

        await write(1, "first")
        code, errors = await finished(BEHIND, database_url)
        assert code == 0, errors
        state = await talk(memory, "").aget_state(place)
        assert [message.text for message in state.values["messages"]] == ["q1", "a1", "q2", "a2"]
        (fact,) = await memory.recall("door code", user_id="u", kinds=["memory"])
        assert fact.text == "The door code is 2"

        await write(3, "third")
        kept = await memory.conversations.messages("t")
        assert [message.text for message in kept] == ["q1", "a1", "q2", "a2", "q3", "a3"]
        words = ["first", "second", "third"]
        assert [message.text for message in await memory.conversations.messages("plain")] == words
        versions = await memory.database.fetch(
            "SELECT content, recorded_at, superseded_at FROM memory.memories WHERE key = 'door' ORDER BY version"
        )
        assert [row["content"] for row in versions] == [f"The door code is {number}" for number in (1, 2, 3)]
        assert [row["superseded_at"] for row in versions[:2]] == [row["recorded_at"] for row in versions[1:]]
        settings = await memory.database.fetch("SELECT value #>> '{}' AS v FROM memory.agent_settings ORDER BY version")
        assert [row["v"] for row in settings] == words
        times = "SELECT bool_and(valid_from > before) FROM (SELECT valid_from, lag(valid_from) OVER (ORDER BY version) AS before FROM memory.agent_settings) AS s"
        assert await memory.database.fetchval(times)
        note = await memory.working_memory.get(thread_id="t")
        assert (note.content, note.version) == ("third", 3)


def test_ids_follow_what_was_read_but_not_a_clock_gone_mad() -> None:
    later = uuid6()
    ahead = str(type(later)(int=later.int + (36_000_000_000 >> 12 << 80)))
    follow(ahead)
    assert str(uuid6()) > ahead
    for odd in ("ffffffff-ffff-6fff-8000-000000000000", "not an id", "zzzzzzzz-zzzz-6zzz-8000-000000000000", ""):
        follow(odd)
    assert ahead < str(uuid6()) < "2fffffff"


# -- lines that are slow, or stall


@asynccontextmanager
async def far_away(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    async with running_proxy(*upstream_of([url])) as proxy:
        yield proxy, through(url, proxy.port)


async def test_a_delayed_line_costs_its_round_trips_and_nothing_else(database_url: str) -> None:
    async with far_away(database_url) as (proxy, url), Memory.open(url, embeddings=False) as memory:
        graph, place = talk(memory, "a1"), {"configurable": {"thread_id": "t"}}
        await graph.ainvoke({"messages": [HumanMessage("q0", id="q0")]}, place)  # connections are open now
        await memory.indexed()
        await proxy.take()
        await proxy.delay(0.05)
        began = time.monotonic()
        await graph.ainvoke({"messages": [HumanMessage("q1", id="q1")]}, place)
        took = time.monotonic() - began
        trips = (await proxy.take()).round_trips
        assert trips <= 20  # a read, three checkpoints, two tasks, the index; and some for new connections
        assert took < trips * 0.05 + 2  # seconds, on a busy machine


async def test_a_caller_that_gives_up_on_a_stalled_line_leaves_the_store_whole(database_url: str) -> None:
    """Nobody waits for ever who sets a limit; what the caller left is no burden to those after."""
    async with far_away(database_url) as (proxy, url):
        settings = Settings().model_copy(update={"pool_size": 2})
        async with MemoryCore.open(url, embeddings=False, settings=settings) as core:
            await core._indexer.stop()
            await core.conversations.append("t", "before")
            await proxy.delay(1.2)

            async def impatient() -> None:
                async with asyncio.timeout(0.2):
                    await core.conversations.messages("t")

            outcomes = await asyncio.gather(*(impatient() for _ in range(6)), return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {TimeoutError}
            await proxy.delay(0)
            await core.conversations.append("t", "after")
            assert [message.text for message in await core.conversations.messages("t")] == ["before", "after"]
            assert core.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


async def test_a_line_that_went_dead_without_a_word_is_noticed_by_the_system(database_url: str) -> None:
    """Who waits for an answer sends nothing, so only the system's own questions can fail."""
    async with far_away(database_url) as (_, url):
        database = Database(url)
        async with database.raw() as connection:
            line = connection._transport.get_extra_info("socket")
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            asks = [
                line.getsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_KEEP{what}"))
                for what in ("IDLE", "INTVL", "CNT")
            ]
            assert asks[0] + asks[1] * asks[2] == DEAD_AFTER
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == DEAD_AFTER * 1000
        await database.close()


# -- embedders


class Letters:
    """Vectors of any width: how often each letter is there."""

    def __init__(self, name: str, dims: int) -> None:
        self.name = name
        self.dims: int | None = dims
        self.answers = asyncio.Event()
        self.answers.set()

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        await self.answers.wait()
        letters = "etaoinshrdlucmfw"[: self.dims]
        return [[1.0 + text.lower().count(letter) for letter in letters] for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        return (await self.embed_documents([text]))[0]


async def test_two_embedders_of_different_width_work_on_one_tenant_at_the_same_time(database_url: str) -> None:
    """Each compares only its own vectors; what one wrote, the other finds too."""
    async with (
        MemoryCore.open(database_url, embeddings=Letters("narrow", 4)) as narrow,
        MemoryCore.open(database_url, embeddings=Letters("wide", 16)) as wide,
    ):
        for number in range(4):
            await asyncio.gather(
                narrow.remember(f"The narrow one wrote {number}", user_id="u"),
                wide.remember(f"The wide one wrote {number}", user_id="u"),
            )
        await asyncio.gather(narrow.indexed(), wide.indexed())
        for core in (narrow, wide):
            hits = await core.recall("who wrote?", user_id="u", limit=20)
            assert (len(hits), hits.words_only) == (8, None)
            assert any(hit.parts.get("meaning", 0) > 0 for hit in hits)
        widths = await narrow.database.fetch(
            "SELECT name, array_agg(DISTINCT vector_dims(vector)) AS dims, count(*) AS n"
            " FROM memory.embeddings JOIN memory.embedding_models USING (tenant_id, model_id) GROUP BY name ORDER BY name"
        )
        assert [tuple(row) for row in widths] == [("narrow", [4], 8), ("wide", [16], 8)]


async def test_a_store_closes_at_once_while_its_embedder_hangs(database_url: str) -> None:
    model = Letters("hangs", 4)
    model.answers.clear()
    async with MemoryCore.open(database_url, embeddings=model) as core:
        await core.remember("Alice likes tea", user_id="u")
        await asyncio.sleep(0.4)  # the indexer waits for the model by now
        began = time.monotonic()
    assert time.monotonic() - began < 2
    async with MemoryCore.open(database_url, embeddings=Letters("hangs", 4)) as core:
        await core.indexed()
        assert (await core.recall("tea", user_id="u")).words_only is None
