"""Bars of what takes its time in the search index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from memory_plugin.cli.output import Output

if TYPE_CHECKING:
    from memory_plugin.capabilities.vector_spaces import Progress

Report = Callable[[str, int, int], None]
"""Takes what is being done, how far it is, and out of how many."""

_STEPS = {"vectors": "Vectors", "documents": "Vectors of documents", "index": "Index of the vectors"}


def building(report: Report) -> Callable[[Progress], None]:
    """Reports how far vectors are, as `memory.spaces` tells it."""
    return lambda now: report(_STEPS[now.step], now.done, now.total)


@contextmanager
def steps(output: Output) -> Iterator[Report]:
    """A bar, where a person watches."""
    if not output.shows_progress:
        yield lambda _doing, _done, _of: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=output.aside, transient=True) as bar:
        task = bar.add_task("Looking", total=None)
        doing = ""

        def report(now: str, done: int, of: int) -> None:
            nonlocal doing
            if now != doing:
                bar.reset(task, description=now)
                doing = now
            bar.update(task, completed=done, total=of or None)

        yield report
