"""What stands around a passage: its neighbours, its document, and the versions of that."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from memory_plugin.capabilities.reference_reader import (
    CHUNK,
    DOCUMENT,
    ReferenceAccess,
    as_uuid,
    chunk_of,
    document_of,
    no_document,
)
from memory_plugin.db.database import Database, Repeat
from memory_plugin.types import Citation, Document, Hit, Hits

# Each passage at the place that its citation names, so that the neighbours are those of the version cited.
_NEIGHBOURS = f"""
WITH wanted AS (
    SELECT w.number, here.document_id, here.version, here.ordinal
    FROM unnest($2::text[], $3::text[], $4::integer[]) WITH ORDINALITY AS w (chunk, document, version, number)
    CROSS JOIN LATERAL (
        SELECT p.document_id, p.version, p.ordinal FROM {{s}}.chunk_places p
        WHERE p.tenant_id = $1 AND p.chunk_id = w.chunk::uuid AND p.document_id = w.document::uuid
          AND p.version = w.version
        ORDER BY p.ordinal LIMIT 1
    ) AS here
)
SELECT w.number, w.ordinal AS here, found.*
FROM wanted w CROSS JOIN LATERAL (
    {CHUNK}
    WHERE p.tenant_id = $1 AND p.document_id = w.document_id AND p.version = w.version
      AND p.ordinal BETWEEN w.ordinal - $5 AND w.ordinal + $5 AND p.ordinal <> w.ordinal
) AS found
ORDER BY w.number, found.ordinal
"""

_DOCUMENTS = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND d.id = ANY ($2::text[]::uuid[])
"""

_VERSIONS = """
SELECT v.version, v.title, v.media_type, encode(v.content_hash, 'hex') AS content_hash, v.characters,
       (SELECT count(*) FROM {s}.chunk_places p
        WHERE p.tenant_id = v.tenant_id AND p.document_id = v.document_id AND p.version = v.version) AS chunk_count,
       v.created_at, v.version = d.version AS current
FROM {s}.document_versions v JOIN {s}.documents d ON d.tenant_id = v.tenant_id AND d.id = v.document_id
WHERE v.tenant_id = $1 AND v.document_id = $2 AND ($3::text IS NULL OR d.user_id IS NULL OR d.user_id = $3)
ORDER BY v.version DESC
"""


@dataclass(frozen=True, slots=True)
class DocumentVersion:
    """One version of a document that is kept; `current` is the one that search finds."""

    version: int
    title: str
    media_type: str
    content_hash: str
    characters: int
    chunk_count: int
    created_at: datetime
    current: bool


@dataclass(frozen=True, slots=True)
class FoundDocument:
    """A document with the passages of it that answer a query, the best first; `score` is that of the best."""

    document: Document
    hits: Sequence[Hit]
    score: float


class ReferenceContext(ReferenceAccess):
    """Reads what stands around passages."""

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._neighbours = database.sql(_NEIGHBOURS)
        self._documents = database.sql(_DOCUMENTS)
        self._versions = database.sql(_VERSIONS)

    async def versions(self, document_id: UUID | str, *, user_id: str | None = None) -> builtins.list[DocumentVersion]:
        """The versions of a document that are kept, the newest first.

        Raises:
            NotFoundError: there is no such document, or it is another user's.
            InvalidInputError: not an id.
        """
        number = as_uuid(document_id, "document_id")
        rows = await self._database.fetch(self._versions, self._tenant, number, self._user(user_id), repeat=Repeat.READ)
        if not rows:
            raise no_document(number)
        return [DocumentVersion(**row) for row in rows]

    async def with_neighbours(self, hits: Sequence[Hit], count: int = 1) -> builtins.list[Hit]:
        """The hits, those of references with so many passages before and after them in `neighbours`.

        They are of the version that the hit cites, and have no score of their own.
        """
        cited = [(hit, hit.citation) for hit in hits if hit.kind == "reference" and hit.citation is not None]
        if not cited or count < 1:
            return hits if isinstance(hits, list) else [*hits]
        rows = await self._database.fetch(
            self._neighbours,
            self._tenant,
            [hit.id for hit, _ in cited],
            [str(document_id(citation)) for _, citation in cited],
            [citation.version or 1 for _, citation in cited],
            count,
            repeat=Repeat.READ,
        )
        around: dict[str, builtins.list[Hit]] = {}
        for row in rows:
            passage = chunk_of(row)
            neighbour = Hit(
                kind="reference",
                id=str(passage.id),
                text=passage.text,
                score=0.0,
                at=passage.at,
                user_id=passage.user_id,
                metadata=passage.metadata,
                citation=passage.citation,
                trust="document",
            )
            around.setdefault(cited[row["number"] - 1][0].id, []).append(neighbour)
        found = [replace(hit, neighbours=tuple(around.get(hit.id, ()))) for hit in hits]
        return Hits(found, words_only=hits.words_only) if isinstance(hits, Hits) else found

    async def by_document(
        self, hits: Sequence[Hit], *, limit: int = 5, passages: int = 3
    ) -> builtins.list[FoundDocument]:
        """The hits of references by document, the documents in the order of their best hit."""
        groups: dict[UUID, builtins.list[Hit]] = {}
        for hit in hits:
            if hit.kind == "reference" and hit.citation is not None:
                groups.setdefault(document_id(hit.citation), []).append(hit)
        wanted = [*groups][:limit]
        if not wanted:
            return []
        rows = await self._database.fetch(
            self._documents, self._tenant, [str(number) for number in wanted], repeat=Repeat.READ
        )
        documents = {row["id"]: document_of(row) for row in rows}
        return [
            FoundDocument(documents[number], groups[number][:passages], groups[number][0].score)
            for number in wanted
            if number in documents
        ]


def document_id(citation: Citation) -> UUID:
    """The document that a citation is of."""
    return UUID(citation.uri.removeprefix("memory://reference/").partition("/")[0])
