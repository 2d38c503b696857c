"""Which messages are rows already: so that a put writes only what is new.

LangGraph hands the whole message list to every put. A message is recognised by a digest of all that
is in it, so an application that changes one in place is noticed, and a message that another object
holds, after a trip through another process, is the same row all the same. No message is kept here,
only numbers.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ormsgpack
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin.capabilities.checkpoints import Range

MAX_THREADS = 1024
MAX_MESSAGES = 500_000
"""Messages remembered over all threads; the threads used longest ago are forgotten first."""

MAX_CHECKPOINTS = 64
"""Checkpoints remembered of one thread."""

SMALL_THREAD = 8192
"""Up to so many messages a thread is remembered whole, whatever became of them."""

# What would look the same as something else in MessagePack is refused, and goes the slow way.
_EXACT = (
    ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_SORT_KEYS
)
_pack = ormsgpack.packb
_serializer = JsonPlusSerializer()


def digests(messages: Sequence[Any]) -> list[int]:
    """For each message a number that changes when anything in it changes."""
    try:
        return [
            hash((type(message), _pack(message.__dict__, option=_EXACT)))
            if not message.__pydantic_extra__
            else digest(message)
            for message in messages
        ]
    except TypeError:
        return [digest(message) for message in messages]


def digest(message: Any) -> int:
    """The number of one message."""
    extra = message.__pydantic_extra__
    state = [message.__dict__, extra] if extra else message.__dict__
    try:
        return hash((type(message), _pack(state, option=_EXACT)))
    except TypeError:
        return hash((type(message), _slow_content(message, state)))


def _slow_content(message: Any, state: Any) -> Any:
    """What stands for a message that is not plain JSON through and through."""
    try:
        if "\\ud" not in repr(state):  # the serializer makes all lone surrogates the same
            return _serializer.dumps_typed(message)
    except Exception:  # noqa: BLE001, S110 - any object may stand in a message, and fail in its own way
        pass
    try:
        return pickle.dumps(state)
    except Exception:  # noqa: BLE001 - likewise
        return object()  # equal to nothing: stored each time, and never taken for another


def runs(numbers: Sequence[int]) -> list[Range]:
    """The numbers, in their order, as half-open ranges."""
    if not numbers:
        return []
    first, count = numbers[0], len(numbers)
    if numbers[-1] - first == count - 1 and list(numbers) == list(range(first, first + count)):
        return [(first, first + count)]
    found: list[Range] = []
    start = past = first
    for number in numbers:
        if number != past:
            found.append((start, past))
            start = number
        past = number + 1
    found.append((start, past))
    return found


def uncovered(wanted: Iterable[Range], spans: Iterable[Range]) -> list[Range]:
    """What of `wanted` is in none of the spans, in order and without repetition."""
    left = _joined(wanted)
    for start, end in _joined(spans):
        left = [
            piece
            for first, past in left
            for piece in ((first, min(past, start)), (max(first, end), past))
            if piece[0] < piece[1]
        ]
    return left


def _joined(spans: Iterable[Range]) -> list[Range]:
    joined: list[Range] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


@dataclass(frozen=True, slots=True)
class KnownCheckpoint:
    """A checkpoint that was read or written here.

    `spans` are the message lists by channel. `learned` says that the messages in them are known by
    their digests too.
    """

    versions: Mapping[str, Any]
    spans: Mapping[str, Sequence[Range]]
    learned: bool

    def all_spans(self) -> list[Range]:
        """The messages of every channel."""
        return [span for spans in self.spans.values() for span in spans]


@dataclass(slots=True)
class KnownThread:
    """What is known of one thread. Nothing here is more than a guess: the put that relies on it checks."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while new messages are on their way, so that the next put knows their rows."""
    rows: dict[int, int] = field(default_factory=dict)
    """Digest -> number of the row."""
    twins: dict[int, list[int]] = field(default_factory=dict)
    """Digest -> further rows with the very same message."""
    internal: set[int] = field(default_factory=set)
    """Rows that only a subgraph or another channel has so far."""
    checkpoints: OrderedDict[tuple[str, str], KnownCheckpoint] = field(default_factory=OrderedDict)
    """By namespace and id, the one used last at the end."""
    buffer: str | None = None
    """The memory buffer as it was last written from here."""
    buffer_parts: dict[str, tuple[Any, str | None]] = field(default_factory=dict)
    """By channel: the version, and its value as it stands in the memory buffer."""

    def learn(self, numbers: Iterable[int], rows: Iterable[int]) -> None:
        """Messages with these digests are these rows."""
        known = self.rows
        for number, row in zip(numbers, rows, strict=True):
            first = known.setdefault(number, row)
            if first != row:
                twins = self.twins.setdefault(number, [])
                if row not in twins:
                    twins.append(row)

    def match(self, numbers: Sequence[int], messages: Sequence[Any]) -> list[int | None]:
        """For each message of a list, with these digests, its row; None where it is new.

        The same message twice is twice the same row when it has an id; without one it was said twice.
        """
        found = list(map(self.rows.get, numbers))
        if len(set(numbers)) == len(numbers):
            return found
        used: set[int | None] = set()
        for place, row in enumerate(found):
            if row is not None and row in used and messages[place].id is None:
                rest = self.twins.get(numbers[place], ())
                found[place] = next((twin for twin in rest if twin not in used), None)
            used.add(found[place])
        return found

    def remember(self, namespace: str, checkpoint_id: str, known: KnownCheckpoint) -> None:
        """A checkpoint was read or written."""
        self.checkpoints[(namespace, checkpoint_id)] = known
        self.checkpoints.move_to_end((namespace, checkpoint_id))
        if len(self.checkpoints) > MAX_CHECKPOINTS:
            self.checkpoints.popitem(last=False)
        if len(self.rows) > SMALL_THREAD:
            longest = max(sum(end - start for start, end in each.all_spans()) for each in self.checkpoints.values())
            if len(self.rows) > 4 * longest + SMALL_THREAD:  # mostly summarised away or edited since
                self.reset()

    def near(self, namespace: str, checkpoint_id: str | None) -> Iterator[tuple[tuple[str, str], KnownCheckpoint]]:
        """This checkpoint, then the others, the newest first."""
        wanted = (namespace, checkpoint_id or "")
        parent = self.checkpoints.get(wanted)
        if parent is not None:
            yield wanted, parent
        for key in reversed(list(self.checkpoints)):
            if key != wanted:
                yield key, self.checkpoints[key]

    def reset(self) -> None:
        """Know nothing: some of it was wrong, or there is too much of it."""
        self.rows.clear()
        self.twins.clear()
        self.internal.clear()
        self.checkpoints.clear()
        self.buffer_parts.clear()
        self.buffer = None


class KnownMessages:
    """The threads used last, within a bound on messages."""

    def __init__(self) -> None:
        self._threads: OrderedDict[str, KnownThread] = OrderedDict()

    def thread(self, thread_id: str) -> KnownThread:
        """What is known of a thread, nothing at first."""
        known = self._threads.get(thread_id)
        if known is None:
            known = self._threads[thread_id] = KnownThread()
            self._shrink()
        else:
            self._threads.move_to_end(thread_id)
        return known

    def forget(self, thread_id: str) -> None:
        """Drop what is known of a thread, as after its deletion."""
        known = self._threads.pop(thread_id, None)
        if known is not None:
            known.reset()

    def clear(self) -> None:
        """Drop everything."""
        for known in self._threads.values():
            known.reset()
        self._threads.clear()

    def _shrink(self) -> None:
        while len(self._threads) > MAX_THREADS:
            self._threads.popitem(last=False)
        if len(self._threads) % 64 == 0:
            total = sum(len(known.rows) for known in self._threads.values())
            while total > MAX_MESSAGES and len(self._threads) > 1:
                _, dropped = self._threads.popitem(last=False)
                total -= len(dropped.rows)
