"""Notes what a version of the library sends to the database, for `test_faults_upgrade.py` to send again later.

`make_released.py` runs it when a revision is released. Everything is of one tenant, so that it can be sent again as
the work of others.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

TENANT = "the-tenant"


class Lengths:
    """A model that knows how long a text is, and whether it speaks of tea."""

    name = "lengths"
    dims: int | None = 4

    async def embed_documents(self, texts: Any) -> list[list[float]]:
        return [[1.0, len(text) / 100, float("tea" in text), 0.5] for text in texts]

    async def embed_query(self, text: str) -> list[float]:
        return (await self.embed_documents([text]))[0]


def plain(value: Any) -> Any:
    """An argument as JSON."""
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, UUID):
        return {"uuid": str(value)}
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"no way to note {value!r}")


def valued(value: Any) -> Any:
    """The argument again."""
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        read: Any = {"bytes": base64.b64decode, "uuid": UUID, "datetime": datetime.fromisoformat}[kind]
        return read(text)
    return [valued(each) for each in value] if isinstance(value, list) else value


@asynccontextmanager
async def noted(database: Any, sent: list[Any]) -> AsyncIterator[None]:
    """Every statement that the database is sent meanwhile, with its arguments."""
    original = database.raw

    @asynccontextmanager
    async def raw() -> AsyncIterator[Any]:
        async with original() as connection:
            with connection.query_logger(lambda record: sent.append([record.query, plain(record.args or ())])):
                yield connection
            await asyncio.sleep(0)  # the driver calls its loggers on the loop's next turn

    database.raw = raw
    try:
        yield
    finally:
        database.raw = original


@contextmanager
def of_many() -> Iterator[None]:
    """Searches ask as they do in a tenant of many passages."""
    from memory_plugin.capabilities import passages

    few, passages.FEW = passages.FEW, -1
    try:
        yield
    finally:
        passages.FEW = few


async def work(memory: Any) -> None:
    """What applications do all day."""
    from langchain_core.messages import AIMessage, HumanMessage
    from langgraph.graph import START, MessagesState, StateGraph

    class State(MessagesState):
        topic: str

    async def answer(state: State) -> Any:
        said = state["messages"][-1]
        return {"messages": [AIMessage(f"answer to {said.text}", id=f"a-{said.id}")], "topic": said.text}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer")
    agent = graph.compile(checkpointer=memory.checkpointer, store=memory.store)
    place = {"configurable": {"thread_id": "talk", "user_id": "alice"}}
    for number in (1, 2):
        await agent.ainvoke({"messages": [HumanMessage(f"question {number}", id=f"q{number}")]}, place)
    await agent.aget_state(place)
    _ = [each async for each in agent.aget_state_history(place, limit=3)]
    await memory.conversations.append("notes", "a line of history", user_id="alice")
    await memory.conversations.messages("talk")
    await memory.conversations.list(user_id="alice")
    await memory.remember("Alice drinks green tea", user_id="alice", key="drink")
    await memory.remember("Alice drinks black tea", user_id="alice", key="drink")
    fact = await memory.remember("Alice keeps bees", user_id="alice")
    await memory.remember_many(["Bob throws bowls", "Bob fires them with wood"], user_id="bob")
    await memory.passages.catch_up()
    await memory.passages.fill()
    await memory.recall("what does Alice drink, tea?", user_id="alice")
    with of_many():
        await memory.recall("what does Alice drink, tea?", user_id="alice")
    await memory.memories.list(user_id="alice")
    await memory.forget(item_id=fact.id)
    await memory.store.aput(("things", "alice"), "k", {"text": "a thing of hers"})
    parts = {"name": "a wheel", "parts": [{"text": "of iron"}, {"text": "with a belt"}]}
    await memory.store.aput(("things", "bob"), "wheel", parts, index=["name", "parts[*].text"])
    await memory.store.aget(("things", "alice"), "k")
    await memory.store.asearch(("things",))
    await memory.references.add(text="Refunds are paid within 14 days.", title="Handbook", source="handbook")
    await memory.passages.catch_up()
    await memory.passages.fill()
    await memory.references.search("refunds")
    with of_many():
        await memory.references.search("refunds")
    await memory.working_memory.update("on the list: honey", thread_id="talk")
    await memory.working_memory.get(thread_id="talk")
    await memory.user_memory.save("alice", "Alice, a bee keeper")
    await memory.agent_settings.set("prompt", "be short")
    await memory.agent_settings.active("prompt")
    await memory.conversations.append("gone", "not for long")
    await memory.forget(thread_id="gone", hard=True)


async def recorded(url: str) -> str:
    """The statements of this version, each text once and on a line of its own."""
    from memory_plugin import Memory
    from memory_plugin.db import SCHEMA_REVISION
    from memory_plugin.settings import Settings

    settings = Settings().model_copy(update={"pool_size": 1})
    sent: list[Any] = []
    async with Memory.open(url, tenant=TENANT, embeddings=Lengths(), settings=settings) as memory:
        memory.kick = lambda: None
        async with noted(memory.database, sent):
            await work(memory)
    texts = list(dict.fromkeys(statement for statement, _ in sent))
    lines = ",\n".join(json.dumps([texts.index(statement), arguments]) for statement, arguments in sent)
    statements = ",\n".join(map(json.dumps, texts))
    return f'{{"revision": "{SCHEMA_REVISION}",\n"statements": [\n{statements}],\n"sent": [\n{lines}]}}\n'
