"""Who works, and what is said: tenants by a long-tailed law, threads and users within them, texts of few topics."""

from __future__ import annotations

import itertools
import random
from bisect import bisect
from dataclasses import dataclass, replace

THREADS = 50
"""Threads of a tenant that anybody goes on with."""

USERS = 5
"""Users of a tenant."""

TURNS = 30
"""Turns after which a conversation is over, and another takes its place."""

_SUBJECTS = ("The order", "The invoice", "My flight", "The contract", "Our garden", "The green tea", "My sister", "Rex")
_VERBS = ("arrived", "was cancelled", "needs a signature", "costs too much", "is late", "was changed", "is better")
_PLACES = ("in Lyon", "in Oslo", "at the office", "at home", "on Monday", "since last week", "before the meeting")


class LongTail:
    """Numbers below `size`; the number of rank r comes in proportion to 1 / r ** `exponent` (Zipf's law)."""

    def __init__(self, size: int, exponent: float = 1.1) -> None:
        self._sums: list[float] = list(itertools.accumulate(1 / rank**exponent for rank in range(1, size + 1)))

    def pick(self, chance: random.Random) -> int:
        """One of the numbers, 0 the likeliest."""
        return bisect(self._sums, chance.random() * self._sums[-1])

    def share(self, first: int) -> float:
        """Which part of all picks falls to the first so many numbers."""
        return self._sums[min(first, len(self._sums)) - 1] / self._sums[-1]


@dataclass(frozen=True, slots=True)
class Seat:
    """Where an agent works for a while."""

    tenant: str
    user: str
    thread: str


class Everybody:
    """All tenants with their users and threads, and how often each is at work.

    Args:
        tenants: how many there are.
        chance: where the choices come from.
    """

    def __init__(self, tenants: int, chance: random.Random) -> None:
        self.tenants = LongTail(tenants)
        self._threads = LongTail(THREADS)
        self._chance = chance
        self._ended: dict[tuple[int, int], int] = {}
        self.seen: set[int] = set()

    def seat(self) -> Seat:
        """A tenant, one of its users, and the thread that this user goes on with."""
        tenant = self.tenants.pick(self._chance)
        thread = self._threads.pick(self._chance)
        self.seen.add(tenant)
        ended = self._ended.get((tenant, thread), 0)
        return Seat(f"tenant-{tenant}", f"user-{thread % USERS}", f"{tenant}/{thread}/{ended}")

    def end(self, seat: Seat) -> Seat:
        """The conversation is over: another takes its place, for whoever comes next."""
        tenant, thread, ended = map(int, seat.thread.split("/"))
        after = self._ended[tenant, thread] = max(ended + 1, self._ended.get((tenant, thread), 0))
        return replace(seat, thread=f"{tenant}/{thread}/{after}")


def sentence(chance: random.Random) -> str:
    """Something that somebody might say, and say again."""
    number = chance.randrange(10_000)
    return f"{chance.choice(_SUBJECTS)} {number} {chance.choice(_VERBS)} {chance.choice(_PLACES)}."


def question(chance: random.Random) -> str:
    """Something that somebody might ask about it."""
    return f"What about {chance.choice(_SUBJECTS).lower()} {chance.choice(_PLACES)}?"
