"""The schemas of an API description: references resolved, fields as lines of text.

Every walk here is bounded: references by the chain already followed, nesting by depth, width by a
budget of lines, because a description may refer to itself and a small one can unfold without end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import unquote

from memory_plugin.parsers.openapi_parts import MAX_REFERENCE

# How much is said of each field: everything, the first sentence, or its name and type.
Detail = Literal["full", "sentence", "names"]

MAX_FIELD_DEPTH = 3
MAX_FIELDS = 1_000
_MAX_HOPS = 16
_MAX_PARTS = 24  # alternatives, enum values, parts of an allOf
_MAX_VALUE = 80
_MAX_LINE = 4_000
# Schemas visited for one rendering, and for one description before it becomes stingy.
_STEPS = 1_000
_STEPS_IN_ALL = 300_000
_STEPS_WHEN_STINGY = 50
_TAG = re.compile(
    r"</?(?:a|b|blockquote|br|code|div|em|h[1-6]|hr|i|img|li|ol|p|pre|small|span|strong|sub|sup|table|tbody|td|th|thead"
    r"|tr|ul)(?:\s[^<>]{0,300})?/?>",
    re.IGNORECASE,
)
_LINK = re.compile(r"\[([^\[\]]{1,300})\]\([^()\s]{1,1000}\)")
_FIRST_SENTENCE = re.compile(r".{20,}?[.!?](?=\s)")
_SAYINGS = (
    ("const", "Always"),
    ("default", "Default:"),
    ("minimum", "At least"),
    ("maximum", "At most"),
    ("maxLength", "Longest:"),
    ("example", "Example:"),
)
_FLAGS = (("readOnly", "Read-only."), ("deprecated", "Deprecated."))
_SPACES = re.compile(r"\s+")
_ESCAPES = (("~1", "/"), ("~0", "~"))


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` where it is an object, else an empty one: descriptions in the wild are rarely valid."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """`value` where it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def prose(value: Any) -> str:
    """A description without HTML tags and addresses of links; empty for anything that isn't text."""
    return _LINK.sub(r"\1", _TAG.sub(" ", value)).strip() if isinstance(value, str) else ""


def one_line(value: Any) -> str:
    """A description on one line of at most 4,000 characters."""
    text = _SPACES.sub(" ", prose(value[: 2 * _MAX_LINE] if isinstance(value, str) else "")).strip()
    return text if len(text) <= _MAX_LINE else text[: _MAX_LINE - 1] + "…"


def short(value: Any) -> str:
    """A scalar as text of at most 80 characters; containers, which may be endless, are not shown."""
    if isinstance(value, str):
        text = _SPACES.sub(" ", value[: 8 * _MAX_VALUE]).strip()
    else:
        text = json.dumps(value) if value is None or isinstance(value, bool) else "…"
    return text if len(text) <= _MAX_VALUE else text[: _MAX_VALUE - 1] + "…"


def is_true(value: Any) -> bool:
    """Whether a flag is set, also where somebody quoted it."""
    return value is True or value == "true"


class Resolver:
    """Follows the references of one description: local ones (`#/...`), and those to its other files (`file#/...`).

    Args:
        parts: the other files by the names that references have for them.
    """

    def __init__(self, root: Mapping[str, Any], parts: Mapping[str, Any] | None = None) -> None:
        self._files: Mapping[str, Any] = {**(parts or {}), "": root}

    def resolve(self, node: Any) -> tuple[Mapping[str, Any], str | None]:
        """The object that a node stands for, and the name of the reference when it was one.

        A reference that leads nowhere, in a circle or out of the files gives an empty object.
        """
        found, references = self._follow(node)
        return found, self._name(references[0]) if references else None

    def file_of(self, node: Any) -> str | None:
        """The other file that a node is in, where references lead there."""
        found, references = self._follow(node)
        if not found:
            return None
        return next((file for file in (each.partition("#")[0] for each in reversed(references)) if file), None)

    def _follow(self, node: Any) -> tuple[Mapping[str, Any], list[str]]:
        """What a node stands for, and the references that led there."""
        found = mapping(node)
        followed: list[str] = []
        while isinstance(reference := found.get("$ref"), str):
            if reference in followed or len(followed) >= _MAX_HOPS:
                return {}, followed
            followed.append(reference)
            found = mapping(self._lookup(reference))
        return found, followed

    def _name(self, reference: str) -> str:
        file, _, place = reference.partition("#")
        if not file or file not in self._files:
            return ref_name(reference)
        return ref_name(f"#{place}") if "/" in place else short(PurePosixPath(file).stem)

    def _lookup(self, reference: str) -> Any:
        file, _, place = reference.partition("#")
        if file not in self._files or len(reference) > MAX_REFERENCE:
            return None
        node: Any = self._files[file]
        for part in place.split("/")[1:]:
            key = unquote(part)
            for escape, character in _ESCAPES:
                key = key.replace(escape, character)
            if isinstance(node, list) and key.isdigit() and len(key) < 6 and int(key) < len(node):
                node = node[int(key)]
            else:
                node = mapping(node).get(key)
        return node


def ref_name(reference: str) -> str:
    """`Refund` of `#/components/schemas/Refund`; a reference to another document stays as it is."""
    return (
        short(unquote(reference[-MAX_REFERENCE:].rsplit("/", 1)[-1])) if reference.startswith("#") else short(reference)
    )


class Fields:
    """Writes the fields of schemas as indented lines, `- name (type, required): description`."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self.met: dict[str, None] = {}  # references to other files that schemas were named by, in order
        self._steps = self._steps_in_all = 0
        self._detail: Detail = "full"

    def lines(self, schema: Any, *, limit: int = MAX_FIELDS, follow: int = 0, detail: Detail = "full") -> list[str]:
        """The fields of a schema, nested objects below their field; the last line says when there are more.

        `follow` is how many references are followed one within the other, the one at the root
        included; schemas that are only named have their own place in the text.
        """
        self._detail = detail
        result: list[str] = []
        self._steps_in_all += self._steps
        self._steps = 0
        for line in self._walk(schema, 0, (), follow):
            if len(result) >= limit:
                result.append("- and more fields, which the description lists")
                break
            result.append(line)
        return result

    def type_of(self, schema: Any, depth: int = 0) -> str:
        """A type in words: `integer (int64)`, `array of Refund`, `string or null`, `one of Card, Iban`."""
        node = mapping(schema)
        if "$ref" in node:
            return self._resolved(node)[1] or "object"
        if depth > MAX_FIELD_DEPTH:
            return "object"
        for keyword, saying in (("oneOf", "one of"), ("anyOf", "any of")):
            if choices := sequence(node.get(keyword)):
                return f"{saying} {self._joined(choices, depth)}"
        if parts := sequence(node.get("allOf")):
            names = [self._resolved(part)[1] for part in parts[:_MAX_PARTS]]
            named = [name for name in names if name]
            return " and ".join([*named, "more"] if 0 < len(named) < len(names) else named) or "object"
        return self._simple_type(node, depth)

    def _resolved(self, node: Any) -> tuple[Mapping[str, Any], str | None]:
        """What a schema stands for; notes the reference where it leads to another file."""
        found, name = self.resolver.resolve(node)
        reference = mapping(node).get("$ref")
        if found and isinstance(reference, str) and not reference.startswith("#"):
            self.met[reference] = None
        return found, name

    def _simple_type(self, node: Mapping[str, Any], depth: int) -> str:
        kind = node.get("type")
        kinds = [short(item) for item in (kind[:_MAX_PARTS] if isinstance(kind, list) else [kind]) if item]
        if not kinds:
            kinds = ["object" if "properties" in node else "array" if "items" in node else "any"]
        if "array" in kinds and node.get("items"):
            kinds[kinds.index("array")] = f"array of {self.type_of(node['items'], depth + 1)}"
        if is_true(node.get("nullable")) and "null" not in kinds:
            kinds.append("null")
        text = " or ".join(kinds)
        return f"{text} ({short(node['format'])})" if node.get("format") else text

    def _joined(self, choices: list[Any], depth: int) -> str:
        words = [self.type_of(choice, depth + 2) for choice in choices[:_MAX_PARTS]]
        more = ["…"] if len(choices) > _MAX_PARTS else []
        return ", ".join(dict.fromkeys(words + more))

    def remarks(self, schema: Any, *, described: bool = False, detail: Detail = "full") -> str:
        """What a schema is and which values it allows, on one line; only the values where it is `described`."""
        if detail == "names":
            return ""
        node = mapping(schema)
        resolved = self.resolver.resolve(node)[0]
        words = "" if described else one_line(node.get("description") or resolved.get("description"))
        if detail == "sentence":
            first = _FIRST_SENTENCE.match(words)
            return first.group() if first else words
        parts = [words]
        values = sequence(resolved.get("enum")) or sequence(mapping(resolved.get("items")).get("enum"))
        if values:
            more = ", …" if len(values) > _MAX_PARTS else ""
            parts.append(f"One of: {', '.join(map(short, values[:_MAX_PARTS]))}{more}.")
        for keyword, saying in _SAYINGS:
            value = resolved.get(keyword)
            if keyword in resolved and not isinstance(value, Mapping | list):
                parts.append(f"{saying} {short(value)}.")
        parts.extend(saying for keyword, saying in _FLAGS if is_true(resolved.get(keyword)))
        return " ".join(part if part.endswith((".", "!", "?", ":")) else f"{part}." for part in parts if part)

    def _walk(self, schema: Any, depth: int, seen: tuple[str, ...], follow: int) -> Iterator[str]:
        """The lines below a schema; `seen` names the references that lead here."""
        node, name = self.resolver.resolve(schema)
        named = name is not None and depth > 0 and (name in seen or len(seen) >= follow)
        if named or depth > MAX_FIELD_DEPTH or not self._step():
            return
        seen = (*seen, name) if name else seen
        indent = "  " * depth
        required: set[str] = set()
        for field, value, needed in self._properties(node, seen, required, 0):
            flag = ", required" if needed or field in required else ""
            remarks = self.remarks(value, detail=self._detail)
            yield f"{indent}- {short(field)} ({self.type_of(value)}{flag})" + (f": {remarks}" if remarks else "")
            yield from self._walk(self._inner(value), depth + 1, seen, follow)
        if not depth and "items" in node:
            yield from self._walk(node["items"], depth + 1, seen, follow)
        for choice in (sequence(node.get("oneOf")) or sequence(node.get("anyOf")))[:_MAX_PARTS]:
            for number, line in enumerate(self._walk(choice, depth + 1, seen, follow)):
                if not number:
                    yield f"{indent}- as {self.type_of(choice)}:"
                yield line

    def _step(self) -> bool:
        """Whether the walk may visit one more schema."""
        self._steps += 1
        return self._steps <= (_STEPS if self._steps_in_all < _STEPS_IN_ALL else _STEPS_WHEN_STINGY)

    def _inner(self, value: Any) -> Any:
        """What a field's own fields are in: the field, or the elements of a list."""
        return self.resolver.resolve(value)[0].get("items", value)

    def _properties(
        self, node: Mapping[str, Any], seen: tuple[str, ...], required: set[str], nesting: int
    ) -> Iterator[tuple[str, Any, bool]]:
        """Each field of a schema and of the parts it is made of, with whether it is required."""
        required.update(item for item in sequence(node.get("required")) if isinstance(item, str))
        parts = [
            (part, name)
            for part, name in map(self.resolver.resolve, sequence(node.get("allOf"))[:_MAX_PARTS])
            if name is None or name not in seen
        ]
        for part, _ in parts:
            required.update(item for item in sequence(part.get("required")) if isinstance(item, str))
        for part, name in parts:
            if nesting < MAX_FIELD_DEPTH and self._step():
                yield from self._properties(part, (*seen, name) if name else seen, required, nesting + 1)
        for field, value in mapping(node.get("properties")).items():
            yield field, value, field in required
