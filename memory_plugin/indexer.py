"""The background task that brings the search index up to date soon after a write."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from contextvars import Context

from memory_plugin.capabilities.passages import Passages
from memory_plugin.capabilities.vector_spaces import VectorSpaces
from memory_plugin.errors import MemoryPluginError

logger = logging.getLogger("memory_plugin")

QUIET = 0.25
"""Seconds after the first write until indexing starts: what a turn writes is taken together."""

MAX_PAUSE = 60.0

TEND_EVERY = 60.0
"""Seconds between two looks at how large the vector spaces have grown."""


class Indexer:
    """Runs `catch_up` and `fill` after each `kick`; a failure is logged, and tried again later.

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
                await self._passages.catch_up()
                await self._passages.fill()
                self._tend()
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

    async def _make_index(self, spaces: VectorSpaces) -> None:
        try:
            await spaces.tend()
        except MemoryPluginError as error:
            # searches do without an index: the next look may have more luck
            logger.warning("Looking after the index of the vectors failed, will try again: %s", error)

    async def stop(self) -> None:
        """End the task; what is queued stays queued for the next process."""
        for task in (self._task, self._tending):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._task = self._tending = None
