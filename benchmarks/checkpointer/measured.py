"""Samples and what they say."""

from __future__ import annotations

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from benchmarks.checkpointer.proxy import Traffic
from benchmarks.checkpointer.rows import OFFICIAL, OURS, Row

_RESAMPLES = 400


class Processor(NamedTuple):
    """Milliseconds of a processor that an operation took, in this process and in those of the server."""

    client: float
    server: float


@dataclass(slots=True)
class Measured:
    """What one contender did in one row: samples in the row's unit, the traffic of an operation, its work."""

    samples: list[float] = field(default_factory=list)
    work: list[Processor] = field(default_factory=list)
    traffic: list[Traffic] = field(default_factory=list)

    @property
    def value(self) -> float:
        """The median: what the ratio is made of."""
        return statistics.median(self.samples)

    @property
    def p95(self) -> float:
        """The value that one sample in twenty is above."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, round(0.95 * (len(ordered) - 1)))]

    @property
    def processor(self) -> Processor | None:
        """The median work; None where it cannot be told."""
        if not self.work:
            return None
        return Processor(*(statistics.median(side) for side in zip(*self.work, strict=True)))

    @property
    def per_operation(self) -> Traffic | None:
        """The median traffic; None where it was not counted."""
        if not self.traffic:
            return None
        return Traffic(
            *(
                round(statistics.median(getattr(each, name) for each in self.traffic))
                for name in ("round_trips", "sent", "received")
            )
        )


@dataclass(slots=True)
class Result:
    """A row with what was measured, by the name of the contender; `notes` are further facts."""

    row: Row
    measured: dict[str, Measured] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def of(self, name: str) -> Measured:
        """What this contender did, nothing at first."""
        return self.measured.setdefault(name, Measured())

    @property
    def ratio(self) -> float | None:
        """Ours divided by the official PostgreSQL saver."""
        ours, official = self.measured.get(OURS), self.measured.get(OFFICIAL)
        return ours.value / official.value if ours and official and official.value else None

    @property
    def met(self) -> bool | None:
        """Whether the gate is met; None where there is none."""
        ours = self.measured.get(OURS)
        return self.row.met(self.ratio, ours.value if ours else None)

    def spread(self) -> tuple[float, float] | None:
        """Where nine of ten repetitions of this run would see the ratio, by resampling its samples."""
        ours, official = self.measured.get(OURS), self.measured.get(OFFICIAL)
        if not ours or not official or min(len(ours.samples), len(official.samples)) < 3:
            return None
        chance = random.Random(1)

        def again(samples: Sequence[float]) -> float:
            return statistics.median(chance.choices(samples, k=len(samples)))

        ratios = sorted(again(ours.samples) / again(official.samples) for _ in range(_RESAMPLES))
        return ratios[_RESAMPLES // 20], ratios[-_RESAMPLES // 20]
