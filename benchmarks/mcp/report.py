"""What was measured, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks.mcp.contenders import BARE, OURS
from benchmarks.pages import place_of

PLACE = place_of("mcp")

Unit = Literal["ms", "MB"]
_RESAMPLES = 400


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the report.

    Attributes:
        most: what our own median may be at the most.
        most_of_bare: what it may be, divided by that of the bare server.
    """

    key: str
    title: str
    unit: Unit = "ms"
    most: float | None = None
    most_of_bare: float | None = None

    @property
    def gate(self) -> str:
        """The gate in words."""
        if self.most_of_bare is not None:
            return f"at most {self.most_of_bare:.2f} of the bare SDK"
        return f"ours at most {self.most:g} {self.unit}" if self.most is not None else ""


ROWS = (
    Row("start", "start to the answer of the handshake", most_of_bare=1.15),
    Row("start-tools", "start to the first list of tools"),
    Row("start-processor", "processor's time to the list of tools"),
    Row("start-recall", "start to the first recall"),
    Row("stdio-recall", "recall, stdio", most=10),
    Row("http-recall", "recall, HTTP", most=10),
    Row("stdio-remember", "remember, stdio"),
    Row("http-remember", "remember, HTTP"),
    Row("rss", "memory after the work, stdio (RSS)", "MB", most=120),
    Row("pss", "of it, shared pages counted by their part (PSS)", "MB"),
    Row("uss", "of it, its own (USS)", "MB"),
    Row("http-rss", "memory after the work, HTTP (RSS)", "MB", most=120),
)


@dataclass(slots=True)
class Result:
    """A row with the samples of each contender."""

    row: Row
    samples: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, sample: float) -> None:
        """One more sample of a contender."""
        self.samples.setdefault(name, []).append(sample)

    def median(self, name: str) -> float | None:
        """The median of a contender; None where it did not take part."""
        samples = self.samples.get(name)
        return statistics.median(samples) if samples else None

    @property
    def ratio(self) -> float | None:
        """Ours divided by the bare server."""
        own, bare = self.median(OURS), self.median(BARE)
        return own / bare if own is not None and bare else None

    @property
    def met(self) -> bool | None:
        """Whether the gate is met; None where there is none, or where nothing was measured."""
        value, limit = self.median(OURS), self.row.most
        if self.row.most_of_bare is not None:
            value, limit = self.ratio, self.row.most_of_bare
        return None if value is None or limit is None else value <= limit

    def spread(self) -> tuple[float, float] | None:
        """Where nine of ten repetitions of this run would see the ratio, by resampling its samples."""
        own, bare = self.samples.get(OURS, []), self.samples.get(BARE, [])
        if min(len(own), len(bare)) < 3:
            return None
        chance = random.Random(1)

        def again(samples: Sequence[float]) -> float:
            return statistics.median(chance.choices(samples, k=len(samples)))

        ratios = sorted(again(own) / again(bare) for _ in range(_RESAMPLES))
        return ratios[_RESAMPLES // 20], ratios[-_RESAMPLES // 20]


def results() -> dict[str, Result]:
    """All rows, still empty."""
    return {row.key: Result(row) for row in ROWS}


@dataclass(slots=True)
class Report:
    """A whole run: what was measured, of what, and on what."""

    results: Sequence[Result]
    contenders: Mapping[str, str]
    facts: Mapping[str, str]

    @property
    def missed(self) -> list[Result]:
        """The rows whose gate is not met."""
        return [each for each in self.results if each.met is False]

    def markdown(self) -> str:
        """The table and what one has to know to read it."""
        lines = [
            f"| | {' | '.join(self.contenders)} | ours / bare SDK | gate | met |",
            "|---|" + "---|" * (len(self.contenders) + 3),
        ]
        for each in self.results:
            cells = " | ".join(_cell(each, name) for name in self.contenders)
            met = {True: "yes", False: "**no**", None: ""}[each.met]
            lines.append(f"| {each.row.title} | {cells} | {_ratio(each)} | {each.row.gate} | {met} |")
        notes = [f"- {name}: {value}" for name, value in {**self.contenders, **self.facts}.items()]
        return "\n".join([*lines, "", *notes]) + "\n"

    def document(self) -> dict[str, Any]:
        """The same for a program; every sample is in it."""
        return {
            "contenders": dict(self.contenders),
            "facts": dict(self.facts),
            "rows": [
                {
                    "key": each.row.key,
                    "title": each.row.title,
                    "unit": each.row.unit,
                    "ratio": each.ratio,
                    "ratio_spread": each.spread(),
                    "gate": each.row.gate or None,
                    "met": each.met,
                    "samples": each.samples,
                }
                for each in self.results
            ],
        }

    def write_json(self, file: Path) -> None:
        """Write the document."""
        file.write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")


def _cell(result: Result, name: str) -> str:
    middle = result.median(name)
    if middle is None:
        return ""
    if result.row.unit == "MB":
        return f"{middle:.0f} MB"
    samples = sorted(result.samples[name])
    return f"{_short(middle)} ({_short(samples[min(len(samples) - 1, round(0.95 * (len(samples) - 1)))])}) ms"


def _short(milliseconds: float) -> str:
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:,.{digits}f}"


def _ratio(result: Result) -> str:
    if result.ratio is None:
        return ""
    spread = result.spread()
    shown = f"{result.ratio:.2f}"
    return f"{shown} ({spread[0]:.2f} to {spread[1]:.2f})" if spread else shown
