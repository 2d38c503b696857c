"""How much memory processes take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil

MEGABYTE = 1_000_000


@dataclass(frozen=True, slots=True)
class Resident:
    """Of one process, in megabytes; None where the system does not say.

    Attributes:
        rss: all pages it has in memory, with those it shares.
        pss: the same, where a page that n processes share counts for 1/n.
        uss: what would be free if it ended.
    """

    rss: float
    pss: float | None
    uss: float | None


def resident(pid: int) -> Resident:
    """What the process takes now."""
    import psutil

    return _of(psutil.Process(pid))


def _of(process: psutil.Process) -> Resident:
    full = process.memory_full_info()
    pss, uss = getattr(full, "pss", None), getattr(full, "uss", None)
    return Resident(full.rss / MEGABYTE, pss and pss / MEGABYTE, uss and uss / MEGABYTE)


def with_children(pid: int) -> tuple[int, float]:
    """How many processes it and its children are, and their memory in megabytes: pages they share count once."""
    import psutil

    whole = psutil.Process(pid)
    family = [_of(each) for each in (whole, *whole.children(recursive=True))]
    return len(family), sum(each.rss if each.pss is None else each.pss for each in family)


def processor(pid: int) -> float:
    """Milliseconds that it has had a processor, in steps of ten on Linux."""
    import psutil

    times = psutil.Process(pid).cpu_times()
    return 1000 * (times.user + times.system)
