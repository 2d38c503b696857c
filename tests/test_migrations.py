"""The schema: made in every way it can be made, proven equal, taken down and up with data in it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from memory_plugin.core import MemoryCore
from memory_plugin.db import SCHEMA_REVISION, migrate
from memory_plugin.db.database import Database
from memory_plugin.db.schema import metadata
from memory_plugin.errors import SchemaVersionError
from tests.catalog import describe

ROOT = Path(__file__).resolve().parent.parent


async def test_models_and_migrations_make_the_same_schema(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("CREATE SCHEMA from_models")
    engine = database.engine.execution_options(
        schema_translate_map={None: "from_models"}, isolation_level="READ COMMITTED"
    )
    async with engine.begin() as sqlalchemy_connection:
        await sqlalchemy_connection.run_sync(metadata.create_all)
    async with database.raw() as connection:
        migrated = await describe(connection, "memory")
        modelled = await describe(connection, "from_models")
    assert modelled == migrated


def test_the_revision_the_library_expects_is_the_head() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    assert script.get_current_head() == SCHEMA_REVISION


async def test_every_key_starts_with_the_tenant(database: Database) -> None:
    rows = await database.fetch(
        """
        SELECT c.relname AS of, i.relname AS name, (
            SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = x.indkey[0]
        ) AS first
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class c ON c.oid = x.indrelid
        WHERE c.relnamespace = 'memory'::regnamespace AND c.relname <> 'alembic_version' AND x.indisunique
        UNION ALL
        SELECT c.relname, k.conname, (SELECT attname FROM pg_attribute WHERE attrelid = c.oid AND attnum = k.conkey[1])
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE c.relnamespace = 'memory'::regnamespace AND k.contype IN ('p', 'u', 'f') AND c.relname <> 'alembic_version'
        """
    )
    assert len(rows) > 30
    assert [dict(row) for row in rows if row["first"] != "tenant_id"] == []


async def test_downgrade_leaves_what_is_not_ours(database: Database) -> None:
    await database.execute("CREATE TABLE memory.of_somebody_else (id int)")
    await database.execute("INSERT INTO memory.of_somebody_else VALUES (1)")
    await migrate.downgrade(database, "base")
    left = await database.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'memory'::regnamespace AND relkind = 'r' ORDER BY 1"
    )
    assert [row["relname"] for row in left] == ["alembic_version", "of_somebody_else"]
    assert await database.fetchval("SELECT count(*) FROM memory.of_somebody_else") == 1


async def test_down_and_up_again_gives_a_store_that_works(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        await core.remember("before", user_id="u")
        await migrate.downgrade(core.database, "base")
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert await core.recall("before", user_id="u") == []
        await core.remember("after the second birth", user_id="u")
        assert [hit.text for hit in await core.recall("birth", user_id="u")] == ["after the second birth"]


async def test_upgrade_on_a_database_with_data_changes_nothing(database_url: str) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        await core.remember("kept", user_id="u")
        await migrate.upgrade(core.database)
        assert [hit.text for hit in await core.recall("kept", user_id="u")] == ["kept"]


async def test_many_that_open_an_empty_database_at_once_all_succeed(empty_database_url: str) -> None:
    async def open_and_write(number: int) -> None:
        async with MemoryCore.open(empty_database_url, embeddings=False) as core:
            await core.remember(f"fact {number}", user_id="u")

    await asyncio.gather(*(open_and_write(number) for number in range(4)))
    async with MemoryCore.open(empty_database_url, embeddings=False) as core:
        assert await core.database.fetchval("SELECT count(*) FROM memory.memories") == 4


def test_two_processes_that_open_an_empty_database_at_once_both_succeed(empty_database_url: str) -> None:
    program = (
        "import sys\n"
        "from memory_plugin.core import MemoryCore\n"
        "with MemoryCore.open(sys.argv[1], embeddings=False) as core:\n"
        "    print(core.remember('x' + sys.argv[2], user_id='u').status)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_database_url, str(number)], stdout=subprocess.PIPE, text=True
        )
        for number in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == ["created", "created"]


async def test_another_schema_is_another_store(database_url: str) -> None:
    async with MemoryCore.open(database_url, schema="Other_1", embeddings=False) as other:
        await other.remember("a hidden treasure", user_id="u")
        async with MemoryCore.open(database_url, embeddings=False) as core:
            assert await core.recall("treasure", user_id="u") == []
        assert len(await other.recall("treasure", user_id="u")) == 1


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [("9999", "newer than this version"), ("", "newer than this version")],
)
async def test_a_database_at_an_unknown_revision_is_refused(database_url: str, revision: str, sentence: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE memory.alembic_version SET version_num = $1", revision)
    await connection.close()
    with pytest.raises(SchemaVersionError, match=sentence):
        async with MemoryCore.open(database_url, embeddings=False):
            pass


def test_a_team_can_use_its_own_alembic_from_a_checkout(empty_database_url: str) -> None:
    environment = {**os.environ, "MEMORY_DATABASE_URL": empty_database_url}
    for arguments in (["upgrade", "head"], ["current"], ["downgrade", "base"], ["upgrade", "head"]):
        done = subprocess.run(  # noqa: PLW1510 - the code is looked at below
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        if arguments == ["current"]:
            assert SCHEMA_REVISION in done.stdout


async def test_the_printed_statements_make_the_same_schema(empty_database_url: str, database: Database) -> None:
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(migrate.upgrade_sql())
    printed = await describe(connection, "memory")
    await connection.close()
    async with database.raw() as raw:
        assert printed == await describe(raw, "memory")


async def test_a_role_that_may_not_install_pgvector_gets_one_sentence(empty_database_url: str) -> None:
    name = empty_database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute("DO $$ BEGIN CREATE ROLE plain_user LOGIN; EXCEPTION WHEN duplicate_object THEN END $$")
    await admin.execute(f"GRANT CREATE ON DATABASE {name} TO plain_user")
    await admin.close()
    from memory_plugin.errors import ExtensionMissingError
    from tests.conftest import as_user

    with pytest.raises(ExtensionMissingError, match="CREATE EXTENSION vector"):
        async with MemoryCore.open(as_user(empty_database_url, "plain_user"), embeddings=False):
            pass


async def test_the_buffer_column_says_what_it_is(database: Database) -> None:
    comment = await database.fetchval(
        "SELECT col_description('memory.conversations'::regclass, attnum) FROM pg_attribute "
        "WHERE attrelid = 'memory.conversations'::regclass AND attname = 'memory_buffer'"
    )
    assert "state of the agent" in comment


async def test_the_migration_runs_inside_one_transaction(empty_database_url: str) -> None:
    """A migration that fails half-way leaves nothing behind."""
    database = Database(empty_database_url)
    engine = database.engine.execution_options(isolation_level="READ COMMITTED", schema_translate_map={})
    with pytest.raises(RuntimeError, match="interrupted"):
        async with engine.begin() as connection:
            await connection.run_sync(
                lambda sync: __import__("alembic.command").command.upgrade(
                    migrate.alembic_config(connection=sync), "head"
                )
            )
            assert (await connection.execute(text("SELECT to_regclass('memory.messages')"))).scalar() is not None
            raise RuntimeError("interrupted")
    assert await database.fetchval("SELECT to_regnamespace('memory')") is None
    await database.close()
