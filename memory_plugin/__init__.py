"""The memory of AI agents in one PostgreSQL.

    from memory_plugin import Memory

    async with Memory.open() as memory:
        await memory.remember("Alice prefers tea", user_id="alice")

Names are loaded when they are first used: importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.errors import MemoryPluginError
    from memory_plugin.memory import Memory
    from memory_plugin.ranking import Weights
    from memory_plugin.settings import Settings
    from memory_plugin.telemetry import Telemetry
    from memory_plugin.types import (
        AgentSettings,
        Chunk,
        Citation,
        Conversation,
        Document,
        Finding,
        Hit,
        Hits,
        MemoryItem,
        Message,
        Retention,
        RetentionReport,
        SimilarMemory,
        Source,
        UserMemory,
        WorkingMemory,
    )

__all__ = [
    "AgentSettings",
    "Chunk",
    "Citation",
    "Conversation",
    "Document",
    "Finding",
    "Hit",
    "Hits",
    "Memory",
    "MemoryCore",
    "MemoryItem",
    "MemoryPluginError",
    "Message",
    "Retention",
    "RetentionReport",
    "Settings",
    "SimilarMemory",
    "Source",
    "Telemetry",
    "UserMemory",
    "Weights",
    "WorkingMemory",
    "__version__",
]

_HOMES = {
    "Memory": "memory_plugin.memory",
    "MemoryCore": "memory_plugin.core",
    "MemoryPluginError": "memory_plugin.errors",
    "Settings": "memory_plugin.settings",
    "Telemetry": "memory_plugin.telemetry",
    "Weights": "memory_plugin.ranking",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("memory-plugin")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES.get(name, "memory_plugin.types")), name)


def __dir__() -> list[str]:
    return sorted(__all__)
