"""Nothing that a graph can hold may crash the checkpointer or come back changed."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import math
import uuid
from typing import Any, NamedTuple

import numpy as np
import pydantic
import pytest
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Interrupt, Send

from memory_plugin import Memory
from memory_plugin.langgraph import ConversationSaver
from tests.saver_tools import Writer, place, values

pytest_plugins = ("tests.saver_fixtures",)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


@dataclasses.dataclass
class Point:
    x: int
    y: list[float]


class Model(pydantic.BaseModel):
    name: str
    when: dt.datetime
    inner: dict[str, Any] = {}


class Pair(NamedTuple):
    left: int
    right: str


HOSTILE = "a\x00b\\u0000 \\ \\x00 '; DROP TABLE x; -- \u202e \U0001f600 é \n\t\x1b"

EXACT: dict[str, Any] = {
    "none": None,
    "false": False,
    "zero": 0,
    "empty text": "",
    "empty list": [],
    "empty dict": {},
    "hostile text": HOSTILE,
    "hostile keys": {HOSTILE: {"": 1, "$t": 2, "$o": [1], "$s": {}, "v": 3}, "$t": "str", "v": "x"},
    "looks like a tag": {"v": "nan", "$t": "float"},
    "order of keys": {"bb": 1, "a": 2, "B": 3, "ccc": {"z": 1, "y": 2}},
    "1e16": 1e16,
    "1e300": 1e300,
    "-0.0": -0.0,
    "tiny": 5e-324,
    "0.1": 0.1,
    "whole float": 2.0,
    "infinities": [math.inf, -math.inf],
    "big int": 2**64 - 1,
    "deep": {"a": [{"b": [[[{"c": [1, 2.5, None, True, "x"]}]]]}]},
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"\x00\xff"),
    "nested bytes": {"b": b"\x00"},
    "set": {1, 2},
    "frozenset": frozenset({"a"}),
    "int keys": {1: "a", 2: {3: 4}},
    "enum": Colour.RED,
    "int enum": Level.HIGH,
    "str enum": Word.YES,
    "enum in a list": [Word.YES, Level.HIGH],
    "dataclass": Point(1, [2.5]),
    "model": Model(name="n", when=dt.datetime(2020, 1, 2, tzinfo=dt.UTC), inner={"a": [1]}),
    "datetime": dt.datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=dt.UTC),
    "date": dt.date(2020, 1, 2),
    "timedelta": dt.timedelta(seconds=5),
    "uuid": uuid.UUID(int=5),
    "decimal": decimal.Decimal("1.10"),
    "document": Document(page_content="x", metadata={"a": 1}),
    "interrupt": Interrupt(value={"q": 1}, id="i"),
    "send": Send("node", {"x": 1}),
    "messages with others": [HumanMessage("a"), "text"],
    "message alone": HumanMessage("a", id="1"),
    "dict of messages": {"a": [HumanMessage("a", id="1")]},
    "tuple of messages": (HumanMessage("a", id="1"),),
}


@pytest.mark.parametrize("value", EXACT.values(), ids=EXACT)
async def test_a_value_comes_back_as_from_the_saver_in_memory(value: Any, saver: ConversationSaver) -> None:
    found = []
    for each in (saver, InMemorySaver()):
        config = await Writer(each).put(x=value)
        await each.aput_writes(config, [("x", value)], "task")
        one = await each.aget_tuple(place())
        assert one is not None
        assert one.pending_writes is not None
        found.append([one.checkpoint["channel_values"]["x"], one.pending_writes[0][2]])

    assert found[0] == found[1]
    for ours, theirs in zip(*found, strict=True):
        assert repr(ours) == repr(theirs)  # 1 == 1.0 == True, 0.0 == -0.0, and dicts of any order


async def test_nan_stays_nan(saver: ConversationSaver) -> None:
    await Writer(saver).put(x=math.nan, y=[math.nan, {"z": math.nan}])

    found = await values(saver, place())
    assert math.isnan(found["x"])
    assert math.isnan(found["y"][0])
    assert math.isnan(found["y"][1]["z"])


@pytest.mark.parametrize(
    "array", [np.arange(6, dtype="int16").reshape(2, 3), np.array([0.5, np.nan]), np.array(3)], ids=str
)
async def test_arrays_come_back(array: Any, saver: ConversationSaver) -> None:
    await Writer(saver).put(x=array, y={"inside": array})

    found = await values(saver, place())
    for each in (found["x"], found["y"]["inside"]):
        np.testing.assert_array_equal(each, array)
        assert each.dtype == array.dtype


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\ud83d\ude00", "\ud800\x00\\"], ids=ascii)
async def test_lone_surrogates_are_kept(text: str, saver: ConversationSaver) -> None:
    """Other savers make a question mark of them, or fail."""
    await Writer(saver).put(
        {"note": text}, x=text, y={text: [text]}, messages=[HumanMessage(text, id="1", additional_kwargs={"k": text})]
    )

    found = await saver.aget_tuple(place())
    assert found is not None
    got = found.checkpoint["channel_values"]
    assert got["x"] == text
    assert got["y"] == {text: [text]}
    assert got["messages"][0].content == text
    assert got["messages"][0].additional_kwargs == {"k": text}
    assert found.metadata["note"] == text.replace("\x00", "")  # type: ignore[typeddict-item]  # LangGraph's own doing


@pytest.mark.parametrize(
    "channel",
    [
        "back\\slash",
        "nul\x00",
        "\ud800",
        "$t",
        "$o",
        "$s",
        "$u:x",
        "$n:1",
        "'; --",
        "a.b",
        "",
        "ünï",
        "v",
        "branch:to:a\x00",
    ],
    ids=ascii,
)
async def test_a_channel_may_be_called_anything(channel: str, saver: ConversationSaver) -> None:
    writer = Writer(saver, namespace=f"node {channel}:1")
    await writer.put(**{channel: {"x": 1}, "messages": [HumanMessage("a", id="1")]})
    config = await writer.put(**{channel: [HumanMessage("b", id="2")]})
    await saver.aput_writes(config, [(channel, 1)], f"task {channel}", f"path {channel}")
    saver._known.clear()
    config = await writer.put(other=1)

    found = [each async for each in saver.alist(place(namespace=f"node {channel}:1"))]
    assert [each.checkpoint["channel_values"][channel] for each in found] == [[HumanMessage("b", id="2")]] * 2 + [
        {"x": 1}
    ]
    assert found[1].pending_writes == [(f"task {channel}", channel, 1)]
    assert found[0].config == config
    assert found[0].checkpoint["channel_versions"] == writer.versions


@pytest.mark.parametrize("channel", ["nul\x00", "\ud800", "$t", "back\\slash"], ids=ascii)
async def test_a_root_channel_may_be_called_anything_too(channel: str, saver: ConversationSaver, store: Memory) -> None:
    """The memory buffer shows it under a name that PostgreSQL can hold."""
    await Writer(saver).put(**{channel: {"x": 1}, "plain": 2})

    assert await values(saver, place()) == {channel: {"x": 1}, "plain": 2}
    assert (await store.conversations.get_buffer("t") or {})["plain"] == 2


async def test_hostile_metadata_is_kept(saver: ConversationSaver) -> None:
    stored = {
        "text": HOSTILE.replace("\x00", ""),
        "list": [HOSTILE, math.inf, 1e16],
        "deep": {HOSTILE: {"x": b"bytes"}},
        "enum": Colour.RED,
        "when": dt.date(2020, 1, 2),
    }
    await Writer(saver).put({**stored, "run_id": "r1"}, x=1)

    found = await saver.aget_tuple(place())
    assert found is not None
    assert {name: found.metadata[name] for name in stored} == stored  # type: ignore[literal-required]
    await saver.adelete_for_runs(["r1"])
    assert await saver.aget_tuple(place()) is None


MESSAGES: list[BaseMessage] = [
    HumanMessage("hi", id="1", name="bob", additional_kwargs={"a": [1, {"b": None}]}),
    HumanMessage([{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {"url": "data:..."}}], id="2"),
    AIMessage("", id="3", tool_calls=[{"name": "f", "args": {"z": 1, "a": 1e16}, "id": "c", "type": "tool_call"}]),
    AIMessage("x", id="4", usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
              response_metadata={"logprobs": [math.nan, -0.0], "model": "m"}, invalid_tool_calls=[
                  {"name": "g", "args": "{", "id": None, "error": "bad", "type": "invalid_tool_call"}]),
    ToolMessage("out", tool_call_id="c", id="5", status="error", artifact={"x": np.arange(3).tolist()}),
    SystemMessage("be kind", id="6"),
    ChatMessage("x", role="wizard", id="7"),
    FunctionMessage("x", name="f", id="8"),
    AIMessageChunk("chunk", id="9"),
    HumanMessage("with more", id="10", favourite="blue"),
    HumanMessage(HOSTILE, id="11\x00"),
    HumanMessage("no id"),
    HumanMessage("bytes", id="12", additional_kwargs={"raw": b"\x00", "when": dt.date(2020, 1, 2), "c": Colour.RED}),
    RemoveMessage(id="13"),
    ToolMessage("out", tool_call_id="c", id="14", artifact=Point(1, [2.0])),
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: f"{type(message).__name__} {message.id}"[:30])
async def test_a_message_comes_back_as_from_the_saver_in_memory(message: BaseMessage, saver: ConversationSaver) -> None:
    found = []
    for each in (saver, InMemorySaver()):
        await Writer(each).put(messages=[message])
        saver._known.clear()
        (got,) = (await values(each, place()))["messages"]
        found.append((type(got), exactly(got.__dict__), got.__pydantic_extra__))

    assert found[0] == found[1]


def exactly(value: Any) -> str:
    """The value's repr, with the keys of dicts in one order."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name!r}: {exactly(value[name])}" for name in sorted(value)) + "}"
    return f"[{', '.join(map(exactly, value))}]" if isinstance(value, list) else repr(value)


async def test_large_values_fit(saver: ConversationSaver, store: Memory) -> None:
    noise = "".join(chr(33 + (number * number) % 90) for number in range(5_000_000))
    state = {"text": noise, "items": [noise[:1000]] * 5000, "raw": noise.encode()}
    config = await Writer(saver).put(**state)
    await saver.aput_writes(config, [("text", noise)], "task")

    found = await saver.aget_tuple(place())
    assert found is not None
    assert found.checkpoint["channel_values"] == state
    assert found.pending_writes == [("task", "text", noise)]
    assert await store.conversations.get_buffer("t") == {"$truncated": ["items", "text"], "raw": "<5000000 bytes>"}


async def test_a_message_of_ten_megabytes_fits(saver: ConversationSaver, store: Memory) -> None:
    store.kick = lambda: None  # type: ignore[method-assign]  # indexing it is another matter
    text = "the same word again and again " * 333_334
    await Writer(saver).put(messages=[HumanMessage(text, id="1"), HumanMessage("a small cat", id="2")])
    saver._known.clear()

    assert (await values(saver, place()))["messages"][0].content == text
    assert (await store.conversations.messages("t"))[0].text == text
