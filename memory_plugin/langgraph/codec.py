"""What LangGraph hands to a checkpointer, as the database keeps it, and back.

A value is stored as JSON where JSON gives it back as LangGraph's own serializer would, and as that
serializer's bytes where not. With a serializer that hides values (an `EncryptedSerializer`, or any
that is not plainly LangGraph's `JsonPlusSerializer`) everything goes through it: no JSON, no text,
no role, no name leaves in clear.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import orjson
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import Makers, clean_text, dumps_exact, exact_value, jsonb_text, loads_exact
from memory_plugin.langchain.messages import message_from_body
from memory_plugin.message_shape import body_text, message_shape, whole_body
from memory_plugin.secret_names import SECRET_NAMES, drop_secrets

__all__ = [
    "PLAIN_METADATA",
    "SECRET_NAMES",
    "Stored",
    "StoredMessage",
    "ValueCodec",
    "drop_secrets",
]

PLAIN_METADATA = frozenset({"source", "step", "run_id"})
"""Metadata of LangGraph itself, no user's content, that stays readable when a serializer encrypts."""


class Stored(NamedTuple):
    """A value in the database: `json` for a JSONB column, or `type` and `blob` of the serializer."""

    json: str | None
    type: str | None
    blob: bytes | None


class StoredMessage(NamedTuple):
    """A message in the database.

    `body` is JSON text for JSONB, without what `text` and `message_id` say. `type` and `raw` are the
    serializer's, there when these alone would not give the message back, and then they win. With a
    serializer that hides values only `type` and `raw` are there.
    """

    role: str | None
    message_id: str | None
    name: str | None
    text: str | None
    body: str | None
    type: str | None
    raw: bytes | None


class ValueCodec:
    """Encodes and decodes with one serializer.

    Cheap to make: a saver whose serializer is exchanged makes a new one. `plain_metadata` names the
    keys of checkpoint metadata, besides `PLAIN_METADATA`, that may stay in clear beside an
    encrypting serializer so that they can be filtered on.
    """

    def __init__(self, serde: SerializerProtocol, *, plain_metadata: Collection[str] = ()) -> None:
        self.serde = serde
        self.readable = type(serde) is JsonPlusSerializer
        """Whether values may be stored as JSON and text; a subclass could encrypt, so it counts as hiding."""
        self._plain_metadata = PLAIN_METADATA.union(plain_metadata)

    # --- values ---

    def dump(self, value: Any) -> Stored:
        """Raises whatever the serializer raises for what it cannot hold."""
        if self.readable:
            text = _with_messages(value) if _has_messages(value) else dumps_exact(value, order=True, tuples=True)
            if text is not None:
                return Stored(text, None, None)
        kind, blob = self.serde.dumps_typed(value)
        return Stored(None, kind, blob)

    def load(self, json: str | None, type: str | None, blob: bytes | None) -> Any:
        """The value; the serializer's bytes win over JSON, and JSON of any time before encryption is read."""
        if type is not None:
            return self.serde.loads_typed((type, b"" if blob is None else blob))
        if json is None:
            raise InvalidInputError("A stored value has neither JSON nor bytes: the row was damaged.")
        return loads_exact(json, _MAKERS)

    # --- messages ---

    @staticmethod
    def is_messages(value: Any) -> bool:
        """Whether the value is a list, not empty, of nothing but messages."""
        if type(value) is not list or not value:
            return False
        return all(issubclass(kind, BaseMessage) for kind in set(map(type, value)))

    def dump_message(self, message: BaseMessage) -> StoredMessage:
        """Raises whatever the serializer raises for what it cannot hold."""
        if not self.readable:
            kind, raw = self.serde.dumps_typed(message)
            return StoredMessage(None, None, None, None, None, kind, raw)
        try:
            role, message_id, name, text, body, exact = message_shape(message)
        except InvalidInputError:  # broken by its owner after it was made: keep it as the serializer would
            role = clean_text(str(getattr(message, "type", "")))
            kind, raw = self.serde.dumps_typed(message)
            return StoredMessage(role, None, None, None, None, kind, raw)
        if exact:
            return StoredMessage(role, message_id, name, text, body, None, None)
        kind, raw = self.serde.dumps_typed(message)
        return StoredMessage(role, message_id, name, text, body, kind, raw)

    def load_message(
        self, body: str | None, text: str | None, message_id: str | None, type: str | None, raw: bytes | None
    ) -> BaseMessage:
        """The message.

        A class that the serializer may not or cannot build (blocked by its allow-list, moved away)
        comes back as the core message with the same role and fields.
        """
        if type is not None:
            message = self.serde.loads_typed((type, b"" if raw is None else raw))
            if isinstance(message, BaseMessage):
                return message
        if body is None:
            raise InvalidInputError(
                "A stored message could not be built: its class is blocked by the serializer or gone."
            )
        return message_from_body(whole_body(body, text, message_id))

    # --- metadata of checkpoints ---

    def dump_metadata(self, metadata: Mapping[str, Any]) -> str:
        """JSON text for JSONB, so that `metadata @> dump_filter(...)` finds the checkpoint.

        Scalars stay plain under their keys, so containment works on them; what JSON cannot hold is
        readable there (an enum as its value, a datetime as its ISO text), and beside it, under
        `$s`, stands the serializer's form of the whole, which `load_metadata` prefers. What the
        serializer cannot hold either stays readable only. With a serializer that hides values, only
        the plain keys stand beside `$s`.
        """
        if self.readable:
            text = dumps_exact(dict(metadata), tuples=True)
            if text is not None:
                return text
            try:
                kind, blob = self.serde.dumps_typed(dict(metadata))
            except Exception:  # noqa: BLE001 - serializers fail in their own ways; metadata must not stop a run
                return jsonb_text(dict(metadata))
            shown = dict(metadata)
        else:
            kind, blob = self.serde.dumps_typed(dict(metadata))
            shown = {key: value for key, value in metadata.items() if key in self._plain_metadata}
        raw = orjson.dumps({"$s": [kind, base64.b64encode(blob).decode()]}).decode()
        text = jsonb_text(shown)
        return raw if text == "{}" else f"{text[:-1]},{raw[1:]}"

    def load_metadata(self, text: str) -> dict[str, Any]:
        """The metadata as LangGraph's own savers give it back: equal, tuples as lists."""
        if '"$s"' in text:
            metadata = self._hidden_metadata(orjson.loads(text))
            if metadata is not None:
                return metadata
        value = loads_exact(text)
        return value if isinstance(value, dict) else {}

    def _hidden_metadata(self, stored: Any) -> dict[str, Any] | None:
        # The writer escapes a "$s" of the user's own, so this one was written above.
        match stored:
            case {"$s": [str(kind), str(payload)]}:
                try:
                    blob = base64.b64decode(payload, validate=True)
                except binascii.Error:
                    return None
                metadata = self.serde.loads_typed((kind, blob))
                return metadata if isinstance(metadata, dict) else None
        return None

    def dump_filter(self, filter: Mapping[str, Any]) -> str:
        """JSON text that stored metadata contains (`@>`) when it matches the filter.

        Raises `InvalidInputError` for a key that the serializer hides.
        """
        if not self.readable:
            hidden = sorted(key for key in filter if key not in self._plain_metadata)
            if hidden:
                raise InvalidInputError(
                    f"Metadata is encrypted, so {', '.join(map(repr, hidden))} cannot be filtered on: name"
                    " such keys in plain_metadata before they are written."
                )
        return jsonb_text(dict(filter))


# --- values with messages in them ---
#
# A message, a list of nothing but messages, and a dict that has such among its values (what a graph is
# called with) are stored as the messages' own fields, under a tag: readable by SQL, and half of what the
# serializer makes of them.


def _is_message(value: Any) -> bool:
    return isinstance(value, BaseMessage)


def _is_given_messages(value: Any) -> bool:
    """Whether the value is a message or a list of nothing but messages."""
    return _is_message(value) or (type(value) is list and bool(value) and all(map(_is_message, value)))


def _has_messages(value: Any) -> bool:
    return any(map(_is_given_messages, value.values())) if type(value) is dict else _is_given_messages(value)


def _with_messages(value: Any) -> str | None:
    """JSON text of a value that has messages; None where something in it has no exact form."""
    if type(value) is not dict:
        return _tagged(value)
    tagged = {name: _tagged(item) for name, item in value.items() if _is_given_messages(item)}
    text = dumps_exact({**value, **dict.fromkeys(tagged)}, order=True, tuples=True)
    if text is None or None in tagged.values():
        return None
    members = orjson.loads(text)
    if not tagged.keys() <= members.keys():  # a name that JSON cannot hold as it is
        return None
    members.update((name, orjson.Fragment(item)) for name, item in tagged.items() if item is not None)
    return orjson.dumps(members).decode()


def _tagged(value: Any) -> str | None:
    if type(value) is not list:
        body = _body(value)
        return None if body is None else f'{{"v":{body},"$t":"message"}}'
    bodies = [body for message in value if (body := _body(message)) is not None]
    return f'{{"v":[{",".join(bodies)}],"$t":"messages"}}' if len(bodies) == len(value) else None


def _body(message: BaseMessage) -> str | None:
    try:
        shape = message_shape(message)
    except InvalidInputError:  # broken by its owner after it was made: as the serializer would keep it
        return None
    return body_text(shape) if shape.exact else None


def _made_message(body: Any) -> Any:
    return message_from_body(exact_value(body))


def _made_messages(bodies: Any) -> Any:
    return list(map(_made_message, bodies))


_MAKERS: Makers = {"message": _made_message, "messages": _made_messages}
