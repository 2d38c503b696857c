"""HTML: the words a reader sees, with headings, lists, code and tables as blocks."""

from __future__ import annotations

import re
from collections.abc import Sequence

from memory_plugin.chunking import BlockKind
from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import Extract, HeadingPath, LineCounter, ParseLimits, TextWriter, label
from memory_plugin.parsers.html_tokens import attributes, tokens
from memory_plugin.parsers.tabular import Row, write_table

_HIDDEN = frozenset({"script", "style", "template", "noscript", "svg", "iframe", "object", "canvas", "audio", "video"})
_AROUND = frozenset({"nav", "footer", "select", "button"})  # what surrounds the text of a page
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_LISTS = frozenset({"ul", "ol", "menu"})
_BLOCKS = (
    _HEADINGS
    | _LISTS
    | {"body", "center", "form", "head", "hr", "html", "legend", "fieldset", "optgroup", "option", "p", "pre"}
    | {"address", "article", "aside", "blockquote", "div", "details", "dialog", "header", "main", "section", "summary"}
    | {"caption", "dd", "dl", "dt", "figcaption", "figure", "tbody", "tfoot", "thead"}
)
_SPACES = re.compile(r"[ \t\r\n\f\xa0]+")
_PERMALINK = "¶§#🔗"
_MAIN = re.compile(r"<main[\s>]", re.IGNORECASE)
_ENOUGH = 40  # characters in <main> that make it the page


def parse_html(text: str, *, name: str, limits: ParseLimits) -> Extract:
    """The text of a page, its `<main>` part where there is one; scripts and navigation are left out.

    Raises:
        DocumentError: the page shows no text.
    """
    page: _Page | None = None
    attempts = [(True, _HIDDEN | _AROUND)] if _MAIN.search(text) else []
    attempts += [(False, _HIDDEN | _AROUND), (False, _HIDDEN)]
    for only_main, hidden in attempts:
        page = _Page(name, limits, only_main, hidden, LineCounter(text))
        page.read(text)
        if len(page.writer.text) >= (_ENOUGH if only_main else 1):
            return Extract(page.writer.text, page.writer.blocks, "text/html", title=page.title or page.heading)
    raise DocumentError(f"'{label(name)}' shows no text; a page built by scripts must be saved as it looks.", name=name)


class _Page:
    """Turns the stream of tags into blocks."""

    def __init__(
        self, name: str, limits: ParseLimits, only_main: bool, hidden: frozenset[str], lines: LineCounter
    ) -> None:
        self.writer = TextWriter(name, limits)
        self.title = self.heading = ""
        self.hidden = hidden
        self.muted: tuple[str, int] | None = None  # the hidden element we are in, and how deep in its like
        self.main_depth = 0 if only_main else 1
        self.path = HeadingPath()
        self.lines = lines
        self.at = 0  # offset of the tag or text at hand
        self.buffer: list[str] = []
        self.line: int | None = None  # where the words in the buffer begin
        self.kind: BlockKind = "paragraph"
        self.lists: list[int | None] = []  # the next number of each open list, None for bullets
        self.prefix = ""
        self.in_title = False
        self.preformatted = 0
        self.rows: list[Row] = []
        self.cells: list[str] | None = None
        self.header_cells = 0
        self.header_cell = False
        self.row_line: int | None = None

    def read(self, text: str) -> None:
        for kind, name, value, self.at in tokens(text):
            if kind == "text":
                self.words(value)
            elif self.muted is not None:
                self.mute(kind == "start", name)
            elif kind == "start":
                self.start(name, value)
            else:
                self.end(name)
        self.flush()
        self.end_table()

    def mute(self, opening: bool, name: str) -> None:
        hidden, depth = self.muted or ("", 0)
        if name == hidden:
            depth += 1 if opening else -1
            self.muted = (hidden, depth) if depth else None

    def words(self, value: str) -> None:
        if self.in_title:
            self.title = self.title or label(value)
        elif self.muted is None and self.main_depth > 0:
            if self.line is None and (visible := value.lstrip()):
                self.line = self.lines.at(self.at + len(value) - len(visible))
            self.buffer.append(value if self.preformatted else _SPACES.sub(" ", value))

    def start(self, name: str, source: str) -> None:
        if name in self.hidden or self.is_hidden(name, source):
            if name not in _VOID and not source.endswith("/"):
                self.muted = (name, 1)
        elif name in ("table", "tr", "td", "th"):
            self.start_cells(name)
        elif name == "li":
            self.item()
        elif name == "br":
            self.buffer.append("\n")
        elif name == "img":
            self.words(attributes(source).get("alt", ""))
        elif name == "title":
            self.in_title = True
        elif name in _BLOCKS:
            self.start_block(name)

    def start_block(self, name: str) -> None:
        self.block()
        if name in _HEADINGS:
            self.kind = "heading"
        elif name in _LISTS:
            self.lists.append(1 if name == "ol" else None)
        elif name == "pre":
            self.kind = "code"
            self.preformatted += 1
        elif name == "main":
            self.main_depth += 1

    def end(self, name: str) -> None:
        if name in _HEADINGS:
            self.end_heading(int(name[1]))
        elif name in ("td", "th"):
            self.end_cell(header=name == "th")
        elif name in ("tr", "table"):
            self.end_row()
            if name == "table":
                self.end_table()
        elif name == "title":
            self.in_title = False
        elif name == "li" or name in _BLOCKS:
            self.end_block(name)

    def end_block(self, name: str) -> None:
        self.block()
        if name in _LISTS and self.lists:
            self.lists.pop()
        elif name == "pre":
            self.preformatted = max(0, self.preformatted - 1)
        elif name == "main":
            self.main_depth -= 1

    def is_hidden(self, name: str, source: str) -> bool:
        if "hidden" not in source or name in _VOID or name in ("html", "body", "main"):
            return False
        found = attributes(source)
        return ("hidden" in found and found["hidden"] != "until-found") or found.get("aria-hidden") == "true"

    def block(self) -> None:
        """End the block at hand; inside a table cell a block is only a space."""
        if self.cells is not None:
            self.buffer.append(" ")
        else:
            self.flush()

    def flush(self) -> None:
        if self.buffer:
            line = self.line
            text = self.taken()
            if text:
                self.end_table()
                kind: BlockKind = "list" if self.prefix and self.kind == "paragraph" else self.kind
                self.writer.add(self.prefix + text, kind, heading_path=self.path.path, line=line)
                self.prefix = ""
        self.kind = "paragraph"

    def taken(self) -> str:
        """The words collected so far, and nothing collected any more."""
        text = "".join(self.buffer)
        self.drop()
        if self.preformatted:
            return text.strip("\r\n").rstrip()
        return "\n".join(line.strip() for line in re.sub(" {2,}", " ", text).split("\n")).strip()

    def drop(self) -> None:
        """Forget the words collected so far."""
        self.buffer.clear()
        self.line = None

    def item(self) -> None:
        self.block()
        depth = max(0, len(self.lists) - 1)
        number = self.lists[-1] if self.lists else None
        if number is not None:
            self.lists[-1] = number + 1
        if self.cells is None:
            self.prefix = "  " * min(depth, 10) + ("- " if number is None else f"{number}. ")

    def end_heading(self, level: int) -> None:
        if self.cells is not None:
            self.buffer.append(" ")
            return
        line = self.line
        text = _without_permalink(self.taken()).replace("\n", " ")
        self.kind = "paragraph"
        if text:
            self.end_table()
            self.prefix = ""
            self.heading = self.heading or label(text)
            self.path.enter(level, text)
            self.writer.add(text, "heading", heading_path=self.path.path, line=line)

    # -------------------------------------------------------------- tables

    def start_cells(self, name: str) -> None:
        if name == "table":
            if self.cells is not None:  # a table in a cell: the page is laid out with tables
                self.end_row()
            self.flush()
        elif name == "tr":
            self.end_row()
        else:
            if self.cells is None:
                self.flush()
                self.cells, self.header_cells, self.row_line = [], 0, self.lines.at(self.at)
            elif "".join(self.buffer).strip():  # the cell before was not closed
                self.end_cell(self.header_cell)
            self.drop()
            self.header_cell = name == "th"

    def end_cell(self, header: bool) -> None:
        if self.cells is not None:
            self.cells.append(self.taken().replace("\n", " "))
            self.header_cells += header

    def end_row(self) -> None:
        if self.cells is None:
            return
        if "".join(self.buffer).strip():
            self.end_cell(self.header_cell)
        self.drop()
        cells, self.cells = self.cells, None
        if any(cells):
            if len(cells) == 1:
                self.end_table()
                self.writer.add(cells[0], heading_path=self.path.path, line=self.row_line)
            else:
                self.rows.append((self.row_line, cells))
                if len(self.rows) == 1 and self.header_cells < len(cells):
                    self.header_cells = 0
                    self.rows.insert(0, (None, ()))  # the table has no header

    def end_table(self) -> None:
        """Write the rows read so far; the first is the header, empty where there is none."""
        if not self.rows:
            return
        rows: Sequence[Row] = self.rows
        self.rows = []
        header_line, header = rows[0]
        write_table(self.writer, list(header) or None, iter(rows[1:]), self.path.path, line=header_line)


def _without_permalink(heading: str) -> str:
    """The heading without the sign that a link to itself has; a pattern would take the square of its length."""
    end = len(heading)
    while end and (heading[end - 1].isspace() or heading[end - 1] in _PERMALINK):
        end -= 1
    return heading[:end]
