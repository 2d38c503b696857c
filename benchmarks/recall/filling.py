"""A table of a million memories, made in minutes: the texts of one tenant, and copies of them for others.

What a tenant of the measurement has went through the functions of the index; a copy has the same words,
weights and vectors under ids of its own. Indexes that cost most to keep up are made at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.recall.corpus import Corpus
from memory_plugin.core import MemoryCore
from memory_plugin.db.database import Database
from memory_plugin.embedding import vector_text
from memory_plugin.types import uuid7

OWN_USER = 1_000
"""Memories of each user of a measured tenant."""

STEP = 5_000

_MEMORIES = """
INSERT INTO {s}.memories (tenant_id, id, item_id, namespace, key, content, content_hash, value, user_id)
SELECT $1, id, id, ARRAY['memories', user_id], place::text, body, sha256(convert_to(body, 'UTF8')), '{}', user_id
FROM (SELECT id::uuid AS id, place + $3::int AS place, body, 'user-' || (place + $3::int - 1) / $4::int AS user_id
      FROM unnest($2::text[], $5::text[]) WITH ORDINALITY AS t (body, id, place)) d
"""
_PASSAGES = """
INSERT INTO {s}.passages (tenant_id, id, kind, user_id, said_at, length, lexemes, weights, keys)
SELECT $1, id, 1, user_id, recorded_at, {s}.words_length(lexemes), lexemes, {s}.words_weights(lexemes, 12),
       {s}.term_keys($1, 1::smallint, lexemes)
FROM (SELECT m.*, {s}.words('english', content) AS lexemes FROM {s}.memories m
      WHERE tenant_id = $1 AND key::int > $2::int OFFSET 0) AS new
"""
_VECTORS = """
INSERT INTO {s}.embeddings (tenant_id, model_id, passage_id, vector)
SELECT $1, $2, m.id, v.vector::halfvec
FROM unnest($3::text[], $4::text[]) AS v (key, vector)
JOIN {s}.memories m ON m.tenant_id = $1 AND m.namespace = ARRAY['memories', 'user-' || (v.key::int - 1) / $5::int]
     AND m.key = v.key AND m.superseded_at IS NULL
"""
_COPY = (
    """
INSERT INTO {s}.memories (tenant_id, id, item_id, namespace, key, content, content_hash, value, user_id)
SELECT $2, {new}, {new}, namespace, key, content, content_hash, value, user_id FROM {s}.memories m WHERE tenant_id = $1
""",
    """
INSERT INTO {s}.passages (tenant_id, id, kind, user_id, said_at, length, lexemes, weights, keys)
SELECT $2, {new}, kind, user_id, said_at, length, lexemes, weights, {s}.term_keys($2, kind, lexemes)
FROM {s}.passages m WHERE tenant_id = $1
""",
    """
INSERT INTO {s}.embedding_models (tenant_id, model_id, name, dims, ready_at)
SELECT $2, model_id, name, dims, ready_at FROM {s}.embedding_models WHERE tenant_id = $1
""",
    """
INSERT INTO {s}.embeddings (tenant_id, model_id, passage_id, vector)
SELECT $2, model_id, {new}, vector FROM (SELECT *, passage_id AS id FROM {s}.embeddings) m WHERE tenant_id = $1
""",
    """
INSERT INTO {s}.term_statistics (tenant_id, kind, term, passages)
SELECT $2, kind, term, passages FROM {s}.term_statistics WHERE tenant_id = $1
""",
    """
INSERT INTO {s}.corpus_statistics (tenant_id, kind, passages, total_length)
SELECT $2, kind, passages, total_length FROM {s}.corpus_statistics WHERE tenant_id = $1
""",
)
# ids begin with the time: those of another tenant lie in the same order
_NEW_ID = "(left(m.id::text, 18) || substr(md5($2 || m.id)::uuid::text, 19))::uuid"
_TERMS = """
INSERT INTO {s}.term_statistics (tenant_id, kind, term, passages)
SELECT $1, 1, {s}.term_id(lexeme), count(DISTINCT id) FROM {s}.passages, unnest(lexemes) WHERE tenant_id = $1 GROUP BY 3
"""
_TOTALS = """
INSERT INTO {s}.corpus_statistics (tenant_id, kind, passages, total_length)
SELECT $1, 1, count(*), sum(length) FROM {s}.passages WHERE tenant_id = $1
"""

Step = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Filled:
    """A tenant with its texts, in the order of their users: OWN_USER to each."""

    tenant: str
    texts: Sequence[str]


async def fill(core: MemoryCore, tenant: str, corpus: Corpus, size: int, step: Step) -> Filled:
    """Give a tenant so many memories, as `remember` and the index would leave them."""
    database = core.database
    texts = [corpus.text() for _ in range(size)]
    for start in range(0, size, STEP):
        some = texts[start : start + STEP]
        ids = [str(uuid7()) for _ in some]
        await database.execute(database.sql(_MEMORIES), tenant, some, start, OWN_USER, ids)
        await database.execute(database.sql(_PASSAGES), tenant, start)
        if core.embedder is not None:
            await _embed(core, tenant, some, start)
        step(f"{tenant}: {start + len(some):,} memories")
    for statement in (_TERMS, _TOTALS):
        await database.execute(database.sql(statement), tenant)
    return Filled(tenant, texts)


async def _embed(core: MemoryCore, tenant: str, texts: Sequence[str], start: int) -> None:
    assert core.embedder is not None
    own = await core.passages.vectors.own_space()
    assert own is not None
    vectors = await core.embedder.embed_documents(texts)
    keys = [str(start + place) for place in range(1, len(texts) + 1)]
    statement = core.database.sql(_VECTORS)
    await core.database.execute(
        statement, tenant, own[0].number, keys, [vector_text(vector) for vector in vectors], OWN_USER
    )


async def copy(database: Database, tenant: str, other: str) -> None:
    """Give another tenant the same memories."""
    for statement in _COPY:
        await database.execute(database.sql(statement.replace("{new}", _NEW_ID)), tenant, other)


async def without_indexes(database: Database) -> list[str]:
    """Drop the indexes that are quicker to make than to keep up; the statements that make them again."""
    rows = await database.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = $1 AND indexdef LIKE '% USING gin %' "
        "AND tablename = 'passages'",
        database.schema,
    )
    for row in rows:
        await database.execute(database.sql(f"DROP INDEX {{s}}.{row['indexname']}"))
    return [row["indexdef"] for row in rows]
