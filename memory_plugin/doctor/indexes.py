"""The indexes: whether each that the schema has is there, and can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis

if TYPE_CHECKING:
    from sqlalchemy import Index

    from memory_plugin.db.database import Database

_VECTORS = "embeddings"
"""The table whose indexes come and go with the models; `memory-plugin reindex` makes them."""

# one that is being made is not valid yet
_INDEXES = """
SELECT t.relname AS table, c.relname AS name, i.indisvalid AND i.indisready AS usable,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS in_the_making
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
WHERE t.relnamespace = $1::text::regnamespace
"""


async def check_indexes(found: Diagnosis, database: Database) -> None:
    """Compare the indexes that are there with those that the schema declares."""
    rows = await database.fetch(_INDEXES, database.sql("{s}"))
    there = {row["name"] for row in rows}
    broken = [row for row in rows if not row["usable"] and not row["in_the_making"]]
    for row in broken:
        name = database.sql(f'{{s}}."{row["name"]}"')
        remedy = (
            "`memory-plugin reindex` makes it again"
            if row["table"] == _VECTORS
            else f"as the owner of the tables run REINDEX INDEX CONCURRENTLY {name};"
        )
        found.add(
            "indexes",
            "warning",
            f"{row['name']} of {row['table']} cannot be used: making it did not come to its end.",
            f"It costs writing and helps no search: {remedy}.",
        )
    missing = [index for index in _declared() if index.name not in there]
    for index in missing:
        found.add(
            "indexes",
            "warning",
            f"{index.name} is not there: somebody dropped it.",
            f"As the owner of the tables run {_statement(index, database.schema)};",
        )
    if not broken and not missing:
        found.add("indexes", "ok", f"{len(there)} are there and valid")


def _declared() -> list[Index]:
    from memory_plugin.db.schema import metadata

    return sorted(
        (index for table in metadata.tables.values() for index in table.indexes), key=lambda index: str(index.name)
    )


def _statement(index: Index, schema: str) -> str:
    """The statement that makes the index, on one line."""
    from sqlalchemy.dialects import postgresql
    from sqlalchemy.schema import CreateIndex

    text = str(CreateIndex(index).compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    assert index.table is not None
    name = index.table.name
    return " ".join(text.replace(f" ON {name} ", f' ON "{schema}".{name} ').split())
