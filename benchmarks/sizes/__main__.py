"""The command: options, a progress bar on standard error, the tables on standard output."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

_HELP = """Measure the bytes of a row in each table and the cost of an operation, and compute larger stores from them.

A store is filled with conversations by a LangGraph graph, facts, and documents; then its tables are looked at after
a VACUUM, and operations are run one by one while the processors and the log of the server are read. The server must
run on this machine. Without --url an embedded PostgreSQL runs in a temporary directory.

\\b
Examples:
  python -m benchmarks.sizes
  python -m benchmarks.sizes --conversations 1000 --write-docs docs/explanation/scale.md
"""


def command(
    conversations: Annotated[int, typer.Option("--conversations", min=5)] = 200,
    turns: Annotated[int, typer.Option("--turns", min=1, help="Of each conversation.")] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Of the texts.")] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything to a file.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the tables of this page.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(
            "--url", metavar="URL", help="A server on this machine where databases may be made, with pgvector."
        ),
    ] = None,
) -> None:
    """Run and report."""
    from benchmarks.sizes.measure import measure
    from benchmarks.sizes.report import PLACE, document, markdown

    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    with Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as progress:
        task = progress.add_task("opening", total=conversations)
        found = asyncio.run(
            measure(
                conversations=conversations,
                turns=turns,
                seed=seed,
                url=url,
                advance=lambda what, done: progress.update(task, description=what, advance=done),
            )
        )
    sys.stdout.write(markdown(found))
    if json_file is not None:
        json_file.write_text(json.dumps(document(found), indent=1) + "\n", "utf-8")
    if docs is not None:
        PLACE.write(docs, markdown(found))


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.sizes")


if __name__ == "__main__":
    main()
