"""`conversations turns`, `tools`, `worked`, `rate`, `share`, `unshare`, `branch` and `merge`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from memory_plugin.cli import options
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, clipped, visible, when
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.capabilities.conversation_values import Feedback, Share, ToolCall, Turn
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Conversation

SHOWN = 120
"""Characters of a question, an answer or a result in a table."""

ThreadId = Annotated[str, typer.Argument(metavar="THREAD", help="Id of the conversation.")]
OneThread = Annotated[str | None, typer.Option("--thread", metavar="ID", help="Of this conversation only.")]
OneUser = Annotated[str | None, typer.Option("--user", metavar="ID", help="Of this user only.")]
OneTool = Annotated[str | None, typer.Option("--tool", metavar="NAME", help="Only with this tool.")]
Failed = Annotated[bool, typer.Option("--failed", help="Only where a tool failed.")]
Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="From then on.")]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then.")]


def register(app: typer.Typer) -> None:
    """Add the commands to those of `conversations`."""
    app.command(epilog=examples("memory-plugin conversations turns --failed --since 7d"))(turns)
    app.command(epilog=examples("memory-plugin conversations tools --failed --since 7d"))(tools)
    app.command(epilog=examples('memory-plugin conversations worked "a refund" --user alice'))(worked)
    app.command(epilog=examples("memory-plugin conversations rate support-42 good --by alice"))(rate)
    app.command(epilog=examples("memory-plugin conversations share support-42 --live"))(share)
    app.command(epilog=examples("memory-plugin conversations unshare ID"))(unshare)
    app.command(epilog=examples("memory-plugin conversations branch support-42 --upto 4"))(branch)
    app.command(epilog=examples("memory-plugin conversations merge support-42 support-43"))(merge)


def turns(
    context: typer.Context,
    thread: OneThread = None,
    user: OneUser = None,
    tool: OneTool = None,
    failed: Failed = False,
    outcome: Annotated[
        str | None, typer.Option("--outcome", metavar="WORD", help="Only with this feedback: good, bad or mixed.")
    ] = None,
    since: Since = None,
    until: Until = None,
    limit: options.Limit = 20,
) -> None:
    """List what was asked and answered, the latest first."""
    from memory_plugin.capabilities.conversation_values import Outcome

    session = session_of(context)
    wanted = options.one_of(outcome, Outcome, "--outcome")
    start, end = options.moment(since, "--since"), options.moment(until, "--until")

    async def work(core: MemoryCore) -> list[Turn]:
        return await core.turns.list(
            thread_id=thread,
            user_id=user,
            since=start,
            until=end,
            outcome=wanted,
            tool=tool,
            failed=True if failed else None,
            limit=limit,
        )

    found = session.run(work)
    session.output.result({"turns": [_plain(turn) for turn in found]}, lambda: _show_turns(session.output, found))


def tools(
    context: typer.Context,
    thread: OneThread = None,
    user: OneUser = None,
    tool: OneTool = None,
    failed: Failed = False,
    since: Since = None,
    until: Until = None,
    limit: options.Limit = 20,
) -> None:
    """List calls of tools with their results, the latest first."""
    session = session_of(context)
    start, end = options.moment(since, "--since"), options.moment(until, "--until")

    async def work(core: MemoryCore) -> list[ToolCall]:
        return await core.turns.tool_calls(
            status="error" if failed else None,
            tool=tool,
            thread_id=thread,
            user_id=user,
            since=start,
            until=end,
            limit=limit,
        )

    found = session.run(work)
    session.output.result({"calls": [_plain(call) for call in found]}, lambda: _show_calls(session.output, found))


def worked(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="What somebody asked for, in plain words.")],
    user: OneUser = None,
    limit: options.Limit = 5,
) -> None:
    """Show what worked when somebody asked for something like this."""
    session = session_of(context)

    async def work(core: MemoryCore) -> list[Turn]:
        return await core.turns.what_worked(query, user_id=user, limit=limit)

    found = session.run(work)
    session.output.result({"turns": [_plain(turn) for turn in found]}, lambda: _show_turns(session.output, found))


def rate(
    context: typer.Context,
    thread: ThreadId,
    outcome: Annotated[str, typer.Argument(metavar="OUTCOME", help="good, bad or mixed.")],
    turn: Annotated[
        int | None, typer.Option("--turn", min=1, metavar="N", help="Which turn; the last one by default.")
    ] = None,
    score: Annotated[float | None, typer.Option("--score", metavar="X", help="A number of your own scale.")] = None,
    comment: Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="In words.")] = None,
    by: Annotated[str | None, typer.Option("--by", metavar="ID", help="Who says so.")] = None,
) -> None:
    """Say what came of an answer."""
    from memory_plugin.capabilities.conversation_values import Outcome

    session = session_of(context)
    word = options.one_of(outcome, Outcome, "OUTCOME")

    async def work(core: MemoryCore) -> Feedback:
        return await core.turns.rate(thread, word, turn=turn, score=score, comment=comment, given_by=by)

    given = session.run(work)
    session.output.result({"feedback": given}, lambda: session.output.line(visible(f"{thread}: {given.outcome}")))


def share(
    context: typer.Context,
    thread: ThreadId,
    live: Annotated[bool, typer.Option("--live", help="Show what is said later too.")] = False,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="When it ends.")] = None,
) -> None:
    """Let a conversation be read by whoever knows an id."""
    session = session_of(context)
    end = options.moment(until, "--until")

    async def work(core: MemoryCore) -> Share:
        return await core.conversations.share(thread, live=live, expires_at=end)

    made = session.run(work)
    session.output.result({"share": made}, lambda: session.output.line(made.id))


def unshare(
    context: typer.Context, share_id: Annotated[str, typer.Argument(metavar="ID", help="What `share` printed.")]
) -> None:
    """End a share."""
    session = session_of(context)

    async def work(core: MemoryCore) -> bool:
        return await core.conversations.unshare(share_id)

    ended = session.run(work)
    session.output.result(
        {"ended": ended},
        lambda: session.output.line("It is no longer shared." if ended else "There was no such share."),
    )


def branch(
    context: typer.Context,
    thread: ThreadId,
    upto: Annotated[
        int | None, typer.Option("--upto", min=1, metavar="N", help="Number of the last message to take.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TEXT", help="Of the new one.")] = None,
) -> None:
    """Begin a new conversation with what was said in another."""
    session = session_of(context)

    async def work(core: MemoryCore) -> Conversation:
        return await core.conversations.branch(thread, upto=upto, title=title)

    made = session.run(work)
    session.output.result({"conversation": made}, lambda: session.output.line(visible(made.thread_id)))


def merge(
    context: typer.Context,
    thread: ThreadId,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The one that goes into it, and is erased.")],
    yes: options.Yes = False,
) -> None:
    """Make two conversations one."""
    session = session_of(context)
    session.confirm(f"Add what only {other!r} has to {thread!r}, and erase {other!r} for good?", yes=yes)

    async def work(core: MemoryCore) -> Conversation:
        return await core.conversations.merge(thread, other)

    kept = session.run(work)
    session.output.result(
        {"conversation": kept},
        lambda: session.output.line(visible(f"{kept.thread_id}: {kept.message_count:,} messages")),
    )


def _plain(value: Turn | ToolCall) -> dict[str, Any]:
    """The fields for JSON, a duration in seconds."""
    fields = {name: getattr(value, name) for name in value.__dataclass_fields__}
    length: timedelta | None = value.duration
    return {**fields, "duration": None if length is None else length.total_seconds()}


def _seconds(length: timedelta | None) -> str:
    return "" if length is None else f"{length.total_seconds():,.1f}"


def _show_turns(output: Output, found: list[Turn]) -> None:
    if not found:
        output.note("There are no such turns.")
        return
    columns = [
        Column("thread", fixed=True),
        Column("turn", fixed=True, right=True),
        Column("asked", least=10),
        Column("query"),
        Column("answer"),
        Column("tools", least=8),
        Column("tokens", fixed=True, right=True),
        Column("outcome", fixed=True),
    ]
    rows = [
        (
            each.thread_id,
            str(each.turn),
            when(each.asked_at),
            clipped(each.query, SHOWN),
            clipped(each.answer or "", SHOWN),
            ", ".join(each.tools) + (f" ({each.tool_errors} failed)" if each.tool_errors else ""),
            "" if each.total_tokens is None else f"{each.total_tokens:,}",
            each.outcome or "",
        )
        for each in found
    ]
    output.table(columns, rows)


def _show_calls(output: Output, found: list[ToolCall]) -> None:
    if not found:
        output.note("There are no such calls.")
        return
    columns = [
        Column("thread", fixed=True),
        Column("returned", least=10),
        Column("tool", fixed=True),
        Column("status", fixed=True),
        Column("seconds", fixed=True, right=True),
        Column("arguments"),
        Column("result"),
    ]
    rows = [
        (
            each.thread_id,
            when(each.returned_at),
            each.tool or "",
            each.status,
            _seconds(each.duration),
            clipped(", ".join(f"{name}={value}" for name, value in (each.arguments or {}).items()), SHOWN),
            clipped(each.result, SHOWN),
        )
        for each in found
    ]
    output.table(columns, rows)
