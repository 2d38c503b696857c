"""From the `embeddings` argument of an open call to an embedder."""

from __future__ import annotations

import importlib
import inspect
from typing import TypeGuard

from memory_plugin.embedding.langchain_adapter import LangChainEmbedder
from memory_plugin.embedding.protocol import Embedder
from memory_plugin.embedding.static import StaticEmbedder
from memory_plugin.embedding.texts import reason_of
from memory_plugin.errors import ConfigurationError, UnsupportedError


def resolve_embedder(embeddings: object = None) -> Embedder | None:
    """The embedder for the `embeddings` argument of an open call; None means recall by words alone.

    None takes the offline default where its packages are installed; False turns vectors off; a string
    "provider:model" goes to LangChain's `init_embeddings`; an Embedder is returned as it is; anything
    else is adapted by LangChainEmbedder.

    Raises ConfigurationError for what cannot be an embedder, UnsupportedError where a package is missing.
    """
    if embeddings is None:
        return StaticEmbedder() if StaticEmbedder.is_available() else None
    if embeddings is False:
        return None
    if isinstance(embeddings, str):
        return LangChainEmbedder(_provider_embeddings(embeddings))
    if _is_embedder(embeddings):
        return embeddings
    return LangChainEmbedder(embeddings)


def _is_embedder(value: object) -> TypeGuard[Embedder]:
    """LangChain's objects have methods of the same names, but sync ones."""
    return (
        not isinstance(value, type)
        and isinstance(getattr(value, "name", None), str)
        and hasattr(value, "dims")
        and not hasattr(value, "aembed_documents")
        and all(
            inspect.iscoroutinefunction(getattr(value, method, None)) for method in ("embed_documents", "embed_query")
        )
    )


def _provider_embeddings(model: str) -> object:
    if not all(part.strip() for part in model.partition(":")):
        raise ConfigurationError(
            f'embeddings={model!r} is not of the form "provider:model", such as "openai:text-embedding-3-small".'
        )
    try:
        # by name, so that this layer stays free of the framework unless a string asks for it
        init_embeddings = importlib.import_module("langchain.embeddings").init_embeddings
    except ImportError as exc:
        raise UnsupportedError(
            f"embeddings={model!r} needs LangChain: pip install langchain, and the package of the provider."
        ) from exc
    try:
        embeddings: object = init_embeddings(model)
    except ImportError as exc:
        raise UnsupportedError(f"embeddings={model!r} needs another package ({reason_of(exc)}).") from exc
    except Exception as exc:  # the border: constructors of providers fail with errors of their clients
        raise ConfigurationError(f"embeddings={model!r} could not be set up ({reason_of(exc)}).") from exc
    return embeddings
