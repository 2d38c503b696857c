"""From the `embeddings` argument of an open call to an embedder."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeGuard

from memory_plugin.embedding.langchain_adapter import LangChainEmbedder
from memory_plugin.embedding.packaged import MultilingualEmbedder, OnnxEmbedder
from memory_plugin.embedding.protocol import Embedder
from memory_plugin.embedding.static import EMBEDDED_PACKAGES, StaticEmbedder
from memory_plugin.embedding.texts import reason_of
from memory_plugin.errors import ConfigurationError, UnsupportedError

PACKAGED: dict[str, type[StaticEmbedder | OnnxEmbedder | MultilingualEmbedder]] = {
    kind.spec: kind for kind in (StaticEmbedder, OnnxEmbedder, MultilingualEmbedder)
}
"""The models that come with a package, by the name that settings give them."""


def resolve_embedder(embeddings: object = None) -> Embedder | None:
    """The embedder for the `embeddings` argument of an open call; None means recall by words alone.

    None takes the offline default where its packages are installed; False or "none" turns vectors off;
    "static" (that default), "onnx" and "multilingual" are models that come with a package; a string
    "provider:model" goes to LangChain's `init_embeddings`; an Embedder is returned as it is; anything
    else is adapted by LangChainEmbedder.

    Raises ConfigurationError for what cannot be an embedder, UnsupportedError where a package is missing.
    """
    if embeddings is None:
        return StaticEmbedder() if StaticEmbedder.is_available() else None
    if embeddings is False:
        return None
    if isinstance(embeddings, str):
        return _named(embeddings.strip())
    if _is_embedder(embeddings):
        return embeddings
    return LangChainEmbedder(embeddings)


DOCUMENTS_UP_TO: Final = 20_000
"""Passages of documents that a tenant may have for a model that nobody chose: at ten a second, as one core reads them,
that is half an hour of work."""


@dataclass(frozen=True, slots=True)
class Embedders:
    """The models of a store.

    Attributes:
        everything: what every passage is embedded with; None for words alone.
        documents: what passages of documents are embedded with beside that; None for no more.
        documents_up_to: the passages of documents that a tenant may have for that; None for any number.
    """

    everything: Embedder | None
    documents: Embedder | None = None
    documents_up_to: int | None = None

    def each(self, change: Callable[[Embedder | None], Embedder | None]) -> Embedders:
        """The same with something between the store and the models."""
        return Embedders(change(self.everything), change(self.documents), self.documents_up_to)


def resolve_embedders(embeddings: object = None, documents: object = None) -> Embedders:
    """The models for the `embeddings` and `document_embeddings` arguments of an open call.

    Where nothing is said of either, and its packages are installed, `onnx` reads documents beside the offline
    default: who chose a model gets no second one.

    Raises ConfigurationError for what cannot be an embedder, UnsupportedError where a package is missing.
    """
    everything = resolve_embedder(embeddings)
    if documents is None:
        second = OnnxEmbedder() if embeddings is None and OnnxEmbedder.is_available() else None
        return Embedders(everything, second if everything is not None else None, DOCUMENTS_UP_TO)
    of_documents = resolve_embedder(documents)
    if everything is None or of_documents is None or of_documents.name == everything.name:
        return Embedders(everything)
    return Embedders(everything, of_documents)


def _named(name: str) -> Embedder | None:
    """The embedder of a name in the settings."""
    if name.lower() == "none":
        return None
    kind = PACKAGED.get(name.lower())
    if kind is None:
        return LangChainEmbedder(_provider_embeddings(name), spec=name)
    if not kind.is_available():
        raise UnsupportedError(
            f'embeddings={name!r} needs packages: pip install "memory-plugin[{kind.spec}]" (multilingual has no '
            "wheel for Windows), or name another embedder."
            if kind is not StaticEmbedder
            else f"embeddings={name!r} needs packages: {EMBEDDED_PACKAGES}, or name another embedder."
        )
    return kind()


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
            f'embeddings={model!r} is none of static, onnx, multilingual and none, nor of the form "provider:model", '
            'such as "openai:text-embedding-3-small".'
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
