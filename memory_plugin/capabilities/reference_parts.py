"""API descriptions and JSON Schemas in more than one file: the others are read with the one that refers to them.

Only what lies below the folder of that file is read, of the same kinds, and never more than a document may have:
whoever wrote a description does not choose what is read from this machine. Everything here blocks.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from memory_plugin.errors import ContentTooLargeError
from memory_plugin.parsers.openapi_parts import target_of

MAX_PARTS = 2_000
"""Files that may be read with one document."""

MAX_TOGETHER = 32 * 1024 * 1024
"""Bytes that a document in several files may have."""

KINDS = frozenset({".json", ".yaml", ".yml"})
"""What a document in several files, and each of them, may be called."""

_BEGINNING = 64 * 1024
"""Bytes in which a description says that it is one."""

_NAMED = 3
"""References that a notice names."""

_DESCRIPTION = re.compile(rb"""(?:^|[{,\s])["']?(?:openapi|swagger|\$schema)["']?[ \t]*:""")
_API = re.compile(rb"""(?:^|[{,\s])["']?(?:openapi|swagger)["']?[ \t]*:""")
_REFERENCE = re.compile(
    rb"""["']?\$ref["']?\s*:\s*(?:[>|][+-]?[ \t]*\r?\n\s*)?(?:"([^"\r\n]+)"|'([^'\r\n]+)'|([^\s"'{\[,}\]][^\s,}\]]*))"""
)


@dataclass(slots=True)
class Parts:
    """The other files of a document, by the paths that lead to them from its folder, and what was not read and why."""

    data: dict[str, bytes] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all of them."""
        return sum(map(len, self.data.values()))

    def digest(self, own: bytes) -> bytes:
        """What the document is known by: its own digest where it has no other files, else one of all of them."""
        if not self.data:
            return own
        together = hashlib.sha256(own)
        for path, data in sorted(self.data.items()):
            together.update(hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest())
            together.update(hashlib.sha256(data).digest())
        return together.digest()

    @property
    def notices(self) -> list[str]:
        """What was read, and what was not, in one sentence for each reason."""
        count = len(self.data)
        read = [f"Read with {count:,} other {'file' if count == 1 else 'files'} that it refers to."] if count else []
        return read + [
            f"Not read, because {reason}: {_listed([each for each, why in self.left_out.items() if why == reason])}."
            for reason in dict.fromkeys(self.left_out.values())
        ]


def parts_of(document: Path | None, data: bytes | str) -> Parts:
    """Read the files that a document refers to, and those that they refer to.

    Args:
        document: its absolute path, links resolved; None where it is no file, so that nothing is read.

    Raises:
        ContentTooLargeError: they are too many, or too large.
    """
    parts = Parts()
    raw = data if isinstance(data, bytes) else data.encode() if "$ref" in data else b""
    if (document is not None and document.suffix.lower() not in KINDS) or b"$ref" not in raw:
        return parts
    if len(raw) > MAX_TOGETHER or not _DESCRIPTION.search(raw):
        return parts
    name = document.name if document is not None else ""
    waiting, size = [(name, raw)], len(raw)
    while waiting:
        file, text = waiting.pop()
        for reference in _references(text):
            target = target_of(reference, file)
            if target is None:
                parts.left_out[_shown(reference)] = "only files are read"
            elif target[0] != name and target[0] not in parts.data and target[0] not in parts.left_out:
                found = _part(document, target[0], parts)
                if found is None:
                    continue
                size += len(found)
                if len(parts.data) > MAX_PARTS or size > MAX_TOGETHER:
                    raise ContentTooLargeError(
                        f"{name!r} refers to more than {MAX_PARTS:,} files or {MAX_TOGETHER // 1024**2} MiB: split it, "
                        "or bundle what is needed of it into one file."
                    )
                waiting.append((target[0], found))
    return parts


def _references(data: bytes) -> Iterator[str]:
    """The references of a file that lead out of it."""
    for match in _REFERENCE.finditer(data):
        reference = next(each for each in match.groups() if each).decode("utf-8", "replace").replace("\\/", "/")
        if not reference.startswith("#"):
            yield reference


def _part(document: Path | None, path: str, parts: Parts) -> bytes | None:
    """Read one of the files; why it is not read is noted."""
    reason = "only a document that is a file itself has other files"
    if document is not None:
        try:
            place = (document.parent / path).resolve()
            reason = _refused(place, document.parent)
            if not reason:
                with place.open("rb") as file:
                    data = file.read(MAX_TOGETHER + 1)
                parts.data[path] = data
                parts.files.append(place)
                return data
        except FileNotFoundError:
            reason = "there is no such file"
        except (OSError, ValueError, RuntimeError) as error:  # as `read_file` knows them
            reason = f"it cannot be read ({getattr(error, 'strerror', None) or error})"
    parts.left_out[_shown(path)] = reason
    return None


def _refused(place: Path, folder: Path) -> str:
    """Why a file is none of those that are read; empty where it is."""
    if not place.is_relative_to(folder):
        return "it is not below the folder of the document"
    if place.suffix.lower() not in KINDS or any(part.startswith(".") for part in place.relative_to(folder).parts):
        return "only JSON and YAML files that are not hidden are read"
    return "" if stat.S_ISREG(place.stat().st_mode) else "it is not a regular file"


def _shown(reference: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in reference[:200])


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(map(repr, names[:_NAMED])) + (f" and {more} more" if more > 0 else "")


@dataclass(slots=True)
class Bundles:
    """API descriptions in several files: the bytes of the others of each, and those that are no documents alone."""

    sizes: dict[Path, int] = field(default_factory=dict)
    fragments: set[Path] = field(default_factory=set)


def bundles_among(files: Iterable[Path]) -> Bundles:
    """What of these files is part of an API description among them.

    Only files that may be descriptions are looked into. One that is too large, or cannot be read, counts as one
    file: adding it says what is wrong.
    """
    bundles = Bundles()
    for file in files:
        if file.suffix.lower() not in KINDS:
            continue
        try:
            with file.open("rb") as opened:
                data = opened.read(_BEGINNING)
                if not _API.search(data):
                    continue
                data += opened.read(MAX_TOGETHER)
            parts = parts_of(file.resolve(), data)
        except (OSError, ValueError, RuntimeError, ContentTooLargeError):
            continue
        bundles.sizes[file] = parts.size
        bundles.fragments.update(
            place for place, part in zip(parts.files, parts.data.values(), strict=True) if not _is_whole(part)
        )
    return bundles


def _is_whole(data: bytes) -> bool:
    """Whether a file says that it is a description or a schema, and so is a document by itself."""
    return _DESCRIPTION.search(data[:_BEGINNING]) is not None
