"""The statements of `Checkpoints` that delete, thin out, copy and walk back. `{s}` is the store's schema.

A deletion runs in one transaction with `LOCK_*` before it, and touches only the threads locked by
that: every put locks the row of its conversation too, so the deletion sees all that was put before,
a later put sees the deletion, and neither waits for the other while it holds what that one needs.
"""

from __future__ import annotations

LOCK_RUNS = """
SELECT thread_id FROM {s}.conversations
WHERE tenant_id = $1 AND thread_id IN (
    SELECT thread_id FROM {seen}checkpoints WHERE tenant_id = $1 AND metadata ->> 'run_id' = ANY ($2))
ORDER BY thread_id FOR UPDATE
"""

# a delta channel keeps its value in the writes since its last snapshot: a checkpoint that
# descends from these needs them, however old they are
_DELTA_NEEDS = """
ARRAY(
    SELECT name FROM unnest({candidates}) AS name
    WHERE NOT coalesce({row}.message_refs ? name, false) AND NOT EXISTS (
        SELECT FROM {s}.checkpoint_blobs b
        WHERE b.tenant_id = {row}.tenant_id AND b.thread_id = {row}.thread_id
          AND b.checkpoint_ns = {row}.checkpoint_ns AND b.channel = name COLLATE "C"
          AND b.version = ({row}.versions ->> name) COLLATE "C")
)
"""


def _needs(row: str, candidates: str) -> str:
    return _DELTA_NEEDS.replace("{row}", row).replace("{candidates}", candidates)


_DELTA_CHANNELS = "ARRAY(SELECT jsonb_object_keys(c.metadata -> 'counters_since_delta_snapshot'))"


def needed_chain(heads: str) -> str:
    """A recursive part `needed`: the heads, and the ancestors that their delta channels live on."""
    return f"""needed AS (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
           CASE WHEN jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot') = 'object'
                THEN {_needs("c", _DELTA_CHANNELS)} ELSE '{{}}' END AS open
    FROM {{s}}.checkpoints c JOIN {heads} h USING (thread_id, checkpoint_ns, checkpoint_id)
    WHERE c.tenant_id = $1
    UNION
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, {_needs("c", "n.open")}
    FROM needed n JOIN {{s}}.checkpoints c
      ON c.tenant_id = $1 AND c.thread_id = n.thread_id AND c.checkpoint_ns = n.checkpoint_ns
     AND c.checkpoint_id = n.parent_checkpoint_id
    WHERE cardinality(n.open) > 0
)"""


def shown_channels(conversation: str, checkpoint: str) -> str:
    """The names that the memory buffer has of a state; rows of older versions do not say them themselves."""
    return f"""ARRAY(SELECT jsonb_array_elements_text({conversation}.buffer_channels)
                 UNION SELECT jsonb_object_keys({checkpoint}.versions) UNION SELECT '$truncated')"""


PRUNE = (
    """
WITH RECURSIVE latest AS (
    SELECT DISTINCT ON (thread_id, checkpoint_ns) thread_id, checkpoint_ns, checkpoint_id
    FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = ANY ($2)
    ORDER BY thread_id, checkpoint_ns, checkpoint_id DESC
), """
    + needed_chain("latest")
    + """, doomed AS (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id FROM {s}.checkpoints c
    WHERE c.tenant_id = $1 AND c.thread_id = ANY ($2)
      AND EXISTS (SELECT FROM latest l WHERE l.thread_id = c.thread_id AND l.checkpoint_ns = c.checkpoint_ns
                  AND c.checkpoint_id < l.checkpoint_id)
      AND NOT EXISTS (SELECT FROM needed n WHERE n.thread_id = c.thread_id AND n.checkpoint_ns = c.checkpoint_ns
                      AND n.checkpoint_id = c.checkpoint_id)
), """
)

_DELETE_DOOMED = """
k AS (
    DELETE FROM {s}.checkpoints c USING doomed d
    WHERE c.tenant_id = $1 AND c.thread_id = d.thread_id AND c.checkpoint_ns = d.checkpoint_ns
      AND c.checkpoint_id = d.checkpoint_id RETURNING 1
), w AS (
    DELETE FROM {s}.checkpoint_writes c USING doomed d
    WHERE c.tenant_id = $1 AND c.thread_id = d.thread_id AND c.checkpoint_ns = d.checkpoint_ns
      AND c.checkpoint_id = d.checkpoint_id RETURNING 1
), staying AS MATERIALIZED (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.versions, c.message_refs FROM {s}.checkpoints c
    WHERE c.tenant_id = $1 AND c.thread_id IN (SELECT thread_id FROM doomed)
      AND NOT EXISTS (SELECT FROM doomed d WHERE d.thread_id = c.thread_id AND d.checkpoint_ns = c.checkpoint_ns
                      AND d.checkpoint_id = c.checkpoint_id)
), used AS MATERIALIZED (
    SELECT DISTINCT s.thread_id, s.checkpoint_ns, v.name, v.version
    FROM staying s, jsonb_each_text(s.versions) AS v (name, version)
), b AS (
    DELETE FROM {s}.checkpoint_blobs b
    WHERE b.tenant_id = $1 AND b.thread_id IN (SELECT thread_id FROM doomed)
      AND NOT EXISTS (SELECT FROM used u WHERE u.thread_id = b.thread_id AND u.checkpoint_ns = b.checkpoint_ns
                      AND u.name = b.channel AND u.version = b.version)
      AND EXISTS (SELECT FROM doomed d JOIN {s}.checkpoints c
                  ON c.tenant_id = $1 AND c.thread_id = d.thread_id AND c.checkpoint_ns = d.checkpoint_ns
                 AND c.checkpoint_id = d.checkpoint_id
                  WHERE d.thread_id = b.thread_id AND d.checkpoint_ns = b.checkpoint_ns
                    AND c.versions ->> b.channel = b.version)
    RETURNING 1
)
"""

_COUNTS = """
SELECT (SELECT count(*) FROM k) AS checkpoints, (SELECT count(*) FROM w) AS checkpoint_writes,
       (SELECT count(*) FROM b) AS checkpoint_blobs
"""

PRUNE += _DELETE_DOOMED + _COUNTS

DELETE_FOR_RUNS = (
    """
WITH RECURSIVE asked AS (
    SELECT thread_id, checkpoint_ns, checkpoint_id FROM {seen}checkpoints
    WHERE tenant_id = $1 AND thread_id = ANY ($2) AND metadata ->> 'run_id' = ANY ($3)
), heads AS (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id FROM {s}.checkpoints c
    WHERE c.tenant_id = $1 AND c.thread_id IN (SELECT thread_id FROM asked)
      AND jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot') = 'object'
      AND NOT EXISTS (SELECT FROM asked a WHERE a.thread_id = c.thread_id AND a.checkpoint_ns = c.checkpoint_ns
                      AND a.checkpoint_id = c.checkpoint_id)
), """
    + needed_chain("heads")
    + """, doomed AS (
    SELECT * FROM asked a
    WHERE NOT EXISTS (SELECT FROM needed n WHERE n.thread_id = a.thread_id AND n.checkpoint_ns = a.checkpoint_ns
                      AND n.checkpoint_id = a.checkpoint_id)
), """
    + _DELETE_DOOMED
    + """, lost AS MATERIALIZED (
    SELECT DISTINCT m.thread_id, m.seq, m.id, m.origin
    FROM doomed d JOIN {s}.checkpoints c
      ON c.tenant_id = $1 AND c.thread_id = d.thread_id AND c.checkpoint_ns = d.checkpoint_ns
     AND c.checkpoint_id = d.checkpoint_id,
         jsonb_each(c.message_refs) AS channel (name, ranges), jsonb_array_elements(channel.ranges) AS range (bounds),
         LATERAL (SELECT * FROM {s}.messages WHERE tenant_id = $1 AND thread_id = d.thread_id
                  AND seq >= (range.bounds ->> 0)::bigint AND seq < (range.bounds ->> 1)::bigint) AS m
    WHERE NOT EXISTS (
        SELECT FROM staying s, jsonb_each(s.message_refs) AS kept (name, ranges),
                    jsonb_array_elements(kept.ranges) AS span (bounds)
        WHERE s.thread_id = m.thread_id AND m.seq >= (span.bounds ->> 0)::bigint
          AND m.seq < (span.bounds ->> 1)::bigint)
), m AS (
    DELETE FROM {s}.messages x USING lost l
    WHERE x.tenant_id = $1 AND x.thread_id = l.thread_id AND x.seq = l.seq RETURNING 1
), p AS (
    DELETE FROM {s}.passages x USING lost l WHERE x.tenant_id = $1 AND x.id = l.id RETURNING 1
), roots AS (
    SELECT DISTINCT ON (c.thread_id) c.thread_id, c.checkpoint_id FROM {s}.checkpoints c
    WHERE c.tenant_id = $1 AND c.checkpoint_ns = '' AND c.thread_id IN (SELECT thread_id FROM doomed)
    ORDER BY c.thread_id, c.checkpoint_id DESC
), gone AS (
    -- threads whose newest state goes: what the memory buffer shows of it goes too
    SELECT r.thread_id, """
    + shown_channels("v", "c")
    + """ AS channels
    FROM roots r JOIN doomed d
      ON d.thread_id = r.thread_id AND d.checkpoint_ns = '' AND d.checkpoint_id = r.checkpoint_id
    JOIN {s}.conversations v ON v.tenant_id = $1 AND v.thread_id = r.thread_id
    JOIN {s}.checkpoints c ON c.tenant_id = $1 AND c.thread_id = r.thread_id AND c.checkpoint_ns = ''
     AND c.checkpoint_id = r.checkpoint_id
), counted AS (
    UPDATE {s}.conversations c
    SET message_count = coalesce((
            SELECT sum((range.bounds ->> 1)::bigint - (range.bounds ->> 0)::bigint)
            FROM (
                SELECT s.message_refs -> coalesce(c.messages_channel, $4::text) AS ranges FROM staying s
                WHERE s.thread_id = c.thread_id AND s.checkpoint_ns = '' ORDER BY s.checkpoint_id DESC LIMIT 1
            ) AS latest, jsonb_array_elements(latest.ranges) AS range (bounds)
        ), 0) + (
            SELECT count(*) FROM {s}.messages m
            WHERE m.tenant_id = $1 AND m.thread_id = c.thread_id AND m.origin = 1
        ),
        memory_buffer = CASE WHEN g.channels IS NULL THEN c.memory_buffer
                             ELSE nullif(c.memory_buffer - g.channels, '{}') END
    FROM (SELECT r.thread_id, gone.channels FROM roots r LEFT JOIN gone USING (thread_id)) AS g
    WHERE c.tenant_id = $1 AND c.thread_id = g.thread_id
)
"""
    + _COUNTS.rstrip()
    + ", (SELECT count(*) FROM m) AS messages, (SELECT count(*) FROM p) AS passages"
)

COPY_THREAD = """
WITH source AS (
    SELECT * FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2
), c AS (
    INSERT INTO {s}.conversations AS c (tenant_id, thread_id, user_id, title, metadata, memory_buffer, message_seq,
                                        message_count, messages_channel, buffer_channels)
    SELECT tenant_id, $3, user_id, title, metadata, memory_buffer, message_seq, message_count, messages_channel,
           buffer_channels
    FROM source
    ON CONFLICT (tenant_id, thread_id) DO UPDATE
    SET user_id = coalesce(c.user_id, excluded.user_id), title = coalesce(c.title, excluded.title),
        metadata = excluded.metadata || c.metadata, message_seq = excluded.message_seq,
        memory_buffer = coalesce(excluded.memory_buffer || c.memory_buffer, excluded.memory_buffer, c.memory_buffer),
        message_count = excluded.message_count, messages_channel = excluded.messages_channel,
        buffer_channels = excluded.buffer_channels
    WHERE c.message_seq = 0
      AND NOT EXISTS (SELECT FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $3)
    RETURNING 1
), m AS (
    INSERT INTO {s}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw,
                              said_at)
    SELECT tenant_id, $3, seq, gen_random_uuid(), origin, role, message_id, name, text, body, type, raw, said_at
    FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2 AND EXISTS (SELECT FROM c)
), k AS (
    INSERT INTO {s}.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint,
                                 versions, message_refs, metadata, created_at)
    SELECT tenant_id, $3, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, versions, message_refs,
           metadata, created_at
    FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $2 AND EXISTS (SELECT FROM c)
), b AS (
    INSERT INTO {s}.checkpoint_blobs (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob)
    SELECT tenant_id, $3, checkpoint_ns, channel, version, value, type, blob
    FROM {s}.checkpoint_blobs WHERE tenant_id = $1 AND thread_id = $2 AND EXISTS (SELECT FROM c)
), w AS (
    INSERT INTO {s}.checkpoint_writes (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path,
                                       channel, value, type, blob)
    SELECT tenant_id, $3, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value, type, blob
    FROM {s}.checkpoint_writes WHERE tenant_id = $1 AND thread_id = $2 AND EXISTS (SELECT FROM c)
), q AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item)
    SELECT $1, 2, $3 FROM source WHERE message_count > 0 AND EXISTS (SELECT FROM c)
    ON CONFLICT DO NOTHING
)
SELECT EXISTS (SELECT FROM source) AND NOT EXISTS (SELECT FROM c) AS occupied
"""

# `open` are the channels whose value had not been met below this ancestor
DELTA_HISTORY = (
    """
WITH RECURSIVE chain AS (
    SELECT p.*, $4::text[] AS open, 1 AS depth
    FROM {s}.checkpoints t JOIN {s}.checkpoints p
      ON p.tenant_id = t.tenant_id AND p.thread_id = t.thread_id AND p.checkpoint_ns = t.checkpoint_ns
     AND p.checkpoint_id = t.parent_checkpoint_id
    WHERE t.tenant_id = $1 AND t.thread_id = $2 AND t.checkpoint_ns = $3 AND t.checkpoint_id = $5
    UNION ALL
    SELECT p.*, c.left_open, c.depth + 1
    FROM (SELECT chain.*, """
    + _needs("chain", "chain.open")
    + """ AS left_open FROM chain) AS c
    JOIN {s}.checkpoints p
      ON p.tenant_id = c.tenant_id AND p.thread_id = c.thread_id AND p.checkpoint_ns = c.checkpoint_ns
     AND p.checkpoint_id = c.parent_checkpoint_id
    WHERE cardinality(c.left_open) > 0
)
SELECT 'seed' AS part, name AS channel, NULL AS task_id, b.value::text AS value, b.type, b.blob, c.checkpoint_id,
       c.message_refs ? name AS in_messages, c.depth, NULL AS task_path, NULL::int AS idx
FROM chain c CROSS JOIN LATERAL unnest(c.open) AS name
LEFT JOIN {s}.checkpoint_blobs b
  ON b.tenant_id = c.tenant_id AND b.thread_id = c.thread_id AND b.checkpoint_ns = c.checkpoint_ns
 AND b.channel = name COLLATE "C" AND b.version = (c.versions ->> name) COLLATE "C"
WHERE b.channel IS NOT NULL OR c.message_refs ? name
UNION ALL
SELECT 'write', w.channel, w.task_id, w.value::text, w.type, w.blob, c.checkpoint_id, false, c.depth, w.task_path, w.idx
FROM chain c JOIN {s}.checkpoint_writes w
  ON w.tenant_id = c.tenant_id AND w.thread_id = c.thread_id AND w.checkpoint_ns = c.checkpoint_ns
 AND w.checkpoint_id = c.checkpoint_id AND w.channel = ANY (c.open)
ORDER BY depth DESC, task_path, task_id, idx
"""
)
