"""The command: `python -m mcp_server`, installed as `memory-mcp`."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mcp_server.settings import ServerSettings, parse

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from memory_plugin.core import MemoryCore


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server, or the check, and give the exit code."""
    settings = parse(arguments)
    # Standard output belongs to the protocol.
    _set_up_logs(settings)
    if not settings.http and not settings.check:
        if sys.stdin is None:
            sys.stderr.write("memory-mcp: standard input is closed, over which a client would talk; see --http.\n")
            return 2
        if sys.stdin.isatty():
            sys.stderr.write(
                "memory-mcp: waiting for an MCP client on standard input; --help shows how to connect one.\n"
            )
    return asyncio.run(_run(settings))


def _set_up_logs(settings: ServerSettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        from memory_plugin.logs import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=settings.log_level)


async def _run(settings: ServerSettings) -> int:
    if settings.check:
        from mcp_server.check import check

        return await check(settings)
    from mcp_server import starting

    starting.begin()
    from mcp_server.access import CoreAccess, open_configured
    from mcp_server.server import build_server

    def opened() -> AbstractAsyncContextManager[MemoryCore]:
        starting.settle()  # the first answer is out
        return open_configured(settings)

    access = CoreAccess(opened)
    server = build_server(
        access,
        read_only=settings.read_only,
        add_references=settings.add_references,
        state_key=settings.state_key(),
        sessions=not settings.http,
    )
    if settings.http:
        from mcp_server.http import listen, serve_http
        from memory_plugin.errors import ConfigurationError

        try:
            listening = listen(settings.host, settings.port)
        except ConfigurationError as error:
            sys.stderr.write(f"memory-mcp: {error}\n")
            return 1
        await serve_http(server, access, listening, settings)
    else:
        from mcp_server.stdio import serve_stdio

        await serve_stdio(server)
    return 0


if __name__ == "__main__":
    sys.exit(main())
