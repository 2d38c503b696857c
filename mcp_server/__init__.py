"""The MCP server: long-term memory for any client that speaks the Model Context Protocol.

python -m mcp_server          serves stdio; --help shows the rest
create_server(core)           for tests, and for mounting in an application
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp_server.server import create_server

__all__ = ["create_server"]


def __getattr__(name: str) -> Any:
    # Importing the protocol library takes most of a second: --help and --version do without it.
    if name in __all__:
        from mcp_server import server

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
