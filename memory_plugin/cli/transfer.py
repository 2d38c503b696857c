"""`import` and `export`: a database of LangGraph's official saver and store, moved here and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, Self

import typer

from memory_plugin.cli.facts import INDEX_TIMEOUT
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted
from memory_plugin.cli.session import Session, session_of

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from memory_plugin.memory import Memory
    from memory_plugin.transfer import ItemCounts, Options, Report
    from memory_plugin.transfer import Progress as Hears

SHOWN = 20
"""Failures that are shown as text; as JSON all are there."""

imports = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bring in what another memory has.",
    epilog=examples("memory-plugin import langgraph --from postgresql://me@localhost/agents"),
)
exports = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Take what is here to another memory.",
    epilog=examples("memory-plugin export langgraph --to postgresql://me@localhost/agents"),
)


@imports.callback()
def _imports() -> None:
    """Bring in what another memory has."""


@exports.callback()
def _exports() -> None:
    """Take what is here to another memory."""


Threads = Annotated[
    str | None,
    typer.Option("--threads", metavar="PATTERN", help="Only this thread, or those that match a*, ? or [..]."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Write nothing: only count what would be moved.")]
VerifyOnly = Annotated[bool, typer.Option("--verify-only", help="Write nothing: only compare both sides.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Do not compare what was written.")]
NoStore = Annotated[bool, typer.Option("--no-store", help="Leave the items of the store out.")]
Serde = Annotated[
    str | None,
    typer.Option("--serde", metavar="MODULE:NAME", help="The serializer of your graph, where it is not LangGraph's."),
]
Encrypted = Annotated[bool, typer.Option("--encrypted", help="Values are encrypted with the key in LANGGRAPH_AES_KEY.")]


@imports.command(
    "langgraph",
    epilog=examples(
        "memory-plugin import langgraph --from postgresql://me@localhost/agents --dry-run",
        "memory-plugin import langgraph --from postgresql://me@localhost/agents",
        "memory-plugin import langgraph --from postgresql://me@localhost/agents --threads 'support-*'",
    ),
)
def import_(
    context: typer.Context,
    source: Annotated[
        str, typer.Option("--from", metavar="URL", help="postgresql:// URL of the official saver's database.")
    ],
    threads: Threads = None,
    dry_run: DryRun = False,
    verify_only: VerifyOnly = False,
    no_verify: NoVerify = False,
    no_store: NoStore = False,
    serde: Serde = None,
    encrypted: Encrypted = False,
) -> None:
    """Bring in threads of PostgresSaver and items of PostgresStore.

    Only what is not here yet is written, so a run that was ended goes on where it was, and a second
    one changes nothing. The source is only read.
    """
    from memory_plugin.transfer import Options, import_langgraph

    options = Options(
        threads=threads,
        store=not no_store,
        serde=serde,
        encrypted=encrypted,
        dry_run=dry_run,
        verify_only=verify_only,
        verify=not no_verify,
    )

    async def work(memory: Memory, hears: Hears) -> Report:
        return await import_langgraph(memory, source, options, hears)

    _run(context, work, options, indexes=options.writes)


@exports.command(
    "langgraph",
    epilog=examples(
        "memory-plugin export langgraph --to postgresql://me@localhost/agents",
        "memory-plugin export langgraph --to postgresql://me@localhost/agents --verify-only",
    ),
)
def export(
    context: typer.Context,
    target: Annotated[
        str, typer.Option("--to", metavar="URL", help="postgresql:// URL of the official saver's database.")
    ],
    threads: Threads = None,
    dry_run: DryRun = False,
    verify_only: VerifyOnly = False,
    no_verify: NoVerify = False,
    no_store: NoStore = False,
    serde: Serde = None,
    encrypted: Encrypted = False,
) -> None:
    """Take threads and items to PostgresSaver and PostgresStore.

    The tables are made where they are not. Only what is not there yet is written.
    """
    from memory_plugin.transfer import Options, export_langgraph

    options = Options(
        threads=threads,
        store=not no_store,
        serde=serde,
        encrypted=encrypted,
        dry_run=dry_run,
        verify_only=verify_only,
        verify=not no_verify,
    )

    async def work(memory: Memory, hears: Hears) -> Report:
        return await export_langgraph(memory, target, options, hears)

    _run(context, work, options, indexes=False)


def _run(
    context: typer.Context, work: Callable[[Memory, Hears], Awaitable[Report]], options: Options, *, indexes: bool
) -> None:
    session = session_of(context)

    async def opened() -> Report:
        from memory_plugin.transfer.langgraph import QuietMemory

        # what is old in the source would be removed while it is still compared
        settings = session.settings().model_copy(update={"retention_every": None})
        async with QuietMemory.open(settings=settings) as memory:
            with _Progress(session.output) as hears:
                report = await work(memory, hears)
            if indexes and report.written:
                await session.index(memory, seconds=INDEX_TIMEOUT, doing="Indexing what came in")
            return report

    report = asyncio.run(opened())
    session.output.result(_document(report, options), lambda: _show(session, report, options))
    if not report.is_complete:
        raise typer.Exit(1)


class _Progress:
    """Bars with rate and remaining time, for a person who watches."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._bars: Bars | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._output.shows_progress:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=self._output.aside,
            )
            self._bars.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(self, what: str, total: int) -> None:
        """A bar of its own for each part."""
        if self._bars is not None:
            self._task = self._bars.add_task(what, total=total, rate="")

    def advance(self, count: int) -> None:
        """Move the bar, and say how many a second."""
        if self._bars is not None and self._task is not None:
            speed = self._bars.tasks[self._task].speed
            self._bars.update(self._task, advance=count, rate=f"{speed:,.0f}/s" if speed else "")


def _document(report: Report, options: Options) -> dict[str, Any]:
    return {
        "dry_run": options.dry_run,
        "threads": {**report.threads, "failed": len(report.failures)},
        "checkpoints": {"read": report.checkpoints, "written": report.written, "compared": report.compared},
        "items": report.items,
        "failures": [{"thread_id": each.thread_id, "reason": each.reason} for each in report.failures],
        "seconds": round(report.seconds, 3),
        "complete": report.is_complete,
    }


def _show(session: Session, report: Report, options: Options) -> None:
    output = session.output
    names = {"new": "would be new", "continued": "would be continued"} if options.dry_run else {}
    rows = [(names.get(status, status), f"{count:,}") for status, count in report.threads.items()]
    if options.verify_only:
        rows = [("equal", f"{sum(report.threads.values()):,}")]
    rows.append(("failed", f"{len(report.failures):,}"))
    output.table([Column("threads", fixed=True), Column("", fixed=True, right=True)], rows)
    if report.items is not None:
        output.line()
        output.table([Column("items", fixed=True), Column("", fixed=True, right=True)], _item_rows(report.items))
    for each in report.failures[:SHOWN]:
        output.warn(f"{each.thread_id}: {each.reason}")
    for reason in report.items.reasons[:SHOWN] if report.items is not None else ():
        output.warn(f"item {reason}")
    if len(report.failures) > SHOWN:
        output.warn(f"{counted(len(report.failures) - SHOWN, 'more thread')} failed: --json names them all.")
    rate = report.checkpoints / report.seconds if report.seconds else 0
    output.note(
        f"\n{counted(report.checkpoints, 'checkpoint')}, {report.written:,} written, {report.compared:,} compared, "
        f"in {report.seconds:,.1f} s ({rate:,.0f}/s)"
    )


def _item_rows(items: ItemCounts) -> list[tuple[str, str]]:
    counts = {
        "new": items.new,
        "updated": items.updated,
        "unchanged": items.unchanged,
        "changed there since": items.kept,
        "expired": items.expired,
        "failed": items.failed,
    }
    return [(name, f"{count:,}") for name, count in counts.items() if count or name in {"new", "failed"}]
