"""The one memory behind all requests: opened in the background, opened again after a failure, closed at the end."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

import anyio

from mcp_server.starting import give_back
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from mcp_server.settings import ServerSettings
    from memory_plugin.core import MemoryCore

logger = logging.getLogger(__name__)

OpenCore = Callable[[], "AbstractAsyncContextManager[MemoryCore]"]
"""Gives a memory that is open inside `async with` and closed after it."""


@asynccontextmanager
async def already_open(core: MemoryCore) -> AsyncIterator[MemoryCore]:
    """A memory that somebody else opened and will close."""
    yield core


@asynccontextmanager
async def open_configured(settings: ServerSettings) -> AsyncIterator[MemoryCore]:
    """The memory that the settings name.

    Raises:
        MemoryPluginError: the database cannot be reached, or a setting cannot work.
    """
    # The database and the driver take a third of a second to import: on a thread, so that the
    # handshake and the first listings are answered meanwhile.
    module: Any = await asyncio.to_thread(importlib.import_module, "memory_plugin.core")
    async with module.MemoryCore.open(settings.url, tenant=settings.tenant, user_id=settings.user_id) as core:
        if hasattr(core.embedder, "sparing"):
            core.embedder.sparing = True  # assistants send their texts one by one
        warming = asyncio.create_task(_warm_up(core), name="memory warm-up")
        try:
            yield core
        finally:
            warming.cancel()


async def _warm_up(core: MemoryCore) -> None:
    """Load a local embedding model before the first search needs it; then all is loaded that will be."""
    load = getattr(core.embedder, "load", None)  # models behind a network have nothing to load
    if load is not None:
        try:
            await load()
        except MemoryPluginError as error:
            logger.warning("The embedder cannot be used, recall works by words alone: %s", error)
    give_back()


class CoreAccess:
    """Opens a memory when it is first wanted, and shares it.

    Enter it (`async with`) around serving; nested uses share one memory, the last to leave closes it.

    Attributes:
        needs_identity: a request must carry an identity of its own; the configured user is nobody's.
    """

    needs_identity = False

    def __init__(self, open_core: OpenCore) -> None:
        self._open_core = open_core
        self._users = 0
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[MemoryCore] | None = None
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self._users -= 1
        if self._users == 0:
            await self._close()

    @property
    def started(self) -> bool:
        """Whether the memory is open, or being opened."""
        return self._task is not None and not self._task.done()

    @property
    def opened(self) -> MemoryCore | None:
        """The memory where it is open now; None while it is not, without waiting."""
        ready = self._ready
        is_open = ready is not None and ready.done() and not ready.cancelled() and ready.exception() is None
        return ready.result() if ready is not None and is_open and self.started else None

    def start_if_used(self) -> None:
        """Like `start`, unless serving has ended meanwhile."""
        if self._users:
            self.start()

    def start(self) -> asyncio.Future[MemoryCore]:
        """Begin to open the memory, unless it is open or being opened; the future is what `core` waits for."""
        if self._ready is None or not self.started:
            self._closing = asyncio.Event()
            self._ready = asyncio.get_running_loop().create_future()
            self._task = asyncio.create_task(self._keep_open(self._ready, self._closing), name="memory")
        return self._ready

    async def core(self) -> MemoryCore:
        """The open memory; waits for it, and tries once more when the last attempt had failed.

        Raises:
            MemoryPluginError: it cannot be opened.
        """
        # Shielded: a request that is cancelled must not take the memory from the others.
        return await asyncio.shield(self.start())

    async def _keep_open(self, ready: asyncio.Future[MemoryCore], closing: asyncio.Event) -> None:
        """Open, hand over, and close in one task, as a context manager may require."""
        try:
            async with self._open_core() as core:
                ready.set_result(core)
                await closing.wait()
        except Exception as error:  # a border: whatever went wrong must reach the requests that wait
            if ready.done():
                logger.warning("The memory was not closed cleanly: %s", error)
                return
            if not isinstance(error, MemoryPluginError):
                logger.exception("The memory could not be opened")
            else:
                logger.warning("The memory could not be opened, the next call tries again: %s", error)
            ready.set_exception(error)
            ready.exception()  # read once, so that an unawaited failure is not reported a second time

    async def _close(self) -> None:
        if self._task is None:
            return
        self._closing.set()
        if self._ready is not None and not self._ready.done():
            self._task.cancel()
        # Shielded: a transport that is cancelled still leaves the database and its connections in order.
        with anyio.CancelScope(shield=True):
            await asyncio.wait({self._task})
        if self._ready is not None and not self._ready.done():
            self._ready.cancel()
        self._task = self._ready = None
