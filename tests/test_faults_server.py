"""The server dies in the middle of writes, or its disk is full: what was acknowledged is there, and work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph

from memory_plugin import Memory
from memory_plugin.db.database import Database
from memory_plugin.db.embedded import EmbeddedServer
from memory_plugin.db.migrate import upgrade
from memory_plugin.errors import DatabaseUnavailableError, MemoryPluginError, StorageFullError
from memory_plugin.settings import Settings

psutil = pytest.importorskip("psutil")
if sys.platform == "win32":
    pytest.skip("kills processes as POSIX does", allow_module_level=True)

IMPATIENT = {"retry_seconds": 0.2, "connect_timeout": 2.0}


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Memory]:
    changed = Settings().model_copy(update={**IMPATIENT, **settings})
    async with Memory.open(url, embeddings=False, settings=changed) as memory:
        yield memory


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """A data directory with the schema in it, and no server; under a name that no socket is too short for."""
    home = Path(tempfile.mkdtemp(prefix="mp-")).resolve()
    server = EmbeddedServer.start(home / "data")

    async def migrate() -> None:
        database = Database(server.url)
        await upgrade(database)
        await database.close()

    asyncio.run(migrate())
    server.stop()
    yield home / "data"
    shutil.rmtree(home, ignore_errors=True)


def until(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


# -- SIGKILL


def agent(memory: Memory) -> Any:
    """Two steps a turn; each adds one message that says which turn it is."""

    async def look(state: MessagesState) -> dict[str, Any]:
        asked = state["messages"][-1]
        return {"messages": [AIMessage(f"looking: {asked.text}", id=f"look-{asked.id}")]}

    async def answer(state: MessagesState) -> dict[str, Any]:
        asked = state["messages"][-2]
        return {"messages": [AIMessage(f"answer: {asked.text}", id=f"answer-{asked.id}")]}

    builder = StateGraph(MessagesState).add_node(look).add_node(answer)
    return builder.add_edge(START, "look").add_edge("look", "answer").compile(checkpointer=memory.checkpointer)


def place(thread: object) -> Any:
    return {"configurable": {"thread_id": f"thread-{thread}"}}


def turn(number: int) -> list[str]:
    return [f"q{number}", f"looking: q{number}", f"answer: q{number}"]


async def say(graph: Any, thread: object, number: int) -> None:
    await graph.ainvoke({"messages": [HumanMessage(f"q{number}", id=f"{thread}-{number}")]}, place(thread))


THREADS = 6


class Acknowledged:
    """What callers were told is done, by those who go on until nothing answers any more."""

    def __init__(self) -> None:
        self.turns = dict.fromkeys(range(THREADS), 0)
        self.facts: list[str] = []
        self.said: list[str] = []
        self.refused: list[MemoryPluginError] = []

    async def until_refused(self, memory: Memory) -> None:
        graph = agent(memory)
        turns = [self._talk(graph, thread) for thread in range(THREADS)]
        await asyncio.gather(*turns, self._remember(memory), self._append(memory))

    async def _talk(self, graph: Any, thread: int) -> None:
        with self._noting():
            while True:
                await say(graph, thread, self.turns[thread] + 1)
                self.turns[thread] += 1

    async def _remember(self, memory: Memory) -> None:
        with self._noting():
            while True:
                fact = f"Fact number {len(self.facts)}"
                await memory.remember(fact, user_id="u")
                self.facts.append(fact)

    async def _append(self, memory: Memory) -> None:
        with self._noting():
            while True:
                text = f"said {len(self.said)}"
                await memory.conversations.append("log", text)
                self.said.append(text)

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        try:
            yield
        except DatabaseUnavailableError as error:
            self.refused.append(error)


def kill_all(server: EmbeddedServer) -> None:
    """The server and every process of it, at once, without a word."""
    parent = psutil.Process(server.pid)
    parent.suspend()  # so that it starts nobody in between
    everybody = [*parent.children(), parent]
    for process in everybody:
        process.send_signal(signal.SIGKILL)
    psutil.wait_procs(everybody, timeout=10)


async def test_a_server_killed_in_the_middle_of_writes_has_all_that_was_acknowledged(stopped: Path) -> None:
    """Every acknowledged write is there, no turn is half there for good, and agents resume where they were."""
    servers = [await asyncio.to_thread(EmbeddedServer.start, stopped)]
    told = Acknowledged()
    try:
        async with opened(servers[0].url) as memory:
            working = asyncio.create_task(told.until_refused(memory))
            await asyncio.sleep(1.2)
            kill_all(servers[0])
            await working
        assert len(told.refused) == THREADS + 2
        assert sum(told.turns.values()) > 0
        servers.append(await asyncio.to_thread(EmbeddedServer.start, stopped))
        async with opened(servers[1].url) as memory:
            await check_facts(memory, told)
            graph = agent(memory)
            for thread, turns in told.turns.items():
                await check_thread(memory, graph, thread, turns)
    finally:
        for server in reversed(servers):
            await asyncio.to_thread(server.stop)


async def check_facts(memory: Memory, told: Acknowledged) -> None:
    """What was acknowledged, and at most the one write more that was under way."""
    page = await memory.memories.list(user_id="u", limit=500)
    facts = {item.content for item in page.items}
    while page.cursor is not None:
        page = await memory.memories.list(user_id="u", limit=500, cursor=page.cursor)
        facts |= {item.content for item in page.items}
    assert set(told.facts) <= facts and len(facts) <= len(told.facts) + 1
    said = [message.text for message in await memory.conversations.messages("log", limit=10_000)]
    assert said[: len(told.said)] == told.said and len(said) <= len(told.said) + 1


async def check_thread(memory: Memory, graph: Any, thread: int, turns: int) -> None:
    state = await graph.aget_state(place(thread))
    if state.tasks:  # a turn that was under way; `next` leaves out a step whose result is stored already
        await graph.ainvoke(None, place(thread))
        turns += 1
    elif len(state.values["messages"]) == 3 * (turns + 1):
        turns += 1  # done, and not yet acknowledged
    await say(graph, thread, turns + 1)
    expected = [text for number in range(1, turns + 2) for text in turn(number)]
    state = await graph.aget_state(place(thread))
    assert [message.text for message in state.values["messages"]] == expected
    kept = await memory.conversations.messages(f"thread-{thread}", limit=10_000)
    assert [message.text for message in kept] == expected


# -- a full disk


@pytest.fixture
def small_disk(stopped: Path) -> Iterator[Path]:
    """A file system of 130 MB with a store in `data`, where this process may mount one."""
    home = Path(tempfile.mkdtemp(prefix="mp-")).resolve()
    mount = ["mount", "-t", "tmpfs", "-o", "size=130m", "tmpfs", str(home)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        home.rmdir()
        pytest.skip("mounting a small file system needs root and the right to mount")
    subprocess.run(["cp", "-a", str(stopped), str(home / "data")], check=True)
    yield home
    assert until(lambda: subprocess.run(["umount", str(home)], capture_output=True, check=False).returncode == 0)
    home.rmdir()


def fill(disk: Path) -> Path:
    """Take every block that is left; the file to remove again."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    return ballast


async def exhaust_log(server: EmbeddedServer) -> None:
    """Write to the server's log alone until that cannot grow any more: then PostgreSQL ends itself."""
    admin = await asyncpg.connect(server.url)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.PostgresError, OSError)):
        while True:
            await admin.execute("SELECT pg_logical_emit_message(true, 'fault', repeat('x', 1000000))")
    admin.terminate()
    assert await asyncio.to_thread(until, lambda: server.pid == 0, 60), "it waits for room"


async def test_a_full_disk_refuses_writes_and_serves_reads_until_there_is_room(small_disk: Path) -> None:
    server = await asyncio.to_thread(EmbeddedServer.start, small_disk / "data")
    again = None
    try:
        async with opened(server.url) as memory:
            memory.kick = lambda: None  # type: ignore[method-assign]
            await memory.remember("Alice likes tea", user_id="u")
            assert len(await memory.recall("tea", user_id="u")) == 1
            graph = agent(memory)
            await say(graph, "t", 1)
            ballast = fill(small_disk)

            with pytest.raises(StorageFullError, match="free some, then try again; nothing was written"):
                await memory.conversations.append("big", "x" + os.urandom(200_000).hex())
            with pytest.raises(StorageFullError):
                await graph.ainvoke({"messages": [HumanMessage(os.urandom(200_000).hex())]}, place("t"))
            assert len(await memory.recall("tea", user_id="u")) == 1
            assert [m.text for m in await memory.conversations.messages("thread-t")] == turn(1)

            ballast.unlink()
            assert len(await memory.recall("looking", thread_id="thread-t")) == 1, "what was queued is indexed now"
            await memory.conversations.append("big", "there is room again")
            await say(graph, "t", 2)
            kept = await memory.conversations.messages("thread-t")
            assert [message.text for message in kept] == turn(1) + turn(2)
            assert len(await memory.conversations.messages("big")) == 1

            ballast = fill(small_disk)
            await exhaust_log(server)
            with pytest.raises(DatabaseUnavailableError):
                await memory.remember("nobody listens", user_id="u")
        ballast.unlink()
        again = await asyncio.to_thread(EmbeddedServer.start, small_disk / "data")
        async with opened(again.url) as memory:
            kept = await memory.conversations.messages("thread-t")
            assert [message.text for message in kept] == turn(1) + turn(2)
            await memory.remember("and it goes on", user_id="u")
    finally:
        for each in (again, server):
            if each is not None:
                await asyncio.to_thread(each.stop)
