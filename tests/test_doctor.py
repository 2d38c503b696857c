"""The doctor: each thing that can be wrong with a store is found, and what it says to do puts it right."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from memory_plugin.core import MemoryCore
from memory_plugin.doctor import Check, diagnose, retention, tables
from memory_plugin.doctor.findings import Diagnosis
from memory_plugin.settings import Settings
from tests.conftest import as_user, run_sql

Examine = Callable[..., Awaitable[list[Check]]]


@pytest.fixture
def examine(database_url: str) -> Examine:
    """All that was found under one name."""

    async def run(name: str, url: str = database_url, **changes: Any) -> list[Check]:
        settings = Settings(database_url=SecretStr(url), embeddings="none").model_copy(update=changes)
        return [check for check in (await diagnose(settings)).checks if check.name == name]

    return run


def remedy(check: Check, pattern: str) -> str:
    """The statement that the advice says to run."""
    assert check.advice is not None
    found = re.search(pattern, check.advice)
    assert found is not None, check.advice
    return found[0]


async def sql(url: str, *statements: str) -> None:
    await asyncio.to_thread(run_sql, url, *statements)


async def test_a_whole_store_needs_no_care(examine: Examine) -> None:
    for name in ("version", "PostgreSQL", "pgvector", "schema", "index", "indexes", "tables", "retention", "roles"):
        (check,) = await examine(name)
        assert (check.status, check.advice) == ("ok", None), check


async def test_an_index_that_is_gone_is_made_again_by_the_statement_it_says(
    examine: Examine, database_url: str
) -> None:
    await sql(database_url, "DROP INDEX memory.conversations_memory_buffer_idx")
    (check,) = await examine("indexes")
    assert check.status == "warning"
    assert "conversations_memory_buffer_idx" in check.detail
    await sql(database_url, remedy(check, "CREATE .*;"))
    (check,) = await examine("indexes")
    assert check.status == "ok"


async def test_an_index_that_was_not_finished_is_found(examine: Examine, database_url: str) -> None:
    broken = (
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'memory.conversations_memory_buffer_idx'::regclass"
    )
    await sql(database_url, broken)
    (check,) = await examine("indexes")
    assert check.status == "warning"
    await sql(database_url, remedy(check, "REINDEX .*;"))
    (check,) = await examine("indexes")
    assert check.status == "ok"


async def test_a_bloated_table_is_found(examine: Examine, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "DEAD_FROM", 30)
    connection = await asyncpg.connect(database_url)
    await connection.execute("ALTER TABLE memory.working_memory SET (autovacuum_enabled = false)")
    await connection.execute(
        "INSERT INTO memory.working_memory (tenant_id, scope, scope_id, version, content) "
        "SELECT 'default', 'user', 'alice', number, 'x' FROM generate_series(1, 50) AS number"
    )
    await connection.execute("DELETE FROM memory.working_memory WHERE version > 5")
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.close()
    (check,) = await examine("tables")
    assert check.status == "warning"
    assert "working_memory is bloated: 45 dead rows beside 5" in check.detail
    statement = remedy(check, r"VACUUM [^;]*;")
    connection = await asyncpg.connect(database_url)
    await connection.execute(statement)
    await connection.execute("SELECT pg_stat_force_next_flush()")
    await connection.close()
    (check,) = await examine("tables")
    assert check.status == "ok"


async def test_a_transaction_that_was_left_open_is_found(
    examine: Examine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "IDLE_FROM", 1)
    forgotten, gone = await asyncpg.connect(database_url), asyncio.Event()
    forgotten.add_termination_listener(lambda _: gone.set())
    await forgotten.execute("BEGIN")
    await forgotten.execute("SELECT 1")
    await asyncio.sleep(1.6)  # half seconds are rounded
    (check,) = await examine("tables")
    await sql(database_url, remedy(check, r"SELECT pg_terminate_backend\(\d+\)"))
    await asyncio.wait_for(gone.wait(), 20)  # the signal is answered when the backend comes to it
    (check,) = await examine("tables")
    assert check.status == "ok"


@pytest.mark.parametrize(
    ("server", "status", "word"),
    [
        ({"autovacuum": False}, "warning", "autovacuum is off"),
        ({"counted": False}, "warning", "autovacuum is off"),
        ({"age": 1_900_000_000}, "error", "stops writing"),
        ({}, None, ""),
    ],
)
def test_a_server_that_does_not_clean_up_is_found(server: Any, status: str | None, word: str) -> None:
    found = Diagnosis()
    usual = {"autovacuum": True, "counted": True, "age": 1000, "idle": 0, "pid": None}
    tables._check_cleaner(found, usual | server)  # type: ignore[arg-type]
    assert [check.status for check in found.checks] == ([status] if status else [])
    assert all(word in check.detail for check in found.checks)


async def test_what_retention_would_remove_and_nobody_does_is_found(
    examine: Examine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MemoryCore.open(database_url, embeddings=False) as core:
        await core.conversations.append("old", ["once upon a time"])
    await sql(database_url, "UPDATE memory.conversations SET updated_at = now() - interval '1 year'")
    policy = {"retention_expire_after": timedelta(days=90)}
    (check,) = await examine("retention", **policy)
    assert check.status == "warning"
    assert "due are 1 threads to go" in check.detail
    assert "memory-plugin prune" in (check.advice or "")
    (check,) = await examine("retention", **policy, retention_every=timedelta(hours=1))
    assert (check.status, "an open store applies it" in check.detail) == ("ok", True)
    (check,) = await examine("retention")
    assert (check.status, "everything is kept" in check.detail) == ("ok", True)
    monkeypatch.setattr(retention, "MOST_THREADS", 0)
    (check,) = await examine("retention", **policy)
    assert (check.status, "too many threads" in check.detail) == ("ok", True)
    async with MemoryCore.open(database_url, embeddings=False) as core:
        assert (await core.conversations.get("old")).message_count == 1, "it was only looked at"


async def test_a_role_that_lacks_rights_is_told_which(examine: Examine, database_url: str, worker_id: str) -> None:
    role = f"doctor_{worker_id}"
    await sql(
        database_url,
        f"DROP ROLE IF EXISTS {role}",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT USAGE ON SCHEMA memory TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA memory TO {role}",
        f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA memory TO {role}",
        f"REVOKE UPDATE, DELETE ON memory.messages FROM {role}",
    )
    try:
        url = as_user(database_url, role)
        (check,) = await examine("roles", url)
        assert check.status == "error"
        assert "may not DELETE, UPDATE in 1 of" in check.detail
        await sql(database_url, remedy(check, "GRANT .*;"))
        (check,) = await examine("roles", url)
        assert check.status == "ok"
        assert f"{role} may read and write all" in check.detail
    finally:
        await sql(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_the_role_that_a_store_works_as_is_looked_at(examine: Examine) -> None:
    (check,) = await examine("roles")
    assert check.detail.startswith("memory_app may read and write all")
    assert "under row-level security" in check.detail


async def test_row_security_that_does_not_hold_is_told(examine: Examine) -> None:
    (check,) = await examine("roles", row_security="off")
    assert (check.status, check.advice) == (
        "warning",
        "Unset MEMORY_ROW_SECURITY, or connect as a role that owns nothing and may not bypass it.",
    )


async def test_a_table_without_a_policy_is_told(examine: Examine, database_url: str) -> None:
    await sql(database_url, "DROP POLICY tenant_rows ON memory.feedback")
    (check,) = await examine("roles")
    assert check.status == "error"
    assert "no policy, for feedback" in check.detail
