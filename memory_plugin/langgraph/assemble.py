"""From a put's arguments to the rows that it writes, and from rows back to a CheckpointTuple."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import CheckpointTuple

from memory_plugin.capabilities.checkpoints import (
    CheckpointRow,
    MessageRef,
    NewMessage,
    StoredBlob,
)
from memory_plugin.jsonable import dumps_exact, loads_exact
from memory_plugin.langgraph.codec import StoredMessage, ValueCodec
from memory_plugin.langgraph.known import KnownThread, digest, match
from memory_plugin.readable import readable
from memory_plugin.types import uuid7

GRAPH = 0
INTERNAL = 2

TRUNCATED = "$truncated"
"""Name in the memory buffer under which stand the channels that did not fit."""


@dataclass(slots=True)
class ListToStore:
    """A message list as it was when the put was called: encoded where it may be new."""

    channel: str
    version: str
    messages: list[BaseMessage]
    digests: list[int]
    changed: bool
    encoded: dict[int, StoredMessage] = field(default_factory=dict)
    """By place in the list, for the messages that were not known at the call."""


def take_list(
    codec: ValueCodec, known: KnownThread, channel: str, version: str, messages: list[BaseMessage], changed: bool
) -> ListToStore:
    """Freeze a list now: the application may change its messages once the put is under way."""
    copy = list(messages)
    digests = [digest(message) for message in copy]
    taken = ListToStore(channel, version, copy, digests, changed)
    for place, message in enumerate(copy):
        if known.find(message, digests[place]) is None:
            taken.encoded[place] = codec.dump_message(message)
    return taken


@dataclass(slots=True)
class MessagePlan:
    """What a put does about its message lists."""

    refs: list[MessageRef] = field(default_factory=list)
    fresh: list[NewMessage] = field(default_factory=list)
    fresh_places: list[tuple[ListToStore, int]] = field(default_factory=list)
    rows: dict[str, list[int | None]] = field(default_factory=dict)
    versions: dict[str, Any] = field(default_factory=dict)
    promoted: list[int] = field(default_factory=list)
    visible: int = 0


def plan_messages(
    codec: ValueCodec,
    known: KnownThread,
    namespace: str,
    lists: Sequence[ListToStore],
    conversation_channel: str,
    versions: Mapping[str, Any],
) -> MessagePlan:
    """Which rows the lists consist of, and which are to be added."""
    plan = MessagePlan()
    pending: dict[tuple[int, int], int] = {}  # identity and digest of an object that an earlier list adds
    for taken in lists:
        is_conversation = namespace == "" and taken.channel == conversation_channel
        stored = known.lists.get((namespace, taken.channel, taken.version))
        rows: list[int | None]
        if not taken.changed and stored is not None and len(stored) == len(taken.messages):
            rows = list(stored)
        else:
            rows = match(known, taken.messages, taken.digests)
        added = len(plan.fresh)
        for place, row in enumerate(rows):
            if row is not None:
                if is_conversation and row in known.internal:
                    plan.promoted.append(row)
                continue
            key = (id(taken.messages[place]), taken.digests[place])
            if key not in pending:
                encoded = taken.encoded.get(place) or codec.dump_message(taken.messages[place])
                plan.fresh.append(
                    NewMessage(uuid7(), GRAPH if is_conversation else INTERNAL, *encoded)
                )
                plan.fresh_places.append((taken, place))
                pending[key] = len(plan.fresh)
        plan.refs.extend(_refs(taken, rows, pending))
        plan.rows[taken.channel] = rows
        if len(plan.fresh) > added:
            plan.versions[taken.channel] = versions[taken.channel]
        if is_conversation:
            plan.visible += _growth(known, taken, rows) + len(plan.promoted)
    return plan


def _refs(taken: ListToStore, rows: Sequence[int | None], pending: Mapping[tuple[int, int], int]) -> list[MessageRef]:
    refs: list[MessageRef] = []
    for place, row in enumerate(rows):
        fresh = row is None
        number = pending[(id(taken.messages[place]), taken.digests[place])] if row is None else row
        last = refs[-1] if refs else None
        if last is not None and last.fresh == fresh and last.end == number:
            refs[-1] = MessageRef(taken.channel, last.start, number + 1, fresh)
        else:
            refs.append(MessageRef(taken.channel, number, number + 1, fresh))
    return refs


def _growth(known: KnownThread, taken: ListToStore, rows: Sequence[int | None]) -> int:
    """By how many messages the conversation grows: an edit of a message is no further message."""
    present = {row for row in rows if row is not None}
    growth = 0
    for place, row in enumerate(rows):
        if row is None:
            growth += 1
            earlier = known.by_message_id.get(taken.messages[place].id or "")
            if earlier is not None and earlier not in present:
                growth -= 1
    return growth


def learn_from_put(
    known: KnownThread, namespace: str, lists: Sequence[ListToStore], plan: MessagePlan, base: int | None,
    conversation_channel: str,
) -> bool:
    """Remember the rows that a put made; False when they are not known (the put was a repetition)."""
    if plan.fresh and base is None:
        return False
    seqs: dict[tuple[int, int], int] = {}
    for number, (taken, place) in enumerate(plan.fresh_places, start=1):
        seqs[(id(taken.messages[place]), taken.digests[place])] = (base or 0) + number
    for taken in lists:
        rows = [
            seqs[(id(message), taken.digests[place])] if row is None else row
            for place, (message, row) in enumerate(zip(taken.messages, plan.rows[taken.channel], strict=True))
        ]
        known.learn(taken.messages, taken.digests, rows)
        known.remember_list(namespace, taken.channel, taken.version, rows)
        if namespace == "" and taken.channel == conversation_channel:
            for message, row in zip(taken.messages, rows, strict=True):
                if message.id:
                    known.by_message_id[message.id] = row
            known.internal.difference_update(plan.promoted)
        else:
            known.internal.update(row for row in seqs.values() if row in rows)
    return True


def buffer_of(
    codec: ValueCodec, values: Mapping[str, Any], channels: Sequence[str], limit: int
) -> tuple[str, list[str]] | None:
    """The memory buffer that a root state makes, and the names that are not (or no longer) in it.

    Channels that hold messages, and LangGraph's own, have no place in it. Over the limit the
    largest values are left out and named under `$truncated`.
    """
    if not codec.readable or limit <= 0:
        return None
    parts: dict[str, str] = {}
    for channel, value in values.items():
        if is_own_channel(channel) or codec.is_messages(value):
            continue
        text = dumps_exact(value, tuples=True) or dumps_exact(readable(value, max_chars=4 * limit))
        if text is not None:
            parts[channel] = text
    left_out: list[str] = []
    size = sum(len(name) + len(text) + 6 for name, text in parts.items())
    for channel in sorted(parts, key=lambda name: len(parts[name]), reverse=True):
        if size <= limit:
            break
        size -= len(channel) + len(parts.pop(channel)) + 6
        left_out.append(channel)
    if left_out:
        parts[TRUNCATED] = orjson.dumps(sorted(left_out)).decode()
    text = "{" + ",".join(f"{orjson.dumps(name).decode()}:{value}" for name, value in sorted(parts.items())) + "}"
    removed = [name for name in (*channels, TRUNCATED) if name not in parts]
    return text, removed


def is_own_channel(channel: str) -> bool:
    """Whether LangGraph keeps its own book in this channel, such as `__start__` or `branch:to:node`."""
    return channel.startswith(("__", "branch:", "$"))


def blobs_of(codec: ValueCodec, values: Mapping[str, Any], new_versions: Mapping[str, Any]) -> list[StoredBlob]:
    """The changed values that are not message lists."""
    blobs = []
    for channel, version in new_versions.items():
        if channel in values and not codec.is_messages(values[channel]):
            stored = codec.dump(values[channel])
            blobs.append(StoredBlob(channel, str(version), stored.json, stored.type, stored.blob))
    return blobs


def tuple_of(codec: ValueCodec, row: CheckpointRow, known: KnownThread | None, conversation_channel: str) -> CheckpointTuple:
    """The CheckpointTuple of a row; what it reads is learned, so that the next put knows it."""
    versions = loads_exact(row.versions)
    values: dict[str, Any] = {
        blob.channel: codec.load(blob.json, blob.type, blob.blob) for blob in row.blobs
    }
    if row.refs is not None:
        decoded = {each.seq: codec.load_message(each.body, each.type, each.raw) for each in row.messages}
        refs: dict[str, list[list[int]]] = orjson.loads(row.refs)
        lists = {
            channel: [seq for start, end in spans for seq in range(start, end) if seq in decoded]
            for channel, spans in refs.items()
        }
        for channel, seqs in lists.items():
            values[channel] = [decoded[seq] for seq in seqs]
        if known is not None:
            _learn_from_read(known, row, lists, decoded, versions, conversation_channel)
    elif known is not None:
        known.checkpoints.add((row.namespace, row.checkpoint_id))
    checkpoint = {
        **loads_exact(row.checkpoint),
        "id": row.checkpoint_id,
        "channel_values": values,
        "channel_versions": versions,
    }
    configurable = {"thread_id": row.thread_id, "checkpoint_ns": row.namespace}
    return CheckpointTuple(
        config={"configurable": {**configurable, "checkpoint_id": row.checkpoint_id}},
        checkpoint=checkpoint,  # type: ignore[arg-type]  # stored from a Checkpoint, whatever its version
        metadata=codec.load_metadata(row.metadata),  # type: ignore[arg-type]  # likewise
        parent_config=(
            {"configurable": {**configurable, "checkpoint_id": row.parent_id}} if row.parent_id else None
        ),
        pending_writes=[
            (task, write.channel, codec.load(write.json, write.type, write.blob)) for task, write in row.writes
        ],
    )


def _learn_from_read(
    known: KnownThread,
    row: CheckpointRow,
    lists: Mapping[str, list[int]],
    decoded: Mapping[int, BaseMessage],
    versions: Mapping[str, Any],
    conversation_channel: str,
) -> None:
    known.trim(len(decoded))
    known.learn(decoded.values(), [digest(message) for message in decoded.values()], decoded.keys())
    known.internal.update(each.seq for each in row.messages if each.origin == INTERNAL)
    for channel, seqs in lists.items():
        if channel in versions:
            known.remember_list(row.namespace, channel, str(versions[channel]), seqs)
    if row.namespace == "":
        for seq in lists.get(conversation_channel, ()):
            if decoded[seq].id:
                known.by_message_id[str(decoded[seq].id)] = seq
    known.checkpoints.add((row.namespace, row.checkpoint_id))

