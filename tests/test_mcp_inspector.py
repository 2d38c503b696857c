"""The protocol's Inspector lists strictly and calls every tool; `make conformance` runs it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.core import MemoryCore
from tests import outside_tools
from tests.http_server import own_database
from tests.test_mcp_tools import TOOLS as ALL_BUT_ADDING
from tests.test_mcp_transports import ROOT, environment, http_server

pytestmark = pytest.mark.outside

ERAS = ("legacy", "modern")
TRANSPORTS = ("stdio", "http")
TOOLS = ALL_BUT_ADDING | {"add_reference"}


@dataclass
class Inspector:
    """The Inspector's command line, for a server of the tests."""

    target: dict[str, list[str]]
    environment: dict[str, str]

    def ask(self, transport: str, era: str, *arguments: str) -> dict[str, Any]:
        """The result of one method, which must succeed."""
        program = outside_tools.MODULES / outside_tools.INSPECTOR / "clients" / "launcher" / "build" / "index.js"
        options = ["--protocol-era", era, "--format", "json", *arguments]
        done = subprocess.run(
            [outside_tools.node(), str(program), "--cli", *self.target[transport], *options],
            cwd=ROOT,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)["result"]
        return answer

    def call(self, way: tuple[str, str], tool: str, **arguments: Any) -> dict[str, Any]:
        """The facts that a tool answers."""
        named = ["--method", "tools/call", "--tool-name", tool, "--tool-args-json", json.dumps(arguments)]
        result = self.ask(*way, *named)
        facts: dict[str, Any] = result["structuredContent"]
        assert result.get("isError") is not True and facts["notice"] in result["content"][0]["text"]
        return facts


@pytest.fixture(scope="module")
def inspector(
    server_url: str, template: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Inspector]:
    """One database, one server over HTTP; over standard input and output the Inspector starts its own."""

    async def fill(url: str) -> None:
        async with MemoryCore.open(url, user_id="alice", embeddings=False) as core:
            await core.conversations.append("trip", ["the ferry leaves at nine"])
            await core.references.add(text="Green tea is brewed at 80 degrees.", title="Tea guide", user_id="alice")

    arguments = ("--user", "alice", "--add-references")
    home = tmp_path_factory.mktemp("inspector")
    with own_database(server_url, template, f"inspector_{worker_id}") as url:
        asyncio.run(fill(url))
        with http_server(*arguments, MEMORY_DATABASE_URL=url) as (_, address):
            # the Inspector hands a server nothing of its environment but what it is told to
            given = environment(MEMORY_DATABASE_URL=url)
            told = [
                word
                for name in ("MEMORY_DATABASE_URL", "MEMORY_EMBEDDINGS")
                for word in ("-e", f"{name}={given[name]}")
            ]
            targets = {
                "http": [f"{address}/mcp", "--transport", "http"],
                "stdio": [sys.executable, "-m", "mcp_server", *arguments, *told, "--transport", "stdio"],
            }
            yield Inspector(targets, outside_tools.environment(Path(home)))


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_tools_are_listed_strictly(inspector: Inspector, transport: str, era: str) -> None:
    """No schema has what the Inspector calls an error, or it would have failed."""
    listed = inspector.ask(transport, era, "--method", "tools/list", "--strict")
    assert {tool["name"] for tool in listed["tools"]} == TOOLS


def remembers_and_recalls(inspector: Inspector, way: tuple[str, str]) -> str:
    """Store a fact and find it; its id."""
    name = "-".join(way)
    stored = inspector.call(way, "remember", content=f"Dave lives in {name}", key=f"home {name}")
    found = inspector.call(way, "recall", query=f"Dave {name}", kinds=["memory"])["results"]
    assert stored["status"] == "created" and stored["id"] in {hit["id"] for hit in found}
    return str(stored["id"])


@pytest.mark.parametrize("way", [("stdio", "modern"), ("http", "modern")])
def test_a_fact_is_stored_and_found(inspector: Inspector, way: tuple[str, str]) -> None:
    assert remembers_and_recalls(inspector, way)


def test_every_tool_answers(inspector: Inspector) -> None:
    """In the Inspector's own default, the older era over HTTP; all ways are in `test_mcp_everywhere.py`."""
    way = ("http", "legacy")
    stored = remembers_and_recalls(inspector, way)
    assert inspector.call(way, "read_item", id=stored)["text"] == "Dave lives in http-legacy"
    assert inspector.call(way, "forget", id=stored)["forgotten"] is True
    assert "Tea guide" in inspector.call(way, "search_references", query="green tea")["results"][0]["source"]
    assert inspector.call(way, "conversations", thread_id="trip")["messages"][0]["text"] == "the ferry leaves at nine"
    assert inspector.call(way, "update_working_memory", content="Goal: a trip")["scope"] == "user"
    assert inspector.call(way, "settings")["user"] == "alice"
    assert inspector.call(way, "add_reference", title="Bread", content="Bread.", source="b")["status"] == "added"


def test_resources_and_prompts_are_read(inspector: Inspector) -> None:
    read = inspector.ask("http", "modern", "--method", "resources/read", "--uri", "memory://settings")
    assert "user: alice" in read["contents"][0]["text"]
    prompt = inspector.ask("http", "modern", "--method", "prompts/get", "--prompt-name", "about_me")
    assert "What do you know about me?" in prompt["messages"][0]["content"]["text"]
