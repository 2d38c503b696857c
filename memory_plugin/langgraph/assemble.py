"""From stored rows back to CheckpointTuples, and what is learned of their messages on the way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import orjson
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.base import CheckpointTuple

from memory_plugin.capabilities.checkpoint_rows import CheckpointRow, MessageRows, Range
from memory_plugin.langchain.messages import fields_of_body
from memory_plugin.langgraph.codec import ValueCodec
from memory_plugin.langgraph.entries import Entry, copies, entry_of, entry_of_fields
from memory_plugin.langgraph.known import KnownCheckpoint, KnownThread, View
from memory_plugin.langgraph.names import original_name, original_version
from memory_plugin.message_shape import whole_body

GRAPH = 0
"""Origin of a message of the conversation itself."""
INTERNAL = 2
"""Origin of a message that only a subgraph or another channel has."""

Values = dict[str, Any]


def tuple_of(codec: ValueCodec, row: CheckpointRow, known: KnownThread | None) -> CheckpointTuple:
    """The CheckpointTuple of a row read by itself; what it reads is learned, so that the next put knows it."""
    versions, spans = _versions(row), spans_of(row.refs)
    messages = _Messages(codec)
    values: Values = {}
    views: dict[str, View] = {}
    if row.kept and known is not None:
        messages.have(known.rows)
        if row.messages is None:
            # nearly always it is the list that was read or put last
            for channel, ranges in spans.items():
                view = known.views.get((row.namespace, channel))
                if view is not None and (made := view.messages(ranges)) is not None:
                    values[channel], views[channel] = made, view
    if row.messages is not None:
        messages.read(row.messages)
    lists = {channel: messages.entries(ranges) for channel, ranges in spans.items() if channel not in views}
    values.update((channel, messages.copies(entries)) for channel, entries in lists.items())
    if known is not None:
        if messages.contradict(known):
            known.reset()  # the thread was made anew since
        _learn(known, row, versions, spans)
        messages.teach(known)
        for channel in spans:
            view = views.get(channel) or View(lists[channel], spans[channel])
            known.show((row.namespace, channel), view)
    return _tuple(codec, row, versions, values)


def tuples_of(codec: ValueCodec, page: Iterable[CheckpointRow], held: Mapping[int, Entry]) -> Iterable[CheckpointTuple]:
    """The CheckpointTuples of a page, one by one; nothing in them is shared.

    Args:
        held: the messages of the one thread on the page that it may leave out.
    """
    threads: dict[str, _Messages] = {}
    for row in page:
        messages = threads.get(row.thread_id)
        if messages is None:
            messages = threads[row.thread_id] = _Messages(codec)
            if row.kept:
                messages.have(held)
        if row.messages is not None:
            messages.read(row.messages)
        values: Values = {
            channel: messages.copies(messages.entries(ranges)) for channel, ranges in spans_of(row.refs).items()
        }
        yield _tuple(codec, row, _versions(row), values)


def learn_said(codec: ValueCodec, rows: MessageRows, known: KnownThread) -> None:
    """Let it be known which rows these messages are, that the conversation has beside any state."""
    messages = _Messages(codec)
    messages.read(rows)
    if messages.contradict(known):
        known.reset()  # the thread was made anew since
    messages.teach(known)
    known.appended.update(rows.seqs)


class _Messages:
    """The messages of one thread, by number, that some rows came with."""

    def __init__(self, codec: ValueCodec) -> None:
        self._codec = codec
        self._entries: dict[int, Entry] = {}
        self._odd: dict[int, tuple[str | None, str | None, str | None, str | None, bytes | None]] = {}
        self._rows: MessageRows | None = None
        self._objects: dict[int, BaseMessage] = {}
        self._before: Mapping[int, Entry] = {}

    def have(self, entries: Mapping[int, Entry]) -> None:
        """These are known, and were not read."""
        self._before = entries

    def read(self, rows: MessageRows) -> None:
        types = rows.types or [None] * len(rows.bodies)
        raws = rows.raws or [None] * len(rows.bodies)
        self._rows = rows
        columns = zip(rows.seqs, rows.bodies, rows.texts, rows.ids, types, raws, strict=True)
        for seq, body, text, message_id, kind, raw in columns:
            whole = fields_of_body(whole_body(body, text, message_id)) if kind is None and body is not None else None
            # what a tag in JSON stands for may be more than plain JSON
            if whole is not None and '"$t"' not in (body or ""):
                self._entries[seq] = entry_of_fields(*whole)
            else:
                message = self._codec.load_message(body, text, message_id, kind, raw)
                self._odd[seq] = (body, text, message_id, kind, raw)
                self._objects[seq] = message
                self._entries[seq] = entry_of(message)

    def entries(self, ranges: Sequence[Range]) -> list[Entry]:
        """In the order of a list; what is gone is left out."""
        found, before = self._entries, self._before
        listed: list[Entry | None] = []
        for start, end in ranges:
            if not before or not found:
                listed += map((found or before).get, range(start, end))
            else:
                listed += [found.get(seq) or before.get(seq) for seq in range(start, end)]
        return [entry for entry in listed if entry is not None] if None in listed else cast("list[Entry]", listed)

    def copies(self, entries: Sequence[Entry]) -> list[BaseMessage]:
        """A message of its own for each."""
        return copies(entries, self._load)

    def _load(self, entry: Entry) -> BaseMessage:
        seq = next(seq for seq, each in self._entries.items() if each is entry)
        message = self._objects.pop(seq, None)
        return message if message is not None else self._codec.load_message(*self._odd[seq])

    def contradict(self, known: KnownThread) -> bool:
        """Whether a row that was read is another message than the one that is known by its number."""
        before = known.rows
        return any(
            (old := before.get(seq)) is not None and not entry.may_be(old) for seq, entry in self._entries.items()
        )

    def teach(self, known: KnownThread) -> None:
        """Let it be known which rows were read."""
        if self._rows is None:
            return
        for seq, entry in self._entries.items():
            known.add(entry, seq)
        known.internal.update(self._rows.internal)
        run = self._whole_run()
        if run is not None and self._rows.proof is not None:
            known.hold(*run, run[1] - 1, self._rows.proof)

    def _whole_run(self) -> Range | None:
        """The last unbroken run of numbers whose messages are all whole."""
        seqs = self._rows.seqs if self._rows is not None else ()
        if not seqs or self._entries[seqs[-1]].fields is None:
            return None
        start = end = seqs[-1]
        for seq in reversed(seqs[:-1]):
            if seq != start - 1 or self._entries[seq].fields is None:
                break
            start = seq
        return start, end + 1


def _tuple(codec: ValueCodec, row: CheckpointRow, versions: Mapping[str, Any], lists: Values) -> CheckpointTuple:
    values: Values = {original_name(blob.channel): codec.load(blob.json, blob.type, blob.blob) for blob in row.blobs}
    values.update(lists)
    configurable = {"thread_id": row.thread_id, "checkpoint_ns": original_name(row.namespace)}
    checkpoint = {
        **codec.load_metadata(row.checkpoint),
        "id": row.checkpoint_id,
        "channel_values": values,
        "channel_versions": versions,
    }
    return CheckpointTuple(
        config={"configurable": {**configurable, "checkpoint_id": row.checkpoint_id}},
        checkpoint=checkpoint,  # type: ignore[arg-type]  # stored from a Checkpoint, whatever its version
        metadata=codec.load_metadata(row.metadata),  # type: ignore[arg-type]  # likewise
        parent_config=({"configurable": {**configurable, "checkpoint_id": row.parent_id}} if row.parent_id else None),
        pending_writes=[
            (original_name(task), original_name(write.channel), codec.load(write.json, write.type, write.blob))
            for task, write in row.writes
        ],
    )


def _versions(row: CheckpointRow) -> dict[str, Any]:
    return {
        original_name(channel): original_version(version) for channel, version in orjson.loads(row.versions).items()
    }


def spans_of(refs: str | None) -> dict[str, list[Range]]:
    """The message lists of a checkpoint, by channel, from its stored references."""
    if refs is None:
        return {}
    return {
        original_name(channel): [(start, end) for start, end in ranges]
        for channel, ranges in orjson.loads(refs).items()
    }


def _learn(
    known: KnownThread, row: CheckpointRow, versions: Mapping[str, Any], spans: Mapping[str, list[Range]]
) -> None:
    if row.namespace == "" and ("", row.checkpoint_id) not in known.checkpoints:
        known.buffer = None  # somebody else may have written the memory buffer too
    # a copy, for LangGraph makes the next checkpoint of the versions that it read
    known.remember(row.namespace, row.checkpoint_id, KnownCheckpoint(dict(versions), spans, learned=True))
