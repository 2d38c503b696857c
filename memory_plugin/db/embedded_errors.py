"""What the file system and PostgreSQL's programs say, in the words of this library's errors."""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

from memory_plugin.errors import EmbeddedDatabaseError, StorageFullError

__all__ = ["full_disk", "resolved", "telling_line", "translated"]


def resolved(path: Path) -> Path:
    """The path without links and `~`. Raises EmbeddedDatabaseError where it leads nowhere or breaks a line."""
    if any(ord(letter) < 32 for letter in str(path)):
        raise EmbeddedDatabaseError(f"PostgreSQL cannot work in {str(path)!r}: choose a name without line breaks.")
    try:
        return path.expanduser().resolve()
    except (OSError, RuntimeError) as error:
        raise EmbeddedDatabaseError(f"{path} leads nowhere ({error}): choose another data directory.") from error


@contextlib.contextmanager
def translated(data_dir: Path, what: str) -> Iterator[None]:
    """Turn an OSError of the block into StorageFullError or EmbeddedDatabaseError; `what` says what failed."""
    try:
        yield
    except OSError as error:
        where, reason = error.filename or data_dir, error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(full_disk(data_dir, reason)) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text = f"{where} may not be used ({reason}): choose another directory or change its permissions."
        elif error.errno in (errno.EEXIST, errno.ENOTDIR):
            text = f"{where} is a file or lies inside one: choose a directory for the data."
        else:
            text = f"The PostgreSQL in {data_dir} {what} ({where}: {reason}): choose another data directory."
        raise EmbeddedDatabaseError(text) from error


def full_disk(data_dir: Path, reason: str) -> str:
    """The sentence of a StorageFullError."""
    return f"The disk that holds {data_dir} is full ({reason}): free some space and try again."


def telling_line(output: str) -> str:
    """The line that says why, without time and process id, with the detail that follows it."""
    prefix = r"^(\d{4}-\S+ \S+ \w+ \[\d+\]|initdb:|pg_ctl:) *"
    lines = [re.sub(prefix, "", line).strip().rstrip(".") for line in output.splitlines() if line.strip()]
    last = max((i for i, line in enumerate(lines) if re.match("FATAL|PANIC|error:", line)), default=None)
    if last is None:
        return next((line for line in reversed(lines) if line != "Examine the log output"), "no reason given")
    detail = [line for line in lines[last + 1 : last + 2] if re.match("DETAIL|HINT|hint", line)]
    return re.sub(r"\b(FATAL|PANIC|DETAIL|HINT|error|hint): *", "", "; ".join([lines[last], *detail]))
