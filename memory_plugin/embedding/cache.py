"""The vectors of recent queries."""

from __future__ import annotations

import asyncio
import threading
from array import array
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from memory_plugin.embedding.protocol import Vector


@dataclass(slots=True)
class _Call:
    task: asyncio.Task[Vector]
    waiters: int = 0


class QueryCache:
    """The vectors of the last `size` different queries, and one call for all who ask the same at once.

    Vectors are kept as 32-bit floats, a sixth of the memory of a list, and no less exact than what
    the database stores.
    """

    def __init__(self, size: int = 1024) -> None:
        self._size = size
        self._vectors: OrderedDict[str, array[float]] = OrderedDict()
        self._calls: dict[tuple[asyncio.AbstractEventLoop, str], _Call] = {}
        self._lock = threading.Lock()  # event loops of several threads may share one embedder

    def get(self, text: str) -> Vector | None:
        """A fresh copy of the cached vector, or None."""
        with self._lock:
            vector = self._vectors.get(text)
            if vector is None:
                return None
            self._vectors.move_to_end(text)
        return vector.tolist()

    def put(self, text: str, vector: Vector) -> Vector:
        """Keep the vector; returns what `get` will return, so that a miss and a hit agree exactly."""
        packed = array("f", vector)
        with self._lock:
            self._vectors[text] = packed
            self._vectors.move_to_end(text)
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return packed.tolist()

    async def fetch(self, text: str, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        """The cached vector, or the result of `compute`, which runs once for all concurrent callers.

        A caller that is cancelled leaves the call to the others; the last one to leave cancels it.
        """
        cached = self.get(text)
        if cached is not None:
            return cached
        key = asyncio.get_running_loop(), text
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(self._compute(text, compute)))
        call.waiters += 1
        try:
            return list(await asyncio.shield(call.task))
        finally:
            call.waiters -= 1
            if not call.waiters:
                # at once, not when the task ends: a newcomer must not join a call being cancelled
                if self._calls.get(key) is call:
                    del self._calls[key]
                call.task.cancel()

    async def _compute(self, text: str, compute: Callable[[], Awaitable[Vector]]) -> Vector:
        return self.put(text, await compute())
