"""The only code that crosses between sync and async.

One store belongs to one event loop: the one that opened it, or, when it was opened by plain
`with`, a loop on a thread of its own. A sync method sends its coroutine there and waits.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any, TypeVar

from memory_plugin.errors import WrongLoopError

T = TypeVar("T")


class Bridge:
    """Runs coroutines on the event loop that owns the store, from any other thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, thread: threading.Thread | None = None) -> None:
        self._loop = loop
        self._thread = thread

    @classmethod
    def attach(cls) -> Bridge:
        """A bridge to the running loop."""
        return cls(asyncio.get_running_loop())

    @classmethod
    def start(cls) -> Bridge:
        """A bridge to a new loop on a daemon thread; end it with `stop`."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="memory-plugin", daemon=True)
        thread.start()
        return cls(loop, thread)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that owns the store."""
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end and give the result.

        Raises:
            WrongLoopError: called on the owning loop itself, or after it has ended.
        """
        try:
            running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            coroutine.close()
            raise WrongLoopError(
                "This is the event loop that opened the store, so a sync call would wait for itself: "
                "await the async method instead (aput, aget, ainvoke ...), or call from another thread."
            )
        if self._loop.is_closed() or not self._loop.is_running():
            coroutine.close()
            raise WrongLoopError(
                "The event loop that opened the store has ended: open the store again in this one, "
                "or open it with a plain `with` so that it keeps a loop of its own."
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def reach(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run on the owning loop, whichever loop this is.

        Raises:
            WrongLoopError: the owning loop has ended.
        """
        if asyncio.get_running_loop() is self._loop:
            return await coroutine
        if self._loop.is_closed() or not self._loop.is_running():
            coroutine.close()
            raise WrongLoopError(
                "The event loop that opened the store has ended: open the store again in this one, "
                "or open it with a plain `with` so that it keeps a loop of its own."
            )
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self._loop))

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """Step through an async iterator; closing this early closes that too."""

        async def step() -> tuple[bool, T | None]:
            try:
                return True, await anext(source)
            except StopAsyncIteration:
                return False, None

        try:
            while True:
                more, item = self.run(step())
                if not more:
                    return
                yield item  # type: ignore[misc]  # a step that has more carries an item
        finally:
            close = getattr(source, "aclose", None)
            if close is not None and self._loop.is_running():
                self.run(close())

    def stop(self) -> None:
        """End the loop if this bridge started it."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
