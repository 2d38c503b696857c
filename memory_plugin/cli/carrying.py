"""`export jsonl`, `import jsonl`, and imports of what other memories wrote."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory_plugin.cli.facts import INDEX_TIMEOUT
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted
from memory_plugin.cli.session import session_of
from memory_plugin.cli.transfer import exports, imports

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.portable import FactsReport, Failure, ImportReport

__all__ = ["exports", "imports"]

SHOWN = 20
"""Failures that are shown as text; as JSON all are there."""

File = Annotated[str, typer.Argument(metavar="FILE", help="The file; .gz is read compressed, - is standard input.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing: only say what would become of each.")]
Whose = Annotated[
    str | None, typer.Option("--user", metavar="ID", help="Whose the facts become.  [env: MEMORY_USER_ID]")
]


def _silent(number: int) -> None:
    """Tell nobody."""


@contextmanager
def _telling(output: Output, doing: str) -> Iterator[Callable[[int], None]]:
    """A way to tell a person who watches how many there are so far."""
    if not output.shows_progress:
        yield _silent
        return
    with output.aside.status(f"{doing} ...") as status:
        yield lambda number: status.update(f"{doing} ... {number:,}")


@exports.command(
    "jsonl",
    epilog=examples(
        "memory-plugin export jsonl --user alice --to alice.jsonl.gz",
        "memory-plugin export jsonl --all --checkpoints --to everything.jsonl --resume",
        "memory-plugin export jsonl --user alice --to -",
    ),
)
def export(
    context: typer.Context,
    to: Annotated[str, typer.Option("--to", metavar="FILE", help="Where to; .gz is compressed, - standard output.")],
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Everything of this user.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything of the tenant.")] = False,
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With the states of agents.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the FILE.part of a run that ended.")] = False,
) -> None:
    """Write everything of a user or of the tenant to a file.

    One JSON object a line. The file has its name only when it is whole.
    """
    session = session_of(context)
    if (user is None) == (not everything):
        context.fail("Say whose: either --user or --all.")

    async def work(core: MemoryCore) -> int:
        from memory_plugin.portable import write_export

        with _telling(session.output, "Exporting") as tell:
            return await write_export(core, to, user_id=user, checkpoints=checkpoints, resume=resume, on_progress=tell)

    written = session.run(work)
    said = f"{counted(written, 'record')} written to {to}."
    if to == "-":
        session.output.note(said)
    else:
        session.output.result({"file": to, "records": written}, lambda: session.output.line(said))


@imports.command(
    "jsonl",
    epilog=examples(
        "memory-plugin import jsonl alice.jsonl.gz",
        "memory-plugin --tenant other import jsonl alice.jsonl --user alicia",
    ),
)
def import_(
    context: typer.Context,
    file: File,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Give everything to this user instead.")
    ] = None,
) -> None:
    """Bring in what `export jsonl` wrote.

    What is here already stays as it is, so a run that ended is simply started again. A line that
    cannot be stored is named, and the rest goes in.
    """
    session = session_of(context)

    async def work(core: MemoryCore) -> ImportReport:
        from memory_plugin.portable import read_lines

        with _telling(session.output, "Importing") as tell:
            report = await core.import_records(
                read_lines(file), user_id=user, on_progress=lambda report: tell(report.lines)
            )
        await session.index(core, seconds=INDEX_TIMEOUT)
        return report

    report = session.run(work)
    session.output.result(_document(report), lambda: _show(session.output, report))
    if not report.complete:
        session.output.warn(f"{file} has no end: it was cut off; what was in it is stored.")
    if report.failed or not report.complete:
        raise typer.Exit(1)


def _document(report: ImportReport) -> dict[str, Any]:
    return {
        "created": report.created,
        "unchanged": report.unchanged,
        "failed": report.failed,
        "complete": report.complete,
    }


def _show(output: Output, report: ImportReport) -> None:
    kinds = sorted({*report.created, *report.unchanged})
    if kinds:
        columns = [Column("record", fixed=True)]
        columns += [Column(name, fixed=True, right=True) for name in ("created", "unchanged")]
        rows = [(kind, f"{report.created[kind]:,}", f"{report.unchanged[kind]:,}") for kind in kinds]
        output.table(columns, rows)
    _show_failures(output, report.failed)


def _show_failures(output: Output, failed: Sequence[Failure]) -> None:
    if not failed:
        return
    output.line()
    output.line(f"{counted(len(failed), 'line')} could not be imported:")
    for failure in failed[:SHOWN]:
        output.line(f"  line {failure.line}: {failure.message}")
    if len(failed) > SHOWN:
        output.line(f"  and {len(failed) - SHOWN:,} more; --json names them all")


@imports.command(
    "mcp-memory",
    epilog=examples(
        "memory-plugin import mcp-memory memory.jsonl --user alice --dry-run",
        "memory-plugin import mcp-memory memory.jsonl --user alice",
    ),
)
def mcp_memory(context: typer.Context, file: File, user: Whose = None, dry_run: DryRun = False) -> None:
    """Bring in the file of the reference MCP memory server.

    Each observation and each relation becomes a fact; the same file again brings duplicates only.
    """

    async def work(core: MemoryCore, tell: Callable[[int], None]) -> FactsReport:
        from memory_plugin.portable import import_mcp_memory, read_lines

        return await import_mcp_memory(
            core, read_lines(file), user_id=user, dry_run=dry_run, on_progress=lambda r: tell(r.counts.total())
        )

    _facts(context, work, dry_run=dry_run)


@imports.command(
    "mem0",
    epilog=examples(
        "memory-plugin import mem0 mem0.json --dry-run",
        "memory-plugin import mem0 mem0.jsonl --user alice",
    ),
)
def mem0(context: typer.Context, file: File, user: Whose = None, dry_run: DryRun = False) -> None:
    """Bring in memories that mem0 exported.

    A JSON list, the answer of get_all, or JSON Lines. Each goes to its own user unless one is named.
    """

    async def work(core: MemoryCore, tell: Callable[[int], None]) -> FactsReport:
        from memory_plugin.portable import import_mem0, read_document

        return await import_mem0(
            core, read_document(file), user_id=user, dry_run=dry_run, on_progress=lambda r: tell(r.counts.total())
        )

    _facts(context, work, dry_run=dry_run)


def _facts(
    context: typer.Context,
    work: Callable[[MemoryCore, Callable[[int], None]], Awaitable[FactsReport]],
    *,
    dry_run: bool,
) -> None:
    session = session_of(context)

    async def run(core: MemoryCore) -> FactsReport:
        with _telling(session.output, "Importing") as tell:
            report = await work(core, tell)
        if not dry_run:
            await session.index(core, seconds=INDEX_TIMEOUT)
        return report

    report = session.run(run)
    counts = {name: report.counts[name] for name in ("created", "updated", "duplicate")}
    counts["failed"] = len(report.failed)
    document = {"dry_run": dry_run, **counts, "failures": report.failed}

    def show() -> None:
        would = "Would be imported: " if dry_run else "Imported: "
        session.output.line(would + ", ".join(f"{number:,} {name}" for name, number in counts.items()))
        _show_failures(session.output, report.failed)

    session.output.result(document, show)
    if report.failed:
        raise typer.Exit(1)
