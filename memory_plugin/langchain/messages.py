"""Message bodies, as the store keeps them, back into LangChain's message objects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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
from pydantic import BaseModel, ValidationError

from memory_plugin.errors import InvalidInputError

__all__ = ["CORE_MESSAGES", "fields_of_body", "message_from_body", "message_of_fields"]

CORE_MESSAGES: tuple[type[BaseMessage], ...] = (
    HumanMessage,
    AIMessage,
    SystemMessage,
    ToolMessage,
    FunctionMessage,
    ChatMessage,
    RemoveMessage,
    HumanMessageChunk,
    AIMessageChunk,
    SystemMessageChunk,
    ToolMessageChunk,
    FunctionMessageChunk,
    ChatMessageChunk,
)
"""The classes a body can become: LangChain's core messages, and never anything named in stored data."""


class _Form(NamedTuple):
    """How to build one class without validation."""

    cls: type[BaseMessage]
    defaults: dict[str, Any]  # every field in its order, None where a value is required
    fresh: tuple[tuple[str, Callable[[], Any]], ...]  # what each message needs of its own
    names: frozenset[str]
    required: frozenset[str]


def _form(cls: type[BaseMessage]) -> _Form:
    defaults: dict[str, Any] = {}
    fresh: list[tuple[str, Callable[[], Any]]] = []
    for name, field in cls.model_fields.items():
        defaults[name] = None if field.is_required() else field.get_default(call_default_factory=True)
        if type(defaults[name]) in (list, dict):
            fresh.append((name, type(defaults[name])))
    required = frozenset(name for name, field in cls.model_fields.items() if field.is_required())
    return _Form(cls, defaults, tuple(fresh), frozenset(defaults), required)


_FORMS: dict[str, _Form] = {cls.model_fields["type"].default: _form(cls) for cls in CORE_MESSAGES}
NAMES: dict[type[BaseMessage], set[str]] = {form.cls: set(form.names) for form in _FORMS.values()}
"""The names of all fields of a class; to be copied, never changed."""

# The slots of every pydantic model, set without looking their names up.
_slots = BaseModel.__dict__
set_fields = _slots["__dict__"].__set__
set_names = _slots["__pydantic_fields_set__"].__set__
set_extra = _slots["__pydantic_extra__"].__set__
set_private = _slots["__pydantic_private__"].__set__
new_message = object.__new__


def message_from_body(body: Mapping[str, Any]) -> BaseMessage:
    """The message that `body` describes: equal to the one it was made of, and of the same class.

    `body` is a message body as `loads_exact` gives it: `type`, `content`, and the fields that are
    not at their defaults. The message takes its lists and dicts over without copying them. A type
    that the core does not know becomes a `ChatMessage` with that type as its role.

    The fields are trusted as far as they have the shape of a message; a body without it goes
    through LangChain's own validation, and raises `InvalidInputError` where that fails.
    """
    form = _form_of(body)
    if form is None:
        return _of_unknown_type(body)
    values = _values(form, body)
    if values is None:
        return _validated(form.cls, body)
    extra: dict[str, Any] = {}
    if len(values) > len(form.names):
        extra = {name: values.pop(name) for name in body if name not in form.names}
    return message_of_fields(form.cls, values, extra)


def fields_of_body(body: Mapping[str, Any]) -> tuple[type[BaseMessage], dict[str, Any]] | None:
    """The class and all fields of the message that `body` describes, for `message_of_fields`.

    None for a body that takes validation, or has fields that its class does not know.
    """
    form = _form_of(body)
    if form is None:
        return None
    values = _values(form, body)
    return None if values is None or len(values) > len(form.names) else (form.cls, values)


def message_of_fields(
    cls: type[BaseMessage], fields: dict[str, Any], extra: dict[str, Any] | None = None
) -> BaseMessage:
    """A message of one of the core's classes that takes these fields, all of them, as its own."""
    message = new_message(cls)
    set_fields(message, fields)
    # All fields count as set, as they do after a trip through LangGraph's serializer.
    set_names(message, {*fields, *extra} if extra else NAMES[cls].copy())
    set_extra(message, {} if extra is None else extra)
    set_private(message, None)
    return message


def _form_of(body: Mapping[str, Any]) -> _Form | None:
    kind = body.get("type")
    return _FORMS.get(kind) if type(kind) is str else None


def _values(form: _Form, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """Every field, those that the body leaves out at their defaults; None where it lacks what it needs."""
    values = form.defaults.copy()
    for name, make in form.fresh:
        values[name] = make()
    values.update(body)
    content = values["content"]
    if (type(content) is not str and type(content) is not list) or not form.required <= body.keys():
        return None
    return values


def _of_unknown_type(body: Mapping[str, Any]) -> BaseMessage:
    kind = body.get("type")
    if not isinstance(kind, str) or not kind:
        raise InvalidInputError("A message body needs a 'type' such as human, ai, system or tool.")
    return _validated(ChatMessage, {"role": kind, **body, "type": "chat"})


def _validated(cls: type[BaseMessage], body: Mapping[str, Any]) -> BaseMessage:
    try:
        return cls(**body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise InvalidInputError(f"The body is not a {body.get('type')} message: {reason}.") from error
    except (TypeError, KeyError, AttributeError) as error:  # from LangChain's own validators
        raise InvalidInputError(f"The body is not a {body.get('type')} message: {error!r}.") from error
