"""What is stored as a stream of records: of one user, or of the whole tenant."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import InvalidInputError
from memory_plugin.portable.tables import (
    END,
    KIND_OF,
    KINDS,
    Kind,
    header,
    key_of_record,
    record_of,
    selected,
    sql_type,
)
from memory_plugin.validation import optional_identifier

PAGE = 200
"""Rows that are read at once."""

CHANNEL = "messages"
"""The channel of a graph's state that is its conversation."""

_LATEST = """
SELECT message_refs -> $3 AS ranges FROM {s}.checkpoints
WHERE tenant_id = $1 AND thread_id = $2 AND checkpoint_ns = '' ORDER BY checkpoint_id DESC LIMIT 1
"""
_STATE = """
SELECT m.seq FROM jsonb_array_elements($3::text::jsonb) WITH ORDINALITY AS range (bounds, place), LATERAL (
    SELECT seq FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2
      AND seq >= (range.bounds ->> 0)::bigint AND seq < (range.bounds ->> 1)::bigint
) AS m ORDER BY range.place, m.seq
"""
_SEQS = "SELECT seq, origin FROM {s}.messages WHERE tenant_id = $1 AND thread_id = $2 ORDER BY seq"


async def export_records(
    database: Database,
    tenant: str,
    *,
    user_id: str | None = None,
    checkpoints: bool = False,
    after: Mapping[str, Any] | None = None,
) -> AsyncGenerator[dict[str, Any], None]:
    """Every record in a fixed order, as of one moment; see `MemoryCore.export`.

    Raises:
        InvalidInputError: `after` is no record of an export.
    """
    user = optional_identifier(user_id, "user_id")
    kinds = [kind for kind in KINDS if checkpoints or not kind.of_checkpoints]
    start, last = 0, None
    if after is None or after.get("kind") == "header":
        if after is None:
            yield header(user, checkpoints=checkpoints)
    else:
        start, last = _place(after, kinds)
    async with database.raw() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        reader = _Reader(connection, database, tenant, user)
        for kind in kinds[start:]:
            said = kind.name == "message" and not checkpoints
            rows = reader.history(last) if said else reader.rows(kind, last)
            async for record in rows:
                yield record
            last = None
    yield dict(END)


def _place(after: Mapping[str, Any], kinds: Sequence[Kind]) -> tuple[int, dict[str, Any]]:
    """Where to read on behind this record: the place of its kind, and its key."""
    kind = KIND_OF.get(str(after.get("kind")))
    if kind is None or kind not in kinds or any(column.name not in after for column in kind.key):
        raise InvalidInputError("`after` is no record of such an export: give the last one that was received.")
    return kinds.index(kind), {str(column.name): after[column.name] for column in kind.key}


class _Reader:
    """Reads pages of rows in one transaction."""

    def __init__(self, connection: Connection, database: Database, tenant: str, user: str | None) -> None:
        self._connection = connection
        self._sql = database.sql
        self._tenant = tenant
        self._user = user

    async def rows(self, kind: Kind, last: Mapping[str, Any] | None) -> AsyncIterator[dict[str, Any]]:
        """The records of a kind behind a key, in the order of keys."""
        order = ", ".join(f'm."{column.name}"' for column in kind.key)
        mine = "$2::text IS NULL" if self._user is None else kind.mine
        keys = ", ".join(f"($3::text::jsonb ->> '{column.name}')::{sql_type(column)}" for column in kind.key)
        statement = self._sql(
            f"SELECT {selected(kind)} FROM {{s}}.{kind.table} m WHERE m.tenant_id = $1 AND {mine} "
            f"AND ($3::text IS NULL OR ({order}) > ({keys})) ORDER BY {order} LIMIT {PAGE}"
        )
        place = None if last is None else orjson.dumps(dict(last)).decode()
        while True:
            page = await self._connection.fetch(statement, self._tenant, self._user, place)
            record: dict[str, Any] = {}
            for row in page:
                record = record_of(kind, row)
                yield record
            if len(page) < PAGE:
                return
            place = orjson.dumps({str(column.name): record[column.name] for column in kind.key}).decode()

    async def history(self, last: Mapping[str, Any] | None) -> AsyncIterator[dict[str, Any]]:
        """The messages as they are without checkpoints: what history shows becomes messages of the conversation.

        Where a fork or an edit left another order than that of arrival, the numbers are handed out anew
        in the order of the history.
        """
        kind = KIND_OF["message"]
        by_seq = key_of_record(kind, "m", doc="w.doc")
        statement = self._sql(
            f"SELECT {selected(kind)} FROM {{s}}.messages m JOIN unnest($2::text[]::jsonb[]) AS w (doc) ON {by_seq} "
            "WHERE m.tenant_id = $1"
        )
        async for thread in self._threads(None if last is None else str(last["thread_id"])):
            order = await self._order(thread)
            if last is not None and thread == last["thread_id"]:
                order = [each for each in order if each[0] > last["seq"]]
            for first in range(0, len(order), PAGE):
                page = order[first : first + PAGE]
                wanted = [orjson.dumps({"thread_id": thread, "seq": seq}).decode() for _, seq, _ in page]
                rows = {row["seq"]: row for row in await self._connection.fetch(statement, self._tenant, wanted)}
                for number, seq, shown in page:
                    record = record_of(kind, rows[seq]) | {"seq": number}
                    yield record | {"origin": 1} if shown else record

    async def _threads(self, start: str | None) -> AsyncIterator[str]:
        statement = self._sql(
            "SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND ($2::text IS NULL OR user_id = $2) "
            f"AND ($3::text IS NULL OR thread_id >= $3) AND ($4::text IS NULL OR thread_id > $4) "
            f"ORDER BY thread_id LIMIT {PAGE}"
        )
        last = None
        while True:
            page = await self._connection.fetch(statement, self._tenant, self._user, start, last)
            for row in page:
                yield row["thread_id"]
            if len(page) < PAGE:
                return
            last = page[-1]["thread_id"]

    async def _order(self, thread: str) -> list[tuple[int, int, bool]]:
        """Each message as (number in the export, number here, whether history shows it), by the first."""
        rows = await self._connection.fetch(self._sql(_SEQS), self._tenant, thread)
        ranges = await self._connection.fetchval(self._sql(_LATEST), self._tenant, thread, CHANNEL)
        state = []
        if ranges is not None:
            found = await self._connection.fetch(self._sql(_STATE), self._tenant, thread, ranges)
            state = list(dict.fromkeys(row["seq"] for row in found))
        shown = merged(state, [row["seq"] for row in rows if row["origin"] == 1])
        numbers = dict(zip(shown, sorted(shown), strict=True))
        return sorted((numbers.get(row["seq"], row["seq"]), row["seq"], row["seq"] in numbers) for row in rows)


def merged(state: Sequence[int], appended: Sequence[int]) -> list[int]:
    """The state's messages in its order, each appended one before the first that has only later ones behind it."""
    earliest, low = [0] * len(state), 2**63
    for place in range(len(state) - 1, -1, -1):
        low = earliest[place] = min(low, state[place])
    result: list[int] = []
    waiting = sorted(set(appended) - set(state), reverse=True)
    for place, seq in enumerate(state):
        while waiting and waiting[-1] < earliest[place]:
            result.append(waiting.pop())
        result.append(seq)
    return [*result, *reversed(waiting)]
