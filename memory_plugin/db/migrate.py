"""Migrations by alembic: on open, by the command line, or by a team's own alembic.

Any number of processes may do this at once: the first takes an advisory lock inside the
transaction that migrates, the others wait and find nothing left to do.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.database import Database, Record, Repeat, translate
from memory_plugin.errors import ConfigurationError, ExtensionMissingError, SchemaVersionError, UnsupportedError

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

MIGRATION_LOCK = 0x6D656D6F7279  # "memory"
VERSION_TABLE = "alembic_version"
OLDEST_SERVER = 150000
OLDEST_PGVECTOR = (0, 8)

# alembic keeps its context in module globals: one migration at a time in a process
_ALEMBIC = threading.Lock()

_STATE = """
SELECT current_setting('server_version_num')::int AS server,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       to_regclass($1) IS NOT NULL AS versioned
"""


def migrations_path() -> Path:
    """The folder with `env.py`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "_migrations", package.parent / "migrations"):
        if (candidate / "env.py").is_file():
            return candidate
    raise ConfigurationError("The migrations are missing from this installation: install the package again.")


def alembic_config(
    *, schema: str = "memory", connection: Connection | None = None, out: io.StringIO | None = None
) -> Config:
    """A configuration for alembic's own commands, set to this store's migrations."""
    from alembic.config import Config

    config = Config(output_buffer=out) if out is not None else Config()
    config.set_main_option("script_location", str(migrations_path()).replace("%", "%%"))
    config.attributes["schema"] = schema
    if connection is not None:
        config.attributes["connection"] = connection
    return config


async def read_revision(database: Database) -> str | None:
    """The revision of the database, None where the store was never made there.

    Raises:
        UnsupportedError: the server is older than PostgreSQL 15, or pgvector older than 0.8.
    """
    state = await database.fetchrow(_STATE, database.sql(f"{{s}}.{VERSION_TABLE}"), repeat=Repeat.READ)
    assert state is not None  # a SELECT without FROM always has a row
    _check_server(state)
    if not state["versioned"]:
        return None
    revision: str | None = await database.fetchval(
        database.sql(f"SELECT version_num FROM {{s}}.{VERSION_TABLE}"), repeat=Repeat.READ
    )
    return revision


def _check_server(state: Record) -> None:
    if state["server"] < OLDEST_SERVER:
        raise UnsupportedError(
            f"This server is PostgreSQL {state['server'] // 10000}; "
            f"version {OLDEST_SERVER // 10000} or newer is needed."
        )
    if state["pgvector"] is not None:
        version = tuple(int(part) for part in state["pgvector"].split(".")[:2])
        if version < OLDEST_PGVECTOR:
            raise UnsupportedError(
                f"This database has pgvector {state['pgvector']}; 0.8 or newer is needed: "
                "install it on the server and run ALTER EXTENSION vector UPDATE."
            )


async def ensure_schema(database: Database) -> None:
    """Make the store in an empty database, or see that what is there fits this version.

    Raises:
        SchemaVersionError: the schema is behind or ahead; the message names the command.
    """
    revision = await read_revision(database)
    if revision == SCHEMA_REVISION:
        return
    if revision is None:
        await upgrade(database)
        return
    if _is_known(revision):
        raise SchemaVersionError(
            f"The schema {database.schema!r} is at revision {revision}, this version needs {SCHEMA_REVISION}: "
            "run `memory-plugin migrate up` once."
        )
    raise SchemaVersionError(
        f"The schema {database.schema!r} is at revision {revision}, which is newer than this version "
        f"({SCHEMA_REVISION}): upgrade memory-plugin, or run `memory-plugin migrate down {SCHEMA_REVISION}` "
        "with the newer one."
    )


def _is_known(revision: str) -> bool:
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config())
    return any(known.revision == revision for known in script.walk_revisions())


async def upgrade(database: Database, revision: str = "head") -> None:
    """Bring the schema up to `revision`; all of it or nothing."""
    from alembic import command

    await _run(database, lambda config: command.upgrade(config, revision))


async def downgrade(database: Database, revision: str) -> None:
    """Take the schema down to `revision` ("base" for none); all of it or nothing."""
    from alembic import command

    await _run(database, lambda config: command.downgrade(config, revision))


def upgrade_sql(revision: str = "head", *, schema: str = "memory") -> str:
    """The statements that `upgrade` would run on an empty database, for a person to run."""
    from alembic import command

    out = io.StringIO()
    from alembic.util.exc import CommandError

    try:
        command.upgrade(alembic_config(schema=schema, out=out), revision, sql=True)
    except CommandError as error:
        raise SchemaVersionError(f"The statements cannot be written: {error}") from error
    return out.getvalue()


async def _run(database: Database, action: Callable[[Config], Any]) -> None:
    def migrate(connection: Connection) -> None:
        action(alembic_config(schema=database.schema, connection=connection))

    from alembic.util.exc import CommandError
    from sqlalchemy.exc import DBAPIError

    engine = database.engine.execution_options(isolation_level="READ COMMITTED", schema_translate_map={})
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110 - shared with other loops and threads
        await asyncio.sleep(0.01)
    try:
        async with engine.begin() as connection:
            await connection.run_sync(migrate)
    except DBAPIError as error:
        if _says_extension_missing(error):
            raise ExtensionMissingError(
                "pgvector is missing in this database and this role may not install it: "
                "have an administrator run CREATE EXTENSION vector, then try again."
            ) from error
        raise translate(error, target=f"the schema {database.schema!r}") from error
    except CommandError as error:
        raise SchemaVersionError(f"The migration could not run: {error}") from error
    finally:
        _ALEMBIC.release()


def _says_extension_missing(error: Exception) -> bool:
    text = str(error)
    return ("CREATE EXTENSION" in text and 'extension "vector"' in text) or "extension/vector.control" in text
