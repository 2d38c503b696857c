"""`mcp config`: the entry that a client needs to use the memory, printed or put into its file."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from memory_plugin.cli.client_files import Change, merge
from memory_plugin.cli.mcp_clients import (
    BEARER,
    DATABASE_URL,
    RESTART,
    USUAL,
    Client,
    Place,
    Wanted,
    file_of,
    holds_secret,
    shell_command,
    snippet,
    without_secrets,
)
from memory_plugin.cli.options import examples, one_of
from memory_plugin.cli.output import Output, visible
from memory_plugin.cli.session import Session, UsageError, session_of
from memory_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from memory_plugin.settings import Settings

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Set MCP clients up to use this memory.",
    epilog=examples("memory-plugin mcp config claude-desktop --user alice --write"),
)

_SERVER = "memory-mcp"
_PACKAGE = "memory-plugin[embedded]"

_CARRIED = ("database_url", "data_dir", "db_schema", "tenant", "user_id", "embeddings", "prepared_statements")
"""Settings that decide which memory it is; a client started from a desktop does not see the shell's variables."""


@app.callback()
def _group() -> None:
    """Make `config` a command of its own, though it is the only one."""


@app.command(
    epilog=examples(
        "memory-plugin mcp config claude-desktop --user alice",
        "memory-plugin mcp config claude-desktop --user alice --write",
        "memory-plugin mcp config cursor --user alice --read-only --write",
        "memory-plugin mcp config vscode --database-url postgresql://me@db.example.org/agents --write",
        "memory-plugin mcp config claude-code --http https://memory.example.com/mcp --bearer",
        "memory-plugin mcp config claude-code --uvx --user alice > .mcp.json",
    )
)
def config(
    context: typer.Context,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="claude-desktop, claude-code, cursor or vscode.")],
    write: Annotated[bool, typer.Option("--write", help="Put it into the client's file.")] = False,
    force: Annotated[bool, typer.Option("--force", help="With --write: replace another entry of this name.")] = False,
    scope: Annotated[
        str | None,
        typer.Option(
            "--scope",
            metavar="SCOPE",
            help="user: for everything you do; project: for this directory, in a file to share. "
            "Usual: user for Claude Desktop and Cursor, project for Claude Code and VS Code.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PATH", help="Another file than the client's usual one.")
    ] = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="What the client calls the server.")] = "memory",
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Whose memory it is.  [env: MEMORY_USER_ID]")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="The tenant.  [env: MEMORY_TENANT]")
    ] = None,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", metavar="URL", help="postgresql:// URL.  [env: MEMORY_DATABASE_URL]"),
    ] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no tool that changes anything.")] = False,
    add_references: Annotated[
        bool, typer.Option("--add-references", help="Let the assistant store documents too.")
    ] = False,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="URL", help="Use a server that runs already: https://memory.example.com/mcp."),
    ] = None,
    bearer: Annotated[
        bool, typer.Option("--bearer", help="That server asks for a token.  [env: MEMORY_MCP_BEARER]")
    ] = False,
    uvx: Annotated[
        bool, typer.Option("--uvx", help="Start it by uvx, which fetches the package: nothing has to be installed.")
    ] = False,
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Print passwords and tokens instead of ***.")
    ] = False,
) -> None:
    """Print the entry that a client needs, or write it.

    Which memory it is comes from the options here, those before the command, and the environment, as with
    every command: the entry carries it, because clients do not see your shell's variables. With --write the
    client's file is changed at once or not at all, all else in it stays, and what it said before is kept
    beside it as .bak. A file with comments is left alone: then paste the snippet.

    A password never gets into a file that is shared: VS Code asks for it once, Claude Code and Cursor read
    it from the variable MEMORY_DATABASE_URL. The token of --bearer likewise, from MEMORY_MCP_BEARER.
    """
    session = session_of(context)
    chosen: Client = one_of(client, Client, "CLIENT")
    place: Place = one_of(scope, Place, "--scope") or USUAL[chosen]
    if not name.strip():
        raise UsageError("--name needs a name.")
    if http is not None and (read_only or add_references or uvx):
        raise UsageError("A server over HTTP has its options where it was started: leave them out beside --http.")
    wanted = Wanted(
        command=_command(place, uvx=uvx),
        arguments=(*(["--read-only"] if read_only else []), *(["--add-references"] if add_references else [])),
        environment={} if http is not None else _environment(session, user, tenant, database_url),
        http=None if http is None else _url(http),
        bearer=bearer,
        token=os.environ.get(BEARER) or None,
    )
    if bearer and http is None:
        raise UsageError("--bearer belongs to --http URL: a server that the client starts asks for no token.")
    _answer(session.output, chosen, place, name, wanted, file, write, force, show_secrets)


def _answer(
    output: Output,
    client: Client,
    place: Place,
    name: str,
    wanted: Wanted,
    file: Path | None,
    write: bool,
    force: bool,
    show_secrets: bool,
) -> None:
    """Print, or write and say what was done; a file that cannot be written has the snippet printed all the same."""
    whole = snippet(client, place, name, wanted)
    shown = whole if show_secrets else without_secrets(whole)
    if not write:
        usual = str(file) if file is not None else _usual_file(client, place)
        document: dict[str, Any] = {"client": client, "file": usual, "snippet": shown, "written": False}
        output.result(
            document, lambda: _show(output, client, place, name, wanted, shown, usual, show_secrets=show_secrets)
        )
        return
    if client == "claude-desktop" and wanted.bearer and wanted.token is None:
        raise ConfigurationError(f"Claude Desktop cannot ask for the token: set {BEARER} for this command.")
    try:
        path = file or Path(_file(client, place))
        change = merge(path, whole, force=force, private=place == "user")
    except ConfigurationError:
        if not output.as_json:
            _show(output, client, place, name, wanted, shown, None, show_secrets=show_secrets)
        raise
    document = {
        "client": client,
        "file": change.path,
        "snippet": shown,
        "written": change.action != "unchanged",
        "action": change.action,
        "backup": change.backup,
    }
    output.result(document, lambda: _tell(output, client, place, wanted, change))


def _show(
    output: Output,
    client: Client,
    place: Place,
    name: str,
    wanted: Wanted,
    shown: dict[str, Any],
    where: str | None,
    *,
    show_secrets: bool,
) -> None:
    output.raw(json.dumps(shown, indent=2, ensure_ascii=False))
    if where is not None:
        output.note(f"For {where}; --write puts it there.")
    if client == "claude-code":
        output.note("Or, for all your projects:")
        if not output.quiet:
            output.aside.print(visible(shell_command(name, wanted)), soft_wrap=True)  # to be copied whole
    if holds_secret(client, place, wanted) and not show_secrets:
        output.note("What is secret is hidden: --show-secrets prints it, --write writes it into your own file.")
    _say_variables(output, client, place, wanted)


def _tell(output: Output, client: Client, place: Place, wanted: Wanted, change: Change) -> None:
    if change.action == "unchanged":
        output.raw(f"{change.path} has this server already: nothing was changed.")
    else:
        output.raw(f"{change.action.capitalize()} {change.path}.")
    if change.backup is not None:
        output.note(f"What it said before is in {change.backup}.")
    _say_variables(output, client, place, wanted)
    output.note(RESTART[client])


def _say_variables(output: Output, client: Client, place: Place, wanted: Wanted) -> None:
    """Name the variables that the client reads secrets from."""
    if client in {"claude-desktop", "vscode"}:
        return
    if wanted.http is not None and wanted.bearer:
        output.note(f"Set {BEARER} to the token where the client is started.")
    elif wanted.http is None and wanted.secret_url and not holds_secret(client, place, wanted):
        output.note(f"Set {DATABASE_URL} where the client is started: it is no part of what is shared.")


def _file(client: Client, place: Place) -> str:
    return str(
        file_of(client, place, platform=sys.platform, home=Path.home(), environment=os.environ, project=Path.cwd())
    )


def _usual_file(client: Client, place: Place) -> str | None:
    try:
        return _file(client, place)
    except ConfigurationError:
        if client == "claude-desktop":
            raise
        return None


def _command(place: Place, *, uvx: bool) -> tuple[str, ...]:
    """What starts the server: by its full path in a file of one's own, as a desktop's PATH is a short one."""
    if uvx:
        program = (shutil.which("uvx") if place == "user" else None) or "uvx"
        return (program, "--from", _PACKAGE, _SERVER)
    if place == "project":
        return (_SERVER,)
    beside = shutil.which(_SERVER, path=str(Path(sys.executable).parent))
    found = beside or shutil.which(_SERVER)
    return (found,) if found else (sys.executable, "-m", "mcp_server")


def _environment(session: Session, user: str | None, tenant: str | None, database_url: str | None) -> dict[str, str]:
    """The variables that say which memory it is."""
    from memory_plugin.db.urls import normalise_url

    settings = session.settings()
    values: dict[str, str] = {}
    for field in _CARRIED:
        if field in settings.model_fields_set and (value := getattr(settings, field)) is not None:
            values[_variable(settings, field)] = _text(value)
    given = {DATABASE_URL: database_url, "MEMORY_TENANT": tenant, "MEMORY_USER_ID": user}
    values |= {variable: value for variable, value in given.items() if value is not None}
    if DATABASE_URL in values:
        values.pop("MEMORY_DATA_DIR", None)  # of the embedded database, which is not asked
        normalise_url(values[DATABASE_URL])  # rather now than when the client starts it
    return values


def _variable(settings: Settings, field: str) -> str:
    alias = type(settings).model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"MEMORY_{field.upper()}"


def _text(value: Any) -> str:
    from pydantic import SecretStr

    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.expanduser().absolute()) if isinstance(value, Path) else str(value)


def _url(text: str) -> str:
    """The URL of the endpoint; a bare server gets the usual path."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.netloc or parts.username or parts.password:
        raise UsageError(f"--http must be like https://memory.example.com/mcp, without a password: not {text!r:.80}.")
    return text.rstrip("/") + "/mcp" if parts.path.strip("/") == "" and not parts.query else text
