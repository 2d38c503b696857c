"""What the server process has done, and what not, when its first answer is out."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LATER = {
    "asyncpg",
    "langchain_core",
    "langgraph",
    "mcp_server.rest.app",
    "memory_plugin.core",
    "numpy",
    "orjson",
    "psutil",
    "pydantic_settings",
    "rich.console",
    "sqlalchemy",
    "tokenizers",
    "typer",
}
"""Modules that nobody needs for a handshake; each costs more than a hundredth of the start."""

SERVER = """
import asyncio, gc, json, sys
import mcp_server.__main__ as command
from mcp_server.access import CoreAccess

begin_to_open = CoreAccess.start_if_used

def told(self):
    import mcp_types._v2025_11_25 as older, mcp_types._v2026_07_28 as newer
    from mcp_types._wire_base import WireModel
    messages = [each for era in (older, newer) for each in vars(era).values()
                if isinstance(each, type) and issubclass(each, WireModel)]
    seen = {
        "modules": sorted(sys.modules),
        "messages": len(messages),
        "built": sum(each.__pydantic_complete__ for each in messages),
        "collecting": gc.isenabled(),
    }
    begin_to_open(self)

    def tell():
        sys.stderr.write(json.dumps({**seen, "collecting later": gc.isenabled()}) + chr(10))
        sys.stderr.flush()

    asyncio.get_running_loop().call_later(0.1, tell)

CoreAccess.start_if_used = told
sys.exit(command.main(["--log-level", "ERROR", "--url", "postgresql://nobody@127.0.0.1:1/nothing"]))
"""

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


def test_the_first_answer_waits_for_nothing_that_it_does_not_need() -> None:
    """Its modules, the validators of messages that have not come, and the garbage collector come after it."""
    with subprocess.Popen(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None and server.stdout is not None and server.stderr is not None
        server.stdin.write(json.dumps(HELLO) + "\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["result"]["serverInfo"]["name"] == "memory"
        seen = json.loads(server.stderr.readline())
        server.stdin.close()
        assert server.wait(30) == 0
    assert not LATER & set(seen["modules"])
    assert seen["messages"] > 200 and seen["built"] < seen["messages"] / 5
    assert not seen["collecting"] and seen["collecting later"]
