"""One transaction around a checkpoint, the memories of its turn, and what the application writes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from memory_plugin.errors import ConfigurationError, DatabaseError
from memory_plugin.memory import Memory

THREAD = {"configurable": {"thread_id": "t1"}}


class BrokenError(Exception):
    """What the application raises."""


@pytest.fixture
async def memory(database_url: str) -> AsyncIterator[Memory]:
    async with Memory.open(database_url, embeddings=False) as opened:
        yield opened
        await opened._indexer.stop()
        assert opened.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def graph_of(memory: Memory) -> Any:
    async def answer(state: MessagesState) -> dict[str, Any]:
        said = state["messages"][-1].content
        await memory.remember(f"They said {said}", user_id="alice", thread_id="t1")
        await memory.store.aput(("notes", "alice"), "last", {"said": said})
        return {"messages": [AIMessage(f"You said {said}")]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=memory.checkpointer)


async def turn(graph: Any, said: str) -> list[str]:
    state = await graph.ainvoke({"messages": [HumanMessage(said)]}, THREAD)
    return [message.content for message in state["messages"]]


async def rows(memory: Memory) -> dict[str, int]:
    names = ("checkpoints", "checkpoint_writes", "messages", "memories", "index_queue")
    counts = [f"(SELECT count(*) FROM memory.{name}) AS {name}" for name in names]
    return dict((await memory.database.fetch(f"SELECT {', '.join(counts)}"))[0])


# ---------------------------------------------------------------- both or neither


async def test_a_rolled_back_turn_leaves_neither_checkpoint_nor_memory(memory: Memory) -> None:
    graph = graph_of(memory)
    before = await rows(memory)
    with pytest.raises(BrokenError):
        async with memory.transaction() as connection:
            await turn(graph, "hello")
            await memory.history("t1").aadd_messages([HumanMessage("by hand")])
            assert await connection.fetchval("SELECT count(*) FROM memory.memories") == 2
            raise BrokenError
    assert await rows(memory) == before
    assert (await graph.aget_state(THREAD)).values == {}


async def test_a_committed_turn_has_all_of_it(memory: Memory) -> None:
    graph = graph_of(memory)
    async with memory.transaction() as connection:
        await turn(graph, "hello")
        assert (await rows_outside(connection, memory))["memories"] == 0
    assert len((await graph.aget_state(THREAD)).values["messages"]) == 2
    assert [hit.text for hit in await memory.recall("said hello", kinds=["memory"], limit=1)] == ["They said hello"]
    item = await memory.store.aget(("notes", "alice"), "last")
    assert item is not None
    assert item.value == {"said": "hello"}


async def rows_outside(connection: Any, memory: Memory) -> dict[str, int]:
    """What another connection sees."""
    assert connection.is_in_transaction()
    other = await asyncpg.connect(memory.database.url)
    try:
        return {"memories": await other.fetchval("SELECT count(*) FROM memory.memories")}
    finally:
        await other.close()


async def test_after_a_rollback_the_thread_goes_on_from_where_it_was(memory: Memory) -> None:
    """Rows that were rolled back leave their numbers to others: none may be taken for known."""
    graph = graph_of(memory)
    await turn(graph, "one")
    with pytest.raises(BrokenError):
        async with memory.transaction():
            assert await turn(graph, "lost") == ["one", "You said one", "lost", "You said lost"]
            raise BrokenError
    await memory.conversations.append("t1", [{"role": "user", "content": "between", "id": "b"}])
    assert await turn(graph, "two") == ["one", "You said one", "two", "You said two"]
    async with Memory.open(memory.database.url, embeddings=False) as other:
        said = [message.text for message in await other.conversations.messages("t1")]
        state = (await graph_of(other).aget_state(THREAD)).values["messages"]
    assert said == ["one", "You said one", "between", "two", "You said two"]
    assert [message.content for message in state] == ["one", "You said one", "two", "You said two"]


async def test_a_commit_and_a_deletion_inside_are_known_outside(memory: Memory) -> None:
    graph = graph_of(memory)
    await turn(graph, "one")
    async with memory.transaction():
        await turn(graph, "two")
    assert await turn(graph, "three") == [
        *("one", "You said one", "two", "You said two"),
        *("three", "You said three"),
    ]
    async with memory.transaction():
        await memory.checkpointer.adelete_thread("t1")
        await turn(graph, "anew")
    assert await turn(graph, "on") == ["anew", "You said anew", "on", "You said on"]


async def test_an_inner_transaction_is_undone_by_itself(memory: Memory) -> None:
    async with memory.transaction():
        await memory.remember("kept", key="a")
        with pytest.raises(BrokenError):
            async with memory.transaction():
                await memory.remember("dropped", key="b")
                raise BrokenError
    assert [item.content for item in (await memory.memories.list()).items] == ["kept"]


# ---------------------------------------------------------------- what goes wrong inside


async def test_an_operation_that_fails_takes_nothing_else_with_it(memory: Memory) -> None:
    async with memory.transaction():
        await memory.remember("before", key="a")
        with pytest.raises(DatabaseError):
            await memory.database.fetch("SELECT nothing FROM nowhere")
        await memory.remember("after", key="b")
    assert {item.content for item in (await memory.memories.list()).items} == {"before", "after"}


async def test_an_operation_that_is_cancelled_takes_nothing_else_with_it(memory: Memory) -> None:
    async with memory.transaction():
        await memory.remember("before", key="a")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await memory.database.fetch("SELECT pg_sleep(60)")
        await memory.remember("after", key="b")
    assert {item.content for item in (await memory.memories.list()).items} == {"before", "after"}


async def test_a_lost_connection_is_not_replaced_inside(memory: Memory) -> None:
    with pytest.raises(DatabaseError, match="nothing|again"):
        async with memory.transaction() as connection:
            await memory.remember("before", key="a")
            pid = connection.get_server_pid()
            other = await asyncpg.connect(memory.database.url)
            await other.execute("SELECT pg_terminate_backend($1)", pid)
            await other.close()
            await memory.remember("after", key="b")
    assert (await memory.memories.list()).items == []


async def test_tasks_inside_take_turns_on_the_one_connection(memory: Memory) -> None:
    async with memory.transaction():
        await asyncio.gather(*(memory.remember(f"fact {number}", key=str(number)) for number in range(20)))
        await asyncio.gather(*(memory.store.aput(("n",), str(number), {"n": number}) for number in range(20)))
        assert memory.database.engine.pool.checkedout() == 1  # type: ignore[attr-defined]
    assert len((await memory.memories.list(limit=100)).items) == 40


async def test_transactions_that_remember_the_same_make_one_memory(memory: Memory) -> None:
    async def one(number: int) -> str | None:
        async with memory.transaction():
            return (await memory.remember("The same", similar=False)).status

    statuses = await asyncio.gather(*map(one, range(6)))
    assert sorted(map(str, statuses)) == ["created", *["duplicate"] * 5]


async def test_recalling_inside_indexes_outside(memory: Memory) -> None:
    """The index is everybody's: it neither waits for the transaction nor is undone with it."""
    await memory.remember("Alice prefers tea")
    with pytest.raises(BrokenError):
        async with memory.transaction():
            await memory.remember("Bob prefers coffee")
            assert [hit.text for hit in await memory.recall("prefers", kinds=["memory"])] == ["Alice prefers tea"]
            raise BrokenError
    assert await memory.database.fetchval("SELECT count(*) FROM memory.passages") == 1


async def test_what_outlives_the_transaction_no_longer_belongs_to_it(memory: Memory) -> None:
    late = asyncio.Event()

    async def straggler() -> None:
        await late.wait()
        await memory.remember("late")

    async with memory.transaction():
        task = asyncio.create_task(straggler())
        await asyncio.sleep(0)
    late.set()
    await task
    assert [item.content for item in (await memory.memories.list()).items] == ["late"]


# ---------------------------------------------------------------- a connection of the caller's


@pytest.mark.parametrize("commits", [True, False])
async def test_a_connection_of_asyncpg_is_joined_and_left_to_its_owner(memory: Memory, commits: bool) -> None:
    async with asyncpg.create_pool(memory.database.url, min_size=1, max_size=1) as pool, pool.acquire() as own:
        own_transaction = own.transaction()
        await own_transaction.start()
        async with memory.transaction(own):
            await turn(graph_of(memory), "hello")
        assert (await memory.memories.list()).items == []
        await (own_transaction.commit() if commits else own_transaction.rollback())
    counts = await rows(memory)
    assert (counts["messages"], counts["memories"]) == ((2, 2) if commits else (0, 0))


@pytest.mark.parametrize("opened", [lambda engine: engine.connect(), AsyncSession], ids=["connection", "session"])
async def test_a_connection_of_sqlalchemy_is_joined(memory: Memory, opened: Callable[..., Any]) -> None:
    engine = create_async_engine(memory.database.url.replace("postgresql:", "postgresql+asyncpg:"))
    async with opened(engine) as own:
        async with memory.transaction(own):
            await memory.remember("rolled back")
        assert (await own.execute(text("SELECT '[1]'::jsonb"))).scalar() == [1], "its own codecs are back"
        await own.rollback()
        async with memory.transaction(own):
            await memory.remember("committed", metadata={"n": 1})
        await own.commit()
    await engine.dispose()
    (item,) = (await memory.memories.list()).items
    assert (item.content, item.metadata) == ("committed", {"n": 1})


async def test_a_connection_that_cannot_be_used_is_refused(memory: Memory) -> None:
    own = await asyncpg.connect(memory.database.url)
    with pytest.raises(ConfigurationError, match="begin one"):
        async with memory.transaction(own):
            pass
    async with own.transaction():
        await own.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        with pytest.raises(ConfigurationError, match="codecs"):
            async with memory.transaction(own):
                pass
    with pytest.raises(ConfigurationError, match="not str"):
        async with memory.transaction("postgresql://"):
            pass
    await own.close()
    await memory.remember("none of it is left behind")


# ---------------------------------------------------------------- sync code


def test_sync_code_has_transactions_too(database_url: str) -> None:
    with Memory.open(database_url, embeddings=False) as memory:
        with pytest.raises(BrokenError), memory.transaction():
            memory.remember("lost")
            memory.store.put(("a",), "k", {"x": 1})
            raise BrokenError
        assert memory.memories.list().items == []
        with memory.transaction():
            memory.remember("kept")
        assert [item.content for item in memory.memories.list().items] == ["kept"]
