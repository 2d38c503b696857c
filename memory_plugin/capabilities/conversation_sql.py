"""The statements of `Conversations`. `{s}` is the store's schema.

A thread that was forgotten softly has a `forgotten_at`: none of the reading statements sees it, and
each that writes to it brings it back.
"""

from __future__ import annotations

from memory_plugin.capabilities.thread_removal import CONTENT, removal

_COLUMNS = (
    "thread_id, user_id, title, metadata::text, message_count, created_at, updated_at, active_hour, memory_buffer::text"
)

CREATE = f"""
INSERT INTO {{s}}.conversations AS c (tenant_id, thread_id, user_id, title, metadata)
VALUES ($1, $2, $3, $4, $5::jsonb)
ON CONFLICT (tenant_id, thread_id) DO UPDATE
SET user_id = coalesce(c.user_id, excluded.user_id), title = coalesce(excluded.title, c.title),
    auto_title = c.auto_title AND excluded.title IS NULL,
    metadata = c.metadata || excluded.metadata, forgotten_at = NULL
RETURNING {_COLUMNS}
"""

GET = f"""
SELECT {_COLUMNS} FROM {{s}}.conversations WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL
"""

SET_TITLE = f"""
INSERT INTO {{s}}.conversations (tenant_id, thread_id, user_id, title) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, thread_id) DO UPDATE SET title = excluded.title, auto_title = false, forgotten_at = NULL
RETURNING {_COLUMNS}
"""


OF_CONVERSATION = ", ".join(f"c.{column}" for column in _COLUMNS.split(", "))

# $2 is the thread, where it could be locked
CLEAR = f"""
WITH c AS (
    UPDATE {{s}}.conversations
    SET message_count = 0, indexed_seq = message_seq, memory_buffer = NULL, updated_at = now(),
        summary = NULL, summary_seq = NULL, title = CASE WHEN auto_title THEN NULL ELSE title END, auto_title = false,
        active_hour = date_trunc('hour', now(), 'UTC')
    WHERE tenant_id = $1 AND thread_id = ANY ($2)
), {removal(CONTENT).removeprefix("WITH ")}
"""

APPEND = """
WITH thread AS (
    INSERT INTO {s}.conversations AS c (tenant_id, thread_id, user_id, message_seq, message_count)
    VALUES ($1, $2, $3, $4, $4)
    ON CONFLICT (tenant_id, thread_id) DO UPDATE
    SET message_seq = c.message_seq + $4, message_count = c.message_count + $4, updated_at = now(),
        active_hour = date_trunc('hour', now(), 'UTC'), user_id = coalesce(c.user_id, excluded.user_id),
        forgotten_at = NULL
    RETURNING message_seq - $4 AS base
), queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item) SELECT $1, 2, $2 FROM thread ON CONFLICT DO NOTHING
)
INSERT INTO {s}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, said_at)
SELECT $1, $2, thread.base + m.place, m.id, 1, m.role, m.message_id, m.name, m.text, m.body::jsonb, m.said_at
FROM thread, unnest($5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[])
    WITH ORDINALITY AS m (id, role, message_id, name, text, body, said_at, place)
ORDER BY m.place
RETURNING id, thread_id, seq, role, message_id, name, text, body::text, said_at
"""

# the newest $4 of each source are enough for the newest $4 of both
HISTORY = """
WITH thread AS MATERIALIZED (
    SELECT thread_id, coalesce(messages_channel, 'messages') AS channel FROM {s}.conversations
    WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL
), latest AS (
    SELECT message_refs -> (SELECT channel FROM thread) AS ranges FROM {s}.checkpoints
    WHERE tenant_id = $1 AND thread_id = (SELECT thread_id FROM thread) AND checkpoint_ns = ''
    ORDER BY checkpoint_id DESC LIMIT 1
), state AS (
    SELECT m.*, row_number() OVER (ORDER BY range.place, m.seq) AS place
    FROM latest, jsonb_array_elements(latest.ranges) WITH ORDINALITY AS range (bounds, place), LATERAL (
        SELECT id, thread_id, seq, role, message_id, name, text, body, said_at FROM {s}.messages
        WHERE tenant_id = $1 AND thread_id = $2
          AND seq >= (range.bounds ->> 0)::bigint AND seq < (range.bounds ->> 1)::bigint
    ) AS m
)
(SELECT id, thread_id, seq, role, message_id, name, text, body::text, said_at, place
 FROM state WHERE body IS NOT NULL ORDER BY place DESC LIMIT $3)
UNION ALL
(SELECT id, thread_id, seq, role, message_id, name, text, body::text, said_at, NULL
 FROM {s}.messages WHERE tenant_id = $1 AND thread_id = (SELECT thread_id FROM thread) AND origin = 1
 ORDER BY seq DESC LIMIT $3)
"""

HYDRATE = """
SELECT m.id, m.thread_id, m.seq, m.role, m.message_id, m.name, m.text, m.body::text, m.said_at
FROM unnest($2::text[], $3::bigint[]) AS wanted (thread_id, seq), LATERAL (
    SELECT * FROM {s}.messages WHERE tenant_id = $1 AND thread_id = wanted.thread_id AND seq = wanted.seq
) AS m
WHERE EXISTS (
    SELECT FROM {s}.conversations c
    WHERE c.tenant_id = $1 AND c.thread_id = wanted.thread_id AND c.forgotten_at IS NULL)
"""

GET_BUFFER = """
SELECT memory_buffer::text FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL
"""

SET_BUFFER = """
INSERT INTO {s}.conversations (tenant_id, thread_id, user_id, memory_buffer) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (tenant_id, thread_id) DO UPDATE SET memory_buffer = excluded.memory_buffer, forgotten_at = NULL
"""

MERGE_BUFFER = """
INSERT INTO {s}.conversations AS c (tenant_id, thread_id, user_id, memory_buffer) VALUES ($1, $2, $3, $4::jsonb)
ON CONFLICT (tenant_id, thread_id) DO UPDATE
SET memory_buffer = coalesce(c.memory_buffer, '{}'::jsonb) || excluded.memory_buffer, forgotten_at = NULL
RETURNING memory_buffer::text
"""

FIND_BY_BUFFER = f"""
SELECT {_COLUMNS} FROM {{seen}}conversations
WHERE tenant_id = $1 AND memory_buffer @> $2::jsonb AND forgotten_at IS NULL
ORDER BY updated_at DESC LIMIT $3
"""
