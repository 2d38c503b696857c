"""The table of cost against size, as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.pages import place_of

PLACE = place_of("recall")


@dataclass(slots=True)
class Row:
    """One operation: its cost by the number of memories of the tenant, as text; and the goal, where there is one."""

    title: str
    cells: dict[int, str] = field(default_factory=dict)
    goal: str = ""
    met: bool | None = None


@dataclass(slots=True)
class Report:
    """What was measured, and on what."""

    rows: Sequence[Row]
    sizes: Sequence[int]
    facts: Mapping[str, str]

    @property
    def missed(self) -> list[Row]:
        """The rows whose goal is not met."""
        return [row for row in self.rows if row.met is False]

    def markdown(self) -> str:
        """The table and the facts below it."""
        lines = [
            "| a tenant with | " + " | ".join(f"{size:,} memories" for size in self.sizes) + " | goal | met |",
            "|---|" + "---|" * (len(self.sizes) + 2),
        ]
        for row in self.rows:
            met = {True: "yes", False: "**no**", None: ""}[row.met]
            cells = " | ".join(row.cells.get(size, "") for size in self.sizes)
            lines.append(f"| {row.title} | {cells} | {row.goal} | {met} |")
        return "\n".join([*lines, "", *(f"- {name}: {value}" for name, value in self.facts.items())]) + "\n"

    def write_docs(self, file: Path) -> None:
        """Put the table into its place on a page. Raises ValueError where there is none."""
        PLACE.write(file, self.markdown())
