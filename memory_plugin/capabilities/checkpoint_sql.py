"""The statements of `Checkpoints`, apart because they are long. `{s}` is the store's schema."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.capabilities.checkpoints import CheckpointFilter


@cache
def put(
    *,
    touched: bool,
    messages: bool,
    repeatable: bool,
    buffer: bool,
    blobs: bool,
    promoted: bool,
    anchored: bool,
    extras: bool,
) -> str:
    """The statement that stores a checkpoint, with only the parts that have something to do.

    Arguments 1 to 13 are always there: tenant, thread, namespace, id, parent, checkpoint, versions,
    metadata, user, and the four columns of the message ranges. Those of each part follow in the
    order of the parts here.

    It locks first the conversation, then what the new checkpoint lives on: the checkpoint it takes
    values over from, and messages that only others had. Where one of these is gone nothing is
    written, and whoever deletes takes the same lock on the conversation first: so no checkpoint can
    ever point at rows that a deletion has taken away, however the two meet.
    """
    position = 13

    def take(count: int, needed: bool = True) -> list[str]:
        nonlocal position
        first, position = position + 1, position + count * needed
        return [f"${number}" for number in range(first, position + 1)]

    change = take(3, touched)
    columns = take(9, messages)
    (versions,) = take(1, repeatable) or ("",)
    buffered = take(2, buffer)
    parts = []
    if repeatable:
        parts.append(_STORED.replace("{versions}", versions))
    if touched:
        parts.append(_touched(change, buffered, unless_stored=repeatable))
    else:
        parts.append(_LOCKED if anchored or extras else _MADE)
    blob_columns, promoted_seqs = take(6, blobs), take(1, promoted)
    anchor, needed = take(2, anchored), take(1, extras)
    parts.append(
        _go(anchor, needed, source="thread" if touched or anchored else "(SELECT 0::bigint AS base) AS thread")
    )
    if not touched:
        parts.append(_OWNER)
    if messages:
        parts.append(_said(columns))
    if blobs:
        parts.append(_blobs(blob_columns))
    if promoted:
        parts.append(_PROMOTED.replace("{seqs}", promoted_seqs[0]))
    if touched:
        parts.append(_QUEUED.replace("{length}", change[1]))
    parts.append(_RANGES)
    parts.append(_SAVED)
    repeated = "EXISTS (SELECT FROM stored)" if repeatable else "false"
    return "WITH " + ",\n".join(parts) + f"\nSELECT (SELECT base FROM go) AS base, {repeated} AS repeated"


_STORED = """stored AS (
    SELECT FROM {s}.checkpoints
    WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND checkpoint_id = $4
      AND versions @> {versions}::jsonb
)"""

_MADE = """made AS (
    INSERT INTO {s}.conversations (tenant_id, thread_id, user_id) VALUES ($1, $2, $9)
    ON CONFLICT (tenant_id, thread_id) DO NOTHING
)"""

_LOCKED = """thread AS MATERIALIZED (
    SELECT thread_id, 0::bigint AS base FROM {s}.conversations
    WHERE tenant_id = $1 AND thread_id = $2 FOR KEY SHARE
)"""

_OWNER = """owner AS (
    UPDATE {s}.conversations SET user_id = $9 FROM go
    WHERE tenant_id = $1 AND thread_id = $2 AND user_id IS NULL AND $9::text IS NOT NULL
)"""

_PROMOTED = """promoted AS (
    UPDATE {s}.messages SET origin = 0 FROM go WHERE tenant_id = $1 AND thread_id = $2 AND seq = ANY ({seqs}::bigint[])
)"""

_QUEUED = """queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item) SELECT $1, 2, $2 FROM go WHERE {length}::bigint IS NOT NULL
    ON CONFLICT DO NOTHING
)"""


def _touched(change: list[str], buffered: list[str], *, unless_stored: bool) -> str:
    count, length, rewind = change
    value, buffer_set = "NULL::jsonb", ""
    if buffered:
        value = f"nullif({buffered[0]}::jsonb, '{{}}'::jsonb)"
        buffer_set = (
            f",\n        memory_buffer = nullif((coalesce(c.memory_buffer, '{{}}') - {buffered[1]}::text[])"
            f" || {buffered[0]}::jsonb, CASE WHEN c.memory_buffer IS NULL THEN '{{}}'::jsonb END)"
        )
    return f"""thread AS (
    INSERT INTO {{s}}.conversations AS c (tenant_id, thread_id, user_id, message_seq, message_count, memory_buffer)
    SELECT $1, $2, $9, {count}::bigint, coalesce({length}::bigint, 0), {value}
    {"WHERE NOT EXISTS (SELECT FROM stored)" if unless_stored else ""}
    ON CONFLICT (tenant_id, thread_id) DO UPDATE
    SET user_id = coalesce(c.user_id, excluded.user_id),
        message_seq = c.message_seq + {count}::bigint,
        message_count = CASE
            WHEN {length}::bigint IS NULL OR EXISTS (
                SELECT FROM {{s}}.checkpoints
                WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = '' AND checkpoint_id > $4
            ) THEN c.message_count
            ELSE {length}::bigint + (
                SELECT count(*) FROM {{s}}.messages WHERE tenant_id = $1 AND thread_id = $2 AND origin = 1
            ) END,
        indexed_seq = least(c.indexed_seq, {rewind}::bigint),
        updated_at = CASE WHEN {length}::bigint IS NULL THEN c.updated_at ELSE now() END,
        active_hour = CASE WHEN {length}::bigint IS NULL THEN c.active_hour
                           ELSE date_trunc('hour', now(), 'UTC') END,
        forgotten_at = NULL{buffer_set}
    RETURNING thread_id, message_seq - {count}::bigint AS base
)"""


def _go(anchor: list[str], extras: list[str], *, source: str) -> str:
    """The parts up to `go`: one row, unless something that the checkpoint lives on is gone."""
    parts, conditions = [], []
    if anchor:
        # by way of `thread`, so that no lock here is waited for before that on the conversation
        parts.append(f"""anchor AS MATERIALIZED (
    SELECT k.checkpoint_id FROM thread CROSS JOIN LATERAL (
        SELECT checkpoint_id FROM {{s}}.checkpoints
        WHERE tenant_id = $1 AND thread_id = thread.thread_id AND checkpoint_ns = {anchor[0]}
          AND checkpoint_id = {anchor[1]} FOR KEY SHARE
    ) AS k
)""")
        conditions.append("EXISTS (SELECT FROM anchor)")
    if extras:
        parts.append(f"""present AS MATERIALIZED (
    SELECT m.seq FROM thread CROSS JOIN LATERAL (
        SELECT seq FROM {{s}}.messages
        WHERE tenant_id = $1 AND thread_id = thread.thread_id AND seq = ANY ({extras[0]}::bigint[]) FOR KEY SHARE
    ) AS m
)""")
        conditions.append(f"(SELECT count(*) FROM present) = cardinality({extras[0]}::bigint[])")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    parts.append(f"go AS MATERIALIZED (SELECT base FROM {source}{where})")
    return ",\n".join(parts)


def _said(columns: list[str]) -> str:
    types = ("uuid", "smallint", "text", "text", "text", "text", "text", "text", "bytea")
    arrays = ", ".join(f"{column}::{type}[]" for column, type in zip(columns, types, strict=True))
    return f"""said AS (
    INSERT INTO {{s}}.messages (tenant_id, thread_id, seq, id, origin, role, message_id, name, text, body, type, raw)
    SELECT $1, $2, go.base + m.place, m.id, m.origin, m.role, m.message_id, m.name, m.text, m.body::jsonb,
           m.type, m.raw
    FROM go, unnest({arrays}) WITH ORDINALITY AS m (id, origin, role, message_id, name, text, body, type, raw, place)
)"""


def _blobs(columns: list[str]) -> str:
    types = ("text", "text", "text", "text", "bytea", "boolean")
    arrays = ", ".join(f"{column}::{type}[]" for column, type in zip(columns, types, strict=True))
    return f"""kept AS (
    INSERT INTO {{s}}.checkpoint_blobs AS b (tenant_id, thread_id, checkpoint_ns, channel, version, value, type, blob)
    SELECT $1, $2, $3, g.channel, g.version, g.value::jsonb, g.type, g.blob
    FROM go, unnest({arrays}) AS g (channel, version, value, type, blob, changed)
    WHERE g.changed OR NOT EXISTS (
        SELECT FROM {{s}}.checkpoint_blobs
        WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND channel = g.channel AND version = g.version)
    ON CONFLICT (tenant_id, thread_id, checkpoint_ns, channel, version) DO UPDATE
    SET value = excluded.value, type = excluded.type, blob = excluded.blob
    WHERE (b.value, b.type, b.blob) IS DISTINCT FROM (excluded.value, excluded.type, excluded.blob)
)"""


_RANGES = """ranges AS (
    SELECT jsonb_object_agg(channel, ranges) AS refs FROM (
        SELECT r.channel, jsonb_agg(jsonb_build_array(r.first + r.shift, r.past + r.shift) ORDER BY r.place) AS ranges
        FROM (
            SELECT u.*, CASE WHEN u.fresh THEN go.base ELSE 0 END AS shift
            FROM go, unnest($10::text[], $11::bigint[], $12::bigint[], $13::boolean[]) WITH ORDINALITY
                AS u (channel, first, past, fresh, place)
        ) AS r
        GROUP BY r.channel
    ) AS by_channel
)"""

_SAVED = """saved AS (
    INSERT INTO {s}.checkpoints (tenant_id, thread_id, checkpoint_ns, checkpoint_id, parent_checkpoint_id,
                                 checkpoint, versions, metadata, message_refs)
    SELECT $1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, $8::jsonb, (SELECT refs FROM ranges) FROM go
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
# about the size of the tables; and of an array it expects ten members, where of a set-returning
# function on JSON it expects a hundred: enough to have it compile the query for long threads.
_COLUMNS = """
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint::text, c.versions::text,
       c.metadata::text, c.message_refs::text, m.*, b.*, w.*
FROM (
    SELECT * FROM {s}.checkpoints WHERE {where} ORDER BY {order} LIMIT {limit}
) AS c
CROSS JOIN LATERAL (
    SELECT array_agg(seq) AS message_seqs, array_agg(origin) AS message_origins,
           array_agg(body) AS message_bodies, array_agg(type) AS message_types, array_agg(raw) AS message_raws
    FROM (
        SELECT m.seq, m.origin, CASE WHEN m.raw IS NULL THEN m.body::text END AS body, m.type, m.raw
        FROM unnest(ARRAY(SELECT jsonb_path_query(c.message_refs, '$.*[*]'))) AS range (bounds),
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


REFS_OF_VERSIONS = """
SELECT wanted.channel, found.refs::text AS refs
FROM unnest($4::text[], $5::text[]) AS wanted (channel, version), LATERAL (
    SELECT message_refs -> wanted.channel AS refs FROM {s}.checkpoints
    WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND versions ->> wanted.channel = wanted.version
      AND message_refs ? wanted.channel
    ORDER BY checkpoint_id DESC LIMIT 1
) AS found
"""
