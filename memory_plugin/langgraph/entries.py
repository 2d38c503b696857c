"""A stored message as this process keeps it in memory: to recognise it again, and to hand out copies.

A message of LangChain's own classes that holds nothing but plain JSON is kept as a frozen copy of its
fields. Comparing that copy with the live object takes a fraction of a microsecond and notices a
message that was changed in place; copying it gives the message back without reading the database.
Any other message is known by a digest alone.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from sys import getsizeof
from typing import Any, cast

import ormsgpack
from langchain_core.messages import BaseMessage
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from memory_plugin.langchain.messages import CORE_MESSAGES
from memory_plugin.langgraph.molds import NO_FIELDS, NO_ITEMS, Mold, messages_from, mold_of

# Bytes, as measured: of an entry with its places in the tables, of a frozen copy of the fields, of each dict or list in
# it that is not empty, and of each thing in one of these; texts come on top.
_ENTRY, _FIELDS, _CONTAINER, _ITEM = 340, 430, 190, 50

_CORE = frozenset(CORE_MESSAGES)

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

fields_of = attrgetter("__dict__")
extras_of = attrgetter("__pydantic_extra__")

Key = str | int
"""What a message is looked up by: its id, or its digest where it has none."""


class Entry:
    """One message; `seq` is its row, None while it has none.

    `fields` are None for a message that is known by its digest alone. They belong to the entry: nothing
    of them that can change is ever handed out. `size` is in bytes, about.
    """

    __slots__ = ("_digest", "cls", "fields", "key", "mold", "seq", "size")

    def __init__(self, cls: type[BaseMessage], fields: dict[str, Any] | None, digest: int | None, key: Key) -> None:
        self.cls = cls
        self.fields = fields
        self.key = key
        self.seq: int | None = None
        self._digest = digest
        self.mold: Mold | None = None
        """What new messages are made with, from the first time on."""
        self.size = _ENTRY if fields is None else _ENTRY + _FIELDS + _weight(fields.values())

    @property
    def digest(self) -> int:
        """A number that differs from any other message's."""
        if self._digest is None:
            self._digest = _digest_of_fields(self.cls, self.fields, None)
        return self._digest

    def is_like(self, message: BaseMessage) -> bool:
        """Whether the live message still holds what this one does."""
        live = fields_of(message)
        if type(self.key) is str and live.get("id") != self.key:
            return False
        if self.fields is not None and type(message) is self.cls and not extras_of(message):
            said, mine = live.get("content"), self.fields["content"]
            if type(said) is str is type(mine) and said != mine:
                return False  # without a look at the rest, nor at digests
            try:
                if live == self.fields:
                    return True
            except Exception:  # noqa: BLE001 - some values refuse to be compared, each in its own way
                return self.digest == digest_of(message)
        return self.digest == digest_of(message)

    def may_be(self, other: Entry) -> bool:
        """Whether both may be one row: what the serializer changes on the way is no difference."""
        if type(self.key) is not type(other.key) or (type(self.key) is str and self.key != other.key):
            return False
        return self.fields is None or other.fields is None or self.fields == other.fields

    def unplaced(self) -> Entry:
        """The same without a row."""
        return Entry(self.cls, self.fields, self._digest, self.key)

    def molded(self) -> Mold | None:
        """The mold of the message; None for one that is known by its digest alone."""
        if self.mold is None and self.fields is not None:
            self.mold = mold_of(self.cls, self.fields)
        return self.mold


def copies(entries: Sequence[Entry], load: Callable[[Entry], BaseMessage]) -> list[BaseMessage]:
    """A new message for each of these entries, which shares nothing with it that can change.

    Args:
        load: gives the message of an entry that is known by its digest alone.
    """
    molds = [entry.mold for entry in entries]
    if not all(molds):
        molds = [entry.molded() for entry in entries]
    if all(molds):
        return messages_from(cast("list[Mold]", molds))
    made: list[BaseMessage] = []
    for entry, mold in zip(entries, molds, strict=True):
        made += [load(entry)] if mold is None else messages_from((mold,))
    return made


def entry_of(message: BaseMessage) -> Entry:
    """What to remember of a message, as it is now."""
    cls = type(message)
    fields = None
    if cls in _CORE and not extras_of(message):
        fields = _frozen(fields_of(message))
    digest = None if fields is not None else digest_of(message)
    name = message.id
    if type(name) is str:
        entry = Entry(cls, fields, digest, name)
    else:
        digest = digest if digest is not None else _digest_of_fields(cls, fields, message)
        entry = Entry(cls, fields, digest, digest)
    return entry


def entry_of_fields(cls: type[BaseMessage], fields: dict[str, Any]) -> Entry:
    """The same for fields that nobody else holds, of a class of LangChain's own."""
    name = fields["id"]
    if type(name) is str:
        return Entry(cls, fields, None, name)
    digest = _digest_of_fields(cls, fields, None)
    return Entry(cls, fields, digest, digest)


def digest_of(message: BaseMessage) -> int:
    """A number that changes when anything in the message changes."""
    return _digest_of_fields(type(message), fields_of(message), message)


def _digest_of_fields(cls: type[BaseMessage], fields: Any, message: BaseMessage | None) -> int:
    extra = extras_of(message) if message is not None else None
    state = [fields, extra] if extra else fields
    try:
        return hash((cls, _pack(state, option=_EXACT)))
    except TypeError:
        return hash((cls, _slow_content(message, state)))


def _slow_content(message: BaseMessage | None, state: Any) -> Any:
    """What stands for a message that is not plain JSON through and through."""
    try:
        if message is not None and "\\ud" not in repr(state):  # the serializer makes all lone surrogates the same
            return _serializer.dumps_typed(message)
    except Exception:  # noqa: BLE001, S110 - any object may stand in a message, and fail in its own way
        pass
    try:
        return pickle.dumps(state)
    except Exception:  # noqa: BLE001 - likewise
        return object()  # equal to nothing: stored each time, and never taken for another


class _NotPlainError(Exception):
    """Something that is not plain JSON."""


def _frozen(fields: dict[str, Any]) -> dict[str, Any] | None:
    """A copy of the fields, None where something in them is not plain JSON."""
    try:
        return {name: value if type(value) in _PLAIN else _plain(value, _DEEPEST) for name, value in fields.items()}
    except _NotPlainError:
        return None


_PLAIN = frozenset({str, bool, float, type(None)})

_DEEPEST = 64
"""Dicts and lists inside each other, at the most: far from the depth of Python's stack, whoever copies them later."""


def _plain(value: Any, room: int) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        # beyond that MessagePack knows no number, and the digest would go the slow way
        if -(2**63) <= value < 2**63:
            return value
    elif kind is list and room:
        if not value:
            return NO_ITEMS
        return [each if type(each) in _PLAIN else _plain(each, room - 1) for each in value]
    elif kind is dict and room and all(type(name) is str for name in value):
        if not value:
            return NO_FIELDS
        return {name: each if type(each) in _PLAIN else _plain(each, room - 1) for name, each in value.items()}
    raise _NotPlainError


def _weight(values: Iterable[Any]) -> int:
    """Bytes of values of plain JSON and of all that is in them, about."""
    size = 0
    for value in values:
        kind = type(value)
        if kind is str:
            size += len(value) if value.isascii() else getsizeof(value)
        elif (kind is dict or kind is list) and value:
            size += _CONTAINER + _ITEM * len(value) + _weight(value.values() if kind is dict else value)
    return size


def live_fields(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The fields of the messages themselves, not copies."""
    return list(map(fields_of, messages))
