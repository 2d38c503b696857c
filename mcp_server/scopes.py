"""What a token allows inside the protocol: one for reading sees and calls no tool that changes anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from mcp.server import MCPServer
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import CallToolResult, TextContent

from mcp_server.access import CoreAccess
from mcp_server.identity import WRITE, current_identity
from mcp_server.request_log import note_of

if TYPE_CHECKING:
    from mcp_server.metrics import Metrics

# those that are logged by their name; any other could be a text of the client's
_METHODS = frozenset(
    {
        "completion/complete",
        "initialize",
        "notifications/cancelled",
        "notifications/initialized",
        "ping",
        "prompts/get",
        "prompts/list",
        "resources/list",
        "resources/read",
        "resources/subscribe",
        "resources/templates/list",
        "resources/unsubscribe",
        "server/discover",
        "subscriptions/listen",
        "tools/call",
        "tools/list",
    }
)

_REFUSED = "This token may only read: {name} needs one with the scope write. Nothing was changed."


class Scopes:
    """Middleware of the protocol; it also tells the request log which method and which tool were asked for.

    Args:
        metrics: told how long it took and how it ended.
    """

    def __init__(self, server: MCPServer[CoreAccess], metrics: Metrics | None = None) -> None:
        self._server = server
        self._metrics = metrics
        self._tools: dict[str, bool] | None = None

    async def __call__(self, ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
        """Answer a message by the server, as far as its token allows."""
        reads = await self._reads()
        tool = (ctx.params or {}).get("name") if ctx.method == "tools/call" else None
        tool = tool if tool in reads else None
        method = ctx.method if ctx.method in _METHODS else "other"
        if ctx.request is not None:
            note_of(ctx.request.scope).what = ":".join(["/mcp", method, *([tool] if tool else [])])
        if self._metrics is None:
            return await self._answer(ctx, call_next, tool, reads)
        error, began = "cancelled", time.perf_counter()
        try:
            result = await self._answer(ctx, call_next, tool, reads)
            error = "tool_error" if _is_error(result) else ""
        except Exception as raised:
            error = type(raised).__qualname__
            raise
        finally:
            self._metrics.operation(method, tool, error, time.perf_counter() - began)
        return result

    async def _answer(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext, tool: str | None, reads: dict[str, bool]
    ) -> HandlerResult:
        identity = current_identity()
        if identity is None or WRITE in identity.scopes:
            return await call_next(ctx)
        if tool is not None and not reads[tool]:
            return CallToolResult(content=[TextContent(type="text", text=_REFUSED.format(name=tool))], is_error=True)
        result = await call_next(ctx)
        if ctx.method == "tools/list" and isinstance(result, dict):
            return {**result, "tools": [each for each in result["tools"] if reads.get(each["name"], False)]}
        return result

    async def _reads(self) -> dict[str, bool]:
        """The tools, and whether each only reads."""
        if self._tools is None:
            listed = await self._server.list_tools()
            self._tools = {
                tool.name: tool.annotations is not None and tool.annotations.read_only_hint is True for tool in listed
            }
        return self._tools


def _is_error(result: HandlerResult) -> bool:
    """Whether a tool says of its own answer that it failed."""
    return result.get("isError") is True if isinstance(result, dict) else getattr(result, "is_error", None) is True
