"""`prune`: remove the history that is not to be kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Output, counted
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Retention, RetentionReport

app = typer.Typer(rich_markup_mode=None)


def span(text: str | None, option: str) -> timedelta | None:
    """A length of time as it was written behind an option.

    Raises:
        typer.BadParameter: it is none.
    """
    from memory_plugin.durations import duration

    if text is None:
        return None
    try:
        return duration(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}.", param_hint=option) from None


@app.command(
    epilog=examples(
        "memory-plugin prune --keep-last 10 --dry-run",
        "memory-plugin prune --keep-last 10 --keep-for 30d",
        "memory-plugin prune --expire-after 90d --only-checkpoints",
        "memory-plugin --json prune --keep-last 1 --thread support-42",
    ),
)
def prune(
    context: typer.Context,
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", min=1, max=2**31 - 1, metavar="N", help="Keep the last N of each namespace."),
    ] = None,
    keep_for: Annotated[
        str | None, typer.Option("--keep-for", metavar="TIME", help="Keep those younger than this: 12h, 30d, P30D.")
    ] = None,
    expire_after: Annotated[
        str | None, typer.Option("--expire-after", metavar="TIME", help="Remove threads that were idle for so long.")
    ] = None,
    only_checkpoints: Annotated[
        bool, typer.Option("--only-checkpoints", help="Of an expired thread leave the conversation.")
    ] = False,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="Of this thread only.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing, and say what would be.")] = False,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=10_000, metavar="N", help="Threads that one transaction looks at.")
    ] = 100,
) -> None:
    """Remove checkpoints and idle threads past their time.

    Without limits here those of MEMORY_RETENTION_KEEP_LAST, MEMORY_RETENTION_KEEP_FOR and
    MEMORY_RETENTION_EXPIRE_AFTER hold; where these are not set either, nothing goes. Where both --keep-last
    and --keep-for are given, a checkpoint stays that either keeps. The newest checkpoint of a namespace always
    stays, and so do the messages of conversations, unless their thread expires. A thread may have limits of its
    own, which win, unless it is named by --thread together with limits.

    Agents may be at work meanwhile, and a run that was broken off is simply started again.
    """
    from memory_plugin.types import Retention

    session = session_of(context)
    policy: Retention | None = None
    if keep_last is not None or keep_for is not None or expire_after is not None:
        policy = Retention(
            keep_last=keep_last,
            keep_for=span(keep_for, "--keep-for"),
            expire_after=span(expire_after, "--expire-after"),
            expire="checkpoints" if only_checkpoints else "thread",
        )
    if only_checkpoints and expire_after is None:
        raise typer.BadParameter("give --expire-after with it.", param_hint="--only-checkpoints")

    async def work(core: MemoryCore) -> RetentionReport:
        with _progress(session.output) as progress:
            return await core.retention.apply(policy, thread_id=thread, dry_run=dry_run, batch=batch, progress=progress)

    report = session.run(work)
    session.output.result({"retention": report}, lambda: _show(session.output, report))


@contextmanager
def _progress(output: Output) -> Iterator[Callable[[RetentionReport], None] | None]:
    """A bar over the threads, where a person watches."""
    if not output.shows_progress:
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=None), MofNCompleteColumn()
    with Progress(*columns, console=output.aside, transient=True) as bar:
        task = bar.add_task("Looking", total=None)

        def on_progress(report: RetentionReport) -> None:
            rows = report.rows.get("checkpoints", 0)
            bar.update(task, total=report.of, completed=report.threads, description=counted(rows, "checkpoint"))

        yield on_progress


def _show(output: Output, report: RetentionReport) -> None:
    if not any(report.rows.values()):
        output.note(f"Nothing to remove: {counted(report.threads, 'thread')} looked at.")
        return
    output.counts(report.rows)
    parts = [("pruned", report.pruned), ("emptied", report.emptied), ("expired", report.expired)]
    what = ", ".join(f"{number:,} {name}" for name, number in parts if number)
    ending = "; nothing was removed" if report.dry_run else ""
    output.note(f"Of {counted(report.threads, 'thread')} {what or 'none changed'}; {size(report.bytes)}{ending}.")


def size(number: int) -> str:
    """Bytes as a person reads them."""
    value = float(number)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            break
        value /= 1000
    return f"{value:,.0f} {unit}" if unit == "bytes" else f"{value:,.1f} {unit}"
