"""Upgrades that are disturbed: a migration that is killed, and old code that goes on beside the new schema."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from memory_plugin import Memory
from memory_plugin.core import MemoryCore
from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.database import Database
from memory_plugin.db.migrate import read_revision, upgrade
from memory_plugin.errors import SchemaVersionError
from tests.catalog import describe
from tests.conftest import run_sql, with_database
from tests.record_released import TENANT, Lengths, valued

ROOT = Path(__file__).resolve().parent.parent
WORK = "statements_*.json"  # of releases, by revision, as `record_released.py` noted it
RELEASED = {
    noted["revision"]: noted
    for noted in (json.loads(path.read_text("utf-8")) for path in sorted((Path(__file__).parent / "data").glob(WORK)))
    if noted["revision"] < SCHEMA_REVISION
}


async def migrated(url: str, revision: str) -> str:
    database = Database(url)
    await upgrade(database, revision)
    await database.close()
    return url


async def migrating(url: str) -> asyncio.subprocess.Process:
    """`memory-plugin migrate up` in a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "memory_plugin.cli", "migrate", "up",
        env={**os.environ, "PYTHONPATH": str(ROOT), "MEMORY_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


class OldCode:
    """A process of the released version: its statements, sent over one connection that it keeps."""

    def __init__(self, connection: asyncpg.Connection, revision: str) -> None:
        self._connection = connection
        self._noted = RELEASED[revision]
        self.rounds = 0

    def _argument(self, noted: Any) -> Any:
        value = valued(noted)
        if isinstance(value, list):
            return [self.tenant if each == TENANT else each for each in value]
        return self.tenant if value == TENANT else value

    @property
    def tenant(self) -> str:
        """Whose work this round is."""
        return f"round-{self.rounds}"

    async def work(self) -> None:
        """A day's work for one more tenant."""
        self.rounds += 1
        for number, arguments in self._noted["sent"]:
            await self._connection.fetch(self._noted["statements"][number], *map(self._argument, arguments))


@pytest.fixture(scope="module", params=RELEASED)
def released(server_url: str, worker_id: str, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An empty database for both tests, one after the other, and its revision; the first leaves it as released."""
    revision = request.param
    name = f"released_{revision}_{worker_id}"
    run_sql(server_url, f"CREATE DATABASE {name}")
    yield asyncio.run(migrated(with_database(server_url, name), revision)), revision
    run_sql(server_url, f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_migration_that_is_killed_leaves_nothing_and_is_simply_repeated(released: tuple[str, str]) -> None:
    """The process is killed while it waits for a lock, in the middle of its transaction."""
    released_url, revision = released
    admin = await asyncpg.connect(released_url)
    before = await describe(admin, "memory")
    lock = admin.transaction()
    await lock.start()
    await admin.execute("LOCK TABLE memory.alembic_version IN SHARE MODE")  # its last word is an UPDATE there
    watching = await asyncpg.connect(released_url)
    process = await migrating(released_url)
    waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'memory.alembic_version'::regclass"
    async with asyncio.timeout(40):
        while not await watching.fetchval(waits):  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert await watching.fetchval("SELECT version_num FROM memory.alembic_version") == revision
    await lock.rollback()
    async with asyncio.timeout(10):  # until the server has noticed that nobody listens
        while await watching.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert await describe(watching, "memory") == before
    await admin.close()
    await watching.close()


async def test_old_code_goes_on_before_during_and_after_an_upgrade_and_loses_nothing(
    released: tuple[str, str],
) -> None:
    """Migrate first, then replace the processes: until they are, the old ones write to the new schema."""
    released_url, revision = released
    connection = await asyncpg.connect(released_url)
    old = OldCode(connection, revision)
    await old.work()
    with pytest.raises(SchemaVersionError, match="memory-plugin migrate up"):
        async with MemoryCore.open(released_url, embeddings=False):
            pass  # new code is not let in before
    process = await migrating(released_url)
    while process.returncode is None:
        await old.work()
        await asyncio.sleep(0.05)
    assert process.returncode == 0, (await process.communicate())[0].decode()
    during = old.rounds
    await old.work()
    assert during >= 2
    database = Database(released_url)
    assert await read_revision(database) == SCHEMA_REVISION
    await database.close()
    for number in (1, during, old.rounds):
        await check(released_url, f"round-{number}")
    await old.work()  # beside the new code
    await connection.close()


async def check(url: str, tenant: str) -> None:
    """All that the old code wrote is there for the new code, which goes on with it."""
    async with Memory.open(url, tenant=tenant, embeddings=Lengths()) as memory:
        texts = ["question 1", "answer to question 1", "question 2", "answer to question 2"]
        assert [message.text for message in await memory.conversations.messages("talk")] == texts
        state = await memory.checkpointer.aget_tuple({"configurable": {"thread_id": "talk"}})
        assert state is not None
        assert [message.text for message in state.checkpoint["channel_values"]["messages"]] == texts
        await memory.conversations.append("notes", "a line of the new code")
        notes = await memory.conversations.messages("notes")
        assert [message.text for message in notes] == ["a line of history", "a line of the new code"]
        await memory.remember("Alice keeps goats", user_id="alice")
        await memory.indexed()
        hits = await memory.recall("what does Alice drink, tea?", user_id="alice", kinds=["memory"])
        assert hits[0].text == "Alice drinks black tea"
        assert hits.words_only is None
        assert {hit.text for hit in hits} >= {"Alice drinks black tea", "Alice keeps goats"}
        assert [hit.text for hit in await memory.recall("refunds", kinds=["reference"])] == [
            "Refunds are paid within 14 days."
        ]
        assert (await memory.agent_settings.active("prompt")).value == "be short"
