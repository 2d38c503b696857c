"""Migrations by alembic: on open, by the command line, or by a team's own alembic.

Any number of processes may do this at once: the first takes an advisory lock inside the
transaction that migrates, the others wait and find nothing left to do.
"""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.database import Database, Record, Repeat, translate
from memory_plugin.db.tenancy import APP_ROLE, SECURE, RoleUnavailableError
from memory_plugin.errors import (
    ConfigurationError,
    DatabaseError,
    ExtensionMissingError,
    SchemaVersionError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

MIGRATION_LOCK = 0x6D656D6F7279  # "memory"
VERSION_TABLE = "alembic_version"
OLDEST_SERVER = 150000
OLDEST_PGVECTOR = (0, 8)

# alembic keeps its context in module globals: one migration at a time in a process
_ALEMBIC = threading.Lock()

_STATE = """
SELECT current_setting('server_version_num')::int AS server,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       to_regclass($1) IS NOT NULL AS versioned,
       current_setting('memory.tenant', true) AS tenant,
       coalesce((SELECT row_security_active(oid) FROM pg_class WHERE oid = to_regclass($2)), false) AS secured
"""

_IS_SECURE = """
SELECT EXISTS (
    SELECT FROM pg_roles r
    WHERE r.rolname = 'memory_app'
      AND has_table_privilege(r.oid, format('%I.messages', $1::text), 'INSERT')
      AND pg_has_role(session_user, r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000
                                                THEN 'SET' ELSE 'MEMBER' END)
)
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
    return await _read_revision(database, await _read_state(database))


async def _read_state(database: Database) -> Record:
    names = (database.sql(f"{{s}}.{VERSION_TABLE}"), database.sql("{s}.messages"))
    state = await database.fetchrow(_STATE, *names, repeat=Repeat.READ)
    assert state is not None  # a SELECT without FROM always has a row
    _check_server(state)
    return state


async def _read_revision(database: Database, state: Record) -> str | None:
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


async def ensure_schema(database: Database, *, required: bool = False) -> None:
    """Make the store in an empty database, or see that what is there fits this version.

    Where the database is to see the rows of one tenant, this also finds out how: as the role, as the
    login itself if that owns nothing, told once a session or, behind a pooler, in each transaction.

    Args:
        required: whether a login for which row security does not hold is an error.

    Raises:
        SchemaVersionError: the schema is behind or ahead; the message names the command.
        ConfigurationError: row security is required, and does not hold.
    """
    if database.tenant is None:
        await _ensure_made(database)
        return
    try:
        state = await _read_state(database)
        made = await _read_revision(database, state) == SCHEMA_REVISION
    except DatabaseError as error:
        if not _is_without_rights(error):
            raise
        made = False
    if not made:
        await _ensure_made(database.as_login())
        state = await take_role(database)
    await _ensure_seen(database, state, required=required)


def _is_without_rights(error: DatabaseError) -> bool:
    """Whether the role is not there, or was granted nothing here: the login may know more."""
    return isinstance(error, RoleUnavailableError) or error.sqlstate == "42501"


async def take_role(database: Database) -> Record:
    """Let it work as the role, or as the login where that may not become the role; the state as it is then seen."""
    try:
        return await _read_state(database)
    except DatabaseError as error:
        if not _is_without_rights(error):
            raise
        database.work_as_login()
        return await _read_state(database)


async def _ensure_seen(database: Database, state: Record, *, required: bool) -> None:
    if state["tenant"] != database.tenant and database.keeps_sessions:
        database.share_sessions()  # a pooler took the settings of the session, and kept them to itself
        state = await _read_state(database)
    if state["secured"] and state["tenant"] == database.tenant:
        return
    reason = (
        f"Row security does not hold for this login, which may not work as the role {APP_ROLE}: have an administrator "
        f"run `CREATE ROLE {APP_ROLE} NOLOGIN` where there is none, then `GRANT {APP_ROLE} TO` the login, "
        "then `memory-plugin migrate secure`."
    )
    if required:
        raise ConfigurationError(reason)
    logger.warning("%s", reason)


async def _ensure_made(database: Database) -> None:
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


async def secure(database: Database) -> bool:
    """Make the role for which row security holds, where the migration could not; whether it was needed.

    Raises:
        ConfigurationError: this login may not.
    """
    ready = await database.fetchval(_IS_SECURE, database.schema, repeat=Repeat.READ)
    if ready:
        return False
    try:
        await database.execute(database.sql(SECURE), repeat=Repeat.IDEMPOTENT)
    except DatabaseError as error:
        if error.sqlstate != "42501":
            raise
        raise ConfigurationError(
            f"This login may not make the role {APP_ROLE}: have an administrator run "
            f"`CREATE ROLE {APP_ROLE} NOLOGIN; GRANT {APP_ROLE} TO` this login, then try again."
        ) from error
    return True


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

    owner = database if database.role is None else database.as_login()
    engine = owner.engine.execution_options(isolation_level="READ COMMITTED", schema_translate_map={})
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
