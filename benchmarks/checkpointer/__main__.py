"""The command: options, a progress bar on standard error, the tables on standard output."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.checkpointer.rows import GROUPS, chosen

_NEEDED = ("psycopg", "psycopg_pool", "langgraph.checkpoint.postgres")

_HELP = f"""Measure our checkpointer beside LangGraph's own savers, in one run, on one PostgreSQL.

What counts are the ratios in the column "ours / postgres": times differ from machine to machine, and from
minute to minute, but the contenders take turns in random order, so what disturbs one disturbs all.
The interval behind a ratio says how far chance alone moves it.

Nothing is installed or kept: without --url an embedded PostgreSQL runs in a temporary directory.
A commit does not wait for the disk on either side (synchronous_commit = off), because disks differ more than
savers do; --durable makes both wait.

What can be named after --only: {", ".join(GROUPS)}; the beginning of a name is enough.

\\b
Examples:
  python -m benchmarks.checkpointer --quick
  python -m benchmarks.checkpointer --quick --only aput,aget
  python -m benchmarks.checkpointer --json measured.json
  python -m benchmarks.checkpointer --write-docs docs/benchmarks.md
"""


def command(
    quick: Annotated[
        bool, typer.Option("--quick", help="About a minute: fewer operations, wider intervals, no SQLite.")
    ] = False,
    only: Annotated[str, typer.Option("--only", metavar="NAMES", help="Measure only these, with commas.")] = "",
    iterations: Annotated[
        int | None, typer.Option("--iterations", min=3, metavar="N", help="Operations timed in each cell.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything, with every sample, to a file.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the tables of this page.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the texts and of the order.")] = 1,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server where databases may be made and dropped, with pgvector."),
    ] = None,
    durable: Annotated[bool, typer.Option("--durable", help="Let each commit wait for the disk.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where a gate is not met.")] = False,
) -> None:
    """Run and report."""
    missing = [name for name in _NEEDED if find_spec(name.partition(".")[0]) is None]
    if missing:
        raise typer.BadParameter(f"{', '.join(missing)} is not installed: pip install -e '.[bench,embedded]' first.")
    try:
        groups = chosen(filter(None, only.replace(" ", "").split(",")))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--only") from error

    from benchmarks.checkpointer.report import PLACE
    from benchmarks.checkpointer.run import Plan, Size, run, steps

    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    size = Size(iterations=15, slices=2, seconds=0.5, sqlite=False) if quick else Size()
    if iterations is not None:
        size = replace(size, iterations=iterations)
    plan = Plan(groups, size, seed=seed, url=url, synchronous=durable)
    with Progress(
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=2,  # drawing takes time from what is measured
    ) as progress:
        task = progress.add_task("opening", total=steps(plan))
        report = asyncio.run(run(plan, lambda what, done: progress.update(task, description=what, advance=done)))
    sys.stdout.write(report.markdown())
    if json_file is not None:
        report.write_json(json_file)
    if docs is not None:
        report.write_docs(docs)
    if strict and report.missed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.checkpointer")


if __name__ == "__main__":
    main()
