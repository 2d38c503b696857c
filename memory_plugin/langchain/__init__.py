"""LangChain faces of the store; each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.langchain.context import LoadedMemory, MemoryContext, Said
    from memory_plugin.langchain.history import ConversationHistory
    from memory_plugin.langchain.middleware import MemoryMiddleware
    from memory_plugin.langchain.retriever import ReferenceRetriever

__all__ = ["ConversationHistory", "LoadedMemory", "MemoryContext", "MemoryMiddleware", "ReferenceRetriever", "Said"]

_HOMES = {
    "ConversationHistory": "memory_plugin.langchain.history",
    "LoadedMemory": "memory_plugin.langchain.context",
    "MemoryContext": "memory_plugin.langchain.context",
    "MemoryMiddleware": "memory_plugin.langchain.middleware",
    "ReferenceRetriever": "memory_plugin.langchain.retriever",
    "Said": "memory_plugin.langchain.context",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
