"""Graphs of every kind leave the states that they leave with LangGraph's saver in memory, whole."""

from __future__ import annotations

import asyncio
import dataclasses
import operator
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypedDict

import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage, SystemMessage
from langgraph.channels import EphemeralValue, Topic, UntrackedValue
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, _messages_delta_reducer
from langgraph.types import Command, RetryPolicy, Send, StateUpdate, interrupt

from memory_plugin import Memory
from tests.graph_tools import Drive, outcome
from tests.saver_tools import opened, place

pytest_plugins = ("tests.saver_fixtures",)

Case = Callable[[Drive], Awaitable[Any]]
CASES: dict[str, Case] = {}

HERE = place()


def case(run: Case) -> Case:
    """A conversation with a graph; what it gives back is compared too."""
    CASES[run.__name__] = run
    return run


def asks(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text, id=f"id of {text}")]}


def answer(state: Any) -> dict[str, Any]:
    last = state["messages"][-1].text
    return {"messages": [AIMessage(f"heard {last}", id=f"answer to {last}")]}


def chain(schema: Any, saver: Any, **nodes: Any) -> Any:
    """The nodes one after the other."""
    return StateGraph(schema).add_sequence(list(nodes.items())).add_edge(START, next(iter(nodes))).compile(saver)


# -- conversations


def chat(durability: str) -> Case:
    async def run(drive: Drive) -> Any:
        graph = chain(MessagesState, drive.saver, node=answer)
        for turn in range(4):
            await drive.invoke(graph, asks(f"q{turn}"), HERE, durability=durability)
        return await drive.history(graph, HERE)

    return run


CASES |= {f"chat with durability {name}": chat(name) for name in ("sync", "async", "exit")}


@case
async def time_travel_and_forks(drive: Drive) -> Any:
    graph = chain(MessagesState, drive.saver, first=answer, second=answer)
    for turn in range(3):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    past = await drive.history(graph, HERE)
    middle = next(each for each in past if each.next == ("second",) and each.metadata["step"] < 6)
    await drive.invoke(graph, None, middle.config)  # runs again from there
    await drive.invoke(graph, asks("instead"), past[-3].config)
    forked = await drive.update(graph, past[4].config, asks("edited"), as_node="first")
    await drive.invoke(graph, None, forked)
    await drive.update(graph, HERE, None)
    await drive.update(graph, past[2].config, None, as_node="__copy__")
    await drive.update(graph, HERE, asks("as input"), as_node="__input__")
    await drive.update(graph, HERE, None, as_node="__end__")
    return await drive.history(graph, HERE)


@case
async def many_updates_at_once(drive: Drive) -> Any:
    graph = chain(MessagesState, drive.saver, first=answer, second=answer)
    steps = [
        [StateUpdate(asks("a"), "__input__")],
        [StateUpdate(asks("b"), "first")],
        [StateUpdate(asks("c"), "second")],
    ]
    await drive._call(graph, "bulk_update_state", HERE, steps)
    return await drive.history(graph, HERE)


@case
async def edits_in_the_middle_of_a_conversation(drive: Drive) -> Any:
    graph = chain(MessagesState, drive.saver, node=answer)
    for turn in range(3):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    await drive.update(graph, HERE, {"messages": [RemoveMessage(id="answer to q0")]})
    await drive.update(graph, HERE, {"messages": [HumanMessage("q1 again", id="id of q1")]})
    await drive.invoke(graph, asks("q3"), HERE)
    await drive.update(graph, HERE, {"messages": [RemoveMessage(id="id of q0"), *asks("q0")["messages"]]})
    await drive.update(graph, HERE, {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES)]})
    await drive.invoke(graph, asks("new start"), HERE)
    return await drive.history(graph, HERE)


@case
async def summaries_take_the_place_of_what_was_said(drive: Drive) -> Any:
    def shorten(state: Any) -> Any:
        if len(state["messages"]) < 5:
            return {}
        kept = state["messages"][-2:]
        summary = SystemMessage(f"{len(state['messages']) - 2} messages", id=f"summary {state['messages'][0].id}")
        return {"messages": [RemoveMessage(id=REMOVE_ALL_MESSAGES), summary, *kept]}

    graph = chain(MessagesState, drive.saver, shorten=shorten, node=answer)
    for turn in range(7):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    return await drive.history(graph, HERE)


@case
async def messages_changed_in_place(drive: Drive) -> Any:
    def touch(state: Any) -> Any:
        state["messages"][0].additional_kwargs["seen"] = len(state["messages"])
        return {"messages": [state["messages"][0]]}

    graph = chain(MessagesState, drive.saver, touch=touch, node=answer)
    for turn in range(3):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    return await drive.history(graph, HERE)


# -- interrupts


@case
async def an_interrupt_and_its_answer(drive: Drive) -> Any:
    def node(state: Any) -> Any:
        first = interrupt({"question": "sure?"})
        second = interrupt("really?")
        return {"messages": [AIMessage(f"{first} {second}", id="answer")]}

    graph = chain(MessagesState, drive.saver, node=node)
    results = [await drive.invoke(graph, given, HERE) for given in (asks("go"), Command(resume="yes"))]
    waiting = await drive.state(graph, HERE)
    results.append(await drive.invoke(graph, Command(resume={"deep": ["yes"]}), HERE))
    past = await drive.history(graph, HERE)
    results.append(await drive.invoke(graph, Command(resume="otherwise"), past[1].config))  # from where it waited
    return results, waiting, past, await drive.history(graph, HERE)


class Answers(TypedDict):
    given: Annotated[list[str], operator.add]


@case
async def several_interrupts_answered_one_by_one(drive: Drive) -> Any:
    def asking(name: str) -> Any:
        return lambda state: {"given": [f"{name}: {interrupt(name)}"]}

    builder = StateGraph(Answers)
    for name in ("left", "middle", "right"):
        builder.add_node(name, asking(name)).add_edge(START, name)
    graph = builder.compile(drive.saver)
    await drive.invoke(graph, {"given": []}, HERE)
    for number in range(3):
        state = await drive.state(graph, HERE)
        first = state.interrupts[0]
        await drive.invoke(graph, Command(resume={first.id: f"answer {number}"}), HERE)
    return await drive.history(graph, HERE)


@case
async def a_stop_before_and_after_nodes(drive: Drive) -> Any:
    builder = StateGraph(MessagesState).add_sequence([("first", answer), ("second", answer), ("third", answer)])
    graph = builder.add_edge(START, "first").compile(
        drive.saver, interrupt_before=["second"], interrupt_after=["second"]
    )
    await drive.invoke(graph, asks("q"), HERE)
    await drive.update(graph, HERE, asks("a word between"))
    await drive.invoke(graph, None, HERE)
    await drive.invoke(graph, Command(resume="go on", update=asks("another")), HERE)
    return await drive.history(graph, HERE)


# -- subgraphs


def with_subgraph(kind: Any) -> Case:
    async def run(drive: Drive) -> Any:
        def inner(state: Any) -> Any:
            if "ask" in state["messages"][-1].text:
                return {"messages": [AIMessage(interrupt("inside?"), id=f"inside {len(state['messages'])}")]}
            return answer(state)

        deep = chain(MessagesState, kind, inner=inner)
        sub = chain(MessagesState, kind, before=answer, deep=deep)
        graph = chain(MessagesState, drive.saver, sub=sub, after=answer)
        results = [await drive.invoke(graph, asks("q0"), HERE)]
        results.append(await drive.invoke(graph, asks("ask me"), HERE))
        if kind is not False:
            results.append(await drive.state(graph, HERE, subgraphs=True))
            results.append(await drive.invoke(graph, Command(resume="answered"), HERE))
        results.append(await drive.invoke(graph, asks("q2"), HERE))
        past = await drive.history(graph, HERE)
        for each in past:
            results.append(await drive.state(graph, each.config, subgraphs=True))  # noqa: PERF401
        return results, past

    return run


CASES |= {f"subgraphs with checkpointer {kind}": with_subgraph(kind) for kind in (None, True)}


@case
async def a_subgraph_that_hands_over_to_its_parent(drive: Drive) -> Any:
    def leave(state: Any) -> Any:
        return Command(goto="other", update=asks("from below"), graph=Command.PARENT)

    sub = chain(MessagesState, None, leave=leave)
    builder = StateGraph(MessagesState).add_node("sub", sub, destinations=("other",)).add_node("other", answer)
    graph = builder.add_edge(START, "sub").compile(drive.saver)
    for turn in range(2):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    return await drive.history(graph, HERE)


@case
async def time_travel_into_a_subgraph(drive: Drive) -> Any:
    sub = chain(MessagesState, True, one=answer, two=answer)
    graph = chain(MessagesState, drive.saver, sub=sub)
    for turn in range(3):
        await drive.invoke(graph, asks(f"q{turn}"), HERE)
    past = await drive.history(graph, HERE)
    await drive.invoke(graph, None, next(each for each in past if each.next == ("sub",)).config)
    await drive.invoke(graph, asks("other"), past[3].config)
    return await drive.history(graph, HERE)


# -- tasks


class Numbers(TypedDict):
    numbers: Annotated[list[int], operator.add]
    count: int


@case
async def a_fan_out_with_a_worker_that_fails(drive: Drive) -> Any:
    failing = [True]

    def worker(given: Any) -> Any:
        if given["n"] == 3 and failing[0]:
            raise ValueError("not this time")
        return {"numbers": [given["n"] * 2]}

    builder = StateGraph(Numbers).add_node("start", lambda state: {"count": 5}).add_node("worker", worker)
    builder.add_conditional_edges("start", lambda state: [Send("worker", {"n": n}) for n in range(state["count"])])
    builder.add_node("end", lambda state: {"count": -1}).add_edge("worker", "end")
    graph = builder.add_edge(START, "start").compile(drive.saver)
    config = {**HERE, "max_concurrency": 1}
    raised = await drive.fail(graph, {"numbers": [], "count": 0}, config)
    waiting = await drive.state(graph, HERE)
    failing[0] = False
    done = await drive.invoke(graph, None, config)
    return raised, waiting.next, waiting.values, done, await drive.history(graph, HERE)


@case
async def retries_commands_and_deferred_nodes(drive: Drive) -> Any:
    calls = [0]

    def flaky(state: Any) -> Any:
        calls[0] += 1
        if calls[0] % 2:
            raise ConnectionError("again")
        return Command(update={"numbers": [calls[0]]}, goto=["left", "right"])

    builder = StateGraph(Numbers)
    builder.add_node("flaky", flaky, retry_policy=RetryPolicy(initial_interval=0.001), destinations=("left", "right"))
    for name in ("left", "right"):
        builder.add_node(name, lambda state: {"numbers": [7]}).add_edge(name, "last")
    builder.add_node("last", lambda state: {"count": sum(state["numbers"])}, defer=True)
    graph = builder.add_edge(START, "flaky").compile(drive.saver)
    for _ in range(2):
        await drive.invoke(graph, {"numbers": [1], "count": 0}, HERE)
    return await drive.history(graph, HERE)


@case
async def the_functional_api(drive: Drive) -> Any:
    @task
    def add(one: int, other: int) -> int:
        return one + other

    @entrypoint(checkpointer=drive.saver)
    def total(given: int, *, previous: Any = None) -> Any:
        found = add(given, (previous or {"sum": 0})["sum"]).result()
        if given > 1:
            found += interrupt({"add to": found})
        return entrypoint.final(value=f"total {found}", save={"sum": found, "raw": b"\x00"})

    results = [await drive.invoke(total, given, HERE) for given in (0, 1, 2, Command(resume=10), 1)]
    return results, await drive.history(total, HERE)


# -- channels


def merged(left: set[str] | None, right: set[str] | None) -> set[str]:
    return (left or set()) | (right or set())


class EveryChannel(TypedDict):
    said: Annotated[set[str], merged]
    total: Annotated[float, operator.add]
    passing: Annotated[str, EphemeralValue]
    secret: Annotated[str, UntrackedValue]
    topics: Annotated[list[str], Topic(str, accumulate=True)]
    fleeting: Annotated[list[str], Topic(str)]
    anything: Any


@case
async def every_kind_of_channel(drive: Drive) -> Any:
    def one(state: Any) -> Any:
        return {"said": {"one"}, "total": 0.1, "passing": "p", "secret": "s", "topics": ["a", "b"], "fleeting": "f"}

    def two(state: Any) -> Any:
        return {"said": {"two", state.get("passing", "-")}, "total": 1e16, "topics": "c", "anything": {1: (2, {3})}}

    builder = StateGraph(EveryChannel).add_node("one", one).add_node("two", two)
    builder.add_node("three", lambda state: {"anything": None})
    graph = builder.add_edge(START, "one").add_edge("one", "two").add_edge(["one", "two"], "three").compile(drive.saver)
    for _ in range(2):
        await drive.invoke(graph, {"total": -0.0, "anything": [1, 1.0]}, HERE)
    return await drive.history(graph, HERE)


class Profile(pydantic.BaseModel):
    name: str = "nobody"
    tags: frozenset[str] = frozenset()


@dataclasses.dataclass
class Plan:
    profile: Profile = dataclasses.field(default_factory=Profile)
    steps: Annotated[list[Any], operator.add] = dataclasses.field(default_factory=list)
    best: tuple[int, ...] = ()


@case
async def a_state_of_dataclasses_and_models(drive: Drive) -> Any:
    def grow(state: Plan) -> Any:
        named = Profile(name=state.profile.name + "!", tags=frozenset({"x"}))
        return {"profile": named, "steps": [named, Plan(best=(1,))], "best": (len(state.steps), 2)}

    graph = chain(Plan, drive.saver, grow=grow)
    for _ in range(3):
        await drive.invoke(graph, {"steps": [b"\x00"]}, HERE)
    return await drive.history(graph, HERE)


class DeltaState(TypedDict):
    messages: Annotated[list[Any], DeltaChannel(_messages_delta_reducer, snapshot_frequency=4)]
    count: int


def delta(durability: str) -> Case:
    async def run(drive: Drive) -> Any:
        graph = chain(DeltaState, drive.saver, node=answer, count=lambda state: {"count": len(state["messages"])})
        for turn in range(5):
            await drive.invoke(graph, asks(f"q{turn}"), HERE, durability=durability)
        past = await drive.history(graph, HERE)
        await drive.update(graph, past[len(past) // 2].config, asks("fork"), as_node="node")
        await drive.invoke(graph, asks("after"), HERE, durability=durability)
        await drive.update(graph, HERE, {"messages": [RemoveMessage(id="id of q0")]})
        return past, await drive.history(graph, HERE)

    return run


CASES |= {f"delta channel with durability {name}": delta(name) for name in ("sync", "exit")}


# -- streams


def stream(mode: str) -> Case:
    async def run(drive: Drive) -> Any:
        def pausing(state: Any) -> Any:
            get_stream_writer()({"progress": len(state["messages"])})
            return {"messages": [AIMessage(interrupt("well?"), id=f"m{len(state['messages'])}")]}

        sub = chain(MessagesState, None, inner=answer)
        graph = chain(MessagesState, drive.saver, sub=sub, pausing=pausing)
        options = {"stream_mode": mode, "subgraphs": True}
        return [
            await drive.stream(graph, given, HERE, **options) for given in (asks("q"), Command(resume="a"), asks("r"))
        ]

    return run


MODES = ("values", "updates", "checkpoints", "tasks", "debug", "messages", "custom")
CASES |= {f"stream of {mode}": stream(mode) for mode in MODES}


# -- the comparison


@pytest.mark.parametrize("face", ["async", "sync"])
@pytest.mark.parametrize("run", CASES.values(), ids=CASES)
def test_a_graph_leaves_what_it_leaves_in_memory(run: Case, face: str, shared_url: str, tenant: str) -> None:
    expected = asyncio.run(outcome(run, Drive(InMemorySaver(), sync=face == "sync")))

    async def beside() -> tuple[str, str]:
        async with opened(shared_url, tenant) as (store, saver):
            found = await outcome(run, Drive(saver))
            await the_history_is_the_state(store)
        return found

    if face == "async":
        found = asyncio.run(beside())
    else:
        with Memory.open(shared_url, tenant=tenant, embeddings=False) as memory:
            found = asyncio.run(outcome(run, Drive(memory.checkpointer, sync=True)))

    assert found[0] == expected[0]
    assert found[1] == expected[1]


async def the_history_is_the_state(store: Memory) -> None:
    """Chat history shows the messages of the newest state, where the state has any."""
    latest = await store.checkpointer.aget_tuple(HERE)
    assert latest is not None
    said = latest.checkpoint["channel_values"].get("messages")
    if isinstance(said, list):
        assert [each.text for each in await store.conversations.messages("t")] == [each.text for each in said]
