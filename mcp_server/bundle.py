"""The server as one file that a desktop client installs by itself: an MCP bundle, `memory-mcp.mcpb`.

Run from a checkout by `make mcpb`. The bundle holds this project's own sources and the names of the
packages they need, which the client installs by uv for whatever machine it is on: nothing compiled is
inside, and no Python has to be there.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "dist" / "memory-mcp.mcpb"

MANIFEST_VERSION = "0.4"
"""The first one with servers that uv runs."""

ENTRY_POINT = "server.py"
ICON_SIZE = 512
"""Pixels of a side: what Claude Desktop asks for."""

_SOURCES = ("memory_plugin", "mcp_server", "migrations")
_NEEDED = ("embedded", "documents")
"""Extras: the bundle is for people who have no database of their own."""

_UNCHANGING = (2020, 1, 1, 0, 0, 0)
"""The time of every entry, so that the same sources make the same file."""

_SERVER = '''\
"""Starts the server; what the person left empty in the client is unset."""

import os
import sys

for name, value in list(os.environ.items()):
    if name.startswith("MEMORY_") and (not value.strip() or "${user_config." in value):
        del os.environ[name]

from mcp_server.__main__ import main

sys.exit(main([]))
'''

_LINES = ((1.0, 7.0), (1.0, 1.0), (4.0, 4.0))
"""The corners of the left half of the icon's one line, on a ground of 8 by 8; the right half is its mirror image."""

_COLOR = (0x55, 0x55, 0xEE)


def build(target: Path = TARGET) -> Path:
    """Make the bundle.

    Returns:
        The file.

    Raises:
        FileNotFoundError: this is no checkout.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as bundle:
        for name, content in sorted(_files()):
            entry = zipfile.ZipInfo(name, _UNCHANGING)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            bundle.writestr(entry, content)
    return target


def _files() -> Iterator[tuple[str, bytes]]:
    project = _project()
    yield "manifest.json", _json(manifest(project))
    yield "pyproject.toml", _pyproject(project).encode()
    yield ENTRY_POINT, _SERVER.encode()
    yield "icon.png", icon()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()
    # what says which version this is, where nothing was installed under the project's name
    told = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    yield f"{project['name'].replace('-', '_')}-{project['version']}.dist-info/METADATA", told.encode()
    for folder in _SOURCES:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_bytes()


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return project


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def manifest(project: dict[str, Any]) -> dict[str, Any]:
    """What the client reads: how the server is started, what it offers, what it asks the person.

    Args:
        project: the table `project` of pyproject.toml.
    """
    from mcp_server.tools import tools

    return {
        "manifest_version": MANIFEST_VERSION,
        "name": "memory-mcp",
        "display_name": "Long-term memory",
        "version": project["version"],
        "description": "Remembers facts, conversations and documents, in a database on this machine or in yours.",
        "long_description": project["description"],
        "author": {"name": project["authors"][0]["name"]},
        "license": project["license"],
        "keywords": ["memory", "postgresql", "pgvector", "recall", "references"],
        "icon": "icon.png",
        "icons": [{"src": "icon.png", "size": f"{ICON_SIZE}x{ICON_SIZE}"}],
        "server": {
            "type": "uv",
            "entry_point": ENTRY_POINT,
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", ENTRY_POINT],
                "env": {
                    "MEMORY_USER_ID": "${user_config.user_id}",
                    "MEMORY_TENANT": "${user_config.tenant}",
                    "MEMORY_DATABASE_URL": "${user_config.database_url}",
                    "MEMORY_MCP_READ_ONLY": "${user_config.read_only}",
                },
            },
        },
        "tools": [{"name": tool.name, "description": (tool.description or "").partition("\n")[0]} for tool in tools()],
        "prompts_generated": True,
        "user_config": _asked(),
        "compatibility": {
            "platforms": ["darwin", "win32", "linux"],
            "runtimes": {"python": project["requires-python"]},
        },
    }


def _asked() -> dict[str, dict[str, Any]]:
    return {
        "user_id": {
            "type": "string",
            "title": "User",
            "description": "Whose memory it is: any name. Empty means everybody's in the tenant.",
            "required": False,
            "default": "",
        },
        "tenant": {
            "type": "string",
            "title": "Tenant",
            "description": "Keeps memories apart that share a database.",
            "required": False,
            "default": "default",
        },
        "database_url": {
            "type": "string",
            "title": "Database URL",
            "description": "postgresql:// URL of a PostgreSQL with pgvector. Empty keeps the memory on this machine.",
            "required": False,
            "sensitive": True,
            "default": "",
        },
        "read_only": {
            "type": "boolean",
            "title": "Read only",
            "description": "Offer nothing that changes the memory.",
            "required": False,
            "default": False,
        },
    }


def _pyproject(project: dict[str, Any]) -> str:
    """The packages that the sources need, in the versions that the tests run with."""
    needs = [*project["dependencies"], *(each for name in _NEEDED for each in project["optional-dependencies"][name])]
    pins = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line and line[0] != "#"]
    return (
        f'[project]\nname = "memory-mcp-bundle"\nversion = "{project["version"]}"\n'
        f'requires-python = "{project["requires-python"]}"\ndependencies = {_array(dict.fromkeys(needs))}\n\n'
        f"[tool.uv]\npackage = false\nconstraint-dependencies = {_array(pins)}\n"
    )


def _array(values: Sequence[str] | dict[str, None]) -> str:
    return "[\n" + "".join(f"  {json.dumps(value)},\n" for value in values) + "]"


# -- the icon


def icon(size: int = ICON_SIZE) -> bytes:
    """The server's icon as PNG, on nothing: drawn, as no program for pictures need be there.

    Args:
        size: pixels of a side, an even number.
    """
    rows = bytearray()
    for y in range(size):
        half = [_coverage((x + 0.5) * 8 / size, (y + 0.5) * 8 / size, size / 8) for x in range(size // 2)]
        rows.append(0)  # this row is stored as it is
        for covered in (*half, *reversed(half)):
            rows += bytes((*_COLOR, covered))
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 6, 0, 0, 0)),
            _chunk(b"IDAT", zlib.compress(bytes(rows), 9)),
            _chunk(b"IEND", b""),
        )
    )


def _coverage(x: float, y: float, pixels: float) -> int:
    """How much of the pixel at this place the line covers, 0 to 255; it is 1 wide, and `pixels` are 1."""
    nearest = min(_distance(x, y, *start, *end) for start, end in itertools.pairwise(_LINES))
    return round(255 * min(max((0.5 - nearest) * pixels + 0.5, 0.0), 1.0))


def _distance(x: float, y: float, ax: float, ay: float, bx: float, by: float) -> float:
    dx, dy = bx - ax, by - ay
    along = min(max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy), 0.0), 1.0)
    return float(((x - ax - along * dx) ** 2 + (y - ay - along * dy) ** 2) ** 0.5)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


if __name__ == "__main__":
    made = build()
    sys.stdout.write(f"{made} ({made.stat().st_size / 1000:,.0f} kB)\n")
