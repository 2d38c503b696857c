"""The statements of `Checkpoints`, apart because they are long. `{s}` is the store's schema."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.capabilities.checkpoints import CheckpointFilter


@cache
def put(*, messages: bool, blobs: bool, promoted: bool, buffer: bool) -> str:
    """The statement that stores a checkpoint, with only the parts that have something to do.

    Arguments 1 to 13 are always there: tenant, thread, namespace, id, parent, checkpoint, versions,
    metadata, user, and the four columns of the message ranges. Those of each part follow in order.
    """
    position = 13

    def take(count: int) -> list[str]:
        nonlocal position
        position += count
        return [f"${number}" for number in range(position - count + 1, position + 1)]

    parts: list[str] = []
    refs = "(SELECT refs FROM ranges)"
    base = "NULL::bigint"
    buffer_set = ""
    message_arguments = take(12) if messages else []
    blob_arguments = take(5) if blobs else []
    promoted_argument = take(1) if promoted else []
    if buffer:
        value, removed = take(2)
        buffer_set = (
            f"memory_buffer = nullif((coalesce(c.memory_buffer, '{{}}') - {removed}::text[]) || {value}::jsonb,"
            " CASE WHEN c.memory_buffer IS NULL THEN '{}'::jsonb END)"
        )
        buffer_value = f"nullif({value}::jsonb, '{{}}'::jsonb)"
    else:
        buffer_value = "NULL::jsonb"
    if messages:
        parts.append(_messages(message_arguments, buffer_value, buffer_set))
        refs = "coalesce((SELECT refs FROM ranges), (SELECT message_refs FROM stored))"
        base = "(SELECT base FROM thread)"
    else:
        change = f"DO UPDATE SET {buffer_set}" if buffer_set else "DO NOTHING"
        parts.append(
            "thread AS (\n"
            "    INSERT INTO {s}.conversations AS c (tenant_id, thread_id, user_id, memory_buffer)\n"
            f"    VALUES ($1, $2, $9, {buffer_value}) ON CONFLICT (tenant_id, thread_id) {change}\n"
            ")"
        )
    parts.append(_ranges(messages))
    if blobs:
        parts.append(_blobs(blob_arguments))
    if promoted:
        parts.append(
            "promoted AS (\n    UPDATE {s}.messages SET origin = 0 WHERE tenant_id = $1 AND thread_id = $2\n"
            f"    AND seq = ANY ({promoted_argument[0]}::bigint[])\n)"
        )
    parts.append(_SAVED.replace("{refs}", refs))
    return "WITH " + ",\n".join(parts) + f"\nSELECT {base}"


def _messages(arguments: list[str], buffer_value: str, buffer_set: str) -> str:
    versions, count, visible, *columns = arguments
    return f"""stored AS (
    SELECT message_refs FROM {{s}}.checkpoints
    WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND checkpoint_id = $4
      AND versions @> {versions}::jsonb
), thread AS (
    INSERT INTO {{s}}.conversations AS c (tenant_id, thread_id, user_id, message_seq, message_count, memory_buffer)
    SELECT $1, $2, $9, {count}::bigint, {visible}::bigint, {buffer_value} WHERE NOT EXISTS (SELECT FROM stored)
    ON CONFLICT (tenant_id, thread_id) DO UPDATE
    SET message_seq = c.message_seq + {count}::bigint, message_count = c.message_count + {visible}::bigint,
        user_id = coalesce(c.user_id, excluded.user_id), updated_at = now(),
        active_hour = date_trunc('hour', now(), 'UTC'){"," if buffer_set else ""} {buffer_set}
    RETURNING message_seq - {count}::bigint AS base
), said AS (
    INSERT INTO {{s}}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw)
    SELECT $1, $2, thread.base + m.place, m.id, m.origin, m.role, m.message_id, m.name, m.text, m.body::jsonb,
           m.type, m.raw
    FROM thread, unnest({columns[0]}::uuid[], {columns[1]}::smallint[], {columns[2]}::text[], {columns[3]}::text[],
                        {columns[4]}::text[], {columns[5]}::text[], {columns[6]}::text[], {columns[7]}::text[],
                        {columns[8]}::bytea[]) WITH ORDINALITY
        AS m (id, origin, role, message_id, name, text, body, type, raw, place)
), queued AS (
    INSERT INTO {{s}}.index_queue (tenant_id, kind, item) SELECT $1, 2, $2 FROM thread
    WHERE {visible}::bigint > 0 ON CONFLICT DO NOTHING
)"""


def _ranges(messages: bool) -> str:
    base = "CASE WHEN r.fresh THEN thread.base ELSE 0 END" if messages else "0"
    source = "thread, " if messages else ""
    return f"""ranges AS (
    SELECT jsonb_object_agg(channel, ranges) AS refs FROM (
        SELECT r.channel, jsonb_agg(jsonb_build_array(r.first + {base}, r.past + {base}) ORDER BY r.place) AS ranges
        FROM {source}unnest($10::text[], $11::bigint[], $12::bigint[], $13::boolean[]) WITH ORDINALITY
            AS r (channel, first, past, fresh, place)
        GROUP BY r.channel
    ) AS by_channel
)"""


def _blobs(arguments: list[str]) -> str:
    return f"""kept AS (
    INSERT INTO {{s}}.checkpoint_blobs AS b (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob)
    SELECT $1, $2, $3, g.channel, g.version, g.value::jsonb, g.type, g.blob
    FROM unnest({arguments[0]}::text[], {arguments[1]}::text[], {arguments[2]}::text[], {arguments[3]}::text[],
                {arguments[4]}::bytea[]) AS g (channel, version, value, type, blob)
    ON CONFLICT (tenant_id, thread_id, checkpoint_ns, channel, version) DO UPDATE
    SET value = excluded.value, type = excluded.type, blob = excluded.blob
    WHERE (b.value, b.type, b.blob) IS DISTINCT FROM (excluded.value, excluded.type, excluded.blob)
)"""


_SAVED = """saved AS (
    INSERT INTO {s}.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                                 checkpoint, versions, metadata, message_refs)
    VALUES ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8::jsonb, {refs})
    ON CONFLICT (tenant_id, thread_id, checkpoint_ns, checkpoint_id) DO UPDATE
    SET parent_checkpoint_id = excluded.parent_checkpoint_id, checkpoint = excluded.checkpoint,
        versions = excluded.versions, metadata = excluded.metadata, message_refs = excluded.message_refs
)"""

PUT_WRITES = """
INSERT INTO {s}.checkpoint_writes AS w (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, task_path,
                                        idx, channel, value, type, blob)
SELECT $1, $2, $3, $4, $5, $6, g.idx, g.channel, g.value::jsonb, g.type, g.blob
FROM unnest($7::int[], $8::text[], $9::text[], $10::text[], $11::bytea[]) AS g (idx, channel, value, type, blob)
ON CONFLICT (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
SET task_path = excluded.task_path, channel = excluded.channel, value = excluded.value, type = excluded.type,
    blob = excluded.blob
WHERE excluded.idx < 0
"""

# LIMIT 1 in the lateral look-ups holds the planner to one index probe each, whatever it believes
# about the size of the tables
_COLUMNS = """
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint::text, c.versions::text,
       c.metadata::text, c.message_refs::text, m.*, b.*, w.*
FROM (
    SELECT * FROM {s}.checkpoints WHERE {where} ORDER BY {order} LIMIT {limit}
) AS c
CROSS JOIN LATERAL (
    SELECT array_agg(seq) AS message_seqs, array_agg(origin) AS message_origins, array_agg(body) AS message_bodies, array_agg(type) AS message_types,
           array_agg(raw) AS message_raws
    FROM (
        SELECT m.seq, m.origin, CASE WHEN m.raw IS NULL THEN m.body::text END AS body, m.type, m.raw
        FROM jsonb_each(c.message_refs) AS channel (name, ranges),
             jsonb_array_elements(channel.ranges) AS range (bounds),
             LATERAL (
                 SELECT seq, origin, body, type, raw FROM {s}.messages
                 WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id
                   AND seq >= (range.bounds ->> 0)::bigint AND seq < (range.bounds ->> 1)::bigint
             ) AS m
    ) AS rows
) AS m
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS blob_channels, array_agg(version) AS blob_versions,
           array_agg(value::text) AS blob_values, array_agg(type) AS blob_types, array_agg(blob) AS blob_blobs
    FROM jsonb_each_text(c.versions) AS channel (name, version),
         LATERAL (
             SELECT value, type, blob FROM {s}.checkpoint_blobs
             WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns
               AND channel = channel.name COLLATE "C" AND version = channel.version COLLATE "C" LIMIT 1
         ) AS found
) AS b
CROSS JOIN LATERAL (
    SELECT array_agg(task_id) AS write_tasks, array_agg(idx) AS write_idxs, array_agg(channel) AS write_channels,
           array_agg(value::text) AS write_values, array_agg(type) AS write_types, array_agg(blob) AS write_blobs
    FROM (
        SELECT * FROM {s}.checkpoint_writes
        WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns
          AND checkpoint_id = c.checkpoint_id
        ORDER BY task_path, task_id, idx
    ) AS ordered
) AS w
"""


@cache
def get(*, latest: bool) -> str:
    """The statement that reads one checkpoint: the latest, or the one of argument 4."""
    where = "tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3"
    if not latest:
        where += " AND checkpoint_id = $4"
    return _select(where, "checkpoint_id DESC", "1")


def _select(where: str, order: str, limit: str) -> str:
    return _COLUMNS.replace("{where}", where).replace("{order}", order).replace("{limit}", limit)


def listing(
    tenant: str, wanted: CheckpointFilter, last: tuple[str, str, str] | None, size: int
) -> tuple[str, list[Any]]:
    """The statement and the arguments of one page, newest first, after the row `last`."""
    arguments: list[Any] = [tenant]
    conditions = ["tenant_id = $1"]

    def add(text: str, *values: Any) -> None:
        numbers = []
        for value in values:
            arguments.append(value)
            numbers.append(f"${len(arguments)}")
        conditions.append(text.format(*numbers))

    if wanted.thread_id is not None:
        add("thread_id = {}", wanted.thread_id)
    if wanted.namespace is not None:
        add("checkpoint_ns = {}", wanted.namespace)
    if wanted.checkpoint_id is not None:
        add("checkpoint_id = {}", wanted.checkpoint_id)
    if wanted.before is not None:
        add("checkpoint_id < {}", wanted.before)
    for key, value in wanted.metadata.items():
        # as the in-memory saver compares: a missing key equals None
        add("coalesce(metadata -> {}::text, 'null') = {}::jsonb", key, value)
    order = "checkpoint_id DESC, thread_id DESC, checkpoint_ns DESC"
    if last is not None:
        add("(checkpoint_id, thread_id, checkpoint_ns) < ({}, {}, {})", *last)
    return _select(" AND ".join(conditions), order, str(int(size))) + f"ORDER BY {order}", arguments


REFS_OF_VERSION = """
SELECT (message_refs -> $4)::text FROM {s}.checkpoints
WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND versions ->> $4 = $5 AND message_refs ? $4
ORDER BY checkpoint_id DESC LIMIT 1
"""

DELETE_THREAD = """
WITH c AS (DELETE FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2 RETURNING 1),
m AS (DELETE FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2 RETURNING 1),
k AS (DELETE FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $2 RETURNING 1),
b AS (DELETE FROM {s}.checkpoint_blobs WHERE tenant_id = $1 AND thread_id = $2 RETURNING 1),
w AS (DELETE FROM {s}.checkpoint_writes WHERE tenant_id = $1 AND thread_id = $2 RETURNING 1),
p AS (DELETE FROM {s}.passages WHERE tenant_id = $1 AND thread_id = $2 AND kind = 2 RETURNING 1),
q AS (DELETE FROM {s}.index_queue WHERE tenant_id = $1 AND kind = 2 AND item = $2 RETURNING 1),
g AS (DELETE FROM {s}.working_memory WHERE tenant_id = $1 AND scope = 'chat' AND scope_id = $2 RETURNING 1)
SELECT (SELECT count(*) FROM c) AS conversations, (SELECT count(*) FROM m) AS messages,
       (SELECT count(*) FROM k) AS checkpoints, (SELECT count(*) FROM b) AS checkpoint_blobs,
       (SELECT count(*) FROM w) AS checkpoint_writes, (SELECT count(*) FROM p) AS passages,
       (SELECT count(*) FROM q) AS index_queue, (SELECT count(*) FROM g) AS working_memory
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


def _needed_chain(heads: str) -> str:
    """A recursive part `needed`: the heads, and the ancestors that their delta channels live on."""
    return f"""needed AS (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id,
           CASE WHEN jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot') = 'object'
                THEN {_needs("c", _DELTA_CHANNELS)} ELSE '{{}}' END AS open
    FROM {{s}}.checkpoints c JOIN {heads} h USING (thread_id, checkpoint_ns, checkpoint_id)
    WHERE c.tenant_id = $1
    UNION ALL
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, {_needs("c", "n.open")}
    FROM needed n JOIN {{s}}.checkpoints c
      ON c.tenant_id = $1 AND c.thread_id = n.thread_id AND c.checkpoint_ns = n.checkpoint_ns
     AND c.checkpoint_id = n.parent_checkpoint_id
    WHERE cardinality(n.open) > 0
)"""


PRUNE = (
    """
WITH RECURSIVE latest AS (
    SELECT DISTINCT ON (thread_id, checkpoint_ns) thread_id, checkpoint_ns, checkpoint_id
    FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = ANY ($2)
    ORDER BY thread_id, checkpoint_ns, checkpoint_id DESC
), """
    + _needed_chain("latest")
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
    SELECT c.thread_id, c.checkpoint_ns, c.versions, c.message_refs FROM {s}.checkpoints c
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
    SELECT thread_id, checkpoint_ns, checkpoint_id FROM {s}.checkpoints
    WHERE tenant_id = $1 AND metadata ->> 'run_id' = ANY ($2)
), heads AS (
    SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id FROM {s}.checkpoints c
    WHERE c.tenant_id = $1 AND c.thread_id IN (SELECT thread_id FROM asked)
      AND jsonb_typeof(c.metadata -> 'counters_since_delta_snapshot') = 'object'
      AND NOT EXISTS (SELECT FROM asked a WHERE a.thread_id = c.thread_id AND a.checkpoint_ns = c.checkpoint_ns
                      AND a.checkpoint_id = c.checkpoint_id)
), """
    + _needed_chain("heads")
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
), counted AS (
    UPDATE {s}.conversations c SET message_count = greatest(0, c.message_count - g.lost)
    FROM (SELECT thread_id, count(*) FILTER (WHERE origin = 0) AS lost FROM lost GROUP BY thread_id) AS g
    WHERE c.tenant_id = $1 AND c.thread_id = g.thread_id
)
"""
    + _COUNTS.rstrip()
    + ", (SELECT count(*) FROM m) AS messages, (SELECT count(*) FROM p) AS passages"
)

COPY_THREAD = """
WITH c AS (
    INSERT INTO {s}.conversations (tenant_id, thread_id, user_id, title, metadata, memory_buffer, message_seq,
                                   message_count)
    SELECT tenant_id, $3, user_id, title, metadata, memory_buffer, message_seq, message_count
    FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2
), m AS (
    INSERT INTO {s}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw,
                              said_at)
    SELECT tenant_id, $3, seq, gen_random_uuid(), origin, role, message_id, name, text, body, type, raw, said_at
    FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2
), k AS (
    INSERT INTO {s}.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint,
                                 versions, message_refs, metadata, created_at)
    SELECT tenant_id, $3, checkpoint_ns, checkpoint_id, parent_checkpoint_id, checkpoint, versions, message_refs,
           metadata, created_at
    FROM {s}.checkpoints WHERE tenant_id = $1 AND thread_id = $2
), b AS (
    INSERT INTO {s}.checkpoint_blobs (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob)
    SELECT tenant_id, $3, checkpoint_ns, channel, version, value, type, blob
    FROM {s}.checkpoint_blobs WHERE tenant_id = $1 AND thread_id = $2
), w AS (
    INSERT INTO {s}.checkpoint_writes (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx, task_path,
                                       channel, value, type, blob)
    SELECT tenant_id, $3, checkpoint_ns, checkpoint_id, task_id, idx, task_path, channel, value, type, blob
    FROM {s}.checkpoint_writes WHERE tenant_id = $1 AND thread_id = $2
)
INSERT INTO {s}.index_queue (tenant_id, kind, item)
SELECT $1, 2, $3 FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2 AND message_count > 0
ON CONFLICT DO NOTHING
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
