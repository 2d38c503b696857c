"""`migrate`: the schema's revisions, up, down and on paper."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from memory_plugin.cli import options
from memory_plugin.cli.options import examples
from memory_plugin.cli.output import Column
from memory_plugin.cli.session import Session, session_of
from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.errors import SchemaVersionError

if TYPE_CHECKING:
    from memory_plugin.db.database import Database

T = TypeVar("T")

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Bring the database's schema up, down, or onto paper.",
    epilog=examples("memory-plugin migrate up", "memory-plugin migrate current"),
)

_RELATIVE = {"ignore_unknown_options": True}  # so that -1 is a revision


@app.command(epilog=examples("memory-plugin migrate up", "memory-plugin --schema agents migrate up"))
def up(
    context: typer.Context,
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Up to this one; the newest by default.")
    ] = "head",
) -> None:
    """Bring the schema up to this version; all of it or nothing.

    An empty database gets the whole schema. Any number of processes may do this at once.
    """
    _migrate(session_of(context), revision, is_up=True)


@app.command(
    context_settings=_RELATIVE,
    epilog=examples("memory-plugin migrate down 0001", "memory-plugin migrate down base --yes"),
)
def down(
    context: typer.Context,
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Down to this one; -1 for the one before, base for none.")
    ],
    yes: options.Yes = False,
) -> None:
    """Take the schema down to an earlier revision.

    What has no place there is lost, so you are asked first. "base" drops every table of the store, and
    nothing else that is in the schema.
    """
    session = session_of(context)
    schema = session.settings().db_schema
    session.confirm(f"Take the schema {schema!r} down to {revision}? What has no place there is lost.", yes=yes)
    _migrate(session, revision, is_up=False)


def _migrate(session: Session, revision: str, *, is_up: bool) -> None:
    async def work(database: Database) -> tuple[str | None, str | None]:
        from memory_plugin.db.migrate import downgrade, read_revision, upgrade

        before = await read_revision(database)
        await (upgrade if is_up else downgrade)(database, revision)
        return before, await read_revision(database)

    schema = session.settings().db_schema
    before, after = _with_database(session, work)
    session.output.result(
        {"schema": schema, "from": before, "to": after},
        lambda: session.output.line(
            f"{schema}: {before or 'base'} -> {after or 'base'}"
            if before != after
            else f"{schema}: at {after or 'base'}, nothing to do"
        ),
    )


@app.command(epilog=examples("memory-plugin migrate current"))
def current(context: typer.Context) -> None:
    """Show the revisions of the database and of this version."""
    session = session_of(context)

    async def work(database: Database) -> tuple[str | None, str | None]:
        from memory_plugin.db.migrate import ensure_schema, read_revision

        revision = await read_revision(database)
        if revision is None:
            return None, "there is no store yet: it is made when it is first opened, or by `memory-plugin migrate up`."
        try:
            await ensure_schema(database)  # changes nothing where there is a revision
        except SchemaVersionError as error:
            return revision, str(error)
        return revision, None

    revision, problem = _with_database(session, work)
    schema = session.settings().db_schema
    session.output.result(
        {"schema": schema, "revision": revision, "needed": SCHEMA_REVISION, "is_current": revision == SCHEMA_REVISION},
        lambda: session.output.facts(
            [("schema", schema), ("revision", revision or "base"), ("needed", SCHEMA_REVISION)]
        ),
    )
    if problem is not None:
        session.output.note(problem)


@app.command(epilog=examples("memory-plugin migrate secure"))
def secure(context: typer.Context) -> None:
    """Make the role that row security holds for.

    A migration does so where it may, and gives the tables their policies in any case. Run this as the owner of the
    tables, with the right to make roles or after an administrator has made memory_app and granted it to this login.
    """
    session = session_of(context)

    async def work(database: Database) -> bool:
        from memory_plugin.db.migrate import secure

        return await secure(database)

    from memory_plugin.db.tenancy import APP_ROLE

    changed = _with_database(session, work)
    session.output.result(
        {"role": APP_ROLE, "changed": changed},
        lambda: session.output.line(
            f"{APP_ROLE}: made, and granted what a store needs" if changed else f"{APP_ROLE}: there already"
        ),
    )


@app.command(
    epilog=examples(
        "memory-plugin migrate sql > schema.sql",
        "memory-plugin migrate sql 0001:head",
        "memory-plugin migrate sql --citus > citus.sql",
    )
)
def sql(
    context: typer.Context,
    revision: Annotated[
        str, typer.Argument(metavar="REVISION", help="Up to this one from an empty schema, or FROM:TO.")
    ] = "head",
    citus: Annotated[
        bool, typer.Option("--citus", help="Print those that spread the newest schema over a Citus cluster.")
    ] = False,
) -> None:
    """Print the statements of `migrate up`; needs no database.

    With --citus, print what distributes the tables of a store by tenant, to be run after `migrate up`.
    """
    from alembic.util.exc import CommandError

    from memory_plugin.db.citus import citus_sql
    from memory_plugin.db.migrate import upgrade_sql

    session = session_of(context)
    schema = session.settings().db_schema
    if citus:
        statements = citus_sql(schema=schema)
        session.output.result(
            {"schema": schema, "revision": SCHEMA_REVISION, "sql": statements}, lambda: session.output.raw(statements)
        )
        return
    try:
        statements = upgrade_sql(revision, schema=schema)
    except CommandError as error:
        raise SchemaVersionError(f"There are no statements for {revision!r}: {error}.") from error
    session.output.result(
        {"schema": schema, "revision": revision, "sql": statements}, lambda: session.output.raw(statements)
    )


@app.command(epilog=examples("memory-plugin migrate history"))
def history(context: typer.Context) -> None:
    """List the revisions this version knows; needs no database."""
    from alembic.script import ScriptDirectory

    from memory_plugin.db.migrate import alembic_config

    session = session_of(context)
    script = ScriptDirectory.from_config(alembic_config())
    revisions = [
        {"revision": each.revision, "after": each.down_revision, "does": each.doc} for each in script.walk_revisions()
    ]
    session.output.result(
        {"revisions": revisions},
        lambda: session.output.table(
            [Column("revision", fixed=True), Column("after", fixed=True), Column("does")],
            [[str(value or "base") for value in each.values()] for each in revisions],
        ),
    )


def _with_database(session: Session, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do the work on a database whose schema is neither made nor checked first."""

    async def opened() -> T:
        from memory_plugin.db.connect import open_database

        async with open_database(settings=session.settings()) as database:
            return await work(database)

    return asyncio.run(opened())
