"""The statements about vector spaces: which there are, what waits for a vector, and the index of a large one."""

from __future__ import annotations

import hashlib

# $2 is the number of the space whose index is asked for, $3 the name of the index
SPACES = """
SELECT m.name, m.model_id AS number, m.dims, m.spec, m.kind, m.created_at, m.ready_at, m.retired_at,
       CASE WHEN m.model_id = $2::text::integer
            THEN (SELECT i.indisvalid FROM pg_index i WHERE i.indexrelid = to_regclass($3)) END AS indexed
FROM {s}.embedding_models m
WHERE m.tenant_id = $1 ORDER BY m.ready_at DESC NULLS FIRST, m.created_at DESC
"""

# A space for all kinds has what one for a single kind needs.
KNOWN = """
SELECT dims, ready_at FROM {s}.embedding_models
WHERE tenant_id = $1 AND model_id = $2 AND retired_at IS NULL AND (kind IS NULL OR kind = $3::text::smallint)
"""

# The first space of an empty tenant has all its vectors. A row that is there stays, unless it was retired, or was for
# one kind and is to be for all.
REGISTER = """
WITH made AS (
    INSERT INTO {s}.embedding_models AS m (tenant_id, model_id, name, dims, spec, kind, ready_at)
    SELECT $1, $2, $3, $4, $5, k.kind, CASE WHEN NOT EXISTS (
        SELECT FROM {s}.passages p WHERE p.tenant_id = $1 AND (k.kind IS NULL OR p.kind = k.kind)) THEN now() END
    FROM (SELECT $6::text::smallint) AS k (kind)
    ON CONFLICT (tenant_id, model_id) DO UPDATE SET retired_at = NULL, ready_at = NULL, kind = excluded.kind
    WHERE m.retired_at IS NOT NULL OR (m.kind IS NOT NULL AND excluded.kind IS NULL)
    RETURNING dims, ready_at
)
SELECT dims, ready_at FROM made
UNION ALL
SELECT dims, ready_at FROM {s}.embedding_models
WHERE tenant_id = $1 AND model_id = $2 AND NOT EXISTS (SELECT FROM made)
"""

READY = "SELECT ready_at IS NOT NULL FROM {s}.embedding_models WHERE tenant_id = $1 AND model_id = $2"

# What has no vector and does not wait for one: all that was there before the space was.
SEED = """
WITH missing AS (
    SELECT p.id FROM {s}.passages p
    WHERE p.tenant_id = $1 AND ($4::text IS NULL OR p.kind = $4::text::smallint)
      AND NOT EXISTS (SELECT FROM {s}.embeddings e
                      WHERE e.tenant_id = $1 AND e.model_id = $2 AND e.passage_id = p.id)
      AND NOT EXISTS (SELECT FROM {s}.embedding_queue q
                      WHERE q.tenant_id = $1 AND q.model_id = $2 AND q.passage_id = p.id)
    LIMIT $3
), queued AS (
    INSERT INTO {s}.embedding_queue (tenant_id, model_id, passage_id) SELECT $1, $2, id FROM missing
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT count(*) FROM queued
"""

# From then on searches use the space; texts that the model refuses do not hold it up.
SWITCH = """
UPDATE {s}.embedding_models SET ready_at = clock_timestamp()
WHERE tenant_id = $1 AND model_id = $2 AND ready_at IS NULL
  AND NOT EXISTS (SELECT FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id = $2 AND attempts = 0)
RETURNING true
"""

ENDS = """
SELECT (SELECT passage_id FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id = $2
        ORDER BY passage_id LIMIT 1) AS first,
       (SELECT passage_id FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id = $2
        ORDER BY passage_id DESC LIMIT 1) AS last
"""

# the texts of a store item lie one after the other in its content: `ends` says where each is over
WAITING = """
SELECT q.passage_id, m.index_fields ->> 'ends' AS ends,
       coalesce(m.content, g.text, array_to_string(c.heading_path, ' > ') || E'\\n' || c.text, '') AS text
FROM (
    SELECT passage_id FROM {s}.embedding_queue
    WHERE tenant_id = $1 AND model_id = $2 AND passage_id >= $4 AND (not_before IS NULL OR not_before <= now())
    ORDER BY passage_id LIMIT $3
) q
JOIN {s}.passages p ON p.tenant_id = $1 AND p.id = q.passage_id
LEFT JOIN {s}.memories m ON p.kind = 1 AND m.tenant_id = p.tenant_id AND m.id = p.id
LEFT JOIN {s}.messages g ON p.kind = 2 AND g.tenant_id = p.tenant_id AND g.thread_id = p.thread_id AND g.seq = p.seq
LEFT JOIN {s}.chunks c ON p.kind = 3 AND c.tenant_id = p.tenant_id AND c.id = p.id
"""

STORE = """
WITH given AS (
    SELECT id::uuid AS passage_id, part::smallint AS part, vector
    FROM unnest($3::text[], $4::text[], $5::text[]) AS v (id, part, vector)
), present AS (
    -- held until the end: a passage that goes meanwhile would leave its vector without a parent
    SELECT p.id FROM {s}.passages p
    WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT passage_id FROM given)) ORDER BY p.id FOR KEY SHARE OF p
), stored AS (
    INSERT INTO {s}.embeddings (tenant_id, model_id, passage_id, part, vector)
    SELECT $1, $2, v.passage_id, v.part, v.vector::halfvec FROM given v JOIN present p ON p.id = v.passage_id
    ON CONFLICT DO NOTHING
)
DELETE FROM {s}.embedding_queue q
WHERE q.tenant_id = $1 AND q.model_id = $2 AND q.passage_id = ANY (ARRAY(SELECT passage_id FROM given))
"""

REFUSED = """
UPDATE {s}.embedding_queue
SET attempts = least(attempts + 1, 30), not_before = now() + least(power(2, attempts), 168) * interval '1 hour'
WHERE tenant_id = $1 AND model_id = $2 AND passage_id = $3
"""

RETIRE = """
WITH retired AS (
    UPDATE {s}.embedding_models SET retired_at = now()
    WHERE tenant_id = $1 AND model_id = $2 AND retired_at IS NULL
      AND ($3::text IS NULL OR kind = $3::text::smallint) RETURNING model_id
), gone AS (
    DELETE FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id IN (SELECT model_id FROM retired)
)
SELECT count(*) FROM retired
"""

DROP_SOME = """
DELETE FROM {s}.embeddings WHERE tenant_id = $1 AND model_id = $2 AND passage_id = ANY (ARRAY(
    SELECT passage_id FROM {s}.embeddings WHERE tenant_id = $1 AND model_id = $2 LIMIT $3))
"""
DROP_MODEL = "DELETE FROM {s}.embedding_models WHERE tenant_id = $1 AND model_id = $2"

COUNTS = """
SELECT (SELECT count(DISTINCT passage_id) FROM {s}.embeddings WHERE tenant_id = $1 AND model_id = $2) AS passages,
       (SELECT count(*) FROM {s}.embeddings WHERE tenant_id = $1 AND model_id = $2) AS vectors,
       (SELECT count(*) FROM {s}.embedding_queue WHERE tenant_id = $1 AND model_id = $2) AS waiting,
       (SELECT count(*) FROM {s}.embedding_queue
        WHERE tenant_id = $1 AND model_id = $2 AND attempts > 0) AS refused,
       (SELECT count(*) FROM {s}.passages p JOIN {s}.embedding_models m
            ON m.tenant_id = $1 AND m.model_id = $2 AND (m.kind IS NULL OR m.kind = p.kind)
        WHERE p.tenant_id = $1) AS of_all
"""

# As `index_queued` keeps it: how many passages of a kind a tenant has.
OF_KIND = """
SELECT coalesce((SELECT passages FROM {s}.corpus_statistics WHERE tenant_id = $1 AND kind = $2::text::smallint), 0)
"""

AT_LEAST = """
SELECT count(*) FROM (SELECT FROM {s}.embeddings WHERE tenant_id = $1 AND model_id = $2 LIMIT $3) AS found
"""

INDEX_STATE = """
SELECT i.indisvalid AS valid, EXISTS (
    SELECT FROM pg_stat_progress_create_index b WHERE b.index_relid = i.indexrelid) AS building
FROM pg_index i WHERE i.indexrelid = to_regclass($1)
"""

INDEX_PROGRESS = """
SELECT CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END AS done,
       CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END AS total
FROM pg_stat_progress_create_index
WHERE relid = to_regclass($1) AND command LIKE 'CREATE%' LIMIT 1
"""


def index_name(tenant: str, number: int) -> str:
    """What the index of a tenant's space is called."""
    return f"embeddings_{hashlib.sha256(tenant.encode()).hexdigest()[:16]}_{number}_hnsw"


def create_index(tenant: str, number: int, dims: int) -> str:
    """The statement that makes the index; the tenant stands in it as a literal, as a partial index asks for.

    Vectors have length 1, so the inner product orders as the cosine does.
    """
    return (
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {index_name(tenant, number)} ON {{s}}.embeddings "
        f"USING hnsw ((vector::halfvec({dims:d})) halfvec_ip_ops) "
        f"WHERE tenant_id = {literal(tenant)} AND model_id = {number:d}"
    )


def literal(text: str) -> str:
    """The text as an SQL literal that means the same whatever `standard_conforming_strings` says."""
    escaped = text.replace("\\", "\\\\").replace("'", "''").replace("{", "\\u007b")  # "{s}" stands for the schema
    return f"E'{escaped}'"
