"""Plain text: paragraphs between blank lines."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from memory_plugin.chunking import Block
from memory_plugin.parsers.base import Extract, PageText, ParseLimits, TextWriter

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


def parse_pages(pages: Sequence[PageText], *, name: str, media_type: str | None, limits: ParseLimits) -> Extract:
    """The paragraphs of parts that came as text, each with the page and the metadata of its part."""
    writer = TextWriter(name, limits)
    for part in pages:
        for block in paragraphs(part.text, 0, len(part.text)):
            writer.add(part.text[block.start : block.end], page=part.page, metadata=part.metadata)
    return Extract(writer.text, writer.blocks, media_type or "text/plain", metadata={"parts": len(pages)})
