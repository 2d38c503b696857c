"""From a prepared document to its rows, in one transaction.

A chunk is known by the hash of its headings and its text. What a new version has in common with
the stored ones keeps its rows, and with them its place in the search index and its vector.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from memory_plugin.capabilities.reference_files import Content
from memory_plugin.capabilities.reference_preparing import Passage, Prepared
from memory_plugin.db.database import Connection, Database, Record, Repeat
from memory_plugin.errors import DatabaseError
from memory_plugin.jsonable import jsonb_text, loads_exact
from memory_plugin.types import Document, uuid7

T = TypeVar("T")

_DEADLOCKS = {"40P01", "40001"}

_BATCH = 4_000
"""Passages written by one statement: what a document has beyond them goes in by more of them."""

# No row comes back when another writer stored the same content in the meantime.
_UPSERT = """
INSERT INTO {s}.documents AS d
    (tenant_id, id, collection, source, user_id, title, media_type, content_hash, metadata)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::jsonb)
ON CONFLICT (tenant_id, collection, source, (coalesce(user_id, ''))) DO UPDATE
SET title = excluded.title, media_type = excluded.media_type, content_hash = excluded.content_hash,
    metadata = d.metadata || excluded.metadata, version = d.version + 1, updated_at = now()
WHERE d.content_hash <> excluded.content_hash
RETURNING id, version, metadata::text AS metadata, created_at, updated_at
"""

_KNOWN = """
SELECT c.text_hash, c.id, EXISTS (
    SELECT FROM {s}.chunk_places p WHERE p.tenant_id = $1 AND p.chunk_id = c.id AND p.version = $3
) AS live
FROM {s}.chunks c WHERE c.tenant_id = $1 AND c.document_id = $2
"""

# Before anything is taken from the index: this waits for an indexer that is at work on these chunks,
# so that the next statement sees what it wrote.
_UNQUEUE = """
DELETE FROM {s}.index_queue WHERE tenant_id = $1 AND kind = 3 AND item = ANY ($2::text[])
"""

# What is beyond the first batch of a document goes in by the same statement, from the ordinal $21 on.
_STORE = """
WITH version AS (
    INSERT INTO {s}.document_versions
        (tenant_id, document_id, version, title, media_type, content_hash, characters)
    SELECT $1, $2, $3, $4, $5, $6, $7 WHERE $21::integer = 0
), fresh AS (
    INSERT INTO {s}.chunks (tenant_id, id, document_id, text, text_hash, heading_path, tokens, metadata)
    SELECT $1, f.id, $2, f.text, f.text_hash, string_to_array(f.headings, E'\\x1f'), f.tokens,
           f.metadata::jsonb
    FROM unnest($8::uuid[], $9::text[], $10::bytea[], $11::text[], $12::integer[], $13::text[])
        AS f (id, text, text_hash, headings, tokens, metadata)
), placed AS (
    INSERT INTO {s}.chunk_places
        (tenant_id, document_id, version, ordinal, chunk_id, span_start, span_end, page, line)
    SELECT $1, $2, $3, $21::integer + p.place - 1, p.chunk_id, p.span_start, p.span_end, p.page, p.line
    FROM unnest($14::uuid[], $15::bigint[], $16::bigint[], $17::integer[], $18::integer[])
        WITH ORDINALITY AS p (chunk_id, span_start, span_end, page, line, place)
), dropped AS (
    DELETE FROM {s}.passages WHERE tenant_id = $1 AND id = ANY ($19::uuid[])
)
INSERT INTO {s}.index_queue (tenant_id, kind, item)
SELECT $1, 3, item FROM unnest($20::text[]) AS q (item)
ON CONFLICT DO NOTHING
"""

# The words of the title are part of every passage's words, so another title means another index.
_RELABEL = """
WITH changed AS (
    UPDATE {s}.documents SET title = coalesce($3, title), metadata = metadata || $4::jsonb, updated_at = now()
    WHERE tenant_id = $1 AND id = $2
    RETURNING id, version, title, metadata, updated_at
), titled AS (
    UPDATE {s}.document_versions v SET title = c.title FROM changed c
    WHERE v.tenant_id = $1 AND v.document_id = c.id AND v.version = c.version AND v.title <> c.title
    RETURNING v.document_id, v.version
), live AS (
    SELECT DISTINCT p.chunk_id FROM {s}.chunk_places p JOIN titled t USING (document_id, version)
    WHERE p.tenant_id = $1
), dropped AS (
    DELETE FROM {s}.passages x USING live WHERE x.tenant_id = $1 AND x.id = live.chunk_id
), queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item)
    SELECT $1, 3, chunk_id::text FROM live ORDER BY 3
    ON CONFLICT DO NOTHING
)
SELECT title, metadata::text AS metadata, updated_at FROM changed
"""


async def again_on_deadlock(operation: Callable[[], Awaitable[T]], attempts: int = 5) -> T:
    """Run a transaction again when the database ended it in favour of another.

    Whoever takes a passage from the index may meet the one who is storing its vector.
    """
    for attempt in range(1, attempts + 1):
        try:
            return await operation()
        except DatabaseError as error:
            if error.sqlstate not in _DEADLOCKS or attempt == attempts:
                raise
    raise AssertionError("unreachable: the last attempt returns or raises")


class Labels(NamedTuple):
    """What the caller says about a document, apart from its content."""

    collection: str
    user_id: str | None
    title: str | None
    media_type: str | None
    metadata: dict[str, Any] | None


class _Known(NamedTuple):
    id: UUID
    live: bool


def _columns(fresh: Sequence[tuple[UUID, Passage]]) -> list[list[Any]]:
    """What `_STORE` takes of the new passages: a list for each of its columns."""
    passages = [passage for _, passage in fresh]
    return [
        [chunk_id for chunk_id, _ in fresh],
        [passage.text for passage in passages],
        [passage.text_hash for passage in passages],
        [passage.headings for passage in passages],
        [passage.tokens for passage in passages],
        [passage.metadata for passage in passages],
    ]


class ReferenceWriter:
    """Writes a prepared document; the row of the document is the lock between writers."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._upsert = database.sql(_UPSERT)
        self._known = database.sql(_KNOWN)
        self._unqueue = database.sql(_UNQUEUE)
        self._store = database.sql(_STORE)
        self._relabel = database.sql(_RELABEL)

    async def write(
        self, content: Content, labels: Labels, prepared: Prepared, previous_title: str | None
    ) -> Document | None:
        """Store a version; None when the current one has the same content by now.

        Args:
            previous_title: of the version that is replaced, None where there is none.
        """
        return await again_on_deadlock(lambda: self._write(content, labels, prepared, previous_title))

    async def _write(
        self, content: Content, labels: Labels, prepared: Prepared, previous_title: str | None
    ) -> Document | None:
        metadata = {**prepared.metadata, **(labels.metadata or {})}
        async with self._database.transaction() as connection:
            row = await connection.fetchrow(
                self._upsert,
                self._tenant,
                uuid7(),
                labels.collection,
                content.source,
                labels.user_id,
                prepared.title,
                prepared.media_type,
                content.digest,
                jsonb_text(metadata),
            )
            if row is None:
                return None
            await self._write_version(connection, row, content, prepared, prepared.title == previous_title)
        return Document(
            id=row["id"],
            title=prepared.title,
            source=content.source,
            collection=labels.collection,
            media_type=prepared.media_type,
            version=row["version"],
            chunk_count=prepared.place_count,
            content_hash=content.digest.hex(),
            created_at=row["created_at"],
            updated_at=row["updated_at"],
            user_id=labels.user_id,
            metadata=loads_exact(row["metadata"]),
            status="added" if row["version"] == 1 else "updated",
        )

    async def _write_version(
        self, connection: Connection, row: Record, content: Content, prepared: Prepared, same_title: bool
    ) -> None:
        known = await self._known_chunks(connection, row["id"], row["version"] - 1)
        chunks = [known.get(passage_hash) for passage_hash in prepared.hashes()]
        ids = [uuid7() if chunk is None else chunk.id for chunk in chunks]
        kept = set(ids) if same_title else set()
        dropped = [chunk.id for chunk in known.values() if chunk.live and chunk.id not in kept]
        if dropped:
            await connection.execute(self._unqueue, self._tenant, [str(chunk_id) for chunk_id in dropped])
        written = 0
        for first in range(0, max(prepared.place_count, 1), _BATCH):
            places = list(prepared.places(first, first + _BATCH))
            reached = max(written, *(place.passage + 1 for place in places))
            here = range(written, reached)
            fresh = [
                (ids[number], passage)
                for number, passage in zip(here, prepared.passages(written, reached), strict=True)
                if chunks[number] is None
            ]
            queued = [
                str(ids[number])
                for number in here
                if not (same_title and (chunk := chunks[number]) is not None and chunk.live)
            ]
            await connection.execute(
                self._store,
                self._tenant,
                row["id"],
                row["version"],
                prepared.title,
                prepared.media_type,
                content.digest,
                len(prepared.text),
                *_columns(fresh),
                [ids[place.passage] for place in places],
                [place.start for place in places],
                [place.end for place in places],
                [place.page for place in places],
                [place.line for place in places],
                dropped if not first else [],
                sorted(queued),
                first,
            )
            written = reached

    async def _known_chunks(self, connection: Connection, document_id: UUID, version: int) -> dict[bytes, _Known]:
        """By hash, the chunks of all versions and whether they stand in the one given."""
        if version == 0:
            return {}
        rows = await connection.fetch(self._known, self._tenant, document_id, version)
        return {row["text_hash"]: _Known(row["id"], row["live"]) for row in rows}

    async def relabel(self, document_id: UUID, title: str | None, metadata: dict[str, Any]) -> Record | None:
        """Give a document another title or more metadata, without a new version; None when it is gone."""
        return await self._database.fetchrow(
            self._relabel, self._tenant, document_id, title, jsonb_text(metadata), repeat=Repeat.IDEMPOTENT
        )
