"""What is done again when a connection fails, and for how long."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from enum import Enum

from memory_plugin.telemetry import retried

FIRST_PAUSE = 0.02
"""Seconds; each pause may be twice as long as the one before."""

LONGEST_PAUSE = 1.0


class Repeat(Enum):
    """Whether a statement may be sent again when the connection was lost before its answer came.

    Where nothing had been sent it is always done again.
    """

    NEVER = "never"
    """Once at the most: the caller is told that the outcome is unknown."""

    READ = "read"
    """It changes nothing, or nothing that matters how often."""

    IDEMPOTENT = "idempotent"
    """A write that finds itself done when it was; again, it runs so that it cannot miss the first one's work."""


class Patience:
    """Pauses between attempts, longer each time, until the seconds are used up.

    Args:
        seconds: for all attempts together; 0 allows none after the first.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._pause = FIRST_PAUSE

    async def pause(self) -> bool:
        """Wait before the next attempt; False when there is to be none."""
        left = self._until - time.monotonic()
        if left <= 0:
            return False
        retried(sys.exception())
        # spread out, so that those who lost their connections together do not all come back at once
        await asyncio.sleep(min(left, self._pause * random.uniform(0.5, 1)))  # noqa: S311
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        return True
