"""The statements of `own`: times as the source has them, and indexes of threads. `{s}` is the schema."""

from __future__ import annotations

THREADS = """
SELECT thread_id, count(*) AS checkpoints FROM {s}.checkpoints
WHERE tenant_id = $1 AND ($2::text IS NULL OR thread_id > $2) GROUP BY thread_id ORDER BY thread_id LIMIT $3
"""

INDEX = """
SELECT checkpoint_ns, checkpoint_id, created_at FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $2
"""

COUNTS = """
SELECT checkpoint_ns, checkpoint_id, count(*) AS writes FROM {s}.checkpoint_writes
WHERE tenant_id = $1 AND thread_id = $2 GROUP BY checkpoint_ns, checkpoint_id
"""

WRITES = """
SELECT checkpoint_ns, checkpoint_id, task_id, task_path, idx FROM {s}.checkpoint_writes
WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_id = ANY ($3::text[])
ORDER BY checkpoint_ns, checkpoint_id, task_path, task_id, idx
"""

# A message was said when the first checkpoint was made that has it. Only a message that is younger
# than the checkpoints at hand is looked for in them, so most batches of a long thread look for few.
DATE = """
WITH dated AS MATERIALIZED (
    SELECT d.ns, d.id, d.at::timestamptz AS at
    FROM unnest($3::text[], $4::text[], $5::text[]) AS d (ns, id, at)
), dating AS (
    UPDATE {s}.checkpoints k SET created_at = d.at FROM dated d
    WHERE k.tenant_id = $1 AND k.thread_id = $2 AND k.checkpoint_ns = d.ns AND k.checkpoint_id = d.id
      AND k.created_at <> d.at
), ranges AS MATERIALIZED (
    SELECT d.at, (range ->> 0)::bigint AS first, (range ->> 1)::bigint AS past
    FROM dated d, LATERAL (
        SELECT message_refs FROM {s}.checkpoints
        WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = d.ns AND checkpoint_id = d.id LIMIT 1
    ) AS k, jsonb_path_query(k.message_refs, '$.*[*]') AS range
), late AS MATERIALIZED (
    SELECT seq FROM {s}.messages
    WHERE tenant_id = $1 AND thread_id = $2 AND origin <> 1 AND said_at > (SELECT min(at) FROM dated)
), said AS MATERIALIZED (
    SELECT l.seq, min(r.at) AS at FROM late l JOIN ranges r ON l.seq >= r.first AND l.seq < r.past GROUP BY l.seq
), passing AS (
    UPDATE {s}.passages p SET said_at = s.at FROM said s
    WHERE p.tenant_id = $1 AND p.thread_id = $2 AND p.kind = 2 AND p.seq = s.seq AND p.said_at > s.at
)
UPDATE {s}.messages m SET said_at = s.at FROM said s
WHERE m.tenant_id = $1 AND m.thread_id = $2 AND m.seq = s.seq AND m.said_at > s.at
"""

# Whoever indexes the thread at this moment holds its row in the queue; after that the passages are there.
WAIT_FOR_INDEX = "SELECT FROM {s}.index_queue WHERE tenant_id = $1 AND kind = 2 AND item = $2 FOR UPDATE"

FINISH = """
WITH passing AS (
    UPDATE {s}.passages p SET said_at = m.said_at FROM {s}.messages m
    WHERE p.tenant_id = $1 AND p.thread_id = $2 AND p.kind = 2
      AND m.tenant_id = $1 AND m.thread_id = $2 AND m.seq = p.seq AND m.said_at < p.said_at
), appended AS (
    SELECT max(said_at) AS at FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2 AND origin = 1
)
UPDATE {s}.conversations c
SET created_at = least(c.created_at, $3),
    updated_at = CASE WHEN $4::timestamptz IS NULL THEN c.updated_at ELSE greatest($4, a.at) END,
    active_hour = CASE WHEN $4::timestamptz IS NULL THEN c.active_hour
                       ELSE date_trunc('hour', greatest($4, a.at), 'UTC') END
FROM appended a
WHERE c.tenant_id = $1 AND c.thread_id = $2
"""

CREATED = "SELECT created_at FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2"

LATE = """
SELECT count(*) FROM unnest($3::text[], $4::text[], $5::text[]) AS d (ns, id, at)
JOIN {s}.checkpoints k ON k.tenant_id = $1 AND k.thread_id = $2 AND k.checkpoint_ns = d.ns AND k.checkpoint_id = d.id
WHERE k.created_at > d.at::timestamptz
"""

ITEMS = """
SELECT id, namespace, key, value::text AS value, created_at, recorded_at AS updated_at, expires_at, ttl_minutes
FROM {seen}memories m
WHERE tenant_id = $1 AND id > $2 AND superseded_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY id LIMIT $3
"""

COUNT_ITEMS = """
SELECT count(*) FROM {seen}memories
WHERE tenant_id = $1 AND superseded_at IS NULL AND (expires_at IS NULL OR expires_at > now())
"""

# which of these items had a version of that time once, and have none now
DELETED_ITEMS = """
SELECT g.place FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS g (namespace, key, at, place)
WHERE EXISTS (
    SELECT FROM {seen}memories m
    WHERE m.tenant_id = $1 AND m.namespace = g.namespace::text[] AND m.key = g.key
      AND m.recorded_at = g.at::timestamptz AND m.superseded_at IS NOT NULL
)
"""

DATE_ITEMS = """
WITH given AS MATERIALIZED (
    SELECT g.namespace::text[] AS namespace, g.key, g.created::timestamptz AS created,
           g.updated::timestamptz AS updated, g.expires::timestamptz AS expires
    FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
        AS g (namespace, key, created, updated, expires)
), current AS MATERIALIZED (
    SELECT m.id, m.item_id, m.version, g.created, g.updated, g.expires FROM given g, LATERAL (
        SELECT id, item_id, version FROM {seen}memories
        WHERE tenant_id = $1 AND namespace = g.namespace AND key = g.key AND superseded_at IS NULL LIMIT 1
    ) AS m
), before AS (
    UPDATE {s}.memories p SET superseded_at = greatest(p.recorded_at, c.updated) FROM current c
    WHERE p.tenant_id = $1 AND p.item_id = c.item_id AND p.version = c.version - 1 AND p.superseded_at > c.updated
    RETURNING p.id, p.superseded_at
), hidden AS (
    UPDATE {s}.passages p SET live_until = b.superseded_at FROM before b WHERE p.tenant_id = $1 AND p.id = b.id
), passing AS (
    UPDATE {s}.passages p SET said_at = c.updated FROM current c WHERE p.tenant_id = $1 AND p.id = c.id
)
UPDATE {s}.memories m SET recorded_at = c.updated, created_at = least(c.created, c.updated), expires_at = c.expires
FROM current c WHERE m.tenant_id = $1 AND m.id = c.id
"""
