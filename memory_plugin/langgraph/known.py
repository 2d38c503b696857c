"""Which message objects are already rows: so that a put writes only what is new.

LangGraph hands the whole message list to every put, mostly the very objects that were read or
written before. They are recognised by identity, and because an application may change a message
in place, by a digest of what is in it.
"""

from __future__ import annotations

import asyncio
import pickle
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

MAX_THREADS = 1024
MAX_MESSAGES = 200_000
"""Messages remembered over all threads; the threads used longest ago are forgotten first."""

_DIGEST_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def _foreign(value: Any) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return ["bytes", bytes(value).hex()]
    if isinstance(value, set | frozenset | tuple):
        return [type(value).__name__, *map(str, value)]
    state = getattr(value, "__dict__", None)
    if state:
        return [type(value).__qualname__, state]
    return [type(value).__qualname__, repr(value)]


def digest(message: Any) -> int:
    """A number that changes when anything in the message changes."""
    state = message.__dict__
    try:
        content = orjson.dumps(state, default=_foreign, option=_DIGEST_OPTIONS)
    except (orjson.JSONEncodeError, RecursionError):
        # lone surrogates and integers over 64 bits are beyond orjson
        try:
            content = pickle.dumps(state)
        except (pickle.PicklingError, TypeError, AttributeError):
            content = repr(state).encode("utf-8", "backslashreplace")
    return hash((type(message), content))


@dataclass(slots=True)
class KnownThread:
    """What is known of one thread: its message objects by identity and the checkpoints read or written."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    by_identity: dict[int, tuple[Any, int, int]] = field(default_factory=dict)
    """id(object) -> (the object, its digest when it was stored, its seq)."""
    by_digest: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    lists: OrderedDict[tuple[str, str, str], list[int]] = field(default_factory=OrderedDict)
    """(namespace, channel, version) -> the numbers of the messages in that list."""
    checkpoints: set[tuple[str, str]] = field(default_factory=set)
    """(namespace, id) of those whose messages are known."""
    internal: set[int] = field(default_factory=set)
    """Rows that only a subgraph or another channel has so far."""
    by_message_id: dict[str, int] = field(default_factory=dict)
    """The newest row of each message id in the conversation itself."""
    buffer: str | None = None
    """The memory buffer as it was last written from here."""

    def learn(self, messages: Iterable[Any], digests: Iterable[int], seqs: Iterable[int]) -> None:
        """These objects are these rows."""
        for message, number, seq in zip(messages, digests, seqs, strict=True):
            self.by_identity[id(message)] = (message, number, seq)
            rows = self.by_digest[number]
            if seq not in rows:
                rows.append(seq)

    def find(self, message: Any, number: int) -> int | None:
        """The row of this very object, if nothing in it changed."""
        known = self.by_identity.get(id(message))
        if known is not None and known[0] is message and known[1] == number:
            return known[2]
        return None

    def remember_list(self, namespace: str, channel: str, version: str, seqs: list[int]) -> None:
        """The list of a channel at a version; only a few versions are kept."""
        self.lists[(namespace, channel, version)] = seqs
        while len(self.lists) > 16:
            self.lists.popitem(last=False)

    def trim(self, current: int) -> None:
        """Forget objects of earlier reads once they outnumber the current list by far."""
        if len(self.by_identity) > 4 * current + 256:
            self.by_identity.clear()
            self.by_digest.clear()
            self.checkpoints.clear()
            self.lists.clear()
            self.internal.clear()
            self.by_message_id.clear()


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
        self._threads.pop(thread_id, None)

    def clear(self) -> None:
        """Drop everything."""
        self._threads.clear()

    def _shrink(self) -> None:
        while len(self._threads) > MAX_THREADS:
            self._threads.popitem(last=False)
        if len(self._threads) % 64 == 0:
            total = sum(len(known.by_identity) for known in self._threads.values())
            while total > MAX_MESSAGES and len(self._threads) > 1:
                _, dropped = self._threads.popitem(last=False)
                total -= len(dropped.by_identity)


def match(known: KnownThread, messages: Sequence[Any], digests: Sequence[int]) -> list[int | None]:
    """For each message of a list its row, None where it is new.

    By identity first; what is left by content, each row once, so that a list that another
    process read, or that was rebuilt on the way, is recognised too.
    """
    found = [known.find(message, number) for message, number in zip(messages, digests, strict=True)]
    if None not in found:
        return found
    used = {seq for seq in found if seq is not None}
    for place, seq in enumerate(found):
        if seq is None:
            for candidate in known.by_digest.get(digests[place], ()):
                if candidate not in used:
                    found[place] = candidate
                    used.add(candidate)
                    break
    return found

