"""The order of keys of JSON objects, through `jsonb`, which sorts them.

Python's dicts have an order, and programs rely on it: the steps of a plan, the arguments of a tool
call as a model wrote them. The order, where it differs from the one `jsonb` keeps, is noted in the
outermost object (or in each outermost object of a list) under `$o`, as `[own, {key: below}]`. Each
text holds one permutation for each object of two or more keys, breadth first, such as
`"2,0,1;;1,0"`: for each key its place in the order of `jsonb`; empty where that is the order. Who
queries the column can ignore it; who edits the column by SQL loses the order at worst.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import orjson

CONTAINERS = frozenset({dict, list, tuple})

# Applications repeat few shapes of objects, so both directions remember what they worked out.
_MAX_SHAPES = 1024
_MAX_SHAPE_CHARS = 512
_permutations: dict[tuple[str, ...], str] = {}
_restored: dict[tuple[tuple[str, ...], str], tuple[str, ...]] = {}


def with_order(value: Any, raw: bytes, order: bool | Collection[str]) -> bytes:
    """`raw`, the JSON of `value`, with the notes about the order of its keys.

    `order` is True for all of them, or the keys of the outermost object below which order matters.
    """
    if type(value) is dict:
        marks = _marks(value, order)
        return b'%b,"$o":%b}' % (raw[:-1], orjson.dumps(marks)) if marks else raw
    if type(value) in CONTAINERS and not CONTAINERS.isdisjoint(map(type, value)):
        marked = _marked(value, order)
        return raw if marked is value else orjson.dumps(marked)
    return raw


def _marked(items: Any, order: bool | Collection[str]) -> Any:
    """A copy of the list with a note in each outermost object that needs one, or the list itself."""
    copy: list[Any] | None = None
    for index, item in enumerate(items):
        if type(item) is dict:
            marks = _marks(item, order)
            marked = {**item, "$o": marks} if marks else item
        elif type(item) in CONTAINERS:
            marked = _marked(item, order)
        else:
            continue
        if marked is not item:
            copy = list(items) if copy is None else copy
            copy[index] = marked
    return items if copy is None else copy


def _marks(value: dict[str, Any], order: bool | Collection[str]) -> list[Any] | None:
    own = _permutation(tuple(value)) if order is True else ""
    below: dict[str, str] | None = None
    for key, item in value.items():
        if type(item) in CONTAINERS and item and (order is True or key in order):  # type: ignore[operator]
            permutations = _permutations_below(item)
            if permutations:
                below = below or {}
                below[key] = permutations
    return [own, below or {}] if own or below else None


def _permutations_below(value: Any) -> str:
    known = _permutations.get
    found = []
    nodes = [value]
    for node in nodes:
        if type(node) is dict and len(node) > 1:
            keys = tuple(node)
            permutation = known(keys)
            found.append(_permutation(keys) if permutation is None else permutation)
        nodes.extend(item for item in _inside(node) if type(item) in CONTAINERS)
    return ";".join(found).rstrip(";") if any(found) else ""


def _inside(node: Any) -> Any:
    return node.values() if type(node) is dict else node


def _permutation(keys: tuple[str, ...]) -> str:
    """For each key its place in the order of `jsonb`, empty when that is the order already."""
    known = _permutations.get(keys)
    if known is not None:
        return known
    ordered = _jsonb_order(keys)
    if list(keys) == ordered:
        text = ""
    else:
        place = {key: str(index) for index, key in enumerate(ordered)}
        text = ",".join([place[key] for key in keys])
    _remember(_permutations, keys, keys, text)
    return text


def _jsonb_order(keys: Iterable[str]) -> list[str]:
    """The keys as `jsonb` sorts them: by length in bytes, then by bytes."""
    ordered = sorted(keys)  # code points sort like UTF-8 bytes
    if all(map(str.isascii, ordered)):
        return sorted(ordered, key=len)
    return sorted(ordered, key=lambda key: len(key.encode()))


def _remember(cache: dict[Any, Any], keys: tuple[str, ...], entry: Any, answer: Any) -> None:
    if sum(map(len, keys)) <= _MAX_SHAPE_CHARS:
        if len(cache) >= _MAX_SHAPES:
            cache.clear()
        cache[entry] = answer


def restore_order(value: Any) -> None:
    """Undo the sorting of `jsonb` in place and take the notes out, as far as they fit the value."""
    if type(value) is list:
        for item in value:
            if type(item) in CONTAINERS:
                restore_order(item)
        return
    if type(value) is not dict:
        return
    marks = value.get("$o")
    if type(marks) is not list or len(marks) != 2 or type(marks[0]) is not str or type(marks[1]) is not dict:
        return
    del value["$o"]
    own, below = marks
    if own:
        _reorder(value, own)
    for key, permutations in below.items():
        if type(permutations) is str and type(value.get(key)) in CONTAINERS:
            _restore_below(value[key], permutations)


def _restore_below(value: Any, permutations: str) -> None:
    texts = iter(permutations.split(";"))
    nodes = [value]
    for node in nodes:
        if type(node) is dict and len(node) > 1:
            text = next(texts, None)
            if text is None:
                return
            if text:
                _reorder(node, text)
        nodes.extend(item for item in _inside(node) if type(item) in CONTAINERS)


def _reorder(node: dict[str, Any], permutation: str) -> None:
    keys = tuple(node)
    names = _restored.get((keys, permutation))
    if names is None:
        names = _original_order(keys, permutation)
        _remember(_restored, keys, (keys, permutation), names)
    for name in names:
        node[name] = node.pop(name)


def _original_order(keys: tuple[str, ...], permutation: str) -> tuple[str, ...]:
    try:
        places = [int(place) for place in permutation.split(",")]
    except ValueError:
        return ()
    if sorted(places) != list(range(len(keys))):  # the object was edited: keep its present order
        return ()
    ordered = _jsonb_order(keys)
    return tuple([ordered[place] for place in places])
