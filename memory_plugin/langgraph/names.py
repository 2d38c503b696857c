"""Names of channels, namespaces and tasks, and versions, as PostgreSQL can hold them.

Text may not have NUL or half of a surrogate pair in it, and a few names have a meaning in stored
JSON. Such a name is stored as `$u:` and its text with escapes; all others as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from memory_plugin.jsonable import RESERVED_KEYS

_MARK = "$u:"
_NUMBER = "$n:"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_ESCAPED = re.compile("[\x00\\\\\ud800-\udfff]")
_ESCAPE = re.compile(r"\\u([0-9a-f]{4})")


def stored_name(name: str) -> str:
    """The name as it is stored; `original_name` undoes it."""
    if name.isascii() and name[:1] != "$" and "\x00" not in name:
        return name
    if _UNSTORABLE.search(name) or name in RESERVED_KEYS or name.startswith((_MARK, _NUMBER)):
        return _MARK + _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", name)
    return name


def original_name(stored: str) -> str:
    """The name that was stored."""
    if not stored.startswith(_MARK):
        return stored
    return _ESCAPE.sub(lambda match: chr(int(match.group(1), 16)), stored[len(_MARK) :])


def stored_version(version: Any) -> str | int:
    """A version for JSON, of which `str()` is the text that PostgreSQL gives back for it."""
    if type(version) is str:
        return stored_name(version)
    if type(version) is int and -(2**63) <= version < 2**63:
        return version
    return f"{_NUMBER}{+version!r}"  # + makes an int of a bool


def original_version(stored: Any) -> Any:
    """The version that was stored."""
    if type(stored) is not str or not stored.startswith("$"):
        return stored
    if not stored.startswith(_NUMBER):
        return original_name(stored)
    text = stored[len(_NUMBER) :]
    try:
        return int(text)
    except ValueError:
        return float(text)


def stored_versions(versions: Mapping[str, Any]) -> dict[str, str | int]:
    """The versions of channels, for JSON."""
    return {stored_name(channel): stored_version(version) for channel, version in versions.items()}
