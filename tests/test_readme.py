"""The README: short, and every snippet in it does what it says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

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


def test_its_configurations_start_the_server_that_the_package_installs() -> None:
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    configurations = [json.loads(block.text) for block in blocks_of(README) if block.language == "json"]
    servers = [next(iter(each.values()))["memory"] for each in configurations]
    assert len(servers) == 2
    assert all(server["command"] in scripts for server in servers)
