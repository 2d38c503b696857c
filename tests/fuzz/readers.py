"""What each target looks at: the modules whose paths are followed. Following all of them takes minutes."""

from __future__ import annotations

READERS = {
    "codec": [
        "memory_plugin.jsonable",
        "memory_plugin.key_order",
        "memory_plugin.langchain.messages",
        "memory_plugin.langgraph.codec",
        "memory_plugin.langgraph.data_types",
        "memory_plugin.message_shape",
    ],
    "importers": ["memory_plugin.portable", "memory_plugin.transfer.serializers"],
    "documents": ["memory_plugin.chunking", "memory_plugin.parsers"],
    "openapi": [
        "memory_plugin.parsers.openapi",
        "memory_plugin.parsers.openapi_schema",
        "memory_plugin.parsers.openapi_short",
        "memory_plugin.parsers.structured",
        "memory_plugin.parsers.yaml_events",
    ],
    "mcp_arguments": ["mcp_server.answers", "mcp_server.reading", "mcp_server.tools"],
    "rest": ["mcp_server.rest"],
}
