"""YAML read from its events, without recursion.

The loaders of PyYAML call themselves for each level of nesting, in C, and a hostile file of 100 KB
ends the process. Here nesting is bounded, and dates and numbers stay the text they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import label, missing, too_deep
from memory_plugin.parsers.json_places import DEPTH, MOST, SECTIONS, Lines

if TYPE_CHECKING:
    from yaml.events import Event

_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MERGE = "<<"
_MISSING = object()


class _Open:
    """A mapping or a sequence that is being read; `keys` lead to it, where the lines of its members are noted."""

    __slots__ = ("key", "keys", "value")

    def __init__(self, value: Any, keys: tuple[str, ...] | None) -> None:
        self.value = value
        self.keys = keys
        self.key: Any = _MISSING

    @property
    def next_keys(self) -> tuple[str, ...] | None:
        """What leads to the item that is added next, None where that is too deep, or of no interest."""
        if self.keys is None or not isinstance(self.key, str) or not isinstance(self.value, dict):
            return None
        keys = (*self.keys, self.key)
        return keys if len(keys) <= DEPTH and keys[0] in SECTIONS else None

    def add(self, item: Any) -> None:
        if isinstance(self.value, list):
            self.value.append(item)
        elif self.key is _MISSING:
            self.key = "?" if isinstance(item, dict | list) else item if isinstance(item, str) else str(item).lower()
        else:
            if self.key == _MERGE:
                for source in item if isinstance(item, list) else [item]:
                    if isinstance(source, dict):
                        self.value.update({key: value for key, value in source.items() if key not in self.value})
            else:
                self.value[self.key] = item
            self.key = _MISSING


def load_yaml(text: str, name: str, max_depth: int) -> tuple[Any, Lines]:
    """The value of the first document in a YAML text, and the lines of the members of an API description.

    Aliases are shared, not copied.

    Raises:
        DocumentError: not YAML, or nested deeper than `max_depth`.
        UnsupportedError: PyYAML isn't installed.
    """
    try:
        import yaml
    except ImportError as error:
        raise missing("pyyaml", "YAML") from error
    try:
        return _build(yaml.parse(text, Loader=getattr(yaml, "CLoader", yaml.Loader)), name, max_depth)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable"
        raise DocumentError(f"'{label(name)}' is not valid YAML: {problem}{where}.", name=name) from error


def _build(events: Iterable[Event], name: str, max_depth: int) -> tuple[Any, Lines]:
    from yaml import events as kinds

    root = _Open([], None)
    stack = [root]
    lines: dict[tuple[str, ...], int] = {}
    anchors: dict[str, Any] = {}
    for event in events:
        if isinstance(event, kinds.CollectionEndEvent):
            stack.pop()
        elif isinstance(event, kinds.DocumentEndEvent):
            break
        elif isinstance(event, kinds.AliasEvent):
            if event.anchor not in anchors:
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise DocumentError(f"'{label(name)}' is not valid YAML: undefined alias at line {line}.", name=name)
            stack[-1].add(anchors[event.anchor])
        elif isinstance(event, kinds.ScalarEvent | kinds.CollectionStartEvent):
            node = _node(event, kinds.MappingStartEvent)
            if event.anchor:
                anchors[event.anchor] = node
            above = stack[-1]
            keys = () if above is root else above.next_keys
            above.add(node)
            _note(lines, above, event)
            if not isinstance(event, kinds.ScalarEvent):
                stack.append(_Open(node, keys))
            if len(stack) > max_depth + 1:
                raise too_deep(name, max_depth)
    return (root.value[0] if root.value else None), lines


def _note(lines: dict[tuple[str, ...], int], above: _Open, event: Any) -> None:
    """Note the line of a key, once it is read."""
    if above.key is not _MISSING and len(lines) < MOST and (keys := above.next_keys):
        lines[keys] = event.start_mark.line + 1


def _node(event: Any, mapping: type[Event]) -> Any:
    if not hasattr(event, "value"):
        return {} if isinstance(event, mapping) else []
    return _CONSTANTS.get(event.value, event.value) if event.implicit[0] else event.value  # [0]: plain, untagged
