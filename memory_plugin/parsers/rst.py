"""reStructuredText: headings by their underlines, blocks by blank lines and indentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from memory_plugin.chunking import Block, BlockKind
from memory_plugin.parsers.base import Extract, HeadingPath

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_ADORNMENT = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_ITEM = re.compile(r"(?:[-*+•]|#\.|\d{1,9}[.)]|\(\d{1,9}\))[ \t]+\S")
_DIRECTIVE = re.compile(r"\.\.(?:[ \t]|$)")
_GRID = re.compile(r"\+[-=+]{2,}\+$|=+(?:[ \t]+=+)+$")
_ROLE = re.compile(r":[\w.+:-]{1,60}:`([^`]{1,300})`")
_MARKS = re.compile(r"``?|\*\*?|\|")


class _Line(NamedTuple):
    start: int
    end: int
    text: str

    @property
    def indented(self) -> bool:
        return self.text[:1] in (" ", "\t")


def parse_rst(text: str) -> Extract:
    """Sections, paragraphs, list items, literal blocks, directives and tables of a reStructuredText."""
    lines = [
        _Line(match.start(), match.end(), match.group().rstrip())
        for match in _LINE.finditer(text)
        if match.end() > match.start()
    ]
    blocks = list(_blocks(lines))
    title = next((block.heading_path[0] for block in blocks if block.kind == "heading" and block.heading_path), None)
    return Extract(text, blocks, "text/x-rst", title=title, numbered=True)


def _blocks(lines: list[_Line]) -> Iterator[Block]:
    path = HeadingPath()
    styles: list[tuple[str, bool]] = []  # in the order of their first use, which is their level
    at = 0
    while at < len(lines):
        if not lines[at].text:
            at += 1
            continue
        size, style = _heading(lines, at)
        if style is not None:
            if style not in styles:
                styles.append(style)
            words = lines[at + 1 if style[1] else at].text.strip()
            path.enter(styles.index(style) + 1, _MARKS.sub("", _ROLE.sub(r"\1", words)))
            kind: BlockKind = "heading"
        else:
            size, kind = _body(lines, at)
        yield Block(lines[at].start, lines[at + size - 1].end, kind, path.path)
        at += size


def _heading(lines: list[_Line], at: int) -> tuple[int, tuple[str, bool] | None]:
    """How many lines a heading takes here and its style (character, overlined), or (0, None)."""
    first = lines[at].text
    second = lines[at + 1].text if at + 1 < len(lines) else ""
    third = lines[at + 2].text if at + 2 < len(lines) else ""
    if _is_rule(first) and second.strip() and third == first and len(first) >= len(second.strip()):
        return 3, (first[0], True)
    plain = not lines[at].indented and not _is_rule(first)
    if plain and _is_rule(second) and len(second) >= min(len(first), 4):
        return 2, (second[0], False)
    return 0, None


def _is_rule(line: str) -> bool:
    return len(line) >= 2 and line[0] in _ADORNMENT and line == line[0] * len(line)


def _body(lines: list[_Line], at: int) -> tuple[int, BlockKind]:
    """How many lines the block that begins here takes, and its kind."""
    first = lines[at]
    if first.indented or _DIRECTIVE.match(first.text):
        return _indented_to(lines, at + 1) - at, "code"
    if _GRID.match(first.text):
        return _table_to(lines, at + 1) - at, "table"
    if _ITEM.match(first.text):
        end = at + 1
        while end < len(lines) and lines[end].text and not _ITEM.match(lines[end].text):
            end += 1
        return _indented_to(lines, end) - at, "list"
    end = at + 1
    while end < len(lines) and lines[end].text and _heading(lines, end)[1] is None:
        end += 1
    if lines[end - 1].text.endswith("::"):
        # what a paragraph announces stays with it
        return _indented_to(lines, end) - at, "code"
    return end - at, "paragraph"


def _indented_to(lines: list[_Line], at: int) -> int:
    """The end of the indented lines from here on, blank lines between them included."""
    end = at
    while at < len(lines) and (not lines[at].text or lines[at].indented):
        at += 1
        if lines[at - 1].text:
            end = at
    return end


def _table_to(lines: list[_Line], at: int) -> int:
    """The end of a table: a simple one may hold blank lines, but ends with a rule before a blank line."""
    simple = lines[at - 1].text.startswith("=")
    rules = 1
    while at < len(lines):
        if not lines[at].text and (not simple or rules >= 3):
            break
        if _GRID.match(lines[at].text):
            rules += 1
        at += 1
    return at
