"""Messages of every maker become the same shape."""

from __future__ import annotations

import datetime
import json
import math
import subprocess
import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.load import dumpd
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
    message_to_dict,
)
from pydantic import BaseModel

from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import loads_exact
from memory_plugin.langchain.messages import CORE_MESSAGES, message_from_body
from memory_plugin.message_shape import CORE_TYPES, MessageShape, body_text, message_shape, shape_of_body, whole_body


def body(shape: MessageShape) -> dict[str, Any]:
    value = loads_exact(body_text(shape))
    assert isinstance(value, dict)
    return value


def test_the_names_of_the_core_classes_are_those_of_langchain() -> None:
    assert {cls.__name__: cls.model_fields["type"].default for cls in CORE_MESSAGES} == CORE_TYPES


def test_no_framework_is_imported_for_it() -> None:
    code = (
        "import sys, memory_plugin.message_shape; print([m for m in sys.modules if m.startswith(('lang', 'pydantic'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("message", "role", "name", "text"),
    [
        (HumanMessage("Hi", name="Ada", id="h"), "human", "Ada", "Hi"),
        (
            AIMessage([{"type": "text", "text": "a"}, {"type": "image_url", "image_url": "data:..."}, "b"]),
            "ai",
            None,
            "a\nb",
        ),
        (SystemMessage("Be kind"), "system", None, "Be kind"),
        (ToolMessage("42", tool_call_id="c", name="search"), "tool", "search", "42"),
        (FunctionMessage(content="42", name="f"), "function", "f", "42"),
        (ChatMessage(content="No", role="critic"), "chat", "critic", "No"),
        (RemoveMessage(id="r"), "remove", None, ""),
        (AIMessageChunk(content="par"), "ai", None, "par"),
        (HumanMessageChunk(content="par"), "human", None, "par"),
        (
            AIMessage([{"type": "reasoning", "reasoning": "hm"}, {"type": "text", "text": "so"}]),
            "ai",
            None,
            "so",
        ),
        (AIMessage([{"text": "converse"}]), "ai", None, "converse"),
        (AIMessage(""), "ai", None, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseMessage) else None,
)
def test_langchain_messages_keep_role_name_and_words(
    message: BaseMessage, role: str, name: str | None, text: str
) -> None:
    shape = message_shape(message)
    assert (shape.role, shape.name, shape.text, shape.message_id, shape.exact) == (
        role,
        name,
        text,
        message.id,
        True,
    )


def test_a_body_holds_what_is_given_and_no_defaults() -> None:
    message = AIMessage(
        "x",
        id="1",
        tool_calls=[{"name": "f", "args": {"z": 1, "a": 2}, "id": "c"}],
        usage_metadata={"input_tokens": 1, "output_tokens": 2, "total_tokens": 3},
        mood="calm",
    )
    expected = {key: value for key, value in message.model_dump().items() if value not in (None, [], {})}
    assert body(message_shape(message)) == expected
    assert body(message_shape(HumanMessage("x"))) == {"type": "human", "content": "x"}
    assert body(message_shape(ToolMessage("x", tool_call_id="c", status="error")))["status"] == "error"


def test_the_arguments_of_a_tool_call_keep_their_order() -> None:
    calls = [{"name": "f", "args": {"zebra": 1, "ant": {"y": 1, "x": 2}}, "id": "c"}]
    stored = json.loads(message_shape(AIMessage("", tool_calls=calls)).body)
    stored["tool_calls"] = [json.loads(json.dumps(stored["tool_calls"][0], sort_keys=True))]  # as jsonb would
    arguments = loads_exact(json.dumps(stored))["tool_calls"][0]["args"]
    assert json.dumps(arguments) == json.dumps(calls[0]["args"])


@pytest.mark.parametrize(
    "value", [datetime.date(2026, 1, 2), {1, 2}, b"raw", SimpleNamespace()], ids=lambda v: type(v).__name__
)
def test_what_json_cannot_hold_is_readable_and_said_to_be_inexact(value: Any) -> None:
    shape = message_shape(HumanMessage("long " * 50_000, id="1", additional_kwargs={"odd": value, "nan": math.inf}))
    assert not shape.exact
    assert body(shape)["content"] == "long " * 50_000
    assert body(shape)["additional_kwargs"]["nan"] == math.inf
    assert isinstance(body(shape)["additional_kwargs"]["odd"], str | list)


class Special(HumanMessage):
    colour: str = "red"


def test_a_class_of_the_users_own_is_inexact() -> None:
    shape = message_shape(Special(content="x"))
    assert (shape.role, shape.exact, body(shape)["colour"]) == ("human", False, "red")


def test_hostile_text_is_clean_in_columns_and_exact_in_the_body() -> None:
    hostile = "a\x00b\ud83d\ude00\udc00"
    shape = message_shape(HumanMessage.model_construct(content=hostile, id=hostile, name=hostile))
    assert shape[1:4] == ("a�b😀�",) * 3
    assert (body(shape)["content"], body(shape)["id"]) == (hostile, hostile)


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("Hello", {"type": "human", "content": "Hello"}),
        (("user", "Hello"), {"type": "human", "content": "Hello"}),
        (("critic", "No"), {"type": "chat", "role": "critic", "content": "No"}),
        ({"role": "user", "content": "Hi", "name": "Ada"}, {"type": "human", "content": "Hi", "name": "Ada"}),
        ({"role": "assistant", "content": None}, {"type": "ai", "content": ""}),
        ({"role": "model", "content": "x"}, {"type": "ai", "content": "x"}),
        (
            {"role": "developer", "content": "x"},
            {"type": "system", "content": "x", "additional_kwargs": {"__openai_role__": "developer"}},
        ),
        (
            {"role": "tool", "content": "x", "tool_call_id": 7},
            {"type": "tool", "content": "x", "tool_call_id": "7"},
        ),
        (
            {
                "role": "assistant",
                "content": "x",
                "refusal": "no",
                "audio": None,
                "additional_kwargs": {"k": 1},
            },
            {"type": "ai", "content": "x", "additional_kwargs": {"refusal": "no", "k": 1}},
        ),
        (
            {"role": "user", "content": "x", "id": UUID(int=1)},
            {"type": "human", "content": "x", "id": str(UUID(int=1))},
        ),
        ({"type": "ai", "content": "x", "tool_calls": [], "name": None}, {"type": "ai", "content": "x"}),
        (
            {"type": "chat", "role": "critic", "content": "x"},
            {"type": "chat", "role": "critic", "content": "x"},
        ),
        (SimpleNamespace(type="human", content="x"), {"type": "human", "content": "x"}),
    ],
)
def test_other_forms_of_messages(given_: Any, expected: Mapping[str, Any]) -> None:
    assert body(message_shape(given_)) == expected


def test_tool_calls_of_openai_become_those_of_langchain() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": 2}'}},
        {"id": "2", "type": "function", "function": {"name": "g", "arguments": "{broken"}},
        {"id": "3", "name": "h", "args": {"x": 1}},
        {"id": "4", "type": "custom", "custom": {"name": "i", "input": "free text"}},
        {"id": "5", "type": "function", "function": {"name": "j", "arguments": ""}},
    ]
    message = message_from_body(body(message_shape({"role": "assistant", "content": None, "tool_calls": calls})))
    assert isinstance(message, AIMessage)
    assert [(call["name"], call["args"], call["id"]) for call in message.tool_calls] == [
        ("f", {"b": 1, "a": 2}, "1"),
        ("h", {"x": 1}, "3"),
        ("j", {}, "5"),
    ]
    assert [(call["name"], call["args"]) for call in message.invalid_tool_calls] == [
        ("g", "{broken"),
        ("i", "free text"),
    ]
    assert AIMessage(**message.model_dump()) == message


class Choice(BaseModel):
    role: str = "assistant"
    type: str = "message"
    content: list[dict[str, str]] = [{"type": "output_text", "text": "Hello"}]


def test_objects_of_client_libraries_are_taken_by_role_and_model_dump() -> None:
    shape = message_shape(Choice())
    assert (shape.role, shape.text) == ("ai", "Hello")


LANGCHAIN = [
    HumanMessage("x", name="Ada", id="1", additional_kwargs={"b": 1, "a": 2}),
    AIMessage("x", tool_calls=[{"name": "f", "args": {"q": 1}, "id": "c"}]),
    ToolMessage("x", tool_call_id="c", artifact={"k": [1]}, status="error"),
    ChatMessage(content="x", role="critic"),
    SystemMessage([{"type": "text", "text": "x"}]),
    RemoveMessage(id="r"),
]


@pytest.mark.parametrize("message", LANGCHAIN, ids=lambda message: message.type)
def test_exports_of_langchain_are_read_back(message: BaseMessage) -> None:
    for exported in (message_to_dict(message), message.model_dump(), dumpd(message)):
        shape = message_shape(json.loads(json.dumps(exported)))
        assert message_from_body(body(shape)) == message
        assert shape == message_shape(message)
        assert shape_of_body(body(shape)) == shape
        assert whole_body(shape.body, shape.text, shape.message_id) == body(shape)


@pytest.mark.parametrize(
    "message",
    [
        None,
        7,
        [],
        ["user", "x"],
        ("user",),
        (1, "x"),
        ("user", 7),
        ("", "x"),
        {},
        {"content": "x"},
        {"role": "user", "content": 7},
        {"role": "user", "content": [1]},
        {"role": "tool", "content": "x"},
        {"role": "function", "content": "x"},
        {"role": "remove"},
        {"role": "user", "content": "x", "name": 7},
        {"role": "user", "content": "x", "id": [1]},
        {"role": "assistant", "content": "x", "tool_calls": "f"},
        {"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]},
        {"type": "ai", "content": "x", "additional_kwargs": "x"},
        {"type": "ai", "content": "x", "usage_metadata": 7},
        {"lc": 1, "type": "constructor", "id": ["os", "system"], "kwargs": {"content": "x"}},
        {"lc": 1, "type": "constructor", "id": [], "kwargs": None},
        SimpleNamespace(type="human"),
        SimpleNamespace(type="human", content=7),
        HumanMessage.model_construct(content=None),
        b"bytes",
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_what_is_no_message_is_refused_with_a_reason(message: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"."):
        message_shape(message)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    "role",
    "type",
    "content",
    "name",
    "id",
    "tool_calls",
    "tool_call_id",
    "additional_kwargs",
    "data",
    "lc",
    "kwargs",
]


@given(
    message=json_values
    | st.dictionaries(
        st.sampled_from(FIELDS),
        json_values | st.sampled_from(["user", "ai", "tool", "human", "chat", "constructor"]),
    )
)
def test_any_json_is_a_message_that_can_be_built_or_an_input_error(message: Any) -> None:
    try:
        shape = message_shape(message)
    except InvalidInputError:
        return
    built = message_from_body(body(shape))
    assert message_shape(built).text == shape.text
