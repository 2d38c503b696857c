"""The command: options, progress on standard error, the table on standard output."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

_HELP = """Measure the MCP server: its start, its tools over 1,000 memories, its memory.

Beside it stand a bare server of the same protocol library, which is the least a server of it can be, and the
reference memory server @modelcontextprotocol/server-memory, installed from npm into a temporary directory where
Node.js is there. They take turns in random order, so what disturbs one disturbs all.

Nothing is kept: without --url an embedded PostgreSQL runs in a temporary directory.

\\b
Examples:
  python -m benchmarks.mcp --quick
  python -m benchmarks.mcp --write-docs docs/benchmarks.md --json measured.json
  python -m benchmarks.mcp --without-npm
"""


def command(
    quick: Annotated[bool, typer.Option("--quick", help="Half a minute: fewer starts, fewer calls.")] = False,
    starts: Annotated[
        int | None, typer.Option("--starts", min=1, metavar="N", help="How often each server is started.")
    ] = None,
    calls: Annotated[
        int | None, typer.Option("--calls", min=1, metavar="N", help="How often each tool is called.")
    ] = None,
    without_npm: Annotated[bool, typer.Option("--without-npm", help="Install nothing from npm.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write everything, with every sample, to a file.")
    ] = None,
    docs: Annotated[
        Path | None, typer.Option("--write-docs", metavar="FILE", help="Replace the table of this page.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Of the texts and of the order.")] = 1,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="A server where databases may be made and dropped, with pgvector."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="End with status 1 where a gate is not met.")] = False,
) -> None:
    """Run and report."""
    from benchmarks.mcp.report import PLACE
    from benchmarks.mcp.run import Plan, run

    if docs is not None and not PLACE.is_on(docs):
        raise typer.BadParameter(f"the page must have {PLACE.begin} and {PLACE.end}.", param_hint="--write-docs")
    plan = Plan(npm=not without_npm, seed=seed, url=url)
    if quick:
        plan = replace(plan, starts=4, calls=40)
    plan = replace(plan, starts=starts or plan.starts, calls=calls or plan.calls)
    report = asyncio.run(run(plan, lambda what: print(f"\r\033[K{what}", end="", file=sys.stderr, flush=True)))
    print(file=sys.stderr)
    sys.stdout.write(report.markdown())
    if json_file is not None:
        report.write_json(json_file)
    if docs is not None:
        PLACE.write(docs, report.markdown())
    if strict and report.missed:
        raise typer.Exit(1)


def main() -> None:
    """Run the command."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command(help=_HELP)(command)
    app(prog_name="python -m benchmarks.mcp")


if __name__ == "__main__":
    main()
