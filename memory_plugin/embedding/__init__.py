"""Texts to vectors: the protocol, the offline default, and an adapter for everybody else's models.

Every vector that leaves this module has length 1, so that the inner product of two of them is their
cosine. The one exception is the zero vector: it stands for a text with nothing in it to embed (empty
or white space only), and its inner product with anything is 0.

Nothing heavy is imported here: numpy, tokenizers and langchain load when they are first used.
"""

from __future__ import annotations

from memory_plugin.embedding.cache import QueryCache
from memory_plugin.embedding.choose import DOCUMENTS_UP_TO, Embedders, resolve_embedder, resolve_embedders
from memory_plugin.embedding.langchain_adapter import LangChainEmbedder
from memory_plugin.embedding.names import strip_names
from memory_plugin.embedding.packaged import MultilingualEmbedder, OnnxEmbedder
from memory_plugin.embedding.protocol import Embedder, Vector
from memory_plugin.embedding.static import EMBEDDED_PACKAGES, StaticEmbedder
from memory_plugin.embedding.vectors import vector_text

__all__ = [
    "DOCUMENTS_UP_TO",
    "EMBEDDED_PACKAGES",
    "Embedder",
    "Embedders",
    "LangChainEmbedder",
    "MultilingualEmbedder",
    "OnnxEmbedder",
    "QueryCache",
    "StaticEmbedder",
    "Vector",
    "resolve_embedder",
    "resolve_embedders",
    "strip_names",
    "vector_text",
]
