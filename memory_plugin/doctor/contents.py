"""What is stored: how much, how far the index and the vectors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory_plugin.doctor.findings import Diagnosis

if TYPE_CHECKING:
    from memory_plugin.capabilities.vector_spaces import VectorSpaces
    from memory_plugin.db.database import Database
    from memory_plugin.embedding import Embedders
    from memory_plugin.settings import Settings

MOST_COUNTED = 1_000_000
"""Rows of a table that are counted; where there are more this number stands for them."""

_COUNT = "(SELECT count(*) FROM (SELECT FROM {{s}}.{table} WHERE tenant_id = $1 LIMIT {most}) AS found) AS {table}"


async def check_contents(found: Diagnosis, database: Database, settings: Settings, embedders: Embedders) -> None:
    """Count the tenant's rows and what waits for the index."""
    from memory_plugin.capabilities.document_vectors import document_vectors
    from memory_plugin.capabilities.passages import Passages
    from memory_plugin.capabilities.vector_spaces import VectorSpaces

    found.rows = await _count_rows(database, settings.tenant)
    at_least = "at least " if MOST_COUNTED in found.rows.values() else ""
    found.add("rows", "ok", f"{at_least}{sum(found.rows.values()):,} of the tenant {settings.tenant!r}")
    passages = Passages(
        database,
        tenant=settings.tenant,
        language=settings.language,
        embedder=embedders.everything,
        documents=document_vectors(database, embedders, tenant=settings.tenant),
    )
    backlog = await passages.backlog()
    if backlog.words or backlog.vectors:
        found.add(
            "index",
            "warning",
            f"{backlog.words:,} changes wait to be indexed, {backlog.vectors:,} passages wait for a vector",
            "A program that uses the store works this off, and so does `memory-plugin reindex`.",
        )
    else:
        found.add("index", "ok", "everything is indexed")
    languages = await passages.languages.get()
    if languages != passages.languages.setting:
        mine = ", ".join(languages)
        found.add("languages", "ok", f"{mine}: the tenant's own, whatever MEMORY_LANGUAGE says")
    await _check_spaces(found, VectorSpaces(database, tenant=settings.tenant, passages=passages), embedders)


async def _check_spaces(found: Diagnosis, spaces: VectorSpaces, embedders: Embedders) -> None:
    """The vectors of each model: how far they are, and whether a large space has its index."""
    from memory_plugin.capabilities.vector_spaces import INDEX_FROM

    used = {each.name: each.dims for each in (embedders.everything, embedders.documents) if each is not None}
    for space in await spaces.list():
        dims = used.get(space.name)
        detail = f"{space.name}: {space.state}, {space.passages:,} of {space.of_all:,} passages, index: {space.index}"
        if dims not in {None, space.dims}:
            found.add(
                "vectors",
                "error",
                f"Those of {space.name} in the store have {space.dims} dimensions, now it gives {dims}.",
                "Use the model they were made with, or give the changed one another name.",
            )
        elif space.refused:
            advice = "Words find these passages; their texts are tried again later."
            found.add("vectors", "warning", f"{detail}, {space.refused:,} refused by the model", advice)
        elif space.state == "building":
            found.add(
                "vectors", "warning", detail, "`memory-plugin reindex` completes them; until then older ones are used."
            )
        elif space.index == "broken" or (space.index == "none" and space.vectors >= INDEX_FROM):
            advice = "Run `memory-plugin reindex` as the owner of the tables: searches by meaning are slow without."
            found.add("vectors", "warning", detail, advice)
        elif space.state == "ready" and not space.is_own and space.waiting:
            advice = f"If no program uses {space.name} any more: `memory-plugin reindex --drop {space.name}`."
            found.add("vectors", "warning", f"{detail}, {space.waiting:,} waiting", advice)
        else:
            found.add("vectors", "ok", detail)


async def _count_rows(database: Database, tenant: str) -> dict[str, int]:
    from memory_plugin.db.schema import metadata

    counts = ", ".join(_COUNT.format(table=table, most=MOST_COUNTED) for table in sorted(metadata.tables))
    row = await database.fetchrow(database.sql(f"SELECT {counts}"), tenant)
    return {} if row is None else dict(row)
