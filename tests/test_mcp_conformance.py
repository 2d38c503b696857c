"""The protocol's own conformance suite against the server; `make conformance` runs it.

Three servers: the project's with what the suite asks for and connections that last, the same as production serves
it, and the plain production server. What the last two cannot show is listed and explained beside `GAPS`: a gap that
is not listed fails, and so does one listed that has healed.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from memory_plugin.core import MemoryCore
from tests import outside_tools
from tests.http_server import own_database
from tests.test_mcp_transports import ROOT, environment, get

pytestmark = pytest.mark.outside

REVISIONS = ("2025-11-25", "2026-07-28")
SERVERS = {
    "sessions": ("tests.conformance_server", "--sessions"),
    "fixtures": ("tests.conformance_server",),
    "production": ("mcp_server", "--http"),
}
GAPS = ROOT / "tests" / "data" / "mcp-conformance"
PAGE = ROOT / "docs" / "reference" / "mcp-conformance.md"
RUNS = [(server, revision) for server in SERVERS for revision in REVISIONS]


@dataclass(frozen=True)
class Run:
    """What the suite found."""

    status: int
    printed: str
    statuses: dict[str, list[str]]
    required: list[str]
    complaints: list[str]

    def passed(self, scenario: str) -> bool:
        return not {"FAILURE", "WARNING"} & set(self.statuses[scenario])

    def summary(self) -> str:
        """How many of the required scenarios pass."""
        return f"{sum(map(self.passed, self.required))} of {len(self.required)}"


@contextmanager
def served(module: str, *arguments: str, url: str) -> Iterator[str]:
    """A process that serves on a free port; its address."""
    command = [sys.executable, "-m", module, *arguments, "--port", "0", "--user", "alice"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(MEMORY_DATABASE_URL=url), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            address = re.search(r"http://\S+/mcp", line)
            assert address is not None, line + process.stderr.read()
            ready = address[0].removesuffix("/mcp") + "/readyz"  # it waits for the database, five seconds each time
            assert any(get(ready)[0] == 200 for _ in range(12))
            yield address[0]
        finally:
            process.terminate()
            process.communicate(timeout=20)


def suite(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    program = outside_tools.MODULES / outside_tools.CONFORMANCE / "dist" / "index.js"
    return subprocess.run(
        [outside_tools.node(), str(program), *arguments],
        env=outside_tools.environment(home),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def required(revision: str) -> list[str]:
    """The scenarios that a server has to pass, by the suite's own list."""
    listed = (outside_tools.MODULES / outside_tools.CONFORMANCE / "requirements" / f"{revision}.yaml").read_text()
    section = re.search(r"^server:\n((?:  - .*\n)+)", listed, re.MULTILINE)
    assert section is not None
    return re.findall(r"- (\S+)", section[1])


def run(server: str, revision: str, url: str, folder: Path) -> Run:
    """Run the suite; once more when it fails, because some of its checks wait for less than a second."""
    found = run_once(server, revision, url, folder / "first")
    return found if found.status == 0 else run_once(server, revision, url, folder / "second")


def run_once(server: str, revision: str, url: str, folder: Path) -> Run:
    """Run the suite, against what is known to be missing where something is."""
    folder.mkdir(parents=True)
    gaps = GAPS / f"{server}-{revision}.yml"
    known = ["--expected-failures", str(gaps)] if gaps.exists() else []
    done = suite("server", "--url", url, "--requirements", revision, "-o", str(folder), *known, home=folder)
    statuses, complaints = {}, []
    for file in folder.glob("server-*/checks.json"):
        name = re.sub(r"-\d{4}-\d\d-\d\dT[\d-]+Z$", "", file.parent.name).removeprefix("server-")
        checks = json.loads(file.read_text())
        statuses[name] = [check["status"] for check in checks]
        wrong = [check for check in checks if check["status"] in {"FAILURE", "WARNING"}]
        complaints += [f"{name}:{check['id']}: {check.get('errorMessage')}" for check in wrong]
    return Run(done.returncode, done.stdout + done.stderr, statuses, required(revision), complaints)


@pytest.fixture(scope="module")
def runs(
    server_url: str, template: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Run]:
    """The suite against each server and each set of requirements, two at a time."""

    async def fill(url: str) -> None:
        async with MemoryCore.open(url, user_id="alice", embeddings=False) as core:
            await core.remember("Alice drinks green tea")

    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        url = stack.enter_context(own_database(server_url, template, f"conformance_{worker_id}"))
        asyncio.run(fill(url))
        addresses = {name: stack.enter_context(served(*command, url=url)) for name, command in SERVERS.items()}
        folder = tmp_path_factory.mktemp("conformance")
        waiting = {}
        for server, revision in RUNS:
            own = folder / f"{server}-{revision}"
            waiting[server, revision] = pool.submit(run, server, revision, addresses[server], own)
        return {key: each.result() for key, each in waiting.items()}


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_required_scenario_passes(runs: dict[tuple[str, str], Run], revision: str) -> None:
    """Without a warning, too."""
    found = runs["sessions", revision]
    assert found.status == 0, "\n".join(found.complaints)
    assert [name for name in found.required if not found.passed(name)] == []


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("server", ["fixtures", "production"])
def test_the_gaps_are_those_that_are_listed(runs: dict[tuple[str, str], Run], server: str, revision: str) -> None:
    found = runs[server, revision]
    end = found.printed[found.printed.rindex("\n\nTotal:") :]
    assert found.status == 0, "\n".join([end, *found.complaints])


def test_the_page_tells_what_was_found(runs: dict[tuple[str, str], Run]) -> None:
    page = PAGE.read_text()
    assert f"{outside_tools.CONFORMANCE}@{outside_tools.PACKAGES[outside_tools.CONFORMANCE]}" in page
    rows = {f"| `{server}` | {revision} | {found.summary()} |" for (server, revision), found in runs.items()}
    assert {row for row in rows if row not in page} == set()
