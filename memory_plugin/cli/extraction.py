"""`extract` and `proposals`: a model reads conversations, a person decides what is remembered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory_plugin.cli import options
from memory_plugin.cli.facts import INDEX_TIMEOUT, show_item
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted, when
from memory_plugin.cli.session import UsageError, session_of
from memory_plugin.errors import UnsupportedError

if TYPE_CHECKING:
    from memory_plugin.capabilities.proposals import ExtractionReport, Proposal
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import MemoryItem, Page

app = typer.Typer(rich_markup_mode=None)
proposals = typer.Typer(
    help="Facts that a model proposes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=examples("memory-plugin proposals list --user alice"),
)

ProposalId = Annotated[str, typer.Argument(metavar="PROPOSAL_ID", help="As `proposals list` names it.")]


@app.command(
    epilog=examples(
        "memory-plugin extract --dry-run",
        "memory-plugin extract --model openai:gpt-4o-mini --user alice",
        "memory-plugin proposals list",
    ),
)
def extract(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option("--model", metavar="PROVIDER:MODEL", help="A chat model, as LangChain names it.")
    ] = None,
    thread: options.Thread = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Conversations of this user only.")] = None,
    batch: Annotated[
        int, typer.Option("--batch", min=1, max=500, metavar="N", help="Messages that the model is shown at once.")
    ] = 30,
    calls: Annotated[
        int | None, typer.Option("--calls", min=1, metavar="N", help="Stop after so many calls of the model.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing: count messages, calls and, roughly, tokens.")
    ] = False,
) -> None:
    """Let a model propose facts from conversations.

    It reads what was said since the last time. Nothing is remembered before you accept it. What was
    broken off goes on where it was.
    """
    session = session_of(context)
    if model is None and not dry_run:
        raise UsageError("Name the model with --model provider:model, or look first with --dry-run.")

    async def work(core: MemoryCore) -> ExtractionReport:
        reader = None if dry_run or model is None else _chat_model(model)
        with _progress(session.output) as count:
            return await core.extraction.run(
                reader,
                thread_id=thread,
                user_id=user,
                batch=batch,
                most_calls=calls,
                dry_run=dry_run,
                on_progress=count,
            )

    report = session.run(work)
    session.output.result({"extraction": report}, lambda: _show_report(session.output, report))
    if report.failed and not report.proposals and report.failed == report.calls:
        raise typer.Exit(1)


@contextmanager
def _progress(output: Output) -> Iterator[Callable[[ExtractionReport], None] | None]:
    """How far it is, where a person watches."""
    if not output.shows_progress:
        yield None
        return
    with output.aside.status("Reading ...") as status:

        def on_progress(report: ExtractionReport) -> None:
            done = f"{counted(report.messages, 'message')}, {counted(report.proposals, 'proposal')}"
            status.update(f"Reading ... {done}, {counted(report.calls, 'call')}")

        yield on_progress


def _chat_model(name: str) -> Any:
    """The model of that name.

    Raises:
        UnsupportedError: LangChain or the provider's package is not installed, or does not know it.
    """
    try:
        from langchain.chat_models import init_chat_model
    except ImportError as error:
        raise UnsupportedError("Models by name need LangChain: install memory-plugin[langchain].") from error
    try:
        return init_chat_model(name, temperature=0)
    except (ImportError, ValueError) as error:
        raise UnsupportedError(f"The model {name!r} cannot be opened: {error}") from error


def _show_report(output: Output, report: ExtractionReport) -> None:
    tokens = f"{report.input_tokens:,}" + (" about" if report.dry_run else "")
    output.facts(
        [
            ("conversations", f"{report.threads:,}"),
            ("messages", f"{report.messages:,}"),
            ("calls", f"{report.calls:,}"),
            ("input tokens", tokens),
            ("output tokens", None if report.dry_run else f"{report.output_tokens:,}"),
            ("proposals", None if report.dry_run else f"{report.proposals:,}"),
            ("known before", f"{report.known:,}" if report.known else None),
            ("dropped", f"{report.dropped:,}" if report.dropped else None),
            ("failed calls", f"{report.failed:,}" if report.failed else None),
            ("messages passed over", f"{report.passed_over:,}" if report.passed_over else None),
        ]
    )
    for error in report.errors[:10]:
        output.warn(error)


@proposals.command("list", epilog=examples("memory-plugin proposals list --user alice"))
def list_(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Of this user only.")] = None,
    thread: options.Thread = None,
    status: Annotated[str, typer.Option("--status", metavar="WORD", help="open, accepted, rejected or all.")] = "open",
    limit: options.Limit = 20,
    cursor: options.Cursor = None,
) -> None:
    """List what was proposed, the newest first."""
    from memory_plugin.capabilities.proposals import ProposalStatus

    session = session_of(context)
    wanted = None if status == "all" else options.one_of(status, ProposalStatus, "--status")

    async def work(core: MemoryCore) -> Page[Proposal]:
        return await core.extraction.proposals(
            status=wanted, user_id=user, thread_id=thread, limit=limit, cursor=cursor
        )

    page = session.run(work)
    session.output.result(
        {"proposals": page.items, "cursor": page.cursor}, lambda: _show_proposals(session.output, page)
    )


def _show_proposals(output: Output, page: Page[Proposal]) -> None:
    if not page.items:
        output.note("Nothing is proposed.")
        return
    columns = [
        Column("id", fixed=True),
        Column("date", least=10),
        Column("user", least=8),
        Column("conversation", least=10),
        Column("status", fixed=True),
        Column("fact"),
    ]
    output.table(
        columns,
        [
            [str(each.id), when(each.created_at), each.user_id or "", each.thread_id, each.status, each.content]
            for each in page.items
        ],
    )
    if page.cursor is not None:
        output.note(f"There are more: --cursor {page.cursor}")


@proposals.command(epilog=examples("memory-plugin proposals accept 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11 --key home"))
def accept(
    context: typer.Context,
    proposal_id: ProposalId,
    text: Annotated[str | None, typer.Option("--text", metavar="TEXT", help="The fact in other words.")] = None,
    key: Annotated[str | None, typer.Option("--key", metavar="NAME", help="The name of the fact.")] = None,
) -> None:
    """Remember a fact that was proposed."""
    session = session_of(context)

    async def work(core: MemoryCore) -> MemoryItem:
        item = await core.extraction.accept(proposal_id, content=text, key=key)
        await session.index(core, seconds=INDEX_TIMEOUT)
        return item

    item = session.run(work)
    session.output.result({"memory": item}, lambda: show_item(session.output, item))


@proposals.command(epilog=examples("memory-plugin proposals reject 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"))
def reject(context: typer.Context, proposal_id: ProposalId) -> None:
    """Keep a fact out that was proposed; it is not proposed again."""
    session = session_of(context)

    async def work(core: MemoryCore) -> Proposal:
        return await core.extraction.reject(proposal_id)

    proposal = session.run(work)
    session.output.result({"proposal": proposal}, lambda: session.output.line(f"Rejected: {proposal.content}"))
