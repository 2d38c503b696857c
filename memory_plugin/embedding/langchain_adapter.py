"""An adapter for everybody else's models: LangChain's embeddings, or a plain function."""

from __future__ import annotations

import asyncio
import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from memory_plugin.embedding.cache import QueryCache
from memory_plugin.embedding.protocol import Vector
from memory_plugin.embedding.texts import batched_texts, clean_text, reason_of
from memory_plugin.errors import ConfigurationError, EmbeddingError


class LangChainEmbedder:
    """An adapter for any object with LangChain's embedding methods, or a function from texts to vectors.

    Its async methods are preferred; sync ones run in a worker thread. Documents go out in batches of
    `batch_size`, at most `concurrency` at a time. `document_timeout` and `query_timeout` are the
    seconds one call may take (None: no limit); a sync call that is given up on ends in its thread.
    Texts without any visible character are not sent.

    `name` is derived from the class and its model unless given: give one where the object does not
    tell, such as a lambda. `dims` declares the width to expect, otherwise the first answer sets it.
    `spec` is the setting that would open the model again, where there is one.
    """

    def __init__(
        self,
        embeddings: object,
        name: str | None = None,
        *,
        dims: int | None = None,
        batch_size: int = 64,
        concurrency: int = 4,
        document_timeout: float | None = 60.0,
        query_timeout: float | None = 10.0,
        query_cache: int = 1024,
        spec: str | None = None,
    ) -> None:
        if batch_size < 1 or concurrency < 1:
            raise ConfigurationError("batch_size and concurrency of an embedder must be at least 1.")
        self._documents, self._query = _methods(embeddings)
        self.name = name or _space_name(embeddings)
        self.dims = dims
        self.spec = spec
        self._batch_size = batch_size
        self._concurrency = concurrency
        self._document_timeout = document_timeout
        self._query_timeout = query_timeout
        self._cache = QueryCache(query_cache)

    async def embed_documents(self, texts: Sequence[str]) -> list[Vector]:
        """One vector per text, in order; the first failure ends the other batches. Raises EmbeddingError."""
        clean = [clean_text(text) for text in texts]
        batches = batched_texts([text for text in clean if text], self._batch_size)
        if len(batches) <= 1:
            answers = [await self._embed_batch(batch) for batch in batches]
        else:
            answers = await self._embed_batches(batches)
        embedded = chain.from_iterable(answers)
        if all(clean):
            return list(embedded)
        empty = [0.0] * await self._width()
        return [next(embedded) if text else list(empty) for text in clean]

    async def embed_query(self, text: str) -> Vector:
        """The vector to search with. Raises EmbeddingError."""
        text = clean_text(text)
        if not text:
            return [0.0] * await self._width()
        return await self._cache.fetch(text, partial(self._embed_query, text))

    async def _embed_batches(self, batches: list[list[str]]) -> list[list[Vector]]:
        turn = asyncio.Semaphore(self._concurrency)

        async def embed(batch: list[str]) -> list[Vector]:
            async with turn:
                return await self._embed_batch(batch)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(embed(batch)) for batch in batches]
        except ExceptionGroup as failures:
            first = failures.exceptions[0]
            raise first from first.__cause__
        return [task.result() for task in tasks]

    async def _embed_batch(self, texts: list[str]) -> list[Vector]:
        answer = await self._ask(self._documents, texts, self._document_timeout)
        return self._checked(answer, len(texts))

    async def _embed_query(self, text: str) -> Vector:
        if self._query is None:
            answer = await self._ask(self._documents, [text], self._query_timeout)
        else:
            answer = [await self._ask(self._query, text, self._query_timeout)]
        return self._checked(answer, 1)[0]

    async def _width(self) -> int:
        if self.dims is None:
            await self._embed_batch(["width"])
        assert self.dims is not None
        return self.dims

    async def _ask(self, method: _Method, argument: object, seconds: float | None) -> Any:
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await method(argument)
        except Exception as exc:  # the border: a provider raises whatever its client library has
            if limit.expired():
                raise EmbeddingError(
                    f"The embedder {self.name} gave no answer within {seconds:g} seconds: "
                    "check that it can be reached, or raise its timeout."
                ) from exc
            raise EmbeddingError(f"The embedder {self.name} failed ({reason_of(exc)}).") from exc

    def _checked(self, answer: Any, expected: int) -> list[Vector]:
        """The answer as normalised lists of floats, if it is what was asked for."""
        try:
            vectors = [list(map(float, vector)) for vector in answer]
        except (TypeError, ValueError, OverflowError) as exc:
            raise EmbeddingError(
                f"The embedder {self.name} did not return a list of vectors of numbers ({reason_of(exc)})."
            ) from exc
        if len(vectors) != expected:
            raise EmbeddingError(f"The embedder {self.name} returned {len(vectors)} vectors for {expected} texts.")
        width = self.dims or (len(vectors[0]) if vectors else 0)
        for vector in vectors:
            if len(vector) != width or not vector:
                raise EmbeddingError(
                    f"The embedder {self.name} returned a vector of width {len(vector)} where {width} was "
                    "expected: use one model for one store, or give the new one its own name."
                )
        normalised = [self._normalised(vector) for vector in vectors]
        self.dims = width
        return normalised

    def _normalised(self, vector: Vector) -> Vector:
        norm = math.hypot(*vector)
        if not math.isfinite(norm):
            raise EmbeddingError(f"The embedder {self.name} returned a vector with NaN or infinity in it.")
        if norm == 0 or abs(norm - 1) < 1e-7:
            return vector
        return [value / norm for value in vector]


@dataclass(frozen=True, slots=True)
class _Method:
    """A provider's function under one calling convention: async on the loop, sync in a thread."""

    function: Callable[[Any], Any]
    is_async: bool

    async def __call__(self, argument: object) -> Any:
        if self.is_async:
            return await self.function(argument)
        answer = await asyncio.to_thread(self.function, argument)
        # a sync wrapper (a decorator, a callable object) may hand back a coroutine
        return await answer if inspect.isawaitable(answer) else answer


def _methods(embeddings: object) -> tuple[_Method, _Method | None]:
    """How to ask for documents and for a query; without the latter a query is a batch of one."""
    if not isinstance(embeddings, type):
        documents = _method(embeddings, "aembed_documents") or _method(embeddings, "embed_documents")
        if documents is not None:
            return documents, _method(embeddings, "aembed_query") or _method(embeddings, "embed_query")
        if callable(embeddings):
            is_async = inspect.iscoroutinefunction(embeddings) or inspect.iscoroutinefunction(
                getattr(embeddings, "__call__", None)  # noqa: B004 - an object with an async __call__
            )
            return _Method(embeddings, is_async), None
    raise ConfigurationError(
        'embeddings must be None, False, a "provider:model" string, an object with LangChain\'s embedding '
        f"methods, or a function from texts to vectors; got {_described(embeddings)}."
    )


def _method(embeddings: object, name: str) -> _Method | None:
    function = getattr(embeddings, name, None)
    if not callable(function):
        return None
    return _Method(function, name.startswith("aembed") or inspect.iscoroutinefunction(function))


def _described(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} (pass an instance)"
    return f"a value of type {type(value).__name__}"


_MODEL_ATTRIBUTES = ("model", "model_name", "model_id", "repo_id", "model_path")
_WIDTH_ATTRIBUTES = ("dimensions", "output_dimensionality", "output_dimension", "size")


def _space_name(embeddings: object) -> str:
    """Class, model and chosen width: what tells one vector space from another."""
    for attribute in ("underlying_embeddings", "afunc", "func"):  # a cache, a wrapped function, a partial
        inner = getattr(embeddings, attribute, None)
        if callable(inner) or hasattr(inner, "aembed_documents") or hasattr(inner, "embed_documents"):
            return _space_name(inner)
    if inspect.isroutine(embeddings):
        return f"{embeddings.__module__}.{embeddings.__qualname__}"
    kind = type(embeddings).__name__
    # on Azure the deployment decides; `model` is a default that may be wrong there
    first = ("deployment",) if kind.startswith("Azure") else ()
    models = (getattr(embeddings, attribute, None) for attribute in (*first, *_MODEL_ATTRIBUTES))
    widths = (getattr(embeddings, attribute, None) for attribute in _WIDTH_ATTRIBUTES)
    model = next((value for value in models if isinstance(value, str) and value), None)
    width = next((str(value) for value in widths if type(value) is int), None)
    return ":".join(part for part in (kind, model, width) if part)
