"""The tables: whether the server keeps them tidy, and what keeps it from doing so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis, in_bytes

if TYPE_CHECKING:
    from memory_plugin.db.database import Database, Record

DEAD_FROM = 10_000
"""Dead rows of a table below which nobody need care."""

DEAD_SHARE = 0.3
"""Share of dead rows from which on a table is bloated; autovacuum begins at 0.2 of the living."""

CHANGED_FROM = 50_000
"""Rows that may change before a table has statistics: without them the planner guesses."""

IDLE_FROM = 600
"""Seconds for which a transaction may sit idle: what it could still see is not cleaned up."""

FROZEN_BEFORE = 1_500_000_000
"""Transactions since the oldest row was frozen; the server stops at two billion."""

_TABLES = """
SELECT relname AS name, n_live_tup AS live, n_dead_tup AS dead, n_mod_since_analyze AS changed,
       coalesce(last_analyze, last_autoanalyze) IS NOT NULL AS analyzed,
       pg_total_relation_size(relid) AS size
FROM pg_stat_user_tables WHERE schemaname = $1 ORDER BY n_dead_tup DESC
"""

_SERVER = """
SELECT current_setting('autovacuum')::boolean AS autovacuum, current_setting('track_counts')::boolean AS counted,
       (SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()) AS age,
       coalesce((SELECT max(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'), 0)::integer AS idle,
       (SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND state LIKE 'idle in transaction%' ORDER BY xact_start LIMIT 1) AS pid
"""


async def check_tables(found: Diagnosis, database: Database) -> None:
    """Look at dead rows, statistics, the cleaner, and who holds it up."""
    before = len(found.checks)
    server = await database.fetchrow(_SERVER)
    assert server is not None  # a SELECT without FROM always has a row
    tables = await database.fetch(_TABLES, database.schema)
    _check_cleaner(found, server)
    for table in tables:
        _check_table(found, table, database.schema)
    if len(found.checks) == before:
        size = in_bytes(sum(table["size"] for table in tables))
        dead = sum(table["dead"] for table in tables)
        found.add("tables", "ok", f"{len(tables)} with {size}, {dead:,} dead rows wait for the cleaner")


def _check_cleaner(found: Diagnosis, server: Record) -> None:
    if not server["autovacuum"] or not server["counted"]:
        found.add(
            "tables",
            "warning",
            "Nobody cleans up dead rows: autovacuum is off.",
            "Have an administrator set autovacuum and track_counts to on, or run VACUUM (ANALYZE) every night.",
        )
    if server["idle"] >= IDLE_FROM:
        found.add(
            "tables",
            "warning",
            f"A transaction has been open and idle for {server['idle'] // 60:,} minutes: no dead row goes meanwhile.",
            f"If nobody needs it run SELECT pg_terminate_backend({server['pid']}); "
            "and set idle_in_transaction_session_timeout.",
        )
    if server["age"] >= FROZEN_BEFORE:
        found.add(
            "tables",
            "error",
            f"{server['age']:,} transactions since a row was frozen: before 2 billion the server stops writing.",
            "As an administrator run VACUUM (FREEZE) in this database now, and see what holds autovacuum up.",
        )


def _check_table(found: Diagnosis, table: Record, schema: str) -> None:
    dead, live = table["dead"], table["live"]
    if dead >= DEAD_FROM and dead >= DEAD_SHARE * (dead + live):
        found.add(
            "tables",
            "warning",
            f"{table['name']} is bloated: {dead:,} dead rows beside {live:,}, in {in_bytes(table['size'])}.",
            f'As the owner of the tables run VACUUM (ANALYZE) "{schema}".{table["name"]}; if it comes back, '
            "lower autovacuum_vacuum_scale_factor of the table.",
        )
    elif not table["analyzed"] and table["changed"] >= CHANGED_FROM:
        found.add(
            "tables",
            "warning",
            f"{table['name']} has no statistics after {table['changed']:,} changes: the server guesses.",
            f'Run ANALYZE "{schema}".{table["name"]};',
        )
