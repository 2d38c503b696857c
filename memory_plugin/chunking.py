"""Cuts the text of a document into chunks: pieces that are embedded, searched and cited as one.

A parser says where the blocks of a document are (paragraphs, list items, tables, code ...) and under
which headings; this module merges small neighbours under one heading up to a target size and splits
what is over the maximum at the best place there is. Chunks never overlap: whoever wants more context
asks for the neighbours of a chunk. Work and memory grow with the size of the text, not faster.
"""

from __future__ import annotations

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from memory_plugin.errors import ConfigurationError
from memory_plugin.tokenizing import open_tokenizer
from memory_plugin.types import Chunk

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)

BlockKind = Literal["heading", "paragraph", "list", "code", "table", "record"]

# The one place where sizes are set, and measured: docs/explanation/ranking.md has the table. From 400 tokens on
# nothing is gained by larger passages, below it the words of one thought are cut apart; a passage is also what a
# model reads, and the smaller one costs less. The maximum leaves a block that cannot be halved well in one piece.
TARGET_TOKENS = 400
MAX_TOKENS = 512


@dataclass(frozen=True, slots=True)
class ChunkSizes:
    """Sizes in tokens: chunks grow up to `target`; a block that cannot be halved well may reach `maximum`."""

    target: int = TARGET_TOKENS
    maximum: int = MAX_TOKENS

    def __post_init__(self) -> None:
        if not 16 <= self.target <= self.maximum:
            raise ConfigurationError(
                f"Chunk sizes must satisfy 16 <= target <= maximum, got {self.target} and {self.maximum}."
            )


DEFAULT_SIZES = ChunkSizes()


@dataclass(frozen=True, slots=True)
class Block:
    """A span of a document's text that its parser would rather not see cut.

    `start` and `end` are character offsets. `heading_path` of a heading includes the heading itself.
    `line` is set where it cannot be counted in the text (a rendered CSV row, say). Blocks with equal
    heading path, page and metadata may be merged into one chunk.
    """

    start: int
    end: int
    kind: BlockKind = "paragraph"
    heading_path: tuple[str, ...] = ()
    page: int | None = None
    line: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------- tokens

# Texts are encoded in slices, because the cost of encoding grows faster than their length.
_SLICE = 4096
_ESTIMATE = re.compile(r"[A-Za-z]{1,5}|\d|\n|[^\sA-Za-z\d]")


@cache
def _tokenizer() -> Tokenizer | None:
    """The Llama-2 tokenizer that the wordllama package carries, or None where it isn't installed."""
    try:
        spec = find_spec("wordllama")  # finds a top-level package without importing it
    except ValueError:
        return None
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = sorted(file for folder in folders for file in Path(folder, "tokenizers").glob("*tokenizer*.json"))
    if not files:
        return None
    try:
        tokenizer = open_tokenizer(files[0])
    except Exception as error:  # noqa: BLE001  the Rust side raises plain Exception; an estimate will do
        logger.warning("Token counts are estimated, because %s could not be loaded: %s", files[0].name, error)
        return None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def count_tokens(text: str) -> int:
    """Number of tokens in `text`, by the Llama-2 tokenizer where the `embedded` extra is installed.

    A text of more than 4,096 characters is counted in slices and may be off by a token per slice.
    Without the tokenizer the number is an estimate that leans high for Western text: one token for
    each five letters of a word, each digit, each line break and each other visible character.
    """
    tokenizer = _tokenizer()
    if tokenizer is None:
        return sum(1 for _ in _ESTIMATE.finditer(text))
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= _SLICE:
        return len(tokenizer.encode(text, add_special_tokens=False))
    total = start = 0
    while start < len(text):
        end = start + _SLICE
        # the tokenizer puts a space before each text it is given, so the space cut at is left out
        space = text.rfind(" ", start + 1, end) if end < len(text) else -1
        end = space if space > start else end
        total += len(tokenizer.encode(text[start:end], add_special_tokens=False))
        start = end + 1 if space > start else end
    return total


# ---------------------------------------------------------------- places to cut

_BREAK = r"(?:\r\n|\n|\r)"
_BLANK_LINE = re.compile(rf"{_BREAK}(?:[ \t]*{_BREAK})+")
_LINE = re.compile(_BREAK)
_ITEM = re.compile(rf"{_BREAK}(?=[ \t]*(?:[-*+•]|\d{{1,9}}[.)])[ \t])")
_SENTENCE = re.compile(r"[.!?…][\"')\]”’»]{0,3}\s+(?![a-z])|[。！？；][」』”’）]{0,3}")
_NO_SENTENCE_END = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|al|approx|Dr|Mr|Mrs|Ms|Prof|St|No|Nr|Fig|Eq|Sec|Vol|pp?)|(?:^|\s)[A-Z])\.$"
)
_LAST_SPACE = re.compile(r".*\s", re.DOTALL)

_CUTS: Mapping[BlockKind, tuple[re.Pattern[str], ...]] = {
    "heading": (_LINE, _SENTENCE),
    "paragraph": (_BLANK_LINE, _SENTENCE, _LINE),
    "list": (_BLANK_LINE, _ITEM, _SENTENCE, _LINE),
    "code": (_BLANK_LINE, _LINE),
    "table": (_LINE,),
    "record": (_BLANK_LINE, _LINE, _SENTENCE),
}


# Each count costs some microseconds however short the text: what is shorter than this part of a chunk is
# counted together with what follows it. So few characters have no more than half the tokens of a chunk.
_SMALL = 8


class _Unit(NamedTuple):
    """A span with its count of tokens, at or under the maximum."""

    start: int
    end: int
    tokens: int
    block: Block


def _pieces(text: str, start: int, end: int, pattern: re.Pattern[str], least: int = 0) -> Iterator[tuple[int, int]]:
    """Tile a span by the ends of the matches of `pattern`, pieces below `least` characters together with the next."""
    position = start
    for match in pattern.finditer(text, start, end):
        cut = match.end()
        if cut >= end:
            break
        if cut - position < least:
            continue
        if pattern is _SENTENCE and _NO_SENTENCE_END.search(text, max(start, cut - 12), match.start() + 1):
            continue
        yield position, cut
        position = cut
    yield position, end


def _split(text: str, span: _Unit, cuts: tuple[re.Pattern[str], ...], limit: int, target: int) -> Iterator[_Unit]:
    """Tile a span with units of at most `limit` tokens, cut as coarsely as that allows."""
    if span.tokens <= limit:
        yield span
    elif not cuts:
        yield from _cut_evenly(text, span, limit, target)
    else:
        for start, end in _pieces(text, span.start, span.end, cuts[0], limit // _SMALL):
            whole = end - start == span.end - span.start
            piece = span if whole else _Unit(start, end, count_tokens(text[start:end]), span.block)
            yield from _split(text, piece, cuts[1:], limit, target)


def _cut_evenly(text: str, span: _Unit, limit: int, target: int) -> Iterator[_Unit]:
    """Cut a span without structure into equal parts, between words where there are words."""
    step = max(1, (span.end - span.start) // math.ceil(span.tokens / min(limit, target)))
    position = span.start
    while position < span.end:
        end = _cut_near(text, position, position + step) if span.end - position > step * 1.2 else span.end
        tokens = count_tokens(text[position:end])
        unit = _Unit(position, end, tokens, span.block)
        if tokens > limit and end - position > 1:
            # a dense stretch: halved until it fits
            yield from _cut_evenly(text, unit._replace(tokens=max(tokens, 2 * target)), limit, target)
        else:
            yield unit
        position = end


def _cut_near(text: str, start: int, end: int) -> int:
    """The last word boundary in the second half of a span, else its end, never inside a combined character."""
    if match := _LAST_SPACE.match(text, (start + end + 1) // 2, end):
        return match.end()
    for cut in range(end, max(start, end - 16), -1):
        if cut >= len(text) or not (unicodedata.combining(text[cut]) or text[cut] in "\u200d\ufe0e\ufe0f"):
            return cut
    return end


# ---------------------------------------------------------------- chunks


def _tiles(text: str, blocks: Iterable[Block]) -> Iterator[Block]:
    """The blocks in order, without overlaps, and with one for each visible stretch that no block claims."""
    position, last = 0, Block(0, 0)
    for block in blocks:
        start, end = max(block.start, position), min(block.end, len(text))
        if start >= end:
            continue
        if start > position and not text[position:start].isspace():
            yield replace(last, start=position, end=start, kind="paragraph")
        last = block if start == block.start and end == block.end else replace(block, start=start, end=end)
        yield last
        position = end
    if position < len(text) and not text[position:].isspace():
        yield replace(last, start=position, end=len(text), kind="paragraph")


def _joined(blocks: Iterable[Block], least: int) -> Iterator[Block]:
    """The blocks, list items below `least` characters together with the next ones beside them."""
    held: Block | None = None
    end = 0
    for block in blocks:
        if held is not None:
            if block.kind == "list" and _beside(held, end, block, least):
                end = block.end
                continue
            yield held if held.end == end else replace(held, end=end)
        held = block if block.kind == "list" else None
        end = block.end
        if held is None:
            yield block
    if held is not None:
        yield held if held.end == end else replace(held, end=end)


def _beside(held: Block, end: int, block: Block, least: int) -> bool:
    """Whether two small blocks follow each other and may be in one chunk."""
    small = end - held.start < least and block.end - block.start < least and block.start - end <= 2
    return small and (block.line is None) == (held.line is None) and _key(held) == _key(block)


class _Group:
    """Units that will make up one chunk."""

    __slots__ = ("bare", "block", "end", "first", "start", "tokens")

    def __init__(self, unit: _Unit) -> None:
        self.first = self.block = unit.block
        self.start, self.end, self.tokens = unit.start, unit.end, unit.tokens
        self.bare = unit.block.kind == "heading"

    def append(self, unit: _Unit) -> None:
        self.block = unit.block
        self.end = unit.end
        self.tokens += unit.tokens
        self.bare = self.bare and unit.block.kind == "heading"

    def has_only_headings(self) -> bool:
        return self.bare

    def may_take(self, block: Block) -> bool:
        """Whether the block belongs under the same heading; a bare heading also takes what is deeper."""
        if block.page != self.block.page:
            return False
        if self.bare:
            depth = len(self.block.heading_path)
            deeper = len(block.heading_path) > depth or block.kind != "heading"
            return deeper and block.heading_path[:depth] == self.block.heading_path
        return block.kind != "heading" and _key(block) == _key(self.block)


def _key(block: Block) -> tuple[tuple[str, ...], int | None, Mapping[str, Any]]:
    return block.heading_path, block.page, block.metadata


class _Chunker:
    def __init__(self, text: str, sizes: ChunkSizes, numbered: bool) -> None:
        self.text = text
        self.sizes = sizes
        self.numbered = numbered
        self.break_character = "\n" if "\n" in text else "\r"
        self.position, self.line = 0, 1

    def run(self, blocks: Iterable[Block]) -> Iterator[Chunk]:
        ordinal = 0
        held: tuple[Chunk, Block] | None = None  # the last chunk waits for a tail too small to stand alone
        for group in self.groups(blocks):
            for chunk in self.chunks(group):
                if held is not None:
                    merged = self.merged(held, chunk, group.block)
                    if merged is not None:
                        held = (merged, group.block)
                        continue
                    yield replace(held[0], ordinal=ordinal)
                    ordinal += 1
                held = (chunk, group.block)
        if held is not None:
            yield replace(held[0], ordinal=ordinal)

    def groups(self, blocks: Iterable[Block]) -> Iterator[_Group]:
        group: _Group | None = None
        target, maximum = self.sizes.target, self.sizes.maximum
        for unit in self.units(blocks):
            if group is None:
                group = _Group(unit)
                continue
            total = group.tokens + unit.tokens
            if not group.may_take(unit.block):
                yield group
                group = _Group(unit)
            elif total <= target or (group.has_only_headings() and total <= maximum):
                group.append(unit)
            elif group.has_only_headings() and group.tokens <= maximum - target // 2:
                # a heading never stands alone where the text below it can be divided
                for part in _split(self.text, unit, _CUTS[unit.block.kind], target // 2, target // 2):
                    if group.has_only_headings() or group.tokens + part.tokens <= target:
                        group.append(part)
                    else:
                        yield group
                        group = _Group(part)
            else:
                yield group
                group = _Group(unit)
        if group is not None:
            yield group

    def units(self, blocks: Iterable[Block]) -> Iterator[_Unit]:
        """Each block with its count of tokens, those over the maximum in parts."""
        for block in _joined(_tiles(self.text, blocks), self.sizes.target // _SMALL):
            # two more for the line breaks that follow a block
            tokens = count_tokens(self.text[block.start : block.end]) + 2
            whole = _Unit(block.start, block.end, tokens, block)
            yield from _split(self.text, whole, _CUTS[block.kind], self.sizes.maximum, self.sizes.target)

    def chunks(self, group: _Group) -> Iterator[Chunk]:
        """The chunk of a group; more than one only where the parts counted less than their sum."""
        start, end = self.trimmed(group.start, group.end, group.first.kind == "code")
        if start >= end:
            return
        tokens = count_tokens(self.text[start:end])
        if tokens <= self.sizes.maximum:
            yield self.chunk(start, end, tokens, group)
            return
        whole = _Unit(start, end, tokens, group.block)
        for part in _cut_evenly(self.text, whole, self.sizes.maximum, self.sizes.target):
            start, end = self.trimmed(part.start, part.end, keep_indent=False)
            if start < end:
                yield self.chunk(start, end, count_tokens(self.text[start:end]), group)

    def chunk(self, start: int, end: int, tokens: int, group: _Group) -> Chunk:
        block = group.block
        line = group.first.line
        if self.numbered and line is None:
            self.line += self.text.count(self.break_character, self.position, start)
            self.position, line = start, self.line
        elif line is not None and group.first.kind == "code":  # its lines are those of the file
            line += self.text.count("\n", group.first.start, start)
        metadata = dict(block.metadata)
        if group.first.kind == "table" and group.start > group.first.start:
            # the rows of a long table after its first chunk: say which columns they have
            head = self.text[group.first.start : group.first.start + 500]
            metadata["table_header"] = _LINE.split(head, maxsplit=1)[0].strip()
        return Chunk(
            text=self.text[start:end],
            ordinal=0,
            start=start,
            end=end,
            heading_path=block.heading_path,
            page=block.page,
            line=line,
            tokens=tokens,
            metadata=metadata,
        )

    def merged(self, held: tuple[Chunk, Block], chunk: Chunk, block: Block) -> Chunk | None:
        """The held chunk with a small tail added, None where the two should stay apart."""
        before, before_block = held
        small = chunk.tokens < self.sizes.target // 5
        if not small or block.kind == "heading" or _key(before_block) != _key(block):
            return None
        if before.tokens + chunk.tokens + 2 > self.sizes.maximum or chunk.metadata != before.metadata:
            return None
        text = self.text[before.start : chunk.end]
        tokens = count_tokens(text)
        return None if tokens > self.sizes.maximum else replace(before, text=text, end=chunk.end, tokens=tokens)

    def trimmed(self, start: int, end: int, keep_indent: bool) -> tuple[int, int]:
        """The span without white space around it; code keeps the indentation of its first line."""
        piece = self.text[start:end]
        end -= len(piece) - len(piece.rstrip())
        first = start + len(piece) - len(piece.lstrip())
        if keep_indent and first < end:
            while first > start and self.text[first - 1] in " \t":
                first -= 1
        return first, end


def iter_chunks(
    text: str, blocks: Iterable[Block], *, sizes: ChunkSizes = DEFAULT_SIZES, numbered: bool = False
) -> Iterator[Chunk]:
    """Cut `text` into chunks along `blocks`, lazily and in order.

    Each chunk is `text[chunk.start:chunk.end]` exactly, has at most `sizes.maximum` tokens by
    `count_tokens`, and together they hold every visible character of `text` once. `blocks` come in
    the order of their start; where they leave visible text out, it becomes a paragraph of its own.
    `numbered` sets the line number of each chunk by counting in `text`, from 1.
    """
    return _Chunker(text, sizes, numbered).run(blocks)
