"""Where the members of a JSON text stand, for citations: the parser of the standard library does not say.

A text that was parsed already is walked a few levels deep; what is below them is read over by that parser.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping

from memory_plugin.parsers.base import LineCounter

Lines = Mapping[tuple[str, ...], int]
"""The line of a member by the keys that lead to it."""

SECTIONS = frozenset({"info", "paths", "webhooks", "components", "definitions", "$defs"})
"""The members of an API description or a schema that passages are made of."""

DEPTH = 3
"""Keys that lead to an operation, or to a schema."""

MOST = 100_000
"""Members whose lines are noted; what comes after them has none."""

_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"[ \t\n\r]*,?[ \t\n\r]*")


def record_lines(text: str) -> array[int]:
    """The lines of what stands on its own in a JSON text, in the order in which it stands there.

    Of a list these are its elements. Of an object they are its members, each followed by the elements of its
    list where it is one.
    """
    return array("i", _Walk(text).records())


def member_lines(text: str) -> Lines:
    """The lines of the members of an API description or a schema in JSON, down to operations and schemas."""
    lines: dict[tuple[str, ...], int] = {}
    for keys, line in _Walk(text).members((), 0):
        if len(lines) >= MOST:
            break
        lines[keys] = line
    return lines


class _Walk:
    """Reads a text that is known to be JSON; `end` is where the value that was read last ends."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.end = 0
        self._lines = LineCounter(text)
        self._decoder = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)

    def records(self) -> Iterator[int]:
        start = _end_of(_SPACE, self.text, 0)
        if self.text[start] == "[":
            yield from self._elements(start)
        elif self.text[start] == "{":
            for _, at, value in self._pairs(start):
                yield self._lines.at(at)
                if self.text[value] == "[":
                    yield from self._elements(value)
                else:
                    self._skip(value)

    def members(self, above: tuple[str, ...], start: int) -> Iterator[tuple[tuple[str, ...], int]]:
        start = _end_of(_SPACE, self.text, start)
        if len(above) == DEPTH or self.text[start] != "{" or (above and above[0] not in SECTIONS):
            self._skip(start)
            return
        for key, at, value in self._pairs(start):
            keys = (*above, key)
            if keys[0] in SECTIONS:
                yield keys, self._lines.at(at)
            yield from self.members(keys, value)

    def _pairs(self, start: int) -> Iterator[tuple[str, int, int]]:
        """Each key of an object, where it stands, and where its value does, which is to be read before the next."""
        at = _end_of(_SPACE, self.text, start + 1)
        while self.text[at] != "}":
            key, colon = self._decoder.raw_decode(self.text, at)
            yield key, at, _end_of(_SPACE, self.text, _end_of(_SPACE, self.text, colon) + 1)
            at = _end_of(_BETWEEN, self.text, self.end)
        self.end = at + 1

    def _elements(self, start: int) -> Iterator[int]:
        at = _end_of(_SPACE, self.text, start + 1)
        while self.text[at] != "]":
            yield self._lines.at(at)
            self._skip(at)
            at = _end_of(_BETWEEN, self.text, self.end)
        self.end = at + 1

    def _skip(self, at: int) -> None:
        self.end = self._decoder.raw_decode(self.text, at)[1]


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
