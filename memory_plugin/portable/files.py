"""Records in files: JSON Lines, plain or compressed, and exports that go on where they were broken off."""

from __future__ import annotations

import contextlib
import gzip
import io
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

import orjson

from memory_plugin.errors import DocumentError, InvalidInputError
from memory_plugin.portable.tables import header

LONGEST_LINE = 256 * 1024 * 1024
"""Bytes a line may have: more than PostgreSQL takes in one value."""


class Exporting(Protocol):
    """A store that gives its records."""

    def export(
        self, *, user_id: str | None = None, checkpoints: bool = False, after: Mapping[str, Any] | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """The records."""


def read_lines(path: str) -> Iterator[Any]:
    """The value of each line of a file, or the error that says why it is no JSON; `-` is standard input.

    Raises:
        DocumentError: the file cannot be read.
    """
    try:
        with _opened(path) as file:
            while line := file.readline(LONGEST_LINE):
                if line.strip():
                    yield _value(line)
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DocumentError:
    return DocumentError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", name=path)


def _opened(path: str) -> IO[bytes]:
    if path == "-":
        return io.BufferedReader(io.FileIO(sys.stdin.fileno(), closefd=False))
    return gzip.open(path) if path.endswith(".gz") else Path(path).open("rb")  # type: ignore[return-value]


def _value(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return ValueError(f"this line is no JSON: {error}")


def read_document(path: str) -> Iterator[Any]:
    """As `read_lines`, where the file may also be one JSON document: its list, or the list in it.

    Raises:
        DocumentError: the file cannot be read.
    """
    try:
        with _opened(path) as file:
            text = file.read()
    except (OSError, EOFError) as error:
        raise _unreadable(path, error) from error
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        yield from (_value(line) for line in text.splitlines() if line.strip())
        return
    if isinstance(document, Mapping):
        lists = [document[name] for name in ("results", "memories", "data") if isinstance(document.get(name), list)]
        document = lists[0] if lists else [document]
    yield from document if isinstance(document, list) else [document]


async def write_export(
    store: Exporting,
    path: str,
    *,
    user_id: str | None = None,
    checkpoints: bool = False,
    resume: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> int:
    """Write an export to a file; how many records were written now. `-` is standard output.

    The file has its name only when it is whole; until then `.part` is behind it.

    Args:
        resume: go on with such a part, where there is one; a compressed one begins anew.

    Raises:
        InvalidInputError: the part is of another export.
        DocumentError: the file cannot be written.
    """
    part = Path(f"{path}.part")
    after = None
    if resume and path != "-" and not path.endswith(".gz"):
        after = _last_record(part, header(user_id, checkpoints=checkpoints))
    written = 0
    try:
        records = store.export(user_id=user_id, checkpoints=checkpoints, after=after)
        with _target(path, part, more=after is not None) as file:
            async with contextlib.aclosing(records):
                async for record in records:
                    file.write(orjson.dumps(record) + b"\n")
                    written += 1
                    if on_progress is not None and written % 100 == 0:
                        on_progress(written)
            file.flush()
        if path != "-":
            _finish(part, path)
    except OSError as error:
        raise DocumentError(f"{path} cannot be written: {error.strerror or error}.", name=path) from error
    return written


def _target(path: str, part: Path, *, more: bool) -> IO[bytes]:
    if path == "-":
        return io.BufferedWriter(io.FileIO(sys.stdout.fileno(), "wb", closefd=False))
    if path.endswith(".gz"):  # without a time in it: the same records are the same file
        return gzip.GzipFile(part, "wb", mtime=0)  # type: ignore[return-value]
    return part.open("ab" if more else "wb")


def _finish(part: Path, path: str) -> None:
    part.replace(path)


def _last_record(part: Path, begins: Mapping[str, Any]) -> dict[str, Any] | None:
    """The last whole record of a part, with what follows it cut off; None where there is none.

    Raises:
        InvalidInputError: it begins with another header.
    """
    if not part.exists():
        return None
    with part.open("r+b") as file:
        first = file.readline()
        if not first.endswith(b"\n"):
            return None
        if _value(first) != begins:
            raise InvalidInputError(f"{part} is a part of another export: remove it, or leave --resume out.")
        last, end = 0, file.tell()
        while line := file.readline():
            if line.endswith(b"\n") and not isinstance(_value(line), ValueError):
                last, end = end, file.tell()
        file.truncate(end)
        file.seek(last)
        record: dict[str, Any] = orjson.loads(file.readline())
        if record.get("kind") == "end":  # it was whole, and only its name was missing
            file.truncate(last)
            return _last_record(part, begins)
        return record
