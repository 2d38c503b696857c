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

import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from memory_plugin.capabilities.document_vectors import DocumentVectors
from memory_plugin.capabilities.languages import Languages, of_tenant
from memory_plugin.capabilities.passage_index import IndexStatements
from memory_plugin.capabilities.passage_search import (
    CANDIDATES,
    MEMORY,
    MESSAGE,
    NAME_RARITY,
    NEARBY,
    REFERENCE,
    SPARSE_SIZE,
    Candidate,
    Scope,
    SearchBuilder,
    Term,
)
from memory_plugin.capabilities.vectors import QueryVector, Vectors, model_id
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.joined import apart
from memory_plugin.db.translation import takes_no_writes
from memory_plugin.errors import DatabaseError

if TYPE_CHECKING:
    from memory_plugin.embedding import Embedder
    from memory_plugin.embedding.guard import Guard

__all__ = [
    "CANDIDATES",
    "MEMORY",
    "MESSAGE",
    "REFERENCE",
    "Backlog",
    "Candidate",
    "Passages",
    "Scope",
    "Wanted",
    "model_id",
]

logger = logging.getLogger("memory_plugin")

_ANYTHING = Scope()

MANY = 500
"""Passages made at once from which the planner should know what the tables hold."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What the index knows of a question before it is searched for.

    Attributes:
        is_pending: something that was written waits for the index by words.
        is_waiting: passages wait for their vector in the space that is searched.
        speakers: the names in it that somebody's name begins with who speaks within the scope, with that name.
        sizes: how many passages there are, by kind.
        terms: the lexemes of the question, for each kind.
        candidates: what a search for it nominates; None where that was not asked for or takes another statement.
        facts: rows of memories among them, by their ids: of those that seem best.
        is_cut: other memories may have been nominated too, and were left out.
    """

    is_pending: bool
    is_waiting: bool
    speakers: dict[str, str]
    sizes: dict[int, int]
    terms: Sequence[Term]
    candidates: list[Candidate] | None = None
    facts: Mapping[UUID, Record] = field(default_factory=dict)
    is_cut: bool = False

    @property
    def is_of_few(self) -> bool:
        """Whether the tenant has so few passages that a search measures all of them."""
        return sum(self.sizes.values()) <= FEW


@dataclass(frozen=True, slots=True)
class Wanted:
    """The candidates that a reading gives where it can, see `Passages.search`.

    Attributes:
        facts: of memories only so many, the best by the two weights, and each with its row; 0 for all, without.
    """

    vector: QueryVector | None
    limit: int = CANDIDATES
    surroundings: int = 0
    time_words: str | None = None
    facts: int = 0
    of_words: float = 1.0
    of_meaning: float = 1.0


_NOTHING = Wanted(None, 0)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the index: queue rows for words, passages without a vector."""

    words: int
    vectors: int


_READ = """
SELECT * FROM {s}.found_with_facts($1, $2::text[], $3::text, $4::smallint[], $5::text[], $6::text[], $7::float8,
    $8::text::integer, $9::text::halfvec, $10::text::integer, $11::text::integer, $12::text, $13::text,
    $14::timestamptz, $15::timestamptz, $16::timestamptz, $17::text::integer, $18::text::integer, $19::text::sparsevec,
    $20::text::integer, $21::float8, $22::float8)
"""

_OF_CANDIDATE = slice(1, 1 + len(Candidate._fields))
"""The columns of a candidate in what it gives."""


FEW = 3_000
"""Passages of a tenant up to which a search measures all of them in one pass, without asking indexes for the best."""

_TIME_WORDS = f"""
SELECT '{{' || string_agg(DISTINCT {{s}}.term_id(lexeme) || ':1', ',') || '}}/{SPARSE_SIZE}'
FROM unnest({of_tenant("$2")}) AS l (name), unnest({{s}}.words(l.name::regconfig, $3))
"""

_BACKLOG = """
SELECT (SELECT count(*) FROM {s}.index_queue WHERE tenant_id = $1) AS words,
       (SELECT count(*) FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id IN ($2, $3)) AS vectors
"""


_UNCOUNTED = """
SELECT relname FROM pg_class
WHERE reltuples < 0
  AND oid IN ('{s}.passages'::regclass, '{s}.embeddings'::regclass, '{s}.messages'::regclass, '{s}.memories'::regclass)
"""

_FLAGGED = "SELECT id FROM {s}.passages WHERE tenant_id = $1 AND id = ANY ($2::uuid[]) AND flagged"

# what could not be read for instructions is not taken to have none
_NOT_SEEN_TO_BE_PLAIN = """
SELECT each.id FROM unnest($2::uuid[]) AS each (id)
WHERE NOT EXISTS (SELECT FROM {s}.passages p WHERE p.tenant_id = $1 AND p.id = each.id AND NOT p.flagged)
"""


class Passages:
    """Indexes what the other capabilities wrote, and nominates candidates for a query.

    Args:
        language: PostgreSQL text search configurations, for stemming and stop words; several with commas between.
        embedder: gives the vectors; None ranks by words alone.
        documents: a second vector for passages of documents; None where they get none.
        query_seconds: how long a search waits for the vector of its query.
        guards: of the embedders, see `Vectors`.

    Attributes:
        vectors: of the passages and of queries.
        documents: as given.
        languages: that words are read in.
    """

    def __init__(
        self,
        database: Database,
        *,
        tenant: str,
        language: str = "english",
        embedder: Embedder | None = None,
        documents: DocumentVectors | None = None,
        query_seconds: float | None = None,
        guards: dict[str, Guard] | None = None,
    ) -> None:
        self._database = database
        self._tenant = tenant
        self.languages = Languages(database, tenant=tenant, setting=language)
        self.vectors = Vectors(database, tenant=tenant, embedder=embedder, query_seconds=query_seconds, guards=guards)
        self.documents = documents
        self._index = IndexStatements(database)
        self._read = database.sql(_READ)
        self._time_words: str | None = None
        self._counted = False
        self._is_refused = False
        self._backlog = database.sql(_BACKLOG)

    @property
    def embedder(self) -> Embedder | None:
        """What turns text into vectors here, None for words alone."""
        return self.vectors.embedder

    @apart
    async def catch_up(self) -> int:
        """Put everything that is queued into the index by words; how many queue rows were taken."""
        rows = passages = 0
        more = True
        while more:
            taken = await self._index.run(self._tenant, self.languages.setting)
            rows, passages, more = rows + taken.rows, passages + taken.passages, taken.more
        if passages > MANY and not self._counted:
            await self._count()
        return rows

    @apart
    async def refresh(self, *, words: bool = True, vectors: bool = False) -> bool:
        """Index what waits before a question is answered; False where the database takes no writes now.

        Such a database still answers, with what is indexed: that it leaves out what was written last is logged once.

        Args:
            vectors: embed a batch too, if the embedder is quick enough to do so during a search.

        Raises:
            EmbeddingError: the embedder failed.
        """

        async def index() -> bool:
            if words:
                await self.catch_up()
            if vectors:
                await self.vectors.fill_at_once()
            return True

        return await self._if_writable(index())

    @apart
    async def fill_within(self, seconds: float | None = None) -> bool:
        """As `Vectors.fill_within`; False also where the database takes no writes now.

        Raises:
            EmbeddingError: the embedder failed.
        """
        return await self._if_writable(self.vectors.fill_within(seconds))

    async def _if_writable(self, work: Awaitable[bool]) -> bool:
        """What the work answers; False where it ended because the database refuses to write."""
        try:
            answer = await work
        except DatabaseError as error:
            if not takes_no_writes(error):
                raise
            if not self._is_refused:
                logger.warning("Searches leave out what was written last, which cannot be indexed: %s", error)
            self._is_refused = True
            return False
        self._is_refused = False
        return answer

    async def _count(self) -> None:
        """Gather statistics of tables that have none yet, as autovacuum would do within a minute.

        Until then the planner takes a tenant for a single row, and reads all of it for every hit.
        """
        owner = self._database.as_login()  # anybody else is refused in silence
        for row in await self._database.fetch(self._database.sql(_UNCOUNTED), repeat=Repeat.READ):
            await owner.execute(owner.sql(f"ANALYZE {{s}}.{row['relname']}"))
        self._counted = True

    @apart
    async def fill(self) -> int:
        """Embed every passage that waits for its vector; how many were done.

        Raises:
            EmbeddingError: the embedder failed; what was done before stays done.
        """
        return await self.vectors.fill()

    async def flagged(self, ids: Sequence[UUID]) -> set[UUID]:
        """Those of the rows (facts by version, messages, chunks) that read like instructions to an assistant."""
        if not ids:
            return set()
        is_fresh = await self.refresh()
        statement = self._database.sql(_FLAGGED if is_fresh else _NOT_SEEN_TO_BE_PLAIN)
        rows = await self._database.fetch(statement, self._tenant, list(ids), repeat=Repeat.READ)
        return {row["id"] for row in rows}

    async def backlog(self) -> Backlog:
        """How much is stored but not yet indexed."""
        both = self.vectors, None if self.documents is None else self.documents.vectors
        numbers = [-1 if each is None or each.embedder is None else model_id(each.embedder.name) for each in both]
        row = await self._database.fetchrow(self._backlog, self._tenant, *numbers, repeat=Repeat.READ)
        assert row is not None  # a SELECT without FROM always has a row
        return Backlog(words=row["words"], vectors=row["vectors"])

    @apart
    async def embed_query(self, query: str, vectors: Vectors | None = None) -> QueryVector | None:
        """The query's vector; None without an embedder, or where the text has no known token.

        Args:
            vectors: that it is compared with; None for those of everything.

        Raises:
            EmbeddingError: the embedder failed, or gave no answer in time.
        """
        return await (vectors or self.vectors).embed_query(query)

    async def read(
        self,
        words: str,
        kinds: Sequence[int],
        *,
        scope: Scope = _ANYTHING,
        asked_for: Sequence[str] = (),
        names: Iterable[str] = (),
        wanted: Wanted | None = None,
        vectors: Vectors | None = None,
    ) -> Reading:
        """What the index knows of a question, in one statement, which may answer it too.

        Args:
            asked_for: words that may be the names of those who speak within the scope.
            names: of those who speak, where they are known.
            wanted: which candidates to give at once, if the tenant has few passages, nothing waits for the index,
                and nobody who speaks is asked for.
            vectors: that the search is going to compare; None for those of everything.
        """
        from memory_plugin.embedding import vector_text

        own, few = (vectors or self.vectors).searched, FEW if wanted is not None else -1
        wanted = wanted or _NOTHING
        vector = wanted.vector
        header, *rows = await self._database.fetch(
            self._read,
            self._tenant,
            self.languages.setting,
            words,
            list(kinds),
            list(asked_for),
            list(names),
            NAME_RARITY,
            # the space of the vector: another one may be searched by now
            str(vector.space.number) if vector is not None else "-1" if own is None else str(own),
            None if vector is None else vector_text(vector),
            str(few),
            str(wanted.limit),
            scope.user_id,
            scope.thread_id,
            scope.since,
            scope.until,
            scope.as_of,
            str(wanted.surroundings),
            str(NEARBY),
            wanted.time_words or None,
            str(wanted.facts),
            float(wanted.of_words),
            float(wanted.of_meaning),
            repeat=Repeat.READ,
        )
        known = orjson.loads(header[0])
        sizes = {int(kind): size for kind, size in (known["sizes"] or {}).items()}
        terms = known["terms"] or []
        for term in terms:
            term["passages"] = sizes.get(term["kind"], 0)
        waits = known["is_pending"] or known["is_waiting"] or known["speakers"]
        at_once = not waits and sum(sizes.values()) <= few
        return Reading(
            is_pending=known["is_pending"],
            is_waiting=known["is_waiting"] or (own is None and self.embedder is not None),
            speakers=known["speakers"] or {},
            sizes=sizes,
            terms=terms,
            candidates=[Candidate._make(row[_OF_CANDIDATE]) for row in rows] if at_once else None,
            facts={row["id"]: row for row in rows if row["item_id"] is not None},
            is_cut=0 < wanted.facts <= sum(row["kind"] == MEMORY for row in rows),
        )

    async def query_terms(self, words: str, kinds: Sequence[int], names: Iterable[str] = ()) -> Sequence[Term]:
        """The lexemes of a query, in how many passages of each kind they stand, and whether they are of a name."""
        return (await self.read(words, kinds, names=names)).terms

    async def time_words(self, words: str) -> str:
        """The words as a vector of terms, in the languages of the tenant."""
        if self._time_words is None:
            self._time_words = await self._database.fetchval(
                self._database.sql(_TIME_WORDS),
                self._tenant,
                self.languages.setting,
                words,
                repeat=Repeat.READ,
            )
        return self._time_words or ""

    async def search(
        self,
        *,
        words: str | None,
        vector: Sequence[float] | None,
        kinds: Sequence[int],
        scope: Scope = _ANYTHING,
        conditions: dict[int, tuple[str, list[Any]]] | None = None,
        limit: int = CANDIDATES,
        surroundings: int = 0,
        time_words: str | None = None,
        names: Iterable[str] = (),
        depth: int | None = None,
        reading: Reading | None = None,
    ) -> list[Candidate]:
        """The union of the best `limit` passages by words and by meaning, of each kind.

        Args:
            words: the query as text; None, or nothing but stop words, leaves the words out.
            vector: the query's vector, as `embed_query` gives it; None leaves the meaning out.
            kinds: MEMORY, MESSAGE, REFERENCE.
            scope: what the search may see.
            conditions: for a kind, one more SQL condition on the passage `p`, with `{}` for
                each of its arguments in turn.
            surroundings: so many messages before and after each that was nominated come with it,
                as far as the search may see them.
            time_words: says which messages are `dated`, as `time_words` gives it.
            names: of those who speak: common words to their messages, however rare they are elsewhere.
            depth: how many neighbours an index looks at, `limit` by default: searches with equal depths
                see the same ones, whatever their limits. 0 looks at every vector.
            reading: of the words, if that was done already.
        """
        if reading is None and words and words.strip():
            reading = await self.read(words, kinds, names=names)
        terms = reading.terms if reading is not None else []
        sizes = reading.sizes if reading is not None else None
        space = vector.space if isinstance(vector, QueryVector) else None
        builder = SearchBuilder(self._database, self._tenant, scope, limit, vector, space, depth, sizes)
        for kind in kinds:
            if sizes is not None and not sizes.get(kind):
                continue
            of_kind = [row for row in terms if row["kind"] == kind]
            builder.add(kind, of_kind, (conditions or {}).get(kind))
        if not builder.arms:
            return []
        statement, arguments = builder.build(surroundings, time_words)
        rows = await self._database.fetch(statement, *arguments, repeat=Repeat.READ)
        return [Candidate(*row) for row in rows]
