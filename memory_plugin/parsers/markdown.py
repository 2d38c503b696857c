"""Markdown: block structure from markdown-it, spans into the text as it was written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from memory_plugin.chunking import Block, BlockKind
from memory_plugin.parsers.base import Extract, HeadingPath, missing

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

# markdown-it makes several objects for each line, so long documents are read in windows that end
# where no block is open, or, past the second size, at any line outside a code fence.
_WINDOW = 200_000
_LONG_WINDOW = 600_000

# Each line costs markdown-it tens of microseconds, however short: a window of very many lines as short as this on
# average is no prose, and is read by its lines alone.
_DENSE = 10_000
_SHORT = 20
_SMALL_LIST = 30

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\n|\r|\Z)")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n(?P<body>(?:(?!---|\.\.\.).*\r?\n)*)(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_FRONT_TITLE = re.compile(r"^title:[ \t]*(?P<quote>[\"']?)(?P<title>[^\r\n]+?)(?P=quote)[ \t]*\r?$", re.MULTILINE)
_FENCE = re.compile(r" {0,3}(?P<fence>`{3,}|~{3,})(?P<info>[^\r\n]*)")
_HEADING = re.compile(r"#{1,6}[ \t]")
_ITEM = re.compile(r"(?:[-*+]|\d{1,9}[.)])[ \t]")
_TABLE_RULE = frozenset("|:- \t\r\n")

_LINK = re.compile(r"!?\[([^\[\]]{0,300})\](?:\([^()\s]{0,1000}(?:[ \t]+\"[^\"]{0,300}\")?\)|\[[^\[\]]{0,300}\])")
_MARKS = re.compile(r"`+|\*+|~~|(?<!\w)_+|_+(?!\w)|</?[A-Za-z][^<>]{0,300}>|[ \t]*\{#[\w-]{1,100}\}[ \t]*$")

_KINDS: dict[str, BlockKind] = {
    "paragraph_open": "paragraph",
    "blockquote_open": "paragraph",
    "fence": "code",
    "code_block": "code",
    "html_block": "paragraph",
    "hr": "paragraph",
    "heading_open": "heading",
}


def parse_markdown(text: str) -> Extract:
    """Headings, paragraphs, list items, code and tables of a Markdown text (CommonMark with tables).

    Raises:
        UnsupportedError: markdown-it-py isn't installed.
    """
    front = _FRONT_MATTER.match(text)
    title = _FRONT_TITLE.search(front["body"]) if front else None
    heading = None if title else _first_heading(text)
    return Extract(
        text,
        _blocks(text, front.end() if front else 0, _reader()),
        "text/markdown",
        title=title["title"] if title else heading,
        numbered=True,
    )


def heading_text(source: str) -> str:
    """The words of a heading without their Markdown: links become their text, emphasis and code lose their marks."""
    return _MARKS.sub("", _LINK.sub(r"\1", source)).replace("\\", "").strip() or source.strip()


def _reader() -> MarkdownIt:
    try:
        from markdown_it import MarkdownIt
    except ImportError as error:
        raise missing("markdown-it-py", "Markdown") from error
    reader = MarkdownIt("commonmark")
    # only the blocks are of interest; tables and link references are read as the paragraphs they look like
    reader.core.ruler.enableOnly(["normalize", "block"])
    reader.block.ruler.disable(["reference"])
    return reader


def _first_heading(text: str) -> str | None:
    """The heading that a document begins with, if it begins with one."""
    match = re.match(r"\s{0,100}#[ \t]+(?P<atx>[^\r\n]+)|\s{0,100}(?P<line>[^\r\n]+)\r?\n=+[ \t]*(?:\r?\n|\Z)", text)
    return heading_text((match["atx"] or match["line"]).rstrip("# \t")) if match else None


def _blocks(text: str, start: int, reader: MarkdownIt) -> Iterator[Block]:
    if start:
        yield Block(0, start, "code")
    path = HeadingPath()
    for lines in _windows(text, start):
        if len(lines) > _DENSE and len(lines) * _SHORT > lines[-1] - lines[0]:
            yield from _quick_blocks(text, lines, path)
            continue
        tokens = reader.parse(text[lines[0] : lines[-1]])
        yield from _window_blocks(text, lines, tokens, path)


def _windows(text: str, start: int) -> Iterator[list[int]]:
    """The offsets of the lines of each window, and of its end."""
    lines = [start]
    fence: str | None = None
    blank = True
    for match in _LINE.finditer(text, start):
        at = match.start()
        if at == match.end():
            break
        size = at - lines[0]
        if size > _WINDOW and fence is None:
            fresh = (blank and not text[at].isspace()) or _HEADING.match(text, at)
            if fresh or size > _LONG_WINDOW:
                yield lines
                lines = [at]
        if mark := _FENCE.match(text, at):
            if fence is None:
                fence = mark["fence"] if "`" not in mark["info"] or mark["fence"][0] == "~" else None
            elif mark["fence"].startswith(fence) and not mark["info"].strip():
                fence = None
        blank = match.group().isspace()
        lines.append(match.end())
    if len(lines) > 1:
        yield lines


def _quick_blocks(text: str, lines: list[int], path: HeadingPath) -> Iterator[Block]:
    """Headings, fences, list items and paragraphs of a window, without what is nested in them."""
    start, kind, fence = lines[0], None, ""
    for at, after in pairwise(lines):
        line = text[at:after]
        mark = _FENCE.match(line)
        if fence:
            if mark and mark["fence"].startswith(fence) and not mark["info"].strip():
                yield Block(start, after, "code", path.path)
                kind, fence = None, ""
            continue
        begins = _begins(line, mark, kind, at - start)
        if begins is None:
            continue
        if kind is not None:
            yield Block(start, at, kind, path.path)
        start, kind = at, begins or None
        if begins == "code" and mark:
            fence = mark["fence"]
        elif begins == "heading":
            path.enter(len(line) - len(line.lstrip("#")), heading_text(line.strip("# \t\r\n")))
            yield Block(at, after, "heading", path.path)
            kind = None
    if kind is not None:
        yield Block(start, lines[-1], kind, path.path)


def _begins(
    line: str, fence: re.Match[str] | None, kind: BlockKind | None, size: int
) -> BlockKind | Literal[""] | None:
    """What begins with a line: a block of some kind, "" for nothing after a blank line, None for no new block."""
    if line.isspace():
        return None if kind in ("list", None) else ""
    if fence:
        return "code"
    if _HEADING.match(line):
        return "heading"
    if _ITEM.match(line):
        # small items stand together, as they will in a chunk
        return None if kind == "list" and size < _SMALL_LIST else "list"
    return "paragraph" if kind is None else None


def _window_blocks(text: str, lines: list[int], tokens: Sequence[Token], path: HeadingPath) -> Iterator[Block]:
    last = len(lines) - 1

    def span(token: Token) -> tuple[int, int]:
        first, end = token.map or (0, 0)
        return lines[min(first, last)], lines[min(end, last)]

    for index, token in enumerate(tokens):
        if token.map is None:
            continue
        if token.type == "list_item_open" and token.level == 1:
            start, end = span(token)
            yield Block(start, end, "list", path.path)
        elif token.level == 0 and (kind := _KINDS.get(token.type)):
            start, end = span(token)
            if kind == "heading":
                path.enter(int(token.tag[1]), heading_text(tokens[index + 1].content))
            elif token.type == "paragraph_open" and _is_table(text, start, end):
                kind = "table"
            yield Block(start, end, kind, path.path)


def _is_table(text: str, start: int, end: int) -> bool:
    first = _LINE.match(text, start, end)
    if first is None or "|" not in first.group():
        return False
    second = _LINE.match(text, first.end(), end)
    return second is not None and "-" in second.group() and _TABLE_RULE.issuperset(second.group())
