"""Backups: written, read back, damaged, refused and restored, on real servers by PostgreSQL's own programs."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from memory_plugin import errors
from memory_plugin.backup import check_backup, read_manifest, restore_backup, write_backup
from memory_plugin.backup.manifest import DUMP, MANIFEST, Manifest
from memory_plugin.backup.programs import connection_of, program_for
from memory_plugin.backup.writing import RowCounter
from memory_plugin.cli import app
from memory_plugin.core import MemoryCore
from memory_plugin.db import SCHEMA_REVISION
from memory_plugin.db.database import Database
from tests.catalog import describe
from tests.conftest import as_user, run_sql, with_database

try:
    program_for("pg_dump", 18)
except errors.UnsupportedError as reason:
    pytest.skip(f"no pg_dump that is as new as the server: {reason}", allow_module_level=True)


async def fill(url: str, fact: str = "The kiln was bought in 2019") -> None:
    async with MemoryCore.open(url, embeddings=False) as core:
        await core.remember(fact, user_id="alice")
        await core.conversations.append(
            "t-1", [{"role": "user", "content": "line\none\\.\n\\.\n\ttab"}], user_id="alice"
        )
        await core.working_memory.update("notes", user_id="alice")
        await core.indexed(5)


async def known(url: str) -> list[str]:
    async with MemoryCore.open(url, embeddings=False) as core:
        return [hit.text for hit in await core.recall("kiln", user_id="alice", kinds=("memory",))]


@pytest.fixture(scope="module")
def written(server_url: str, template: str, worker_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of a store with something in it; for all tests of this file."""
    name, path = f"backed_up_{worker_id}", tmp_path_factory.mktemp("backup") / "store.backup"
    url = with_database(server_url, name)
    run_sql(server_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")

    async def write() -> None:
        await fill(url)
        database = Database(url)
        await write_backup(database, path)
        await database.close()

    asyncio.run(write())
    run_sql(server_url, f"DROP DATABASE {name}")
    return path


@pytest.fixture
def backup(written: Path, tmp_path: Path) -> Path:
    """A backup of the test's own."""
    return Path(shutil.copy(written, tmp_path / "store.backup"))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def rewritten(path: Path, change: Callable[[Manifest], Manifest]) -> Path:
    """The same backup with another manifest."""
    other = path.with_name("rewritten.backup")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(other, "w") as new:
        new.writestr(DUMP, old.read(DUMP))
        new.writestr(MANIFEST, change(read_manifest(path)).text())
    return other


async def test_a_store_comes_back_with_every_row_and_every_object(
    database: Database, database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    await fill(database_url)
    backup = tmp_path / "store.backup"
    await write_backup(database, backup)
    assert mode_of(backup) == 0o600
    manifest = await check_backup(backup)
    assert manifest.revision == SCHEMA_REVISION
    assert manifest.tables["memories"] == 1
    assert manifest.tables["messages"] == 1
    other = Database(empty_database_url)
    await restore_backup(other, backup)
    async with database.raw() as here, other.raw() as there:
        assert await describe(there, "memory") == await describe(here, "memory")
        for table in manifest.tables:
            statement = f"SELECT row_to_json(t)::text FROM memory.{table} t ORDER BY 1"
            assert await there.fetch(statement) == await here.fetch(statement)
    await other.close()
    assert await known(empty_database_url) == ["The kiln was bought in 2019"]


async def test_a_store_that_is_there_is_replaced_by_force_alone(backup: Path, empty_database_url: str) -> None:
    await fill(empty_database_url, "The kiln is another one")
    database = Database(empty_database_url)
    with pytest.raises(errors.ConflictError, match="--force"):
        await restore_backup(database, backup)
    assert await known(empty_database_url) == ["The kiln is another one"]
    await restore_backup(database, backup, force=True)
    assert await database.fetchval("SELECT to_regnamespace('memory_before_restore')") is None
    await database.close()
    assert await known(empty_database_url) == ["The kiln was bought in 2019"]


async def test_what_fails_in_the_middle_leaves_the_store_that_was_there(backup: Path, empty_database_url: str) -> None:
    """The database refuses a trigger, after all rows are in."""
    await fill(empty_database_url, "The kiln is another one")
    database = Database(empty_database_url)
    changed = rewritten(backup, lambda manifest: replace(manifest, roles=("nobody_\N{SNOWMAN}",)))
    await database.execute(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not today'; END$$"
    )
    await database.execute(
        "CREATE EVENT TRIGGER refuse ON ddl_command_start WHEN tag IN ('CREATE TRIGGER') EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(errors.DatabaseError, match="not today"):
        await restore_backup(database, changed, force=True)
    await database.execute("DROP EVENT TRIGGER refuse")
    await database.execute('DROP ROLE "nobody_\N{SNOWMAN}"')
    await database.close()
    assert await known(empty_database_url) == ["The kiln is another one"]


async def test_roles_that_rights_name_are_made_again(
    database_url: str, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    await fill(database_url)
    await database.execute('CREATE ROLE "Reader of backups"')
    await database.execute('GRANT USAGE ON SCHEMA memory TO "Reader of backups"')
    await database.execute('CREATE POLICY mine ON memory.memories TO "Reader of backups" USING (true)')
    await write_backup(database, tmp_path / "b")
    await database.execute('DROP OWNED BY "Reader of backups"')
    await database.execute('DROP ROLE "Reader of backups"')
    other = Database(empty_database_url)
    await restore_backup(other, tmp_path / "b")
    assert await other.fetchval("SELECT has_schema_privilege('Reader of backups', 'memory', 'USAGE')")
    await other.execute('DROP OWNED BY "Reader of backups"')
    await other.execute('DROP ROLE "Reader of backups"')
    await other.close()


@pytest.mark.parametrize(
    ("change", "kind", "sentence"),
    [
        (lambda m: replace(m, revision="9999"), errors.SchemaVersionError, "does not know"),
        (lambda m: replace(m, schema="other"), errors.ConfigurationError, "--schema other"),
        (lambda m: replace(m, tables={**m.tables, "memories": 7}), errors.InvalidInputError, "not whole"),
        (lambda m: replace(m, server=19), errors.UnsupportedError, "same version or a newer one"),
        (lambda m: replace(m, program=99), errors.UnsupportedError, "pg_restore 99"),
        (lambda m: replace(m, schema='x"; DROP SCHEMA memory; --'), errors.ConfigurationError, "backup of the schema"),
        (lambda m: replace(m, roles=("a\nb",)), errors.InvalidInputError, "no backup"),
    ],
)
async def test_a_backup_that_does_not_fit_is_refused_before_anything_happens(
    backup: Path, empty_database_url: str, change: Callable[[Manifest], Manifest], kind: type[Exception], sentence: str
) -> None:
    database = Database(empty_database_url)
    with pytest.raises(kind, match=sentence):
        await restore_backup(database, rewritten(backup, change))
    assert await database.fetchval("SELECT to_regnamespace('memory')") is None
    await database.close()


async def test_a_damaged_file_is_found_out(backup: Path, tmp_path: Path) -> None:
    whole = await asyncio.to_thread(backup.read_bytes)
    middle = len(whole) // 2
    for number, damaged in enumerate((whole[:-100], whole[:middle], b"", b"PK\x05\x06" + b"\0" * 18, b"text" * 99)):
        (tmp_path / f"{number}").write_bytes(damaged)
        with pytest.raises(errors.InvalidInputError):
            await check_backup(tmp_path / f"{number}")
    (tmp_path / "flipped").write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    with pytest.raises(errors.InvalidInputError, match="damaged"):
        await check_backup(tmp_path / "flipped")
    with pytest.raises(errors.NotFoundError):
        await check_backup(tmp_path / "missing")


async def test_a_backup_is_of_one_moment_while_others_write(database_url: str, tmp_path: Path) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        done = asyncio.Event()

        async def write() -> None:
            number = 0
            while not done.is_set():
                await core.remember(f"fact {number}", user_id="u")
                number += 1

        writer = asyncio.create_task(write())
        try:
            await write_backup(core.database, tmp_path / "b")  # reads it back, and counts
        finally:
            done.set()
            await writer


async def test_a_file_that_is_there_stays_and_nothing_is_left_of_a_failure(
    backup: Path, database: Database, empty_database_url: str
) -> None:
    with pytest.raises(errors.ConflictError, match="--force"):
        await write_backup(database, backup)
    empty = Database(empty_database_url)
    with pytest.raises(errors.NotFoundError):
        await write_backup(empty, backup, force=True)
    await empty.close()
    assert [each.name for each in backup.parent.glob("*backup*")] == [backup.name]
    await check_backup(backup)


def test_the_commands_say_what_they_did(database_url: str, empty_database_url: str, tmp_path: Path) -> None:
    asyncio.run(fill(database_url))
    file = str(tmp_path / "b")

    def run(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(app, ["--json", *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        loaded: dict[str, object] = json.loads(result.stdout)
        return loaded

    written = run("--url", database_url, "backup", file)
    assert run("restore", file, "--check") == written
    assert run("--url", empty_database_url, "restore", file) == written
    assert asyncio.run(known(empty_database_url)) == ["The kiln was bought in 2019"]
    again = CliRunner().invoke(app, ["--url", empty_database_url, "restore", file])
    assert again.exit_code == 1
    assert "--force" in again.stderr


def test_a_plain_dump_by_hand_goes_into_an_empty_database(
    database_url: str, empty_database_url: str, tmp_path: Path
) -> None:
    asyncio.run(fill(database_url))
    dump = str(tmp_path / "memory.dump")
    for program, *arguments in (
        ("pg_dump", "--format=custom", f"--file={dump}", connection_of(database_url)[0]),
        ("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={connection_of(empty_database_url)[0]}", dump),
    ):
        subprocess.run([program_for(program, 18)[0], *arguments], check=True, timeout=60)
    assert asyncio.run(known(empty_database_url)) == ["The kiln was bought in 2019"]


@pytest.mark.parametrize("version", ["17", "19"])
def test_a_directory_of_another_major_version_names_the_two_commands(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The data lies in a directory whose PG_VERSION is not that of the installed server."""
    (tmp_path / "PG_VERSION").write_text(f"{version}\n")
    monkeypatch.setenv("MEMORY_DATA_DIR", str(tmp_path))
    expected = rf"by PostgreSQL {version}.*memory-plugin backup FILE.*--data-dir NEW_DIRECTORY restore FILE"
    with pytest.raises(errors.EmbeddedDatabaseError, match=expected), MemoryCore.open(embeddings=False):
        pass
    said = CliRunner().invoke(app, ["backup", str(tmp_path / "b")])
    assert said.exit_code == 1
    assert "NEW_DIRECTORY restore FILE" in said.stderr
    assert sorted(each.name for each in tmp_path.iterdir()) == ["PG_VERSION"]


def test_passwords_stay_off_the_command_line() -> None:
    url, variables = connection_of("postgresql://me:s%3Acret@[::1]:5433/agents?sslmode=require&jit=off&host=/run")
    assert url == "postgresql://me@[::1]:5433/agents?sslmode=require&host=/run"
    assert variables == {"PGPASSWORD": "s:cret"}
    assert connection_of("postgresql:///d?password=x&user=u") == ("postgresql:///d?user=u", {"PGPASSWORD": "x"})


@given(st.data(), st.lists(st.lists(st.binary(max_size=30), max_size=5), max_size=4))
def test_rows_are_counted_however_the_text_is_cut(data: st.DataObject, tables: list[list[bytes]]) -> None:
    text = b"SET x = 1;\nCOPYING\n"
    for number, rows in enumerate(tables):
        name = b'"Memory_1"."t%d"' % number if number % 2 else b"memory.t%d" % number
        text += b"COPY %s (a, b) FROM stdin;\n" % name
        text += b"".join(b"=" + row.replace(b"\n", b"\\n") + b"\n" for row in rows) + b"\\.\n\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    counter = RowCounter()
    for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
        counter.take(text[start:end])
    assert dict(counter.rows) == {f"t{number}": len(rows) for number, rows in enumerate(tables)}


async def test_a_role_that_does_not_see_every_row_writes_no_backup(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    """Row-level security would leave rows out without a word; here it is an error."""
    await fill(database_url)
    await database.execute("CREATE ROLE half_blind LOGIN")
    try:
        await database.execute("GRANT USAGE ON SCHEMA memory TO half_blind")
        await database.execute("GRANT SELECT ON ALL TABLES IN SCHEMA memory TO half_blind")
        await database.execute("ALTER TABLE memory.memories ENABLE ROW LEVEL SECURITY")
        blind = Database(as_user(database_url, "half_blind"))
        with pytest.raises(errors.DatabaseError, match="row-level security|all rows"):
            await write_backup(blind, tmp_path / "b")
        await blind.close()
        assert names_in(tmp_path) == []
    finally:
        await database.execute("DROP OWNED BY half_blind")
        await database.execute("DROP ROLE half_blind")
