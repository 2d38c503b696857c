"""From any thread, on any loop, sync or async: one checkpointer."""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.graph import START, MessagesState, StateGraph

from memory_plugin import Memory
from memory_plugin.errors import ConfigurationError, WrongLoopError
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, checkpoint, place, said, values

pytest_plugins = ("tests.saver_fixtures",)


def echo_graph(saver: BaseCheckpointSaver[Any]) -> Any:
    """A graph with one node that answers, sync and async."""

    def node(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"heard {state['messages'][-1].text}", id=f"a{len(state['messages'])}")]}

    return StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)


def converse(graph: Any, thread: str, turns: int = 2) -> list[str]:
    for turn in range(turns):
        state = graph.invoke({"messages": [("human", f"{thread} {turn}")]}, {"configurable": {"thread_id": thread}})
    return [message.text for message in state["messages"]]


def heard(thread: str, turns: int = 2) -> list[str]:
    return [text for turn in range(turns) for text in (f"{thread} {turn}", f"heard {thread} {turn}")]


def use_every_sync_method(saver: ConversationSaver) -> None:
    state = checkpoint({"messages": said("a")}, {"messages": "1"})
    stored = saver.put(place(), state, {"source": "loop", "step": 0, "run_id": "r"}, {"messages": "1"})
    saver.put_writes(stored, [("x", 1)], "task", "path")
    found = saver.get_tuple(place())
    assert found is not None
    assert found.pending_writes == [("task", "x", 1)]
    assert saver.get(place()) == found.checkpoint
    assert [each.config for each in saver.list(place(), limit=5)] == [stored]
    assert next(iter(saver.list(None))).config == stored  # left early
    saver.copy_thread("t", "copy")
    saver.prune(["copy"])
    assert saver.get_delta_channel_history(config=stored, channels=["messages"]) == {"messages": {"writes": []}}
    saver.delete_for_runs(["r"])
    assert saver.get_tuple(place("copy")) is None
    saver.delete_thread("t")
    assert list(saver.list(None)) == []


# -- opened by a plain `with`


def test_a_plain_thread_inside_with(shared_url: str, tenant: str) -> None:
    with ConversationSaver.from_conn_string(shared_url, tenant=tenant) as saver:
        assert saver.setup() is not None
        use_every_sync_method(saver)
        assert converse(echo_graph(saver), "t") == heard("t")


def test_the_checkpointer_of_a_memory_inside_with(shared_url: str, tenant: str) -> None:
    with Memory.open(shared_url, tenant=tenant, embeddings=False) as memory:
        assert converse(echo_graph(memory.checkpointer), "t") == heard("t")
        assert [message.text for message in memory.conversations.messages("t")] == heard("t")


def test_many_threads_inside_with(shared_url: str, tenant: str) -> None:
    with ConversationSaver.from_conn_string(shared_url, tenant=tenant) as saver, ThreadPoolExecutor(16) as pool:
        graph = echo_graph(saver)
        found = list(pool.map(lambda number: converse(graph, f"t{number}"), range(32)))
    assert found == [heard(f"t{number}") for number in range(32)]


def test_async_calls_on_a_loop_of_the_callers_own(shared_url: str, tenant: str) -> None:
    """As in a notebook: the store was opened by a plain `with`, the graph is awaited."""

    async def run(thread: str) -> list[str]:
        graph = echo_graph(saver)
        config: Any = {"configurable": {"thread_id": thread}}
        await saver.setup()
        for turn in range(2):
            state = await graph.ainvoke({"messages": [("human", f"{thread} {turn}")]}, config)
        listed = [each async for each in saver.alist(config)]
        async for each in saver.alist(config):
            assert each == listed[0]
            break
        assert len(listed) == 6
        return [message.text for message in state["messages"]]

    with ConversationSaver.from_conn_string(shared_url, tenant=tenant) as saver:
        assert asyncio.run(run("a")) == heard("a")
        assert asyncio.run(run("b")) == heard("b")  # another loop again


# -- opened by `async with`


async def test_another_thread_beside_the_running_loop(saver: ConversationSaver) -> None:
    await asyncio.to_thread(use_every_sync_method, saver)
    assert await asyncio.to_thread(converse, echo_graph(saver), "t") == heard("t")


async def test_sync_and_async_at_once(saver: ConversationSaver) -> None:
    graph = echo_graph(saver)

    async def answer(number: int) -> list[str]:
        if number % 2:
            return await asyncio.to_thread(converse, graph, f"t{number}")
        for turn in range(2):
            state = await graph.ainvoke({"messages": [("human", f"t{number} {turn}")]}, place(f"t{number}"))
        return [message.text for message in state["messages"]]

    assert await asyncio.gather(*map(answer, range(16))) == [heard(f"t{number}") for number in range(16)]


async def test_from_conn_string_in_async_with(shared_url: str, tenant: str) -> None:
    async with ConversationSaver.from_conn_string(shared_url, tenant=tenant) as saver:
        await saver.setup()
        await Writer(saver).put(messages=said("a"))
        assert await values(saver, place()) == {"messages": said("a")}


CALLS: dict[str, Callable[[ConversationSaver], Any]] = {
    "get_tuple": lambda saver: saver.get_tuple(place()),
    "get": lambda saver: saver.get(place()),
    "list": lambda saver: list(saver.list(place())),
    "put": lambda saver: saver.put(place(), checkpoint({}, {}), {}, {}),
    "put_writes": lambda saver: saver.put_writes(place(checkpoint_id="1"), [("x", 1)], "task"),
    "delete_thread": lambda saver: saver.delete_thread("t"),
    "delete_for_runs": lambda saver: saver.delete_for_runs(["r"]),
    "copy_thread": lambda saver: saver.copy_thread("a", "b"),
    "prune": lambda saver: saver.prune(["t"]),
    "get_delta_channel_history": lambda saver: saver.get_delta_channel_history(config=place(), channels=["x"]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_sync_call_on_the_owning_loop_says_what_to_do(
    call: Callable[[ConversationSaver], Any], saver: ConversationSaver
) -> None:
    with pytest.raises(WrongLoopError, match=r"await the async method instead \(aput, aget, ainvoke"):
        call(saver)


def test_a_store_whose_loop_has_ended_says_so(shared_url: str, tenant: str) -> None:
    async def leave_open() -> ConversationSaver:
        opened = Memory.open(shared_url, tenant=tenant, embeddings=False)
        memory = await opened.__aenter__()
        saver = memory.checkpointer
        await memory.database.close()
        return saver

    saver = asyncio.run(leave_open())
    with pytest.raises(WrongLoopError, match="has ended"):
        saver.get_tuple(place())
    with pytest.raises(WrongLoopError, match="has ended"):
        asyncio.run(values(saver, place()))


@pytest.mark.parametrize("kind", ["with", "async with"])
def test_an_option_that_does_not_exist_leaves_nothing_open(kind: str, shared_url: str) -> None:
    async def enter() -> None:
        async with ConversationSaver.from_conn_string(shared_url, bogus=1):
            pass

    before = threading.active_count()
    with pytest.raises(TypeError, match="bogus"):
        if kind == "async with":
            asyncio.run(enter())
        else:
            with ConversationSaver.from_conn_string(shared_url, bogus=1):
                pass
    assert threading.active_count() == before


def test_a_wrong_url_says_so(shared_url: str) -> None:
    with pytest.raises(ConfigurationError), ConversationSaver.from_conn_string("mysql://x/y"):
        pass


# -- the serializer


async def test_a_copy_with_an_allow_list_reads_by_its_own_serializer(saver: ConversationSaver) -> None:
    from tests.test_checkpointer_values import Point

    saver.serde = JsonPlusSerializer(allowed_msgpack_modules=None)
    narrow = saver.with_allowlist([("tests.test_checkpointer_values", "Point")])
    await Writer(saver).put(x=Point(1, [2.0]))

    assert (await values(narrow, place()))["x"] == Point(1, [2.0])
    assert (await values(saver, place()))["x"] == {"x": 1, "y": [2.0]}  # unknown: its fields, as LangGraph does
    assert isinstance(copy.copy(saver), ConversationSaver)
