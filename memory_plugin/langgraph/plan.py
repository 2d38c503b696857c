"""From a put's arguments to the rows that it writes.

`prepare` freezes everything the application may change later; `plan_put` then decides, with what is
known of the thread at that moment, which messages are rows already and which are to be added.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from langchain_core.messages import BaseMessage

from memory_plugin.capabilities.checkpoint_rows import CheckpointPut, MessageRef, NewMessage, Range, StoredBlob
from memory_plugin.langgraph.assemble import GRAPH, INTERNAL
from memory_plugin.langgraph.buffer import Buffer
from memory_plugin.langgraph.codec import StoredMessage, ValueCodec
from memory_plugin.langgraph.entries import Entry, copies
from memory_plugin.langgraph.known import KnownCheckpoint, KnownThread, View, merged, runs, uncovered
from memory_plugin.langgraph.names import stored_name, stored_version, stored_versions
from memory_plugin.types import uuid7

_FRESH = 1 << 62
"""Numbers from here on are places among the new messages."""

_MAX_ANCHORS = 8

MESSAGES = "messages"
"""The channel that is the conversation when nothing else is said."""


@dataclass(slots=True)
class TakenList:
    """A message list as it was when the put was called: encoded where it may be new."""

    messages: list[BaseMessage]
    entries: list[Entry]
    generation: int
    """Of what was known: entries are rows only while it lasts."""
    view: View | None = None
    """The list before, where this one begins with all of it."""
    settled: int = 0
    """How many messages that list had."""
    encoded: dict[int, StoredMessage] = field(default_factory=dict)
    """By place in the list, for the messages that were not known at the call."""

    def find(self, known: KnownThread) -> None:
        """See which of the messages are rows by what is known now."""
        if self.generation != known.generation:
            self.entries = [entry.unplaced() for entry in self.entries]
            self.generation = known.generation
            self.forget_view()
        if self.view is not None and len(self.view.entries) != self.settled:  # another put has made it longer
            self.forget_view()
        known.find(self.entries, self.settled)

    def forget_view(self) -> None:
        """Begin with nothing."""
        self.view, self.settled = None, 0


@dataclass(slots=True)
class PreparedPut:
    """A put with everything encoded that may change after the call."""

    thread_id: str
    namespace: str
    """As it is stored."""
    checkpoint_id: str
    parent_id: str | None
    checkpoint: str
    metadata: str
    user_id: str | None
    versions: dict[str, Any]
    unchanged: dict[str, Any]
    """Those of the versions that are not new: their channels keep the values they have stored."""
    values: dict[str, Any]
    lists: dict[str, TakenList]
    """The changed message lists."""
    blobs: list[StoredBlob]
    """The other changed values."""
    buffer: Buffer | None
    length: int | None
    """Messages in the conversation, where this put says some or takes some away."""
    forks: bool
    """Whether the root state before it may be another than the one that the conversation shows."""


@dataclass(slots=True)
class Plan:
    """The rows that a put writes, and what is known once it has."""

    put: CheckpointPut
    fresh: list[Entry]
    """The new messages, in the order they are stored."""
    lists: dict[str, TakenList]
    spans: dict[str, list[Range]]
    learned: bool


@dataclass(slots=True)
class _Messages:
    """The new messages of a put, and the numbers its lists are made of."""

    fresh: list[NewMessage] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    spans: dict[str, list[Range]] = field(default_factory=dict)
    promoted: list[int] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    """The channels that new messages came in by."""


def take_list(
    codec: ValueCodec, known: KnownThread, namespace: str, channel: str, messages: Sequence[BaseMessage]
) -> TakenList:
    """Freeze a list now: the application may change its messages once the put is under way."""
    copy, generation = list(messages), known.generation
    view = known.views.get((namespace, channel))
    if view is None:
        taken = TakenList(copy, list(map(known.recognise, copy)), generation)
    else:
        entries, same = view.entries_of(copy, known.recognise)
        taken = TakenList(copy, entries, generation)
        if same == len(view.entries):
            taken.view, taken.settled = view, same
    known.find(taken.entries, taken.settled)
    for place in range(taken.settled, len(copy)):
        if taken.entries[place].seq is None:
            taken.encoded[place] = codec.dump_message(copy[place])
    return taken


def blobs_of(
    codec: ValueCodec,
    values: Mapping[str, Any],
    versions: Mapping[str, Any],
    *,
    changed: bool,
    lists: Collection[str] = (),
) -> list[StoredBlob]:
    """The values of these versions that are not message lists; `lists` are known to be such."""
    blobs = []
    for channel, version in versions.items():
        if channel in values and channel not in lists and not codec.is_messages(values[channel]):
            stored = codec.dump(values[channel])
            blobs.append(StoredBlob(stored_name(channel), str(stored_version(version)), *stored, changed))
    return blobs


def unresolved(known: KnownThread, prepared: PreparedPut) -> list[str]:
    """The unchanged channels of which it is not known here whether a message list is stored for them."""
    return [channel for channel in prepared.unchanged if _known_with(known, prepared, channel) is None]


def _known_with(known: KnownThread, prepared: PreparedPut, channel: str) -> KnownCheckpoint | None:
    """A known checkpoint that has the channel at the version it has here."""
    version = prepared.unchanged[channel]
    parent = known.checkpoints.get((prepared.namespace, prepared.parent_id or ""))
    if parent is not None and parent.versions.get(channel) == version:  # as nearly always
        return parent
    for (namespace, _), checkpoint in known.near(prepared.namespace, prepared.parent_id):
        if namespace == prepared.namespace and checkpoint.versions.get(channel) == version:
            return checkpoint
    return None


def plan_put(
    codec: ValueCodec,
    known: KnownThread,
    prepared: PreparedPut,
    *,
    conversation: str,
    found: Mapping[str, list[Range]],
    complete: bool = False,
    again: bool = False,
) -> Plan:
    """The rows to write.

    Args:
        conversation: the channel of the root state that is the conversation.
        found: message lists of unchanged channels that the database was asked for.
        complete: store unchanged values too, as far as they are not there; for when what they
            could be taken over from is gone.
        again: write although the checkpoint is stored.
    """
    root = prepared.namespace == ""
    messages, learned = _Messages(), True
    for channel in prepared.unchanged:
        source = _known_with(known, prepared, channel)
        spans = found.get(channel) if source is None else source.spans.get(channel)
        if spans:
            messages.spans[channel] = list(spans)
            learned = learned and source is not None and source.learned
    lists = dict(prepared.lists)
    if complete:
        for channel in prepared.unchanged:
            value = prepared.values.get(channel)
            if channel not in messages.spans and codec.is_messages(value):
                lists[channel] = take_list(codec, known, prepared.namespace, channel, value)  # type: ignore[arg-type]  # it is a list of messages
    pending: dict[str, list[int]] = {}
    for channel, taken in lists.items():
        _place(codec, known, taken, messages, pending, channel=channel, visible=root and channel == conversation)
    anchor, extras = _anchor(known, prepared, messages.spans, complete=complete)
    length = prepared.length
    if length is None and prepared.forks:  # what was said since is left behind
        length = sum(end - start for start, end in messages.spans.get(conversation, ()))
    if length is not None:  # what is said beside the state is counted there, until it is in the state
        length -= len(known.appended.intersection(messages.promoted))
    put = CheckpointPut(
        thread_id=prepared.thread_id,
        namespace=prepared.namespace,
        checkpoint_id=prepared.checkpoint_id,
        parent_id=prepared.parent_id,
        checkpoint=prepared.checkpoint,
        versions=orjson.dumps(stored_versions(prepared.versions)).decode(),
        metadata=prepared.metadata,
        user_id=prepared.user_id,
        blobs=[
            *prepared.blobs,
            *(blobs_of(codec, prepared.values, prepared.unchanged, changed=False) if complete else ()),
        ],
        refs=_refs(messages.spans),
        messages=messages.fresh,
        repeatable=None if again else _versions_of(prepared, messages.channels),
        length=length,
        channel=conversation if length is not None and conversation != MESSAGES else None,
        promoted=messages.promoted,
        anchor=anchor,
        extras=extras,
    )
    return Plan(put, messages.entries, lists, messages.spans, learned)


def _place(
    codec: ValueCodec,
    known: KnownThread,
    taken: TakenList,
    messages: _Messages,
    pending: dict[str, list[int]],
    *,
    channel: str,
    visible: bool,
) -> None:
    """Find the rows of a list, and add what has none."""
    taken.find(known)
    rows = [entry.seq for entry in taken.entries[taken.settled :]]
    if visible and (known.internal or known.appended):
        promoted = (entry.seq for entry in taken.entries)
        messages.promoted += [row for row in promoted if row in known.internal or row in known.appended]
    if None in rows:
        messages.channels.append(channel)
        for place, row in enumerate(rows):
            if row is None:
                rows[place] = _add(codec, taken, taken.settled + place, messages, pending, visible=visible)
    tail = runs(rows)  # type: ignore[arg-type]  # none is left open
    messages.spans[channel] = tail if taken.view is None else merged([*taken.view.spans, *tail])


def _add(
    codec: ValueCodec,
    taken: TakenList,
    place: int,
    messages: _Messages,
    pending: dict[str, list[int]],
    *,
    visible: bool,
) -> int:
    """The number of a new message; one with an id that is in another list, or twice in this one, is one row."""
    entry = taken.entries[place]
    if type(entry.key) is str:
        rows = pending.setdefault(entry.key, [])
        for row in rows:
            if messages.entries[row - _FRESH].digest == entry.digest:
                taken.entries[place] = messages.entries[row - _FRESH]
                return row
        rows.append(_FRESH + len(messages.fresh))
    encoded = taken.encoded.get(place)
    if encoded is None:
        [message] = copies((entry,), lambda _: taken.messages[place])
        encoded = codec.dump_message(message)
    messages.fresh.append(NewMessage(uuid7(), GRAPH if visible else INTERNAL, *encoded))
    messages.entries.append(entry)
    return _FRESH + len(messages.fresh) - 1


def _versions_of(prepared: PreparedPut, channels: Sequence[str]) -> str:
    return orjson.dumps(stored_versions({channel: prepared.versions[channel] for channel in channels})).decode()


def _refs(spans: Mapping[str, Sequence[Range]]) -> list[MessageRef]:
    return [
        MessageRef(stored_name(channel), start - _FRESH + 1, end - _FRESH + 1, fresh=True)
        if start >= _FRESH
        else MessageRef(stored_name(channel), start, end, fresh=False)
        for channel, ranges in spans.items()
        for start, end in ranges
    ]


def _anchor(
    known: KnownThread, prepared: PreparedPut, spans: Mapping[str, Sequence[Range]], *, complete: bool
) -> tuple[tuple[str, str] | None, list[int]]:
    """The checkpoint that has what this one takes over, and the messages that it has not."""
    old = [span for ranges in spans.values() for span in ranges if span[0] < _FRESH]
    kept = {} if complete else {name: value for name, value in prepared.unchanged.items() if name in prepared.values}
    if not old and not kept:
        return None, []
    best: tuple[str, str] | None = None
    missing = old
    for count, (key, checkpoint) in enumerate(known.near(prepared.namespace, prepared.parent_id)):
        if count >= _MAX_ANCHORS:
            break
        if kept and (key[0] != prepared.namespace or any(checkpoint.versions.get(name) != kept[name] for name in kept)):
            continue
        left = uncovered(old, checkpoint.all_spans())
        if best is None or not left:
            best, missing = key, left
        if not left:
            break
    if best is None and kept and prepared.parent_id is not None:
        best = (prepared.namespace, prepared.parent_id)
    return best, [seq for start, end in missing for seq in range(start, end)]


def learn_from_put(known: KnownThread, prepared: PreparedPut, plan: Plan, base: int) -> None:
    """Remember the rows that a put made."""
    proof = plan.put.messages[-1].id if plan.put.messages else None
    known.learn(plan.fresh, base + 1, proof, proven=plan.put.anchor is not None)
    known.internal.update(
        base + place for place, message in enumerate(plan.put.messages, start=1) if message.origin == INTERNAL
    )
    known.internal.difference_update(plan.put.promoted)
    known.appended.difference_update(plan.put.promoted)
    shift = base + 1 - _FRESH
    spans = {
        channel: merged((start + shift, end + shift) if start >= _FRESH else (start, end) for start, end in ranges)
        for channel, ranges in plan.spans.items()
    }
    for channel, taken in plan.lists.items():
        key, view = (prepared.namespace, channel), taken.view
        if view is not None and known.views.get(key) is view and len(view.entries) == taken.settled:
            view.grow(taken.entries, spans[channel])
        else:
            view = View(taken.entries, spans[channel])
        known.show(key, view)
    if prepared.namespace == "":
        known.newest = max(known.newest or "", prepared.checkpoint_id)
    known.remember(prepared.namespace, prepared.checkpoint_id, KnownCheckpoint(prepared.versions, spans, plan.learned))
