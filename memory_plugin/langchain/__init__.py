"""LangChain faces of the store; each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.langchain.history import ConversationHistory
    from memory_plugin.langchain.retriever import ReferenceRetriever

__all__ = ["ConversationHistory", "ReferenceRetriever"]

_HOMES = {
    "ConversationHistory": "memory_plugin.langchain.history",
    "ReferenceRetriever": "memory_plugin.langchain.retriever",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
