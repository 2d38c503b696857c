"""LangChain's MCP clients with this server, in an environment of theirs; prints what they saw as JSON.

    python langchain_client.py adapters|langchain URL -- COMMAND ...

Nothing of the project is imported: this is the program that a user of LangChain writes.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import BaseTool


class Scripted(BaseChatModel):
    """Recalls what it is asked, then repeats what it was told."""

    offered: list[str] = []

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **_: Any) -> Scripted:
        return Scripted(offered=[tool.name for tool in tools])

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        latest = messages[-1]
        if isinstance(latest, ToolMessage):
            said = AIMessage(latest.text if isinstance(latest.text, str) else latest.text())
        else:
            assert "recall" in self.offered
            call = {"name": "recall", "args": {"query": latest.content}, "id": "1", "type": "tool_call"}
            said = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


async def tools_of(client: str, stack: AsyncExitStack, url: str | None, command: list[str]) -> list[BaseTool]:
    """The server's tools, over HTTP where there is a URL."""
    if client == "adapters":
        from langchain_mcp_adapters.client import MultiServerMCPClient

        over_http: Any = {"transport": "streamable_http", "url": url}
        over_stdio: Any = {"transport": "stdio", "command": command[0], "args": command[1:], "env": dict(os.environ)}
        return await MultiServerMCPClient({"memory": over_http if url else over_stdio}).get_tools()
    from fastmcp.client.transports import StdioTransport
    from langchain.mcp import MCPAdapter

    target: Any = url or StdioTransport(command[0], command[1:], env=dict(os.environ))
    return await (await stack.enter_async_context(MCPAdapter(target))).list_tools()


def text_of(answer: Any) -> str:
    """The text of what a tool answers, a string or blocks."""
    return answer if isinstance(answer, str) else "".join(block["text"] for block in answer)


async def use(client: str, url: str | None, command: list[str]) -> dict[str, Any]:
    """List the tools, remember, recall, and let an agent recall."""
    where = "http" if url else "stdio"
    async with AsyncExitStack() as stack:
        tools = await tools_of(client, stack, url, command)
        by_name = {tool.name: tool for tool in tools}
        fact = f"Ada's kiln number {client} {where} is called Bertha"
        stored = await by_name["remember"].ainvoke({"content": fact, "key": f"{client} {where}"})
        found = await by_name["recall"].ainvoke({"query": f"kiln {client} {where}"})
        agent = create_agent(Scripted(), tools)
        ended = await agent.ainvoke({"messages": [("user", f"What is the kiln of {client} over {where} called?")]})
    return {
        "fact": fact,
        "tools": sorted(by_name),
        "arguments": sorted(by_name["recall"].args),
        "stored": text_of(stored),
        "found": text_of(found),
        "agent": ended["messages"][-1].text,
        "steps": [message.type for message in ended["messages"]],
    }


async def main() -> None:
    """Both transports, one after the other."""
    client, url, _, *command = sys.argv[1:]
    print(json.dumps([await use(client, None, command), await use(client, url, command)]))


if __name__ == "__main__":
    asyncio.run(main())
