"""LangChain's MCP clients use the server, each in an environment of its own; `make conformance` runs it.

`langchain-mcp-adapters` needs a version of the protocol's library that cannot be installed beside the server's, and
speaks the older era; `langchain.mcp`, which follows it, speaks the newer one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import outside_tools
from tests.http_server import own_database
from tests.test_mcp_inspector import TOOLS
from tests.test_mcp_transports import environment, http_server

pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def server(server_url: str, template: str, worker_id: str) -> Iterator[tuple[str, str]]:
    """A database, and the address of a server over it."""
    with (
        own_database(server_url, template, f"langchain_{worker_id}") as url,
        http_server("--user", "ada", MEMORY_DATABASE_URL=url) as (_, address),
    ):
        yield url, f"{address}/mcp"


@pytest.mark.parametrize("client", list(outside_tools.LANGCHAIN))
def test_tools_are_listed_called_and_used_by_an_agent(server: tuple[str, str], client: str) -> None:
    url, address = server
    own = [sys.executable, "-m", "mcp_server", "--user", "ada"]
    done = subprocess.run(
        [str(outside_tools.python_of(client)), str(Path(__file__).with_name("langchain_client.py")), client, address]
        + ["--", *own],
        cwd=Path(__file__).parent.parent,
        env=environment(MEMORY_DATABASE_URL=url),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    over_stdio, over_http = json.loads(done.stdout)
    for seen in (over_stdio, over_http):
        assert set(seen["tools"]) == TOOLS - {"add_reference"}
        assert "query" in seen["arguments"] and "caller" not in seen["arguments"]
        assert "created" in seen["stored"]
        assert seen["fact"] in seen["found"]
        assert seen["fact"] in seen["agent"]
        assert seen["steps"] == ["human", "ai", "tool", "ai"]
