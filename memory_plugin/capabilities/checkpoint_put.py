"""A put as the database function `put_checkpoints` takes it: any number of them in one call.

Each is an object of a JSON array, with short names; what it has not is left out:

    t thread, n namespace, i id, p parent, c checkpoint, v versions, m metadata, u user
    k 1 where the conversation changes, l its new length, w where the index has to go back to
    s new messages: [id, origin, role, message id, name, type, first byte, bytes]
    b values: [channel, version, type, changed, first byte, bytes]
    r message lists by channel; f which of their ranges are new messages: [channel, place, from, to]
    q the versions that say it is stored already
    a namespace and id of the checkpoint it takes over from, e further messages that must be there
    o messages that become the conversation's own
    d what the memory buffer gets, g the names in it that are the graph's
    h the channel that is the conversation, where its name is another than messages

Long texts stand apart, in the order of the puts: for each message its text and its body, then for
each value its JSON. The serializer's bytes are strung together, and found by place and length.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from memory_plugin.capabilities.checkpoint_rows import CheckpointPut, MessageRef, PutResult

PUT = "SELECT {s}.put_checkpoints($1, $2::text::jsonb, $3::text[], NULL)"
PUT_WITH_BYTES = "SELECT {s}.put_checkpoints($1, $2::text::jsonb, $3::text[], $4)"

STORED, GONE = -1, -2
"""What the function answers instead of a number."""

_json = orjson.Fragment


class _Parts:
    """The texts and the bytes of some puts."""

    def __init__(self) -> None:
        self.texts: list[str | None] = []
        self.blobs: list[bytes] = []
        self.length = 0

    def place(self, raw: bytes | None) -> tuple[int, int] | tuple[()]:
        """Where the bytes come to stand, from 1."""
        if raw is None:
            return ()
        start = self.length + 1
        self.blobs.append(raw)
        self.length += len(raw)
        return start, len(raw)


def put_arguments(puts: Sequence[CheckpointPut]) -> tuple[str, list[Any]]:
    """The statement for these puts, and its arguments after the tenant."""
    parts = _Parts()
    documents = orjson.dumps([_document(put, parts) for put in puts]).decode()
    if parts.blobs:
        return PUT_WITH_BYTES, [documents, parts.texts, b"".join(parts.blobs)]
    return PUT, [documents, parts.texts]


def put_result(answer: int) -> PutResult:
    """What came of a put."""
    return PutResult(answer if answer >= 0 else None, answer == STORED)


def _document(put: CheckpointPut, parts: _Parts) -> dict[str, Any]:
    document: dict[str, Any] = {
        "t": put.thread_id,
        "n": put.namespace,
        "i": put.checkpoint_id,
        "c": _json(put.checkpoint),
        "v": _json(put.versions),
        "m": _json(put.metadata),
    }
    given = {"p": put.parent_id, "u": put.user_id, "l": put.length, "a": put.anchor, "h": put.channel}
    document.update((name, value) for name, value in given.items() if value is not None)
    if put.messages or put.promoted or put.length is not None or put.buffer is not None:
        document["k"] = 1
    if put.refs:
        document["r"], document["f"] = _lists(put.refs)
    _add_messages(document, put, parts)
    if put.blobs:
        document["b"] = [_value(blob, parts) for blob in put.blobs]
    if put.extras:
        document["e"] = put.extras
    if put.buffer is not None:
        document["d"], document["g"] = _json(put.buffer), put.buffer_channels
    return document


def _add_messages(document: dict[str, Any], put: CheckpointPut, parts: _Parts) -> None:
    if put.messages:
        document["s"] = [_message(message, parts) for message in put.messages]
        if put.repeatable is not None:
            document["q"] = _json(put.repeatable)
    if put.promoted:
        document["o"] = put.promoted
        # messages that were in the index's past without being its business come to it now
        document["w"] = min(put.promoted) - 1


def _message(message: Any, parts: _Parts) -> tuple[Any, ...]:
    uuid, origin, role, message_id, name, text, body, kind, raw = message
    parts.texts += (text, body)
    return (uuid, origin, role, message_id, name, kind, *parts.place(raw))


def _value(blob: Any, parts: _Parts) -> tuple[Any, ...]:
    channel, version, json, kind, raw, changed = blob
    parts.texts.append(json)
    return (channel, version, kind, changed, *parts.place(raw))


def _lists(refs: Sequence[MessageRef]) -> tuple[dict[str, list[Any]], list[tuple[str, str, int, int]]]:
    """The ranges by channel, with zeros where `f` says what comes there."""
    lists: dict[str, list[Any]] = {}
    fresh: list[tuple[str, str, int, int]] = []
    for channel, start, end, new in refs:
        ranges = lists.setdefault(channel, [])
        if new:
            fresh.append((channel, str(len(ranges)), start, end))
            ranges.append(0)
        else:
            ranges.append((start, end))
    return lists, fresh
