"""`demo` and `serve`: programs of their own that are started here."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.session import session_of

app = typer.Typer(rich_markup_mode=None)


@app.command(epilog=examples("memory-plugin demo", "memory-plugin --url postgresql://me@localhost/scratch demo --keep"))
def demo(
    context: typer.Context,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Keep the database to look inside: the embedded one stays up until Ctrl-C, "
            "on a server of yours the rows stay.",
        ),
    ] = False,
) -> None:
    """Watch an agent remember, on a database of its own.

    Another database is used only when --url or --data-dir names it; the environment's is left alone.
    """
    session = session_of(context)
    from memory_plugin.demo import run

    output = session.output
    console = output.aside if output.as_json else output.console
    code = run(data_dir=session.data_dir, url=session.url, keep=keep, console=console)
    if output.as_json:
        output.result({"exit_code": code}, lambda: None)
    raise typer.Exit(code)


@app.command(
    epilog=examples(
        "memory-plugin serve",
        "memory-plugin serve --user alice --read-only",
        "memory-plugin serve --http --port 8000",
        "memory-plugin serve --check",
    )
)
def serve(
    context: typer.Context,
    user: Annotated[
        str | None, typer.Option("--user", metavar="ID", help="Whose memory it is.  [env: MEMORY_USER_ID]")
    ] = None,
    http: Annotated[bool, typer.Option("--http", help="Serve HTTP instead of standard input and output.")] = False,
    host: Annotated[str | None, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option("--port", metavar="N", help="Port to listen on.")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="Offer no tool that changes anything.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether everything works, and exit.")] = False,
    log_level: Annotated[
        str | None, typer.Option("--log-level", metavar="LEVEL", help="DEBUG, INFO, WARNING or ERROR.")
    ] = None,
) -> None:
    """Serve the memory to AI assistants over MCP.

    It is the same as the command memory-mcp, whose --help shows how clients are set up.
    """
    session = session_of(context)
    if session.output.as_json:
        context.fail("serve speaks its protocol on standard output: leave --json out.")
    named = {
        "--url": session.url,
        "--tenant": session.tenant,
        "--user": user,
        "--host": host,
        "--port": port,
        "--log-level": log_level,
    }
    flags = {"--http": http, "--read-only": read_only, "--check": check}
    arguments = [f"{option}={value}" for option, value in named.items() if value is not None]
    arguments += [option for option, is_set in flags.items() if is_set]
    # what the server has no option for it reads from the environment
    if session.schema is not None:
        os.environ["MEMORY_SCHEMA"] = session.schema
    if session.data_dir is not None:
        os.environ["MEMORY_DATA_DIR"] = str(session.data_dir)
        os.environ.pop("MEMORY_DATABASE_URL", None)
    from mcp_server.__main__ import main

    raise typer.Exit(main(arguments))
