"""The README: short, and every snippet in it does what it says."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from memory_plugin.core import MemoryCore
from tests.snippets import ROOT, Page, blocks_of

README = ROOT / "README.md"


async def test_every_snippet_runs_and_prints_what_it_says(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_DATABASE_URL", database_url)
    monkeypatch.chdir(tmp_path)
    executed = await Page(README, database_url, tmp_path).run()
    assert executed >= 7


def test_it_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) < 200


def test_its_two_commands_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)", "\n".join(block.text for block in blocks_of(README)), re.MULTILINE))
    assert named == {"demo", "test"}
    assert named <= targets


async def test_its_configurations_start_a_server_for_that_user(database_url: str) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    configurations = [json.loads(block.text) for block in blocks_of(README) if block.language == "json"]
    servers = [next(iter(each.values()))["memory"] for each in configurations]
    assert {server["command"] for server in servers} == {"memory-mcp"} <= set(scripts)
    (env,) = {tuple(server["env"].items()) for server in servers}
    module = scripts["memory-mcp"].partition(".")[0]
    parameters = StdioServerParameters(
        command=sys.executable,
        args=["-m", module],
        cwd=ROOT,
        env={**os.environ, "MEMORY_DATABASE_URL": database_url, **dict(env)},
    )
    async with Client(parameters) as client:
        answer = await client.call_tool("remember", {"content": "Alice keeps bees"})
        assert not answer.is_error
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert [hit.user_id for hit in await core.recall("bees")] == ["alice"]
