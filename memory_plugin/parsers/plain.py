"""Plain text: paragraphs between blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator

from memory_plugin.chunking import Block
from memory_plugin.parsers.base import Extract

_PARAGRAPH_END = re.compile(r"(?:\r\n|\n|\r)(?:[ \t\f]*(?:\r\n|\n|\r))+|\f")


def parse_plain(text: str) -> Extract:
    """The text as it stands; a form feed ends a paragraph too."""
    return Extract(text, paragraphs(text, 0, len(text)), "text/plain", numbered=True)


def paragraphs(text: str, start: int, end: int, heading_path: tuple[str, ...] = ()) -> Iterator[Block]:
    """One block for each paragraph in a span."""
    for gap in _PARAGRAPH_END.finditer(text, start, end):
        if gap.start() > start:
            yield Block(start, gap.start(), heading_path=heading_path)
        start = gap.end()
    if start < end:
        yield Block(start, end, heading_path=heading_path)
