"""A client of the MCP server: what Claude Desktop, Cursor or your own program does with the memory.

    python examples/mcp_client.py tools
    python examples/mcp_client.py remember "Ada drinks her tea without sugar"
    python examples/mcp_client.py recall "How does Ada take her tea?"
    python examples/mcp_client.py search_references "How do refunds work?"

The client starts `python -m mcp_server` and talks to it over standard input and output. Which
database, tenant and user the server works for comes from its environment (MEMORY_DATABASE_URL,
MEMORY_TENANT, MEMORY_USER_ID), never from the client's calls.

    pip install "memory-plugin[embedded]"
"""

from __future__ import annotations

import asyncio
import os
import sys

from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client

ARGUMENT = {"recall": "query", "search_references": "query", "remember": "content"}


async def main(command: str, text: str) -> None:
    """Start the server, do one thing, and let it end."""
    environment = {"MEMORY_USER_ID": "ada", **os.environ}
    server = StdioServerParameters(command=sys.executable, args=["-m", "mcp_server"], env=environment)
    async with Client(stdio_client(server)) as client:
        if command == "tools":
            for tool in (await client.list_tools()).tools:
                print(f"{tool.name}: {(tool.description or '').splitlines()[0]}")
            return
        result = await client.call_tool(command, {ARGUMENT[command]: text})
        if result.is_error:
            sys.exit(" ".join(getattr(part, "text", "") for part in result.content))
        answer = result.structured_content or {}
        print(answer["notice"])
        for found in answer.get("results", []):
            source = found.get("source") or found.get("speaker") or found.get("kind", "")
            print(f"- {found['text']} [{source}, {found.get('date', 'undated')}]")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["tools"]:
            asyncio.run(main("tools", ""))
        case [command, text] if command in ARGUMENT:
            asyncio.run(main(command, text))
        case _:
            sys.exit(__doc__)
