"""LangGraph faces of the store; each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.langgraph.checkpointer import ConversationSaver
    from memory_plugin.langgraph.data_types import data_serializer
    from memory_plugin.langgraph.store import MemoryStore

__all__ = ["ConversationSaver", "MemoryStore", "data_serializer"]

_HOMES = {
    "ConversationSaver": "memory_plugin.langgraph.checkpointer",
    "data_serializer": "memory_plugin.langgraph.data_types",
    "MemoryStore": "memory_plugin.langgraph.store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
