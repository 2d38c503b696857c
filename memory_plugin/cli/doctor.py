"""`doctor`: what the checks found, for a person or a program."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column, Output, counted, visible
from memory_plugin.cli.session import session_of
from memory_plugin.errors import ConfigurationError

if TYPE_CHECKING:
    from memory_plugin.doctor import Diagnosis

app = typer.Typer(rich_markup_mode=None)

_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red"}


@app.command(
    epilog=examples(
        "memory-plugin doctor",
        "memory-plugin --url postgresql://me@localhost/memory doctor",
        "memory-plugin --json doctor",
    )
)
def doctor(context: typer.Context) -> None:
    """Check that everything works, and say what to do.

    Looked at are the configuration, the versions, the database and its extension, the schema, the indexes,
    what waits for the index, the vectors of each model, bloat, retention, the role and its rights, and the
    embedder. Each line is ok, a warning or an error, with what to do about it, often a statement to copy; the
    exit code is 1 when there is an error. Nothing is changed, except that the embedded database is started,
    and made the first time.
    """
    from memory_plugin.doctor import diagnose, misconfigured

    session = session_of(context)
    try:
        settings = session.settings()
    except ConfigurationError as error:
        found = misconfigured(error)
    else:
        found = asyncio.run(diagnose(settings, given=session.given()))
    document = {
        "is_healthy": found.is_healthy,
        "settings": found.settings,
        "checks": found.checks,
        "rows": found.rows,
    }
    session.output.result(document, lambda: _show(session.output, found))
    if not found.is_healthy:
        raise typer.Exit(1)


def _show(output: Output, found: Diagnosis) -> None:
    if found.settings:
        output.table(
            [Column("setting", fixed=True), Column("value"), Column("from")],
            [(each.name, each.value, each.source) for each in found.settings],
        )
        output.line()
    _show_checks(output, found)
    if any(found.rows.values()):
        output.line()
        output.counts(found.rows)
    output.line()
    numbers = [(sum(check.status == status for check in found.checks), status) for status in ("error", "warning")]
    summary = ", ".join(counted(number, status) for number, status in numbers if number)
    output.line(summary or "Everything works.")


def _show_checks(output: Output, found: Diagnosis) -> None:
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for check in found.checks:
        grid.add_row(Text(check.status, _STYLES[check.status]), check.name, visible(check.detail))
        if check.advice:
            grid.add_row("", "", visible(f"-> {check.advice}"))
    output.console.print(grid)
