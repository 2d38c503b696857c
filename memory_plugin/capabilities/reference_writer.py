"""From a document's bytes to its rows: parsing in a worker, then one transaction.

A chunk is known by the hash of its headings and its text. What a new version has in common with
the stored ones keeps its rows, and with them its place in the search index and its vector.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar
from uuid import UUID

from memory_plugin.capabilities.reference_files import UNTITLED, Content
from memory_plugin.db.database import Connection, Database, Record, Repeat
from memory_plugin.errors import DatabaseError, DocumentError, InvalidInputError, MemoryPluginError
from memory_plugin.jsonable import RESERVED_KEYS, dumps_exact, jsonb_text, loads_exact
from memory_plugin.readable import readable
from memory_plugin.types import Chunk, Document, ParsedDocument, uuid7
from memory_plugin.validation import replace_unstorable

T = TypeVar("T")

MAX_TITLE = 1_000
"""Characters a title may have; one that a parser found is cut."""

_DEADLOCKS = {"40P01", "40001"}

_LINE = 80
"""Characters of the text that stand for a missing title."""

_BETWEEN = "\x1f"
"""Between the headings of a path on its way to the database: arrays of arrays must be rectangular there."""

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

_STORE = """
WITH version AS (
    INSERT INTO {s}.document_versions
        (tenant_id, document_id, version, title, media_type, content_hash, characters)
    VALUES ($1, $2, $3, $4, $5, $6, $7)
), fresh AS (
    INSERT INTO {s}.chunks (tenant_id, id, document_id, text, text_hash, heading_path, tokens, metadata)
    SELECT $1, f.id, $2, f.text, f.text_hash, string_to_array(f.headings, E'\\x1f'), f.tokens,
           f.metadata::jsonb
    FROM unnest($8::uuid[], $9::text[], $10::bytea[], $11::text[], $12::integer[], $13::text[])
        AS f (id, text, text_hash, headings, tokens, metadata)
), placed AS (
    INSERT INTO {s}.chunk_places
        (tenant_id, document_id, version, ordinal, chunk_id, span_start, span_end, page, line)
    SELECT $1, $2, $3, p.place - 1, p.chunk_id, p.span_start, p.span_end, p.page, p.line
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


class Parser(Protocol):
    """Turns a document into text and chunks; called in a worker thread or process."""

    def __call__(
        self, data: bytes | str, *, name: str, media_type: str | None = None, title: str | None = None
    ) -> ParsedDocument:
        """Raises DocumentError, ContentTooLargeError or UnsupportedError."""


class Labels(NamedTuple):
    """What the caller says about a document, apart from its content."""

    collection: str
    user_id: str | None
    title: str | None
    media_type: str | None
    metadata: dict[str, Any] | None


class Passage(NamedTuple):
    """The text of one or more chunks of a document, ready for its row."""

    text_hash: bytes
    text: str
    headings: str
    tokens: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """A parsed document, ready for its rows.

    `passages` holds each text once; `places` are, in the order of the document, the number of the
    passage, its span, page and line.
    """

    title: str
    media_type: str
    characters: int
    metadata: dict[str, Any]
    passages: list[Passage]
    places: list[tuple[int, int, int, int | None, int | None]]


def prepare(parser: Parser | None, content: Content, media_type: str | None, title: str | None) -> Prepared:
    """Parse and hash; runs in a worker, so it takes and gives only what can be pickled.

    Raises:
        DocumentError: the parser failed, or found no text.
        ContentTooLargeError, UnsupportedError: as the parser says.
    """
    try:
        parsed = (parser or _default_parser())(content.data, name=content.name, media_type=media_type, title=title)
    except MemoryPluginError:
        raise
    except Exception as error:
        # parsers of other people's formats raise anything, and one file must not end a run
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DocumentError(f"{content.name!r} cannot be parsed: {reason}", name=content.name) from error
    if not parsed.chunks:
        raise DocumentError(
            f"{content.name!r} has no text to search: a scanned document needs OCR first.", name=content.name
        )
    return _prepared(parsed, title)


def _default_parser() -> Parser:
    from memory_plugin.parsers import parse

    return parse


def _prepared(parsed: ParsedDocument, title: str | None) -> Prepared:
    numbers: dict[bytes, int] = {}
    passages: list[Passage] = []
    places = []
    for chunk in parsed.chunks:
        passage = _passage(chunk)
        number = numbers.setdefault(passage.text_hash, len(passages))
        if number == len(passages):
            passages.append(passage)
        places.append((number, chunk.start, chunk.end, chunk.page, chunk.line))
    return Prepared(
        title=title or replace_unstorable(_title(parsed))[:MAX_TITLE],
        media_type=replace_unstorable(parsed.media_type),
        characters=len(parsed.text),
        metadata=plain_metadata(parsed.metadata),
        passages=passages,
        places=places,
    )


def _title(parsed: ParsedDocument) -> str:
    """What the document is called; the beginning of its text where it has no name at all."""
    if parsed.title not in {"", UNTITLED}:
        return parsed.title
    line = " ".join(parsed.text[:1_000].split())
    return line if len(line) <= _LINE else line[: _LINE - 1].rstrip() + "…"


def _passage(chunk: Chunk) -> Passage:
    text = replace_unstorable(chunk.text)
    headings = _BETWEEN.join(
        replace_unstorable(heading).replace(_BETWEEN, " ") for heading in chunk.heading_path if heading
    )
    digest = hashlib.sha256(f"{headings}\x1e{text}".encode()).digest()
    return Passage(digest, text, headings, chunk.tokens, jsonb_text(plain_metadata(chunk.metadata)))


def plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a parser says about a document, made fit for JSON whatever it is."""
    if not metadata:
        return {}
    plain = readable(dict(metadata))
    return {key: value for key, value in plain.items() if key not in RESERVED_KEYS}


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The metadata of a caller as a dict that JSON holds exactly.

    Raises:
        InvalidInputError: it doesn't, or a key is reserved.
    """
    if metadata is None:
        return None
    text = dumps_exact(dict(metadata), order=False, tuples=True) if isinstance(metadata, Mapping) else None
    if text is None or not all(key and "\x00" not in key and key not in RESERVED_KEYS for key in metadata):
        raise InvalidInputError(
            "metadata must be a mapping from non-empty text to what JSON can hold "
            f"(and {', '.join(sorted(RESERVED_KEYS))} are reserved keys)."
        )
    plain: dict[str, Any] = loads_exact(text)
    return plain


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
            chunk_count=len(prepared.places),
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
        fresh: list[tuple[UUID, Passage]] = []
        ids: list[UUID] = []
        queued: list[str] = []
        for passage in prepared.passages:
            chunk_id, live = known.get(passage.text_hash, (None, False))
            if chunk_id is None:
                chunk_id = uuid7()
                fresh.append((chunk_id, passage))
            ids.append(chunk_id)
            if not (live and same_title):
                queued.append(str(chunk_id))
        kept = set(ids) if same_title else set()
        dropped = [chunk_id for chunk_id, live in known.values() if live and chunk_id not in kept]
        if dropped:
            await connection.execute(self._unqueue, self._tenant, [str(chunk_id) for chunk_id in dropped])
        await connection.execute(
            self._store,
            self._tenant,
            row["id"],
            row["version"],
            prepared.title,
            prepared.media_type,
            content.digest,
            prepared.characters,
            [chunk_id for chunk_id, _ in fresh],
            [passage.text for _, passage in fresh],
            [passage.text_hash for _, passage in fresh],
            [passage.headings for _, passage in fresh],
            [passage.tokens for _, passage in fresh],
            [passage.metadata for _, passage in fresh],
            [ids[number] for number, *_ in prepared.places],
            [start for _, start, *_ in prepared.places],
            [end for _, _, end, *_ in prepared.places],
            [page for *_, page, _ in prepared.places],
            [line for *_, line in prepared.places],
            dropped,
            sorted(queued),
        )

    async def _known_chunks(
        self, connection: Connection, document_id: UUID, version: int
    ) -> dict[bytes, tuple[UUID, bool]]:
        """By hash, the chunks of all versions and whether they stand in the one given."""
        if version == 0:
            return {}
        rows = await connection.fetch(self._known, self._tenant, document_id, version)
        return {row["text_hash"]: (row["id"], row["live"]) for row in rows}

    async def relabel(self, document_id: UUID, title: str | None, metadata: dict[str, Any]) -> Record | None:
        """Give a document another title or more metadata, without a new version; None when it is gone."""
        return await self._database.fetchrow(
            self._relabel, self._tenant, document_id, title, jsonb_text(metadata), repeat=Repeat.IDEMPOTENT
        )
