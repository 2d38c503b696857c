"""The tables of `langgraph-checkpoint-postgres`: which there are, and making those that are not."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from urllib.parse import urlsplit

from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import ConfigurationError, NotFoundError, UnsupportedError

NEEDED = 9
"""Number of the migration from which on the saver's tables have all that is read here."""

STORE_NEEDED = 3

_COLUMNS = """
SELECT w.name, a.attname AS column FROM unnest($1::text[]) AS w (name)
JOIN pg_attribute a ON a.attrelid = to_regclass(w.name) AND a.attnum > 0 AND NOT a.attisdropped
"""

_TABLES = ["checkpoints", "checkpoint_blobs", "checkpoint_writes", "checkpoint_migrations"]
_STORE_TABLES = ["store", "store_vectors", "store_migrations"]


@dataclass(frozen=True, slots=True)
class OfficialTables:
    """What of the official tables is there; `version` is that of the saver's newest migration."""

    version: int
    has_saver: bool
    has_store: bool
    has_vectors: bool


def shown(url: str) -> str:
    """The database as messages name it: without its user and password."""
    parts = urlsplit(url)
    return f"{parts.hostname or 'localhost'}{parts.path}"


async def inspect(connection: Connection, shown: str, *, required: bool = True) -> OfficialTables:
    """Look for the tables on the connection's search path.

    Args:
        shown: the database as messages name it.
        required: absent tables are an error.

    Raises:
        NotFoundError: there are none.
        ConfigurationError: these are tables of this library.
        UnsupportedError: the tables are too old, or those of the shallow saver.
    """
    columns: dict[str, set[str]] = {}
    for row in await connection.fetch(_COLUMNS, _TABLES + _STORE_TABLES):
        columns.setdefault(row["name"], set()).add(row["column"])
    saver = columns.get("checkpoints", set())
    if "tenant_id" in saver:
        raise ConfigurationError(
            f"The first `checkpoints` on the search path of {shown} is a table of memory-plugin itself: name the schema"
            " of LangGraph's tables with ?options=-csearch_path%3Dpublic at the end of the URL."
        )
    if not saver and not columns.get("store") and required:
        raise NotFoundError(
            f"There are no tables of LangGraph's PostgreSQL saver or store on {shown}: check the database in the URL,"
            " or name their schema with ?options=-csearch_path%3DNAME at its end."
        )
    version = await _version(connection, "checkpoint_migrations") if "checkpoint_migrations" in columns else -1
    if saver:
        _check_saver(columns, version, shown)
    if "store" in columns and not {"expires_at", "ttl_minutes"} <= columns["store"]:
        raise UnsupportedError(
            f"The store's tables on {shown} are of an old version: run setup() of a PostgresStore of today on them."
        )
    return OfficialTables(version, bool(saver), "store" in columns, "store_vectors" in columns)


def _check_saver(columns: dict[str, set[str]], version: int, shown: str) -> None:
    if "checkpoint_id" not in columns["checkpoints"]:
        raise UnsupportedError(
            f"The tables on {shown} are those of ShallowPostgresSaver, which keeps no history and cannot be moved: "
            "continue its threads with PostgresSaver first, or start them anew."
        )
    complete = {"checkpoint_blobs", "checkpoint_writes"} <= set(columns)
    if not complete or "task_path" not in columns["checkpoint_writes"]:
        raise UnsupportedError(
            f"The saver's tables on {shown} are at migration {version} and {NEEDED} is needed: "
            "run setup() of langgraph-checkpoint-postgres 2.0.8 or newer on them first."
        )


async def _version(connection: Connection, table: str) -> int:
    found = await connection.fetchval(f"SELECT max(v) FROM {table}")
    return -1 if found is None else int(found)


_SAVER = """
CREATE TABLE checkpoint_migrations (v INTEGER PRIMARY KEY);
CREATE TABLE checkpoints (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    parent_checkpoint_id TEXT, type TEXT, checkpoint JSONB NOT NULL, metadata JSONB NOT NULL DEFAULT '{}',
    PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id)
);
CREATE TABLE checkpoint_blobs (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', channel TEXT NOT NULL, version TEXT NOT NULL,
    type TEXT NOT NULL, blob BYTEA, PRIMARY KEY (thread_id, checkpoint_ns, channel, version)
);
CREATE TABLE checkpoint_writes (
    thread_id TEXT NOT NULL, checkpoint_ns TEXT NOT NULL DEFAULT '', checkpoint_id TEXT NOT NULL,
    task_id TEXT NOT NULL, idx INTEGER NOT NULL, channel TEXT NOT NULL, type TEXT, blob BYTEA NOT NULL,
    task_path TEXT NOT NULL DEFAULT '', PRIMARY KEY (thread_id, checkpoint_ns, checkpoint_id, task_id, idx)
);
CREATE INDEX checkpoints_thread_id_idx ON checkpoints (thread_id);
CREATE INDEX checkpoint_blobs_thread_id_idx ON checkpoint_blobs (thread_id);
CREATE INDEX checkpoint_writes_thread_id_idx ON checkpoint_writes (thread_id);
INSERT INTO checkpoint_migrations SELECT generate_series(0, 9);
"""

_STORE = """
CREATE TABLE store (
    prefix TEXT NOT NULL, key TEXT NOT NULL, value JSONB NOT NULL,
    created_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP, updated_at TIMESTAMPTZ DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMPTZ, ttl_minutes INT, PRIMARY KEY (prefix, key)
);
CREATE INDEX store_prefix_idx ON store (prefix text_pattern_ops);
CREATE INDEX idx_store_expires_at ON store (expires_at) WHERE expires_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS store_migrations (v INTEGER PRIMARY KEY);
INSERT INTO store_migrations SELECT generate_series(0, 3) ON CONFLICT DO NOTHING;
"""

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('memory-plugin: tables of LangGraph', 0))"


async def ensure(database: Database, shown: str, *, store: bool) -> OfficialTables:
    """Make the tables that are not there, by the official package where it is installed.

    Args:
        store: the store's tables too.

    Raises:
        UnsupportedError: the tables are too old, or those of the shallow saver.
    """
    async with database.raw() as connection:
        found = await _found_or_none(connection, shown)
        if found is not None and found.has_saver and (found.has_store or not store):
            return found
    if not await asyncio.to_thread(_official_setup, database.url, store=store):
        async with database.transaction() as connection:
            await connection.execute(_LOCK)
            found = await inspect(connection, shown, required=False)
            if not found.has_saver:
                await connection.execute(_SAVER)
            if store and not found.has_store:
                await connection.execute(_STORE)
    async with database.raw() as connection:
        return await inspect(connection, shown)


async def _found_or_none(connection: Connection, shown: str) -> OfficialTables | None:
    try:
        return await inspect(connection, shown, required=False)
    except UnsupportedError:
        return None  # the official package may bring old tables up to date; if not, it is said after it


def _official_setup(url: str, *, store: bool) -> bool:
    """Whether the official package is there, and has set its tables up."""
    try:
        from langgraph.checkpoint.postgres import PostgresSaver
        from langgraph.store.postgres import PostgresStore
    except ImportError:  # not installed, or without the C library of its driver
        return False
    with PostgresSaver.from_conn_string(url) as saver:
        saver.setup()
    if store:
        with PostgresStore.from_conn_string(url) as official:
            official.setup()
    return True
