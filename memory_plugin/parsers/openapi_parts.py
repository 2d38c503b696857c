"""API descriptions and schemas that are written in more than one file.

The parser reads no files: it is handed what a description refers to. References are made to lead from the
folder of the description, whichever of the files they stand in, before anything is made of them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

MAX_REFERENCE = 1_000
"""Characters of a reference that is followed."""

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def target_of(reference: str, file: str) -> tuple[str, str] | None:
    """The file and the place in it that a reference leads to, if it stands in `file`; None where that is no file.

    Files are named from the folder of the description; one outside of it begins with `../` or `/`.
    """
    if len(reference) > MAX_REFERENCE or "\x00" in reference or _SCHEME.match(reference) or reference[:2] == "//":
        return None
    path, _, place = reference.partition("#")
    if not path:
        return file, place
    return posixpath.normpath(posixpath.join(posixpath.dirname(file), unquote(path))), place


def load_parts(parts: Mapping[str, bytes], root: Any, name: str, load: Callable[[bytes, str], Any]) -> dict[str, Any]:
    """The values of the files, with the references in them and in `root` written as `file#place`.

    What leads to the description itself is `#place`, and what leads to none of the files stays as it is.

    Args:
        name: of the file with the description.
        load: parses a file, and raises what is wrong with it.
    """
    values = {file: load(data, file) for file, data in parts.items()}
    if values:
        _anchor(root, name, name, values)
    for file, value in values.items():
        _anchor(value, file, name, values)
    return values


def _anchor(value: Any, file: str, name: str, values: Mapping[str, Any]) -> None:
    """Rewrite the references of one file; what aliases share is looked at once."""
    waiting, seen = [value], {id(value)}
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            reference = node.get("$ref")
            target = target_of(reference, file) if isinstance(reference, str) else None
            if target is not None and target[0] == name:
                node["$ref"] = f"#{target[1]}"
            elif target is not None and target[0] in values:
                node["$ref"] = "#".join(target)
        for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            if isinstance(inner, dict | list) and id(inner) not in seen:
                seen.add(id(inner))
                waiting.append(inner)
