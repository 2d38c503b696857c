"""`tokens`: who may use the memory over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, cast

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, visible, when
from memory_plugin.cli.prune import span
from memory_plugin.cli.session import session_of

if TYPE_CHECKING:
    from memory_plugin.capabilities.tokens import Scope, Token
    from memory_plugin.core import MemoryCore

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Make, list and revoke tokens for access over HTTP.",
    epilog=examples("memory-plugin tokens create --user alice", "memory-plugin tokens list"),
)

_NEVER = "never"


@app.command(
    epilog=examples(
        "memory-plugin tokens create --user alice --name laptop",
        "memory-plugin tokens create --user alice --scope read --expires 30d",
        "memory-plugin --tenant acme tokens create --scope service --scope write --name chat-backend --expires never",
    )
)
def create(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Whose memory it opens; a service can do without.")
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            "--scope", metavar="SCOPE", help="read, write or service; may be repeated. Without it: read and write."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", metavar="TEXT", help="What it is for.")] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="How long it works: 12h, 90d, P30D, or never.")
    ] = "90d",
) -> None:
    """Make a token and print it, once: it cannot be shown again.

    With read it may look, with write also change the user's memory, with service act for every user of the
    tenant. Send it as "Authorization: Bearer TOKEN" to a server that was started with --tokens.
    """
    session = session_of(context)
    lasts: timedelta | None = None if expires.strip().lower() == _NEVER else span(expires, "--expires")
    scopes = cast("tuple[Scope, ...]", tuple(scope or ("read", "write")))

    async def work(core: MemoryCore) -> Token:
        return await core.tokens.create(user_id=user, scopes=scopes, name=name, expires_in=lasts)

    made = session.run(work)
    session.output.result({"token": made}, lambda: _show_made(session.output, made))


def _show_made(output: Output, made: Token) -> None:
    output.note(
        f"Token {made.id} of {made.user_id or 'a service'} in tenant {made.tenant}, "
        f"for {', '.join(made.scopes)}, until {when(made.expires_at) or 'it is revoked'}. It is shown only now:"
    )
    output.raw(made.secret or "")


@app.command("list", epilog=examples("memory-plugin tokens list", "memory-plugin --json tokens list --user alice"))
def list_(
    context: typer.Context,
    user: Annotated[str | None, typer.Option("--user", metavar="ID", help="Of this user only.")] = None,
) -> None:
    """List the tenant's tokens, also those revoked or over."""
    session = session_of(context)

    async def work(core: MemoryCore) -> list[Token]:
        return await core.tokens.list(user_id=user)

    found = session.run(work)
    session.output.result({"tokens": found}, lambda: _show(session.output, found))


def _show(output: Output, found: list[Token]) -> None:
    if not found:
        output.note("There are no tokens.")
        return
    columns = [
        Column("id", fixed=True),
        Column("user", least=6),
        Column("name", least=8),
        Column("scopes", least=8),
        Column("works until", least=10),
        Column("last used", least=10),
    ]
    rows = [
        (str(each.id), each.user_id or "", each.name or "", " ".join(each.scopes), _until(each), when(each.used_hour))
        for each in found
    ]
    output.table(columns, rows)


def _until(token: Token) -> str:
    if token.revoked_at is not None:
        return f"revoked {when(token.revoked_at)}"
    if token.expires_at is None:
        return "for ever"
    return when(token.expires_at) + (" (over)" if token.expires_at <= datetime.now(UTC) else "")


@app.command(epilog=examples("memory-plugin tokens revoke 01997c1e-52a4-7f6b-9d52-6f1d9f2b8a11"))
def revoke(
    context: typer.Context,
    token_id: Annotated[str, typer.Argument(metavar="ID", help="The id from the list.")],
) -> None:
    """Make a token useless from this moment on; it stays in the list."""
    session = session_of(context)

    async def work(core: MemoryCore) -> Token:
        return await core.tokens.revoke(token_id)

    gone = session.run(work)
    session.output.result(
        {"token": gone}, lambda: session.output.line(visible(f"Revoked: {gone.id} ({gone.name or gone.user_id or ''})"))
    )
