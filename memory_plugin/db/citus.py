"""The statements that spread a store over a Citus cluster, by tenant.

Every key starts with the tenant, every statement asks for one tenant, and so everything that an operation
touches lies on one node. They are for the coordinator, after `migrate up`; a table with rows is moved with them.
"""

from __future__ import annotations

from memory_plugin.db.database import quote_schema
from memory_plugin.db.migrate import VERSION_TABLE

__all__ = ["citus_sql"]

_HEAD = """\
-- Spreads the store in {s} over a Citus cluster (12 or newer), by tenant. Run it once, on the coordinator,
-- as the owner of the tables, after `memory-plugin migrate up`, while nothing else writes:
--     psql --single-transaction -v ON_ERROR_STOP=1 -f citus.sql
-- Every node needs the extensions first: CREATE EXTENSION citus; CREATE EXTENSION vector;

-- Triggers run on the shards, where the table has another name and a notification stays on its node. Those
-- that tell of changes are of no use there: who listens for changes must ask instead.
-- The one that corrects the statistics of words after a deletion reads rows that Citus cannot hand on: the
-- rarity of words lags behind deletions.
DO $do$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT tgname, tgrelid::regclass AS of_table FROM pg_trigger
        WHERE NOT tgisinternal AND tgfoid IN (SELECT oid FROM pg_proc WHERE pronamespace = {text}::regnamespace
            AND proname IN ('tell_listeners', 'passages_gone')) LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', one.tgname, one.of_table);
    END LOOP;
END $do$;

-- The triggers that stay write rows of the same tenant, which lie on the same node.
SET citus.enable_unsafe_triggers TO on;
"""

_NESTED = """
-- They do so from within a statement on a shard, which Citus refuses unless it is told that this is meant.
-- ALTER SYSTEM runs outside of transactions: run these two afterwards, by themselves.
-- SELECT * FROM run_command_on_all_nodes('ALTER SYSTEM SET citus.allow_nested_distributed_execution TO on');
-- SELECT * FROM run_command_on_all_nodes('SELECT pg_reload_conf()');

-- Functions that work for a tenant run where its rows are; the others are wherever they are needed.
SELECT create_distributed_function(oid::regprocedure, proargnames[1], colocate_with => {first})
FROM pg_proc WHERE pronamespace = {text}::regnamespace AND proargnames[1] = 'of_tenant'
  AND prorettype <> 'trigger'::regtype AND provolatile <> 'i' AND proname <> 'checked_tenant';
SELECT create_distributed_function(oid::regprocedure)
FROM pg_proc WHERE pronamespace = {text}::regnamespace
  AND (proargnames[1] IS DISTINCT FROM 'of_tenant' OR provolatile = 'i' OR proname = 'checked_tenant')
  AND prorettype <> 'trigger'::regtype;
"""


def citus_sql(*, schema: str = "memory") -> str:
    """The script for `psql`; needs no database.

    Raises:
        ConfigurationError: no schema can have that name.
    """
    from memory_plugin.db.schema import metadata

    quoted = quote_schema(schema)
    names = [table.name for table in metadata.sorted_tables]  # a table comes after those that it refers to
    names.insert(0, names.pop(names.index("conversations")))
    first, *others = (_literal(f"{quoted}.{name}") for name in names)
    lines = [
        "",
        "-- A table comes after those that its foreign keys name; all lie by the same tenants.",
        f"SELECT create_distributed_table({first}, 'tenant_id', colocate_with => 'none');",
        *(f"SELECT create_distributed_table({name}, 'tenant_id', colocate_with => {first});" for name in others),
        "",
        "-- The revision of the schema is read wherever the store is opened.",
        f"SELECT create_reference_table({_literal(f'{quoted}.{VERSION_TABLE}')});",
        "",
    ]
    parts = {"{s}": quoted, "{text}": _literal(quoted), "{first}": first}
    return _filled(_HEAD, parts) + "\n".join(lines) + _filled(_NESTED, parts)


def _filled(text: str, parts: dict[str, str]) -> str:
    for name, part in parts.items():
        text = text.replace(name, part)
    return text


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
