"""The memory buffer that a root state makes: what `conversations.memory_buffer` shows of an agent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from memory_plugin.capabilities.checkpoint_rows import StoredBlob
from memory_plugin.jsonable import clean_text, dumps_exact
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.readable import readable

TRUNCATED = "$truncated"
"""Name in the memory buffer under which stand the channels that did not fit."""


class Buffer(NamedTuple):
    """JSON text to merge into the memory buffer, and the names in it that are the graph's own.

    They are all that a state may have there, so that one that comes from an older version of this
    library, which did not keep them, loses what left the state too.
    """

    text: str
    channels: list[str]


def buffer_of(
    codec: ValueCodec,
    values: Mapping[str, Any],
    versions: Mapping[str, Any],
    blobs: Sequence[StoredBlob],
    parts: dict[str, tuple[Any, str | None]],
    *,
    conversation_channel: str,
    limit: int,
) -> Buffer | None:
    """The buffer of a root state, empty where values may not be readable; None where none is wanted.

    Channels that hold messages, and LangGraph's own, have no place in it. Over the limit, in
    characters of JSON, the largest values are left out and named under `$truncated`.

    Args:
        blobs: the changed values as they are stored.
        parts: what was made of each channel before, by version; brought up to date here.
    """
    if limit <= 0:
        return None
    if not codec.readable:  # what stood there before encryption was turned on goes
        return Buffer("{}", [])
    stored = {blob.channel: blob.json for blob in blobs}
    shown: dict[str, str] = {}
    left_out: list[str] = []
    for channel, value in values.items():
        if channel == conversation_channel or is_own_channel(channel) or codec.is_messages(value):
            continue
        version = versions.get(channel)
        known = parts.get(channel)
        if known is None or version is None or known[0] != version or channel in stored:
            known = parts[channel] = (version, _text_of(value, stored.get(channel), limit))
        if known[1] is None:
            left_out.append(clean_text(channel))
        else:
            shown[clean_text(channel)] = known[1]
    _shorten(shown, left_out, limit)
    if left_out:
        shown[TRUNCATED] = orjson.dumps(sorted(left_out)).decode()
    members = (f"{orjson.dumps(name).decode()}:{text}" for name, text in sorted(shown.items()))
    # a fork from before a channel was there has no version of it: it must not be taken for known later
    for channel in [channel for channel in list(parts) if channel not in versions]:
        parts.pop(channel, None)  # another thread may put into the same conversation
    channels = sorted({*map(clean_text, versions), *shown, TRUNCATED})
    return Buffer("{" + ",".join(members) + "}", channels)


def _text_of(value: Any, stored: str | None, limit: int) -> str | None:
    """The value as JSON; None when it is far too long for the buffer in any case."""
    if stored is not None and len(stored) > 4 * limit + 1024:
        return None
    text = dumps_exact(value, tuples=True)
    if text is None:
        text = dumps_exact(readable(value, max_chars=4 * limit))
    return text if text is None or len(text) <= limit else None


def _shorten(shown: dict[str, str], left_out: list[str], limit: int) -> None:
    size = sum(len(name) + len(text) + 6 for name, text in shown.items())
    for channel in sorted(shown, key=lambda name: len(shown[name]), reverse=True):
        if size <= limit:
            return
        size -= len(channel) + len(shown.pop(channel)) + 6
        left_out.append(channel)


def is_own_channel(channel: str) -> bool:
    """Whether LangGraph keeps its own book in this channel, such as `__start__` or `branch:to:node`."""
    return channel.startswith(("__", "branch:", "$"))
