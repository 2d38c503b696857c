"""What was measured, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.checkpointer.measured import Measured, Result
from benchmarks.checkpointer.rows import OFFICIAL, OURS
from benchmarks.pages import place_of

PLACE = place_of("measured")


@dataclass(slots=True)
class Report:
    """A whole run: on what, of what, and what came of it."""

    results: list[Result]
    savers: Mapping[str, str]
    machine: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def missed(self) -> list[Result]:
        """The rows whose gate is not met."""
        return [each for each in self.results if each.met is False]

    def markdown(self) -> str:
        """Two tables and what one has to know to read them."""
        names = [name for name in self.savers if any(name in each.measured for each in self.results)]
        lines = [
            "| operation | " + " | ".join(names) + " | ours / postgres | gate | met |",
            "|---|" + "---|" * (len(names) + 3),
        ]
        for result in self.results:
            cells = [_value(result, result.measured.get(name)) for name in names]
            met = {True: "yes", False: "**no**", None: ""}[result.met]
            lines.append(f"| {result.row.title} | {' | '.join(cells)} | {_ratio(result)} | {result.row.gate} | {met} |")
        worked = self._worked()
        if worked:
            head = "| processor's time | ours: Python | ours: server | postgres: Python | postgres: server |"
            lines += ["", head, "|---|---|---|---|---|", *worked]
        counted = self._counted()
        if counted:
            lines += ["", "| on the wire, one operation | ours | postgres |", "|---|---|---|", *counted]
        lines += ["", *(f"- {line}" for line in self._facts())]
        return "\n".join(lines) + "\n"

    def _worked(self) -> list[str]:
        lines = []
        for result in self.results:
            work = [result.of(name).processor for name in (OURS, OFFICIAL)]
            if any(work):
                cells = [f"{each.client:.2f} ms | {each.server:.2f} ms" if each else " | " for each in work]
                lines.append(f"| {result.row.title} | {' | '.join(cells)} |")
        return lines

    def _counted(self) -> list[str]:
        lines = []
        for result in self.results:
            traffic = {name: result.of(name).per_operation for name in (OURS, OFFICIAL)}
            if any(traffic.values()):
                cells = [
                    f"{each.round_trips} round trip{'s' * (each.round_trips != 1)}, "
                    f"{each.sent:,} bytes out, {each.received:,} in"
                    if each
                    else ""
                    for each in traffic.values()
                ]
                lines.append(f"| {result.row.title} | {' | '.join(cells)} |")
        return lines

    def _facts(self) -> list[str]:
        facts = [f"{name}: {title}" for name, title in self.savers.items()]
        facts += [f"{name}: {value}" for name, value in self.machine.items()]
        facts += [f"options: {', '.join(f'{name} {value}' for name, value in self.options.items())}"]
        for result in self.results:
            facts += [f"{result.row.title}, {name}: {value}" for name, value in result.notes.items()]
        return facts

    def document(self) -> dict[str, Any]:
        """The same for a program; every sample is in it."""
        return {
            "savers": dict(self.savers),
            "machine": self.machine,
            "options": self.options,
            "rows": [_row_document(each) for each in self.results],
        }

    def write_json(self, file: Path) -> None:
        """Write the document."""
        file.write_text(json.dumps(self.document(), indent=1) + "\n", "utf-8")

    def write_docs(self, file: Path) -> None:
        """Put the tables into their place on a page. Raises ValueError where there is none."""
        PLACE.write(file, self.markdown())


def _row_document(result: Result) -> dict[str, Any]:
    row = result.row
    spread = result.spread()
    return {
        "key": row.key,
        "group": row.group,
        "operation": row.title,
        "unit": row.unit,
        "ratio": result.ratio,
        "ratio_spread": list(spread) if spread else None,
        "gate": {"rule": row.rule, "limit": row.limit} if row.limit is not None else None,
        "met": result.met,
        "notes": result.notes,
        "contenders": {
            name: {
                "p50": each.value,
                "p95": each.p95,
                "samples": each.samples,
                "processor": each.processor._asdict() if each.processor else None,
                "wire": asdict(each.per_operation) if each.per_operation else None,
            }
            for name, each in result.measured.items()
            if each.samples
        },
    }


def _value(result: Result, measured: Measured | None) -> str:
    if measured is None or not measured.samples:
        return ""
    unit = result.row.unit
    if unit == "ms":
        return f"{_short(measured.value)} ({_short(measured.p95)}) ms"
    return f"{measured.value:.2f}" if unit == "times" else f"{measured.value:,.0f}{'/s' * unit.endswith('/s')}"


def _short(milliseconds: float) -> str:
    return f"{milliseconds:.2f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def _ratio(result: Result) -> str:
    ratio, spread = result.ratio, result.spread()
    if ratio is None or result.row.unit == "times":
        return ""
    digits = 1 if result.row.rule == "at least" else 3
    shown = f"{ratio:.{digits}f}"
    return f"{shown} ({spread[0]:.{digits}f} to {spread[1]:.{digits}f})" if spread else shown
