"""What the demo looks like: numbered steps with their times, quotes of the conversation, checked claims."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.rule import Rule
from rich.status import Status
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

_INDENT = 2
_NAME_WIDTH = 8
_RESULT_LENGTH = 150
_COLOURS = {"agent": "cyan", "tool": "magenta"}


class ClaimFailed(Exception):  # noqa: N818 - it is the claim that failed
    """Something the demo says did not come true; the text is for the person who watches."""


class Show:
    """Writes the demo to a console."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._number = 0
        self._began = time.monotonic()
        fancy = (console.encoding or "").lower().replace("-", "").startswith("utf")
        self._tick, self._arrow = ("✓", "→") if fancy else ("+", "->")

    @property
    def seconds(self) -> float:
        """Since the show began."""
        return time.monotonic() - self._began

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """A numbered step; its time is shown when it is over."""
        self._number += 1
        began = time.monotonic()
        self.console.print()
        self.console.print(Rule(Text(f" {self._number}  {title} ", "bold"), align="left", style="blue"))
        yield
        self.console.print(Text(f"{' ' * _INDENT}{time.monotonic() - began:.2f} s", "dim"))

    def line(self, text: str | Text, style: str = "") -> None:
        """One plain line, wrapped with its indent."""
        content = text if isinstance(text, Text) else Text(text, style)
        self.console.print(Padding(content, (0, 0, 0, _INDENT)))

    def command(self, text: str) -> None:
        """A line to be copied: never wrapped by us."""
        self.console.print(Text(f"{' ' * _INDENT}{text}", "bold"), soft_wrap=True)

    def code(self, text: str, language: str) -> None:
        """A piece of code."""
        syntax = Syntax(text, language, background_color="default", word_wrap=True)
        self.console.print(Padding(syntax, (0, 0, 0, _INDENT)))

    def table(self, table: Table) -> None:
        """A table, indented."""
        self.console.print(Padding(table, (0, 0, 0, _INDENT), expand=False))

    def quote(self, who: str, text: str | Text, style: str = "") -> None:
        """What somebody said, beside their name."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=_NAME_WIDTH, justify="right", no_wrap=True)
        grid.add_column()
        content = text if isinstance(text, Text) else Text(text, style)
        grid.add_row(Text(who, f"bold {_COLOURS.get(who, 'green')}"), content)
        self.console.print(Padding(grid, (0, 0, 0, _INDENT)))

    def event(self, event: Mapping[str, Any], *, person: str) -> None:
        """One event of an agent's turn."""
        match event["event"]:
            case "human":
                self.quote(person, event["text"])
            case "say":
                self.quote("agent", event["text"])
            case "call":
                arguments = ", ".join(f"{name}={value!r}" for name, value in event["args"].items())
                self.quote("tool", Text(f"{event['name']}({arguments})", "magenta"))
            case "result":
                self.quote("", Text(f"{self._arrow} {shortened(event['text'])}", "dim"))
            case "interrupt":
                self.quote("agent", Text(f"waits for a person: {event['value']['question']}", "bold yellow"))

    def waiting(self, for_what: str) -> Status:
        """A sign of life until its `stop` is called, or its block is left; nothing where it is no terminal."""
        return self.console.status(Text(for_what, "dim"), spinner="dots")

    def check(self, held: object, claim: str, otherwise: str) -> None:
        """Show a claim that holds.

        Raises:
            ClaimFailed: it does not; `otherwise` says what is the case instead.
        """
        if not held:
            raise ClaimFailed(otherwise)
        self.line(Text.assemble((f"{self._tick} ", "bold green"), claim))

    def failure(self, text: str) -> None:
        """Why the demo ends here."""
        self.console.print()
        self.line(Text.assemble(("The demo failed: ", "bold red"), text))

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Progress]:
        """A progress bar with one task; `progress.advance(progress.task_ids[0])` moves it."""
        columns = (
            TextColumn(f"{' ' * _INDENT}{what}"),
            BarColumn(30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[name]}"),
        )
        with Progress(*columns, console=self.console, transient=False) as progress:
            progress.add_task(what, total=total, name="")
            yield progress


def shortened(text: str, length: int = _RESULT_LENGTH) -> str:
    """The text as one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1].rstrip()}…"
