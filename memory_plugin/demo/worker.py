"""The agent in a process of its own: orders come as one JSON line, what happens goes out as JSON lines.

The demo starts two of these, one after the other. The first is killed while a refund waits for a
person; the second knows nothing but the id of the thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_plugin.demo.documents import checkout

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig

_LONGEST_LINE = 1 << 22
_LAST = frozenset({"done", "interrupt", "failed"})


@dataclass(frozen=True, slots=True)
class Orders:
    """What a worker is to do: give the decision to a waiting agent if there is one, then say the turns."""

    url: str
    schema: str
    tenant: str
    user_id: str
    thread_id: str
    model: str
    turns: Sequence[str]
    decision: Mapping[str, Any] | None = None

    @property
    def config(self) -> RunnableConfig:
        """How LangGraph names the thread."""
        return {"configurable": {"thread_id": self.thread_id, "user_id": self.user_id}}


# -- the side that watches


class Worker:
    """A running worker; made by `started`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid = process.pid

    async def do(self, orders: Orders) -> AsyncIterator[dict[str, Any]]:
        """Send the orders and give what happens: the last event is "done", "interrupt" or "failed"."""
        assert self._process.stdin is not None  # both are pipes
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(orders)).encode() + b"\n")
        await self._process.stdin.drain()
        async for line in self._process.stdout:
            event = json.loads(line)
            yield event
            if event["event"] in _LAST:
                return
        yield {"event": "failed", "text": f"exit code {await self._process.wait()} before the work was done"}

    async def kill(self) -> int:
        """End it at once, without a chance to tidy up; its exit code."""
        self._process.kill()
        return await self._process.wait()

    async def finish(self) -> int:
        """Tell it that there are no more orders, and wait for its end; its exit code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self._process.wait()


@asynccontextmanager
async def started(log: Path) -> AsyncIterator[Worker]:
    """A worker that waits for its orders, its standard error in a file; it does not outlive the block."""
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "memory_plugin.demo.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=errors,
            env=child_environment(),
            limit=_LONGEST_LINE,
        )
        try:
            yield Worker(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


def child_environment() -> dict[str, str]:
    """This process's environment, with the source tree on the path where the demo runs from one."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    root = checkout()
    if root is not None:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    return environment


# -- the side that works


def main() -> int:
    """Import everything, then carry out orders until there are no more."""
    from memory_plugin.demo import agent

    agent.preload()
    line = sys.stdin.readline()
    if not line:
        return 0
    try:
        asyncio.run(_work(Orders(**json.loads(line))))
    except Exception as error:  # the border of the process: whatever went wrong is told to the demo
        _tell({"event": "failed", "text": f"{type(error).__name__}: {error}"})
        raise
    return 0


async def _work(first: Orders) -> None:
    """Open the store that the first orders name and keep it open for those that follow."""
    from memory_plugin.demo.agent import build_agent
    from memory_plugin.demo.choice import make_model
    from memory_plugin.memory import Memory

    async with Memory.open(first.url, schema=first.schema, tenant=first.tenant, user_id=first.user_id) as memory:
        agent = build_agent(memory, make_model(first.model))
        orders: Orders | None = first
        while orders is not None:
            await _carry_out(agent, orders)
            line = await asyncio.to_thread(sys.stdin.readline)
            orders = Orders(**json.loads(line)) if line else None


async def _carry_out(agent: Any, orders: Orders) -> None:
    from langgraph.types import Command

    from memory_plugin.demo.agent import turn

    given: list[Any] = [] if orders.decision is None else [Command(resume=dict(orders.decision))]
    for each in [*given, *orders.turns]:
        if isinstance(each, str):
            _tell({"event": "human", "text": each})
        question = None
        async for event in turn(agent, each, orders.config):
            if event["event"] == "interrupt":
                question = event  # told when the turn is over, and so all of it stored
            else:
                _tell(event)
        if question is not None:
            _tell(question)
            return
    _tell({"event": "done"})


def _tell(event: Mapping[str, Any]) -> None:
    print(json.dumps(event), flush=True)  # noqa: T201 - standard output is the channel to the demo


if __name__ == "__main__":
    sys.exit(main())
