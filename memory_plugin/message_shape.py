"""What a chat message is, whoever wrote it, known by its shape alone (no framework is imported).

A message may come as a LangChain message object, a dict in the shape of OpenAI (`role`, `content`,
`tool_calls` ...) or of LangChain (`type`, or `type` and `data`, or its serialised constructor), an
object of a client library with `role` and `model_dump()`, a `(role, text)` tuple, or a plain str (a
human said it). All become the same `MessageShape`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import clean_text, dumps_exact, jsonb_text, loads_exact

CORE_TYPES: Mapping[str, str] = {
    "HumanMessage": "human",
    "AIMessage": "ai",
    "SystemMessage": "system",
    "ToolMessage": "tool",
    "FunctionMessage": "function",
    "ChatMessage": "chat",
    "RemoveMessage": "remove",
    "HumanMessageChunk": "HumanMessageChunk",
    "AIMessageChunk": "AIMessageChunk",
    "SystemMessageChunk": "SystemMessageChunk",
    "ToolMessageChunk": "ToolMessageChunk",
    "FunctionMessageChunk": "FunctionMessageChunk",
    "ChatMessageChunk": "ChatMessageChunk",
}
"""The message classes of LangChain's core and the `type` each carries."""

_CORE_TYPE_NAMES = frozenset(CORE_TYPES.values())
_CORE_MODULE = "langchain_core.messages."

_ROLES = {
    "user": "human",
    "assistant": "ai",
    "model": "ai",
    "developer": "system",
    "HumanMessageChunk": "human",
    "AIMessageChunk": "ai",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "function",
    "ChatMessageChunk": "chat",
}
_KNOWN_ROLES = frozenset({"human", "ai", "system", "tool", "function", "chat", "remove", *_ROLES})

# The fields of a message in the order that `jsonb` keeps, so that no note about the order is needed;
# each with the value that means "not given", or `...` where there is none.
_FIELDS: Mapping[str, Any] = {
    "id": None,
    "name": None,
    "role": ...,
    "type": ...,
    "status": "success",
    "content": ...,
    "example": False,
    "artifact": None,
    "tool_calls": [],
    "tool_call_id": ...,
    "chunk_position": None,
    "usage_metadata": None,
    "tool_call_chunks": [],
    "additional_kwargs": {},
    "response_metadata": {},
    "invalid_tool_calls": [],
}
_CONTAINER_FIELDS: Mapping[str, type] = {
    "usage_metadata": dict,
    **{name: type(default) for name, default in _FIELDS.items() if isinstance(default, (list, dict))},
}
_RANK = {name: rank for rank, name in enumerate(_FIELDS)}
# Counters and a provider's envelope are looked up by name; the rest may be shown to a model again,
# where another order of keys is another prompt (and misses its cache).
_UNORDERED = frozenset({"usage_metadata", "response_metadata"})
_ORDERED = frozenset(_FIELDS) - _UNORDERED
_TEXT_BLOCKS = frozenset({"text", "input_text", "output_text", None})
_REQUIRED = (("tool", "tool_call_id"), ("function", "name"), ("chat", "role"), ("remove", "id"))


class MessageShape(NamedTuple):
    """A message as the store keeps it.

    `role` is LangChain's word for who speaks (human, ai, system, tool, function, chat, remove; a
    chunk has the role of its message). `name` is the speaker's name; for a chat message without
    one, its free role. `text` is the words alone. `body` is JSON text for `jsonb`: the message's
    fields that differ from their defaults, but for content that is `text` and an id that is
    `message_id`; `whole_body` puts them back. `exact` says that this gives back the very message
    (with tuples as lists); otherwise something in it was only made readable, or the message was of
    a class that a body cannot name.
    """

    role: str
    message_id: str | None
    name: str | None
    text: str
    body: str
    exact: bool


def message_shape(message: Any) -> MessageShape:
    """The shape of one message in any of the accepted forms.

    Raises `InvalidInputError` for anything that is no message: no role, content that is neither
    text nor a list of blocks, a tool message without `tool_call_id`.
    """
    if type(message) in _core_plans:
        return _shape_of_object(message)
    if isinstance(message, str):
        return shape_of_body({"type": "human", "content": str.__str__(message)})
    if isinstance(message, Mapping):
        return shape_of_body(_body_of_mapping(message))
    if type(message) is tuple:
        if len(message) != 2 or not isinstance(message[0], str):
            raise InvalidInputError("A message given as a tuple must be (role, text).")
        return shape_of_body(_body_of_chat_dict({"role": message[0], "content": message[1]}))
    kind = getattr(message, "type", None)
    if isinstance(kind, str) and (kind in _KNOWN_ROLES or hasattr(message, "additional_kwargs")):
        return _shape_of_object(message)
    if isinstance(getattr(message, "role", None), str) and callable(getattr(message, "model_dump", None)):
        return shape_of_body(_body_of_mapping(message.model_dump(exclude_none=True)))
    raise InvalidInputError(
        f"A {type(message).__name__} is not a message: pass a LangChain message, a dict with 'role' and"
        " 'content', a (role, text) tuple or a str."
    )


def whole_body(body: str, text: str | None, message_id: str | None) -> dict[str, Any]:
    """The fields of a stored message: those of its `body`, and what stands in columns of its own.

    Raises `InvalidInputError` when the body is not JSON.
    """
    fields = loads_exact(body)
    return with_columns(fields, text, message_id) if type(fields) is dict else {}


def with_columns(fields: dict[str, Any], text: str | None, message_id: str | None) -> dict[str, Any]:
    """The fields of a message with those that are kept in columns, in the order of all messages."""
    if "content" in fields or text is None:
        return fields if "id" in fields or message_id is None else {**fields, "id": message_id}
    whole = {"type": fields.get("type"), "content": text}
    if message_id is not None:
        whole["id"] = message_id
    whole.update(fields)
    return whole


def body_text(shape: MessageShape) -> str:
    """All fields of a message as one JSON text for `jsonb`, to be read with `loads_exact`."""
    apart: dict[str, str] = {}
    if not _has(shape.body, "content"):
        apart["content"] = shape.text
    if shape.message_id is not None and not _has(shape.body, "id"):
        apart["id"] = shape.message_id
    return f"{orjson.dumps(apart).decode()[:-1]},{shape.body[1:]}" if apart else shape.body


def _has(body: str, field: str) -> bool:
    return f'"{field}":' in body and field in orjson.loads(body)


def shape_of_body(body: Mapping[str, Any]) -> MessageShape:
    """The shape of a message given as a body: LangChain's own fields, `type` and `content` first of all.

    Missing fields mean their defaults. Raises `InvalidInputError` when the body lacks what its
    type needs.
    """
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidInputError("A message body needs a 'type' such as human, ai, system or tool.")
    content = body.get("content")
    if content is None:
        content = ""
    elif isinstance(content, str):
        content = str.__str__(content)  # LangChain's `message.text` is a subclass
    elif not _is_content(content):
        raise InvalidInputError("The content of a message must be text or a list of texts and dicts.")
    role = _ROLES.get(kind, kind)
    for owner, field in _REQUIRED:
        if role == owner and not isinstance(body.get(field), str):
            raise InvalidInputError(f"A {role} message needs a '{field}'.")
    kept: dict[str, Any] = {}
    for name in sorted(body, key=_rank):
        value, default = body[name], _FIELDS.get(name, ...)
        wanted = _CONTAINER_FIELDS.get(name)
        if wanted is not None and not isinstance(value, (wanted, type(None))):
            raise InvalidInputError(f"The {name} of a message must be a {wanted.__name__}.")
        if _is_given(value, default) and not (value is None and name in _FIELDS):
            kept[name] = value
    kept["content"] = content
    return _shape(kept, kept.keys() - _UNORDERED, True)


# --- objects ----------------------------------------------------------------------------------


# What to look at in an object of a core class: (field, value that means "not given", its type where
# everything empty of that type means it too).
_Plan = list[tuple[str, Any, type]]
_core_plans: dict[type, _Plan] = {}


def _shape_of_object(message: Any) -> MessageShape:
    kind = type(message)
    fields = _fields_of(message)
    plan = _core_plans.get(kind) or _plan(kind, fields)
    body: dict[str, Any] = {}
    for name, default, empty in plan:
        value = fields.get(name, default)
        if value is not default and (type(value) is not empty or value):
            body[name] = value
    order: Collection[str] = _ORDERED
    extra = getattr(message, "__pydantic_extra__", None)
    if extra or len(fields) > len(plan):
        known = {name for name, _, _ in plan}
        body.update((name, value) for name, value in fields.items() if name not in known)
        body.update(extra or {})
        order = body.keys() - _UNORDERED
    content = body.get("content")
    if type(content) is not str and not _is_content(content):
        raise InvalidInputError("The content of a message must be text or a list of texts and dicts.")
    exact = (
        kind in _core_plans
        and body.get("type") == CORE_TYPES[kind.__name__]
        and type(body.get("id", "")) is str
        and type(body.get("name", "")) is str
    )
    return _shape(body, order, exact)


def _plan(kind: type, fields: Mapping[str, Any]) -> _Plan:
    core = kind.__name__ in CORE_TYPES and kind.__module__.startswith(_CORE_MODULE)
    names = getattr(kind, "model_fields", fields) if core else fields
    plan = [
        (name, default, type(...) if default else type(default)) for name, default in _FIELDS.items() if name in names
    ]
    if core:  # only these are few and live as long as the process
        _core_plans[kind] = plan
    return plan


def _is_given(value: Any, default: Any) -> bool:
    # Types first: comparing anything with anything may answer anything (arrays do).
    return type(value) is not type(default) or value != default


def _fields_of(message: Any) -> Mapping[str, Any]:
    try:
        fields: Mapping[str, Any] = vars(message)
    except TypeError:  # an object with slots
        fields = {name: getattr(message, name) for name in _FIELDS if hasattr(message, name)}
    return fields


def _shape(body: dict[str, Any], order: Collection[str], exact: bool) -> MessageShape:
    """`body` holds only what is given, with the known fields in the order of `_FIELDS`."""
    kind = body["type"]
    role = _ROLES.get(kind, kind)
    name = body.get("name")
    if name is None and role == "chat":
        name = body.get("role")
    message_id, words = _column(body.get("id")), _words(body.get("content"))
    if body.get("content") == words and type(body["content"]) is str:
        del body["content"]
    if message_id is not None and type(body["id"]) is str and body["id"] == message_id:
        del body["id"]
    text = dumps_exact(body, order=order, tuples=True)
    if text is None:
        text, exact = jsonb_text(body), False
    return MessageShape(
        role if role in _KNOWN_ROLES else clean_text(role), message_id, _column(name), words, text, exact
    )


def _column(value: Any) -> str | None:
    return None if value is None else clean_text(str(value))


def _words(content: Any) -> str:
    if isinstance(content, str):
        return clean_text(content)
    if not isinstance(content, (list, tuple)):
        return ""
    return clean_text("\n".join(_words_of_blocks(content)))


def _words_of_blocks(blocks: Iterable[Any]) -> Iterable[str]:
    for block in blocks:
        text = block
        if isinstance(block, Mapping) and block.get("type") in _TEXT_BLOCKS:
            text = block.get("text")
        if isinstance(text, str):
            yield text


# --- mappings ---------------------------------------------------------------------------------


def _body_of_mapping(message: Mapping[str, Any]) -> dict[str, Any]:
    kind = message.get("type")
    if kind == "constructor" and "lc" in message:
        return _body_of_constructor(message)
    if isinstance(message.get("data"), Mapping) and isinstance(kind, str) and "content" not in message:
        return _body_of_fields({**message["data"], "type": kind})
    if isinstance(message.get("role"), str) and kind not in ("chat", "ChatMessageChunk"):
        return _body_of_chat_dict(message)
    if isinstance(kind, str) and kind in _KNOWN_ROLES:
        return _body_of_fields(message)
    raise InvalidInputError("A message given as a dict needs 'role' (or LangChain's 'type') and 'content'.")


def _body_of_constructor(message: Mapping[str, Any]) -> dict[str, Any]:
    path, fields = message.get("id"), message.get("kwargs")
    kind = CORE_TYPES.get(path[-1]) if isinstance(path, list) and path and isinstance(path[-1], str) else None
    if kind is None or not isinstance(fields, Mapping):
        raise InvalidInputError("This serialised object is not one of LangChain's core messages.")
    return _body_of_fields({**fields, "type": kind})


def _body_of_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """LangChain's own fields, flat; roles of other makers as `type` are understood too."""
    body = dict(fields)
    if body["type"] not in _CORE_TYPE_NAMES:
        body["type"] = _ROLES.get(body["type"], body["type"])
    return _with_text_ids(_with_tool_calls(body))


def _body_of_chat_dict(message: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's shape: `role` says who; what LangChain has no field for goes to `additional_kwargs`."""
    said = message["role"]
    role = _ROLES.get(said, said) if said in _KNOWN_ROLES else "chat"
    body: dict[str, Any] = {"type": role}
    if role == "chat":
        if not said:
            raise InvalidInputError("The role of a message must not be empty.")
        body["role"] = said
    others: dict[str, Any] = {}
    for name, value in message.items():
        if name in ("role", "type"):
            continue
        if name in _FIELDS:
            body[name] = value
        elif value is not None:
            others[name] = value
    if said == "developer":
        others["__openai_role__"] = "developer"
    given = body.get("additional_kwargs")
    if others:
        body["additional_kwargs"] = {**others, **given} if isinstance(given, Mapping) else others
    return _with_text_ids(_with_tool_calls(body))


def _with_tool_calls(body: dict[str, Any]) -> dict[str, Any]:
    """Tool calls in OpenAI's nested shape become LangChain's; arguments that do not parse, invalid calls."""
    calls = body.pop("tool_calls", None)
    if not calls:
        return body
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise InvalidInputError("The tool_calls of a message must be a list of dicts.")
    valid: list[dict[str, Any]] = []
    invalid = list(body.get("invalid_tool_calls") or [])
    for call in calls:
        nested = call.get("function", call.get("custom"))
        if isinstance(nested, Mapping):
            name, given = nested.get("name"), nested.get("arguments", nested.get("input"))
        else:
            name, given = call.get("name"), call.get("args")
        if not isinstance(name, str):
            raise InvalidInputError("Each tool call of a message needs a 'name'.")
        arguments = _arguments(given)
        if arguments is not None:
            valid.append({"name": name, "args": arguments, "id": call.get("id"), "type": "tool_call"})
        else:
            rest = {"error": None, "type": "invalid_tool_call"}
            invalid.append({"name": name, "args": given, "id": call.get("id"), **rest})
    body["tool_calls"] = valid
    if invalid:
        body["invalid_tool_calls"] = invalid
    return body


def _arguments(given: Any) -> dict[str, Any] | None:
    if isinstance(given, Mapping):
        return dict(given)
    if not given:
        return {}
    try:
        value = orjson.loads(given)
    except orjson.JSONDecodeError:  # also for anything that is not text
        return None
    return value if isinstance(value, dict) else None


def _with_text_ids(body: dict[str, Any]) -> dict[str, Any]:
    for name in ("id", "tool_call_id"):
        value = body.get(name)
        if isinstance(value, (int, UUID)):
            body[name] = str(value)
        elif value is not None and not isinstance(value, str):
            raise InvalidInputError(f"The {name} of a message must be text.")
    if not isinstance(body.get("name"), (str, type(None))):
        raise InvalidInputError("The name of a message must be text.")
    return body


def _is_content(content: Any) -> bool:
    if isinstance(content, str):
        return True
    return isinstance(content, list) and all(isinstance(block, (str, Mapping)) for block in content)


def _rank(name: str) -> int:
    return _RANK.get(name, len(_RANK))
