"""`backup` and `restore`: the whole store in one file, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Output, counted
from memory_plugin.cli.session import Session, session_of

if TYPE_CHECKING:
    from memory_plugin.backup import Manifest
    from memory_plugin.db.database import Database

app = typer.Typer(rich_markup_mode=None)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The file of the backup.")]


@app.command(
    epilog=examples(
        "memory-plugin backup memory.backup",
        "memory-plugin --url postgresql://me@localhost/memory backup memory.backup --force",
    )
)
def backup(
    context: typer.Context,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write the whole store, every tenant of it, to a file.

    It is what the store held at one moment; programs may go on using it. The file is read back, and has its
    name only when every row that was counted is in it. Only you may read it: it holds what everybody said.
    """
    session = session_of(context)

    async def work(database: Database, tell: Callable[[str], None]) -> Manifest:
        from memory_plugin.backup import write_backup

        return await write_backup(database, file, force=force, tell=tell)

    _report(session, file, _with_database(session, "Writing", work), "written to")


@app.command(
    epilog=examples(
        "memory-plugin --data-dir new restore memory.backup",
        "memory-plugin restore memory.backup --check",
    )
)
def restore(
    context: typer.Context,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Put it in the place of the store that is there.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Only read the file, and say whether it is whole.")] = False,
) -> None:
    """Put a backup back, all of it or nothing.

    Into an empty database, or with --force in the place of what is there. It is run as SQL with your rights:
    restore only what you wrote.
    """
    session = session_of(context)
    if check:
        from memory_plugin.backup import check_backup

        with _telling(session.output, "Reading") as tell:
            manifest = asyncio.run(check_backup(file, tell=tell))
        _report(session, file, manifest, "whole in")
        return

    async def work(database: Database, tell: Callable[[str], None]) -> Manifest:
        from memory_plugin.backup import restore_backup

        return await restore_backup(database, file, force=force, tell=tell)

    manifest = _with_database(session, "Restoring", work)
    _report(session, file, manifest, "restored from")
    from memory_plugin.db import SCHEMA_REVISION

    if manifest.revision != SCHEMA_REVISION:
        session.output.note(
            f"The store is at revision {manifest.revision}, this version needs {SCHEMA_REVISION}: run "
            "`memory-plugin migrate up` once."
        )


def _report(session: Session, file: Path, manifest: Manifest, what: str) -> None:
    document = {
        "file": file,
        "schema": manifest.schema,
        "revision": manifest.revision,
        "made_at": manifest.made_at,
        "rows": manifest.rows,
        "tables": manifest.tables,
    }

    def show() -> None:
        session.output.counts(manifest.tables)
        session.output.line(
            f"{counted(manifest.rows, 'row')} in {counted(len(manifest.tables), 'table')}, revision "
            f"{manifest.revision}, {what} {file}."
        )

    session.output.result(document, show)


def _with_database(
    session: Session, doing: str, work: Callable[[Database, Callable[[str], None]], Awaitable[Manifest]]
) -> Manifest:
    async def opened() -> Manifest:
        from memory_plugin.db.connect import open_database

        settings = session.settings()
        with _telling(session.output, doing) as tell:
            async with open_database(settings=settings) as database:
                return await work(database, tell)

    return asyncio.run(opened())


def _silent(words: str) -> None:
    """Tell nobody."""


@contextmanager
def _telling(output: Output, doing: str) -> Iterator[Callable[[str], None]]:
    """A way to tell a person who watches what is being done."""
    if not output.shows_progress:
        yield _silent
        return
    with output.aside.status(f"{doing} ...") as status:
        yield lambda words: status.update(f"{doing} ... {words}")
