"""Databases of LangGraph's own PostgreSQL saver and store, with real graphs in them."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

import asyncpg
import numpy
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.message import _messages_delta_reducer as merge
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt
from pydantic import BaseModel

from memory_plugin.transfer import Options, Report, export_langgraph, import_langgraph
from memory_plugin.transfer.langgraph import QuietMemory


class Order(BaseModel):
    """A value of an application, by pydantic."""

    number: int
    lines: list[str] = []


@dataclass
class Basket:
    """Another, a dataclass."""

    owner: str
    counts: dict[str, int] = field(default_factory=dict)


class State(TypedDict, total=False):
    """Most of what a state can hold."""

    messages: Annotated[list[AnyMessage], add_messages]
    topic: str
    count: int
    score: float
    order: Order
    basket: Basket
    vector: Any
    found: Annotated[list[str], operator.add]


def _plan(state: State) -> State:
    number = state.get("count", 0) + 1
    return {
        "messages": [AIMessage(f"answer {number}", id=f"a{number}-{len(state['messages'])}")],
        "count": number,
        "topic": f"topic {number % 3}",
        "score": number / 7,
        "order": Order(number=number, lines=["tea", "cake"][: number % 3]),
        "basket": Basket("alice", {"tea": number}),
        "vector": numpy.arange(number + 2, dtype="float32"),
    }


def _fan(state: State) -> list[Send]:
    return [Send("search", {"topic": f"{state['topic']} {part}"}) for part in ("a", "b", "c")]


def _search(state: State) -> State:
    return {"found": [state["topic"]]}


def _remember(state: State) -> State:
    return {"messages": [HumanMessage(f"note {len(state['messages'])}", id=f"n{len(state['messages'])}")]}


def _ask(state: State) -> State:
    if state["messages"][0].content != "ask me":
        return {}
    answer = interrupt({"question": "how many?", "so far": state["count"]})
    return {"messages": [AIMessage(f"you said {answer}", id=f"said-{answer}")], "count": 100}


def graph(checkpointer: BaseCheckpointSaver[Any]) -> Any:
    """Messages, a fan-out by Send, a subgraph with a state of its own, values of every kind, an interrupt."""
    inner = StateGraph(State)
    inner.add_node("remember", _remember)
    inner.add_edge(START, "remember")
    inner.add_edge("remember", END)
    builder = StateGraph(State)
    builder.add_node("plan", _plan)
    builder.add_node("search", _search)
    builder.add_node("sub", inner.compile(checkpointer=True))
    builder.add_node("ask", _ask)
    builder.add_edge(START, "plan")
    builder.add_conditional_edges("plan", _fan, ["search"])
    builder.add_edge("search", "sub")
    builder.add_edge("sub", "ask")
    builder.add_edge("ask", END)
    return builder.compile(checkpointer=checkpointer)


class DeltaState(TypedDict):
    """Messages that are stored as what was added to them."""

    messages: Annotated[list[AnyMessage], DeltaChannel(merge, snapshot_frequency=3)]


def delta_graph(checkpointer: BaseCheckpointSaver[Any]) -> Any:
    """A graph with a delta channel."""

    def answer(state: DeltaState) -> Any:
        return {"messages": [AIMessage(f"delta {len(state['messages'])}", id=f"d{len(state['messages'])}")]}

    builder = StateGraph(DeltaState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile(checkpointer=checkpointer)


def config(thread: str, **more: Any) -> Any:
    """The config of a run."""
    return {"configurable": {"thread_id": thread, **more}}


def human(text: str) -> Any:
    """Input with one message."""
    return {"messages": [HumanMessage(text, id=f"h-{text}")]}


async def fill(saver: BaseCheckpointSaver[Any]) -> None:
    """Threads of every kind: `talk` with a fork and removed messages, `asks` with an open question, `delta`."""
    app = graph(saver)
    for text in ("hello", "more", "again"):
        await app.ainvoke(human(text), config("talk", user_id="alice", api_key="sk-secret", flavour="plain"))
    past = [each async for each in app.aget_state_history(config("talk"))][-4]
    await app.ainvoke(None, past.config)
    await app.aupdate_state(config("talk"), {"messages": [RemoveMessage(id="h-hello")]}, as_node="ask")
    await app.ainvoke(human("ask me"), config("asks", user_id="bob"))
    delta = delta_graph(saver)
    for number in range(8):
        await delta.ainvoke(human(f"turn {number}"), config("delta"))


@asynccontextmanager
async def official(url: str) -> AsyncIterator[AsyncPostgresSaver]:
    """The official saver with its tables."""
    async with AsyncPostgresSaver.from_conn_string(url) as saver:
        await saver.setup()
        yield saver


class Silent:
    """Progress that nobody sees."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def advance(self, count: int) -> None:
        """Nothing."""


@asynccontextmanager
async def quiet(url: str, tenant: str = "default") -> AsyncIterator[QuietMemory]:
    """A store to import into."""
    async with QuietMemory.open(url, embeddings=False, tenant=tenant) as memory:
        yield memory


async def imported(url: str, source: str, *, tenant: str = "default", **options: Any) -> Report:
    """Import all of a source."""
    async with quiet(url, tenant) as memory:
        return await import_langgraph(memory, source, Options(**options), Silent())


async def exported(url: str, target: str, *, tenant: str = "default", **options: Any) -> Report:
    """Export all to a target."""
    async with quiet(url, tenant) as memory:
        return await export_langgraph(memory, target, Options(**options), Silent())


async def run(url: str, *statements: str) -> None:
    """Run statements on a database."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def rows(url: str, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    """The rows of a query."""
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(statement, *arguments)]
    finally:
        await connection.close()
