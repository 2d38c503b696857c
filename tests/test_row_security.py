"""Row security: what the database itself keeps apart, whatever a statement asks for.

The tables, the views and the methods are read from the schema and from the classes: one that is
added later without its policy, or with a parameter that nobody thought of, fails here.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from memory_plugin.db import migrate
from memory_plugin.db.database import Database
from memory_plugin.db.schema import SPARSE_DIMENSIONS
from memory_plugin.db.tenancy import APP_ROLE
from memory_plugin.errors import ConfigurationError, MemoryPluginError
from memory_plugin.memory import Memory
from memory_plugin.settings import Settings
from memory_plugin.types import Retention
from tests.conftest import as_user, run_sql
from tests.counting import counted

WORD = "quokka"
"""Stands in every text of acme, and in nothing else."""

_TABLES = """
SELECT c.oid, c.relname, c.relrowsecurity, p.polname, pg_get_expr(p.polqual, p.polrelid) AS qual, p.polcmd,
       p.polroles = '{0}' AS everyone, pg_get_expr(p.polwithcheck, p.polrelid) AS checked
FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid
WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
ORDER BY c.relname
"""


async def tables(connection: asyncpg.Connection) -> list[str]:
    return [row["relname"] for row in await connection.fetch(_TABLES)]


async def test_every_table_shows_a_session_the_rows_of_its_tenant_alone(database: Database) -> None:
    async with database.raw() as connection:
        rows = await connection.fetch(_TABLES)
    assert len(rows) > 25
    assert [row["relname"] for row in rows if not row["relrowsecurity"]] == []
    policies = {(row["polname"], row["qual"], row["polcmd"], row["everyone"], row["checked"]) for row in rows}
    assert policies == {("tenant_rows", "(tenant_id = current_setting('memory.tenant'::text, true))", b"*", True, None)}


_VIEWS = """
SELECT c.relname, 'security_invoker=true' = ANY (coalesce(c.reloptions, '{}')) AS asks,
       pg_get_viewdef(c.oid) LIKE '%WHERE (tenant_id = current_setting(''memory.tenant''::text, true))%' AS compares
FROM pg_class c WHERE c.relnamespace = 'memory'::regnamespace AND c.relkind IN ('v', 'm') ORDER BY c.relname
"""


async def test_every_view_looks_with_the_rights_of_who_asks_or_compares_the_tenant(database: Database) -> None:
    rows = await database.fetch(_VIEWS)
    assert {row["relname"]: (row["asks"], row["compares"]) for row in rows} == {
        **dict.fromkeys(("conversation_messages", "conversation_tool_calls", "conversation_turns"), (True, False)),
        **dict.fromkeys(("seen_checkpoints", "seen_conversations", "seen_memories", "seen_passages"), (False, True)),
    }


async def test_every_function_with_the_rights_of_its_owner_checks_its_tenant(database: Database) -> None:
    rows = await database.fetch(
        "SELECT proname, pg_get_functiondef(oid) AS body FROM pg_proc "
        "WHERE pronamespace = 'memory'::regnamespace AND prosecdef"
    )
    assert rows
    assert [row["proname"] for row in rows if "checked_tenant(of_tenant)" not in row["body"]] == []


async def test_what_is_seen_has_the_columns_of_its_table(database: Database) -> None:
    """A view keeps the columns that there were when it was made."""
    rows = await database.fetch(
        "SELECT c.relname, array_agg((a.attname, a.atttypid)::text ORDER BY a.attname) AS columns FROM pg_class c "
        "JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped "
        "WHERE c.relnamespace = 'memory'::regnamespace GROUP BY c.relname"
    )
    columns = {row["relname"]: row["columns"] for row in rows}
    views = [name for name in columns if name.startswith("seen_")]
    assert len(views) == 4
    assert [name for name in views if columns[name] != columns[name.removeprefix("seen_")]] == []


async def test_the_role_owns_nothing_and_passes_no_policy(database: Database) -> None:
    row = await database.fetchrow(
        "SELECT rolsuper, rolbypassrls, rolcanlogin, (SELECT count(*) FROM pg_class WHERE relowner = r.oid) AS owns "
        "FROM pg_roles r WHERE rolname = $1",
        APP_ROLE,
    )
    assert row is not None
    assert tuple(row) == (False, False, False, 0)


_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL) AS kind FROM pg_attribute a
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
  AND NOT a.atthasdef AND a.attgenerated = '' AND a.attidentity = '' AND a.attname <> 'tenant_id'
"""
_VALUES = {
    "text": "'user'", "uuid": "'00000000-0000-4000-8000-000000000000'", "bigint": "1", "integer": "1", "smallint": "1",
    "real": "1", "double precision": "1", "boolean": "true", "jsonb": "'{}'", "bytea": "''", "text[]": "'{}'",
    "timestamp with time zone": "now()", "date": "now()", "tsvector": "''", "sparsevec": f"'{{}}/{SPARSE_DIMENSIONS}'", "halfvec": "'[1]'",
    "integer[]": "'{}'", "regconfig": "'simple'", "bigint[]": "'{}'", "jsonb[]": "'{}'", "uuid[]": "'{}'",
}  # fmt: skip


async def _fill(connection: asyncpg.Connection, *tenants: str) -> None:
    """One row of each tenant in every table, whatever it refers to."""
    await connection.execute("SET session_replication_role = replica")
    for table in await tables(connection):
        for check in await connection.fetch(
            "SELECT conname FROM pg_constraint WHERE conrelid = $1::regclass AND contype = 'c'", f"memory.{table}"
        ):
            await connection.execute(f'ALTER TABLE memory.{table} DROP CONSTRAINT "{check["conname"]}"')
        columns = await connection.fetch(_COLUMNS, f"memory.{table}")
        names = ", ".join(["tenant_id", *(f'"{column["attname"]}"' for column in columns)])
        values = ", ".join(["$1", *(_VALUES[column["kind"]] for column in columns)])
        for tenant in tenants:
            await connection.execute(f"INSERT INTO memory.{table} ({names}) VALUES ({values})", tenant)
    await connection.execute("SET session_replication_role = origin")


@pytest.fixture
async def filled(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A session of acme, in a database where acme and other have a row in every table each."""
    connection = await asyncpg.connect(database_url)
    await _fill(connection, "acme", "other")
    session = await asyncpg.connect(database_url, server_settings={"role": APP_ROLE, "memory.tenant": "acme"})
    yield session
    await session.close()
    for table in await tables(connection):
        count = await connection.fetchval(f"SELECT count(*) FROM memory.{table} WHERE tenant_id = 'other'")
        assert count == 1, f"a row of the other tenant in {table} is gone, or one was added"
    await connection.close()


async def test_no_table_gives_another_tenants_rows(filled: asyncpg.Connection) -> None:
    seen = {
        name: await filled.fetchval(f"SELECT array_agg(tenant_id) FROM memory.{name}") for name in await tables(filled)
    }
    assert {name: who for name, who in seen.items() if who != ["acme"]} == {}


async def test_no_table_lets_another_tenants_rows_be_changed(filled: asyncpg.Connection) -> None:
    for name in await tables(filled):
        where = f"memory.{name} WHERE tenant_id = 'other'"
        assert (
            await filled.execute(f"UPDATE memory.{name} SET tenant_id = 'acme' WHERE tenant_id = 'other'") == "UPDATE 0"
        )
        assert await filled.execute(f"DELETE FROM {where}") == "DELETE 0"


async def test_no_table_takes_a_row_for_another_tenant(filled: asyncpg.Connection) -> None:
    for name in await tables(filled):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await filled.execute(f"UPDATE memory.{name} SET tenant_id = 'other'")
        copied = '(jsonb_populate_record(r, \'{"tenant_id": "third"}\')).*'
        generated = await filled.fetchval(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = $1::regclass AND attgenerated <> ''", f"memory.{name}"
        )
        if not generated:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await filled.execute(f"INSERT INTO memory.{name} SELECT {copied} FROM memory.{name} r")


async def test_a_session_that_was_told_no_tenant_sees_nothing(filled: asyncpg.Connection, database_url: str) -> None:
    untold = await asyncpg.connect(database_url, server_settings={"role": APP_ROLE})
    await filled.execute("SET memory.tenant = ''")
    for session in (untold, filled):
        seen = {name: await session.fetchval(f"SELECT count(*) FROM memory.{name}") for name in await tables(session)}
        assert set(seen.values()) == {0}
    await untold.close()


async def test_no_view_gives_another_tenants_rows(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, tenant="acme") as acme:
        await _everything(acme)
        other = acme.for_tenant("other").database
        for row in await acme.database.fetch(_VIEWS):
            count = f"SELECT count(*) FROM memory.{row['relname']}"
            assert await other.fetchval(count) == 0
            if row["relname"].startswith("seen_"):
                assert await other.execute(f"UPDATE memory.{row['relname']} SET tenant_id = 'other'") == "UPDATE 0"
            if row["relname"] not in {"conversation_tool_calls", "seen_checkpoints"}:
                assert await acme.database.fetchval(count) > 0


async def test_a_function_of_the_owner_gives_nothing_to_another_tenant(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, tenant="acme") as acme:
        other = acme.for_tenant("other").database
        assert await acme.database.fetchval("SELECT memory.checked_tenant('acme')") == "acme"
        assert await other.fetchval("SELECT memory.checked_tenant('acme')") is None
        assert await acme.database.as_login().fetchval("SELECT memory.checked_tenant('acme')") == "acme"
    untold = await asyncpg.connect(database_url, server_settings={"role": APP_ROLE})
    assert await untold.fetchval("SELECT memory.checked_tenant('acme')") is None
    await untold.close()


# -- the library itself


async def test_a_store_works_as_the_role_and_for_its_tenant(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, tenant="it's \\ acme") as memory:
        row = await memory.database.fetchrow("SELECT current_user, current_setting('memory.tenant')")
        assert tuple(row or ()) == (APP_ROLE, "it's \\ acme")
        there = memory.for_tenant("it's \\ other").database
        assert await there.fetchval("SELECT current_setting('memory.tenant')") == "it's \\ other"


async def test_being_told_the_tenant_takes_no_round_trip(memory: Memory) -> None:
    await memory.remember("first", user_id="u")
    async with counted(memory.database) as sent:
        await memory.user_memory.get("u")
    assert len(sent) == 1


async def test_another_tenant_on_the_same_connection_takes_one_round_trip_more(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, settings=Settings(pool_size=1)) as memory:
        other = memory.for_tenant("other")
        first = await memory.database.fetchval("SELECT pg_backend_pid()")
        assert await other.database.fetchval("SELECT pg_backend_pid()") == first
        assert await memory.database.fetchval("SELECT current_setting('memory.tenant')") == "default"


async def test_tenants_get_back_the_connections_that_know_them(memory: Memory) -> None:
    """Two connections, two tenants in turns: nobody is told anything after the first time."""
    other = memory.for_tenant("other").database
    async with memory.database.raw() as mine, other.raw() as theirs:
        pids = {mine.get_server_pid(), theirs.get_server_pid()}
    taken = []
    for _turn in range(3):
        async with memory.database.raw() as mine:
            taken.append(("mine", mine.get_server_pid()))
        async with other.raw() as theirs:
            taken.append(("theirs", theirs.get_server_pid()))
    assert len(set(taken)) == 2
    assert {pid for _, pid in taken} == pids


async def test_a_transaction_holds_the_rows_of_several_tenants(memory: Memory) -> None:
    other = memory.for_tenant("other")
    async with memory.transaction():
        await memory.remember("of mine", user_id="u")
        await other.remember("of theirs", user_id="u")
        await memory.remember("of mine too", user_id="u")
    assert {hit.text for hit in await memory.recall("mine theirs", user_id="u")} == {"of mine", "of mine too"}
    assert {hit.text for hit in await other.recall("mine theirs", user_id="u")} == {"of theirs"}


async def test_a_callers_connection_that_owns_nothing_sees_the_tenants_rows(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, tenant="acme") as memory:
        connection = await asyncpg.connect(database_url, server_settings={"role": APP_ROLE})
        async with connection.transaction(), memory.transaction(connection):
            await memory.remember("through a caller", user_id="u")
        await connection.close()
        assert [hit.text for hit in await memory.recall("caller", user_id="u")] == ["through a caller"]


# -- every public method, in sessions of another tenant than its statements name

GROUPS = (
    "conversations", "memories", "references", "working_memory", "user_memory", "agent_settings", "retention",
    "erasure", "extraction", "tokens", "turns", "spaces", "languages",
)  # fmt: skip

NO_IDS = {
    "conversations.summarize", "extraction.run", "extraction.start", "spaces.build", "references.add_many",
    "references.add_documents", "references.by_document", "references.with_neighbours", "import_records",
    "retention.apply_alone",
}  # fmt: skip
"""They take a model, files or what another method answered, and name no row themselves."""


async def _everything(memory: Memory) -> dict[str, Any]:
    """Rows of every kind, and their ids by the names of the parameters that take them."""
    fact = await memory.remember(f"The {WORD} eats leaves", user_id="alice", key="k1")
    await memory.conversations.create("thread-1", user_id="alice", title=f"About the {WORD}")
    [said] = await memory.conversations.append(
        "thread-1", [{"role": "user", "content": f"a {WORD}", "id": "m1"}], user_id="alice"
    )
    share = await memory.conversations.share("thread-1")
    document = await memory.references.add(text=f"# Animals\n\nThe {WORD} is small.", source="animals.md")
    await memory.working_memory.update(f"Find the {WORD}", user_id="alice")
    await memory.user_memory.save("alice", f"Loves the {WORD}")
    await memory.agent_settings.set("animal", {"is": WORD}, scope="user", scope_id="alice")
    token = await memory.tokens.create(user_id="alice", name=WORD)
    await memory.store.aput(("acme", "shelf"), "k1", {"text": WORD})
    await memory.indexed()
    [passage] = await memory.search_references(WORD)
    assert passage.citation is not None
    return {
        "user_id": "alice", "thread_id": "thread-1", "item_id": fact.id, "key": "k1", "into": fact.id,
        "message_id": said.id, "document_id": document.id, "token_id": token.id, "namespace": ("alice",),
        "scope": "user", "scope_id": "alice", "name": "animal", "uri": passage.citation.uri, "source": "animals.md",
        "chunk_id": passage.id, "collection": "default", "query": WORD, "content": "new words", "text": "new words", "value": {"is": "new"},
        "title": "new", "ids": [fact.id],
        "conversations.hydrate:ids": [("thread-1", 1)], "folders": "/", "version": 1, "secret": "mpt_YWNtZQ.0.0", "share_id": share.id,
        "messages": [{"role": "user", "content": "new"}], "other": "thread-2", "buffer": {"a": 1}, "values": {"a": 1},
        "containment": {}, "policy": Retention(keep_last=1), "proposal_id": fact.id, "when": fact.created_at,
        "before": 1, "after": 1, "to_version": 1, "turn": 1, "outcome": "good", "facts": ["new words"], "languages": "simple", "mentions": WORD,
    }  # fmt: skip


def _methods(memory: Memory) -> list[tuple[str, Callable[..., Any]]]:
    """Every public method of the store and of its groups that talks to the database."""
    found = []
    for prefix, group in {"": memory, **{name: getattr(memory, name) for name in GROUPS}}.items():
        for name, _ in inspect.getmembers(type(group), inspect.isfunction):
            method = getattr(group, name)
            if not name.startswith("_") and (inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)):
                found.append((f"{prefix}.{name}".lstrip("."), method))
    return found


def _arguments(name: str, method: Callable[..., Any], given: dict[str, Any], *, every: bool) -> dict[str, Any]:
    parameters = inspect.signature(method).parameters.values()
    given = {**given, **{key.partition(":")[2]: value for key, value in given.items() if key.startswith(f"{name}:")}}
    missing = [each.name for each in parameters if each.default is each.empty and each.name not in given]
    assert not missing, f"say in this file what {name} is given for {missing}"
    wanted = ("user_id", "thread_id", "item_id", "document_id", "source", "scope", "scope_id", "namespace")
    return {
        each.name: given[each.name]
        for each in parameters
        if each.default is each.empty or (every and each.name in wanted and each.name in given)
    }


async def _answer(method: Callable[..., Any], arguments: dict[str, Any]) -> str:
    try:
        if inspect.isasyncgenfunction(method):
            return repr([record async for record in method(**arguments)])
        return repr(await method(**arguments))
    except (MemoryPluginError, ValueError) as error:
        return str(error)


async def _rows(memory: Memory) -> dict[str, int]:
    names = [row["relname"] for row in await memory.database.fetch(_TABLES)]
    counts = {}
    for name in names:
        statement = (
            f"SELECT coalesce(sum(hashtextextended(r::text, 0)), 0) FROM memory.{name} r WHERE tenant_id = 'acme'"
        )
        counts[name] = await memory.database.as_login().fetchval(statement)
    return counts


async def test_no_method_reaches_another_tenants_rows_whatever_its_statements_ask_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if somebody had forgotten the tenant in every statement: the sessions are those of another one."""
    async with (
        Memory.open(database_url, embeddings=False, tenant="acme") as acme,
        Memory.open(database_url, embeddings=False, tenant="other") as other,
    ):
        given = await _everything(acme)
        before = await _rows(acme)
        monkeypatch.setattr(Database, "for_tenant", lambda self, _tenant: self)
        monkeypatch.setattr(Memory, "kick", lambda _self: None)
        crossed = other.for_tenant("acme")
        assert (crossed.tenant, crossed.database.tenant) == ("acme", "other")
        tried = 0
        for name, method in _methods(crossed):
            for every in (True, False):
                if name not in NO_IDS:
                    arguments = _arguments(name, method, given, every=every)
                    answer = await _answer(method, arguments)
                    assert WORD not in answer.replace(repr(arguments.get("query")), ""), (name, answer)
                    tried += 1
        config = {"configurable": {"thread_id": "thread-1", "checkpoint_ns": ""}}
        assert await crossed.checkpointer.aget_tuple(config) is None
        assert await crossed.store.aget(("acme", "shelf"), "k1") is None
        assert tried > 150
        await other._indexer.stop()
        assert await _rows(acme) == before


async def test_the_same_methods_find_the_rows_in_sessions_of_their_tenant(database_url: str) -> None:
    """What was tried above would have shown something."""
    async with Memory.open(database_url, embeddings=False, tenant="acme") as acme:
        given = await _everything(acme)
        shown = set()
        for name, method in _methods(acme):
            reads = name.rpartition(".")[2] in {
                "get",
                "list",
                "messages",
                "recall",
                "search",
                "history",
                "shared",
                "chunk",
            }
            if reads and WORD in await _answer(method, _arguments(name, method, given, every=False)):
                shown.add(name)
        assert shown >= {"recall", "conversations.messages", "references.search", "user_memory.get", "tokens.list"}


# -- logins that may not become the role


def _login(url: str, name: str, *rights: str) -> str:
    run_sql(url, f"CREATE ROLE {name} LOGIN", *rights)
    return as_user(url, name)


@pytest.fixture
def plain_login(database_url: str) -> Any:
    """A login that may use the tables, and is no member of the role."""
    name = f"plain_{os.getpid()}"
    yield _login(
        database_url,
        name,
        f"GRANT USAGE ON SCHEMA memory TO {name}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA memory TO {name}",
    )
    run_sql(database_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


async def test_a_login_that_owns_nothing_is_bound_by_the_policies_itself(plain_login: str) -> None:
    async with Memory.open(plain_login, embeddings=False, settings=Settings(row_security="required")) as memory:
        await memory.remember("mine", user_id="u")
        assert [hit.text for hit in await memory.recall("mine", user_id="u")] == ["mine"]
        assert await memory.for_tenant("other").database.fetchval("SELECT count(*) FROM memory.memories") == 0


@pytest.fixture
def owning_login(empty_database_url: str) -> Any:
    """A login that owns the database, and may neither make roles nor become ours."""
    name = f"owning_{os.getpid()}"
    database = empty_database_url.split("?", maxsplit=1)[0].rsplit("/", 1)[1]
    url = _login(
        empty_database_url,
        name,
        "CREATE EXTENSION vector",
        f"ALTER DATABASE {database} OWNER TO {name}",
    )
    yield url
    run_sql(
        empty_database_url, f"ALTER DATABASE {database} OWNER TO postgres", f"DROP OWNED BY {name}", f"DROP ROLE {name}"
    )


async def test_an_owner_without_the_role_is_warned_and_works(
    owning_login: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "memory_plugin"):
        async with Memory.open(owning_login, embeddings=False) as memory:
            await memory.remember("mine", user_id="u")
            assert [hit.text for hit in await memory.recall("mine", user_id="u")] == ["mine"]
    assert "Row security does not hold" in caplog.text


async def test_an_owner_without_the_role_is_refused_where_row_security_is_required(owning_login: str) -> None:
    with pytest.raises(ConfigurationError, match="GRANT memory_app TO"):
        async with Memory.open(owning_login, embeddings=False, settings=Settings(row_security="required")):
            pass


async def test_the_role_given_later_is_taken(owning_login: str, empty_database_url: str) -> None:
    async with Memory.open(owning_login, embeddings=False) as memory:
        await memory.remember("mine", user_id="u")
        name = f"owning_{os.getpid()}"
        taken = f"REVOKE ALL ON ALL TABLES IN SCHEMA memory FROM {APP_ROLE}"
        await asyncio.to_thread(run_sql, owning_login, taken, f"REVOKE USAGE ON SCHEMA memory FROM {APP_ROLE}")
        with pytest.raises(ConfigurationError, match="may not make the role"):
            await migrate.secure(memory.database)
        await asyncio.to_thread(run_sql, empty_database_url, f"GRANT {APP_ROLE} TO {name}")
        assert await migrate.secure(memory.database)
        assert not await migrate.secure(memory.database)
    async with Memory.open(owning_login, embeddings=False, settings=Settings(row_security="required")) as memory:
        assert await memory.database.fetchval("SELECT current_user") == APP_ROLE
        assert [hit.text for hit in await memory.recall("mine", user_id="u")] == ["mine"]


async def test_row_security_can_be_left_out(database_url: str) -> None:
    async with Memory.open(database_url, embeddings=False, settings=Settings(row_security="off")) as memory:
        assert await memory.database.fetchval("SELECT current_user") == "postgres"
        await memory.remember("mine", user_id="u")
        assert [hit.text for hit in await memory.recall("mine", user_id="u")] == ["mine"]
