"""Whole turns of a real graph: what a user waits for, and what is stored in the end."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, MessagesState, StateGraph

from benchmarks.checkpointer.cells import undisturbed
from benchmarks.checkpointer.contenders import Contender
from benchmarks.checkpointer.conversation import ai, human
from benchmarks.checkpointer.measured import Result

WARM = 3
_CONFIG: RunnableConfig = {"configurable": {"thread_id": "conversation"}}
_WARM_CONFIG: RunnableConfig = {"configurable": {"thread_id": "warm"}}


def _graph(saver: BaseCheckpointSaver[Any] | None, chance: random.Random) -> Any:
    """A graph of one node, whose model answers at once.

    A turn is one get_tuple, three put and two put_writes of the saver.
    """

    async def agent(state: MessagesState) -> dict[str, Any]:  # noqa: ARG001 - a node takes it
        return {"messages": [ai(chance)]}

    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    return builder.compile(checkpointer=saver)


async def measure_turns(
    results: Mapping[str, Result],
    contenders: Sequence[Contender],
    *,
    turns: int,
    chance: random.Random,
    advance: Callable[[int], None],
) -> None:
    """Let a conversation with each grow, turn by turn in random order; look at its size halfway and at the end.

    Works in databases that hold nothing else. What a saver puts off is not in the time of the turn;
    it is done before the next one begins, and noted.
    """
    graphs = [(each, _graph(each.saver, random.Random(1))) for each in contenders]
    alone = _graph(None, random.Random(1))
    spoken = random.Random(2)
    for _ in range(WARM):
        for _contender, graph in graphs:
            await graph.ainvoke({"messages": [human(spoken)]}, _WARM_CONFIG)
    for contender in contenders:
        await contender.settle()
        await contender.saver.adelete_thread("warm")
    empty = {each.name: await each.size() for each in contenders}
    no_index = {each.name: await each.index_size() for each in contenders}
    waited: list[float] = []
    bare: list[float] = []
    sizes: list[dict[str, int]] = []
    for half in (turns // 2, turns - turns // 2):
        with undisturbed():
            for _ in range(half):
                chance.shuffle(graphs)
                said = human(spoken)
                for contender, graph in graphs:
                    taken = await _turn(graph, said, _CONFIG)
                    results["turn"].of(contender.name).samples.append(taken)
                    began = time.perf_counter()
                    await contender.settle()
                    if contender is contenders[0]:
                        waited.append((time.perf_counter() - began) * 1000)
                bare.append(await _turn(alone, said, None))
                advance(1)
        sizes.append({each.name: await each.size() for each in contenders})
    await _check(contenders, graphs, turns)
    _sizes(results, contenders, empty, sizes)
    for each in contenders:
        index = await each.index_size() - no_index[each.name]
        results["bytes-200-index"].of(each.name).samples.append(sizes[-1][each.name] - empty[each.name] + index)
    results["turn"].notes["the graph without a saver"] = f"{sorted(bare)[len(bare) // 2]:.2f} ms"
    results["turn"].notes["index of words, made up after a turn by ours"] = f"{sorted(waited)[len(waited) // 2]:.2f} ms"


async def _turn(graph: Any, said: Any, config: RunnableConfig | None) -> float:
    began = time.perf_counter()
    await graph.ainvoke({"messages": [said]}, config)
    return (time.perf_counter() - began) * 1000


async def _check(contenders: Sequence[Contender], graphs: Sequence[tuple[Contender, Any]], turns: int) -> None:
    """Every saver must know the whole conversation."""
    assert len(contenders) == len(graphs)
    for contender, graph in graphs:
        state = await graph.aget_state(_CONFIG)
        if len(state.values["messages"]) != 2 * turns:
            raise AssertionError(f"{contender.name} lost a part of the conversation.")


def _sizes(
    results: Mapping[str, Result],
    contenders: Sequence[Contender],
    empty: Mapping[str, int],
    sizes: Sequence[Mapping[str, int]],
) -> None:
    first, second = sizes
    for contender in contenders:
        name = contender.name
        half, whole = (taken[name] - empty[name] for taken in (first, second))
        results["bytes-100"].of(name).samples.append(half)
        results["bytes-200"].of(name).samples.append(whole)
        results["growth"].of(name).samples.append((whole - half) / max(half, 1))
