"""Which messages are rows already: so that a put writes only what is new, and a read fetches only that.

LangGraph hands the whole message list to every put. It begins with the list before nearly always; that
is seen by comparing what the messages hold with frozen copies, at the speed of C. What is left is
looked up by its id, and told apart by a digest of all that is in it where comparing is not enough. So
an application that changes a message in place is noticed (unless it puts an equal value of another type
in its place, such as True for 1), and a message that another object holds, after a trip through another
process, is the same row all the same.

A thread is kept while it is among those used last, within a bound on memory.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, cast
from uuid import UUID

from langchain_core.messages import BaseMessage

from memory_plugin.capabilities.checkpoint_rows import Held, Range
from memory_plugin.db.joined import Joined
from memory_plugin.langgraph.entries import Entry, Key, entry_of, extras_of, fields_of, live_fields
from memory_plugin.langgraph.molds import Mold, messages_from

MAX_THREADS = 4096
_owners = itertools.count()

MAX_CHECKPOINTS = 64
"""Checkpoints remembered of one thread."""

# bytes, as measured: a thread of which nothing is known, a checkpoint with its versions and ranges, a place in a list
_THREAD, _CHECKPOINT, _REFERENCE = 1000, 1700, 8

MAX_VIEWS = 16
"""Message lists remembered of one thread."""

SMALL_THREAD = 8192
"""Up to so many messages a thread is remembered whole, whatever became of them."""


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


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in the same order, neighbours joined."""
    joined: list[Range] = []
    for start, end in ranges:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def uncovered(wanted: Sequence[Range], spans: Sequence[Range]) -> list[Range]:
    """What of `wanted` is in none of the spans, in order and without repetition."""
    if all(span in spans for span in wanted):  # as nearly always
        return []
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


class View:
    """A message list as it was last read or put: what its messages held, and the rows they are.

    The messages themselves are not kept. They are whoever has read or put them to change and to drop.
    """

    __slots__ = ("_classes", "_fields", "_molds", "entries", "spans")

    def __init__(self, entries: list[Entry], spans: Sequence[Range]) -> None:
        self.entries = entries
        self.spans = spans
        self._fields = [entry.fields for entry in entries]
        self._classes = [entry.cls for entry in entries]
        self._molds: list[Mold | None] = []

    def messages(self, spans: Sequence[Range]) -> list[BaseMessage] | None:
        """New messages like those of the list; None where these are other rows, or not all of them are known whole."""
        if spans != self.spans or len(self.entries) != sum(end - start for start, end in spans):
            return None
        if len(self._molds) < len(self.entries):
            self._molds += [entry.molded() for entry in self.entries[len(self._molds) :]]
        return messages_from(cast("list[Mold]", self._molds)) if all(self._molds) else None

    def entries_of(
        self, messages: list[BaseMessage], recognise: Callable[[BaseMessage], Entry]
    ) -> tuple[list[Entry], int]:
        """For each message what is remembered of it, which is what `recognise` says where it was not in its place here.

        The number says how many at the beginning are just as they were here.
        """
        shared = min(len(messages), len(self.entries))
        start = messages if shared == len(messages) else messages[:shared]
        if self._holds(start):
            entries, same = self.entries[:shared], shared
        else:
            same = 0
            entries = [
                entry if entry.is_like(message) else recognise(message)
                for message, entry in zip(start, self.entries, strict=False)
            ]
        if shared < len(messages):
            entries += map(recognise, messages[shared:])
        return entries, same

    def grow(self, entries: list[Entry], spans: Sequence[Range]) -> None:
        """Become a list that begins with all that is here."""
        new = entries[len(self.entries) :]
        self._fields += [entry.fields for entry in new]
        self._classes += [entry.cls for entry in new]
        self.entries = entries
        self.spans = spans

    def _holds(self, start: list[BaseMessage]) -> bool:
        """Whether the first messages of the list, all of them plain, hold what they did."""
        whole = len(start) == len(self._fields)
        if list(map(type, start)) != (self._classes if whole else self._classes[: len(start)]):
            return False
        if any(map(extras_of, start)):
            return False
        try:
            return live_fields(start) == (self._fields if whole else self._fields[: len(start)])
        except Exception:  # noqa: BLE001 - some values refuse to be compared, each in its own way
            return False


@dataclass(slots=True)
class KnownThread:
    """What is known of one thread. Nothing here is more than a guess: the statement that relies on it checks."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while new messages are on their way, so that the next put knows their rows."""
    rows: dict[int, Entry] = field(default_factory=dict)
    """By number of the row."""
    size: int = 0
    """Bytes of all of them, about; `footprint` has the rest too."""
    held: Held | None = None
    """Messages that are all here, whole."""
    views: OrderedDict[tuple[str, str], View] = field(default_factory=OrderedDict)
    """By namespace and channel."""
    checkpoints: OrderedDict[tuple[str, str], KnownCheckpoint] = field(default_factory=OrderedDict)
    """By namespace and id, the one used last at the end."""
    buffer: str | None = None
    """The memory buffer as it was last written from here."""
    buffer_parts: dict[str, tuple[Any, str | None]] = field(default_factory=dict)
    """By channel: the version, and its value as it stands in the memory buffer."""
    newest: str | None = None
    """The newest root checkpoint, as it was last read or put."""
    internal: set[int] = field(default_factory=set)
    """Rows that only a subgraph or another channel has so far."""
    appended: set[int] = field(default_factory=set)
    """Rows that the conversation has beside any state, as far as a put has to do with them."""
    generation: int = 0
    """Grows with each `reset`: entries of before are no rows any more."""
    counted: int = 0
    """The footprint when it was last looked at."""
    _index: dict[Key, list[Entry]] = field(default_factory=dict)

    @property
    def footprint(self) -> int:
        """Bytes of all that is known, about."""
        # copies, for other threads may be about to store something
        lists = sum(len(view.entries) for view in list(self.views.values()))
        rest = _CHECKPOINT * len(self.checkpoints) + 4 * _REFERENCE * lists + len(self.buffer or "")
        rest += sum(len(text or "") for _, text in list(self.buffer_parts.values()))
        return _THREAD + self.size + rest

    def learn(self, entries: Sequence[Entry], first: int, proof: UUID | None, *, proven: bool) -> None:
        """These messages are the rows from `first` on, the last of which has this id.

        Args:
            proven: the statement that wrote them saw that the thread is the one known here.
        """
        before = [self.rows.get(row) for row in range(first, first + len(entries))]
        if any(old is not None and old.digest != new.digest for old, new in zip(before, entries, strict=True)):
            self.reset()  # somebody deleted the thread, and its numbers begin anew
        for row, entry in enumerate(entries, start=first):
            self.add(entry, row)
        if proof is not None and (proven or self.held is None) and all(entry.fields is not None for entry in entries):
            self.hold(first, first + len(entries), first + len(entries) - 1, proof)

    def add(self, entry: Entry, row: int) -> None:
        """This message is that row."""
        entry.seq = row
        before = self.rows.get(row)
        if before is not None:
            if before.fields is not None or entry.fields is None:
                return
            self.size -= before.size  # its owner's was no plain JSON; as it is read, it is
        self.rows[row] = entry
        self.size += entry.size
        self._index.setdefault(entry.key, []).append(entry)

    def hold(self, start: int, end: int, proven: int, proof: UUID) -> None:
        """The rows of this range are known whole; `proof` is the id of the row `proven` in it."""
        held = self.held
        if held is not None and start <= held.end and held.start <= end:
            start, end = min(start, held.start), max(end, held.end)
            if held.row > proven:
                proven, proof = held.row, held.id
        elif held is not None and end - start < held.end - held.start:
            return
        self.held = Held(start, end, proven, proof)

    def recognise(self, message: BaseMessage) -> Entry:
        """What is remembered of a message wherever it stood; a new entry where that is nothing."""
        name = fields_of(message).get("id")
        if type(name) is str:
            for entry in self._index.get(name, ()):
                if entry.is_like(message):
                    return entry
        return entry_of(message)

    def find(self, entries: list[Entry], settled: int = 0) -> None:
        """Put in place of entries without a row those that have the same in them and are one.

        The same message twice is twice the same row when it has an id; without one it was said twice.

        Args:
            settled: so many at the beginning are rows, and different ones.
        """
        used: set[int] = set()
        if any(type(entry.key) is int for entry in entries[settled:]):
            for place, entry in enumerate(entries):
                if entry.seq is not None and type(entry.key) is int:
                    if id(entry) in used:
                        entries[place] = entry.unplaced()
                    used.add(id(entry))
        for place in range(settled, len(entries)):
            if entries[place].seq is None:
                found = self._like(entries[place], used)
                if found is not None:
                    entries[place] = found
                    if type(found.key) is int:
                        used.add(id(found))

    def _like(self, entry: Entry, used: Collection[int]) -> Entry | None:
        for known in self._index.get(entry.key, ()):
            if known.digest == entry.digest and id(known) not in used:
                return known
        return None

    def show(self, key: tuple[str, str], view: View) -> None:
        """A list was read or put."""
        self.views[key] = view
        self.views.move_to_end(key)
        if len(self.views) > MAX_VIEWS:
            self.views.popitem(last=False)

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
        self.generation += 1
        self.rows, self._index, self.size, self.held = {}, {}, 0, None
        self.internal.clear()
        self.appended.clear()
        self.views.clear()
        self.checkpoints.clear()
        self.buffer_parts.clear()
        self.buffer = self.newest = None


Kept = OrderedDict[tuple[int, str], KnownThread]
"""Threads by whose they are and their ids, the one used last at the end."""


class KnownMessages:
    """The threads used last.

    Args:
        limit: bytes that their messages may take, about; a thread in use is kept however large it is.
        kept: where they are; shared with others whose threads are within the same limit.
    """

    def __init__(self, limit: int, kept: Kept | None = None) -> None:
        self.limit = limit
        self._kept: Kept = OrderedDict() if kept is None else kept
        self._own = next(_owners)
        self._calls = 0
        self._used: set[str] = set()

    def thread(self, thread_id: str) -> KnownThread:
        """What is known of a thread, nothing at first."""
        key = self._own, thread_id
        known = self._kept.get(key) or self._kept.setdefault(key, KnownThread())
        with suppress(KeyError):  # another thread has just made room
            self._kept.move_to_end(key)
        self._used.add(thread_id)
        self._calls += 1
        if self._calls % 64 == 0:
            self._shrink()
        elif len(self._kept) > MAX_THREADS:
            self._kept.popitem(last=False)
        return known

    def forget(self, thread_id: str) -> None:
        """Drop what is known of a thread, as after its deletion."""
        known = self._kept.pop((self._own, thread_id), None)
        if known is not None:
            known.reset()

    def clear(self) -> None:
        """Drop everything that is its own."""
        for key in list(self._kept):
            if key[0] == self._own:
                self.forget(key[1])

    def _shrink(self) -> None:
        # only those in use have grown: to look at thousands each time would cost more than all else
        used, self._used = self._used, set()
        for thread_id in used:
            if (known := self._kept.get((self._own, thread_id))) is not None:
                known.counted = known.footprint
        total = sum(known.counted for known in list(self._kept.values()))  # other threads may add some meanwhile
        while len(self._kept) > 1 and (total > self.limit or len(self._kept) > MAX_THREADS):
            _, dropped = self._kept.popitem(last=False)
            total -= dropped.counted


class KnownInside(KnownMessages):
    """The threads of one transaction. When it is over, nothing of them is known outside either.

    Rows that were rolled back leave their numbers to others, and so do those that it deleted.
    """

    def __init__(self, outside: KnownMessages, joined: Joined) -> None:
        super().__init__(outside.limit)
        self._outside = outside
        self._met: set[str] = set()
        self._met_all = False
        joined.at_end(self._tell)

    def thread(self, thread_id: str) -> KnownThread:
        """What is known of a thread, nothing at first."""
        self._met.add(thread_id)
        return super().thread(thread_id)

    def forget(self, thread_id: str) -> None:
        """Drop what is known of a thread, as after its deletion."""
        self._met.add(thread_id)
        super().forget(thread_id)

    def clear(self) -> None:
        """Drop everything."""
        self._met_all = True
        super().clear()

    def _tell(self) -> None:
        if self._met_all:
            self._outside.clear()
        for thread_id in self._met:
            self._outside.forget(thread_id)
