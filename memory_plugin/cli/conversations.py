"""`conversations`: the threads, what was said in them, and their titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli import conversation_info, options
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted, visible, when
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Conversation, Message, Page

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, read, name and erase conversations.",
    epilog=examples("memory-plugin conversations list", "memory-plugin conversations show support-42"),
)

ThreadId = Annotated[str, typer.Argument(metavar="THREAD", help="Id of the conversation.")]


@app.command(
    "list",
    epilog=examples(
        "memory-plugin conversations list --user alice",
        "memory-plugin --json conversations list --search invoice --limit 100",
    ),
)
def list_(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Of this user only.")] = None,
    search: Annotated[
        str | None, typer.Option("--search", metavar="TEXT", help="Only with these words in title, id or a message.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="NAME=VALUE", help="Only with this; may be repeated.")
    ] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Active from then on.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Last active before then.")] = None,
    relevance: Annotated[
        bool, typer.Option("--relevance", help="The best answers to --search first, not the last active.")
    ] = False,
    limit: options.Limit = 20,
    cursor: options.Cursor = None,
) -> None:
    """List conversations, the last active first."""
    session = session_of(context)
    wanted, start, end = options.metadata(metadata), options.moment(since, "--since"), options.moment(until, "--until")

    async def work(core: MemoryCore) -> Page[Conversation]:
        return await core.conversations.list(
            user_id=user,
            search=search,
            metadata=wanted,
            since=start,
            until=end,
            order="relevance" if relevance else "recent",
            limit=limit,
            cursor=cursor,
        )

    page = session.run(work)
    session.output.result(
        {"conversations": page.items, "cursor": page.cursor}, lambda: _show_page(session.output, page)
    )


def _show_page(output: Output, page: Page[Conversation]) -> None:
    if not page.items:
        output.note("There are no conversations.")
        return
    columns = [
        Column("thread", fixed=True),
        Column("title", least=12),
        Column("user", least=6),
        Column("messages", fixed=True, right=True),
        Column("active", least=10),
    ]
    rows = [
        (each.thread_id, each.title or "", each.user_id or "", f"{each.message_count:,}", when(each.updated_at))
        for each in page.items
    ]
    output.table(columns, rows)
    if page.cursor:
        output.note(f"There are more: --cursor {page.cursor}")


@app.command(
    epilog=examples(
        "memory-plugin conversations show support-42",
        "memory-plugin conversations show support-42 --limit 10",
    ),
)
def show(
    context: typer.Context,
    thread: ThreadId,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, metavar="N", help="Only the newest so many messages.")
    ] = None,
) -> None:
    """Show what was said in a conversation."""
    session = session_of(context)

    async def work(core: MemoryCore) -> tuple[Conversation, list[Message]]:
        found = await core.conversations.get(thread)
        return found, await core.conversations.messages(thread, limit=limit)

    found, messages = session.run(work)
    session.output.result(
        {"conversation": found, "messages": messages}, lambda: _show_messages(session.output, found, messages)
    )


def _show_messages(output: Output, conversation: Conversation, messages: list[Message]) -> None:
    output.facts(
        [
            ("thread", conversation.thread_id),
            ("title", conversation.title),
            ("user", conversation.user_id),
            ("state", ", ".join(conversation.memory_buffer or ())),
            ("created", when(conversation.created_at)),
            ("active", when(conversation.updated_at)),
            ("messages", f"{conversation.message_count:,}"),
        ]
    )
    if 0 < len(messages) < conversation.message_count:
        output.line()
        output.line(f"(the newest {counted(len(messages), 'message')})")
    for message in messages:
        output.line()
        output.line(f"{message.name or message.role}, {when(message.at)}", style="bold")
        output.line(message.text or "(no text)")


@app.command(epilog=examples("memory-plugin conversations delete support-42"))
def delete(context: typer.Context, thread: ThreadId, yes: options.Yes = False) -> None:
    """Erase a conversation with its messages and its agent's state."""
    session = session_of(context)
    session.confirm(f"Erase the conversation {thread!r} for good?", yes=yes)

    async def work(core: MemoryCore) -> dict[str, int]:
        await core.conversations.get(thread)  # who mistypes a name must hear of it
        return await core.conversations.delete(thread)

    counts = session.run(work)
    session.output.result({"thread_id": thread, "rows": counts}, lambda: session.output.counts(counts))


@app.command(epilog=examples('memory-plugin conversations title support-42 "Refund for order 1093"'))
def title(
    context: typer.Context,
    thread: ThreadId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help='The title; "" takes it away.')],
) -> None:
    """Give a conversation a title."""
    session = session_of(context)

    async def work(core: MemoryCore) -> Conversation:
        await core.conversations.get(thread)  # naming one that is not there would make it
        return await core.conversations.set_title(thread, text or None)

    named = session.run(work)
    session.output.result(
        {"conversation": named},
        lambda: session.output.line(visible(f"{named.thread_id}: {named.title or '(no title)'}")),
    )


conversation_info.register(app)
