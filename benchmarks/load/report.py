"""What came of a run, as Markdown for people and as JSON for programs, and what of it must not be."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.load.measured import Measured, Sizes
from benchmarks.pages import place_of

PLACE = place_of("load")

_MEGABYTE = 1 << 20

GROWTH = 0.10
"""The part by which the memory may grow after the warm-up: what the allocator gives back late, and what caches
that are not full yet still take."""

SLACK = 24 * _MEGABYTE
"""Bytes on top, so that a small process is not held to a few pages."""


@dataclass(frozen=True, slots=True)
class Left:
    """What a process has open."""

    connections: int = 0
    tasks: int = 0
    files: int = 0

    def beyond(self, before: Left) -> Left:
        """What there is more than before."""
        return Left(self.connections - before.connections, self.tasks - before.tasks, max(0, self.files - before.files))


@dataclass(slots=True)
class Report:
    """A whole run."""

    tenants: int
    agents: int
    measured: Measured
    sizes: Sizes
    tenants_seen: int = 0
    busiest: float = 0.0
    connections_open: int = 0
    connections_allowed: int = 0
    connections_lent: int = 0
    left: Left = field(default_factory=Left)
    machine: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def growth_allowed(self) -> float:
        """Bytes by which the memory may grow after the warm-up."""
        return self.sizes.begin * GROWTH + SLACK

    @property
    def problems(self) -> list[str]:
        """What must not be; empty where all is well."""
        found = [f"{count} x {text}" for text, count in self.measured.errors.most_common()]
        if not any(each.count for each in self.measured.operations.values()):
            found.append("Nothing was measured.")
        growth = self.sizes.end - self.sizes.begin if self.sizes.samples else 0
        if self.sizes.samples and growth > self.growth_allowed:
            allowed = self.growth_allowed / _MEGABYTE
            found.append(
                f"The memory grew by {growth / _MEGABYTE:.0f} MB after the warm-up; {allowed:.0f} are allowed."
            )
        if self.connections_open > self.connections_allowed:
            found.append(f"{self.connections_open} connections are open; {self.connections_allowed} are allowed.")
        if self.connections_lent:
            found.append(f"{self.connections_lent} connections were not given back.")
        found += [f"{count} {what} were left open." for what, count in asdict(self.left).items() if count > 0]
        return found

    def markdown(self) -> str:
        """A table, and what one has to know to read it."""
        measured, sizes = self.measured, self.sizes
        lines = [
            "| operation | number | each second | p50 | p95 | p99 | errors |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, each in sorted(measured.operations.items()):
            times = " | ".join(f"{each.percentile(part):,.1f} ms" for part in (0.5, 0.95, 0.99))
            rate = each.count / measured.seconds if measured.seconds else 0
            lines.append(f"| {name} | {each.count:,} | {rate:,.1f} | {times} | {each.errors} |")
        lines += [
            "",
            f"- {measured.rate:,.0f} operations a second for {measured.seconds:,.0f} s, {self.agents} agents at once",
            f"- {self.tenants:,} tenants, {self.tenants_seen:,} seen; {self.busiest:.0%} of the work is of a hundredth",
            f"- connections: {self.connections_open} open at the end, {self.connections_lent} of them lent",
            f"- after closing: {', '.join(f'{count} {what}' for what, count in asdict(self.left).items())} left open",
        ]
        if sizes.samples:
            lines.append(
                f"- memory of the process: {sizes.begin / _MEGABYTE:,.0f} MB after the warm-up, "
                f"{sizes.end / _MEGABYTE:,.0f} MB at the end ({sizes.slope / _MEGABYTE:+.2f} MB a minute in the "
                "second half)"
            )
        facts = {**self.machine, "options": ", ".join(f"{name} {value}" for name, value in self.options.items())}
        lines += [f"- {name}: {value}" for name, value in facts.items()]
        lines += [f"- **{problem}**" for problem in self.problems]
        return "\n".join(lines) + "\n"

    def document(self) -> dict[str, Any]:
        """The same for a program, with the memory over time."""
        return {
            "seconds": self.measured.seconds,
            "rate": self.measured.rate,
            "agents": self.agents,
            "tenants": self.tenants,
            "tenants_seen": self.tenants_seen,
            "operations": {
                name: {
                    "count": each.count,
                    "errors": each.errors,
                    **{f"p{part}": each.percentile(part / 100) for part in (50, 95, 99)},
                }
                for name, each in sorted(self.measured.operations.items())
            },
            "memory": {"every_seconds": self.sizes.every, "bytes": self.sizes.samples},
            "connections": {"open": self.connections_open, "lent": self.connections_lent},
            "left": asdict(self.left),
            "problems": self.problems,
            "machine": self.machine,
            "options": self.options,
        }

    def write_json(self, file: Path) -> None:
        """Write the document."""
        file.write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")
