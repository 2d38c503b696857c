"""How often somebody may ask: a bucket of tokens for each identity, refilled evenly."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

DEFAULT_RATE = 600
"""Requests a minute for each identity, where requests are authenticated."""

SERVICE_FACTOR = 10
"""How many times as much a service may ask, which asks for many users."""

_MOST_BUCKETS = 10_000


class Buckets:
    """A bucket for each name; those not used for longest are forgotten first.

    Args:
        per_minute: how many requests a minute a bucket is filled for.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_minute / 60
        self._size = max(per_minute / 10, 1.0)
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, *, share: float = 1.0) -> float:
        """Take one out: 0 when there was one, else the seconds until there is.

        Args:
            share: how much of one to take; a tenth lets ten times as many pass.
        """
        now = self._clock()
        left, at = self._buckets.pop(name, (self._size, now))
        left = min(self._size, left + (now - at) * self._rate)
        wait = max(share - left, 0.0) / self._rate
        self._buckets[name] = (left if wait else left - share, now)
        if len(self._buckets) > _MOST_BUCKETS:
            self._buckets.popitem(last=False)
        return wait
