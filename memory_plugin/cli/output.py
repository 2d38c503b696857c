"""What a command prints: the result on standard output, everything else on standard error.

As text the result is for a person, as JSON it is one document for a program. Stored text is shown
without control characters, so that nothing that was stored can steer the terminal.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PIPE_WIDTH = 140
"""Characters in a line where no terminal says how wide it is, and COLUMNS does not either."""

_GAP = 2
"""Characters between two columns."""

# control characters but tab and line feed, direction overrides, and halves of surrogate pairs
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Column:
    """How a column of a table looks.

    Its cells are broken into lines of at least `least` characters; never when it is `fixed`. Where
    that does not fit, each row becomes a paragraph.
    """

    title: str
    fixed: bool = False
    least: int = 24
    right: bool = False
    style: str = ""


class Output:
    """Where a command's words go.

    Args:
        as_json: print results as JSON.
        quiet: print no notes and no progress; results and errors stay.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @cached_property
    def console(self) -> Console:
        """Standard output, for results as text."""
        return _console(sys.stdout)

    @cached_property
    def aside(self) -> Console:
        """Standard error, for notes and progress."""
        return _console(sys.stderr)

    @property
    def shows_progress(self) -> bool:
        """Whether a person is watching who wants to see how far it is."""
        return self.aside.is_terminal and not self.quiet

    def result(self, document: Mapping[str, Any], show: Callable[[], None]) -> None:
        """Print what the command is for: the document as JSON, or as text whatever `show` prints."""
        if self.as_json:
            self.raw(json_text(document, sys.stdout))
        else:
            show()

    def raw(self, text: str) -> None:
        """Print text on standard output as it is, with a line feed at its end."""
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()

    def line(self, text: str = "", style: str = "", *, whole: bool = False) -> None:
        """Print text on standard output, wrapped to its width, or whole where parts of it are to be copied."""
        self.console.print(visible(text), style=style, soft_wrap=whole)

    def note(self, text: str) -> None:
        """Say something by the way on standard error."""
        if not self.quiet:
            self.aside.print(visible(text))

    @contextmanager
    def busy(self, doing: str) -> Iterator[Callable[[str], None]]:
        """Tell a person who watches that something takes its time, and with what is yielded how far it is."""
        if self.shows_progress:
            with self.aside.status(f"{doing} ...") as status:
                yield lambda state: status.update(f"{doing} ... {state}")
        else:
            yield _say_nothing

    def warn(self, text: str) -> None:
        """Say on standard error that something is not as it should be, also when quiet."""
        _say(f"Warning: {text}")

    def failure(self, kind: str, message: str, *, said: bool = False) -> None:
        """Say why the command failed: one line on standard error, and as JSON on standard output too.

        Args:
            kind: name of the error's class.
            said: a person has been told already.
        """
        sentence = " ".join(visible(message).split())
        if not said:
            _say(f"Error: {sentence}")
        if self.as_json:
            self.raw(json_text({"error": {"type": kind, "message": sentence}}, sys.stdout))

    def ask(self, question: str) -> bool:
        """A yes or no from standard input; no input at all is a no.

        Not `typer.confirm`, which writes a part of the question to standard output and takes Ctrl-C for a no.
        """
        sys.stderr.write(f"{visible(question)} [y/N] ")
        sys.stderr.flush()
        answer = sys.stdin.readline()
        if not answer.endswith("\n"):
            sys.stderr.write("\n")
        return answer.strip().lower() in {"y", "yes"}

    def table(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        """Print rows as a table, or one paragraph each where the table would not fit."""
        cells = [[visible(cell) for cell in row] for row in rows]
        widths = _widths(columns, cells, self.console.width)
        if widths is not None:
            self._grid(columns, cells, widths)
        else:
            self._paragraphs(columns, cells)

    def _grid(self, columns: Sequence[Column], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
        from rich import box
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, header_style="bold")
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                column.title,
                style=column.style,
                justify="right" if column.right else "left",
                no_wrap=column.fixed,
                width=width,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*row)
        self.console.print(table)

    def _paragraphs(self, columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
        from rich.text import Text

        for number, row in enumerate(rows):
            if number:
                self.console.print()
            for column, cell in zip(columns, row, strict=True):
                if cell:
                    self.console.print(Text.assemble((f"{column.title}: ", "bold"), (cell, column.style)))

    def facts(self, pairs: Iterable[tuple[str, str | None]]) -> None:
        """Print names and values under each other; those without a value are left out."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="bold", no_wrap=True)
        grid.add_column(overflow="fold")
        for name, value in pairs:
            if value:
                grid.add_row(name, visible(value))
        self.console.print(grid)

    def counts(self, rows: Mapping[str, int]) -> None:
        """Print how many rows of each table were touched."""
        touched = [(table, f"{number:,}") for table, number in rows.items() if number]
        self.table([Column("table", fixed=True), Column("rows", fixed=True, right=True)], touched)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    told = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        stderr=stream is sys.stderr, width=None if told else PIPE_WIDTH, markup=False, highlight=False, emoji=False
    )


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int) -> list[int] | None:
    """The width of each column, None where they do not fit; Rich would squeeze the ids that are to be copied."""
    from rich.cells import cell_len

    widths, wanting = [], []
    for place, column in enumerate(columns):
        lines = [line for row in rows for line in row[place].split("\n")]
        longest = max(map(cell_len, [column.title, *lines]))
        widths.append(longest if column.fixed else min(longest, column.least))
        wanting.append(longest - widths[-1])
    left = room - sum(widths) - _GAP * (len(widths) - 1)
    if left < 0:
        return None
    # what is left goes to those that want it, evenly
    hungry = sorted((place for place, want in enumerate(wanting) if want), key=lambda place: wanting[place])
    for served, place in enumerate(hungry):
        share = min(wanting[place], left // (len(hungry) - served))
        widths[place] += share
        left -= share
    return widths


def _say_nothing(_: str) -> None:
    """Where nobody watches."""


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def visible(text: str) -> str:
    """The text without what would steer a terminal: each such character becomes U+FFFD."""
    return _STEERING.sub("\ufffd", text.replace("\r\n", "\n"))


def when(at: datetime | None) -> str:
    """A time as a person reads it: in the time zone of this machine, to the minute."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: "1 row", "2,000 rows"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def clipped(text: str, length: int) -> str:
    """The text on one line, cut to a length."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"


def json_text(document: Mapping[str, Any], stream: TextIO) -> str:
    """The document as JSON; with escapes for what is not ASCII where the stream is not UTF-8."""
    is_utf8 = (stream.encoding or "").lower().replace("-", "").startswith("utf8")
    return json.dumps(plain(document), ensure_ascii=not is_utf8, indent=2, allow_nan=False)


def plain(value: Any) -> Any:
    """The value as JSON has it: times in ISO 8601, ids and paths as text, what JSON cannot hold as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case date():
            return value.isoformat()
        case Mapping():
            return {str(key): plain(part) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(part) for part in value]
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)
