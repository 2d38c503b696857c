"""What newcomers install by: the registry's server.json, and the bundle for desktop clients."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
import tomllib
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

from mcp_server import bundle
from mcp_server.tools import tools
from tests import outside_tools

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

_INPUT = {
    "description": {"type": "string", "minLength": 1},
    "isRequired": {"type": "boolean"},
    "isSecret": {"type": "boolean"},
    "format": {"enum": ["string", "number", "boolean", "filepath"]},
    "value": {"type": "string"},
    "default": {"type": "string"},
    "placeholder": {"type": "string"},
    "choices": {"type": "array", "items": {"type": "string"}},
}


def _argument(**more: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {**_INPUT, "type": more, "name": {"type": "string"}, "valueHint": {"type": "string"}},
        "required": ["type"],
        "anyOf": [{"required": ["name"]}, {"required": ["value"]}, {"required": ["valueHint"]}],
    }


REGISTRY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["$schema", "name", "description", "version", "packages"],
    "properties": {
        "$schema": {"const": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json"},
        "name": {"type": "string", "maxLength": 200, "pattern": r"^[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+$"},
        "title": {"type": "string", "minLength": 1, "maxLength": 100},
        "description": {"type": "string", "minLength": 1, "maxLength": 100},
        "version": {"type": "string", "maxLength": 255, "pattern": r"^\d+\.\d+\.\d+"},
        "packages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["registryType", "identifier", "version", "transport"],
                "properties": {
                    "registryType": {"const": "pypi"},
                    "identifier": {"type": "string"},
                    "version": {"type": "string", "not": {"const": "latest"}},
                    "runtimeHint": {"const": "uvx"},
                    "runtimeArguments": {"type": "array", "items": _argument(const="named")},
                    "packageArguments": {"type": "array", "items": _argument(enum=["named", "positional"])},
                    "transport": {"const": {"type": "stdio"}},
                    "environmentVariables": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "additionalProperties": False,
                            "required": ["name", "description"],
                            "properties": {**_INPUT, "name": {"type": "string", "pattern": "^MEMORY_[A-Z_]+$"}},
                        },
                    },
                },
            },
        },
    },
}
"""What the registry holds a server.json to that is published as a package of PyPI."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    made = bundle.build(folder / "dist" / "memory-mcp.mcpb")
    with zipfile.ZipFile(made) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.fixture(scope="module")
def manifest(unpacked: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((unpacked / "manifest.json").read_text("utf-8"))
    return found


# -- server.json


def test_the_registry_takes_the_description_of_the_server() -> None:
    jsonschema.validate(json.loads((ROOT / "server.json").read_text("utf-8")), REGISTRY)


def test_the_registry_is_told_of_this_version_of_this_package() -> None:
    server = json.loads((ROOT / "server.json").read_text("utf-8"))
    (package,) = server["packages"]
    assert server["version"] == package["version"] == PROJECT["version"]
    assert package["identifier"] == PROJECT["name"]
    (extra,) = package["runtimeArguments"]
    assert extra["value"] == f"{PROJECT['name']}[embedded]=={PROJECT['version']}"
    # the registry looks for this in the package's page, which is the README
    assert f"<!-- mcp-name: {server['name']} -->" in (ROOT / "README.md").read_text("utf-8")


def test_every_variable_that_clients_ask_for_is_one_of_ours() -> None:
    (package,) = json.loads((ROOT / "server.json").read_text("utf-8"))["packages"]
    asked = {each["name"]: each for each in package["environmentVariables"]}
    page = (ROOT / "docs" / "reference" / "configuration.md").read_text("utf-8")
    assert [name for name in asked if f"| `{name}` |" not in page] == []
    assert asked["MEMORY_DATABASE_URL"]["isSecret"], "a password may stand in it"


# -- the bundle


def test_the_bundle_says_what_is_inside(manifest: dict[str, Any]) -> None:
    assert (manifest["manifest_version"], manifest["server"]["type"]) == ("0.4", "uv")
    assert manifest["version"] == PROJECT["version"]
    assert [tool["name"] for tool in manifest["tools"]] == [tool.name for tool in tools()]
    assert all(tool["description"] for tool in manifest["tools"])
    assert set(manifest["user_config"]) == {"user_id", "tenant", "database_url", "read_only"}
    assert [name for name, asked in manifest["user_config"].items() if asked.get("sensitive")] == ["database_url"]
    used = re.findall(r"\$\{user_config\.(\w+)\}", json.dumps(manifest["server"]["mcp_config"]))
    assert sorted(used) == sorted(manifest["user_config"]), "all that is asked for reaches the server"


def test_nothing_compiled_is_in_the_bundle_and_everything_needed_is(unpacked: Path, manifest: dict[str, Any]) -> None:
    inside = [path for path in unpacked.rglob("*") if path.is_file()]
    assert not [path for path in inside if path.suffix in {".so", ".pyd", ".dylib", ".dll", ".pyc", ".exe"}]
    assert sum(path.stat().st_size for path in inside) < 5_000_000
    assert (unpacked / manifest["server"]["entry_point"]).is_file()
    needs = tomllib.loads((unpacked / "pyproject.toml").read_text("utf-8"))
    assert set(PROJECT["dependencies"]) <= set(needs["project"]["dependencies"])
    assert set(PROJECT["optional-dependencies"]["embedded"]) <= set(needs["project"]["dependencies"])
    assert any(pin.startswith("mcp==") for pin in needs["tool"]["uv"]["constraint-dependencies"])
    assert needs["tool"]["uv"]["package"] is False


def test_the_icon_is_a_picture_of_its_size(unpacked: Path, manifest: dict[str, Any]) -> None:
    data = (unpacked / manifest["icon"]).read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert manifest["icons"] == [{"src": "icon.png", "size": f"{width}x{height}"}]
    (length,) = struct.unpack(">I", data[33:37])
    pixels = zlib.decompress(data[41 : 41 + length])
    assert (depth, kind, len(pixels)) == (8, 6, height * (1 + 4 * width))
    assert {pixels[4], pixels[(height // 2) * (1 + 4 * width) + 1 + 4 * (width // 8) + 3]} == {0, 255}


def test_the_same_sources_make_the_same_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "icon", lambda: b"")  # drawn the same, and slowly
    first, second = (bundle.build(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


async def test_the_bundle_serves_what_the_person_has_set(unpacked: Path, manifest: dict[str, Any]) -> None:
    """As a client starts it: what was left empty, or not filled in at all, has no effect."""
    filled = {"user_id": "alice", "tenant": "", "read_only": "true"}
    env = {
        name: filled.get(value[len("${user_config.") : -1], value)
        for name, value in manifest["server"]["mcp_config"]["env"].items()
    }
    assert "${user_config." in env["MEMORY_DATABASE_URL"]
    path = {"PATH": os.environ["PATH"], "HOME": str(unpacked)}
    server = StdioServerParameters(
        command=sys.executable, args=[str(unpacked / "server.py")], env=env | path, cwd=unpacked
    )
    async with Client(stdio_client(server)) as client:
        assert client.server_info is not None
        assert client.server_info.version == PROJECT["version"]
        offered = {tool.name for tool in (await client.list_tools()).tools}
    assert offered == {"recall", "search_references", "read_item", "conversations", "settings"}


@pytest.mark.outside
def test_the_tool_of_bundles_finds_it_valid(unpacked: Path, tmp_path: Path) -> None:
    command = [outside_tools.node(), str(outside_tools.MODULES / outside_tools.BUNDLES / "dist" / "cli" / "cli.js")]
    done = subprocess.run(
        [*command, "validate", str(unpacked / "manifest.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=outside_tools.environment(tmp_path),
    )
    assert (done.returncode, "validation passes" in done.stdout) == (0, True), done.stdout + done.stderr
