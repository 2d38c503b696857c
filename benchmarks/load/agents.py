"""What an agent does: it takes a seat, works there for a while over every face, and leaves."""

from __future__ import annotations

import random
from contextlib import AsyncExitStack
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from mcp import Client
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import auth_context_var

from benchmarks.load.measured import Measured
from benchmarks.load.people import TURNS, Everybody, Seat, question, sentence
from mcp_server.identity import READ, WRITE, Identity, MemoryUser
from memory_plugin import Memory

STAY = 8
"""Turns until an agent takes another seat."""

# what is done beside a turn, and how often: in ten turns so many times
BESIDE = {
    "recall": 4,
    "remember": 2,
    "history": 2,
    "append": 1,
    "references": 1,
    "mcp recall": 3,
    "mcp remember": 1,
    "mcp working memory": 1,
}


class WrongAnswerError(AssertionError):
    """The answer was not what had been stored."""


class State(MessagesState):
    """A conversation and what it is about."""

    topic: str


async def _look(state: State) -> dict[str, Any]:
    return {"topic": str(state["messages"][-1].content)}


async def _answer(state: State) -> dict[str, Any]:
    text = state["messages"][-1].content
    return {
        "messages": [AIMessage(f"I have noted: {text} Is there anything else that I can do about {state['topic']}")]
    }


BUILDER = StateGraph(State).add_node("look", _look).add_node("answer", _answer)
BUILDER.add_edge(START, "look").add_edge("look", "answer")


class Agent:
    """One of many that work at the same time.

    Args:
        memory: the store; the tenants share its connections.
        server: the MCP server over it, for all tenants.
        everybody: who there is.
        measured: where times and errors are noted.
        chance: this agent's own.
    """

    def __init__(
        self,
        memory: Memory,
        server: MCPServer[Any],
        everybody: Everybody,
        measured: Measured,
        chance: random.Random,
    ) -> None:
        self._memory = memory
        self._server = server
        self._everybody = everybody
        self._measured = measured
        self._chance = chance
        self.is_over = False
        self.turns = 0

    async def work(self) -> None:
        """Go from seat to seat until it is over."""
        while not self.is_over:
            async with AsyncExitStack() as stack:
                seat, desk = self._everybody.seat(), None
                with self._measured.timed("sitting down"):
                    store = self._memory.for_tenant(seat.tenant)
                    auth_context_var.set(_token(seat))
                    client = await stack.enter_async_context(Client(self._server))
                    desk = _Desk(store, client, seat, self._chance)
                for _ in range(STAY):
                    if desk is not None and not self.is_over:
                        await self._turn(desk)

    async def _turn(self, desk: _Desk) -> None:
        is_long = False
        with self._measured.timed("agent turn"):
            is_long = await desk.turn() >= 2 * TURNS
        for name, often in BESIDE.items():
            if self._chance.random() < often / 10 and not self.is_over:
                with self._measured.timed(name):
                    await desk.do(name)
        if is_long:  # only now: the one that takes its place has no messages yet
            desk.seat = self._everybody.end(desk.seat)
        self.turns += 1


def _token(seat: Seat) -> MemoryUser:
    """What a token says of this user, as the server's HTTP application leaves it for the tools."""
    return MemoryUser(Identity(seat.user, "load", seat.user, frozenset({READ, WRITE}), tenant=seat.tenant))


class _Desk:
    """A seat with the tools that are on it."""

    def __init__(self, store: Memory, client: Client, seat: Seat, chance: random.Random) -> None:
        self.seat = seat
        self._store = store
        self._client = client
        self._chance = chance
        self._graph = BUILDER.compile(checkpointer=store.checkpointer)

    async def turn(self) -> int:
        """Say something to the graph, and get its answer; how long the conversation is."""
        said = sentence(self._chance)
        place: Any = {"configurable": {"thread_id": self.seat.thread, "user_id": self.seat.user}}
        state = await self._graph.ainvoke({"messages": [HumanMessage(said)], "topic": ""}, place)
        if not str(state["messages"][-1].content).startswith("I have noted"):
            raise WrongAnswerError("The last message is not the answer.")
        return len(state["messages"])

    async def do(self, name: str) -> None:
        """One of the things beside a turn."""
        if name.startswith("mcp"):
            await self._ask_server(name)
        else:
            await self._ask_store(name)

    async def _ask_store(self, name: str) -> None:
        store, user, chance = self._store, self.seat.user, self._chance
        if name == "recall":
            await store.recall(question(chance), user_id=user)
        elif name == "remember":
            await store.remember(sentence(chance), user_id=user, key=f"fact-{chance.randrange(200)}")
        elif name == "append":
            await store.conversations.append(f"log of {user}", sentence(chance), user_id=user)
        elif name == "history":
            if not await store.conversations.messages(self.seat.thread, limit=20):
                raise WrongAnswerError("The conversation that was written has no messages.")
        elif chance.random() < 0.1:
            number = chance.randrange(20)
            text = "\n\n".join(sentence(chance) for _ in range(20))
            await store.references.add(text=text, title=f"Note {number}", source=f"note-{number}")
        else:
            await store.references.search(question(chance))

    async def _ask_server(self, name: str) -> None:
        chance = self._chance
        if name == "mcp recall":
            answer = await self._client.call_tool("recall", {"query": question(chance)})
        elif name == "mcp remember":
            about = {"content": sentence(chance), "key": f"fact-{chance.randrange(200)}"}
            answer = await self._client.call_tool("remember", about)
        else:
            about = {"content": sentence(chance), "thread_id": self.seat.thread}
            answer = await self._client.call_tool("update_working_memory", about)
        if answer.is_error:
            raise WrongAnswerError(str(answer.content)[:300])
