"""A database that cannot be used: each time one error of ours that says what to do."""

from __future__ import annotations

import asyncio
import socket

import asyncpg
import pytest

from memory_plugin import errors
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database, normalise_url, quote_schema, translate
from memory_plugin.db.urls import hide_secrets
from tests.conftest import as_user, run_sql, with_database


async def opened(url: str, **options: object) -> None:
    async with MemoryCore.open(url, embeddings=False, **options):  # type: ignore[arg-type]
        pass


async def test_an_unreachable_server_is_named(unused_tcp_port: int) -> None:
    with pytest.raises(errors.DatabaseUnavailableError, match="is it running") as caught:
        await opened(f"postgresql://u:secret@127.0.0.1:{unused_tcp_port}/d")
    assert "secret" not in str(caught.value)


async def test_a_server_that_never_answers_runs_into_the_timeout() -> None:
    from memory_plugin.settings import Settings

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(errors.DatabaseUnavailableError, match="did not answer in time"):
            await opened(
                f"postgresql://u@127.0.0.1:{silent.getsockname()[1]}/d", settings=Settings(connect_timeout=0.3)
            )


async def test_a_missing_database_is_named(server_url: str) -> None:
    with pytest.raises(errors.DatabaseUnavailableError, match="no_such_database"):
        await opened(with_database(server_url, "no_such_database"))


async def test_a_role_that_does_not_exist_is_refused(server_url: str) -> None:
    with pytest.raises(errors.DatabaseUnavailableError, match="refused"):
        await opened(as_user(server_url, "no_such_role"))


def test_wrong_credentials_say_to_check_them() -> None:
    error = translate(asyncpg.InvalidPasswordError("password authentication failed"))
    assert isinstance(error, errors.DatabaseUnavailableError)
    assert "check user and password" in str(error)


async def test_a_role_without_rights_on_the_schema_gets_one_sentence(database_url: str) -> None:
    run_in = asyncio.to_thread
    await run_in(
        run_sql,
        database_url,
        "DO $$ BEGIN CREATE ROLE no_rights LOGIN; EXCEPTION WHEN duplicate_object THEN END $$",
    )
    with pytest.raises(errors.DatabaseError, match="Grant the right|permission"):
        await opened(as_user(database_url, "no_rights"))


@pytest.mark.parametrize("url", ["mysql://u@h/d", "not a url", "", "postgresql+pg8000://h/d", "sqlite:///x.db"])
async def test_another_kind_of_url_is_refused(url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="postgresql://"):
        await opened(url)


@pytest.mark.parametrize("url", ["postgresql://[bad", "postgresql://h:99999/d", "postgresql://h:port/d"])
async def test_a_url_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match="cannot be read"):
        await opened(url)


def test_a_setting_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_POOL_SIZE", "many")
    with pytest.raises(errors.ConfigurationError, match="MEMORY_POOL_SIZE"):
        MemoryCore.open()


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_TENANT", "")
    monkeypatch.setenv("MEMORY_POOL_SIZE", "")
    assert MemoryCore.open().tenant == "default"


@pytest.mark.parametrize("schema", ['x"; DROP SCHEMA memory; --', "1st", "", "a" * 64, "with space"])
async def test_a_schema_name_is_never_taken_as_sql(database_url: str, schema: str) -> None:
    if not schema:
        return  # an empty name is not given: the default stands
    with pytest.raises(errors.ConfigurationError, match="schema name"):
        await opened(database_url, schema=schema)


def test_a_schema_name_is_quoted() -> None:
    assert quote_schema("Memory_1") == '"Memory_1"'


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgresql+asyncpg://u:p@h:1/d?ssl=require", "postgresql://u:p@h:1/d?sslmode=require"),
        ("postgres://h/d", "postgresql://h/d"),
        ("postgresql://u@/d?host=/var/run/postgresql", "postgresql://u@/d?host=/var/run/postgresql"),
        ("postgresql://h/d?prepared_statement_cache_size=0", "postgresql://h/d"),
    ],
)
def test_urls_of_every_spelling_are_taken(given: str, expected: str) -> None:
    assert normalise_url(given) == expected


def test_a_password_is_never_shown() -> None:
    assert hide_secrets("postgresql://u:p%40ss@h/d") == "postgresql://u:***@h/d"
    assert "hunter2" not in hide_secrets("postgresql://u@/d?host=/run&password=hunter2")
    assert "hunter2" not in hide_secrets("postgresql://u:pa/hunter2@h/d")
    assert "hunter2" not in repr(Database("postgresql://u:hunter2@h/d"))


async def test_a_full_disk_says_so() -> None:
    error = translate(asyncpg.DiskFullError("could not extend file: No space left on device"))
    assert isinstance(error, errors.StorageFullError)
    assert "nothing was written" in str(error)


async def test_the_pool_survives_a_connection_that_the_server_ended(core: MemoryCore) -> None:
    await core.remember("a lighthouse", user_id="u")
    admin = await asyncpg.connect(core.database.url)
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    await admin.close()
    await asyncio.sleep(0.1)
    assert [hit.text for hit in await core.recall("lighthouse", user_id="u")] == ["a lighthouse"]


async def test_a_cancelled_operation_leaves_the_pool_whole(core: MemoryCore) -> None:
    for _ in range(12):  # more than the pool has connections
        task = asyncio.create_task(core.database.execute("SELECT pg_sleep(30)"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await core.database.fetchval("SELECT 1") == 1
    assert core.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("text", ["nul \x00", "half \ud800", "", "   "])
async def test_text_that_cannot_be_remembered_is_refused_and_nothing_is_written(core: MemoryCore, text: str) -> None:
    with pytest.raises(errors.InvalidInputError):
        await core.remember(text, user_id="u")
    assert await core.database.fetchval("SELECT count(*) FROM memory.memories") == 0


async def test_a_memory_beyond_the_limit_is_refused(core: MemoryCore) -> None:
    with pytest.raises(errors.ContentTooLargeError, match="split it"):
        await core.remember("x" * 1_000_001, user_id="u")


async def test_an_embedding_of_the_wrong_width_is_refused_and_words_still_work(database_url: str) -> None:
    class Changing:
        name, dims = "changing", None

        def __init__(self, width: int) -> None:
            self.width = width

        async def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0] * self.width for _ in texts]

        async def embed_query(self, text: str) -> list[float]:
            return [1.0] * self.width

    async with MemoryCore.open(database_url, embeddings=Changing(3)) as core:
        await core.remember("a fact of width three", user_id="u")
        await core.indexed(5)
    async with MemoryCore.open(database_url, embeddings=Changing(5)) as core:
        await core.remember("a fact of width five", user_id="u")
        with pytest.raises(errors.EmbeddingError, match="5 numbers.*3"):
            await core.indexed(5)
        assert len(await core.recall("width", user_id="u")) == 2


async def test_a_store_is_opened_once_at_a_time(core: MemoryCore) -> None:
    with pytest.raises(errors.ConfigurationError, match="open already"):
        await core.__aenter__()


async def test_a_closed_store_can_be_opened_again(database_url: str) -> None:
    store = MemoryCore.open(database_url, embeddings=False)
    for _ in range(2):
        async with store:
            await store.remember("again", user_id="u")


async def test_forget_wants_exactly_one_thing(core: MemoryCore) -> None:
    with pytest.raises(errors.InvalidInputError, match="exactly one"):
        await core.forget()
    with pytest.raises(errors.InvalidInputError, match="exactly one"):
        await core.forget(user_id="u", thread_id="t")


@pytest.fixture
def unused_tcp_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_cancelled_transaction_leaves_no_connection_in_doubt(core: MemoryCore) -> None:
    async def work() -> None:
        async with core.database.transaction() as connection:
            await connection.execute("INSERT INTO memory.user_memory VALUES ('default', 'half', 1, 'written')")
            await connection.execute("SELECT pg_sleep(30)")

    for _ in range(10):  # more than the pool has connections
        task = asyncio.create_task(work())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with core.database.transaction() as connection:
        assert await connection.fetchval("SELECT count(*) FROM memory.user_memory") == 0
    assert core.database.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
