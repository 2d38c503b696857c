"""Moving the items of the store, there and back."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from langgraph.store.base import GetOp, Item, PutOp

from memory_plugin.db.database import Connection, Database, Record
from memory_plugin.errors import InvalidInputError
from memory_plugin.jsonable import loads_exact
from memory_plugin.memory import Memory
from memory_plugin.transfer import own_sql as sql
from memory_plugin.transfer.comparing import same
from memory_plugin.transfer.values import ItemCounts, Progress

CHUNK = 100
ROOM = 4 << 20
"""Characters of values that are moved together, unless one item has more."""

_FETCHED = 16

_COUNT = "SELECT count(*) FROM store"
_ITEMS = """
SELECT prefix, key, value::text AS value, created_at, updated_at, expires_at, ttl_minutes, {indexed} AS indexed
FROM store s ORDER BY prefix, key
"""
# an item without a vector was put with index=False, or has nothing to be found by; unless there is no vector at all
_INDEXED = """
(EXISTS (SELECT FROM store_vectors v WHERE v.prefix = s.prefix AND v.key = s.key)
 OR NOT EXISTS (SELECT FROM store_vectors))
"""
_PUT = """
INSERT INTO store AS s (prefix, key, value, created_at, updated_at, expires_at, ttl_minutes)
VALUES ($1, $2, $3::text::jsonb, $4, $5, $6, $7)
ON CONFLICT (prefix, key) DO UPDATE
SET value = excluded.value, updated_at = excluded.updated_at, expires_at = excluded.expires_at,
    ttl_minutes = excluded.ttl_minutes
WHERE s.updated_at < excluded.updated_at
"""
_THERE = """
SELECT s.prefix, s.key, s.value::text AS value, s.updated_at
FROM unnest($1::text[], $2::text[]) AS w (prefix, key) JOIN store s ON s.prefix = w.prefix AND s.key = w.key
"""


@dataclass(frozen=True, slots=True)
class StoreItem:
    """An item of the store with its times."""

    namespace: tuple[str, ...]
    key: str
    value: Any
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    ttl_minutes: float | None
    indexed: bool = True
    size: int = 0

    @property
    def name(self) -> str:
        """How it is called in messages."""
        return f"{'.'.join(self.namespace)} / {self.key}"

    @property
    def has_expired(self) -> bool:
        """Whether its lifetime is over."""
        return self.expires_at is not None and self.expires_at <= datetime.now(UTC)


async def _chunks(items: AsyncIterator[StoreItem]) -> AsyncIterator[list[StoreItem]]:
    chunk: list[StoreItem] = []
    size = 0
    async for item in items:
        if chunk and (len(chunk) >= CHUNK or size + item.size > ROOM):
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += item.size
    if chunk:
        yield chunk


# -- from the official store


async def official_items(connection: Connection, *, vectors: bool) -> AsyncIterator[StoreItem]:
    """All items, by namespace and key; the connection is in a transaction.

    Args:
        vectors: the table of vectors is there.
    """
    statement = _ITEMS.replace("{indexed}", _INDEXED if vectors else "true")
    async for row in connection.cursor(statement, prefetch=_FETCHED):
        now = datetime.now(UTC)
        updated = row["updated_at"] or now
        yield StoreItem(
            tuple(row["prefix"].split(".")),
            row["key"],
            json.loads(row["value"]),
            row["created_at"] or updated,
            updated,
            row["expires_at"],
            row["ttl_minutes"],
            row["indexed"],
            len(row["value"]),
        )


class ItemImport:
    """Puts items of the official store into this one, and compares them with what it gives back."""

    def __init__(self, memory: Memory, counts: ItemCounts, progress: Progress, *, write: bool, compare: bool) -> None:
        self._memory = memory
        self._counts = counts
        self._progress = progress
        self._write = write
        self._compare = compare

    async def run(self, connection: Connection, *, vectors: bool) -> None:
        """Move all items that the connection shows."""
        self._progress.begin("items", await connection.fetchval(_COUNT))
        async for chunk in _chunks(official_items(connection, vectors=vectors)):
            live = [item for item in chunk if not item.has_expired]
            self._counts.expired += len(chunk) - len(live)
            await self._take(live)
            self._progress.advance(len(chunk))

    async def _take(self, items: Sequence[StoreItem]) -> None:
        usable = [item for item in items if self._is_usable(item)]
        there = await self._there(usable)
        deleted = await self._deleted([item for item in usable if _key(item) not in there])
        wanted: list[StoreItem] = []
        for item in usable:
            found = there.get(_key(item))
            if found is None and _key(item) in deleted:
                self._counts.kept += 1
            elif found is None:
                self._counts.new += 1
                wanted.append(item)
            elif same(found.value, item.value):
                self._counts.unchanged += 1
                if found.updated_at != item.updated_at:  # it was stored, and the run ended before it had its time
                    wanted.append(item)
            elif found.updated_at > item.updated_at:
                self._counts.kept += 1
            else:
                self._counts.updated += 1
                wanted.append(item)
        if self._write:
            stored = await self._put(wanted)
            await self._date(stored)
            await self._check(stored)
        elif self._compare:
            for item in wanted:
                self._counts.fail(f"{item.name}: it differs, or is not there")

    def _is_usable(self, item: StoreItem) -> bool:
        reason = None
        if not isinstance(item.value, dict):
            reason = "its value is no JSON object"
        elif not all(item.namespace):
            reason = "its namespace has an empty label"
        if reason is not None:
            self._counts.fail(f"{item.name}: {reason}")
        return reason is None

    async def _there(self, items: Sequence[StoreItem]) -> dict[tuple[Any, ...], Item]:
        found = await self._memory.store.abatch([GetOp(item.namespace, item.key, refresh_ttl=False) for item in items])
        return {_key(item): each for item, each in zip(items, found, strict=True) if isinstance(each, Item)}

    async def _deleted(self, items: Sequence[StoreItem]) -> set[tuple[Any, ...]]:
        """Those that were here before as they are there now, and were deleted since."""
        if not items:
            return set()
        rows = await self._memory.database.fetch(
            self._memory.database.sql(sql.DELETED_ITEMS),
            self._memory.tenant,
            [_labels(item.namespace) for item in items],
            [item.key for item in items],
            [item.updated_at.isoformat() for item in items],
        )
        return {_key(items[row["place"] - 1]) for row in rows}

    async def _put(self, items: Sequence[StoreItem]) -> list[StoreItem]:
        """Those that could be stored: all at once, or, where one is refused, one by one."""
        try:
            await self._memory.store.abatch(list(map(_put_op, items)))
        except (InvalidInputError, ValueError):
            stored = []
            for item in items:
                try:
                    await self._memory.store.abatch([_put_op(item)])
                except (InvalidInputError, ValueError) as error:
                    self._counts.fail(f"{item.name}: {error}")
                else:
                    stored.append(item)
            return stored
        return list(items)

    async def _date(self, items: Sequence[StoreItem]) -> None:
        if items:
            await self._memory.database.execute(
                self._memory.database.sql(sql.DATE_ITEMS),
                self._memory.tenant,
                [_labels(item.namespace) for item in items],
                [item.key for item in items],
                [item.created_at.isoformat() for item in items],
                [item.updated_at.isoformat() for item in items],
                [None if item.expires_at is None else item.expires_at.isoformat() for item in items],
            )

    async def _check(self, items: Sequence[StoreItem]) -> None:
        there = await self._there(items) if self._compare else {}
        for item in items if self._compare else ():
            found = there.get(_key(item))
            if found is None or not same(found.value, item.value) or found.updated_at != item.updated_at:
                self._counts.fail(f"{item.name}: it differs from what was read")


def _key(item: StoreItem) -> tuple[Any, ...]:
    return item.namespace, item.key


def _put_op(item: StoreItem) -> PutOp:
    ttl = None if item.ttl_minutes is None else float(item.ttl_minutes)
    return PutOp(item.namespace, item.key, item.value, index=None if item.indexed else False, ttl=ttl)


def _labels(namespace: Sequence[str]) -> str:
    """The labels as a PostgreSQL array literal: asyncpg has no arrays of arrays of different lengths."""
    quoted = (label.replace("\\", "\\\\").replace('"', '\\"') for label in namespace)
    return "{" + ",".join(f'"{label}"' for label in quoted) + "}"


# -- to the official store


async def own_items(memory: Memory) -> AsyncIterator[StoreItem]:
    """All live items of the tenant, facts among them."""
    last = UUID(int=0)
    while True:
        rows = await memory.database.fetch(memory.database.sql(sql.ITEMS), memory.tenant, last, _FETCHED)
        for row in rows:
            yield _own_item(row)
        if len(rows) < _FETCHED:
            return
        last = rows[-1]["id"]


def _own_item(row: Record) -> StoreItem:
    return StoreItem(
        tuple(row["namespace"]),
        row["key"],
        loads_exact(row["value"]),
        row["created_at"],
        row["updated_at"],
        row["expires_at"],
        row["ttl_minutes"],
        size=len(row["value"]),
    )


class ItemExport:
    """Puts items of this store into the official one, and compares them with what it has then."""

    def __init__(
        self, database: Database, counts: ItemCounts, progress: Progress, *, write: bool, compare: bool
    ) -> None:
        self._database = database
        self._counts = counts
        self._progress = progress
        self._write = write
        self._compare = compare

    async def run(self, memory: Memory) -> None:
        """Move all live items."""
        total = await memory.database.fetchval(memory.database.sql(sql.COUNT_ITEMS), memory.tenant)
        self._progress.begin("items", total)
        async for chunk in _chunks(own_items(memory)):
            await self._take(chunk)
            self._progress.advance(len(chunk))

    async def _take(self, items: Sequence[StoreItem]) -> None:
        usable = {(".".join(item.namespace), item.key): item for item in items if self._is_usable(item)}
        there = await self._there(list(usable))
        wanted = {}
        for place, item in usable.items():
            found = there.get(place)
            if found is None:
                self._counts.new += 1
            elif same(json.loads(found["value"]), item.value):
                self._counts.unchanged += 1
                continue
            elif found["updated_at"] > item.updated_at:
                self._counts.kept += 1
                continue
            else:
                self._counts.updated += 1
            wanted[place] = item
        if self._write and wanted:
            async with self._database.transaction() as connection:
                await connection.executemany(_PUT, [_official_row(item) for item in wanted.values()])
        if self._compare:
            await self._check(wanted)

    def _is_usable(self, item: StoreItem) -> bool:
        reason = None
        if any("." in label for label in item.namespace):
            reason = "a label of its namespace has a dot in it, which the official store cannot keep apart"
        else:
            try:
                if "\\u0000" in json.dumps(item.value, allow_nan=False):
                    reason = "its value has a NUL byte in it, which the official store cannot hold"
            except (TypeError, ValueError) as error:
                reason = f"its value is not plain JSON ({error})"
        if reason is not None:
            self._counts.fail(f"{item.name}: {reason}")
        return reason is None

    async def _there(self, places: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Record]:
        rows = await self._database.fetch(_THERE, [prefix for prefix, _ in places], [key for _, key in places])
        return {(row["prefix"], row["key"]): row for row in rows}

    async def _check(self, wanted: Mapping[tuple[str, str], StoreItem]) -> None:
        there = await self._there(list(wanted)) if wanted else {}
        for place, item in wanted.items():
            found = there.get(place)
            if found is None or not same(json.loads(found["value"]), item.value):
                self._counts.fail(f"{item.name}: it differs, or is not there")


def _official_row(item: StoreItem) -> tuple[Any, ...]:
    minutes = None if item.ttl_minutes is None else math.ceil(item.ttl_minutes)
    return (
        ".".join(item.namespace),
        item.key,
        json.dumps(item.value),
        item.created_at,
        item.updated_at,
        item.expires_at,
        minutes,
    )
