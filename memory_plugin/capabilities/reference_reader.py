"""Reading reference documents: listings, passages, and what a citation names."""

from __future__ import annotations

import base64
import binascii
import builtins
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.errors import InvalidInputError, NotFoundError
from memory_plugin.jsonable import loads_exact
from memory_plugin.types import Citation, Document, Page
from memory_plugin.validation import identifier, optional_identifier, positive_limit

_CITATION_URI = re.compile(r"memory://reference/(?P<document>[^/#]+)/(?P<version>[0-9]{1,9})#(?P<chunk>.+)\Z")

DOCUMENT = """
SELECT d.id, d.title, d.source, d.collection, d.media_type, d.version,
       encode(d.content_hash, 'hex') AS content_hash, d.created_at, d.updated_at, d.user_id,
       d.metadata::text AS metadata,
       (SELECT count(*) FROM {s}.chunk_places p
        WHERE p.tenant_id = d.tenant_id AND p.document_id = d.id AND p.version = d.version) AS chunk_count
FROM {s}.documents d
"""

_GET = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND d.id = $2 AND ($3::text IS NULL OR d.user_id IS NULL OR d.user_id = $3)
"""

# ids grow with time, so their order is that of the first version
_LIST = f"""{DOCUMENT}
WHERE d.tenant_id = $1 AND ($2::text IS NULL OR d.user_id IS NULL OR d.user_id = $2)
  AND ($3::text IS NULL OR d.collection = $3) AND ($4::uuid IS NULL OR d.id < $4)
ORDER BY d.id DESC LIMIT $5
"""

CHUNK = """
SELECT c.id, c.document_id, p.ordinal, c.text, c.heading_path, c.tokens, v.title, p.version,
       (d.metadata || c.metadata)::text AS metadata, d.source, d.collection, d.user_id, d.media_type, v.created_at,
       p.span_start, p.span_end, p.page, p.line
FROM {s}.chunk_places p
JOIN {s}.chunks c ON c.tenant_id = p.tenant_id AND c.id = p.chunk_id
JOIN {s}.documents d ON d.tenant_id = p.tenant_id AND d.id = p.document_id
JOIN {s}.document_versions v
  ON v.tenant_id = p.tenant_id AND v.document_id = p.document_id AND v.version = p.version
"""

_CHUNKS = f"""{CHUNK}
WHERE p.tenant_id = $1 AND p.document_id = $2 AND ($3::text IS NULL OR d.user_id IS NULL OR d.user_id = $3)
  AND p.version = coalesce($4, d.version) AND p.ordinal >= $5
ORDER BY p.ordinal LIMIT $6
"""

_ONE_CHUNK = f"""{CHUNK}
WHERE p.tenant_id = $1 AND p.chunk_id = $2 AND ($3::text IS NULL OR d.user_id IS NULL OR d.user_id = $3)
  AND ($4::uuid IS NULL OR p.document_id = $4) AND ($5::integer IS NULL OR p.version = $5)
ORDER BY p.version DESC, p.ordinal LIMIT 1
"""

# From the ids inwards, each step by a key: LIMIT keeps the planner from reading whole documents
# where it knows nothing about the tables yet. The ids travel as text: the driver knows arrays of text
# without asking the server what they are.
_HYDRATE = """
SELECT c.id, c.document_id, p.ordinal, c.text, c.heading_path, c.tokens, v.title, p.version,
       (d.metadata || c.metadata)::text AS metadata, d.source, d.collection, d.user_id, d.media_type,
       v.created_at, p.span_start, p.span_end, p.page, p.line
FROM unnest($2::text[]) AS wanted (id)
CROSS JOIN LATERAL (
    SELECT * FROM {s}.chunks WHERE tenant_id = $1 AND id = wanted.id::uuid LIMIT 1
) AS c
CROSS JOIN LATERAL (
    SELECT * FROM {s}.documents WHERE tenant_id = $1 AND id = c.document_id LIMIT 1
) AS d
CROSS JOIN LATERAL (
    SELECT title, created_at FROM {s}.document_versions
    WHERE tenant_id = $1 AND document_id = d.id AND version = d.version LIMIT 1
) AS v
CROSS JOIN LATERAL (
    SELECT * FROM {s}.chunk_places
    WHERE tenant_id = $1 AND chunk_id = c.id AND version = d.version ORDER BY ordinal LIMIT 1
) AS p
"""


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A passage of a document in the store, where it stands in one version.

    `ordinal` counts the passages of the version from 0; `metadata` is the document's with the
    passage's own on top; `at` is when the version was stored.
    """

    id: UUID
    document_id: UUID
    ordinal: int
    text: str
    citation: Citation
    collection: str
    media_type: str
    at: datetime
    user_id: str | None = None
    heading_path: tuple[str, ...] = ()
    tokens: int = 0
    metadata: Mapping[str, Any] = field(default_factory=dict)


class ReferenceAccess:
    """Whose documents are read and written: a tenant's, and a user's where one is named.

    Args:
        user_id: the user when a call names none; None acts for the whole tenant.
    """

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id

    def _user(self, user_id: str | None) -> str | None:
        return self._user_id if user_id is None else identifier(user_id, "user_id")


class ReferenceReader(ReferenceAccess):
    """Reads documents; who names a user sees that user's and everyone's."""

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        super().__init__(database, tenant=tenant, user_id=user_id)
        self._get = database.sql(_GET)
        self._list = database.sql(_LIST)
        self._chunks = database.sql(_CHUNKS)
        self._one_chunk = database.sql(_ONE_CHUNK)
        self._hydrate = database.sql(_HYDRATE)

    async def list(
        self,
        *,
        collection: str | None = None,
        user_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[Document]:
        """The documents, newest first: the user's and everyone's, or without a user all there are.

        Raises:
            InvalidInputError: a cursor that no listing gave.
        """
        limit = positive_limit(limit)
        rows = await self._database.fetch(
            self._list,
            self._tenant,
            self._user(user_id),
            optional_identifier(collection, "collection"),
            None if cursor is None else _cursor_id(cursor),
            limit + 1,
            repeat=Repeat.READ,
        )
        more = 0 < limit < len(rows)
        items = [document_of(row) for row in rows[:limit]]
        return Page(items, _cursor(items[-1].id) if more else None)

    async def get(self, document_id: UUID | str, *, user_id: str | None = None) -> Document:
        """One document at its current version.

        Raises:
            NotFoundError: there is none, or it is another user's.
            InvalidInputError: not an id.
        """
        number = as_uuid(document_id, "document_id")
        row = await self._database.fetchrow(self._get, self._tenant, number, self._user(user_id), repeat=Repeat.READ)
        if row is None:
            raise no_document(number)
        return document_of(row)

    async def chunks(
        self,
        document_id: UUID | str,
        *,
        version: int | None = None,
        start: int = 0,
        limit: int | None = None,
        user_id: str | None = None,
    ) -> builtins.list[StoredChunk]:
        """The passages of a document in order, those of its current version by default.

        Args:
            start: the ordinal of the first one wanted; with `limit` this reads around a passage.

        Raises:
            NotFoundError: there is no such document, or no such version any more.
            InvalidInputError: not an id.
        """
        number = as_uuid(document_id, "document_id")
        rows = await self._database.fetch(
            self._chunks,
            self._tenant,
            number,
            self._user(user_id),
            version,
            positive_limit(start, "start", maximum=2**31 - 1),
            None if limit is None else positive_limit(limit),
            repeat=Repeat.READ,
        )
        if not rows and not start and limit != 0:  # a document without passages is never stored
            raise no_document(number, version)
        return [chunk_of(row) for row in rows]

    async def chunk(
        self, chunk_id: UUID | str, *, version: int | None = None, user_id: str | None = None
    ) -> StoredChunk:
        """One passage, at its place in the latest version that has it, or in the one given.

        Raises:
            NotFoundError: there is no such passage.
            InvalidInputError: not an id.
        """
        return await self._read_chunk(as_uuid(chunk_id, "chunk_id"), None, version, user_id)

    async def resolve(self, uri: str, *, user_id: str | None = None) -> StoredChunk:
        """The passage that a citation's `uri` names, as it was in the version cited.

        Raises:
            NotFoundError: the document is gone, or that version of it was pruned.
            InvalidInputError: not the URI of a citation.
        """
        match = _CITATION_URI.match(uri) if isinstance(uri, str) else None
        if match is None:
            raise InvalidInputError(
                f"{str(uri)[:200]!r} is no citation: it must read memory://reference/<document>/<version>#<passage>."
            )
        document_id, chunk_id = (
            as_uuid(match["document"], "the document"),
            as_uuid(match["chunk"], "the passage"),
        )
        return await self._read_chunk(chunk_id, document_id, int(match["version"]), user_id)

    async def _read_chunk(
        self, chunk_id: UUID, document_id: UUID | None, version: int | None, user_id: str | None
    ) -> StoredChunk:
        row = await self._database.fetchrow(
            self._one_chunk, self._tenant, chunk_id, self._user(user_id), document_id, version, repeat=Repeat.READ
        )
        if row is None:
            raise NotFoundError(
                f"There is no passage {chunk_id}{f' in version {version}' if version else ''}: "
                "its document was removed, or that version pruned. Search again."
            )
        return chunk_of(row)

    async def hydrate(self, ids: Sequence[UUID]) -> dict[UUID, StoredChunk]:
        """The passages by id, at their first place in the current version; what is gone is left out.

        Sees the documents of all users: it completes what a search already chose.
        """
        if not ids:
            return {}
        rows = await self._database.fetch(self._hydrate, self._tenant, [str(one) for one in ids], repeat=Repeat.READ)
        return {row["id"]: chunk_of(row) for row in rows}


def document_of(row: Record) -> Document:
    """A row of DOCUMENT as a value."""
    return Document(**{**row, "metadata": loads_exact(row["metadata"])})


def chunk_of(row: Record) -> StoredChunk:
    """A row of CHUNK as a value."""
    citation = Citation(
        uri=f"memory://reference/{row['document_id']}/{row['version']}#{row['id']}",
        title=row["title"],
        source=row["source"],
        version=row["version"],
        section=" > ".join(row["heading_path"]) or None,
        page=row["page"],
        line=row["line"],
        start=row["span_start"],
        end=row["span_end"],
    )
    return StoredChunk(
        id=row["id"],
        document_id=row["document_id"],
        ordinal=row["ordinal"],
        text=row["text"],
        citation=citation,
        collection=row["collection"],
        media_type=row["media_type"],
        at=row["created_at"],
        user_id=row["user_id"],
        heading_path=tuple(row["heading_path"]),
        tokens=row["tokens"],
        metadata=loads_exact(row["metadata"]),
    )


def as_uuid(value: UUID | str, what: str) -> UUID:
    """The id as a UUID.

    Raises:
        InvalidInputError: it is none.
    """
    if isinstance(value, UUID):
        return UUID(int=value.int)  # the driver gives and takes a subclass
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidInputError(f"{what} must be a UUID, not {str(value)[:100]!r}.") from error


def no_document(document_id: UUID, version: int | None = None) -> NotFoundError:
    """The error for a document that is not there, or not for this user."""
    of_version = "" if version is None else f" with a version {version}"
    return NotFoundError(f"There is no document {document_id}{of_version}: list the references to see those there are.")


def _cursor(last: UUID) -> str:
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def _cursor_id(cursor: str) -> UUID:
    try:
        return UUID(bytes=base64.urlsafe_b64decode(f"{cursor}=="))
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidInputError(
            "The cursor is not one that a listing of references gave: start without one."
        ) from error
