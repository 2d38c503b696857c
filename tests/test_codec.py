"""What a checkpointer stores comes back as LangGraph's own serializer gives it, through a real database."""

from __future__ import annotations

import asyncio
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import json
import logging
import math
import pickle
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import asyncpg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langgraph.checkpoint.serde.base import CipherProtocol
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.types import Interrupt, Send
from pydantic import BaseModel

from memory_plugin.errors import InvalidInputError
from memory_plugin.langchain.messages import message_from_body
from memory_plugin.langgraph.codec import SECRET_NAMES, Stored, ValueCodec, drop_secrets
from memory_plugin.message_shape import whole_body
from memory_plugin.secret_names import is_secret_name

logging.getLogger("langgraph").setLevel(logging.ERROR)


class Colour(str, enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Address(BaseModel):
    city: str


@dataclasses.dataclass
class Plan:
    steps: list[str]


class Urgent(HumanMessage):
    level: int = 1


class Whisper(BaseMessage):
    type: str = "whisper"


class Xor(CipherProtocol):
    """Hides bytes well enough to prove that none of them is left in clear."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        return "xor", bytes(byte ^ 0x5A for byte in plaintext)

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        return bytes(byte ^ 0x5A for byte in ciphertext)


SERDE = JsonPlusSerializer()
CODEC = ValueCodec(SERDE)
SECRET = ValueCodec(EncryptedSerializer(Xor(), JsonPlusSerializer()), plain_metadata=["team"])


def langgraph(value: Any) -> Any:
    """What LangGraph's own savers give back."""
    return SERDE.loads_typed(SERDE.dumps_typed(value))


class Store:
    """A row's trip through PostgreSQL: one JSONB, one TEXT, one BYTEA."""

    def __init__(self, runner: asyncio.Runner, connection: asyncpg.Connection) -> None:
        self._run, self._connection = runner.run, connection

    def fetch(self, statement: str, *arguments: Any) -> Any:
        return self._run(self._connection.fetchval(statement, *arguments))

    def trip(
        self, json_: str | None, kind: str | None, blob: bytes | None
    ) -> tuple[str | None, str | None, bytes | None]:
        row = self._run(self._connection.fetchrow("SELECT $1::jsonb, $2::text, $3::bytea", json_, kind, blob))
        assert row is not None
        return row[0], row[1], row[2]

    def value(self, codec: ValueCodec, value: Any) -> Any:
        return codec.load(*self.trip(*codec.dump(value)))

    def message(self, codec: ValueCodec, message: BaseMessage) -> BaseMessage:
        stored = codec.dump_message(message)
        body, kind, raw = self.trip(stored.body, stored.type, stored.raw)
        return codec.load_message(body, stored.text, stored.message_id, kind, raw)


@pytest.fixture(scope="module")
def store(server_url: str) -> Iterator[Store]:
    """One connection for all: no table is touched."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(server_url))
        yield Store(runner, connection)
        runner.run(connection.close())


def same(one: Any, other: Any) -> bool:
    """Equal by value, type and repr: the repr tells 1 from 1.0 and NaN from NaN, and shows the order of keys."""
    return type(one) is type(other) and repr(one) == repr(other)


# --- values ---------------------------------------------------------------------------------------

AS_JSON = [
    None,
    True,
    0,
    2**63,
    1.5,
    1e16,
    -0.0,
    math.nan,
    -math.inf,
    "text",
    "a\x00b",
    "",
    [],
    {},
    {"zebra": 1, "ant": {"c": 1, "b": [{"y": 1, "x": (1, ())}]}},
    [{"b": 1, "a": 2}, [{"d": 1, "c": 2}]],
    (1, "x"),
    {"$t": "float", "v": "nan", "$o": ["1,0", {}]},
    {"v": [{"type": "human", "content": "x"}], "$t": "messages"},
    {"$t": "message", "v": {"type": "human", "content": "x"}},
    [{"message": {"$t": "message", "v": {"type": "human", "content": "x"}}}],
    {"question": HumanMessage("x", id="1")},
    {"zebra": {"b": 1, "a": (2,)}, "messages": [HumanMessage("x", id="1"), AIMessage("y")], "ant": math.nan},
]
AS_BYTES = [
    b"raw",
    bytearray(b"raw"),
    {1, 2},
    {1: "a"},
    Colour.RED,
    {"level": Level.HIGH},
    [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)],
    uuid.UUID(int=3),
    decimal.Decimal("1.50"),
    Address(city="London"),
    Plan(["a"]),
    collections.OrderedDict(b=1, a=2),
    Send("node", {"x": 1}),
    Interrupt(value="why", id="i"),
    {"question": Urgent("x", id="1")},
    [HumanMessage("x"), "text"],
    {"questions": ([HumanMessage("x")],)},
    {"$o": HumanMessage("x"), "$t": "messages"},
    collections.deque([1]),
]


@pytest.mark.parametrize("value", AS_JSON, ids=lambda value: ascii(value)[:30])
def test_what_json_holds_is_stored_as_json_and_comes_back_as_langgraph_gives_it(store: Store, value: Any) -> None:
    assert CODEC.dump(value).json is not None
    assert same(store.value(CODEC, value), langgraph(value))


@pytest.mark.parametrize("value", AS_BYTES, ids=lambda value: type(value).__name__)
def test_everything_else_goes_through_the_serializer(store: Store, value: Any) -> None:
    assert CODEC.dump(value) == Stored(None, *SERDE.dumps_typed(value))
    assert same(store.value(CODEC, value), langgraph(value))


@pytest.mark.parametrize("value", ["\ud800", {"\udfff": 1}, 2**64, [-(10**30)]], ids=ascii)
def test_what_the_serializer_loses_or_refuses_is_kept(store: Store, value: Any) -> None:
    assert same(store.value(CODEC, value), value)


state = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
    | st.sampled_from(["\x00", Level.HIGH, Colour.RED, datetime.date(2026, 1, 2)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.sampled_from(["$t", "v", "\x00"]), inner, max_size=4)
    ),
    max_leaves=15,
)


def test_any_state_comes_back_as_langgraph_gives_it(store: Store) -> None:
    @given(value=state)
    @settings(max_examples=100)
    def check(value: Any) -> None:
        assert same(store.value(CODEC, value), langgraph(value))

    check()


def test_what_no_serializer_can_hold_raises_as_it_does_in_langgraph() -> None:
    for value in (object(), [lambda: 1]):
        with pytest.raises(TypeError):
            CODEC.dump(value)


def test_a_row_without_json_and_bytes_is_damaged() -> None:
    with pytest.raises(InvalidInputError, match="neither JSON nor bytes"):
        CODEC.load(None, None, None)


# --- messages -------------------------------------------------------------------------------------

CALLS = [{"name": "search", "args": {"query": "x", "limit": 5}, "id": "c1", "type": "tool_call"}]
USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_token_details": {"cache_read": 1}}
IMAGE = {"type": "image", "source_type": "base64", "mime_type": "image/png", "data": "aGk="}
EXACT: dict[str, BaseMessage] = {
    "human": HumanMessage("Hello", id="1", name="Ada"),
    "human with extras": HumanMessage("Hello", mood="calm", none=None, status="odd"),
    "multimodal": HumanMessage(["look", {"type": "text", "text": "at this"}, IMAGE]),
    "content blocks": AIMessage(
        content_blocks=[
            {"type": "text", "text": "a"},
            {"type": "tool_call", "name": "f", "args": {"b": 1, "a": 2}, "id": "c"},
        ]
    ),
    "ai": AIMessage("Hi", id="run-1", usage_metadata=USAGE, response_metadata={"model_name": "m", "logprobs": [1.5]}),
    "tool calls": AIMessage(
        "",
        tool_calls=CALLS,
        invalid_tool_calls=[{"name": "f", "args": "{", "id": "c2", "error": "bad", "type": "invalid_tool_call"}],
    ),
    "provider's tool calls": AIMessage(
        "",
        additional_kwargs={
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
            "reasoning_content": "hm",
        },
    ),
    "system": SystemMessage("Be kind"),
    "tool": ToolMessage("42", tool_call_id="c1", name="search", artifact={"z": [1, {"b": 1, "a": 2}], "y": None}),
    "tool error": ToolMessage("no", tool_call_id="c1", status="error", artifact=0),
    "empty artifact": ToolMessage("x", tool_call_id="c1", artifact=[]),
    "remove": RemoveMessage(id="1"),
    "function": FunctionMessage(content="42", name="f"),
    "chat": ChatMessage(content="No", role="critic"),
    "human chunk": HumanMessageChunk(content="x"),
    "ai chunk": AIMessageChunk(
        content="x",
        tool_call_chunks=[{"name": "f", "args": '{"b": 1, "a"', "id": "c", "index": 0, "type": "tool_call_chunk"}],
        usage_metadata=USAGE,  # type: ignore[arg-type]
    ),
    "last ai chunk": AIMessageChunk(content="x", chunk_position="last", id="lc_run-1"),
    "system chunk": SystemMessageChunk(content="x"),
    "tool chunk": ToolMessageChunk(content="x", tool_call_id="c"),
    "function chunk": FunctionMessageChunk(content="x", name="f"),
    "chat chunk": ChatMessageChunk(content="x", role="critic"),
    "hostile": HumanMessage(
        "a\x00b",
        id="\x00",
        name="n\x00",
        additional_kwargs={"nan": math.nan, "zero": -0.0, "$t": 1, "big": 1e16},
    ),
    "tuples": AIMessage("", tool_calls=[{"name": "f", "args": {"pair": (1, (2,))}, "id": "c"}]),
    "a megabyte": HumanMessage("x" * 1_000_000),
}
INEXACT: dict[str, BaseMessage] = {
    "subclass": Urgent(content="now", level=3),
    "a class of its own": Whisper(content="psst"),
    "bytes": ToolMessage("x", tool_call_id="c", artifact=b"raw"),
    "object": ToolMessage("x", tool_call_id="c", artifact=Address(city="London")),
    "keys": ToolMessage("x", tool_call_id="c", artifact={1: "a"}),
    "enum": HumanMessage("x", additional_kwargs={"colour": Colour.RED, "level": Level.HIGH}),
    "datetime": AIMessage("x", response_metadata={"at": datetime.datetime(2026, 1, 2)}),
    "set": AIMessage("", tool_calls=[{"name": "f", "args": {"ids": {1, 2}}, "id": "c"}]),
}


def by_name(messages: Mapping[str, BaseMessage]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("message", messages.values(), ids=messages.keys())


@by_name(EXACT)
def test_a_core_message_is_its_body_alone_and_comes_back_as_langgraph_gives_it(
    store: Store, message: BaseMessage
) -> None:
    stored = CODEC.dump_message(message)
    back, expected = store.message(CODEC, message), langgraph(message)
    assert (stored.type, stored.raw) == (None, None)
    assert type(back) is type(expected)
    assert back == expected or "nan" in repr(message)
    assert back.model_fields_set == expected.model_fields_set
    assert list(back.__dict__) == list(expected.__dict__)
    assert back.model_extra == expected.model_extra


@by_name(EXACT)
@pytest.mark.parametrize("kind", ["message", "list", "input"])
def test_a_core_message_in_a_value_is_stored_by_its_fields(store: Store, kind: str, message: BaseMessage) -> None:
    values = {"message": message, "list": [message, message], "input": {"step": 1, "messages": [message]}}
    value = values[kind]
    back, expected = store.value(CODEC, value), langgraph(value)
    assert CODEC.dump(value).json is not None
    assert type(back) is type(expected)
    assert back == expected or "nan" in repr(message)


@by_name(INEXACT)
def test_any_other_message_in_a_value_goes_through_the_serializer(store: Store, message: BaseMessage) -> None:
    assert CODEC.dump([message]) == Stored(None, *SERDE.dumps_typed([message]))


@by_name(INEXACT)
def test_any_other_message_keeps_the_serializers_bytes_beside_a_readable_body(
    store: Store, message: BaseMessage
) -> None:
    stored = CODEC.dump_message(message)
    back, expected = store.message(CODEC, message), langgraph(message)
    assert (stored.type, stored.raw) == SERDE.dumps_typed(message)
    assert whole_body(stored.body or "", stored.text, stored.message_id)["content"] == message.content
    assert type(back) is type(expected)
    assert back == expected


@by_name(EXACT)
def test_a_message_made_from_its_body_is_as_usable_as_any(store: Store, message: BaseMessage) -> None:
    back, expected = store.message(CODEC, message), langgraph(message)
    if "nan" not in repr(message):
        assert pickle.loads(pickle.dumps(back)) == expected
        assert copy.deepcopy(back) == expected
        assert back.content_blocks == expected.content_blocks
        assert back.model_dump() == expected.model_dump()
        assert type(back).model_validate(back.model_dump()) == expected
        assert langgraph(back) == expected
    assert back.model_copy(update={"id": "new"}).id == "new"
    assert (back.text, back.pretty_repr(), str(back.lc_attributes)) == (
        expected.text,
        expected.pretty_repr(),
        str(expected.lc_attributes),
    )
    back.name = "renamed"
    assert back.name == "renamed"


@by_name({name: message for name, message in EXACT.items() if isinstance(message, AIMessageChunk)})
def test_chunks_made_from_bodies_still_add_up(store: Store, message: AIMessageChunk) -> None:
    back, expected = store.message(CODEC, message), langgraph(message)
    assert back + AIMessageChunk(content="y") == expected + AIMessageChunk(content="y")


def test_messages_made_from_bodies_share_nothing() -> None:
    first, second = (message_from_body({"type": "ai", "content": "x"}) for _ in range(2))
    assert isinstance(first, AIMessage)
    first.tool_calls.append(CALLS[0])  # type: ignore[arg-type]
    first.additional_kwargs["k"] = 1
    first.name, first.mood = "renamed", "calm"  # type: ignore[attr-defined]
    assert second == AIMessage("x")
    assert second.model_fields_set == set(AIMessage.model_fields)


def test_the_columns_of_a_message_say_who_said_what() -> None:
    stored = CODEC.dump_message(EXACT["human"])
    assert (stored.role, stored.message_id, stored.name, stored.text) == ("human", "1", "Ada", "Hello")
    assert json.loads(stored.body or "") == {"name": "Ada", "type": "human"}


def test_lone_surrogates_in_a_message_are_kept(store: Store) -> None:
    message = HumanMessage("x", additional_kwargs={"odd": "\ud800", "\udc00": 1})
    assert store.message(CODEC, message) == message


def test_a_message_broken_by_its_owner_is_kept_as_the_serializer_keeps_it(store: Store) -> None:
    broken = HumanMessage.model_construct(content=None, id="1")
    stored = CODEC.dump_message(broken)
    assert (stored.role, stored.body) == ("human", None)
    assert store.message(CODEC, broken) == langgraph(broken)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
def test_an_id_that_became_a_number_comes_back_as_langgraph_gives_it(store: Store) -> None:
    numbered = HumanMessage("x")
    numbered.id = 5  # type: ignore[assignment]
    assert store.message(CODEC, numbered).id == langgraph(numbered).id == "5"


text_or_blocks = st.text() | st.lists(
    st.text() | st.fixed_dictionaries({"type": st.sampled_from(["text", "image", "file"]), "text": st.text()}),
    max_size=3,
)
arguments = st.dictionaries(st.text(max_size=5), state, max_size=4)
calls = st.lists(st.fixed_dictionaries({"name": st.text(), "args": arguments, "id": st.none() | st.text()}), max_size=2)
common = {"id": st.none() | st.text(), "name": st.none() | st.text(), "additional_kwargs": arguments}
flat = st.dictionaries(st.text(max_size=5), st.integers(0, 9) | st.text())  # its order is not kept
messages = st.one_of(
    st.builds(HumanMessage, text_or_blocks, **common),
    st.builds(AIMessage, text_or_blocks, tool_calls=calls, response_metadata=flat, **common),
    st.builds(ToolMessage, text_or_blocks, tool_call_id=st.text(), artifact=state, **common),
    st.builds(ChatMessage, content=text_or_blocks, role=st.text()),
    st.builds(
        AIMessageChunk,
        content=text_or_blocks,
        tool_calls=st.just([{"name": "f", "args": {"b": 1, "a": [2]}, "id": "c"}]),
    ),
)


def test_any_message_comes_back_as_langgraph_gives_it(store: Store) -> None:
    @given(message=messages)
    @settings(max_examples=100)
    def check(message: BaseMessage) -> None:
        back, expected = store.message(CODEC, message), langgraph(message)
        assert same(unordered(back), unordered(expected))

    def unordered(message: BaseMessage) -> Any:
        return message.model_copy(update={"response_metadata": sorted(map(repr, message.response_metadata.items()))})

    check()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([HumanMessage("x"), Urgent(content="x")], True),
        ([], False),
        ([HumanMessage("x"), "x"], False),
        ((HumanMessage("x"),), False),
        ({"messages": [HumanMessage("x")]}, False),
        (None, False),
    ],
)
def test_a_list_of_messages_is_told_from_other_values(value: Any, expected: bool) -> None:
    assert CODEC.is_messages(value) is expected


def test_a_body_of_an_unknown_type_becomes_a_chat_message_with_that_role() -> None:
    assert message_from_body({"type": "whisper", "content": "psst"}) == ChatMessage(content="psst", role="whisper")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"type": []},
        {"type": "human"},
        {"type": "ai", "content": 7},
        {"type": "tool", "content": "x"},
        {"type": "x"},
    ],
)
def test_a_body_that_is_no_message_is_refused_with_a_reason(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="body"):
        message_from_body(body)


# --- allow-lists ----------------------------------------------------------------------------------


def test_a_strict_allow_list_stays_readable_and_is_obeyed(store: Store) -> None:
    strict = ValueCodec(JsonPlusSerializer(allowed_msgpack_modules=None))
    assert strict.readable
    assert store.message(strict, EXACT["ai"]) == EXACT["ai"]
    assert store.value(strict, Address(city="London")) == {"city": "London"}
    allowing = ValueCodec(JsonPlusSerializer(allowed_msgpack_modules=None).with_msgpack_allowlist([Address]))
    assert allowing.readable
    assert store.value(allowing, Address(city="London")) == Address(city="London")


def test_a_message_of_a_blocked_class_comes_back_as_the_core_message(store: Store) -> None:
    strict = ValueCodec(JsonPlusSerializer(allowed_msgpack_modules=None))
    assert store.message(strict, Urgent(content="now", id="1", level=3)) == HumanMessage("now", id="1", level=3)


def test_a_blocked_message_without_a_body_says_so() -> None:
    strict = ValueCodec(JsonPlusSerializer(allowed_msgpack_modules=None))
    with pytest.raises(InvalidInputError, match="blocked"):
        strict.load_message(None, None, None, *SERDE.dumps_typed(Urgent(content="now")))


# --- encryption -----------------------------------------------------------------------------------


class Shouting(JsonPlusSerializer):
    pass


@pytest.mark.parametrize("serde", [Shouting(), EncryptedSerializer(Xor())])
def test_only_the_plain_serializer_of_langgraph_is_taken_for_readable(serde: Any) -> None:
    assert not ValueCodec(serde).readable


@by_name({**EXACT, **INEXACT})
def test_with_encryption_nothing_of_a_message_is_left_in_clear(store: Store, message: BaseMessage) -> None:
    stored = SECRET.dump_message(message)
    assert stored[:5] == (None,) * 5
    assert (stored.type, stored.raw) == SECRET.serde.dumps_typed(message)
    assert repr(store.message(SECRET, message)) == repr(langgraph(message))


@pytest.mark.parametrize("value", [None, "ssn 123", 7, {"a": [1]}, Colour.RED], ids=repr)
def test_with_encryption_every_value_is_encrypted(store: Store, value: Any) -> None:
    stored = SECRET.dump(value)
    assert stored.json is None
    assert (stored.type or "").endswith("+xor")
    assert b"ssn" not in (stored.blob or b"")
    assert same(store.value(SECRET, value), langgraph(value))


def test_values_from_before_encryption_are_still_read() -> None:
    assert SECRET.load(*CODEC.dump({"a": 1})) == {"a": 1}
    assert SECRET.load(*CODEC.dump({1})) == {1}


# --- metadata -------------------------------------------------------------------------------------

METADATA = {
    "source": "loop",
    "step": 3,
    "parents": {"": "1ef"},
    "user_id": "ada",
    "counters_since_delta_snapshot": {"messages": (1, 2)},
}
HOSTILE = {
    **METADATA,
    "nan": math.nan,
    "nul": "a\x00b",
    "nested": {"surrogate": "\ud83d", "deep": {"big": 1e16, "list": [1, math.inf]}},
    "\x00key": 1,
}
ODD = {
    **METADATA,
    "colour": Colour.RED,
    "at": datetime.datetime(2026, 1, 2),
    "id": uuid.UUID(int=1),
    "who": Address(city="x"),
}


@pytest.mark.parametrize("metadata", [{}, METADATA, ODD], ids=["empty", "usual", "odd"])
def test_metadata_comes_back_as_langgraph_gives_it(store: Store, metadata: dict[str, Any]) -> None:
    assert CODEC.load_metadata(store.fetch("SELECT $1::jsonb", CODEC.dump_metadata(metadata))) == langgraph(metadata)


def test_hostile_metadata_comes_back_unchanged(store: Store) -> None:
    back = CODEC.load_metadata(store.fetch("SELECT $1::jsonb", CODEC.dump_metadata(HOSTILE)))
    assert math.isnan(back.pop("nan"))
    expected = {**HOSTILE, "counters_since_delta_snapshot": {"messages": [1, 2]}}
    del expected["nan"]
    assert back == expected
    assert type(back["nested"]["deep"]["big"]) is float


Matches = Callable[[ValueCodec, dict[str, Any], dict[str, Any]], bool]


@pytest.fixture
def matches(store: Store) -> Matches:
    def check(codec: ValueCodec, metadata: dict[str, Any], wanted: dict[str, Any]) -> bool:
        statement = "SELECT $1::jsonb @> $2::jsonb"
        return bool(store.fetch(statement, codec.dump_metadata(metadata), codec.dump_filter(wanted)))

    return check


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"user_id": "ada", "step": 3},
        {"source": "loop"},
        {"parents": {"": "1ef"}},
        {"colour": Colour.RED},
        {"colour": "red"},
        {"at": datetime.datetime(2026, 1, 2)},
        {"at": "2026-01-02T00:00:00"},
        {"id": uuid.UUID(int=1)},
    ],
    ids=repr,
)
def test_filters_match_by_containment_whatever_else_is_in_the_metadata(
    matches: Matches, wanted: dict[str, Any]
) -> None:
    assert matches(CODEC, ODD, wanted)


@pytest.mark.parametrize(
    "wanted", [{"nan": math.nan}, {"nul": "a\x00b"}, {"nested": {"surrogate": "\ud83d"}}], ids=ascii
)
def test_filters_match_hostile_scalars_too(matches: Matches, wanted: dict[str, Any]) -> None:
    assert matches(CODEC, {key: value for key, value in HOSTILE.items() if key != "\x00key"}, wanted)


@pytest.mark.parametrize("wanted", [{"user_id": "bob"}, {"missing": None}, {"colour": "blue"}], ids=repr)
def test_filters_leave_out_what_does_not_match(matches: Matches, wanted: dict[str, Any]) -> None:
    assert not matches(CODEC, ODD, wanted)


def test_metadata_that_no_serializer_holds_stays_readable() -> None:
    back = CODEC.load_metadata(CODEC.dump_metadata({"step": 1, "lock": asyncio.Lock, "thing": object()}))
    assert back["step"] == 1
    assert back["thing"] == "<object>"


def test_metadata_cannot_smuggle_bytes_to_the_serializer() -> None:
    forged = {"step": 1, "$s": ["msgpack", "gqFhAQ=="]}
    for metadata in (forged, {**forged, "odd": Colour.RED}, {"deep": forged}):
        assert CODEC.load_metadata(CODEC.dump_metadata(metadata)) == metadata


def test_encrypted_metadata_shows_only_what_was_declared_plain(matches: Matches) -> None:
    metadata = {**ODD, "team": "core", "run_id": "r1"}
    text = SECRET.dump_metadata(metadata)
    assert json.loads(text).keys() == {"source", "step", "run_id", "team", "$s"}
    assert "ada" not in text
    assert SECRET.load_metadata(text) == langgraph(metadata)
    assert matches(SECRET, metadata, {"team": "core", "step": 3})
    with pytest.raises(InvalidInputError, match="'user_id' cannot be filtered on"):
        SECRET.dump_filter({"user_id": "ada", "team": "core"})


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "api_key",
        "openai_api_key",
        "OPENAI_API_KEY",
        "x-api-key",
        "apiKey",
        "openaiApiKey",
        "OpenAIApiKey",
        "apikey",
        "OPENAIAPIKEY",
        "token",
        "accessToken",
        "auth_token",
        "refresh-token",
        "refresh_tokens",
        "secret",
        "client_secret",
        "secretKey",
        "password",
        "DB_PASSWORD",
        "userPassword",
        "Authorization",
        "proxy-authorization",
        "credentials",
        "private_key",
        "privateKeyPem",
        "jwt",
        "cookie",
        "Bearer",
        "aws_secret_access_key",
        "connection_string",
    ],
)
def test_names_of_credentials_are_known_in_any_writing(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "max_tokens",
        "token_count",
        "tokens",
        "maxTokens",
        "total_tokens",
        "token_limit",
        "tokenizer",
        "token_budget",
        "num_token",
        "secretary",
        "key",
        "keys",
        "user_id",
        "author",
        "authority",
        "keyboard",
        "primary_key",
        "api",
        "api_version",
        "passenger",
        "thread_id",
        "monkey",
        "tokenization",
    ],
)
def test_other_names_are_left_alone(name: str) -> None:
    assert not is_secret_name(name)


def test_secrets_are_dropped_at_any_depth_and_the_rest_is_shared() -> None:
    plain = {"model": "m", "limits": [{"max_tokens": 1}]}
    config = {
        "user_id": "ada",
        "openai_api_key": "sk",
        "plain": plain,
        "headers": [{"Authorization": "Bearer x", "accept": "json"}, ({"token": "t"},)],
        "pin_code": 1,
        7: "not text",
    }
    cleaned = drop_secrets(config, extra=["pinCode"])  # type: ignore[arg-type]
    assert cleaned == {
        "user_id": "ada",
        "plain": plain,
        "headers": [{"accept": "json"}, ({},)],
        7: "not text",
    }
    assert cleaned["plain"] is plain
    assert "openai_api_key" in config


def test_langgraphs_own_books_keep_channels_with_such_names() -> None:
    metadata = {"counters_since_delta_snapshot": {"token": (1, 2)}, "parents": {"secret": "id"}}
    assert drop_secrets(metadata) == metadata


def test_each_listed_name_is_one() -> None:
    assert [name for name in SECRET_NAMES if not is_secret_name(name)] == []
