"""The three servers: how each is started, and what it is asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OURS, BARE, REFERENCE = "ours", "bare SDK", "server-memory"

ROOT = Path(__file__).resolve().parent.parent.parent
USER = "user-0"
"""Whose memories are asked for: the first user that `benchmarks.recall.filling` fills."""

PACKAGE = "@modelcontextprotocol/server-memory"
_INSTALLING = 180.0
"""Seconds that npm may take."""

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fact:
    """A text to find or to store, what one asks to find it, and its number."""

    number: int
    text: str
    question: str


@dataclass(frozen=True, slots=True)
class Contender:
    """One server.

    Attributes:
        recall: the tool that finds a fact, and its arguments.
        remember: the tool that stores one.
        serves_http: whether it can; with its port after the command.
    """

    name: str
    title: str
    command: Sequence[str]
    environment: Mapping[str, str]
    recall: Callable[[Fact], tuple[str, Arguments]]
    remember: Callable[[Fact], tuple[str, Arguments]]
    http: Callable[[int], Sequence[str]] | None = None


def environment() -> dict[str, str]:
    """That of this process without settings of ours, and compiled code kept: the first start is not counted."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPATH": str(ROOT)}


def ours(url: str, tenant: str, version: str) -> Contender:
    """Our server for one user, over a database that is filled."""
    command = [sys.executable, "-m", "mcp_server", "--tenant", tenant, "--user", USER]
    return Contender(
        OURS,
        f"memory-mcp (memory-plugin {version})",
        command,
        environment() | {"MEMORY_DATABASE_URL": url},
        lambda fact: ("recall", {"query": fact.question}),
        lambda fact: ("remember", {"content": fact.text}),
        lambda port: [*command, "--http", "--port", str(port), "--rate-limit", "0"],
    )


def bare(version: str) -> Contender:
    """A server of the protocol library with one tool that says its argument again."""
    command = [sys.executable, "-m", "benchmarks.mcp.bare"]
    return Contender(
        BARE,
        f"MCPServer with one trivial tool (mcp {version})",
        command,
        environment(),
        lambda fact: ("echo", {"text": fact.question}),
        lambda fact: ("echo", {"text": fact.text}),
        lambda port: [*command, str(port)],
    )


def reference(directory: Path, facts: Sequence[Fact]) -> Contender | str:
    """The reference server from npm, installed into the directory, with the same facts; or why it is absent."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return "no Node.js"
    target = directory / "npm"
    command = [npm, "install", "--prefix", str(target), "--no-audit", "--no-fund", "--loglevel=error", PACKAGE]
    try:
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=_INSTALLING)  # noqa: S603 - npm
    except subprocess.TimeoutExpired:
        return "npm did not finish"
    except subprocess.CalledProcessError as error:
        last = str(error.stderr).strip().splitlines()[-1:] or ["no reason given"]
        return f"npm failed: {last[0][:80]}"
    package = target / "node_modules" / PACKAGE
    version = json.loads((package / "package.json").read_text("utf-8"))["version"]
    asked = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - node
    stored = directory / "reference.jsonl"
    entities = [{"type": "entity", **_entity(fact)} for fact in facts]
    stored.write_text("\n".join(map(json.dumps, entities)), "utf-8")
    return Contender(
        REFERENCE,
        f"{PACKAGE} {version} (node {asked.stdout.strip()})",
        [node, str(package / "dist" / "index.js")],
        environment() | {"MEMORY_FILE_PATH": str(stored)},
        # it finds whole phrases only: two words that stand together
        lambda fact: ("search_nodes", {"query": " ".join(fact.text.split()[:2])}),
        lambda fact: ("create_entities", {"entities": [_entity(fact)]}),
    )


def _entity(fact: Fact) -> dict[str, Any]:
    return {"name": f"fact {fact.number}", "entityType": "fact", "observations": [fact.text]}
