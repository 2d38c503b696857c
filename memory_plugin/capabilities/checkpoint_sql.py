"""The statements of `Checkpoints` that read, and the one of pending writes. `{s}` is the store's schema.

Of arrays asyncpg knows only `text[]` by itself, and asks the server about any other, on each new
connection: so numbers and bytes travel as text, and bytes strung together beside their lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory_plugin.capabilities.checkpoint_rows import CheckpointFilter, Held

_PUT_WRITES = """
INSERT INTO {s}.checkpoint_writes AS w (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, task_path,
                                        idx, channel, value, type, blob)
SELECT $1, g.thread_id, g.checkpoint_ns, g.checkpoint_id, g.task_id, g.task_path, g.idx::integer, g.channel,
       g.value::jsonb, g.type, {blob}
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[],
            $10::text[]{sizes})
    AS g (thread_id, checkpoint_ns, checkpoint_id, task_id, task_path, idx, channel, value, type{names})
ON CONFLICT (tenant_id, thread_id, checkpoint_ns, checkpoint_id, task_id, idx) DO UPDATE
SET task_path = excluded.task_path, channel = excluded.channel, value = excluded.value, type = excluded.type,
    blob = excluded.blob
WHERE excluded.idx < 0
"""
_WITHOUT_BYTES = _PUT_WRITES.replace("{blob}", "NULL::bytea").replace("{sizes}", "").replace("{names}", "")
_WITH_BYTES = (
    _PUT_WRITES.replace("{blob}", "substring($13::bytea FROM g.start::integer FOR g.size::integer)")
    .replace("{sizes}", ", $11::text[], $12::text[]")
    .replace("{names}", ", start, size")
)


def put_writes(rows: Sequence[tuple[Any, ...]]) -> tuple[str, list[Any]]:
    """The statement for these writes, and its arguments after the tenant.

    A row is thread, namespace, checkpoint, task, path, place, channel, JSON, type and bytes.
    """
    *columns, raws = (list(column) for column in zip(*rows, strict=True))
    columns[5] = list(map(str, columns[5]))
    if not any(raw is not None for raw in raws):
        return _WITHOUT_BYTES, columns
    starts: list[str | None] = []
    sizes: list[str | None] = []
    position = 1
    for raw in raws:
        starts.append(None if raw is None else str(position))
        sizes.append(None if raw is None else str(len(raw)))
        position += len(raw or b"")
    return _WITH_BYTES, [*columns, starts, sizes, b"".join(raw for raw in raws if raw is not None)]


# The messages of a page are read once for each thread, whichever of its checkpoints have them. OFFSET 0
# holds the planner to one scan of the index for each range, whatever it believes about the size of the
# tables, and with it to their order; LIMIT 1 likewise to one probe for each value.
_COLUMNS = """
WITH {held}page AS MATERIALIZED (
    SELECT * FROM {s}.checkpoints WHERE {where} ORDER BY {order} LIMIT {limit}
)
SELECT c.thread_id, c.checkpoint_ns, c.checkpoint_id, c.parent_checkpoint_id, c.checkpoint::text, c.versions::text,
       c.metadata::text, c.message_refs::text, {kept} AS kept, m.*, b.*, w.*
FROM {page} AS c
CROSS JOIN LATERAL (
    SELECT wanted.ranges::text AS message_ranges, said.*, (
               SELECT id FROM {s}.messages
               WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND seq = upper(wanted.ranges) - 1
           ) AS message_proof
    FROM (
        SELECT range_agg(int8range((bounds ->> 0)::bigint, (bounds ->> 1)::bigint)){without} AS ranges
        FROM {refs}
    ) AS wanted, LATERAL (
        SELECT array_agg(body) AS message_bodies, array_agg(text) AS message_texts,
               array_agg(message_id) AS message_ids,
               CASE WHEN bool_or(type IS NOT NULL) THEN array_agg(type) END AS message_types,
               string_agg(raw, '') AS message_raw,
               CASE WHEN bool_or(raw IS NOT NULL) THEN array_agg(octet_length(raw)::text) END AS message_sizes,
               array_agg(seq::text) FILTER (WHERE origin = 2) AS message_internal,
               CASE WHEN count(*) <> (SELECT sum(upper(span) - lower(span)) FROM unnest(wanted.ranges) AS span)
                    THEN array_agg(seq::text) END AS message_seqs
        FROM unnest(wanted.ranges) AS span, LATERAL (
            SELECT seq, origin, body::text, CASE WHEN NOT body ? 'content' THEN text END AS text, message_id, type, raw
            FROM {s}.messages
            WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND seq >= lower(span) AND seq < upper(span)
            ORDER BY seq OFFSET 0
        ) AS said
    ) AS said
) AS m
CROSS JOIN LATERAL (
    SELECT array_agg(name) AS blob_channels, array_agg(version) AS blob_versions,
           array_agg(value::text) AS blob_values, array_agg(type) AS blob_types,
           string_agg(blob, '') AS blob_raw,
           CASE WHEN bool_or(blob IS NOT NULL) THEN array_agg(octet_length(blob)::text) END AS blob_sizes
    FROM jsonb_each_text(c.versions) AS channel (name, version),
         LATERAL (
             SELECT value, type, blob FROM {s}.checkpoint_blobs
             WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns
               AND channel = channel.name COLLATE "C" AND version = channel.version COLLATE "C" LIMIT 1
         ) AS found
) AS b
CROSS JOIN LATERAL (
    SELECT array_agg(task_id) AS write_tasks, array_agg(idx::text) AS write_idxs,
           array_agg(channel) AS write_channels, array_agg(value::text) AS write_values,
           array_agg(type) AS write_types, string_agg(blob, '') AS write_raw,
           CASE WHEN bool_or(blob IS NOT NULL) THEN array_agg(octet_length(blob)::text) END AS write_sizes
    FROM (
        SELECT * FROM {s}.checkpoint_writes
        WHERE tenant_id = c.tenant_id AND thread_id = c.thread_id AND checkpoint_ns = c.checkpoint_ns
          AND checkpoint_id = c.checkpoint_id
        ORDER BY task_path, task_id, idx
    ) AS ordered
) AS w
"""


@cache
def get(*, latest: bool, held: bool) -> str:
    """The statement that reads one checkpoint: the latest, or the one of argument 4.

    Four more arguments say what the reader holds: the first and the past number of its messages,
    and the number and the id of one of them.
    """
    where = "tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3"
    if not latest:
        where += " AND checkpoint_id = $4"
    return _select(
        **_without_held(5 - latest if held else None),
        where=where,
        order="checkpoint_id DESC",
        limit="1",
        page="page",
        refs="jsonb_path_query(c.message_refs, '$.*[*]') AS bounds",
    )


def _without_held(first: int | None) -> dict[str, str]:
    """The parts of the statement that leave out what the reader holds, as four arguments from `first` on say it.

    The thread is argument 2. None where the reader holds nothing.
    """
    if first is None:
        return {"held": "", "kept": "false", "without": ""}
    start, end, row, proof = (f"${number}" for number in range(first, first + 4))
    held = f"""held AS MATERIALIZED (
    SELECT CASE WHEN EXISTS (
        SELECT FROM {{s}}.messages
        WHERE tenant_id = $1 AND thread_id = $2 AND seq = {row}::bigint AND id = {proof}::uuid
    ) THEN int8multirange(int8range({start}::bigint, {end}::bigint)) ELSE '{{}}'::int8multirange END AS ranges
), """
    return {
        "held": held,
        "kept": "NOT isempty((SELECT ranges FROM held))",
        "without": " - (SELECT ranges FROM held)",
    }


@lru_cache(256)
def _select(**parts: str) -> str:
    statement = _COLUMNS
    for name, part in parts.items():
        statement = statement.replace("{" + name + "}", part)
    return statement


def listing(
    tenant: str,
    wanted: CheckpointFilter,
    last: tuple[str, str, str] | None,
    size: int,
    held: Held | None = None,
) -> tuple[str, list[Any]]:
    """The statement and the arguments of one page, newest first, after the row `last`.

    Args:
        held: messages of the thread, where one is wanted, that the reader holds.
    """
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
    without = _without_held(len(arguments) + 1 if held is not None else None)
    if held is not None:
        arguments += (held.start, held.end, held.row, held.id)
    statement = _select(
        **without,
        where=" AND ".join(conditions),
        order=order,
        limit=str(int(size)),
        page=f"(SELECT *, row_number() OVER (PARTITION BY thread_id ORDER BY {order}) AS place FROM page)",
        refs="page AS p, jsonb_path_query(p.message_refs, '$.*[*]') AS bounds"
        " WHERE c.place = 1 AND p.thread_id = c.thread_id",
    )
    return statement + f"ORDER BY {order}", arguments


REFS_OF_VERSIONS = """
SELECT wanted.channel, found.refs::text AS refs
FROM unnest($4::text[], $5::text[]) AS wanted (channel, version), LATERAL (
    SELECT message_refs -> wanted.channel AS refs FROM {s}.checkpoints
    WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = $3 AND versions ->> wanted.channel = wanted.version
      AND message_refs ? wanted.channel
    ORDER BY checkpoint_id DESC LIMIT 1
) AS found
"""

SAID = """
SELECT seq::text, body::text, CASE WHEN NOT body ? 'content' THEN text END AS text, message_id, type, raw
FROM {s}.messages
WHERE tenant_id = $1 AND thread_id = $2 AND origin = 1 AND message_id = ANY ($3::text[]) ORDER BY messages.seq
"""
