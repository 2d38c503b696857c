"""New messages like the frozen ones, made over and over.

What in a message can change, and has to be copied for that, is found out once, when the message is
frozen. The copying itself then asks nothing any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import BaseMessage

from memory_plugin.langchain.messages import (
    NAMES,
    new_message,
    set_extra,
    set_fields,
    set_names,
    set_private,
)

NO_FIELDS: dict[str, Any] = {}
NO_ITEMS: list[Any] = []
"""What every frozen message has where it has nothing, as most have in most places; never handed out, never changed."""

_CONTAINERS = frozenset({dict, list})

_Names = tuple[str, ...]
_Places = tuple[tuple[Any, Any], ...]
"""The dicts and lists right inside of another, by their places, each with those inside of itself."""

Mold = tuple[type[BaseMessage], dict[str, Any], set[str], _Names, _Names, _Names, tuple[tuple[str, _Places], ...]]
"""The class of a message, its fields, and the names of all fields of that class; then the names of those that hold an
empty dict, an empty list, a dict or list of nothing that can change, and one that has others in it."""

_MOST = 4096
_kept: dict[Any, Any] = {}


def _one(shape: Any) -> Any:
    """One tuple for all messages of the same shape, of which there are few."""
    return _kept.setdefault(shape, shape) if len(_kept) < _MOST else _kept.get(shape, shape)


def messages_from(molds: Iterable[Mold]) -> list[BaseMessage]:
    """A new message from each mold, which shares nothing with it that can change."""
    made: list[BaseMessage] = []
    add = made.append
    # one loop without a call of ours in it: for a thousand messages calls would be a third of the time
    for cls, frozen, names, dicts, lists, flat, nested in molds:
        fields = frozen.copy()
        for name in dicts:
            fields[name] = {}
        for name in lists:
            fields[name] = []
        for name in flat:
            fields[name] = fields[name].copy()
        for name, places in nested:
            outer = fields[name] = fields[name].copy()
            for place, inside in places:
                outer[place] = _copied(outer[place], inside) if inside else outer[place].copy()
        message = new_message(cls)
        set_fields(message, fields)
        # all fields count as set, as they do after a trip through LangGraph's serializer
        set_names(message, names.copy())
        set_extra(message, {})
        set_private(message, None)
        add(message)
    return made


def mold_of(cls: type[BaseMessage], fields: dict[str, Any]) -> Mold:
    """The mold of a message of LangChain's own classes.

    Args:
        fields: all of them, of plain JSON; the mold's own from here on.
    """
    dicts: list[str] = []
    lists: list[str] = []
    flat: list[str] = []
    nested: list[tuple[str, _Places]] = []
    for name, value in fields.items():
        kind = type(value)
        if kind is not dict and kind is not list:
            continue
        if not value:
            fields[name] = NO_FIELDS if kind is dict else NO_ITEMS
            (dicts if kind is dict else lists).append(name)
        elif places := _places(value):
            nested.append((name, places))
        else:
            flat.append(name)
    return (cls, fields, NAMES[cls], *_one((tuple(dicts), tuple(lists), tuple(flat), tuple(nested))))


def _copied(value: Any, places: _Places) -> Any:
    """A copy of a container with all that is in it."""
    made = value.copy()
    for place, inside in places:
        made[place] = _copied(made[place], inside) if inside else made[place].copy()
    return made


def _places(value: Any) -> _Places:
    members = value.values() if type(value) is dict else value
    if _CONTAINERS.isdisjoint(map(type, members)):
        return ()
    members = value.items() if type(value) is dict else enumerate(value)
    return tuple((place, _places(each)) for place, each in members if type(each) in _CONTAINERS)
