"""What holds for the chunks of any document."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory_plugin.chunking import MAX_TOKENS, count_tokens
from memory_plugin.types import Chunk, ParsedDocument

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def assert_sound_chunks(text: str, chunks: Sequence[Chunk], maximum: int = MAX_TOKENS) -> None:
    """Exact spans in order, every visible character once, none empty, none over the maximum."""
    position = 0
    for number, chunk in enumerate(chunks):
        assert chunk.ordinal == number
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.start >= position, "chunks overlap or are out of order"
        assert not text[position : chunk.start].strip(), "visible text between two chunks"
        assert chunk.text.strip()
        assert chunk.tokens == count_tokens(chunk.text)
        assert chunk.tokens <= maximum
        position = chunk.end
    assert not text[position:].strip(), "visible text after the last chunk"


def assert_sound(document: ParsedDocument) -> None:
    """Sound chunks, and nothing in the document that a database refuses."""
    assert_sound_chunks(document.text, document.chunks)
    assert document.title
    assert document.chunks
    shown = [document.text, document.title, repr(document.metadata)]
    for chunk in document.chunks:
        shown += [*chunk.heading_path, repr(chunk.metadata)]
        assert all(len(heading) <= 160 for heading in chunk.heading_path)
    assert not any(UNSTORABLE.search(part) for part in shown)
