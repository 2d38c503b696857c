"""How often somebody may ask, or guess: a bucket for each identity, a tally for each address."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

DEFAULT_RATE = 600
"""Requests a minute for each identity, where requests are authenticated."""

SERVICE_FACTOR = 10
"""How many times as much a service may ask, which asks for many users."""

DEFAULT_FAILURES = 60
"""Failed attempts a minute from one address that are answered as such."""

FAR_EXCEEDED = 10
"""How many minutes' worth of failures make an address wait with whatever it sends, valid tokens too."""

_MOST_BUCKETS = 10_000
"""Identities, and addresses, that are remembered: a bucket is two numbers and a name."""

_IPV6_HOUSEHOLD = 64
"""Bits of an IPv6 address that tell customers apart: the rest is one customer's to choose."""


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


def address_of(client: str) -> str:
    """What counts as one address: an IPv4 address, a customer's network of IPv6, or the name as it is."""
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_HOUSEHOLD), strict=False))


class Failures:
    """How many attempts of each address failed of late; a minute takes as many off as are allowed in it.

    Up to that number failures are answered as such. From there on they are answered by a time to wait, while
    a valid token still passes: the guesser may sit behind the same address as others. Only an address that
    is `FAR_EXCEEDED` times above it waits with everything, so that guessing costs the database nothing.

    Args:
        per_minute: failures a minute that are allowed.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowed = per_minute
        self._most = per_minute * FAR_EXCEEDED
        self._clock = clock
        self._tallies: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def blocked(self, address: str) -> float:
        """Seconds that this address has to wait with whatever it sends; 0 where it need not."""
        return self._wait(self._tally(address), self._most)

    def failed(self, address: str) -> float:
        """Note that an attempt failed: 0 where that may be said, else the seconds until it may be tried again."""
        tally = self._tally(address)
        wait = self._wait(tally, self._allowed)
        self._tallies[address] = (min(tally + 1, self._most), self._clock())
        self._tallies.move_to_end(address)
        if len(self._tallies) > _MOST_BUCKETS:
            self._tallies.popitem(last=False)
        return wait

    def _tally(self, address: str) -> float:
        count, at = self._tallies.get(address, (0.0, 0.0))
        return max(count - (self._clock() - at) * self._allowed / 60, 0.0)

    def _wait(self, tally: float, limit: int) -> float:
        """Seconds until one more keeps within the limit."""
        return max(tally + 1 - limit, 0.0) * 60 / self._allowed
