"""Memories as the items of a key-value store: get, put, search and list by namespace and key.

Many operations of one kind are one statement, also those of many callers at the same time. Each item
is the current version of a memory; putting another value opens a new version, putting None closes
the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from memory_plugin.capabilities.memory_filters import (
    Condition,
    NamespacePattern,
    filter_condition,
    pattern_condition,
    prefix_condition,
)
from memory_plugin.capabilities.memory_values import check_path, json_object, normalised_hash
from memory_plugin.capabilities.memory_writes import LIVE, OPEN_LIVE, REPLACE, STILL_OPEN, MemoryWrites, fill
from memory_plugin.db.database import Database, Record, Repeat
from memory_plugin.db.lanes import JoinedCalls, SharedReads
from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import loads_exact
from memory_plugin.types import Namespace, uuid7
from memory_plugin.validation import optional_identifier, positive_limit

SWEEP_BATCH = 500

LONGEST_TTL = 1_000_000_000
"""Minutes an item may live, if not for ever: about 1,900 years."""

_NO_LIMIT = 2**31 - 1


class ItemKey(NamedTuple):
    """An item to read; `refresh` starts its lifetime anew, if it has one."""

    namespace: Namespace
    key: str
    refresh: bool = False


@dataclass(frozen=True, slots=True)
class ItemPut:
    """An item to write.

    Args:
        value: None deletes the item, softly.
        content: the text by which it is found, "" for none.
        ends: where each of the texts in `content` is over that has a vector of its own; None for one of all.
        user_id: None leaves the user of the version before.
        index_fields: what the writer asked to be searched: None for the default, False, or paths.
        ttl_minutes: how long it lives after a write or a refreshing read; None is for ever.
    """

    namespace: Namespace
    key: str
    value: Mapping[str, Any] | None
    content: str = ""
    ends: Sequence[int] | None = None
    user_id: str | None = None
    index_fields: Sequence[str] | bool | None = None
    ttl_minutes: float | None = None


@dataclass(frozen=True, slots=True)
class ItemQuery:
    """Items under a namespace that match a filter on their value, the last changed first."""

    prefix: Namespace = ()
    filter: Mapping[str, Any] | None = None
    limit: int = 10
    offset: int = 0
    refresh: bool = False
    without: Sequence[UUID] = ()
    """Rows to leave out."""


@dataclass(frozen=True, slots=True)
class NamespaceQuery:
    """Namespaces of live items that match all patterns, cut to `max_depth` labels, each once, sorted."""

    patterns: Sequence[NamespacePattern] = ()
    max_depth: int | None = None
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item as it is stored; `row` is the id of this version, by which the search index knows it."""

    row: UUID
    namespace: Namespace
    key: str
    value: dict[str, Any]
    created_at: datetime
    updated_at: datetime


_COLUMNS = "m.id, m.namespace, m.key, m.value::text AS value, m.created_at, m.recorded_at"

# `found` has `place` (which operation), `refresh`, `ttl_minutes` and the columns of an item
_REFRESH = fill(
    """
, refreshed AS (
    UPDATE {s}.memories m
    SET expires_at = now() + m.ttl_minutes * interval '1 minute', last_access_at = now()
    WHERE m.tenant_id = $1 AND {still_open}
      AND m.id = ANY (ARRAY(SELECT f.id FROM found f WHERE f.refresh AND f.ttl_minutes IS NOT NULL))
)
""",
    still_open=STILL_OPEN,
)

_GET = fill(
    """
WITH found AS MATERIALIZED (
    SELECT w.place, w.refresh, item.*
    FROM unnest($2::text[], $3::text[], $4::boolean[]) WITH ORDINALITY AS w (namespace, key, refresh, place),
    LATERAL (
        SELECT m.ttl_minutes, {columns}
        FROM (SELECT {s}.current_row($1, w.namespace::text[], w.key) AS id OFFSET 0) AS r, {s}.memories m
        WHERE m.tenant_id = $1 AND m.id = r.id AND {live}
        LIMIT 1
    ) AS item
){refresh}
SELECT place, id, namespace, key, value, created_at, recorded_at FROM found
""",
    columns=_COLUMNS,
    live=OPEN_LIVE,
    refresh=_REFRESH,
)

_ROWS = fill(
    """
WITH found AS MATERIALIZED (
    SELECT $3::boolean AS refresh, m.ttl_minutes, {columns}
    FROM {seen}memories m WHERE m.tenant_id = $1 AND m.id = ANY ($2) AND {live}
){refresh}
SELECT id, namespace, key, value, created_at, recorded_at FROM found
""",
    columns=_COLUMNS,
    live=LIVE,
    refresh=_REFRESH,
)

# Rows are locked in the order of their keys, so that no two writers wait for each other.
_PUT = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
input AS MATERIALIZED (
    SELECT r.id, r.item_id, r.namespace::text[] AS namespace, r.key, r.value::jsonb AS value, r.content,
           r.content_hash, r.user_id, r.index_fields::jsonb AS index_fields, r.ttl_minutes
    FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                $9::text[], $10::text[], $11::float8[])
         AS r (id, item_id, namespace, key, value, content, content_hash, user_id, index_fields, ttl_minutes)
), held AS MATERIALIZED (
    SELECT i.id AS new_id, m.id, m.item_id, m.version, m.user_id, m.thread_id, m.agent_id, m.metadata,
           m.importance, m.trust, m.created_at, coalesce(m.expires_at <= now(), false) AS lapsed,
           i.value IS NOT NULL AND coalesce(m.expires_at > now(), true) AND m.value::text = i.value::text
               AND m.content = i.content AND m.index_fields IS NOT DISTINCT FROM i.index_fields
               AND (i.user_id IS NULL OR m.user_id IS NOT DISTINCT FROM i.user_id) AS same
    FROM (SELECT * FROM input ORDER BY namespace, key) AS i, LATERAL (
        SELECT m.* FROM (SELECT {s}.current_row($1, i.namespace, i.key) AS id OFFSET 0) AS r, {s}.memories m
        WHERE m.tenant_id = $1 AND m.id = r.id AND {still_open}
        LIMIT 1 FOR UPDATE OF m
    ) AS m
), kept AS (
    UPDATE {s}.memories m
    SET ttl_minutes = i.ttl_minutes, expires_at = clock.at + i.ttl_minutes * interval '1 minute'
    FROM held h JOIN input i ON i.id = h.new_id CROSS JOIN clock
    WHERE h.same AND m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT id FROM held)) AND m.id = h.id
      AND coalesce(i.ttl_minutes, m.ttl_minutes) IS NOT NULL
), outgoing AS (
    SELECT h.id, h.lapsed, i.value IS NULL AS last, clock.at
    FROM held h JOIN input i ON i.id = h.new_id CROSS JOIN clock
    WHERE NOT h.same
), incoming AS (
    SELECT h.id AS replaces, clock.at, i.id, coalesce(o.item_id, i.item_id) AS item_id,
           coalesce(o.version, 0) + 1 AS version, i.namespace, i.key, i.content, i.content_hash, i.value,
           coalesce(i.user_id, o.user_id) AS user_id, o.thread_id, o.agent_id,
           coalesce(o.metadata, '{}') AS metadata, NULL::jsonb AS source,
           coalesce(o.importance, 0.5) AS importance, coalesce(o.trust, 'user') AS trust, i.index_fields,
           NULL::timestamptz AS valid_from, NULL::timestamptz AS valid_to, o.created_at, i.ttl_minutes
    FROM input i CROSS JOIN clock
    LEFT JOIN held h ON h.new_id = i.id
    LEFT JOIN held o ON o.new_id = i.id AND NOT o.lapsed
    WHERE i.value IS NOT NULL AND h.same IS NOT TRUE
),
{replace}
SELECT 1 FROM created
""",
    still_open=STILL_OPEN,
    replace=REPLACE,
)

# all of a put's rows or none; where it made none, putting again makes none either
_PUT_MADE = "SELECT 1 FROM {seen}memories WHERE tenant_id = $1 AND id = ANY ($2::text[]::uuid[]) LIMIT 1"

# Values become text only for the rows that are left after sorting.
_SEARCH_ARM = """(
    SELECT {place} AS place, {refresh} AS refresh, m.ttl_minutes, {columns}
    FROM (
        SELECT m.* FROM {seen}memories m
        WHERE m.tenant_id = $1 AND {live} AND {conditions}
        ORDER BY m.recorded_at DESC, m.namespace, m.key
        LIMIT {limit} OFFSET {offset}
    ) AS m
)"""

# From one namespace to the next by the index, however many items each has. What follows a whole
# namespace begins with an empty label, which none has; what follows a cut one, behind all below it.
_NAMESPACES_ARM = """(
    WITH RECURSIVE step AS (
        (SELECT {cut} AS namespace FROM {seen}memories m
         WHERE m.tenant_id = $1 AND {live} AND {conditions}
         ORDER BY m.namespace LIMIT 1)
        UNION ALL
        SELECT following.namespace FROM step, LATERAL (
            SELECT {cut} AS namespace FROM {seen}memories m
            WHERE m.tenant_id = $1 AND {live} AND {conditions} AND m.namespace >= {after}
            ORDER BY m.namespace LIMIT 1
        ) AS following
    )
    SELECT {place} AS place, namespace FROM step LIMIT {limit} OFFSET {offset}
)"""

_LAPSED = """
SELECT item_id FROM {seen}memories WHERE tenant_id = $1 AND expires_at <= now()
ORDER BY item_id LIMIT $2 FOR UPDATE SKIP LOCKED
"""


class MemoryItems:
    """The store operations over one tenant's memories."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._writes = MemoryWrites(database, tenant)
        self._get = database.sql(_GET)
        self._rows = database.sql(_ROWS)
        self._put = database.sql(_PUT)
        self._put_made = database.sql(_PUT_MADE)
        self._gets: JoinedCalls[ItemKey, Record | None] = JoinedCalls(self._get_all)
        self._puts: JoinedCalls[tuple[Any, ...], None] = JoinedCalls(self._put_all, key=_path_of_row)
        self._reads = SharedReads(database)
        self._refresh = database.sql(_REFRESH)
        self._lapsed = database.sql(_LAPSED)

    async def get(self, keys: Sequence[ItemKey]) -> list[StoredItem | None]:
        """The items under these keys, None for each that is not there.

        Raises:
            InvalidInputError: a namespace or key that cannot exist.
        """
        for wanted in keys:
            check_path(wanted.namespace, wanted.key)
        rows = await self._gets(list(keys))
        return [None if row is None else _item(row) for row in rows]

    async def _get_all(self, keys: list[ItemKey]) -> list[Record | None]:
        rows = await self._database.fetch(
            self._get,
            self._tenant,
            [array_literal(wanted.namespace) for wanted in keys],
            [wanted.key for wanted in keys],
            [wanted.refresh for wanted in keys],
            repeat=Repeat.READ,
        )
        found = {row["place"]: row for row in rows}
        return [found.get(place) for place in range(1, len(keys) + 1)]

    async def rows(self, ids: Sequence[UUID], *, refresh: bool = False) -> dict[UUID, StoredItem]:
        """The live items among these rows, by row."""
        found = (
            await self._database.fetch(self._rows, self._tenant, list(ids), refresh, repeat=Repeat.READ) if ids else []
        )
        return {row["id"]: _item(row) for row in found}

    async def put(self, puts: Sequence[ItemPut]) -> None:
        """Write all of these or nothing; of several puts of one key the last counts.

        A value that is stored already makes no new version: only its lifetime starts anew.

        Raises:
            InvalidInputError: a value, key or lifetime that cannot be stored; the message names it.
            ConflictError: others kept writing the same items all the time.
        """
        last = {(put.namespace, put.key): put for put in puts}
        await self._puts([_put_row(put) for put in last.values()])

    async def _put_all(self, rows: list[tuple[Any, ...]]) -> list[None]:
        columns = [list(column) for column in zip(*rows, strict=True)]
        made = (self._put_made, [str(row_id) for row_id in columns[0]])
        await self._writes.fetch(self._put, self._tenant, *columns, made=made)
        return [None] * len(rows)

    async def search(self, queries: Sequence[ItemQuery]) -> list[list[StoredItem]]:
        """The items each query finds, the last changed first.

        Raises:
            InvalidInputError: a filter that makes no sense, a negative limit or offset.
        """
        arguments: list[Any] = [self._tenant]
        arms = [_search_arm(place, query, arguments) for place, query in enumerate(queries)]
        if not arms:
            return []
        refresh = self._refresh if any(query.refresh for query in queries) else ""
        statement = (
            f"WITH found AS MATERIALIZED ({self._database.sql(' UNION ALL '.join(arms))}){refresh} "
            "SELECT place, id, namespace, key, value, created_at, recorded_at FROM found "
            "ORDER BY place, recorded_at DESC, namespace, key"
        )
        results: list[list[StoredItem]] = [[] for _ in queries]
        for row in await self._reads.fetch(statement, *arguments):
            results[row["place"]].append(_item(row))
        return results

    async def list_namespaces(self, queries: Sequence[NamespaceQuery]) -> list[list[Namespace]]:
        """The namespaces each query finds, sorted by code point.

        Raises:
            InvalidInputError: a negative limit, offset or depth.
        """
        arguments: list[Any] = [self._tenant]
        arms = [_namespaces_arm(place, query, arguments) for place, query in enumerate(queries)]
        if not arms:
            return []
        results: list[list[Namespace]] = [[] for _ in queries]
        for row in await self._reads.fetch(self._database.sql(" UNION ALL ".join(arms)), *arguments):
            results[row["place"]].append(tuple(row["namespace"]))
        return [sorted(namespaces) for namespaces in results]

    async def sweep_expired(self) -> int:
        """Erase every item whose lifetime is over, with all its versions; how many there were."""
        total = 0
        while True:
            async with self._database.transaction() as connection:
                lapsed = await connection.fetch(self._lapsed, self._tenant, SWEEP_BATCH)
                if lapsed:
                    counts = await self._writes.erase(connection, "item_id", [row["item_id"] for row in lapsed])
                    total += counts["items"]
            if len(lapsed) < SWEEP_BATCH:
                return total


def _bound(condition: Condition, arguments: list[Any]) -> str:
    """The condition as SQL, its arguments behind those of the statement."""
    arguments.extend(condition.arguments)
    return condition.numbered(len(arguments) - len(condition.arguments) + 1)


def _parameter(value: Any, arguments: list[Any], kind: str) -> str:
    arguments.append(value)
    return f"${len(arguments)}::{kind}"


def _search_arm(place: int, query: ItemQuery, arguments: list[Any]) -> str:
    check_path(query.prefix)
    conditions = [
        _bound(prefix_condition(query.prefix), arguments),
        _bound(filter_condition(query.filter, "m.value"), arguments),
    ]
    if query.without:
        conditions.append(f"m.id <> ALL ({_parameter(list(query.without), arguments, 'uuid[]')})")
    return fill(
        _SEARCH_ARM,
        columns=_COLUMNS,
        live=LIVE,
        place=str(place),
        refresh=str(query.refresh).lower(),
        conditions=" AND ".join(conditions),
        limit=_parameter(positive_limit(query.limit, maximum=_NO_LIMIT), arguments, "bigint"),
        offset=_parameter(positive_limit(query.offset, "offset", maximum=_NO_LIMIT), arguments, "bigint"),
    )


def _namespaces_arm(place: int, query: NamespaceQuery, arguments: list[Any]) -> str:
    for pattern in query.patterns:
        check_path(pattern.path)
    conditions = [_bound(pattern_condition(pattern), arguments) for pattern in query.patterns]
    cut, after = "m.namespace", "step.namespace || ''::text"
    if query.max_depth is not None:
        depth = positive_limit(query.max_depth, "max_depth", maximum=_NO_LIMIT)
        cut = f"m.namespace[1:{depth:d}]"
        after = (
            f"CASE WHEN cardinality(step.namespace) < {depth:d} THEN {after} "
            f"ELSE step.namespace[1:{depth - 1:d}] || (step.namespace[{depth:d}] || chr(1)) END"
        )
    return fill(
        _NAMESPACES_ARM,
        cut=cut,
        live=LIVE,
        conditions=" AND ".join(conditions) or "true",
        after=after,
        place=str(place),
        limit=_parameter(positive_limit(query.limit, maximum=_NO_LIMIT), arguments, "bigint"),
        offset=_parameter(positive_limit(query.offset, "offset", maximum=_NO_LIMIT), arguments, "bigint"),
    )


def _put_row(put: ItemPut) -> tuple[Any, ...]:
    check_path(put.namespace, put.key)
    if not put.namespace:
        raise InvalidInputError("An item needs a namespace: give at least one label.")
    ttl = put.ttl_minutes
    if ttl is not None and not (isinstance(ttl, int | float) and 0 <= ttl <= LONGEST_TTL):
        raise InvalidInputError(
            f"The ttl of the item {put.key!r} must be from 0 to {LONGEST_TTL:,} minutes, not {ttl!r}."
        )
    value = None if put.value is None else json_object(put.value, f"The value of the item {put.key!r}")
    fields: Any = put.index_fields if put.ends is None else {"paths": put.index_fields, "ends": put.ends}
    fields = None if fields is None else orjson.dumps(fields).decode()
    return (
        uuid7(),
        uuid7(),
        array_literal(put.namespace),
        put.key,
        value,
        put.content,
        normalised_hash(put.content),
        optional_identifier(put.user_id, "user_id"),
        fields,
        ttl,
    )


def _path_of_row(row: tuple[Any, ...]) -> tuple[str, str]:
    return row[2], row[3]


def array_literal(labels: Sequence[str]) -> str:
    """The labels as a PostgreSQL array literal: asyncpg has no arrays of arrays of different lengths."""
    quoted = (label.replace("\\", "\\\\").replace('"', '\\"') for label in labels)
    return "{" + ",".join(f'"{label}"' for label in quoted) + "}"


def _item(row: Record) -> StoredItem:
    return StoredItem(
        row=row["id"],
        namespace=tuple(row["namespace"]),
        key=row["key"],
        value=loads_exact(row["value"]),
        created_at=row["created_at"],
        updated_at=row["recorded_at"],
    )
