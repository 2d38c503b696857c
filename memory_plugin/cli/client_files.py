"""Entries in the JSON files of other programs: everything else in them stays, and a copy of what was there."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from memory_plugin.errors import ConfigurationError

_BOM = b"\xef\xbb\xbf"
_MOST_BACKUPS = 1000
_LARGEST = 16 * 1024 * 1024
"""Bytes: no program keeps its list of servers in a larger file."""

# a string, or what JSON does not have: comments, and commas before the end of a list
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)
_INDENT = re.compile(r"\n([ \t]+)\S")


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a file.

    Attributes:
        action: `unchanged` where it said the same already.
        backup: the copy of what it said before; None where there was nothing.
    """

    path: Path
    action: Literal["created", "updated", "unchanged"]
    backup: Path | None = None


def merge(path: Path, wanted: Mapping[str, Any], *, force: bool = False, private: bool = False) -> Change:
    """Put the entries of `wanted` into a JSON file, and leave everything else as it is.

    Objects are gone into one level deep: `{"mcpServers": {"memory": ...}}` sets one server. Of a list,
    such as the `inputs` of VS Code, entries of the same `id` are the same. The file is replaced at once
    or not at all; what it said before stays beside it.

    Args:
        force: replace entries of these names that say something else.
        private: a file that is made is for its owner's eyes only; one that is there keeps its rights.

    Raises:
        ConfigurationError: the file cannot be read or written, is no JSON, or holds what would be lost.
    """
    path = Path(os.path.realpath(path))  # a link to a file kept elsewhere stays one
    before = _read(path)
    document = _parsed(before, path)
    merged = _merged(document, wanted, path, force=force)
    if before is not None and merged == document:
        return Change(path, "unchanged")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        backup = None if before is None else _back_up(path, before)
        _replace(path, _text(merged, before), before, private=private)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written ({error.strerror}): put the snippet there by hand, or name another by --file."
        ) from error
    return Change(path, "created" if before is None else "updated", backup)


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}): name another file by --file.") from error
    if len(content) > _LARGEST:
        raise ConfigurationError(f"{path} is too large to be a list of servers: name another file by --file.")
    return content


def _parsed(content: bytes | None, path: Path) -> dict[str, Any]:
    """What the file says; an empty one says nothing."""
    if content is None or not content.removeprefix(_BOM).strip():
        return {}
    try:
        text = content.removeprefix(_BOM).decode()
        document = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(_why_not(content, path)) from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is JSON, but no object: correct it, or name another file by --file.")
    return document


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("one name twice")  # writing it again would drop one of them
    return made


def _why_not(content: bytes, path: Path) -> str:
    text = content.decode(errors="replace").removeprefix("\ufeff")
    plain = _TOKENS.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)
    try:
        json.loads(plain, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError):
        return f"{path} is not valid JSON, or has a name twice: correct it, then run this again."
    return f"{path} has comments or trailing commas, which would be lost: paste the snippet into it by hand."


def _merged(document: dict[str, Any], wanted: Mapping[str, Any], path: Path, *, force: bool) -> dict[str, Any]:
    merged = dict(document)
    for section, entries in wanted.items():
        if isinstance(entries, list):
            there = merged.get(section, [])
            if not isinstance(there, list):
                raise ConfigurationError(f"{section!r} in {path} is no list: correct it, then run this again.")
            merged[section] = _merged_list(there, entries, path, force=force)
            continue
        there = merged.get(section, {})
        if not isinstance(there, dict):
            raise ConfigurationError(f"{section!r} in {path} is no object: correct it, then run this again.")
        for name, entry in entries.items():
            if name in there and there[name] != entry and not force:
                raise _other(name, path)
        merged[section] = {**there, **entries}
    return merged


def _merged_list(there: list[Any], entries: list[dict[str, Any]], path: Path, *, force: bool) -> list[Any]:
    merged = list(there)
    for entry in entries:
        same = [place for place, old in enumerate(merged) if isinstance(old, dict) and old.get("id") == entry["id"]]
        if not same:
            merged.append(entry)
        elif merged[same[0]] != entry:
            if not force:
                raise _other(str(entry["id"]), path)
            merged[same[0]] = entry
    return merged


def _other(name: str, path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"{path} has another {name!r} already: replace it with --force, or add one of another name with --name."
    )


def _text(document: dict[str, Any], before: bytes | None) -> bytes:
    """The document, set as the file was: its indentation, its line ends, its byte order mark."""
    old = (before or b"").removeprefix(_BOM).decode()
    indent = _INDENT.search(old)
    text = json.dumps(document, ensure_ascii=False, indent=indent[1] if indent else 2) + "\n"
    if "\r\n" in old:
        text = text.replace("\n", "\r\n")
    # halves of surrogate pairs have no encoding of their own, only an escape
    content = re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text).encode()
    return _BOM + content if (before or b"").startswith(_BOM) else content


def _back_up(path: Path, content: bytes) -> Path:
    """A copy beside the file, under a name that is free."""
    mode = stat.S_IMODE(path.stat().st_mode)
    for number in range(_MOST_BACKUPS):
        copy = path.with_name(f"{path.name}.bak{number or ''}")
        try:
            handle = os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except FileExistsError:
            continue
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        return copy
    raise ConfigurationError(f"{path} has {_MOST_BACKUPS:,} copies beside it: remove those named {path.name}.bak...")


def _replace(path: Path, content: bytes, before: bytes | None, *, private: bool) -> None:
    """Put the new content in the file's place, unless somebody else has changed it meanwhile."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if before is not None:
            Path(name).chmod(stat.S_IMODE(path.stat().st_mode))
        elif not private:
            Path(name).chmod(0o666 & ~_umask())
        _still_says(path, before)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _still_says(path: Path, before: bytes | None) -> None:
    if _read(path) != before:
        raise ConfigurationError(f"{path} was changed by another program just now: run this again.")


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask
