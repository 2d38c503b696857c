"""Between the store and an embedder: nobody waits for long, and whatever goes wrong is one kind of error."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from memory_plugin.embedding.cache import QueryCache
from memory_plugin.embedding.protocol import Embedder, Vector
from memory_plugin.embedding.texts import reason_of
from memory_plugin.errors import EmbeddingError, UnsupportedError

T = TypeVar("T")

QUERY_SECONDS: Final = 5.0
"""How long a search waits for the vector of its query, unless the settings say."""

DOCUMENT_SECONDS: Final = 120.0
"""How long the background waits for the vectors of one batch."""

REST: Final = (5.0, 60.0)
"""Seconds in which no search waits for an embedder that gave no answer in time: at first, and at the most."""

RECENT: Final = 2048
"""Documents whose vectors are kept for the next one with the same text, where the embedder is slow."""


class Guard:
    """One embedder, with limits on how long it may take.

    An embedder that hangs is given up on, and rests: until a pause is over, or the background has had
    vectors from it again, queries fail at once instead of each waiting in turn.

    Args:
        query_seconds: how long a query may take.
        document_seconds: how long a batch of documents may take.
    """

    def __init__(
        self, embedder: Embedder, *, query_seconds: float = QUERY_SECONDS, document_seconds: float = DOCUMENT_SECONDS
    ) -> None:
        self.embedder = embedder
        self.query_seconds = query_seconds
        self._document_seconds = document_seconds
        self._rest = REST[0]
        self._awake_at = 0.0
        self._left: set[asyncio.Future[object]] = set()
        self._recent = QueryCache(RECENT)

    @property
    def name(self) -> str:
        """The name of the vector space."""
        return self.embedder.name

    @property
    def at_once(self) -> bool:
        """Whether the embedder is quick enough to embed what was just written while a search waits."""
        return bool(getattr(self.embedder, "at_once", False))

    @property
    def is_resting(self) -> bool:
        """Whether a query would fail at once, because the last ones had no answer in time."""
        return time.monotonic() < self._awake_at

    async def width(self) -> int:
        """How many numbers its vectors have. Raises EmbeddingError."""
        return self.embedder.dims or len(await self.query("width"))

    async def query(self, text: str) -> Vector:
        """The vector to search with. Raises EmbeddingError."""
        if self.is_resting:
            raise EmbeddingError(
                f"The embedder {self.name} gave no answer in time and is left alone for a while: "
                "check that it can be reached, or raise MEMORY_EMBEDDING_TIMEOUT."
            )
        vector = await self._within(self.query_seconds, self.embedder.embed_query(text))
        return self._checked([vector], 1)[0]

    async def documents(self, texts: Sequence[str], *, seconds: float | None = None) -> list[Vector]:
        """One vector per text; a text that was embedded a short while ago is not asked for again.

        Raises:
            EmbeddingError: the embedder failed, or gave no answer in time.
        """
        of: dict[str, Vector] = {} if self.at_once else self._known(texts)
        if unique := [text for text in dict.fromkeys(texts) if text not in of]:
            asked = self.embedder.embed_documents(unique)
            vectors = self._checked(await self._within(seconds or self._document_seconds, asked), len(unique))
            self._awake_at, self._rest = 0.0, REST[0]
            of |= zip(unique, vectors, strict=True)
            if not self.at_once:
                for text, vector in zip(unique, vectors, strict=True):
                    self._recent.put(_content(text), vector)
        return [of[text] for text in texts]

    def _known(self, texts: Sequence[str]) -> dict[str, Vector]:
        """The vectors of those texts that are still kept."""
        found = ((text, self._recent.get(_content(text))) for text in dict.fromkeys(texts))
        return {text: vector for text, vector in found if vector is not None}

    async def _within(self, seconds: float, call: Awaitable[T]) -> T:
        if self.at_once:
            # it answers sooner than a task of its own would begin
            try:
                async with asyncio.timeout(seconds):
                    with self._translated():
                        return await call
            except TimeoutError as error:
                raise self._no_answer(seconds) from error
        task = asyncio.ensure_future(call)
        try:
            done, _ = await asyncio.wait({task}, timeout=seconds)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not done:
            self._leave(task)
            raise self._no_answer(seconds)
        with self._translated():
            try:
                return task.result()
            except asyncio.CancelledError as error:
                raise EmbeddingError(f"The embedder {self.name} cancelled its own work.") from error

    def _no_answer(self, seconds: float) -> EmbeddingError:
        """What is said of an embedder that took too long, which rests now."""
        self._awake_at, self._rest = time.monotonic() + self._rest, min(2 * self._rest, REST[1])
        # the setting is about what a search waits for
        advice = "check that it can be reached, or raise MEMORY_EMBEDDING_TIMEOUT."
        if seconds == self._document_seconds:
            advice = "check that it can be reached. What waits for vectors is found by words, and embedded later."
        return EmbeddingError(f"The embedder {self.name} gave no answer within {seconds:g} seconds: {advice}")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Whatever an embedder raises is an EmbeddingError."""
        try:
            yield
        except EmbeddingError:
            raise
        except UnsupportedError as error:
            raise EmbeddingError(str(error)) from error
        except Exception as error:  # the border: an embedder of the application raises what it likes
            raise EmbeddingError(f"The embedder {self.name} failed ({reason_of(error)}).") from error

    def _leave(self, task: asyncio.Future[T]) -> None:
        """Let a call that is given up on end by itself: one that will not be cancelled must not be waited for."""
        left: asyncio.Future[object] = task  # type: ignore[assignment]
        self._left.add(left)
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.add_done_callback(lambda _: self._left.discard(left))
        task.cancel()

    def _checked(self, answer: Any, expected: int) -> list[Vector]:
        """The vectors with length 1, if they are what was asked for."""
        try:
            vectors = [list(map(float, vector)) for vector in answer]
        except (TypeError, ValueError, OverflowError) as error:
            raise EmbeddingError(
                f"The embedder {self.name} did not return a list of vectors of numbers ({reason_of(error)})."
            ) from error
        if len(vectors) != expected:
            raise EmbeddingError(f"The embedder {self.name} returned {len(vectors)} vectors for {expected} texts.")
        width = self.embedder.dims or (len(vectors[0]) if vectors else 0)
        return [self._normalised(vector, width) for vector in vectors]

    def _normalised(self, vector: Vector, width: int) -> Vector:
        if len(vector) != width:
            raise EmbeddingError(
                f"The embedder {self.name} returned a vector of width {len(vector)} where {width} was "
                "expected: use one model for one store, or give the new one its own name."
            )
        norm = math.hypot(*vector)
        if not math.isfinite(norm):
            raise EmbeddingError(f"The embedder {self.name} returned a vector with NaN or infinity in it.")
        if norm == 0 or abs(norm - 1) < 1e-3:
            return vector
        return [value / norm for value in vector]


def _content(text: str) -> str:
    """What a text is known by: itself, or the hash of a long one."""
    return text if len(text) <= 64 else hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
