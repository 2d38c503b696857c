"""The statements that remember, read, close and bring back facts."""

from __future__ import annotations

from memory_plugin.capabilities.memory_writes import LIVE, OPEN_LIVE, REPLACE, STILL_OPEN, fill

COLUMNS = """m.id, m.item_id, m.version, m.namespace, m.key, m.content, m.value::text AS value, m.user_id,
    m.thread_id, m.agent_id, m.metadata::text AS metadata, m.source::text AS source, m.importance, m.trust,
    m.valid_from, m.valid_to, m.recorded_at, m.superseded_at, m.created_at"""

# Who asks for the current row of an item does so behind OFFSET 0: once, and not for each row that a plan reads which
# was made without statistics.

# $4 says whether the caller named the key. If not, the same text anywhere in the namespace is that
# fact; else its key is the first free one of those made from the text ($3), so that two writers of
# the same text meet at the unique index.
REMEMBER = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
twin AS (
    SELECT m.id FROM {seen}memories m
    WHERE NOT $4::boolean AND m.tenant_id = $1 AND m.content_hash = $8::bytea AND m.namespace = $2::text[]
      AND {live}
    ORDER BY m.recorded_at, m.id LIMIT 1
), slot AS (
    SELECT c.key FROM unnest($3::text[]) WITH ORDINALITY AS c (key, place)
    WHERE $4 OR NOT EXISTS (
        SELECT FROM (SELECT {s}.current_row($1, $2, c.key) AS id OFFSET 0) AS r, {s}.memories m
        WHERE m.tenant_id = $1 AND m.id = r.id AND {open})
    ORDER BY c.place LIMIT 1
), held AS MATERIALIZED (
    SELECT m.id, m.item_id, m.version, m.created_at, coalesce(m.expires_at <= now(), false) AS lapsed,
           m.content_hash = $8 AND coalesce(m.value = $9::jsonb, true)
               AND coalesce(m.metadata = $13::jsonb, true)
               AND ($17::timestamptz IS NULL OR m.valid_from IS NOT DISTINCT FROM $17)
               AND ($18::timestamptz IS NULL OR m.valid_to IS NOT DISTINCT FROM $18) AS same
    FROM slot, LATERAL (
        SELECT m.* FROM (SELECT {s}.current_row($1, $2, slot.key) AS id OFFSET 0) AS r, {s}.memories m
        WHERE m.tenant_id = $1 AND m.id = r.id AND {still_open} LIMIT 1
    ) AS m
), known AS MATERIALIZED (
    SELECT id FROM twin UNION ALL SELECT id FROM held WHERE same AND NOT lapsed
), outgoing AS (
    SELECT held.id, held.lapsed, false AS last, clock.at
    FROM held CROSS JOIN clock WHERE NOT EXISTS (SELECT FROM known)
), incoming AS (
    SELECT h.id AS replaces, clock.at, $5::uuid AS id, coalesce(o.item_id, $6::uuid) AS item_id,
           coalesce(o.version, 0) + 1 AS version, $2::text[] AS namespace, slot.key, $7::text AS content,
           $8::bytea AS content_hash, coalesce($9::jsonb, jsonb_build_object('content', $7::text)) AS value,
           $10::text AS user_id, $11::text AS thread_id, $12::text AS agent_id,
           coalesce($13::jsonb, '{}') AS metadata, $14::jsonb AS source, $15::real AS importance,
           $16::text AS trust, NULL::jsonb AS index_fields, $17::timestamptz AS valid_from,
           $18::timestamptz AS valid_to, o.created_at, NULL::float8 AS ttl_minutes
    FROM clock CROSS JOIN slot
    LEFT JOIN held h ON true
    LEFT JOIN held o ON NOT o.lapsed
    WHERE NOT EXISTS (SELECT FROM known)
),
{replace}
SELECT {columns}, CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END AS status FROM created m
UNION ALL
SELECT {columns}, 'duplicate' FROM {seen}memories m WHERE m.tenant_id = $1 AND m.id IN (SELECT id FROM known)
""",
    live=LIVE,
    open=OPEN_LIVE,
    still_open=STILL_OPEN,
    replace=REPLACE,
    columns=COLUMNS,
)

# The same for many facts at once, none of which is about what another one is about (see `memory_batches`): `new_id`
# says which. Where a fact under a key gets another text in this statement, the old one has no twin behind it.
REMEMBER_MANY = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
input AS MATERIALIZED (
    SELECT r.place, r.id, r.item_id, r.namespace::text[] AS namespace, r.is_named, r.keys::text[] AS keys, r.content,
           r.content_hash, r.value::jsonb AS value, r.user_id, r.thread_id, r.agent_id, r.metadata::jsonb AS metadata,
           r.source::jsonb AS source, r.importance::real AS importance, r.trust, r.valid_from, r.valid_to
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::boolean[], $6::text[], $7::text[], $8::bytea[], $9::text[],
                $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::float8[], $16::text[],
                $17::timestamptz[], $18::timestamptz[]) WITH ORDINALITY
         AS r (id, item_id, namespace, is_named, keys, content, content_hash, value, user_id, thread_id, agent_id,
               metadata, source, importance, trust, valid_from, valid_to, place)
), renamed AS MATERIALIZED (
    SELECT place, namespace, keys[1] AS key, content_hash FROM input WHERE is_named
), twin AS MATERIALIZED (
    SELECT i.id AS new_id, m.id FROM input i, LATERAL (
        SELECT m.id FROM {s}.memories m
        WHERE m.tenant_id = $1 AND m.content_hash = i.content_hash AND m.namespace = i.namespace AND {live}
          AND NOT EXISTS (SELECT FROM renamed n WHERE n.place < i.place AND n.namespace = m.namespace
                          AND n.key = m.key AND n.content_hash <> m.content_hash)
        ORDER BY m.recorded_at, m.id LIMIT 1
    ) AS m
    WHERE NOT i.is_named
), slot AS MATERIALIZED (
    SELECT i.id AS new_id, CASE
        WHEN i.is_named OR NOT EXISTS (
            SELECT FROM (SELECT {s}.current_row($1, i.namespace, i.keys[1]) AS id OFFSET 0) AS r, {s}.memories m
            WHERE m.tenant_id = $1 AND m.id = r.id AND {open})
        THEN i.keys[1]
        ELSE (SELECT c.key FROM unnest(i.keys) WITH ORDINALITY AS c (key, place)
              WHERE NOT EXISTS (
                  SELECT FROM (SELECT {s}.current_row($1, i.namespace, c.key) AS id OFFSET 0) AS r, {s}.memories m
                  WHERE m.tenant_id = $1 AND m.id = r.id AND {open})
              ORDER BY c.place LIMIT 1) END AS key
    FROM input i
), held AS MATERIALIZED (
    SELECT i.id AS new_id, m.id, m.item_id, m.version, m.created_at,
           coalesce(m.expires_at <= now(), false) AS lapsed,
           m.content_hash = i.content_hash AND coalesce(m.value = i.value, true)
               AND coalesce(m.metadata = i.metadata, true)
               AND (i.valid_from IS NULL OR m.valid_from IS NOT DISTINCT FROM i.valid_from)
               AND (i.valid_to IS NULL OR m.valid_to IS NOT DISTINCT FROM i.valid_to) AS same
    FROM input i JOIN slot ON slot.new_id = i.id, LATERAL (
        SELECT m.* FROM (SELECT {s}.current_row($1, i.namespace, slot.key) AS id OFFSET 0) AS r, {s}.memories m
        WHERE m.tenant_id = $1 AND m.id = r.id AND {still_open} LIMIT 1
    ) AS m
), known AS MATERIALIZED (
    SELECT new_id, id FROM twin
    UNION ALL
    SELECT new_id, id FROM held WHERE same AND NOT lapsed AND new_id NOT IN (SELECT new_id FROM twin)
), outgoing AS (
    SELECT held.id, held.lapsed, false AS last, clock.at
    FROM held CROSS JOIN clock WHERE held.new_id NOT IN (SELECT new_id FROM known)
), incoming AS (
    SELECT h.id AS replaces, clock.at, i.id, coalesce(o.item_id, i.item_id) AS item_id,
           coalesce(o.version, 0) + 1 AS version, i.namespace, slot.key, i.content, i.content_hash,
           coalesce(i.value, jsonb_build_object('content', i.content)) AS value, i.user_id, i.thread_id, i.agent_id,
           coalesce(i.metadata, '{}') AS metadata, i.source, i.importance, i.trust, NULL::jsonb AS index_fields,
           i.valid_from, i.valid_to, o.created_at, NULL::float8 AS ttl_minutes
    FROM clock CROSS JOIN input i JOIN slot ON slot.new_id = i.id
    LEFT JOIN held h ON h.new_id = i.id
    LEFT JOIN held o ON o.new_id = i.id AND NOT o.lapsed
    WHERE i.id NOT IN (SELECT new_id FROM known)
),
{replace}
SELECT i.place, {columns}, CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END AS status
FROM created m JOIN input i ON i.id = m.id
UNION ALL
SELECT i.place, {columns}, 'duplicate'
FROM known k JOIN input i ON i.id = k.new_id CROSS JOIN LATERAL (
    SELECT * FROM {s}.memories m WHERE m.tenant_id = $1 AND m.id = k.id LIMIT 1) AS m
""",
    live=LIVE,
    open=OPEN_LIVE,
    still_open=STILL_OPEN,
    replace=REPLACE,
    columns=COLUMNS,
)

GET = fill("SELECT {columns} FROM {seen}memories m WHERE m.tenant_id = $1 AND {wanted} AND {when}", columns=COLUMNS)
BY_ITEM = "m.item_id = $2::uuid"
BY_KEY = "m.id = ANY (ARRAY(SELECT {s}.current_row($1, $2::text[], $3::text)))"

# What a hit says of a fact; `found_with_facts` gives the same columns. What came to its end is not among them.
FOUND = """
SELECT m.id, m.item_id, m.user_id, m.thread_id, m.namespace, m.key, m.content, m.metadata::text AS metadata,
       m.source::text AS source, m.importance, m.trust, m.valid_from, m.valid_to, m.recorded_at, m.superseded_at
FROM {seen}memories m
WHERE m.tenant_id = $1 AND m.id = ANY ($2::uuid[]) AND (m.expires_at IS NULL OR m.expires_at > now())
"""

AS_OF = (
    "m.recorded_at <= $3::timestamptz AND (m.superseded_at IS NULL OR m.superseded_at > $3) "
    "AND (m.expires_at IS NULL OR m.expires_at > $3)"
)

LIST = fill(
    """
SELECT {columns} FROM {seen}memories m
WHERE m.tenant_id = $1 AND {live} AND ($2::text IS NULL OR m.user_id = $2)
  AND ($3::timestamptz IS NULL OR (m.recorded_at, m.id) < ($3, $4::uuid)) AND {below}
ORDER BY m.recorded_at DESC, m.id DESC LIMIT $5
""",
    columns=COLUMNS,
    live=LIVE,
)

# expired is only the newest version, and then all of them are
HISTORY = fill(
    """
SELECT {columns} FROM {seen}memories m
WHERE m.tenant_id = $1 AND m.item_id = $2
  AND NOT EXISTS (
      SELECT FROM {seen}memories e WHERE e.tenant_id = $1 AND e.item_id = $2 AND e.expires_at <= now())
ORDER BY m.version
""",
    columns=COLUMNS,
)

# Back to the newest version when that was closed, else to the one before it.
UNDO = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
versions AS MATERIALIZED (
    SELECT m.*, row_number() OVER (ORDER BY m.version DESC) AS age
    FROM {seen}memories m WHERE m.tenant_id = $1 AND m.item_id = $2 ORDER BY m.version DESC LIMIT 2
), newest AS (
    SELECT * FROM versions WHERE age = 1 AND (expires_at IS NULL OR expires_at > now())
), target AS (
    SELECT v.* FROM newest JOIN versions v ON v.age = CASE WHEN newest.superseded_at IS NULL THEN 2 ELSE 1 END
), held AS MATERIALIZED (
    SELECT m.id, coalesce(m.expires_at <= now(), false) AS lapsed, m.item_id <> t.item_id AS other
    FROM target t, LATERAL (
        SELECT * FROM {seen}memories m
        WHERE m.tenant_id = $1 AND m.namespace = t.namespace AND m.key = t.key AND m.superseded_at IS NULL
        LIMIT 1
    ) AS m
), taken AS MATERIALIZED (
    SELECT id FROM held WHERE other AND NOT lapsed
), outgoing AS (
    SELECT held.id, held.lapsed, false AS last, clock.at
    FROM held CROSS JOIN clock WHERE NOT EXISTS (SELECT FROM taken)
), incoming AS (
    SELECT h.id AS replaces, clock.at, $3::uuid AS id, t.item_id, newest.version + 1 AS version, t.namespace,
           t.key, t.content, t.content_hash, t.value, t.user_id, t.thread_id, t.agent_id, t.metadata,
           t.source, t.importance, t.trust, t.index_fields, t.valid_from, t.valid_to, t.created_at,
           t.ttl_minutes
    FROM clock CROSS JOIN target t CROSS JOIN newest LEFT JOIN held h ON true
    WHERE NOT EXISTS (SELECT FROM taken)
), settled AS (
    UPDATE {s}.memories m SET expires_at = NULL
    FROM newest n
    WHERE m.tenant_id = $1 AND m.id = n.id AND n.superseded_at IS NOT NULL AND NOT EXISTS (SELECT FROM taken)
),
{replace}
SELECT EXISTS (SELECT FROM newest) AS known, EXISTS (SELECT FROM taken) AS taken, {columns},
       'updated' AS status
FROM (SELECT) AS always LEFT JOIN created m ON true
""",
    replace=REPLACE,
    columns=COLUMNS,
)

# the row that a statement above has made, where its answer was lost
MADE = fill(
    """
SELECT true AS known, false AS taken, {columns}, CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END AS status
FROM {seen}memories m WHERE m.tenant_id = $1 AND m.id = $2
""",
    columns=COLUMNS,
)

CLOSE = """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
closed AS (
    UPDATE {s}.memories m SET superseded_at = greatest(clock.at, m.recorded_at)
    FROM clock WHERE m.tenant_id = $1 AND m.{column} = $2 AND {live}
    RETURNING m.id, m.superseded_at
), hidden AS (
    UPDATE {s}.passages p SET live_until = c.superseded_at
    FROM closed c WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT id FROM closed)) AND p.id = c.id
    RETURNING 1
)
SELECT (SELECT count(*) FROM closed) AS memories, (SELECT count(*) FROM hidden) AS passages,
       EXISTS (SELECT FROM {seen}memories m WHERE m.tenant_id = $1 AND m.{column} = $2) AS known
"""
