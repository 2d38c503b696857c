"""The command: options, a progress bar on standard error, the table on standard output."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_HELP = """Let many agents of many tenants work at once, and see that nothing breaks, grows, or is left behind.

A few tenants are busy and most are quiet (Zipf's law). Each agent takes a seat at a tenant, runs a LangGraph graph
with checkpoints, recalls, remembers, searches references, calls the tools of an MCP server, and takes another seat.
The store is that of one process, as a server for many tenants has it. Ends with status 1 on any error, when the
memory of the process grew, or when a connection was left open.

Nothing is kept: without --url an embedded PostgreSQL runs in a temporary directory.

\\b
Examples:
  python -m benchmarks.load --seconds 60
  python -m benchmarks.load --soak --json measured.json --write-docs docs/benchmarks.md
  python -m benchmarks.load --seconds 3600 --tenants 10000 --agents 256 --url postgresql://...
"""


def command(
    seconds: Annotated[float, typer.Option("--seconds", min=1, help="How long to measure, after the warm-up.")] = 60,
    soak: Annotated[bool, typer.Option("--soak", help="Ten minutes, after one of warm-up.")] = False,
    warm_up: Annotated[
        float | None, typer.Option("--warm-up", min=0, help="Seconds before that are not measured.")
    ] = None,
    tenants: Annotated[int, typer.Option("--tenants", min=1)] = 1000,
    agents: Annotated[int, typer.Option("--agents", min=1, help="How many work at the same time.")] = 64,
    pool: Annotated[int, typer.Option("--connections", min=1, help="Of the store to the database.")] = 16,
    seed: Annotated[int, typer.Option("--seed", help="Of all choices.")] = 1,
    without_vectors: Annotated[bool, typer.Option("--without-vectors", help="Open without an embedder.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything to a file.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the table of this page.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server where databases may be made and dropped, with pgvector."),
    ] = None,
) -> None:
    """Run and report."""
    from benchmarks.load.report import PLACE
    from benchmarks.load.run import Plan, run

    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    plan = Plan(seconds=600 if soak else seconds, tenants=tenants, agents=agents, pool=pool, seed=seed, url=url)
    plan = replace(
        plan,
        warm_up=warm_up if warm_up is not None else min(60.0, max(10.0, plan.seconds / 3)),
        embeddings=False if without_vectors else None,
    )
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        refresh_per_second=1,  # drawing takes time from what is measured
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("opening", total=plan.length)
        report = asyncio.run(run(plan, lambda what, done: progress.update(task, description=what, advance=done)))
    sys.stdout.write(report.markdown())
    if json_file is not None:
        report.write_json(json_file)
    if docs is not None:
        PLACE.write(docs, report.markdown())
    if report.problems:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.load")


if __name__ == "__main__":
    main()
