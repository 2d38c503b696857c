"""The background task that brings the search index up to date soon after a write."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextvars import Context

from memory_plugin.capabilities.document_vectors import DocumentVectors
from memory_plugin.capabilities.passages import Passages
from memory_plugin.capabilities.vector_spaces import VectorSpaces
from memory_plugin.errors import MemoryPluginError

logger = logging.getLogger("memory_plugin")

QUIET = 0.25
"""Seconds after the first write until indexing starts: what a turn writes is taken together."""

MAX_PAUSE = 60.0

TEND_EVERY = 60.0
"""Seconds between two looks at how large the vector spaces have grown."""


CALM = 10.0
"""Seconds without anything new to index until documents are read by the model that takes its time: while many files
come in, all that there is goes into those."""


READ_EVERY = 5.0
"""Seconds between two looks for documents that others have added, and that nobody has read."""


class Indexer:
    """Runs `catch_up` and `fill` after each `kick`; a failure is logged, and tried again later.

    Documents get their second vector in a task of its own, which nothing else waits for.

    Args:
        spaces: may need an index when they have grown; None leaves that to others.
    """

    def __init__(self, passages: Passages, spaces: VectorSpaces | None = None) -> None:
        self._passages = passages
        self._spaces = spaces
        self._tended_at = -TEND_EVERY
        self._wanted = asyncio.Event()
        self._hurried = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._tending: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None
        self._busy_at = -CALM
        self._read_at = -READ_EVERY
        self._reading_error: MemoryPluginError | None = None
        self.last_error: MemoryPluginError | None = None
        """Why the last run failed, None when it did not."""

    def kick(self) -> None:
        """Ask for a run; many kicks in a short time make one."""
        self._wanted.set()
        if self._task is None or self._task.done():
            # it outlives whoever comes first, and is no part of what that does
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name="memory-plugin indexer", context=Context()
            )

    def hurry(self) -> None:
        """Do not wait with the run that was asked for: more than is worth waiting for is there already."""
        if self.last_error is None:
            self._hurried.set()

    async def _run(self) -> None:
        pause = QUIET
        while True:
            await self._wanted.wait()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._hurried.wait()
            self._wanted.clear()
            self._hurried.clear()
            try:
                if await self._passages.catch_up():
                    self._busy_at, self._read_at = time.monotonic(), -READ_EVERY
                await self._passages.fill()
                self._tend()
                self._read_documents()
            except MemoryPluginError as error:
                # the rows stay queued and are found by words: say so once, and try again later
                if self.last_error is None:
                    logger.warning("Indexing in the background failed, will try again: %s", error)
                self.last_error = error
                pause = min(max(pause, QUIET) * 2, MAX_PAUSE)
                self._wanted.set()
            else:
                self.last_error = None
                pause = QUIET

    def _tend(self) -> None:
        """Make the index of a space that has grown large, beside the indexing; do not look at every turn for one."""
        if self._spaces is None or time.monotonic() - self._tended_at < TEND_EVERY:
            return
        if self._tending is None or self._tending.done():
            self._tended_at = time.monotonic()
            self._tending = asyncio.get_running_loop().create_task(
                self._make_index(self._spaces), name="memory-plugin index of vectors"
            )

    def _read_documents(self) -> None:
        documents = self._passages.documents
        if documents is None or time.monotonic() - self._read_at < READ_EVERY:
            return
        if self._reading is None or self._reading.done():
            self._read_at = time.monotonic()
            self._reading = asyncio.get_running_loop().create_task(
                self._read(documents), name="memory-plugin vectors of documents"
            )

    async def _read(self, documents: DocumentVectors) -> None:
        try:
            while True:
                if (left := self._busy_at + CALM - time.monotonic()) > 0:
                    await asyncio.sleep(left)
                elif not await documents.fill_some():
                    break
            self._reading_error = None
        except MemoryPluginError as error:
            # the model for everything has read them too: say so once, and try again with the next run
            if self._reading_error is None:
                logger.warning("Documents have no vectors of the model for them yet, will try again: %s", error)
            self._reading_error = error

    async def _make_index(self, spaces: VectorSpaces) -> None:
        try:
            await spaces.tend()
        except MemoryPluginError as error:
            # searches do without an index: the next look may have more luck
            logger.warning("Looking after the index of the vectors failed, will try again: %s", error)

    async def stop(self) -> None:
        """End the task; what is queued stays queued for the next process."""
        for task in (self._task, self._tending, self._reading):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._task = self._tending = self._reading = None
