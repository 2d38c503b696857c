"""From a document's bytes to what its rows need: parsed in a worker, kept small.

A chunk is a span of the document's text, so the text is kept once and its passages are cut from it when
they are written. What is known of each passage and each place are numbers in arrays: a document of
100 MB takes little more memory than its text.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from memory_plugin.capabilities.reference_files import UNTITLED, Content
from memory_plugin.errors import DocumentError, InvalidInputError, MemoryPluginError
from memory_plugin.jsonable import RESERVED_KEYS, dumps_exact, jsonb_text, loads_exact
from memory_plugin.readable import readable
from memory_plugin.types import Chunk, ParsedDocument
from memory_plugin.validation import replace_unstorable

MAX_TITLE = 1_000
"""Characters a title may have; one that a parser found is cut."""

_TITLE_LINE = 80
"""Characters of the text that stand for a missing title."""

_HASH, _FIELDS = 32, 5

BETWEEN = "\x1f"
"""Between the headings of a path on its way to the database: arrays of arrays must be rectangular there."""


class Parser(Protocol):
    """Turns a document into text and chunks; called in a worker thread or process."""

    def __call__(
        self, data: bytes | str, *, name: str, media_type: str | None = None, title: str | None = None
    ) -> ParsedDocument:
        """Raises DocumentError, ContentTooLargeError or UnsupportedError."""


class Passage(NamedTuple):
    """The text of one or more chunks of a document, ready for its row."""

    text_hash: bytes
    text: str
    headings: str
    tokens: int
    metadata: str


class Place(NamedTuple):
    """Where a passage stands: its number among the passages, its span, page and line."""

    passage: int
    start: int
    end: int
    page: int | None
    line: int | None


@dataclass(slots=True)
class Prepared:
    """A parsed document, ready for its rows: each text once as a passage, and the places in order.

    Passages are numbered as they first come, so that those of the first places are the first.
    """

    title: str
    media_type: str
    text: str
    metadata: dict[str, Any]
    _headings: list[str] = field(default_factory=list)
    _metadata_texts: list[str] = field(default_factory=list)
    _other_texts: dict[int, str] = field(default_factory=dict)
    _hashes: bytearray = field(default_factory=bytearray)
    _passages: array[int] = field(default_factory=lambda: array("q"))  # start, end, tokens, headings, metadata
    _places: array[int] = field(default_factory=lambda: array("q"))  # passage, start, end, page or -1, line or -1

    @property
    def passage_count(self) -> int:
        """How many different passages there are."""
        return len(self._passages) // _FIELDS

    @property
    def place_count(self) -> int:
        """How many chunks the document has."""
        return len(self._places) // _FIELDS

    def hashes(self) -> Iterator[bytes]:
        """What each passage is known by, in order."""
        for number in range(self.passage_count):
            yield bytes(self._hashes[number * _HASH : (number + 1) * _HASH])

    def passages(self, first: int, end: int) -> Iterator[Passage]:
        """The passages with these numbers, their texts cut from the text."""
        for number in range(first, min(end, self.passage_count)):
            begin, stop, tokens, headings, metadata = self._passages[number * _FIELDS : (number + 1) * _FIELDS]
            other = self._other_texts.get(number)
            yield Passage(
                bytes(self._hashes[number * _HASH : (number + 1) * _HASH]),
                self.text[begin:stop] if other is None else other,
                self._headings[headings],
                tokens,
                self._metadata_texts[metadata],
            )

    def places(self, first: int, end: int) -> Iterator[Place]:
        """The places from one to another, in the order of the document."""
        for number in range(first, min(end, self.place_count)):
            passage, start, stop, page, line = self._places[number * _FIELDS : (number + 1) * _FIELDS]
            yield Place(passage, start, stop, None if page < 0 else page, None if line < 0 else line)

    def take(self, chunks: Iterable[Chunk]) -> None:
        """Note the chunks of the document, one after the other."""
        numbers: dict[bytes, int] = {}
        headings: dict[str, int] = {}
        metadata: dict[str, int] = {}
        for chunk in chunks:
            text = replace_unstorable(chunk.text)
            path = BETWEEN.join(
                replace_unstorable(heading).replace(BETWEEN, " ") for heading in chunk.heading_path if heading
            )
            digest = hashlib.sha256(f"{path}\x1e{text}".encode()).digest()
            number = numbers.setdefault(digest, len(numbers))
            if number == self.passage_count:
                about = jsonb_text(plain_metadata(chunk.metadata))
                self._hashes += digest
                self._passages.extend(
                    (
                        chunk.start,
                        chunk.end,
                        chunk.tokens,
                        headings.setdefault(path, len(headings)),
                        metadata.setdefault(about, len(metadata)),
                    )
                )
                if text != self.text[chunk.start : chunk.end]:
                    self._other_texts[number] = text
            page, line = (-1 if value is None else value for value in (chunk.page, chunk.line))
            self._places.extend((number, chunk.start, chunk.end, page, line))
        self._headings, self._metadata_texts = list(headings), list(metadata)


def prepare(parser: Parser | None, content: Content, media_type: str | None, title: str | None) -> Prepared:
    """Parse and hash; runs in a worker, so it takes and gives only what can be pickled.

    Raises:
        DocumentError: the parser failed, or found no text.
        ContentTooLargeError, UnsupportedError: as the parser says.
    """
    try:
        prepared = _prepared(parser, content, media_type, title)
    except MemoryPluginError:
        raise
    except Exception as error:
        # parsers of other people's formats raise anything, and one file must not end a run
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DocumentError(f"{content.name!r} cannot be parsed: {reason}", name=content.name) from error
    if not prepared.place_count:
        raise DocumentError(
            f"{content.name!r} has no text to search: a scanned document needs OCR first.", name=content.name
        )
    return prepared


def _prepared(parser: Parser | None, content: Content, media_type: str | None, title: str | None) -> Prepared:
    if parser is not None and content.pages is None:
        parsed = parser(content.data, name=content.name, media_type=media_type, title=title)
        called, kind, text, metadata = parsed.title, parsed.media_type, parsed.text, parsed.metadata
        chunks: Iterable[Chunk] = parsed.chunks
    else:
        from memory_plugin.parsers import read, read_pages

        if content.pages is None:
            document = read(content.data, name=content.name, media_type=media_type, title=title, parts=content.parts)
        else:
            document = read_pages(content.pages, name=content.name, media_type=media_type, title=title)
        content.forget_data()  # the text is there now: two of them are not needed
        called, kind, text, metadata = document.title, document.media_type, document.text, document.metadata
        chunks = document.chunks()
    prepared = Prepared(
        title=title or replace_unstorable(_title(called, text))[:MAX_TITLE],
        media_type=replace_unstorable(kind),
        text=text,
        metadata=plain_metadata(metadata),
    )
    prepared.take(chunks)
    return prepared


def _title(title: str, text: str) -> str:
    """What the document is called; the beginning of its text where it has no name at all."""
    if title not in {"", UNTITLED}:
        return title
    line = " ".join(text[:1_000].split())
    return line if len(line) <= _TITLE_LINE else line[: _TITLE_LINE - 1].rstrip() + "…"


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a parser says about a document, made fit for JSON whatever it is."""
    if not metadata:
        return {}
    plain = readable(dict(metadata))
    return {key: value for key, value in plain.items() if key not in RESERVED_KEYS}


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The metadata of a caller as a dict that JSON holds exactly.

    Raises:
        InvalidInputError: it doesn't, or a key is reserved.
    """
    if metadata is None:
        return None
    text = dumps_exact(dict(metadata), order=False, tuples=True) if isinstance(metadata, Mapping) else None
    if text is None or not all(key and "\x00" not in key and key not in RESERVED_KEYS for key in metadata):
        raise InvalidInputError(
            "metadata must be a mapping from non-empty text to what JSON can hold "
            f"(and {', '.join(sorted(RESERVED_KEYS))} are reserved keys)."
        )
    plain: dict[str, Any] = loads_exact(text)
    return plain
