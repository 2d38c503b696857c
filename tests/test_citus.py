"""The script that spreads a store over Citus, run on the real schema with Citus' functions noting what they are told."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import pytest
from typer.testing import CliRunner

from memory_plugin.cli import app
from memory_plugin.db.citus import citus_sql

# what Citus' own functions refuse, as far as the catalog says it
CITUS = """
CREATE TABLE public.told (place serial, what text, of_name text, by_column text, beside text);
CREATE FUNCTION public.create_distributed_table(t regclass, c text, colocate_with text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_index WHERE indrelid = t AND indisunique AND NOT (
        SELECT attnum FROM pg_attribute WHERE attrelid = t AND attname = c) = ANY (indkey::int2[])) THEN
        RAISE 'a unique index of % leaves out %', t, c;
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = t AND contype = 'f' AND confrelid::regclass::text NOT IN (
        SELECT of_name FROM public.told WHERE what = 'table')) THEN
        RAISE '% comes before a table that it refers to', t;
    END IF;
    IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = t AND contype = 'f' AND confdeltype IN ('n', 'd')) THEN
        RAISE 'a foreign key of % would change the tenant', t;
    END IF;
    INSERT INTO public.told (what, of_name, by_column, beside) VALUES ('table', t::text, c, colocate_with);
END $$;
CREATE FUNCTION public.create_reference_table(t regclass) RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.told (what, of_name) VALUES ('reference', t::text) $$;
CREATE FUNCTION public.create_distributed_function(f regprocedure, a text DEFAULT NULL, colocate_with text DEFAULT NULL)
RETURNS void LANGUAGE sql AS
$$ INSERT INTO public.told (what, of_name, by_column, beside) VALUES ('function', f::text, a, colocate_with) $$;
"""


@pytest.fixture
async def told(database_url: str) -> Any:
    """What the script told Citus, by kind, in order; and a connection to look at what is left."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(CITUS)
    await connection.execute(citus_sql())
    rows = await connection.fetch("SELECT * FROM public.told ORDER BY place")
    yield connection, rows
    await connection.close()


async def test_every_table_is_distributed_by_tenant_in_an_order_that_foreign_keys_allow(told: Any) -> None:
    connection, rows = told
    tables = [row["of_name"] for row in rows if row["what"] in {"table", "reference"}]
    there = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relnamespace = 'memory'::regnamespace AND relkind = 'r'"
    )
    assert sorted(tables) == sorted(row["name"] for row in there)
    assert [row["of_name"] for row in rows if row["what"] == "reference"] == ["memory.alembic_version"]
    distributed = [row for row in rows if row["what"] == "table"]
    assert {row["by_column"] for row in distributed} == {"tenant_id"}
    assert [row["beside"].replace('"', "") for row in distributed] == [
        "none", *["memory.conversations"] * (len(distributed) - 1)
    ]  # fmt: skip


async def test_every_function_is_told_and_those_of_a_tenant_go_to_its_rows(told: Any) -> None:
    connection, rows = told
    functions = {row["of_name"]: row["by_column"] for row in rows if row["what"] == "function"}
    there = await connection.fetch(
        "SELECT oid::regprocedure::text AS name, prosrc ~ '\\mtenant_id\\M' AS reads_rows FROM pg_proc"
        " WHERE pronamespace = 'memory'::regnamespace AND prorettype <> 'trigger'::regtype"
    )
    assert functions.keys() == {row["name"] for row in there}
    assert {name for name, by in functions.items() if by} >= {row["name"] for row in there if row["reads_rows"]}
    assert functions["memory.put_checkpoints(text,jsonb,text[],bytea)"] == "of_tenant"


async def test_only_triggers_that_work_on_a_shard_stay(told: Any) -> None:
    """A function that a trigger of a shard calls must not go by the table's name, nor notify."""
    connection, _ = told
    left = await connection.fetch(
        "SELECT proname, prosrc FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid WHERE NOT tgisinternal"
    )
    assert [row["proname"] for row in left] == ["conversation_hides"]
    assert not any(re.search(r"tg_table_name|pg_notify", row["prosrc"]) for row in left)


def test_the_command_prints_it_for_any_schema() -> None:
    printed = CliRunner().invoke(app, ["--schema", "Other_1", "migrate", "sql", "--citus"])
    assert printed.exit_code == 0, printed.output
    assert (
        "create_distributed_table('\"Other_1\".messages', 'tenant_id', colocate_with => '\"Other_1\".conversations')"
        in printed.output
    )
