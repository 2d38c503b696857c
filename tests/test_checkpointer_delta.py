"""Threads of delta channels can be thinned out, copied and cut, and no state is lost without a word.

A delta channel has no value in most checkpoints: it lives on the writes of the checkpoints before.
"""

from __future__ import annotations

from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, interrupt

from memory_plugin import Memory
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, place, rows, said

pytest_plugins = ("tests.saver_fixtures",)


def merged(state: dict[str, int], writes: list[dict[str, int]]) -> dict[str, int]:
    return {name: value for each in [state, *writes] for name, value in each.items()}


class State(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=5)]
    notes: Annotated[dict[str, int], DeltaChannel(merged, snapshot_frequency=1000)]
    count: int


def answer(state: Any) -> Any:
    number = len(state["messages"])
    return {"messages": [AIMessage(f"answer {number}", id=f"a{number}")], "notes": {f"note {number}": number}}


def graph_of(saver: Any) -> Any:
    builder = StateGraph(State).add_node("answer", answer).add_node("count", lambda s: {"count": len(s["messages"])})
    return builder.add_edge(START, "answer").add_edge("answer", "count").compile(checkpointer=saver)


async def converse(graph: Any, turns: range, thread: str = "t", durability: Any = "sync") -> None:
    for turn in turns:
        config = {**place(thread), "metadata": {"run_id": f"run-{turn}"}}
        await graph.ainvoke({"messages": [HumanMessage(f"q{turn}", id=f"q{turn}")]}, config, durability=durability)


async def states(graph: Any, thread: str = "t") -> dict[str, Any]:
    """By checkpoint, newest first, the values of the state."""
    return {
        each.config["configurable"]["checkpoint_id"]: each.values
        async for each in graph.aget_state_history(place(thread))
    }


def subset(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return bool(part) and all(whole[name] == values for name, values in part.items())


# -- thinned out


@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("turns", [1, 3, 6])
async def test_a_pruned_thread_keeps_its_state(turns: int, durability: str, saver: ConversationSaver) -> None:
    graph = graph_of(saver)
    await converse(graph, range(turns), durability=durability)
    before = await states(graph)
    await saver.aprune(["t"])
    after = await states(graph)

    assert next(iter(after)) == next(iter(before))
    assert subset(after, before)
    saver._known.clear()
    assert subset(await states(graph), before)


async def test_pruning_drops_what_no_channel_lives_on(saver: ConversationSaver, store: Memory) -> None:
    class Snapshots(TypedDict):
        messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=3)]

    builder = StateGraph(Snapshots).add_node("answer", lambda s: {"messages": answer(s)["messages"]})
    graph = builder.add_edge(START, "answer").compile(checkpointer=saver)
    await converse(graph, range(10))
    before = await states(graph)
    await saver.aprune(["t"])

    assert subset(await states(graph), before)
    assert len(before) == 30
    assert await rows(store, "checkpoints") < 8


async def test_a_pruned_thread_goes_on_as_if_nothing_had_been(saver: ConversationSaver) -> None:
    oracle = graph_of(InMemorySaver())
    graph = graph_of(saver)
    for first in range(0, 12, 3):
        await converse(oracle, range(first, first + 3))
        await converse(graph, range(first, first + 3))
        await saver.aprune(["t"])

    assert (await graph.aget_state(place())).values == (await oracle.aget_state(place())).values


async def test_a_pruned_fork_keeps_the_branch_that_is_newest(saver: ConversationSaver) -> None:
    graph = graph_of(saver)
    await converse(graph, range(4))
    past = [each async for each in graph.aget_state_history(place())]
    forked = await graph.aupdate_state(past[6].config, {"messages": [HumanMessage("fork", id="f")]}, as_node="answer")
    await graph.ainvoke(None, forked)
    await graph.aupdate_state(place(), {"messages": [RemoveMessage(id="q0")]})
    before = await states(graph)
    await saver.aprune(["t"])
    after = await states(graph)

    assert next(iter(after)) == next(iter(before))
    assert subset(after, before)


async def test_a_pruned_thread_still_waits_for_its_answer(saver: ConversationSaver) -> None:
    def ask(state: Any) -> Any:
        return {"messages": [AIMessage(interrupt("well?"), id=f"asked {len(state['messages'])}")]}

    graph = StateGraph(State).add_node("ask", ask).add_edge(START, "ask").compile(checkpointer=saver)
    for turn in range(3):
        await graph.ainvoke({"messages": [HumanMessage(f"q{turn}", id=f"q{turn}")]}, place())
        await saver.aprune(["t"])
        assert [each.value for each in (await graph.aget_state(place())).interrupts] == ["well?"]
        await graph.ainvoke(Command(resume=f"r{turn}"), place())

    texts = [each.text for each in (await graph.aget_state(place())).values["messages"]]
    assert texts == ["q0", "r0", "q1", "r1", "q2", "r2"]


async def test_delta_channels_of_a_subgraph_are_kept_too(saver: ConversationSaver) -> None:
    sub = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile(checkpointer=True)
    graph = StateGraph(MessagesState).add_node("sub", sub).add_edge(START, "sub").compile(checkpointer=saver)
    await converse(graph, range(5))
    inside = place("t", "sub")
    before = (await graph.aget_state(inside)).values
    assert len(before["messages"]) > 8
    await saver.aprune(["t"])
    assert (await graph.aget_state(inside)).values == before
    await saver.adelete_for_runs(["run-1", "run-2"])
    assert (await graph.aget_state(inside)).values == before
    await saver.acopy_thread("t", "copy")
    assert (await graph.aget_state(place("copy", "sub"))).values == before


# -- copied


async def test_a_copy_has_every_state_and_outlives_its_source(saver: ConversationSaver) -> None:
    graph = graph_of(saver)
    await converse(graph, range(7))
    before = await states(graph)
    await saver.acopy_thread("t", "copy")
    await saver.adelete_thread("t")

    assert await states(graph, "copy") == before
    assert await states(graph) == {}
    await converse(graph, range(7, 9), "copy")
    assert subset(before, await states(graph, "copy"))
    assert len((await graph.aget_state(place("copy"))).values["messages"]) == 18


# -- cut


@pytest.mark.parametrize("durability", ["sync", "exit"])
@pytest.mark.parametrize("deleted", [[0], [2, 3], [5], [0, 1, 2, 3, 4], [3, 6]], ids=str)
async def test_deleted_runs_take_no_state_of_others_along(
    deleted: list[int], durability: str, saver: ConversationSaver
) -> None:
    graph = graph_of(saver)
    after_turn = []
    for turn in range(7):
        await converse(graph, range(turn, turn + 1), durability=durability)
        after_turn.append((await graph.aget_state(place())).values)
    before = await states(graph)
    await saver.adelete_for_runs([f"run-{turn}" for turn in deleted])

    left = max(turn for turn in range(7) if turn not in deleted)
    assert (await graph.aget_state(place())).values == after_turn[left]
    assert subset(await states(graph), before)


async def test_all_runs_deleted_leave_nothing(saver: ConversationSaver, store: Memory) -> None:
    graph = graph_of(saver)
    await converse(graph, range(5))
    await saver.adelete_for_runs([f"run-{turn}" for turn in range(5)])

    assert await states(graph) == {}
    for table in ("checkpoints", "checkpoint_writes", "checkpoint_blobs"):
        assert await rows(store, table) == 0


async def test_a_thread_that_became_a_delta_thread_keeps_its_past(saver: ConversationSaver) -> None:
    """A graph is changed from a plain list of messages to a delta channel, over threads that exist."""
    plain = StateGraph(MessagesState).add_node("answer", lambda s: {"messages": answer(s)["messages"]})
    await converse(plain.add_edge(START, "answer").compile(checkpointer=saver), range(3))
    graph = graph_of(saver)
    await converse(graph, range(3, 5))
    before = await states(graph)
    assert [each.id for each in next(iter(before.values()))["messages"]][:2] == ["q0", "a1"]

    await saver.aprune(["t"])
    assert subset(await states(graph), before)
    await saver.acopy_thread("t", "copy")
    assert subset(await states(graph, "copy"), before)
    await saver.adelete_for_runs(["run-0", "run-3"])
    assert subset(await states(graph), before)
    assert next(iter((await states(graph)).values())) == next(iter(before.values()))


async def test_a_history_that_is_thinned_out_while_it_is_read_is_read_again(
    saver: ConversationSaver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the list that a delta channel began with is gone a moment later, the answer is what is there then."""
    writer = Writer(saver)
    await writer.put(messages=said("a"))
    del writer.values["messages"]
    writer.versions["messages"] = "9"
    latest = await writer.put({"counters_since_delta_snapshot": {"messages": (1, 1)}}, x=2)
    checkpoints, get = saver._core.checkpoints, saver._core.checkpoints.get

    async def get_too_late(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(checkpoints, "get", get)
        await saver.adelete_thread("t")
        return await get(*arguments, **options)

    monkeypatch.setattr(checkpoints, "get", get_too_late)
    assert await saver.aget_delta_channel_history(config=latest, channels=["messages"]) == {"messages": {"writes": []}}
