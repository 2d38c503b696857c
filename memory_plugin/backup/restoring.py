"""Putting a backup back: all of it or nothing, and never over rows that somebody still has there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.backup.manifest import Manifest, opened_dump, read_manifest
from memory_plugin.backup.programs import Tell, connection_of, program_for, run
from memory_plugin.backup.writing import as_themselves, check_backup, count_rows, feed_dump, quoted, silent
from memory_plugin.errors import (
    ConfigurationError,
    ConflictError,
    DatabaseError,
    SchemaVersionError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from memory_plugin.db.database import Connection, Database

__all__ = ["restore_backup"]

_SERVER = "SELECT current_setting('server_version_num')::int / 10000"
_EXTENSION = """
SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""
_HELD = (
    "SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p', 'v', 'm', 'f')"
)


async def restore_backup(database: Database, path: Path, *, force: bool = False, tell: Tell = silent) -> Manifest:
    """Make the schema again as the backup has it, with every row.

    The backup is run as SQL with the rights of this role: restore only files that you wrote. No program should
    use the store meanwhile.

    Args:
        force: where the schema holds something, put the backup in its place; what was there is gone when
            everything is back and counted, and stays where that fails.

    Raises:
        NotFoundError, InvalidInputError: the file is missing, or no backup, or damaged.
        ConflictError: the schema holds something, and `force` was not given.
        SchemaVersionError: the backup is of a revision that this version does not know.
        ConfigurationError: it is of another schema.
        UnsupportedError: the server is older than the one it was taken from, or no pg_restore can read it.
        DatabaseError: the database refused; nothing has changed.
    """
    _check_fits(read_manifest(path), database)
    manifest = await check_backup(path, tell=tell)
    program, _ = program_for("pg_restore", manifest.program)
    async with as_themselves(database) as connection:
        await _check_server(connection, manifest)
        held = await connection.fetchval(_HELD, quoted(database.schema))
        if held and not force:
            raise ConflictError(
                f"The schema {database.schema!r} holds a store already: restore into an empty database, or say "
                "--force to put the backup in its place."
            )
        await _prepare(connection, manifest)
        aside = await _put_aside(connection, database.schema)
        is_made = False
        try:
            url, variables = connection_of(database.url)
            with opened_dump(path) as dump:
                await run(
                    program, "--single-transaction", "--exit-on-error", "--no-owner", "--verbose", "--no-password",
                    f"--dbname={url}", variables=variables, feed=lambda pipe: feed_dump(dump, pipe), tell=tell,
                    doing="The restore",
                )  # fmt: skip
            is_made = True
            tell("counting rows")
            await _check_counts(connection, manifest)
        except BaseException:
            await _put_back(connection, database.schema, aside, drop=is_made)
            raise
        if aside is not None:
            await connection.execute(f"DROP SCHEMA {quoted(aside)} CASCADE")
        tell("gathering statistics")
        for table in manifest.tables:
            await connection.execute(f"ANALYZE {quoted(database.schema)}.{quoted(table)}")
    return manifest


def _check_fits(manifest: Manifest, database: Database) -> None:
    from alembic.script import ScriptDirectory

    from memory_plugin.db.migrate import alembic_config

    if manifest.schema != database.schema:
        raise ConfigurationError(
            f"This is a backup of the schema {manifest.schema!r}, and {database.schema!r} is asked for: run "
            f"`memory-plugin --schema {manifest.schema} restore ...`."
        )
    known = {each.revision for each in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if manifest.revision not in known:
        raise SchemaVersionError(
            f"This backup has the schema's revision {manifest.revision}, which this version does not know: restore "
            f"it with memory-plugin {manifest.library} or newer."
        )


async def _check_server(connection: Connection, manifest: Manifest) -> None:
    server = await connection.fetchval(_SERVER)
    if server < manifest.server:
        raise UnsupportedError(
            f"This backup was taken from PostgreSQL {manifest.server}, and this server is PostgreSQL {server}: "
            "restore it into the same version or a newer one."
        )


async def _prepare(connection: Connection, manifest: Manifest) -> None:
    """The extension and the roles that the backup takes for granted."""
    place = await connection.fetchval(_EXTENSION)
    if place is None:
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(manifest.pgvector_schema)}")
        await connection.execute(f"CREATE EXTENSION vector SCHEMA {quoted(manifest.pgvector_schema)}")
    elif place != manifest.pgvector_schema:
        raise UnsupportedError(
            f"The backup has pgvector in the schema {manifest.pgvector_schema!r}, and this database in {place!r}: run "
            f"ALTER EXTENSION vector SET SCHEMA {manifest.pgvector_schema}, then try again."
        )
    for role in manifest.roles:
        if not await connection.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role):
            await connection.execute(f"CREATE ROLE {quoted(role)} NOLOGIN")


async def _put_aside(connection: Connection, schema: str) -> str | None:
    """Give the schema that is there another name; None where there is none."""
    aside = f"{schema[:47]}_before_restore"
    if not await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(schema)):
        return None
    if await connection.fetchval("SELECT to_regnamespace($1) IS NOT NULL", quoted(aside)):
        raise ConflictError(
            f"A restore was broken off and left the schema {aside!r}: drop it, or rename it to {schema!r} again."
        )
    await connection.execute(f"ALTER SCHEMA {quoted(schema)} RENAME TO {quoted(aside)}")
    return aside


async def _put_back(connection: Connection, schema: str, aside: str | None, *, drop: bool) -> None:
    """As it was before; without `drop` nothing of this restore is there, as it was one transaction."""
    if drop:
        await connection.execute(f"DROP SCHEMA {quoted(schema)} CASCADE")
    if aside is not None:
        await connection.execute(f"ALTER SCHEMA {quoted(aside)} RENAME TO {quoted(schema)}")


async def _check_counts(connection: Connection, manifest: Manifest) -> None:
    found = await count_rows(connection, manifest.schema)
    for table, rows in manifest.tables.items():
        if found.get(table) != rows:
            raise DatabaseError(
                f"After the restore {table} has {found.get(table, 0):,} rows, and the backup has {rows:,}: nothing "
                "was changed; check the file with `memory-plugin restore --check FILE`."
            )
