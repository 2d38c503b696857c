"""What every parser works with: the limits, the text under construction, and the words of its errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from memory_plugin.chunking import Block, BlockKind
from memory_plugin.errors import ContentTooLargeError, DocumentError, UnsupportedError

# Blocks are merged into chunks; a document with this many blocks is no document, whatever its chunks.
_BLOCKS_PER_CHUNK = 50
_MAX_BLOCKS = 1_000_000
_LABEL_LENGTH = 160
_MIB = 1024 * 1024
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class ParseLimits:
    """How much one document may hold; over any of these the document is refused, never cut.

    `max_bytes` is the size of the file. What must be held in parts while it is read costs many times its
    size: `max_rebuilt_bytes` is the size of such a file (all but plain text, Markdown, source code and
    PDF), and of what an archive unpacks to; `max_wide_bytes` that of a text with emoji in it; `max_values`
    bounds the values in data, `max_characters` the text that is written anew from a document. With these
    values a document takes less than 400 MB.
    """

    max_bytes: int = 128 * 1024 * 1024
    max_wide_bytes: int = 64 * 1024 * 1024
    max_rebuilt_bytes: int = 32 * 1024 * 1024
    max_values: int = 3_000_000
    max_characters: int = 16_000_000
    max_pages: int = 5_000
    max_chunks: int = 500_000


@dataclass(frozen=True, slots=True)
class Extract:
    """What a parser hands over: the text, the blocks in it, and what else the document says of itself.

    `numbered` is set where the text is the file as it stands, so that its lines can be counted.
    """

    text: str
    blocks: Iterable[Block]
    media_type: str
    title: str | None = None
    numbered: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PageText:
    """One page, row or other part of a document that came as text; pages count from 1."""

    text: str
    page: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


def clean(text: str) -> str:
    """`text` with what no database can store (NUL, lone surrogates) replaced by U+FFFD."""
    return _UNSTORABLE.sub("\ufffd", text)


def clean_value(value: Any) -> Any:
    """A JSON-safe copy of a metadata value: strings cleaned, anything unusual as its text."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {clean(str(key)): clean_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean_value(item) for item in value]
    return clean(str(value))


def label(text: str) -> str:
    """One line of at most 160 characters for a heading path, however long the heading is."""
    line = _SPACES.sub(" ", clean(text[: 8 * _LABEL_LENGTH])).strip()
    return line if len(line) <= _LABEL_LENGTH else line[: _LABEL_LENGTH - 1].rstrip() + "…"


def too_large(name: str, what: str, limit: int, whose: str = "a document") -> ContentTooLargeError:
    """The error for a document over a limit; `what` is "bytes", "pages" ..., `whose` the kind it is the limit of."""
    whole = what.startswith("bytes") and limit >= _MIB and limit % _MIB == 0
    amount = f"{limit // _MIB} MiB{what.removeprefix('bytes')}" if whole else f"{limit:,} {what}"
    return ContentTooLargeError(f"'{label(name)}' has more than {amount}, the most that {whose} may have: split it.")


def missing(package: str, what: str) -> UnsupportedError:
    """The error for a parser that isn't installed."""
    return UnsupportedError(f'Reading {what} needs the package {package}; run: pip install "memory-plugin[documents]".')


def too_deep(name: str, levels: int) -> DocumentError:
    """The error for data nested beyond reason."""
    return DocumentError(f"'{label(name)}' is nested deeper than {levels} levels; flatten it first.", name=name)


class HeadingPath:
    """The headings that a position in a document stands under."""

    def __init__(self) -> None:
        self._headings: list[tuple[int, str]] = []

    def enter(self, level: int, text: str) -> tuple[str, ...]:
        """Note a heading of this level, which ends those of the same and of deeper levels."""
        while self._headings and self._headings[-1][0] >= level:
            self._headings.pop()
        self._headings.append((level, label(text)))
        return self.path

    @property
    def path(self) -> tuple[str, ...]:
        """The headings from the top down."""
        return tuple(text for _, text in self._headings if text)


class LineCounter:
    """The numbers of the lines, from 1, that offsets into a text are on; each is asked for after those before it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._break = "\n" if "\n" in text else "\r"
        self._position, self._line = 0, 1

    def at(self, offset: int) -> int:
        """The line of an offset; of one before the last that was asked for, the line of that."""
        if offset > self._position:
            self._line += self._text.count(self._break, self._position, offset)
            self._position = offset
        return self._line


class TextWriter:
    """Builds the extracted text of a document together with the blocks that point into it."""

    def __init__(self, name: str, limits: ParseLimits) -> None:
        self._name = name
        self._limits = limits
        self._parts: list[str] = []
        self._length = 0
        self.blocks: list[Block] = []

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    def add(
        self,
        text: str,
        kind: BlockKind = "paragraph",
        *,
        heading_path: Sequence[str] = (),
        page: int | None = None,
        line: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        tight: bool = False,
    ) -> None:
        """Append a block, below a blank line unless it is `tight` or follows its neighbour in a list.

        Raises:
            ContentTooLargeError: the document has grown over a limit.
        """
        text = clean(text)
        if not text or text.isspace():
            return
        if self.blocks:
            tight = tight or kind == "list" == self.blocks[-1].kind
            self._append("\n" if tight else "\n\n")
        start = self._length
        self._append(text)
        if len(self.blocks) >= min(_MAX_BLOCKS, _BLOCKS_PER_CHUNK * self._limits.max_chunks):
            raise too_large(self._name, "chunks", self._limits.max_chunks)
        path = tuple(heading_path)
        self.blocks.append(Block(start, self._length, kind, path, page, line, metadata or {}))

    def _append(self, text: str) -> None:
        self._length += len(text)
        if self._length > self._limits.max_characters:
            raise too_large(self._name, "characters", self._limits.max_characters)
        self._parts.append(text)
