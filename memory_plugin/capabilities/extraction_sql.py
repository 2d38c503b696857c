"""The statements of `Extraction`: what is to be read, how far it was, and what came of it."""

from __future__ import annotations

from memory_plugin.capabilities.memory_writes import LIVE, fill

PENDING = """
SELECT c.thread_id, c.user_id, c.message_seq, coalesce((c.extraction ->> 'seq')::bigint, 0) AS seq,
       coalesce((c.extraction ->> 'attempts')::integer, 0) AS attempts
FROM {s}.conversations c
WHERE c.tenant_id = $1 AND c.forgotten_at IS NULL
  AND c.message_seq > coalesce((c.extraction ->> 'seq')::bigint, 0)
  AND ($2::text IS NULL OR c.thread_id = $2) AND ($3::text IS NULL OR c.user_id = $3)
  AND ($4::timestamptz IS NULL OR c.updated_at <= $4) AND c.thread_id > $5::text
ORDER BY c.thread_id LIMIT $6
"""

# a body is read only where it may say that its text came out of recall
MESSAGES = """
SELECT m.seq, coalesce(m.message_id, m.id::text) AS id, m.role, m.name, m.text, m.said_at,
       CASE WHEN strpos(m.body::text, $5) > 0 THEN m.body::text END AS body
FROM {s}.messages m
WHERE m.tenant_id = $1 AND m.thread_id = $2 AND m.seq > $3 AND m.origin <> 2
  AND m.role NOT IN ('remove', 'tool', 'system') AND m.text <> ''
ORDER BY m.seq LIMIT $4
"""

# Nothing is stored where another process was here meanwhile: the position says so.
KEEP = fill(
    """
WITH moved AS (
    UPDATE {s}.conversations c
    SET extraction = jsonb_build_object(
        'seq', $4::bigint,
        'calls', coalesce((extraction ->> 'calls')::bigint, 0) + $5::bigint,
        'input_tokens', coalesce((extraction ->> 'input_tokens')::bigint, 0) + $6::bigint,
        'output_tokens', coalesce((extraction ->> 'output_tokens')::bigint, 0) + $7::bigint)
    WHERE c.tenant_id = $1 AND c.thread_id = $2 AND coalesce((c.extraction ->> 'seq')::bigint, 0) = $3::bigint
    RETURNING c.user_id
), given AS (
    SELECT r.id::uuid AS id, moved.user_id, r.content, decode(r.hash, 'hex') AS hash, r.subject, r.attribute,
           ARRAY(SELECT jsonb_array_elements_text(r.messages::jsonb)) AS messages, r.importance,
           r.valid_from::timestamptz AS valid_from, r.place
    FROM moved, unnest($9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::float8[],
                       $16::text[]) WITH ORDINALITY
         AS r (id, content, hash, subject, attribute, messages, importance, valid_from, place)
), made AS (
    INSERT INTO {s}.proposals (tenant_id, id, thread_id, user_id, content, content_hash, subject, attribute,
                               messages, importance, valid_from, model)
    SELECT $1, g.id, $2, g.user_id, g.content, g.hash, g.subject, g.attribute, g.messages, g.importance,
           g.valid_from, $8
    FROM given g
    WHERE NOT EXISTS (
        SELECT FROM {s}.memories m
        WHERE m.tenant_id = $1 AND m.content_hash = g.hash AND m.user_id IS NOT DISTINCT FROM g.user_id AND {live})
    ORDER BY g.place
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT (SELECT count(*) FROM moved) AS moved, (SELECT count(*) FROM made) AS made
""",
    live=LIVE,
)

FAILED = """
UPDATE {s}.conversations c
SET extraction = coalesce(extraction, '{}') || jsonb_build_object(
    'seq', $3::bigint, 'attempts', coalesce((extraction ->> 'attempts')::integer, 0) + 1, 'error', $4::text,
    'calls', coalesce((extraction ->> 'calls')::bigint, 0) + 1)
WHERE c.tenant_id = $1 AND c.thread_id = $2 AND coalesce((c.extraction ->> 'seq')::bigint, 0) = $3
"""

_COLUMNS = """p.id, p.thread_id, p.user_id, p.content, p.subject, p.attribute, p.messages, p.importance, p.valid_from,
    p.model, p.status, p.memory_id, p.created_at, p.decided_at"""

LIST = f"""
SELECT {_COLUMNS} FROM {{s}}.proposals p
WHERE p.tenant_id = $1 AND ($2::text IS NULL OR p.status = $2) AND ($3::text IS NULL OR p.user_id = $3)
  AND ($4::text IS NULL OR p.thread_id = $4) AND ($5::uuid IS NULL OR p.id < $5)
ORDER BY p.id DESC LIMIT $6
"""

LOCK = f"SELECT {_COLUMNS} FROM {{s}}.proposals p WHERE p.tenant_id = $1 AND p.id = $2 FOR UPDATE"

DECIDE = f"""
UPDATE {{s}}.proposals p SET status = $3, memory_id = $4, decided_at = now()
WHERE p.tenant_id = $1 AND p.id = $2 RETURNING {_COLUMNS}
"""
