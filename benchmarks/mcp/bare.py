"""The least that a server of the protocol library can be: one tool that says its argument again."""

from __future__ import annotations

import sys

from mcp.server import MCPServer

server = MCPServer("bare", version="1")


@server.tool()
def echo(text: str) -> str:
    """Say it again."""
    return text


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", port=int(sys.argv[1]), stateless_http=True, json_response=True)
    else:
        server.run("stdio")
