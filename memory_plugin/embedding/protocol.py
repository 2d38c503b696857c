"""What recall and indexing ask of an embedder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Vector = list[float]


class Embedder(Protocol):
    """What recall and indexing need from a model; all methods may be called from any event loop.

    An embedder may also have an attribute `at_once`. True says that it is quick and costs nothing to ask,
    so that what was just written is embedded while the next search waits for it. Without it, or where
    it is False, new texts get their vectors in the background, and until then words alone find them.
    An attribute `spec` is the value of MEMORY_EMBEDDINGS that opens the model again: with it a store goes
    on searching the vectors of this model while those of its successor are being made.
    An attribute `reads_sentences` says that the model reads a text as a whole, not word by word: recall
    then gives meaning more weight (`Weights.of_sentences`).
    """

    @property
    def name(self) -> str:
        """Stable identifier of the vector space: vectors under different names are never compared."""

    @property
    def dims(self) -> int | None:
        """Width of the vectors, None until the first one was seen."""

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order. Raises EmbeddingError or UnsupportedError."""

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with. Raises EmbeddingError or UnsupportedError."""
