"""Finding and reading the files that become reference documents.

Nothing here touches the database; everything blocks, so it is called in a worker thread.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.capabilities.reference_parts import parts_of
from memory_plugin.errors import ContentTooLargeError, DocumentError, InvalidInputError

if TYPE_CHECKING:
    from memory_plugin.parsers import PageText

MAX_BYTES = 128 * 1024 * 1024
"""Size a document may have."""

UNTITLED = "Untitled"
"""The name of a document that came with none, and the title that parsers give it then."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+://")

PathLike = str | os.PathLike[str]


@dataclass(slots=True)
class Content:
    """A document as it came, what it is called, and where it is from.

    `source` tells the document from all others of its collection and stays the same through its
    versions; `digest` is the SHA-256 of the bytes, of a text those of its UTF-8. `pages` is what a
    document loader gave, instead of data. `media_type` is what the place it was fetched from declared.
    `parts` are the other files of an API description, which the digest is of as well; `notices` say what was
    read of them.
    """

    data: bytes | str
    name: str
    source: str
    digest: bytes
    pages: Sequence[PageText] | None = None
    media_type: str | None = None
    parts: Mapping[str, bytes] = field(default_factory=dict)
    notices: Sequence[str] = ()

    def forget_data(self) -> None:
        """Let the bytes go, once the text is read from them."""
        self.data, self.parts = b"", {}


@dataclass(slots=True)
class Found:
    """The files and URLs that were found, each once, and what was named but gave none, with the reason.

    `named` are those of the files that were named themselves, links resolved.
    """

    files: list[Path] = field(default_factory=list)
    named: set[Path] = field(default_factory=set)
    urls: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)


def is_url(value: object) -> bool:
    """Whether the value names a place on a network, in whatever scheme."""
    return isinstance(value, str) and _URL.match(value) is not None


def path_text(path: PathLike) -> str:
    """The path as text the store can hold; bytes of a name that are no text are written in hexadecimal."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


def in_memory(data: bytes | str, *, source: str | None) -> Content:
    """Content that needs no reading; without a source given it is known by what it is.

    Raises:
        ContentTooLargeError: over MAX_BYTES.
    """
    raw, kind = (data.encode(), "text") if isinstance(data, str) else (data, "data")
    name = source or UNTITLED
    _check_size(name, len(raw))
    digest = hashlib.sha256(raw)
    return Content(data, name, source or f"{kind}:{digest.hexdigest()[:32]}", digest.digest())


def read_file(path: PathLike, source: str | None = None) -> Content:
    """Read a file, and the others of an API description; without a source it is known by its absolute path.

    Links in that path are resolved.

    Raises:
        DocumentError: missing, not a regular file, or not readable.
        ContentTooLargeError: over MAX_BYTES, or a description in too many files.
    """
    try:
        name = path_text(path)
        resolved = Path(path).expanduser().resolve()
        found = resolved.stat()
        if stat.S_ISDIR(found.st_mode):
            raise DocumentError(f"{name!r} is a folder: add its files with add_many.", name=name)
        if not stat.S_ISREG(found.st_mode):
            raise DocumentError(f"{name!r} is not a regular file: only files can be added.", name=name)
        _check_size(name, found.st_size)
        with resolved.open("rb") as file:
            data = file.read(MAX_BYTES + 1)  # it may have grown since
    except FileNotFoundError as error:
        raise DocumentError(
            f"There is no file {name[:200]!r}: check the path, or pass a text as text=.", name=name[:200]
        ) from error
    # ValueError: a NUL in the path; RuntimeError: a loop of links, or no home directory for ~
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, InvalidInputError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise DocumentError(f"{name[:200]!r} cannot be read: {reason}.", name=name[:200]) from error
    _check_size(name, len(data))
    parts = parts_of(resolved, data)
    return Content(
        data,
        path_text(resolved.name),
        source or path_text(resolved),
        parts.digest(hashlib.sha256(data).digest()),
        parts=parts.data,
        notices=parts.notices,
    )


def _check_size(name: str, size: int) -> None:
    if size > MAX_BYTES:
        raise ContentTooLargeError(
            f"{name[:200]!r} is larger than the {MAX_BYTES // 1024**2} MiB a document may have: "
            "split it; nothing was written."
        )


def find_files(paths: Iterable[PathLike] | PathLike, extensions: Collection[str]) -> Found:
    """The files named by paths, folders (with all below them) and glob patterns, in a stable order.

    In folders and patterns hidden files and files of other kinds are passed over. Links are
    followed as long as they stay inside of the folder that was named, since whoever filled it may
    have put links to anything there; a folder is entered once, so that links in a circle end.

    Args:
        extensions: of the files that are taken from folders, in lower case with the dot.
    """
    search = _Search(extensions)
    for path in (paths,) if isinstance(paths, str | os.PathLike) else paths:
        search.add(path)
    return search.found


class _Search:
    def __init__(self, extensions: Collection[str]) -> None:
        self.found = Found()
        self._extensions = extensions
        self._files: set[Path] = set()
        self._folders: set[tuple[int, int]] = set()
        self._repeated = False

    def add(self, path: PathLike) -> None:
        """Take what one argument names."""
        name = str(path)
        try:
            if is_url(path):
                if name not in self.found.urls:
                    self.found.urls.append(name)
                return
            place = Path(path).expanduser()
            if place.is_dir():
                self._take_all(name, place, self._walk(place))
            elif glob.has_magic(name) and not place.exists():
                self._take_all(name, _fixed_part(place), self._matches(place))
            else:
                self.found.named.add(self._take(place))  # whatever is wrong with it, reading it will say
        except (InvalidInputError, OSError, ValueError, RuntimeError, TypeError) as error:
            self._problem(name, str(error))

    def _take_all(self, name: str, folder: Path, files: Iterator[Path]) -> None:
        count, self._repeated = 0, False
        inside = folder.resolve()
        for file in files:
            known = file.suffix.lower() in self._extensions
            if known and file.is_file():
                count += 1
                if file.resolve().is_relative_to(inside):
                    self._take(file)
                else:
                    self._problem(str(file), "The link leads out of the folder: name its target itself to add it.")
            elif file.is_symlink() and (reason := _dead_link(file, known)):
                self._problem(str(file), reason)
        if not count and not self._repeated:
            self._problem(name, "Nothing here is a document of a known kind: check the path, or name the file itself.")

    def _take(self, file: Path) -> Path:
        resolved = file.resolve()
        if resolved not in self._files:
            self._files.add(resolved)
            self.found.files.append(file)
        return resolved

    def _matches(self, pattern: Path) -> Iterator[Path]:
        # pathlib, because the glob module follows links in a circle as long as the system lets it
        base = _fixed_part(pattern)
        rest = pattern.parts[len(base.parts) :]
        show_hidden = any(part.startswith(".") for part in rest)
        for match in sorted(base.glob(str(Path(*rest)))):
            hidden = any(part.startswith(".") for part in match.relative_to(base).parts)
            if hidden and not show_hidden:
                continue
            if match.is_dir():
                yield from self._walk(match)
            else:
                yield match

    def _walk(self, folder: Path) -> Iterator[Path]:
        for root, folders, files in os.walk(folder, onerror=self._unreadable, followlinks=True):
            if not self._enter(root):
                if _leads_back(root):
                    self._problem(root, "The link leads back to a folder that it is in: it was not followed.")
                folders.clear()
                continue
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            yield from (Path(root, name) for name in sorted(files) if not name.startswith("."))

    def _enter(self, folder: str) -> bool:
        """Whether the folder is there and was not visited yet."""
        try:
            found = Path(folder).stat()
        except OSError:  # removed while we look
            return False
        identity = (found.st_dev, found.st_ino)
        if identity in self._folders:
            self._repeated = True
            return False
        self._folders.add(identity)
        return True

    def _unreadable(self, error: OSError) -> None:
        self._problem(str(error.filename), f"The folder cannot be read: {error.strerror}.")

    def _problem(self, name: str, reason: str) -> None:
        self.found.problems.append((path_text(name), reason))


def _fixed_part(pattern: Path) -> Path:
    """The folder that a pattern begins with, before its first wildcard."""
    known = next(place for place, part in enumerate(pattern.parts) if glob.has_magic(part))
    return Path(*pattern.parts[:known])


def _dead_link(file: Path, known: bool) -> str | None:
    """What is wrong with a link that is no file; None where it says nothing to whoever adds documents."""
    try:
        file.stat()
    except FileNotFoundError:
        return "The link leads to a file that is not there." if known else None
    except (OSError, RuntimeError):
        return "The link leads to itself, directly or through others: it was not followed."
    return None


def _leads_back(folder: str) -> bool:
    """Whether a folder is a link to one that it is in."""
    if not os.path.islink(folder):  # noqa: PTH114 - names that os.walk made
        return False
    parent = os.path.realpath(os.path.dirname(folder))  # noqa: PTH120 - likewise
    target = os.path.realpath(folder)
    return parent == target or parent.startswith(target.rstrip(os.sep) + os.sep)
