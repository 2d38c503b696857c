"""A schema as PostgreSQL's own catalogs describe it, for comparing two of them."""

from __future__ import annotations

from typing import Any

import asyncpg

_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
       pg_get_expr(d.adbin, d.adrelid), co.collname, col_description(c.oid, a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
LEFT JOIN pg_collation co ON co.oid = a.attcollation
WHERE c.relnamespace = $1::regnamespace AND c.relkind = 'r' AND c.relname <> 'alembic_version'
"""
_TABLES = """
SELECT relname, obj_description(oid), array_to_string(reloptions, ',') FROM pg_class
WHERE relnamespace = $1::regnamespace AND relkind = 'r' AND relname <> 'alembic_version'
"""
_CONSTRAINTS = """
SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
WHERE c.relnamespace = $1::regnamespace AND k.contype <> 'n' AND c.relname <> 'alembic_version'
"""
_INDEXES = """
SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = $1 AND tablename <> 'alembic_version'
"""


async def describe(connection: asyncpg.Connection, schema: str) -> dict[str, list[Any]]:
    """Tables, columns, constraints and indexes of a schema, its own name left out."""
    described: dict[str, list[Any]] = {}
    for name, query in {
        "tables": _TABLES,
        "columns": _COLUMNS,
        "constraints": _CONSTRAINTS,
        "indexes": _INDEXES,
    }.items():
        rows = await connection.fetch(query, schema)
        described[name] = sorted(
            [tuple(str(value).replace(f"{schema}.", "") for value in row.values()) for row in rows]
        )
    return described
