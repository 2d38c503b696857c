"""Measures an open store, by putting measured functions in the place of its own.

A store that is not measured has none of this: its methods are the methods of its classes, its
connections are those of the driver, and this module is not imported.

Every public coroutine of the store and of its capabilities becomes an operation, those that are
added later too. An operation that is part of another one is not measured for itself; its statements
are.
"""

from __future__ import annotations

import functools
import inspect
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import TimeoutError as PoolTimeout

from memory_plugin.db.database import Database
from memory_plugin.db.lanes import JoinedCalls, SharedReads
from memory_plugin.db.measured import Statements, measured
from memory_plugin.db.pool import LoopPool
from memory_plugin.errors import EmbeddingError
from memory_plugin.telemetry import (
    ERROR_TYPE,
    SCOPE,
    Callers,
    Operation,
    PoolCounts,
    Telemetry,
    failed,
    kind_of,
    under_way,
)

if TYPE_CHECKING:
    from memory_plugin.capabilities.passages import Passages
    from memory_plugin.embedding import Embedder
    from memory_plugin.settings import Settings

V = TypeVar("V")

TENANT = f"{SCOPE}.tenant"

_CAPABILITIES = "memory_plugin.capabilities."
_OF_THE_STORE = (
    "remember", "remember_many", "recall", "search_references", "forget", "unforget", "indexed",
    "import_records", "export",
)  # fmt: skip

_PREFIXES = {"memories.items": "store"}
"""What is not called by its place in the store."""

GEN_AI: Mapping[str, str] = {
    "remember": "upsert_memory",
    "remember_many": "upsert_memory",
    "memories.remember": "upsert_memory",
    "memories.remember_many": "upsert_memory",
    "store.put": "upsert_memory",
    "unforget": "update_memory",
    "memories.undo": "update_memory",
    "recall": "search_memory",
    "store.search": "search_memory",
    "search_references": "retrieval",
    "references.search": "retrieval",
    "forget": "delete_memory",
    "memories.forget": "delete_memory",
    "memories.forget_user": "delete_memory",
    "erasure.erase_user": "delete_memory",
}
"""Operations that the conventions for generative AI have a name for."""

_IDS = {"thread_id": "gen_ai.conversation.id", "user_id": "user.id", "item_id": "gen_ai.memory.record.id"}
"""Arguments that are ids, and the attributes they go by."""


class Observer:
    """Measures one store.

    Args:
        settings: whose `telemetry` is on; where it is no more than that, the global providers are taken.
        database: measured from now on; it must not have been connected.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        chosen = settings.telemetry
        self._telemetry = chosen if isinstance(chosen, Telemetry) else Telemetry(ids=settings.telemetry_ids)
        self._closing = ExitStack()
        statements = Statements(self._telemetry, database)
        database.change_connections(lambda kind: measured(kind, statements))
        pool = database.engine.pool
        if isinstance(pool, LoopPool):
            self._watch_pool(pool, statements.pool_name)

    def close(self) -> None:
        """Read no more of the pool."""
        self._closing.close()

    def _watch_pool(self, pool: LoopPool, name: str) -> None:
        instruments = self._telemetry.instruments
        counts = PoolCounts(name, lambda: (pool.checkedout(), pool.checkedin(), pool.size(), pool.waiting()))
        self._closing.callback(instruments.watch(counts))
        of_pool = {"db.client.connection.pool.name": name}
        acquire = pool.acquire

        async def timed() -> Any:
            began = time.perf_counter()
            try:
                entry = await acquire()
            except PoolTimeout:
                instruments.timeouts.add(1, of_pool)
                raise
            instruments.waits.record(time.perf_counter() - began, of_pool)
            return entry

        _put(pool, "acquire", timed)

    def embedder(self, embedder: Embedder | None) -> Embedder | None:
        """The embedder, measured."""
        return None if embedder is None else MeasuredEmbedder(embedder, self._telemetry)

    def watch(self, core: Any) -> None:
        """Measure everything that can be asked of the store from now on: of its tenant, where one has several."""
        for name in _OF_THE_STORE:
            self.measure(core, name, name, core.tenant)
        for name, part in list(vars(core).items()):
            if not name.startswith("_") and type(part).__module__.startswith(_CAPABILITIES):
                self._watch_part(part, name, core.tenant)

    def measure(self, owner: Any, name: str, operation: str, tenant: str) -> None:
        """Measure a method of this object as an operation of that name; what is no coroutine stays as it is."""
        function = getattr(type(owner), name, None)
        if not inspect.isfunction(function):
            return
        method: Callable[..., Any] = function.__get__(owner)
        if operation == "passages.fill":
            method = self._then_look(owner, method, tenant)
        begin = _Begin(self._telemetry, operation, tenant, _ids_of(function) if self._telemetry.ids else None)
        if operation == "export" or inspect.isasyncgenfunction(function):
            _put(owner, name, functools.wraps(method)(self._generator(method, begin)))
        elif inspect.iscoroutinefunction(function):
            _put(owner, name, functools.wraps(method)(self._coroutine(method, begin)))

    def _watch_part(self, part: Any, path: str, tenant: str) -> None:
        prefix = _PREFIXES.get(path, path)
        for name in dir(type(part)):
            if not name.startswith("_"):
                self.measure(part, name, f"{prefix}.{name}", tenant)
        for name, inner in list(vars(part).items()):
            if isinstance(inner, JoinedCalls | SharedReads):
                inner.watcher = Callers()
            elif not name.startswith("_") and type(inner).__module__.startswith(_CAPABILITIES):
                self._watch_part(inner, f"{path}.{name}", tenant)

    def _coroutine(self, method: Callable[..., Awaitable[Any]], begin: _Begin) -> Callable[..., Awaitable[Any]]:
        tell = _TELL.get(begin.operation)
        instruments = self._telemetry.instruments

        async def measured_method(*args: Any, **kwargs: Any) -> Any:
            if under_way() is not None:
                return await method(*args, **kwargs)
            with begin(args, kwargs) as operation:
                result = await method(*args, **kwargs)
                if tell is not None:
                    tell(instruments, operation, args, result)
                return result

        return measured_method

    def _generator(self, method: Callable[..., Any], begin: _Begin) -> Callable[..., AsyncGenerator[Any, None]]:
        async def measured_method(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
            source = method(*args, **kwargs)
            if under_way() is not None:
                try:
                    async for each in source:
                        yield each
                finally:
                    await source.aclose()
                return
            operation, error = begin(args, kwargs), None
            try:
                while (each := await _step(operation, source)) is not _END:
                    yield each
            except GeneratorExit:  # who reads it has enough
                raise
            except BaseException as raised:
                error = raised
                raise
            finally:
                await _close(operation, source)
                operation.end(error)

        return measured_method

    def _then_look(self, passages: Passages, fill: Callable[[], Awaitable[int]], tenant: str) -> Callable[..., Any]:
        """Look how much is left after each run of the embedder: where that fails it grows."""
        gauge, of_tenant = self._telemetry.instruments.queue, {TENANT: tenant}

        async def look() -> None:
            backlog = await passages.backlog()
            gauge.set(backlog.words, {"queue": "words", **of_tenant})
            gauge.set(backlog.vectors, {"queue": "vectors", **of_tenant})

        @functools.wraps(fill)
        async def fill_and_look() -> int:
            try:
                done = await fill()
            except EmbeddingError:
                await look()
                raise
            await look()
            return done

        return fill_and_look


class _Begin:
    """Begins an operation of one name."""

    def __init__(
        self, telemetry: Telemetry, operation: str, tenant: str, ids: Callable[..., Mapping[str, str]] | None
    ) -> None:
        self.operation = operation
        gen_ai = GEN_AI.get(operation)
        self._telemetry = telemetry
        self._span_name = gen_ai or operation
        self._attributes = {f"{SCOPE}.operation": operation, TENANT: tenant}
        if gen_ai is not None:
            self._attributes["gen_ai.operation.name"] = gen_ai
        self._ids = ids

    def __call__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Operation:
        attributes = self._attributes if self._ids is None else {**self._attributes, **self._ids(args, kwargs)}
        return self._telemetry.operation(self.operation, self._span_name, attributes)


def _put(owner: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(owner, name, function)


_END: Any = object()


async def _step(operation: Operation, source: AsyncGenerator[Any, None]) -> Any:
    """The next of what is given piece by piece; only while it is made the operation is under way."""
    operation.enter()
    try:
        return await anext(source, _END)
    finally:
        operation.leave()


async def _close(operation: Operation, source: AsyncGenerator[Any, None]) -> None:
    operation.enter()
    try:
        await source.aclose()
    finally:
        operation.leave()


# -- what operations tell of their results


def _ids_of(function: Callable[..., Any]) -> Callable[[Sequence[Any], Mapping[str, Any]], Mapping[str, str]]:
    """Reads the ids among the arguments of a method."""
    parameters = list(inspect.signature(function).parameters)[1:]
    wanted = [(place, name) for place, name in enumerate(parameters) if name in _IDS]
    whole = parameters[:1] in (["given"], ["wanted"])  # of a checkpoint, with the ids inside

    def read(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Mapping[str, str]:
        found = {_IDS[name]: args[place] if place < len(args) else kwargs.get(name) for place, name in wanted}
        if whole and args:
            found |= {attribute: getattr(args[0], name, None) for name, attribute in _IDS.items()}
        return {attribute: str(value) for attribute, value in found.items() if value is not None}

    return read


_Tell = Callable[[Any, Operation, Sequence[Any], Any], None]


def _tell_hits(instruments: Any, operation: Operation, _: Sequence[Any], hits: Any) -> None:
    operation.span.set_attribute("gen_ai.memory.record.count", len(hits))
    for kind, number in Counter(hit.kind for hit in hits).items():
        instruments.hits.add(number, {"kind": kind})


def _tell_memory(instruments: Any, operation: Operation, _: Sequence[Any], item: Any) -> None:
    operation.note(status=str(item.status))
    instruments.memories.add(1, {"status": str(item.status)})


def _tell_memories(instruments: Any, operation: Operation, _: Sequence[Any], items: Any) -> None:
    operation.span.set_attribute("gen_ai.memory.record.count", len(items))
    for status, number in Counter(str(getattr(item, "status", "refused")) for item in items).items():
        instruments.memories.add(number, {"status": status})


def _tell_checkpoint(instruments: Any, operation: Operation, args: Sequence[Any], result: Any) -> None:
    if result.base is None:  # it was stored already, or what it builds on is gone: nothing was written
        return
    messages = len(args[0].messages)
    operation.note(messages=messages)
    instruments.checkpoints.add(1)
    instruments.messages.add(messages, {f"{SCOPE}.operation": operation.name})


def _tell_messages(instruments: Any, operation: Operation, _: Sequence[Any], messages: Any) -> None:
    operation.note(messages=len(messages))
    instruments.messages.add(len(messages), {f"{SCOPE}.operation": operation.name})


def _tell_items(instruments: Any, operation: Operation, args: Sequence[Any], _: Any) -> None:
    operation.span.set_attribute("gen_ai.memory.record.count", len(args[0]))
    instruments.items.add(len(args[0]))


def _tell_batch(instruments: Any, operation: Operation, args: Sequence[Any], results: Any) -> None:
    batch = args[0]
    operation.note(operations=len(results))
    found = len(batch.searches) + len(batch.ranked)
    if found == batch.size:
        operation.span.set_attribute("gen_ai.operation.name", "search_memory")
    elif not found and not batch.gets and not batch.listings:
        operation.span.set_attribute("gen_ai.operation.name", "upsert_memory")
    if batch.puts:
        instruments.items.add(len(batch.puts))


_TELL: Mapping[str, _Tell] = {
    "recall": _tell_hits,
    "search_references": _tell_hits,
    "references.search": _tell_hits,
    "remember": _tell_memory,
    "memories.remember": _tell_memory,
    "remember_many": _tell_memories,
    "memories.remember_many": _tell_memories,
    "checkpoints.put": _tell_checkpoint,
    "conversations.append": _tell_messages,
    "store.put": _tell_items,
    "store.batch": _tell_batch,
}


# -- the embedder


class MeasuredEmbedder:
    """An embedder whose calls are measured; in everything else it is the one it was."""

    def __init__(self, embedder: Embedder, telemetry: Telemetry) -> None:
        self._embedder = embedder
        self._telemetry = telemetry

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    @property
    def name(self) -> str:
        """Stable identifier of the vector space."""
        return self._embedder.name

    @property
    def dims(self) -> int | None:
        """Width of the vectors, None until the first one was seen."""
        return self._embedder.dims

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector per text, in order."""
        return await self._embed(len(texts), lambda: self._embedder.embed_documents(texts))

    async def embed_query(self, text: str) -> list[float]:
        """The vector to search with."""
        return await self._embed(1, lambda: self._embedder.embed_query(text))

    async def _embed(self, texts: int, run: Callable[[], Awaitable[V]]) -> V:
        from opentelemetry import trace

        instruments, name = self._telemetry.instruments, self.name
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "embeddings",
            "gen_ai.request.model": name,
            f"{SCOPE}.texts": texts,
        }
        with self._telemetry.tracer.start_as_current_span(
            f"embeddings {name}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                vectors = await run()
            except BaseException as error:
                failed(span, error)
                of_failure = {"gen_ai.request.model": name, ERROR_TYPE: kind_of(error)}
                instruments.embedder_failures.add(1, of_failure)
                raise
            instruments.texts.add(texts, {"gen_ai.request.model": name})
            return vectors
