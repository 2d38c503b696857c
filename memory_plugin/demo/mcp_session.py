"""A real MCP client whose server starts in the background, while the demo is at something else."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mcp import Client


@asynccontextmanager
async def mcp_client(environment: Mapping[str, str], log: Path) -> AsyncIterator[Awaitable[Client]]:
    """A client of `python -m mcp_server`: await it to have it; the server does not outlive the block.

    Args:
        environment: what the server finds in its own, besides the system's.
        log: the file for its standard error.
    """
    ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    # one task opens and closes the client, as its cancel scopes want it
    holding = asyncio.create_task(_hold(environment, log, ready, over), name="MCP client")
    try:
        yield ready
    finally:
        over.set()
        await asyncio.gather(holding, return_exceptions=True)


async def _hold(environment: Mapping[str, str], log: Path, ready: asyncio.Future[Client], over: asyncio.Event) -> None:
    try:
        # a second of work, and no reason to keep the demo waiting
        await asyncio.to_thread(importlib.import_module, "mcp")
        from mcp import Client, StdioServerParameters
        from mcp.client.stdio import stdio_client

        server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_server"], env=dict(environment))
        with log.open("a", encoding="utf-8") as errors:
            async with Client(stdio_client(server, errlog=errors)) as client:
                ready.set_result(client)
                await over.wait()
    except Exception as error:  # a border: whatever went wrong must reach the one who waits for the client
        if ready.done():
            raise
        ready.set_exception(error)
        ready.exception()  # read once, so that nobody is told of it twice
