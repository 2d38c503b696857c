"""The command itself: the options before the commands, and every way a command can end."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from memory_plugin.cli import (
    backup,
    carrying,
    conversations,
    doctor,
    evaluate,
    extraction,
    facts,
    forgetting,
    mcp_config,
    migrate,
    programs,
    prune,
    references,
    reindex,
    tokens,
    versions,
)
from memory_plugin.cli.output import Output
from memory_plugin.cli.session import Session, UsageError
from memory_plugin.errors import MemoryPluginError

PROGRAM = "memory-plugin"

_GLOBAL_OPTIONS = frozenset({"--url", "--schema", "--tenant", "--data-dir", "--json", "--quiet", "--version"})

_EPILOG = """\b
Examples:
  memory-plugin demo
  memory-plugin remember "Alice prefers tea" --user alice
  memory-plugin recall "what does Alice drink?" --user alice
  memory-plugin --url postgresql://me@localhost/memory doctor

\b
Environment (the options above win over it):
  MEMORY_DATABASE_URL  the database; without it an embedded PostgreSQL is used
  MEMORY_DATA_DIR      where the embedded PostgreSQL keeps its data
  MEMORY_SCHEMA        the PostgreSQL schema of the tables
  MEMORY_TENANT        whose rows are seen
  MEMORY_USER_ID       the user when a command names none
  MEMORY_EMBEDDINGS    onnx, multilingual, provider:model, or none to search by words alone
  MEMORY_DOCUMENT_EMBEDDINGS
                       the same for the second vector of documents, which is by onnx where neither is set
  NO_COLOR             print without colours

Exit codes: 0 it is done, 1 it failed, 2 it was not understood, 130 it was interrupted.
"""


class Commands(TyperGroup):
    """All commands; turns each way in which one can end into an exit code and a line that says why."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: ARG002 - a part of the interface; here it is the only mode
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command that the arguments name.

        Raises:
            SystemExit: always, with the exit code.
        """
        output = Output(as_json="--json" in (sys.argv[1:] if args is None else args))
        try:
            code = super().main(
                args,
                prog_name or PROGRAM,
                complete_var,
                standalone_mode=False,  # or it would end the process itself, and say why in its own words
                windows_expand_args=windows_expand_args,
                **extra,
            )
        except MemoryPluginError as error:
            output.failure(type(error).__name__, str(error))
            code = 1
        except UsageError as error:
            code = _report_usage(error, output)
        sys.exit(code if isinstance(code, int) else 0)


def _report_usage(error: Any, output: Output) -> int:
    """Say how the command line was not understood; the exit code."""
    error.show()
    kind, option = type(error).__name__, getattr(error, "option_name", None)
    if kind == "NoSuchOption" and option in _GLOBAL_OPTIONS:
        sys.stderr.write(f"{option} goes before the command: {PROGRAM} {option} ...\n")
    output.failure("UsageError", error.format_message().strip() or "No command was named.", said=True)
    return int(error.exit_code)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,  # plain help: the same in a terminal, a pipe and a narrow window
    pretty_exceptions_enable=False,  # it prints local variables, passwords among them
    epilog=_EPILOG,
)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="postgresql:// URL of the database.  [env: MEMORY_DATABASE_URL]"),
    ] = None,
    schema: Annotated[
        str | None, typer.Option("--schema", metavar="NAME", help="Schema of the tables.  [env: MEMORY_SCHEMA]")
    ] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Whose rows are seen.  [env: MEMORY_TENANT]")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="PATH", help="Use the embedded database in this directory.  [env: MEMORY_DATA_DIR]"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, and an error as one too.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """The memory of AI agents in one PostgreSQL: store, search, inspect and maintain it.

    Without a database URL an embedded PostgreSQL is started, kept in your data directory. Options of
    this list go before the command, those of a command after it.
    """
    if version:
        _print_version(Output(as_json=as_json))
        raise typer.Exit
    if context.invoked_subcommand is None:
        context.fail("Missing command.")
    if url is not None and data_dir is not None:
        context.fail("--url and --data-dir name two databases: give one of them.")
    context.obj = Session(
        url=url, schema=schema, tenant=tenant, data_dir=data_dir, output=Output(as_json=as_json, quiet=quiet)
    )


def _print_version(output: Output) -> None:
    from mcp_server.settings import version

    output.result({"version": version()}, lambda: output.raw(f"{PROGRAM} {version()}"))


app.add_typer(programs.app)
app.add_typer(doctor.app)
app.add_typer(evaluate.app)
app.add_typer(migrate.app, name="migrate")
app.add_typer(facts.app)
app.add_typer(versions.app)
app.add_typer(forgetting.app)
app.add_typer(extraction.app)
app.add_typer(extraction.proposals, name="proposals")
app.add_typer(prune.app)
app.add_typer(reindex.app)
app.add_typer(backup.app)
app.add_typer(conversations.app, name="conversations")
app.add_typer(references.app, name="references")
app.add_typer(mcp_config.app, name="mcp")
app.add_typer(tokens.app, name="tokens")
app.add_typer(carrying.imports, name="import")
app.add_typer(carrying.exports, name="export")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line.

    Args:
        arguments: instead of those of the process.

    Raises:
        SystemExit: always; 0 it is done, 1 it failed, 2 it was not understood, 130 it was interrupted.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # text that the terminal's encoding lacks is escaped rather than fatal
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=arguments)
    except KeyboardInterrupt:
        sys.exit(130)
