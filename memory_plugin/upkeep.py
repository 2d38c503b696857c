"""The background task that applies retention while a store is open."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from contextvars import Context
from datetime import timedelta

from memory_plugin.capabilities.retention import Retentions
from memory_plugin.errors import MemoryPluginError
from memory_plugin.types import RetentionReport

logger = logging.getLogger("memory_plugin")

FIRST = 60.0
"""Seconds at the most until the first run: processes that start together do not run together."""


class Upkeep:
    """Applies the policies again and again; a failure is logged, and the next run tries again.

    Args:
        every: from the end of one run to the start of the next.
    """

    def __init__(self, retention: Retentions, *, every: timedelta) -> None:
        self._retention = retention
        self._every = every.total_seconds()
        self._task: asyncio.Task[None] | None = None
        self.last_error: MemoryPluginError | None = None
        """Why the last run failed, None when it did not."""
        self.last_report: RetentionReport | None = None
        """What the last run that did not fail removed."""

    def start(self) -> None:
        """Begin; the first run comes within a minute, or within `every` where that is shorter."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="memory-plugin upkeep", context=Context())

    async def _run(self) -> None:
        pause = random.random() * min(self._every, FIRST)  # noqa: S311 - only to part the processes
        while True:
            await asyncio.sleep(pause)
            pause = self._every
            try:
                self.last_report = await self._retention.apply_alone()
            except MemoryPluginError as error:
                # nobody waits for this task: say so once, and try again
                if self.last_error is None:
                    logger.warning("Retention in the background failed, will try again: %s", error)
                self.last_error = error
            else:
                self.last_error = None

    async def stop(self) -> None:
        """End the task; the batch that is under way is rolled back."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
