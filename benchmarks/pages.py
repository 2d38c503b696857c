"""What the reports of all benchmarks share: their place on a page, and the machine they ran on."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where the tables of a benchmark stand on a page: between its two markers."""

    begin: str
    end: str

    def is_on(self, file: Path) -> bool:
        """Whether the page is there, with both markers once."""
        page = file.read_text("utf-8") if file.is_file() else ""
        return page.count(self.begin) == page.count(self.end) == 1 and page.index(self.begin) < page.index(self.end)

    def write(self, file: Path, tables: str) -> None:
        """Put the tables there, in place of what was there.

        Raises:
            ValueError: the page has no such markers.
        """
        if not self.is_on(file):
            raise ValueError(f"{file} must have {self.begin} and {self.end} once each: the tables go between them.")
        pattern = re.compile(re.escape(self.begin) + ".*?" + re.escape(self.end), re.DOTALL)
        text = f"{self.begin}\n\n{tables}\n{self.end}"
        file.write_text(pattern.sub(lambda _: text, file.read_text("utf-8")), "utf-8")


def place_of(name: str) -> Place:
    """The markers that carry this name."""
    return Place(f"<!-- {name}: begin -->", f"<!-- {name}: end -->")


def machine(server_version: str, load: Sequence[float]) -> dict[str, str]:
    """What a reader has to know of the machine, and nothing that identifies it."""
    return {
        "machine": f"{os.cpu_count()} cores ({platform.machine()}), {platform.system()}",
        "software": f"Python {platform.python_version()}, PostgreSQL {server_version}",
        "load": f"{load[0]:.1f} before, {load[1]:.1f} after (runnable processes, mean of a minute)",
    }
