"""What goes to the tables of checkpoints and comes back: values by name, JSON as text, no framework."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from uuid import UUID

Range = tuple[int, int]
"""Messages from the first `seq` up to, not including, the second."""


class StoredBlob(NamedTuple):
    """One channel's value: JSON text, or the serializer's type and bytes.

    One that is not `changed` is written only where its version is not stored.
    """

    channel: str
    version: str
    json: str | None
    type: str | None
    blob: bytes | None
    changed: bool = True


class NewMessage(NamedTuple):
    """A message to be stored: readable where the serializer allows it, exact in any case.

    `origin` is 0 for the conversation's own messages, 2 for those of a subgraph or another channel.
    """

    id: UUID
    origin: int
    role: str | None
    message_id: str | None
    name: str | None
    text: str | None
    body: str | None
    type: str | None
    raw: bytes | None


class MessageRef(NamedTuple):
    """A stretch of a channel's list: numbers of stored rows, or places (from 1) among the new ones."""

    channel: str
    start: int
    end: int
    fresh: bool


@dataclass(slots=True)
class CheckpointPut:
    """Everything one put writes. `versions`, `checkpoint` and `metadata` are JSON text.

    `length` is the number of messages in the conversation, where this put changes it, and
    `promoted` are messages that only a subgraph had so far. `buffer` is JSON text merged into the
    memory buffer, in place of what the graph had in it before, and `buffer_channels` are the names in
    it; None leaves the buffer alone. `channel` is the conversation's, where that is not `messages`.

    `anchor` (namespace, id) is the checkpoint that unchanged values and earlier messages are taken
    over from, and `extras` are messages taken over from elsewhere: where one of these is not there
    any more, nothing is written.

    `repeatable` (JSON text) holds the versions of the channels that `messages` belong to: where the
    checkpoint is stored with these already, nothing is written, so that a put that is tried again
    adds no message twice. None writes in any case.
    """

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: str
    versions: str
    metadata: str
    user_id: str | None = None
    blobs: Sequence[StoredBlob] = ()
    refs: Sequence[MessageRef] = ()
    messages: Sequence[NewMessage] = ()
    repeatable: str | None = None
    length: int | None = None
    promoted: Sequence[int] = ()
    buffer: str | None = None
    buffer_channels: Sequence[str] = ()
    channel: str | None = None
    anchor: tuple[str, str] | None = None
    extras: Sequence[int] = ()


class PutResult(NamedTuple):
    """What came of a put.

    Where it was written, `base` is the number before its first new message. Where not, `repeated`
    says whether it was stored before; else something it takes over is gone.
    """

    base: int | None
    repeated: bool


class PendingWrite(NamedTuple):
    """One write of a task; `idx` is its position, negative for LangGraph's special channels."""

    idx: int
    channel: str
    json: str | None
    type: str | None
    blob: bytes | None


@dataclass(slots=True)
class MessageRows:
    """Messages as a checkpoint reads them, in the order of their numbers, columns side by side.

    `texts` and `ids` are the message's content and own id, where the body leaves them out. `types`
    and `raws` are None where no message has any. `internal` are the numbers of those that
    only a subgraph or another channel has. `proof` is the id of the last one, where it is there.
    """

    seqs: Sequence[int]
    bodies: Sequence[str | None]
    texts: Sequence[str | None]
    ids: Sequence[str | None]
    types: Sequence[str | None] | None
    raws: Sequence[bytes | None] | None
    internal: Sequence[int]
    proof: UUID | None


@dataclass(frozen=True, slots=True)
class Held:
    """Messages that the reader has already: `start` up to, not including, `end`.

    `id` is that of the row `row` among them: where the thread was deleted and made anew, no row has
    both, and what the reader has is worth nothing.
    """

    start: int
    end: int
    row: int
    id: UUID


@dataclass(slots=True)
class CheckpointRow:
    """A checkpoint with all its values: `refs` (JSON text) says which messages stand where.

    `messages` are those of the page that the row came with, None where an earlier row of the same
    thread on this page has them. `kept` says that what the reader held was right, and left out.
    """

    thread_id: str
    namespace: str
    checkpoint_id: str
    parent_id: str | None
    checkpoint: str
    versions: str
    metadata: str
    refs: str | None
    messages: MessageRows | None
    blobs: Sequence[StoredBlob] = ()
    writes: Sequence[tuple[str, PendingWrite]] = field(default=())
    kept: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointFilter:
    """What a listing shows.

    `metadata` maps keys to JSON text that must be equal; None values of `thread_id`, `namespace`
    and `checkpoint_id` leave that side open.
    """

    thread_id: str | None = None
    namespace: str | None = None
    checkpoint_id: str | None = None
    before: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
