"""What one cell of the table is made of."""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Times:
    """Milliseconds by the clock of each operation, and of this process's processor in all."""

    wall: list[float] = field(default_factory=list)
    processor: float = 0.0

    def _at(self, part: float) -> float:
        ordered = sorted(self.wall)
        return ordered[min(len(ordered) - 1, round(part * (len(ordered) - 1)))]

    @property
    def p50(self) -> float:
        """The median."""
        return self._at(0.5)

    @property
    def p95(self) -> float:
        """What one operation in twenty takes longer than."""
        return self._at(0.95)

    @property
    def processor_each(self) -> float:
        """The processor's time of one operation on the client's side."""
        return self.processor / len(self.wall)


async def timed(operation: Callable[[int], Awaitable[object]], count: int, *, warm: int = 5) -> Times:
    """Run the operation so often, after some runs that are not counted; it is given its number."""
    for place in range(warm):
        await operation(place)
    times = Times()
    gc.collect()
    gc.disable()
    try:
        for place in range(warm, warm + count):
            began, processor = time.perf_counter(), time.process_time()
            await operation(place)
            times.wall.append((time.perf_counter() - began) * 1000)
            times.processor += (time.process_time() - processor) * 1000
    finally:
        gc.enable()
    return times
