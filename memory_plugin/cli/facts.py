"""`remember` and `recall`: what is stored is found."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from memory_plugin.cli import options
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, when
from memory_plugin.cli.session import session_of
from memory_plugin.types import MemoryScope, SecretsPolicy

if TYPE_CHECKING:
    from memory_plugin.core import MemoryCore
    from memory_plugin.types import Hit, MemoryItem

app = typer.Typer(rich_markup_mode=None)

INDEX_TIMEOUT = 10.0
"""Seconds a command waits for the vectors of what it wrote."""

CATCH_UP_TIMEOUT = 2.0
"""Seconds a search spends on vectors that other processes left to be made."""


@app.command(
    epilog=examples(
        'memory-plugin remember "Alice prefers tea" --user alice',
        'memory-plugin remember "Alice lives in Lyon" --user alice --key home',
        'memory-plugin remember "Refunds take five days" --scope tenant --subject refunds --attribute days',
        'echo "The office opens at 9" | memory-plugin remember - --metadata topic=office',
    ),
)
def remember(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="One self-contained statement, or - to read it.")],
    user: options.User = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="NAME", help="Its name: a new text under it replaces the old.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="NAME", help="In place of a key: what it is about.")
    ] = None,
    attribute: Annotated[
        str | None, typer.Option("--attribute", metavar="NAME", help="With --subject: what it says of that.")
    ] = None,
    thread: Annotated[str | None, typer.Option("--thread", metavar="ID", help="The conversation it is from.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="ID", help="The agent it is from.")] = None,
    scope: Annotated[
        str | None, typer.Option("--scope", metavar="SCOPE", help="Kept for the user, thread, agent or tenant.")
    ] = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="NAME=VALUE", help="About the fact; may be repeated.")
    ] = None,
    valid_from: Annotated[str | None, typer.Option("--valid-from", metavar="TIME", help="True from then on.")] = None,
    valid_to: Annotated[str | None, typer.Option("--valid-to", metavar="TIME", help="True until then.")] = None,
    secrets: Annotated[
        str | None,
        typer.Option(
            "--secrets", metavar="POLICY", help="Credentials in it: refuse, redact or allow.  [env: MEMORY_SECRETS]"
        ),
    ] = None,
) -> None:
    """Store a fact.

    It says whether the fact was created, updated (another text stood under its key) or a duplicate.
    What looks like a credential is refused. TIME is a date, a time, or how long ago: 2026-03-01, 7d.
    """
    session, about = session_of(context), options.metadata(metadata)
    start, end = options.moment(valid_from, "--valid-from"), options.moment(valid_to, "--valid-to")
    kept_for = options.one_of(scope, MemoryScope, "--scope")
    policy = options.one_of(secrets, SecretsPolicy, "--secrets")
    content = sys.stdin.read().strip() if text == "-" else text

    async def work(core: MemoryCore) -> MemoryItem:
        item = await core.remember(
            content,
            user_id=user,
            key=key,
            subject=subject,
            attribute=attribute,
            thread_id=thread,
            agent_id=agent,
            scope=kept_for,
            metadata=about,
            valid_from=start,
            valid_to=end,
            secrets=policy,
        )
        await session.index(core, seconds=INDEX_TIMEOUT)
        return item

    item = session.run(work)
    session.output.result({"memory": item}, lambda: show_item(session.output, item))


def show_item(output: Output, item: MemoryItem) -> None:
    """A fact as it is after a write, and what was found in it."""
    output.facts(
        [
            ("status", item.status),
            ("text", item.content),
            ("id", str(item.id)),
            ("user", item.user_id),
            ("key", _given_key(item.key)),
            ("thread", item.thread_id),
            ("version", str(item.version)),
            ("recorded", when(item.recorded_at)),
            ("found in it", ", ".join(dict.fromkeys(finding.kind for finding in item.findings)) or None),
        ]
    )


@app.command(
    epilog=examples(
        'memory-plugin recall "what does Alice drink?" --user alice',
        'memory-plugin recall "pricing" --kind message --since 7d --explain',
        'memory-plugin --json recall "refund policy" --kind reference --limit 3',
    ),
)
def recall(
    context: typer.Context,
    query: Annotated[str, typer.Argument(metavar="QUERY", help="A question, or a few words.")],
    user: options.User = None,
    thread: options.Thread = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="memory, message or reference; may be repeated."),
    ] = None,
    limit: options.Limit = 8,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Said or recorded from then on.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Said or recorded before then.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", metavar="TIME", help="What was known and true then.")] = None,
    explain: options.Explain = False,
) -> None:
    """Find facts, messages and passages that answer a question.

    TIME is a date, a time, or how long ago: 2026-03-01, 2026-03-01T09:30, 12h, 7d, 2w.
    """
    session = session_of(context)
    wanted = options.kinds(kind)
    start, end = options.moment(since, "--since"), options.moment(until, "--until")
    then = options.moment(as_of, "--as-of")

    async def work(core: MemoryCore) -> list[Hit]:
        await session.index(core, seconds=CATCH_UP_TIMEOUT)
        hits = await core.recall(
            query, user_id=user, thread_id=thread, kinds=wanted, limit=limit, since=start, until=end, as_of=then
        )
        if core.embedder is not None and hits.words_only is not None:
            session.output.note(f"Found by words alone: {hits.words_only}")
        return hits

    hits = session.run(work)
    session.output.result({"query": query, "hits": hits}, lambda: show_hits(session.output, hits, explain=explain))


def show_hits(output: Output, hits: Sequence[Hit], *, explain: bool) -> None:
    """What was found as a table, the best first, each with what names it."""
    if not hits:
        output.note("Nothing was found.")
        return
    columns = [
        Column("score", fixed=True, right=True),
        Column("date", least=10),
        Column("kind", fixed=True),
        Column("source", least=10),
        Column("text", least=len(f"[{UUID(int=0)}]")),  # an id that is broken cannot be copied
    ]
    rows = [[f"{hit.score:.2f}", when(hit.at), hit.kind, _source(hit), _text(hit, explain=explain)] for hit in hits]
    output.table(columns, rows)


def _source(hit: Hit) -> str:
    """Where it is from, for a person."""
    if hit.citation is not None:
        return str(hit.citation)
    if hit.kind == "message":
        return ", ".join(part for part in (hit.speaker, f"in {hit.thread_id}") if part)
    return ", ".join(part for part in (hit.user_id, _given_key(hit.key)) if part)


def _text(hit: Hit, *, explain: bool) -> str:
    """What it says, the id that `forget` and `references show` take, and what its score is made of."""
    lines = [hit.text]
    if hit.kind != "message":
        lines.append(f"[{hit.id}]")
    if explain:
        lines.append(f"= {explained(hit)}")
    return "\n".join(lines)


def explained(hit: Hit) -> str:
    """What a score is made of."""
    return " ".join(f"{value:+.3f} {part}" for part, value in hit.parts.items())


def _given_key(key: str | None) -> str | None:
    """The key when somebody chose it; one made from the text is a UUID and says nothing."""
    try:
        UUID(key or "")
    except ValueError:
        return key
    return None
