"""The MCP server beside a bare one of the same library and the reference server: `python -m benchmarks.mcp`."""
