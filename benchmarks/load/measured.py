"""Times in buckets, errors by kind, and the memory of the process: all of a size that does not grow with the run."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

_STEP = math.log(1.02)
"""A bucket is two percent wide: as exact as a percentile of a loaded machine can be."""

KINDS = 20
"""Kinds of errors that are kept apart."""


@dataclass(slots=True)
class Latencies:
    """How long an operation took, each time: counted in buckets from a microsecond on."""

    count: int = 0
    errors: int = 0
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self._buckets[int(math.log(max(seconds * 1e6, 1.0)) / _STEP)] += 1

    def percentile(self, part: float) -> float:
        """The milliseconds below which this part of all stayed; 0 where nothing was counted."""
        left = part * self.count
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return math.exp((bucket + 0.5) * _STEP) / 1000
        return 0.0


class Measured:
    """What a run adds up; nothing is counted before `begin`, but errors are from the start."""

    def __init__(self) -> None:
        self.operations: dict[str, Latencies] = {}
        self.errors: Counter[str] = Counter()
        self.began = 0.0
        self.seconds = 0.0
        self._counting = False

    def begin(self) -> None:
        """The machine is warm: count from now on."""
        self._counting, self.began = True, time.perf_counter()

    def end(self) -> None:
        """Count no more."""
        self._counting, self.seconds = False, time.perf_counter() - self.began if self.began else 0.0

    @contextmanager
    def timed(self, operation: str) -> Iterator[None]:
        """Count what happens inside; an error is noted, and goes no further."""
        began = time.perf_counter()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever goes wrong under load is what is looked for
            self.failed(operation, error)
        else:
            if self._counting:
                self.operations.setdefault(operation, Latencies()).add(time.perf_counter() - began)

    def failed(self, operation: str, error: BaseException) -> None:
        """Note an error."""
        self.operations.setdefault(operation, Latencies()).errors += 1
        text = f"{operation}: {type(error).__name__}: {str(error)[:200]}"
        if text in self.errors or len(self.errors) < KINDS:
            self.errors[text] += 1
        else:
            self.errors["others"] += 1

    @property
    def rate(self) -> float:
        """Operations a second, of all kinds."""
        return sum(each.count for each in self.operations.values()) / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Sizes:
    """The resident memory of the process, looked at every so often after the warm-up."""

    every: float
    samples: list[int] = field(default_factory=list)

    def add(self, size: int) -> None:
        """Note a size in bytes; a long run keeps every second sample, then every fourth, and so on."""
        self.samples.append(size)
        if len(self.samples) > 1200:
            del self.samples[1::2]
            self.every *= 2

    @property
    def begin(self) -> float:
        """Bytes after the warm-up: the middle of the first tenth."""
        return median(self.samples[: self._tenth])

    @property
    def end(self) -> float:
        """Bytes at the end: the middle of the last tenth."""
        return median(self.samples[-self._tenth :])

    @property
    def slope(self) -> float:
        """Bytes that the second half grew in a minute, by the straight line that fits best."""
        half = self.samples[len(self.samples) // 2 :]
        if len(half) < 2:
            return 0.0
        middle, mean = (len(half) - 1) / 2, sum(half) / len(half)
        above = sum((place - middle) * (size - mean) for place, size in enumerate(half))
        return above / sum((place - middle) ** 2 for place in range(len(half))) * 60 / self.every

    @property
    def _tenth(self) -> int:
        return max(1, len(self.samples) // 10)
