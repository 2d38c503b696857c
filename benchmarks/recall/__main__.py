"""The command: options, progress on standard error, the table on standard output."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

_HELP = """Measure what recall and remember cost, against how much is stored.

Tenants of 1,000, 10,000 and 100,000 memories lie in one table of a million, which is filled first: with the
functions of the index for those tenants, with copies for the others. That takes some minutes and 5 GB of disk;
--quick makes a table of 20,000. Nothing is kept: without --url an embedded PostgreSQL runs in a temporary directory.

\\b
Examples:
  python -m benchmarks.recall --quick
  python -m benchmarks.recall --write-docs docs/benchmarks.md
  python -m benchmarks.recall --sizes 1000,10000 --rows 200000
"""


def command(
    quick: Annotated[bool, typer.Option("--quick", help="A minute: a table of 20,000, fewer questions.")] = False,
    sizes: Annotated[
        str, typer.Option("--sizes", metavar="NUMBERS", help="Memories of the measured tenants, with commas.")
    ] = "1000,10000,100000",
    rows: Annotated[
        int, typer.Option("--rows", min=1_000, metavar="N", help="Memories in the table in all.")
    ] = 1_000_000,
    questions: Annotated[
        int, typer.Option("--questions", min=20, metavar="N", help="Questions timed in each cell.")
    ] = 200,
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the table of this page.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the texts and of the questions.")] = 1,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server where databases may be made and dropped, with pgvector."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where a goal is not met.")] = False,
) -> None:
    """Run and report."""
    from benchmarks.recall.report import PLACE
    from benchmarks.recall.run import Plan, run

    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    try:
        chosen = sorted(int(size) for size in sizes.split(","))
    except ValueError as error:
        raise typer.BadParameter("numbers with commas between, as in 1000,10000.", param_hint="--sizes") from error
    plan = Plan(tuple(chosen), rows, questions, seed=seed, url=url)
    if quick:
        plan = Plan((1_000, 5_000), 20_000, 60, 100, seed=seed, url=url)
    report = asyncio.run(run(plan, lambda what: print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)))
    print(file=sys.stderr)
    sys.stdout.write(report.markdown())
    if docs is not None:
        report.write_docs(docs)
    if strict and report.missed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.recall")


if __name__ == "__main__":
    main()
