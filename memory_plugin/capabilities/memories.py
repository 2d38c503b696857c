"""Long-term memories: facts that are kept, superseded and forgotten, with their history.

A memory is a line of versions. The current one has no `superseded_at`; another text under the
same key closes it and opens the next. Each is at the same time an item of a key-value store
(`Memories.items`), so what one face remembers every other one reads: a fact that was remembered
without a `value` reads `{"content": text}` there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from memory_plugin.capabilities.memory_filters import prefix_condition
from memory_plugin.capabilities.memory_items import MemoryItems
from memory_plugin.capabilities.memory_values import (
    USERS_ROOT,
    check_path,
    fraction,
    item_uuid,
    json_object,
    keys_of_text,
    memory_of,
    normalised_hash,
    read_cursor,
    read_source,
    source_json,
    unknown_memory,
    user_of,
    write_cursor,
)
from memory_plugin.capabilities.memory_writes import LIVE, REPLACE, MemoryWrites, fill
from memory_plugin.db.database import Database, Repeat
from memory_plugin.errors import ConflictError, InvalidInputError
from memory_plugin.types import MemoryItem, Namespace, Page, Source, Trust, uuid7
from memory_plugin.validation import (
    clean_text,
    identifier,
    moment,
    namespace_path,
    optional_identifier,
    positive_limit,
)

_COLUMNS = """m.id, m.item_id, m.version, m.namespace, m.key, m.content, m.value::text AS value, m.user_id,
    m.thread_id, m.agent_id, m.metadata::text AS metadata, m.source::text AS source, m.importance, m.trust,
    m.valid_from, m.valid_to, m.recorded_at, m.superseded_at, m.created_at"""

# $4 says whether the caller named the key. If not, the same text anywhere in the namespace is that
# fact; else its key is the first free one of those made from the text ($3), so that two writers of
# the same text meet at the unique index.
_REMEMBER = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
twin AS (
    SELECT m.id FROM {s}.memories m
    WHERE NOT $4::boolean AND m.tenant_id = $1 AND m.content_hash = $8::bytea AND m.namespace = $2::text[]
      AND {live}
    ORDER BY m.recorded_at, m.id LIMIT 1
), slot AS (
    SELECT c.key FROM unnest($3::text[]) WITH ORDINALITY AS c (key, place)
    WHERE $4 OR NOT EXISTS (
        SELECT FROM {s}.memories m WHERE m.tenant_id = $1 AND m.namespace = $2 AND m.key = c.key AND {live})
    ORDER BY c.place LIMIT 1
), held AS MATERIALIZED (
    SELECT m.id, m.item_id, m.version, m.created_at, coalesce(m.expires_at <= now(), false) AS lapsed,
           m.content_hash = $8 AND coalesce(m.value = $9::jsonb, true)
               AND coalesce(m.metadata = $13::jsonb, true)
               AND ($17::timestamptz IS NULL OR m.valid_from IS NOT DISTINCT FROM $17)
               AND ($18::timestamptz IS NULL OR m.valid_to IS NOT DISTINCT FROM $18) AS same
    FROM slot, LATERAL (
        SELECT * FROM {s}.memories m
        WHERE m.tenant_id = $1 AND m.namespace = $2 AND m.key = slot.key AND m.superseded_at IS NULL
        LIMIT 1
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
SELECT {columns}, 'duplicate' FROM {s}.memories m WHERE m.tenant_id = $1 AND m.id IN (SELECT id FROM known)
""",
    live=LIVE,
    replace=REPLACE,
    columns=_COLUMNS,
)

_GET = fill("SELECT {columns} FROM {s}.memories m WHERE m.tenant_id = $1 AND {wanted} AND {when}", columns=_COLUMNS)
_BY_ITEM = "m.item_id = $2::uuid"
_BY_KEY = "m.namespace = $2::text[] AND m.key = $3::text"
_BY_ROWS = "m.id = ANY ($2::uuid[])"
_LASTING = "(m.expires_at IS NULL OR m.expires_at > now())"
_AS_OF = (
    "m.recorded_at <= $3::timestamptz AND (m.superseded_at IS NULL OR m.superseded_at > $3) "
    "AND (m.expires_at IS NULL OR m.expires_at > $3)"
)

_LIST = fill(
    """
SELECT {columns} FROM {s}.memories m
WHERE m.tenant_id = $1 AND {live} AND ($2::text IS NULL OR m.user_id = $2)
  AND ($3::timestamptz IS NULL OR (m.recorded_at, m.id) < ($3, $4::uuid)) AND {below}
ORDER BY m.recorded_at DESC, m.id DESC LIMIT $5
""",
    columns=_COLUMNS,
    live=LIVE,
)

# expired is only the newest version, and then all of them are
_HISTORY = fill(
    """
SELECT {columns} FROM {s}.memories m
WHERE m.tenant_id = $1 AND m.item_id = $2
  AND NOT EXISTS (
      SELECT FROM {s}.memories e WHERE e.tenant_id = $1 AND e.item_id = $2 AND e.expires_at <= now())
ORDER BY m.version
""",
    columns=_COLUMNS,
)

# Back to the newest version when that was closed, else to the one before it.
_UNDO = fill(
    """
WITH clock AS MATERIALIZED (SELECT clock_timestamp() AS at),
versions AS MATERIALIZED (
    SELECT m.*, row_number() OVER (ORDER BY m.version DESC) AS age
    FROM {s}.memories m WHERE m.tenant_id = $1 AND m.item_id = $2 ORDER BY m.version DESC LIMIT 2
), newest AS (
    SELECT * FROM versions WHERE age = 1 AND (expires_at IS NULL OR expires_at > now())
), target AS (
    SELECT v.* FROM newest JOIN versions v ON v.age = CASE WHEN newest.superseded_at IS NULL THEN 2 ELSE 1 END
), held AS MATERIALIZED (
    SELECT m.id, coalesce(m.expires_at <= now(), false) AS lapsed, m.item_id <> t.item_id AS other
    FROM target t, LATERAL (
        SELECT * FROM {s}.memories m
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
    columns=_COLUMNS,
)

# the row that a statement above has made, where its answer was lost
_MADE = fill(
    """
SELECT true AS known, false AS taken, {columns}, CASE WHEN m.version = 1 THEN 'created' ELSE 'updated' END AS status
FROM {s}.memories m WHERE m.tenant_id = $1 AND m.id = $2
""",
    columns=_COLUMNS,
)

_CLOSE = """
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
       EXISTS (SELECT FROM {s}.memories m WHERE m.tenant_id = $1 AND m.{column} = $2) AS known
"""


class Memories:
    """Remembers facts and keeps what they were before.

    Attributes:
        items: the same rows as the items of a key-value store.
    """

    def __init__(self, database: Database, *, tenant: str, user_id: str | None = None) -> None:
        self._database = database
        self._tenant = tenant
        self._user_id = user_id
        self._writes = MemoryWrites(database, tenant)
        self.items = MemoryItems(database, tenant=tenant)
        self._remember = database.sql(_REMEMBER)
        self._get = {
            wanted: database.sql(fill(_GET, wanted=wanted, when=when))
            for wanted, when in ((_BY_ITEM, LIVE), (_BY_KEY, LIVE), (_BY_ROWS, _LASTING))
        }
        self._get_as_of = database.sql(fill(_GET, wanted=_BY_ITEM, when=_AS_OF))
        self._history = database.sql(_HISTORY)
        self._undo = database.sql(_UNDO)
        self._made = database.sql(_MADE)
        self._close = {
            column: database.sql(fill(_CLOSE, column=column, live=LIVE)) for column in ("item_id", "user_id")
        }

    async def remember(
        self,
        content: str,
        *,
        user_id: str | None = None,
        thread_id: str | None = None,
        agent_id: str | None = None,
        namespace: Sequence[str] | str | None = None,
        key: str | None = None,
        value: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        source: Source | Mapping[str, Any] | None = None,
        importance: float = 0.5,
        trust: Trust = "user",
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
    ) -> MemoryItem:
        """Store a fact; `status` says what became of it.

        - `duplicate`: it was known, and nothing was written. Without a key that is the same text
          anywhere in the namespace, with a key the same text under that key (unless a `value`,
          `metadata`, `valid_from` or `valid_to` was given that differs). Texts are the same when
          they differ only in case, white space or Unicode composition.
        - `updated`: another fact stood under the key; it stays in the history.
        - `created`: anything else.

        Any number of writers may do this at once: one of them creates, no version is lost.

        Args:
            user_id: whose fact it is; by default the store's user, or X in a namespace
                ("memories", X, ...).
            namespace: ("memories", user) by default, ("memories",) when there is no user.
            key: the name of the fact; None makes one from the text.
            value: what the store item holds; {"content": content} by default.
            source: where it was said; its thread is the memory's thread unless `thread_id` says.
            importance: 0 to 1.
            trust: who vouches for it.
            valid_from, valid_to: when it is true.

        Raises:
            InvalidInputError: something cannot be stored; nothing was written.
            ConflictError: others kept writing the same fact all the time.
        """
        text = clean_text(content, "The content of a memory")
        if not text.strip():
            raise InvalidInputError("The content of a memory is empty: give the fact as text.")
        labels, user = self._owner(namespace, user_id)
        origin = read_source(source)
        thread = thread_id if thread_id is not None else origin and origin.thread_id
        since, until = moment(valid_from, "valid_from"), moment(valid_to, "valid_to")
        if since and until and since > until:
            raise InvalidInputError("valid_from is after valid_to: a fact must be true for some time.")
        if trust not in get_args(Trust):
            raise InvalidInputError(f"trust must be one of {', '.join(get_args(Trust))}, not {trust!r}.")
        digest = normalised_hash(text)
        keys = [identifier(key, "key")] if key is not None else keys_of_text(labels, digest)
        check_path(labels, keys[0])
        row_id = uuid7()
        rows = await self._writes.fetch(
            self._remember,
            self._tenant,
            list(labels),
            keys,
            key is not None,
            row_id,
            uuid7(),
            text,
            digest,
            None if value is None else json_object(value, "The value of a memory"),
            user,
            optional_identifier(thread, "thread_id"),
            optional_identifier(agent_id, "agent_id"),
            None if metadata is None else json_object(metadata, "The metadata of a memory", order=False),
            source_json(origin),
            fraction(importance),
            trust,
            since,
            until,
            made=(self._made, row_id),
        )
        return memory_of(rows[0])

    def _owner(self, namespace: Sequence[str] | str | None, user_id: str | None) -> tuple[Namespace, str | None]:
        user = optional_identifier(user_id, "user_id")
        if namespace is None:
            user = user or self._user_id
            return ((USERS_ROOT, user) if user else (USERS_ROOT,)), user
        labels = namespace_path(namespace)
        if not labels:
            raise InvalidInputError("The namespace is empty: give at least one label, or leave it out.")
        return labels, user or user_of(labels) or self._user_id

    async def get(self, item_id: UUID | str, *, as_of: datetime | None = None) -> MemoryItem:
        """The memory as it is now, or as it was known at a time.

        Raises:
            NotFoundError: there is none, it was forgotten, or its lifetime is over.
        """
        item, at = item_uuid(item_id), moment(as_of, "as_of")
        if at is None:
            row = await self._database.fetchrow(self._get[_BY_ITEM], self._tenant, item, repeat=Repeat.READ)
        else:
            row = await self._database.fetchrow(self._get_as_of, self._tenant, item, at, repeat=Repeat.READ)
        if row is None:
            raise unknown_memory(item, at)
        return memory_of(row)

    async def get_by_key(self, namespace: Sequence[str] | str, key: str) -> MemoryItem | None:
        """The memory that stands under a key now, or None."""
        labels = list(namespace_path(namespace))
        row = await self._database.fetchrow(
            self._get[_BY_KEY], self._tenant, labels, clean_text(key, "key"), repeat=Repeat.READ
        )
        return None if row is None else memory_of(row)

    async def hydrate(self, ids: Sequence[UUID]) -> dict[UUID, MemoryItem]:
        """The versions with these row ids, by which the search index knows them.

        Superseded ones are among them (see `superseded_at`), expired ones are not.
        """
        rows = await self._database.fetch(self._get[_BY_ROWS], self._tenant, list(ids), repeat=Repeat.READ)
        return {row["id"]: memory_of(row) for row in rows}

    async def list(
        self,
        *,
        namespace: Sequence[str] | str = (),
        user_id: str | None = None,
        limit: int = 20,
        cursor: str | None = None,
    ) -> Page[MemoryItem]:
        """Memories at or below a namespace, those of one user or of all, the last changed first.

        Raises:
            InvalidInputError: the cursor is not one that this method gave.
        """
        count = positive_limit(limit)
        after, row = read_cursor(cursor) if cursor is not None else (None, None)
        below = prefix_condition(namespace_path(namespace))
        statement = self._database.sql(fill(_LIST, below=below.numbered(6)))
        rows = await self._database.fetch(
            statement,
            self._tenant,
            optional_identifier(user_id, "user_id"),
            after,
            row,
            count + 1,
            *below.arguments,
            repeat=Repeat.READ,
        )
        items = [memory_of(row) for row in rows[:count]]
        return Page(items, write_cursor(rows[count - 1]) if len(rows) > count > 0 else None)

    async def history(self, item_id: UUID | str) -> Sequence[MemoryItem]:
        """All versions of a memory, the first one first, also of a forgotten one.

        Raises:
            NotFoundError: there is none, it was erased, or its lifetime is over.
        """
        item = item_uuid(item_id)
        rows = await self._database.fetch(self._history, self._tenant, item, repeat=Repeat.READ)
        if not rows:
            raise unknown_memory(item)
        return [memory_of(row) for row in rows]

    async def undo(self, item_id: UUID | str) -> MemoryItem:
        """Bring back the version before the current one, or the last one of a forgotten memory.

        It comes back as a new version, so undoing twice is undoing nothing.

        Raises:
            NotFoundError: there is no such memory, it was erased, or its lifetime is over.
            ConflictError: it was forgotten, and another memory has its key now.
            InvalidInputError: it has one version only; forget it to be rid of it.
        """
        item = item_uuid(item_id)
        row_id = uuid7()
        (row,) = await self._writes.fetch(self._undo, self._tenant, item, row_id, made=(self._made, row_id))
        if row["id"] is not None:
            return memory_of(row)
        if row["taken"]:
            raise ConflictError(f"Another memory stands under the key of {item} now: forget that one first.")
        if row["known"]:
            raise InvalidInputError(f"The memory {item} has no version before this one: forget it to be rid of it.")
        raise unknown_memory(item)

    async def forget(self, item_id: UUID | str, *, hard: bool = False) -> dict[str, int]:
        """Let nothing find the memory any more; rows touched, by table.

        Args:
            hard: erase all its versions; otherwise `undo` and `history` still know it.

        Raises:
            NotFoundError: there is no such memory.
        """
        item = item_uuid(item_id)
        counts = await self._forget("item_id", item, hard=hard)
        if not counts.pop("known"):
            raise unknown_memory(item)
        return counts

    async def forget_user(self, user_id: str, *, hard: bool = False) -> dict[str, int]:
        """Forget every memory of a user, store items among them; rows touched, by table."""
        counts = await self._forget("user_id", identifier(user_id, "user_id"), hard=hard)
        del counts["known"]
        return counts

    async def _forget(self, column: str, value: UUID | str, *, hard: bool) -> dict[str, int]:
        if not hard:
            row = await self._database.fetchrow(self._close[column], self._tenant, value, repeat=Repeat.IDEMPOTENT)
            assert row is not None  # a SELECT without FROM always has a row
            return dict(row)
        counts = await self._writes.erase_all(column, value)
        known = counts.pop("items")
        return {**counts, "known": known}

    async def sweep_expired(self) -> int:
        """Erase the memories whose lifetime is over; how many there were."""
        return await self.items.sweep_expired()
