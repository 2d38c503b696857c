"""CSV and other tables: rows in groups, each group with the header above it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice

from memory_plugin.chunking import count_tokens
from memory_plugin.errors import DocumentError
from memory_plugin.parsers.base import Extract, ParseLimits, TextWriter, label

_DELIMITERS = "\t;|,"
_SAMPLE = 20_000
_TOLD = re.compile(r'"?sep=(?P<delimiter>[,;|\t])"?[ \t]*(?:\r\n|\n|\r)', re.IGNORECASE)
_QUOTED = re.compile(r'"[^"]*"')
_NUMBER = re.compile(r"[-+]?[\d\s.,:/%€$£]+$")
_SPACES = re.compile(r"\s+")

# tokens of rows in one group, and of a row that may still stand on a line: each row is about something of its own,
# so fewer go together than prose has in a passage
_ROWS = 220
_LONG_ROW = 290

Row = tuple[int | None, Sequence[str]]  # the line it begins at, and its cells


def parse_csv(text: str, *, name: str, limits: ParseLimits, delimiter: str | None = None) -> Extract:
    """A table with `column | column` rows; a row too long for its header becomes `column: value` lines.

    The delimiter is the one that a first line `sep=;` names, as spreadsheets write it, or found by how evenly it
    divides the first lines. The first row is the header unless one of its cells is empty, a number or there twice.

    Raises:
        DocumentError: the quoting is broken.
    """
    told = _TOLD.match(text)
    delimiter = told["delimiter"] if told else delimiter or _find_delimiter(text)
    rows = _rows(text, name, delimiter)
    first = next(rows, None) if told is None else next(islice(rows, 1, None), None)
    if first is None:
        raise DocumentError(f"'{label(name)}' has no rows.", name=name)
    writer = TextWriter(name, limits)
    header = _header(first[1])
    write_table(writer, header, rows if header else _chain(first, rows), line=first[0])
    media_type = "text/tab-separated-values" if delimiter == "\t" else "text/csv"
    return Extract(writer.text, writer.blocks, media_type, metadata={"columns": header or []})


def write_table(
    writer: TextWriter,
    header: Sequence[str] | None,
    rows: Iterator[Row],
    heading_path: Sequence[str] = (),
    *,
    line: int | None = None,
) -> None:
    """Write rows in blocks of about a chunk's size, each with the header above it, which is at `line`."""
    head = " | ".join(map(_cell, header)) if header else ""
    head_tokens = count_tokens(head) + 1 if head else 0
    group: list[str] = []
    tokens, first_line = head_tokens, None

    def flush() -> None:
        nonlocal tokens
        if group:
            text = "\n".join([head, *group] if head else group)
            writer.add(text, "table", heading_path=heading_path, line=first_line)
        group.clear()
        tokens = head_tokens

    empty = True
    for row_line, cells in rows:
        row = " | ".join(map(_cell, cells))
        if not row.strip(" |"):
            continue
        empty = False
        size = count_tokens(row) + 1
        if header and head_tokens + size > _LONG_ROW:
            flush()
            first = next(filter(None, map(label, cells)), "")
            writer.add(_record(header, cells), "record", heading_path=(*heading_path, first), line=row_line)
            continue
        if tokens + size > _ROWS:
            flush()
        if not group:
            first_line = row_line
        group.append(row)
        tokens += size
    flush()
    if empty and head:
        writer.add(head, "table", heading_path=heading_path, line=line)


def _record(header: Sequence[str], cells: Sequence[str]) -> str:
    lines = []
    for number, value in enumerate(cells):
        column = _cell(header[number]) if number < len(header) else f"column {number + 1}"
        if value.strip():
            lines.append(f"{column}: {value.strip()}")
    return "\n".join(lines)


def _cell(value: str) -> str:
    return _SPACES.sub(" ", value).strip()


def _header(cells: Sequence[str]) -> list[str] | None:
    names = [_cell(cell) for cell in cells]
    usable = all(names) and len(set(names)) == len(names) and not any(map(_NUMBER.match, names))
    return names if usable else None


def _rows(text: str, name: str, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DocumentError(
            f"'{label(name)}' is not a readable table: {error} (line {reader.line_num}).", name=name
        ) from error


def _chain(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def _find_delimiter(text: str) -> str:
    """The delimiter that is there equally often in most lines; among equals the one rarest in prose."""
    sample = [_QUOTED.sub("", line) for line in text[:_SAMPLE].splitlines()[:20] if line.strip()]
    if len(sample) > 1 and len(text) > _SAMPLE:
        sample.pop()  # cut in the middle

    def even_lines(delimiter: str) -> int:
        counts = [line.count(delimiter) for line in sample]
        return max((counts.count(number) for number in set(counts) if number), default=0)

    return max(_DELIMITERS, key=even_lines) if any(map(even_lines, _DELIMITERS)) else ","
