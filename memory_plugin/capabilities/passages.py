"""The search index: every memory, message and chunk as a passage with its words and its vector.

Writing is never delayed by indexing. A write leaves a row in `index_queue`; the next search (or
the background task) turns the queue into passages before it looks, so that what was written is
found by words at once. Vectors follow through `embedding_queue`: a passage without one is still
found by words.

Words are ranked by BM25 (Robertson and Zaragoza 2009, with k1 = 0.9 and b = 0.4 as Anserini and
Lucene use for short passages). The part that depends on the passage is stored as a sparse vector
by term, the inverse document frequency travels in the query, and the score is their inner
product; candidates come from a GIN index on the same lexemes with OR between the terms.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from memory_plugin.capabilities.passage_index import IndexStatements
from memory_plugin.db.database import Database, Record
from memory_plugin.errors import EmbeddingError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder

MEMORY: Literal[1] = 1
MESSAGE: Literal[2] = 2
REFERENCE: Literal[3] = 3

CANDIDATES = 100
"""How many passages each list (words, meaning) of each kind hands to the ranking."""

WORD_BUDGET = 20_000
"""Passages the OR of the query's terms may match before its commonest terms stop nominating
candidates (they still count in the score); measured: 98% of the exact top ten at a million rows."""

FILL_BATCH = 256

_SPARSE_SIZE = 1 << 28


@dataclass(frozen=True, slots=True)
class Candidate:
    """A passage that one of the lists nominated, with both scores where they exist.

    `words` is the BM25 score (0 without a common term), `meaning` the cosine similarity, None
    while the passage has no vector in this space.
    """

    id: UUID
    kind: int
    words: float
    meaning: float | None
    said_at: datetime
    user_id: str | None
    thread_id: str | None
    seq: int | None
    document_id: UUID | None
    speaker: str | None


@dataclass(frozen=True, slots=True)
class Scope:
    """Which passages a search may see; None leaves a side open."""

    user_id: str | None = None
    thread_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the index: queue rows for words, passages without a vector."""

    words: int
    vectors: int


def inverse_document_frequency(passages: int, containing: int) -> float:
    """BM25's weight of a term: ln(1 + (N - n + 0.5) / (n + 0.5)), never negative."""
    containing = min(containing, passages)
    return math.log(1 + (passages - containing + 0.5) / (containing + 0.5))


def model_id(name: str) -> int:
    """The number a vector space goes by in the tables: the same for every tenant and process."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


_QUERY_TERMS = """
WITH terms AS (SELECT lexeme, {s}.term_id(lexeme) AS term FROM unnest({s}.words($2::text::regconfig, $3)))
SELECT t.lexeme, t.term, k.kind, coalesce(s.passages, 0) AS containing, coalesce(c.passages, 0) AS passages
FROM terms t
CROSS JOIN unnest($4::smallint[]) AS k (kind)
LEFT JOIN {s}.term_statistics s ON s.tenant_id = $1 AND s.kind = k.kind AND s.term = t.term
LEFT JOIN {s}.corpus_statistics c ON c.tenant_id = $1 AND c.kind = k.kind
"""

_TEXT_OF = """
SELECT q.passage_id, coalesce(m.content, g.text, array_to_string(c.heading_path, ' > ') || E'\\n' || c.text, '') AS text
FROM {s}.embedding_queue q
JOIN {s}.passages p ON p.tenant_id = q.tenant_id AND p.id = q.passage_id
LEFT JOIN {s}.memories m ON p.kind = 1 AND m.tenant_id = p.tenant_id AND m.id = p.id
LEFT JOIN {s}.messages g ON p.kind = 2 AND g.tenant_id = p.tenant_id AND g.thread_id = p.thread_id AND g.seq = p.seq
LEFT JOIN {s}.chunks c ON p.kind = 3 AND c.tenant_id = p.tenant_id AND c.id = p.id
WHERE q.tenant_id = $1 AND q.model_id = $2
ORDER BY q.passage_id LIMIT $3
"""

_STORE_VECTORS = """
WITH given AS (SELECT id::uuid AS passage_id, vector FROM unnest($3::text[], $4::text[]) AS v (id, vector)),
present AS (
    -- held until the end: a passage that goes meanwhile would leave its vector without a parent
    SELECT v.passage_id, v.vector FROM given v JOIN {s}.passages p ON p.tenant_id = $1 AND p.id = v.passage_id
    ORDER BY v.passage_id FOR KEY SHARE OF p
), stored AS (
    INSERT INTO {s}.embeddings (tenant_id, model_id, passage_id, vector)
    SELECT $1, $2, passage_id, vector::halfvec FROM present
    ON CONFLICT DO NOTHING
)
DELETE FROM {s}.embedding_queue q USING given v
WHERE q.tenant_id = $1 AND q.model_id = $2 AND q.passage_id = v.passage_id
"""

_REGISTER_MODEL = """
WITH made AS (
    INSERT INTO {s}.embedding_models (tenant_id, model_id, name, dims) VALUES ($1, $2, $3, $4)
    ON CONFLICT DO NOTHING RETURNING model_id
), queued AS (
    INSERT INTO {s}.embedding_queue (tenant_id, model_id, passage_id)
    SELECT $1, made.model_id, p.id FROM made JOIN {s}.passages p ON p.tenant_id = $1
    ON CONFLICT DO NOTHING
)
SELECT dims, name FROM {s}.embedding_models WHERE tenant_id = $1 AND model_id = $2
"""

_BACKLOG = """
SELECT (SELECT count(*) FROM {s}.index_queue WHERE tenant_id = $1) AS words,
       (SELECT count(*) FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id = $2) AS vectors
"""


class Passages:
    """Indexes what the other capabilities wrote, and nominates candidates for a query.

    Args:
        language: PostgreSQL text search configuration, for stemming and stop words.
        embedder: gives the vectors; None ranks by words alone.
    """

    def __init__(
        self, database: Database, *, tenant: str, language: str = "english", embedder: Embedder | None = None
    ) -> None:
        self._database = database
        self._tenant = tenant
        self._language = language
        self._embedder = embedder
        self._model: int | None = None
        self._index = IndexStatements(database)
        self._terms = database.sql(_QUERY_TERMS)
        self._text_of = database.sql(_TEXT_OF)
        self._store_vectors = database.sql(_STORE_VECTORS)
        self._register = database.sql(_REGISTER_MODEL)
        self._backlog = database.sql(_BACKLOG)

    @property
    def embedder(self) -> Embedder | None:
        """What turns text into vectors here, None for words alone."""
        return self._embedder

    async def catch_up(self) -> int:
        """Put everything that is queued into the index by words; how many queue rows were taken."""
        total = 0
        while taken := await self._index.run(self._tenant, self._language):
            total += taken
        return total

    async def fill(self) -> int:
        """Embed every passage that waits for its vector; how many were done.

        No connection is held while the embedder works.

        Raises:
            EmbeddingError: the embedder failed; what was done before stays done.
        """
        if self._embedder is None:
            return 0
        model = await self._ensure_model(self._embedder)
        total = 0
        while done := await self._fill_batch(self._embedder, model):
            total += done
        return total

    async def fill_at_once(self) -> int:
        """Embed one batch of what waits, if the embedder is quick enough to do so during a search.

        What was just written is then found by meaning too, without waiting for the background.

        Raises:
            EmbeddingError: the embedder failed.
        """
        if self._embedder is None or not getattr(self._embedder, "at_once", False):
            return 0
        return await self._fill_batch(self._embedder, await self._ensure_model(self._embedder))

    async def _fill_batch(self, embedder: Embedder, model: int) -> int:
        rows = await self._database.fetch(self._text_of, self._tenant, model, FILL_BATCH)
        if rows:
            vectors = await embedder.embed_documents([row["text"] for row in rows])
            await self._keep(model, rows, vectors)
        return len(rows)

    async def _keep(self, model: int, rows: Sequence[Record], vectors: Sequence[Sequence[float]]) -> None:
        from memory_plugin.embedding import vector_text

        await self._database.execute(
            self._store_vectors,
            self._tenant,
            model,
            [str(row["passage_id"]) for row in rows],
            [vector_text(vector) for vector in vectors],
        )

    async def _ensure_model(self, embedder: Embedder) -> int:
        """The number of the embedder's space, made known to the tenant the first time."""
        if self._model is None:
            dims = embedder.dims or len(await embedder.embed_query("width"))
            number = model_id(embedder.name)
            row = await self._database.fetchrow(self._register, self._tenant, number, embedder.name, dims)
            if row is not None and row["dims"] != dims:
                raise EmbeddingError(
                    f"The embedder {embedder.name!r} gives {dims} numbers, but its vectors in this store have "
                    f"{row['dims']}: give the changed model another name, so that its vectors are kept apart."
                )
            self._model = number
        return self._model

    async def backlog(self) -> Backlog:
        """How much is stored but not yet indexed."""
        number = model_id(self._embedder.name) if self._embedder is not None else -1
        row = await self._database.fetchrow(self._backlog, self._tenant, number)
        assert row is not None  # a SELECT without FROM always has a row
        return Backlog(words=row["words"], vectors=row["vectors"])

    async def embed_query(self, query: str) -> list[float] | None:
        """The query's vector; None without an embedder, or where the text has no known token."""
        if self._embedder is None or not query.strip():
            return None
        await self._ensure_model(self._embedder)
        vector = await self._embedder.embed_query(query)
        return vector if any(vector) else None

    async def search(
        self,
        *,
        words: str | None,
        vector: Sequence[float] | None,
        kinds: Sequence[int],
        scope: Scope = Scope(),
        conditions: dict[int, tuple[str, list[Any]]] | None = None,
        limit: int = CANDIDATES,
    ) -> list[Candidate]:
        """The union of the best `limit` passages by words and by meaning, of each kind.

        Args:
            words: the query as text; None, or nothing but stop words, leaves the words out.
            vector: the query's vector; None leaves the meaning out.
            kinds: MEMORY, MESSAGE, REFERENCE.
            scope: what the search may see.
            conditions: for a kind, one more SQL condition on the passage `p`, with `{}` for
                each of its arguments in turn.
        """
        terms = await self._query_terms(words, kinds) if words and words.strip() else []
        builder = _SearchBuilder(self._database, self._tenant, scope, limit)
        for kind in kinds:
            of_kind = [row for row in terms if row["kind"] == kind]
            builder.add(kind, of_kind, vector, self._model, (conditions or {}).get(kind))
        if not builder.arms:
            return []
        statement, arguments = builder.build(vector, self._model)
        rows = await self._database.fetch(statement, *arguments)
        return [Candidate(**dict(row)) for row in rows]

    async def _query_terms(self, words: str, kinds: Sequence[int]) -> list[Record]:
        return await self._database.fetch(self._terms, self._tenant, self._language, words, list(kinds))


class _SearchBuilder:
    """Writes the one statement of a search; every value is bound."""

    def __init__(self, database: Database, tenant: str, scope: Scope, limit: int) -> None:
        self._database = database
        self._scope = scope
        self._arguments: list[Any] = [tenant, limit]
        self._weights: dict[int, str] = {}
        self.arms: list[str] = []

    def _bind(self, value: Any) -> str:
        self._arguments.append(value)
        return f"${len(self._arguments)}"

    def add(
        self,
        kind: int,
        terms: Sequence[Record],
        vector: Sequence[float] | None,
        model: int | None,
        condition: tuple[str, list[Any]] | None,
    ) -> None:
        """The arms of one kind: by words where it has terms, by meaning where there is a vector."""
        filters = self._filters(kind, condition)
        if terms:
            weights = {row["term"]: inverse_document_frequency(row["passages"], row["containing"]) for row in terms}
            query = ",".join(f"{term}:{weight:.6g}" for term, weight in sorted(weights.items()) if weight > 0)
            bound = self._bind(f"{{{query}}}/{_SPARSE_SIZE}")
            self._weights[kind] = bound
            matching = self._bind(_or_query(terms))
            self.arms.append(
                f"(SELECT p.id FROM {{s}}.passages p WHERE {filters} AND p.lexemes @@ {matching}::text::tsquery "
                f"ORDER BY p.weights <#> {bound}::text::sparsevec, p.id LIMIT $2)"
            )
        if vector is not None and model is not None:
            # "+ 0" keeps the planner from an index scan that would lose filtered rows
            self.arms.append(
                f"(SELECT p.id FROM {{s}}.embeddings e JOIN {{s}}.passages p "
                f"ON p.tenant_id = e.tenant_id AND p.id = e.passage_id "
                f"WHERE e.tenant_id = $1 AND e.model_id = {self._bind(model)}::int AND {filters} "
                f"ORDER BY (e.vector <#> {{vector}}::text::halfvec) + 0, p.id LIMIT $2)"
            )

    def _filters(self, kind: int, condition: tuple[str, list[Any]] | None) -> str:
        scope = self._scope
        parts = ["p.tenant_id = $1", f"p.kind = {kind:d}"]
        if scope.user_id is not None:
            own = f"p.user_id = {self._bind(scope.user_id)}"
            # what belongs to nobody in particular is everyone's; a conversation never is
            parts.append(own if kind == MESSAGE else f"({own} OR p.user_id IS NULL)")
        if scope.thread_id is not None and kind != REFERENCE:
            parts.append(f"p.thread_id = {self._bind(scope.thread_id)}")
        if scope.since is not None:
            parts.append(f"p.said_at >= {self._bind(scope.since)}")
        if scope.until is not None:
            parts.append(f"p.said_at < {self._bind(scope.until)}")
        if scope.as_of is not None and kind != REFERENCE:
            moment = self._bind(scope.as_of)
            parts.append(f"p.said_at <= {moment} AND (p.live_until IS NULL OR p.live_until > {moment})")
        else:
            parts.append("p.live_until IS NULL")
        if condition is not None:
            text, values = condition
            parts.append("(" + text.format(*(self._bind(value) for value in values)) + ")")
        return " AND ".join(parts)

    def build(self, vector: Sequence[float] | None, model: int | None) -> tuple[str, list[Any]]:
        """The statement and its arguments."""
        from memory_plugin.embedding import vector_text

        arms = " UNION ".join(self.arms)
        cases = " ".join(
            f"WHEN {kind:d} THEN -(p.weights <#> {bound}::text::sparsevec)" for kind, bound in self._weights.items()
        )
        by_words = f"(CASE p.kind {cases} ELSE 0 END)::float8" if cases else "0::float8"
        by_meaning, join = "NULL::float8", ""
        if vector is not None and model is not None:
            bound = self._bind(vector_text(vector))
            arms = arms.replace("{vector}", bound)
            by_meaning = f"-(e.vector <#> {bound}::text::halfvec)"
            join = (
                f"LEFT JOIN {{s}}.embeddings e ON e.tenant_id = $1 AND e.model_id = {self._bind(model)}::int "
                "AND e.passage_id = p.id"
            )
        statement = (
            f"WITH nominated AS MATERIALIZED ({arms}) "
            f"SELECT p.id, p.kind, {by_words} AS words, {by_meaning} AS meaning, p.said_at, p.user_id, p.thread_id, "
            "p.seq, p.document_id, p.speaker "
            f"FROM nominated n JOIN {{s}}.passages p ON p.tenant_id = $1 AND p.id = n.id {join}"
        )
        return self._database.sql(statement), self._arguments


def _or_query(terms: Sequence[Record]) -> str:
    """The query's lexemes joined by OR, the rarest first, within the budget of matching rows."""
    chosen: list[str] = []
    budget = WORD_BUDGET
    for row in sorted(terms, key=lambda row: (row["containing"], row["lexeme"])):
        if chosen and row["containing"] > budget:
            break
        budget -= row["containing"]
        escaped = row["lexeme"].replace("\\", "\\\\").replace("'", "''")
        chosen.append(f"'{escaped}'")
    return " | ".join(chosen)
