"""The database: which one it is, its version, its extension, its schema."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from memory_plugin.db.urls import hide_secrets
from memory_plugin.doctor.findings import Diagnosis, in_bytes
from memory_plugin.errors import MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.db.database import Database, Record
    from memory_plugin.settings import Settings

_SERVER = """
SELECT current_setting('server_version') AS version, current_database() AS name, current_user AS role,
       pg_is_in_recovery() AS read_only, pg_database_size(current_database()) AS size,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available
"""


@asynccontextmanager
async def opened(found: Diagnosis, settings: Settings) -> AsyncIterator[Database]:
    """The database of the settings, with a line about which one it is."""
    from memory_plugin.db.connect import open_database, start_embedded

    if settings.database_url is not None:
        async with open_database(settings=settings) as database:
            await database.fetchval("SELECT 1")
            found.add("database", "ok", hide_secrets(settings.database_url.get_secret_value()))
            yield database
        return
    server = await start_embedded(settings)
    try:
        size = await asyncio.to_thread(_size_of, server.data_dir)
        found.add("database", "ok", f"embedded, in {server.data_dir} ({in_bytes(size)}), process {server.pid}")
        async with open_database(server.url, settings=settings) as database:
            yield database
    finally:
        await asyncio.to_thread(server.stop)


def check_version(found: Diagnosis) -> None:
    """Which version of this library runs, and on what."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("memory-plugin")
    except PackageNotFoundError:
        own = "not installed, from its sources"
    found.add("version", "ok", f"{own}, on Python {platform.python_version()}, {platform.system()}")


async def check_server(found: Diagnosis, database: Database) -> bool:
    """Look at the server, its extension and the schema; whether there is a schema that can be looked into."""
    from memory_plugin.db import SCHEMA_REVISION
    from memory_plugin.db.migrate import ensure_schema, read_revision

    server = await database.fetchrow(_SERVER)
    assert server is not None  # a SELECT without FROM always has a row
    tls = ", encrypted connection" if server["tls"] else ""
    detail = f"{server['version']}, database {server['name']} ({in_bytes(server['size'])}), role {server['role']}{tls}"
    try:
        revision = await read_revision(database)
    except MemoryPluginError as error:
        found.add("PostgreSQL", "error", str(error))
        return False
    if server["read_only"]:
        found.add("PostgreSQL", "error", f"{detail}: a read-only replica", "Connect to the primary server.")
    else:
        found.add("PostgreSQL", "ok", detail)
    _check_pgvector(found, server)
    if revision is None:
        _check_before_first_use(found, server, database.schema)
        return False
    try:
        await ensure_schema(database)  # changes nothing where there is a revision
    except MemoryPluginError as error:
        found.add("schema", "error", str(error))
        return False
    found.add(
        "schema", "ok", f"{database.schema!r} is at revision {revision}, as this version needs ({SCHEMA_REVISION})"
    )
    return True


def _check_pgvector(found: Diagnosis, server: Record) -> None:
    if server["pgvector"] is not None:
        newer = server["available"] not in {None, server["pgvector"]}
        found.add(
            "pgvector",
            "ok",
            f"{server['pgvector']}, {server['available']} is on the server" if newer else server["pgvector"],
            "An administrator may run ALTER EXTENSION vector UPDATE;" if newer else None,
        )
    elif server["available"] is not None:
        found.add("pgvector", "ok", f"{server['available']} is on the server and is set up with the schema")
    else:
        found.add(
            "pgvector",
            "error",
            "It is not installed on the server.",
            "Install the package pgvector 0.8 or newer on the server; nothing else is needed there.",
        )


def _check_before_first_use(found: Diagnosis, server: Record, schema: str) -> None:
    if server["may_create"]:
        found.add("schema", "ok", f"{schema!r} is not there yet: it is made when the store is first opened")
    else:
        found.add(
            "schema",
            "error",
            f"{schema!r} is not there, and the role {server['role']} may not make it.",
            f'Have an owner run `memory-plugin migrate up`, or GRANT CREATE ON DATABASE "{server["name"]}".',
        )


def _size_of(directory: Path) -> int:
    """Bytes of the files below a directory; those that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            try:
                total += Path(folder, name).lstat().st_size
            except OSError:
                continue
    return total
