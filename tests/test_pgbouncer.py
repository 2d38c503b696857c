"""A real PgBouncer in transaction mode before the server: the whole store works through it."""

from __future__ import annotations

import asyncio
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from memory_plugin import Memory
from memory_plugin.db.database import Database
from memory_plugin.errors import DatabaseUnavailableError
from tests.conftest import run_sql
from tests.counting import counted
from tests.saver_tools import Writer, history, opened, place, rows, said, values

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="PgBouncer is not installed: `apt-get install pgbouncer` runs these tests"
)

CONFIG = """
[databases]
* = host={host} port={port} user={user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 200
logfile = {folder}/log
pidfile = {folder}/pid
{more}
"""


def version() -> tuple[int, int]:
    """Of the PgBouncer that is installed."""
    said_by_it = subprocess.run([str(PGBOUNCER), "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said_by_it)
    assert found is not None
    return int(found[1]), int(found[2])


def run_pgbouncer(database_url: str, folder: Path, more: str) -> tuple[subprocess.Popen[bytes], str]:
    parts = urlsplit(database_url)
    query = dict(parse_qsl(parts.query))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
    (folder / "ini").write_text(
        CONFIG.format(
            host=query["host"], port=query["port"], user=parts.username, listen=listen, folder=folder, more=more
        )
    )
    command = [str(PGBOUNCER), "-q", str(folder / "ini")]
    if os.getuid() == 0:  # it refuses to be root; who runs the server can reach its socket
        account = Path(query["host"]).stat()
        owner = pwd.getpwuid(account.st_uid)
        assert owner.pw_uid != 0
        for path in (folder, folder / "ini"):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        command += ["-u", owner.pw_name]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", listen), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    return process, f"postgresql://{parts.username}@127.0.0.1:{listen}{parts.path}?sslmode=disable"


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that another account can reach."""
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        yield Path(name)


@pytest.fixture
def pooled_url(database_url: str, folder: Path) -> Iterator[str]:
    """A migrated database behind a pooler that keeps no prepared statements."""
    process, url = run_pgbouncer(database_url, folder, "")
    yield url
    stop(process)


@pytest.fixture
def empty_pooled_url(empty_database_url: str, folder: Path) -> Iterator[str]:
    """The same before an empty database."""
    process, url = run_pgbouncer(empty_database_url, folder, "")
    yield url
    stop(process)


@pytest.fixture
def tracking_url(database_url: str, folder: Path) -> Iterator[str]:
    """The same with a pooler that keeps prepared statements for each client."""
    if version() < (1, 21):
        pytest.skip(f"PgBouncer {version()} keeps no prepared statements: 1.21 does")
    process, url = run_pgbouncer(database_url, folder, "max_prepared_statements = 200")
    yield url
    stop(process)


async def use(url: str) -> list[bool]:
    """Two tenants do everything at once, sixteen tasks each; whether their stores still prepare statements."""

    async def tenant(name: str) -> bool:
        async with opened(url, name) as (memory, saver):

            async def thread(number: int) -> None:
                writer = Writer(saver, f"thread-{number}")
                for step in (1, 2, 3):
                    config = await writer.put(messages=said(*(f"{name}-{number}-{n}" for n in range(step))), step=step)
                    await saver.aput_writes(config, [("x", step)], f"task-{step}")
                found = await values(saver, place(f"thread-{number}"))
                assert [m.content for m in found["messages"]] == [f"{name}-{number}-{n}" for n in range(3)]
                await memory.remember(f"fact {number} of {name}", user_id="u")
                await memory.store.aput(("notes", str(number)), "k", {"n": number, "of": name})

            await asyncio.gather(*(thread(number) for number in range(16)))
            assert len(await history(saver)) == 48
            assert await rows(memory, "messages") == 48
            assert await rows(memory, "checkpoint_writes") == 48
            hits = await memory.recall("fact", user_id="u", limit=20)
            assert {hit.text.rpartition(" ")[2] for hit in hits} == {name}
            item = await memory.store.aget(("notes", "7"), "k")
            assert item is not None
            assert item.value == {"n": 7, "of": name}
            await memory.forget(thread_id="thread-1")
            return memory.database.prepares

    return list(await asyncio.gather(tenant("one"), tenant("two")))


async def test_everything_works_without_prepared_statements(pooled_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_PREPARED_STATEMENTS", "false")
    assert await use(pooled_url) == [False, False]


async def test_a_pooler_that_keeps_no_statements_is_noticed(pooled_url: str) -> None:
    """Nobody has to say it: the first statement that misses its name is repeated without names."""
    assert await use(pooled_url) == [False, False]


async def test_a_pooler_that_keeps_statements_is_used_with_them(tracking_url: str) -> None:
    assert await use(tracking_url) == [True, True]


async def test_the_schema_is_made_through_a_pooler(empty_pooled_url: str) -> None:
    async with Memory.open(empty_pooled_url, embeddings=False) as memory:
        await memory.remember("made through a pooler", user_id="u")
        assert len(await memory.recall("pooler", user_id="u")) == 1


async def test_a_write_is_never_taken_for_another_client_s(pooled_url: str) -> None:
    """Statements of two clients of one server have different names: one is missing, none is mistaken."""
    databases = [Database(pooled_url, pool_size=2) for _ in range(3)]
    await databases[0].execute("CREATE TABLE public.notes (writer int, number int)")

    async def write(writer: int) -> None:
        statement = f"INSERT INTO public.notes SELECT {writer}, $1"
        await asyncio.gather(*(databases[writer].execute(statement, number) for number in range(50)))

    await asyncio.gather(*(write(writer) for writer in range(3)))
    found = await databases[0].fetch(
        "SELECT writer, count(*), count(DISTINCT number) FROM public.notes GROUP BY writer"
    )
    assert sorted(tuple(row) for row in found) == [(writer, 50, 50) for writer in range(3)]
    for database in databases:
        await database.close()


async def test_a_setting_that_the_pooler_refuses_is_explained(pooled_url: str) -> None:
    database = Database(pooled_url, statement_timeout=5)
    with pytest.raises(DatabaseUnavailableError, match="unset MEMORY_STATEMENT_TIMEOUT"):
        await database.fetchval("SELECT 1")
    await database.close()


@pytest.fixture(params=["", "ignore_startup_parameters = role, memory.tenant"])
def narrow_url(request: pytest.FixtureRequest, database_url: str, folder: Path) -> Iterator[str]:
    """One connection for everybody; the settings of a session are refused, or taken and kept to itself."""
    process, url = run_pgbouncer(database_url, folder, f"max_db_connections = 1\n{request.param}")
    yield url
    stop(process)


async def test_each_transaction_says_whose_rows_it_sees(narrow_url: str) -> None:
    """Two tenants whose statements go over the same connection of the server, one after the other."""
    who = "SELECT current_user || ' ' || current_setting('memory.tenant') || ' ' || count(*) FROM memory.memories"
    async with opened(narrow_url, "one") as (one, _), opened(narrow_url, "two") as (two, _):
        await one.remember("of one", user_id="u")
        for _turn in range(3):
            assert await one.database.fetchval(who) == "memory_app one 1"
            assert await two.database.fetchval(who) == "memory_app two 0"
            async with two.database.transaction() as connection:
                assert await connection.fetchval(who) == "memory_app two 0"
        async with counted(two.database) as sent:
            await two.user_memory.get("u")
        assert [statement.split()[0] for statement in sent] == ["BEGIN;", "SELECT", "COMMIT;"]


async def test_a_login_with_a_tenant_of_its_own_needs_no_transaction(
    pooled_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pooler opens its connections as is told the tenant by the server."""
    monkeypatch.setenv("MEMORY_ROW_SECURITY", "off")
    await asyncio.to_thread(
        run_sql, database_url, f"ALTER DATABASE {database_of(database_url)} SET memory.tenant = 'two'"
    )
    async with opened(pooled_url, "two") as (two, _):
        assert await two.database.fetchval("SELECT current_setting('memory.tenant')") == "two"
        async with counted(two.database) as sent:
            await two.user_memory.get("u")
        assert len(sent) == 1


async def test_a_role_that_is_not_there_is_done_without(
    pooled_url: str, database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("memory_plugin.db.connect.APP_ROLE", "nobody_has_such_a_role")
    for url in (pooled_url, database_url):
        caplog.clear()
        async with opened(url, "two") as (two, _):
            assert await two.database.fetchval("SELECT current_user") == "postgres"
            await two.remember("of two", user_id="u")
        assert "Row security does not hold" in caplog.text


def database_of(url: str) -> str:
    return urlsplit(url).path.lstrip("/")
