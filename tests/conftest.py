"""A real PostgreSQL for every test: one server a run, one template a worker, one database a test."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.db.embedded import EmbeddedServer
from memory_plugin.db.migrate import upgrade
from memory_plugin.memory import Memory

settings.register_profile(
    "tests",
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tests")

_numbers = itertools.count(1)


def with_database(url: str, name: str) -> str:
    """The URL with another database in it."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def as_user(url: str, user: str) -> str:
    """The URL with another user, and no password, in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}"))


def run_sql(url: str, *statements: str) -> None:
    """Run statements one by one, each in its own transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and no test writes to their home."""
    for name in list(os.environ):
        if name.startswith("MEMORY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MEMORY_DATA_DIR", str(tmp_path / "never-started"))
    # it reads ten passages a second: tests of it ask for it
    monkeypatch.setenv("MEMORY_DOCUMENT_EMBEDDINGS", "none")


_SERVER_FOLDER = "PYTEST_MEMORY_SERVER_FOLDER"


def pytest_configure(config: pytest.Config) -> None:
    """One folder for the run's server, made by the controller and inherited by its workers."""
    if not hasattr(config, "workerinput"):
        os.environ[_SERVER_FOLDER] = tempfile.mkdtemp(prefix="memory-plugin-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    """The folder goes with the run."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop(_SERVER_FOLDER), ignore_errors=True)


@pytest.fixture(scope="session")
def server_url(worker_id: str) -> Iterator[str]:
    """A server for the whole run, shared by the workers; not durable, for speed."""
    server = EmbeddedServer.start(Path(os.environ[_SERVER_FOLDER]) / "postgres")
    if worker_id in {"master", "gw0"}:
        run_sql(
            server.url,
            "ALTER SYSTEM SET fsync = off",
            "ALTER SYSTEM SET full_page_writes = off",
            "SELECT pg_reload_conf()",
        )
    yield server.url
    server.stop()


@pytest.fixture(scope="session")
def template(server_url: str, worker_id: str) -> str:
    """The name of a migrated database that tests are copied from."""
    name = f"template_{worker_id}"
    run_sql(server_url, f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")

    async def migrate() -> None:
        database = Database(with_database(server_url, name))
        await upgrade(database)
        await database.close()

    asyncio.run(migrate())
    return name


@pytest.fixture
def empty_database_url(server_url: str, worker_id: str) -> Iterator[str]:
    """A database with nothing in it, not even pgvector."""
    name = f"empty_{worker_id}_{next(_numbers)}"
    run_sql(server_url, f"CREATE DATABASE {name}")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database_url(server_url: str, template: str, worker_id: str) -> Iterator[str]:
    """A migrated database of the test's own."""
    name = f"test_{worker_id}_{next(_numbers)}"
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield with_database(server_url, name)
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database; every connection must be back at the end."""
    opened = Database(database_url)
    yield opened
    assert opened.engine.pool.checkedout() == 0, "a connection was not given back"  # type: ignore[attr-defined]
    await opened.close()


@pytest.fixture
async def core(database_url: str) -> AsyncIterator[MemoryCore]:
    """An open store that ranks by words alone."""
    async with MemoryCore.open(database_url, embeddings=False) as opened:
        yield opened
        await opened._indexer.stop()  # it may hold a connection for good reason
        await opened._shared.stop()  # and so may those of other tenants
        assert opened.database.engine.pool.checkedout() == 0, "a connection was not given back"  # type: ignore[attr-defined]


@pytest.fixture
async def memory(database_url: str) -> AsyncIterator[Memory]:
    """An open store with every face and the offline embedder."""
    async with Memory.open(database_url) as opened:
        yield opened
