"""The table of cost against size, as Markdown."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BEGIN, END = "<!-- recall: begin -->", "<!-- recall: end -->"


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
        """Put the table between its two markers of a page.

        Raises:
            ValueError: the page has no such markers.
        """
        page = file.read_text("utf-8")
        pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise ValueError(f"{file} must have {BEGIN} and {END} once each: the table goes between them.")
        file.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{self.markdown()}\n{END}", page), "utf-8")


def machine(server_version: str, load: Sequence[float]) -> dict[str, str]:
    """What a reader has to know of the machine, and nothing that identifies it."""
    return {
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}",
        "software": f"Python {platform.python_version()}, PostgreSQL {server_version}",
        "load": f"{load[0]:.1f} before, {load[1]:.1f} after (runnable processes, mean of a minute)",
    }
