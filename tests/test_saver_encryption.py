"""Beside an encrypting serializer no value of a graph is readable anywhere; and strict allow-lists hold."""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph, add_messages
from langgraph.graph.message import _messages_delta_reducer
from langgraph.types import Command, Send, interrupt

from memory_plugin import Memory
from memory_plugin.errors import InvalidInputError
from memory_plugin.langgraph import ConversationSaver
from tests.graph_tools import Drive, comparable
from tests.saver_tools import history, opened, place

pytest_plugins = ("tests.saver_fixtures",)

KEY = b"0123456789abcdef"


def encrypting() -> EncryptedSerializer:
    return EncryptedSerializer.from_pycryptodome_aes(key=KEY)


class Hidden:
    """Hands out words that must be found nowhere."""

    def __init__(self, mark: str = "") -> None:
        self._numbers = itertools.count(1)
        self._mark = mark or f"hush{random.getrandbits(40):010x}"  # tests share a database
        self.words: list[str] = []

    def __call__(self, what: str) -> str:
        self.words.append(f"{self._mark}x{next(self._numbers):03}{what}")
        return self.words[-1]


# -- where to look: every column of every table that is not PostgreSQL's own

COLUMNS = """
SELECT n.nspname AS schema, c.relname AS table, a.attname AS column, format_type(a.atttypid, NULL) AS type
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm') AND a.attnum > 0 AND NOT a.attisdropped
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
"""


def disguises(word: str) -> Iterator[str]:
    """The word as it might stand somewhere: as it is, in hex, in base64 at any offset."""
    yield word
    yield word.encode().hex()
    for offset in range(3):
        # the characters at both ends also depend on the neighbours
        yield base64.b64encode(b"\x00" * offset + word.encode()).decode()[4:-4]


async def found_in_database(store: Memory, words: list[str]) -> dict[str, list[str]]:
    """For each word that is somewhere, the columns that have it."""
    found: dict[str, list[str]] = {}
    patterns = {disguise: word for word in words for disguise in disguises(word)}
    columns = await store.database.fetch(COLUMNS)
    assert len(columns) > 60
    for schema, table, column, kind in columns:
        text = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
        rows = await store.database.fetch(
            f'SELECT {text} AS text FROM "{schema}"."{table}" WHERE "{column}" IS NOT NULL'
        )
        content = "\n".join(row["text"] for row in rows)
        for disguise, word in patterns.items():
            if disguise in content:
                found.setdefault(word, []).append(f"{table}.{column}")
    return found


# -- graphs that put every kind of value everywhere


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    log: Annotated[list[AnyMessage], DeltaChannel(_messages_delta_reducer, snapshot_frequency=2)]
    text: str
    deep: dict[str, Any]
    raw: bytes


def everything(hidden: Hidden, saver: Any) -> tuple[Any, dict[str, Any]]:
    """A graph, and what to start it with; it stops at an interrupt first, then at an error."""
    failing, question = [True], hidden("interrupt")

    def speak(state: Any) -> Any:
        call = {
            "name": hidden("tool"),
            "args": {hidden("key"): hidden("arg")},
            "id": hidden("call"),
            "type": "tool_call",
        }
        said = AIMessage(hidden("content"), id=hidden("id"), name=hidden("name"), tool_calls=[call],
                         additional_kwargs={hidden("kwarg"): hidden("kwargs")})  # fmt: skip
        tool = ToolMessage(
            hidden("result"), tool_call_id=call["id"], name=call["name"], artifact={"x": hidden("artifact")}
        )
        return {"messages": [said, tool], "log": [HumanMessage(hidden("log"))], "text": hidden("text"),
                "deep": {hidden("dict key"): [hidden("in a list"), 77123456789]}, "raw": hidden("bytes").encode()}  # fmt: skip

    def ask(state: Any) -> Any:
        answer = interrupt({"question": question})
        return {"text": f"{hidden('text')} {answer}"}

    def work(given: Any) -> Any:
        if given["number"] and failing[0]:
            failing[0] = False
            raise ValueError(hidden("error"))
        return {"messages": [HumanMessage(hidden("worker"))], "log": [HumanMessage(hidden("delta write"))]}

    sub = StateGraph(State).add_node("speak", speak).add_node("ask", ask)
    sub = sub.add_edge(START, "speak").add_edge("speak", "ask")
    builder = StateGraph(State).add_node("sub", sub.compile()).add_node("work", work)
    builder.add_conditional_edges(
        "sub", lambda state: [Send("work", {"number": n, "x": hidden("sent")}) for n in (0, 1)]
    )
    start = {"messages": [HumanMessage(hidden("question"), name=hidden("speaker"))], "log": [], "text": hidden("start")}
    return builder.add_edge(START, "sub").compile(checkpointer=saver), start


async def put_everything(hidden: Hidden, drive: Drive) -> Any:
    graph, start = everything(hidden, drive.saver)
    config: Any = {**place("t", note=hidden("configurable"), user_id="u"), "metadata": {"label": hidden("metadata")}}
    config["max_concurrency"] = 1  # words are handed out in one order
    await drive.invoke(graph, start, config)
    await drive.fail(graph, Command(resume=hidden("resume")), config)
    await drive.invoke(graph, None, config)
    await drive.update(graph, config, {"text": hidden("update")}, as_node="work")
    await drive.invoke(graph, start, config)  # waits at the interrupt

    @task
    def add(text: str) -> str:
        return text + hidden("task")

    @entrypoint(checkpointer=drive.saver)
    def total(text: str, *, previous: Any = None) -> Any:
        return entrypoint.final(value=[hidden("value"), add(text).result()], save={"x": [previous, hidden("saved")]})

    for _ in range(2):
        await drive.invoke(total, hidden("input"), place("function"))
    return [await drive.history(graph, config), await drive.history(total, place("function"))]


async def test_a_real_graph_leaves_nothing_readable(shared_url: str, tenant: str) -> None:
    hidden = Hidden()
    async with opened(shared_url, tenant, serde=encrypting()) as (store, saver):
        await put_everything(hidden, Drive(saver))
        await store.indexed()
        await saver.acopy_thread("t", "copy")
        await saver.aprune(["copy"])
        await store.indexed()
        assert len(hidden.words) > 40
        assert await found_in_database(store, [*hidden.words, "77123456789", hidden.words[0][:14]]) == {}
        assert [await store.conversations.get_buffer(name) for name in ("t", "copy", "function")] == [None] * 3
        await store.conversations.messages("t")  # shows what it can


async def test_the_search_finds_what_is_readable(shared_url: str, tenant: str) -> None:
    """Without encryption nearly every word is somewhere: the test above looks in the right places."""
    hidden = Hidden()
    async with opened(shared_url, tenant) as (store, saver):
        await put_everything(hidden, Drive(saver))
        await store.indexed()
        found = await found_in_database(store, hidden.words)

        assert set(hidden.words) - set(found) == set()
        assert {column for columns in found.values() for column in columns} >= {
            "conversations.memory_buffer", "messages.body", "messages.text", "messages.name", "checkpoints.metadata",
            "checkpoint_blobs.value", "checkpoint_blobs.blob", "checkpoint_writes.value", "checkpoint_writes.blob",
        }  # fmt: skip


async def test_an_encrypted_graph_goes_on_like_any_other(shared_url: str, tenant: str) -> None:
    expected = comparable(await put_everything(Hidden("same"), Drive(InMemorySaver())))
    async with opened(shared_url, tenant, serde=encrypting()) as (_, saver):
        assert comparable(await put_everything(Hidden("same"), Drive(saver))) == expected


async def test_the_wrong_key_opens_nothing(shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant, serde=encrypting()) as (_, saver):
        graph, start = everything(Hidden(), saver)
        await Drive(saver).invoke(graph, start, place())
    stranger = EncryptedSerializer.from_pycryptodome_aes(key=b"fedcba9876543210")
    async with opened(shared_url, tenant, serde=stranger) as (_, saver):
        with pytest.raises(ValueError, match="MAC"):
            await saver.aget_tuple(place())


async def test_a_key_that_is_declared_plain_can_be_filtered_on(shared_url: str, tenant: str) -> None:
    hidden = Hidden()
    async with opened(shared_url, tenant, serde=encrypting(), plain_metadata=["team"]) as (store, saver):
        graph, start = everything(hidden, saver)
        for team in ("red", "blue"):
            config = {**place(team), "metadata": {"team": team, "label": hidden("label")}}
            await Drive(saver).invoke(graph, start, config)

        assert {each["place"][0] for each in await history(saver, filter={"team": "red"})} == {"red"}
        labels = {each["metadata"]["label"] for each in await history(saver, filter={"team": "blue"})}
        assert labels == {[word for word in hidden.words if word.endswith("label")][-1]}
        with pytest.raises(InvalidInputError, match="label.*plain_metadata"):
            await history(saver, filter={"team": "red", "label": "x"})
        assert await found_in_database(store, hidden.words) == {}


# -- secrets of the configuration

SECRETS = {
    name: f"zzsecret{number:02}zz{name}"
    for number, name in enumerate(
        ["openai_api_key", "OPENAI_API_KEY", "x-api-key", "apiKey", "access_token", "authorization", "db_password",
         "client_secret", "private_key", "my_pin", "credentials"]
    )
}  # fmt: skip


@pytest.mark.parametrize("serde", [None, encrypting()], ids=["plain", "encrypted"])
async def test_no_secret_of_the_config_is_stored(serde: Any, shared_url: str, tenant: str) -> None:
    async with opened(shared_url, tenant, serde=serde, secret_names=["my_pin"], plain_metadata=[*SECRETS]) as (
        store,
        saver,
    ):
        graph, start = everything(Hidden(), saver)
        config: Any = {**place("t", **SECRETS), "metadata": dict(SECRETS)}
        drive = Drive(saver)
        await drive.invoke(graph, start, config)
        await drive.update(graph, config, {"text": "x"}, as_node="work")
        await store.indexed()

        assert await found_in_database(store, list(SECRETS.values())) == {}
        assert not any(each["metadata"].keys() & SECRETS.keys() for each in await history(saver))


# -- allow-lists

STRICT = """
import asyncio, dataclasses, json, operator, os, sys, warnings
from typing import Annotated, Any, TypedDict
import pydantic
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from memory_plugin.langgraph import ConversationSaver
from tests.graph_tools import comparable

@dataclasses.dataclass
class Declared:
    x: int

class Model(pydantic.BaseModel):
    y: str

@dataclasses.dataclass
class Stranger:
    z: int

class State(MessagesState):
    declared: Declared
    model: Model
    anything: Any

async def run(saver):
    config = {"configurable": {"thread_id": "t"}}
    def node(state):
        return {"messages": [HumanMessage("hi", id=str(len(state["messages"])), additional_kwargs={"odd": Stranger(3)})],
                "declared": Declared(1), "model": Model(y="m"), "anything": [Stranger(2), {"plain": 1.5}]}
    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile(checkpointer=saver)
    for _ in range(2):
        await graph.ainvoke({"messages": []}, config, durability="sync")
    past = [each async for each in graph.aget_state_history(config)]
    return comparable(past), [type(past[0].values[name]).__name__ for name in ("declared", "model")], [
        type(each).__name__ for each in past[0].values["anything"]]

async def main():
    expected = await run(InMemorySaver())
    async with ConversationSaver.from_conn_string(sys.argv[1], tenant=sys.argv[2]) as saver:
        found = await run(saver)
    print(json.dumps({"expected": expected, "found": found}))

asyncio.run(main())
"""


@pytest.mark.parametrize("strict", ["true", "false"])
def test_strict_allow_lists_hold_as_in_memory(strict: str, shared_url: str, tenant: str) -> None:
    """LangGraph reads the switch when it is imported, so a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", STRICT, shared_url, tenant],
        env={**os.environ, "LANGGRAPH_STRICT_MSGPACK": strict, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)

    assert outcome["found"] == outcome["expected"]
    assert outcome["found"][1] == ["Declared", "Model"]
    assert outcome["found"][2] == ["dict" if strict == "true" else "Stranger", "dict"]


async def test_a_graph_over_a_narrowed_copy_shares_the_store(saver: ConversationSaver) -> None:
    """`compile` exchanges the checkpointer for a copy with a list of its own."""
    narrow = saver.with_allowlist([("tests.test_saver_encryption", "Hidden")])
    graph, start = everything(Hidden(), narrow)
    await Drive(narrow).invoke(graph, start, place())

    assert comparable(await history(saver)) == comparable(await history(narrow))
