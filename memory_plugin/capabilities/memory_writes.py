"""How versions of memories are closed, opened and erased, whoever asks for it.

A write is one statement. Writers of one item do not lock each other out beforehand: the unique
indexes let one of them through, and the others try again on what it left behind.
"""

from __future__ import annotations

from typing import Any

from memory_plugin.db.database import Connection, Database, Record, Repeat
from memory_plugin.errors import ConflictError, DatabaseError, DatabaseUnavailableError, OutcomeUnknownError
from memory_plugin.telemetry import retried

ATTEMPTS = 50

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))"
_RETRIED = {"23505", "40001", "40P01"}  # unique violation, serialization failure, deadlock

LIVE = "m.superseded_at IS NULL AND (m.expires_at IS NULL OR m.expires_at > now())"
"""The row of `memories m` is the current version of its item, and has not expired."""

# Statements here are often planned before the tables have statistics, or any rows, and must not read
# all rows of a tenant later on. Hence rows are named by arrays (`id = ANY (ARRAY(SELECT ...))`), which
# no plan can leave out of the index condition, keys are looked up one by one (LATERAL ... LIMIT 1),
# and where an id is known the condition of the partial indexes is written so that they do not offer
# themselves: without statistics the planner believes that few rows fulfil it.
STILL_OPEN = "coalesce(m.superseded_at, 'infinity') = 'infinity'"
"""The row of `memories m`, named by its id, is the current version of its item."""

OPEN_LIVE = f"{STILL_OPEN} AND (m.expires_at IS NULL OR m.expires_at > now())"
"""As `LIVE`, for a row that is named by its id."""


def fill(template: str, **parts: str) -> str:
    """The template with each `{name}` replaced; other braces, such as those of `{s}`, stay."""
    for name, part in parts.items():
        template = template.replace(f"{{{name}}}", part)
    return template


# Expects two CTEs. `outgoing (id, lapsed, last, at)`: rows to close; lapsed: it had expired before;
# last: nothing follows. `incoming (replaces, at, id, item_id ...)`: rows to open, `replaces` naming
# the row that must be closed first. Who reads `closed` runs the UPDATE, so the join below keeps the
# order that the unique index needs. Where a version follows, the lifetime belongs to that one.
REPLACE = fill(
    """
closed AS (
    UPDATE {s}.memories m
    SET superseded_at = CASE WHEN o.lapsed THEN m.expires_at ELSE greatest(o.at, m.recorded_at) END,
        expires_at = CASE WHEN o.lapsed OR o.last THEN m.expires_at END
    FROM outgoing o
    WHERE m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT id FROM outgoing)) AND m.id = o.id AND {still_open}
    RETURNING m.id, m.superseded_at
), hidden AS (
    UPDATE {s}.passages p SET live_until = c.superseded_at
    FROM closed c WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT id FROM closed)) AND p.id = c.id
    RETURNING 1
), created AS (
    INSERT INTO {s}.memories (
        tenant_id, id, item_id, version, namespace, key, content, content_hash, value, user_id, thread_id,
        agent_id, metadata, source, importance, trust, index_fields, valid_from, valid_to, recorded_at,
        created_at, ttl_minutes, expires_at)
    SELECT $1, i.id, i.item_id, i.version, i.namespace, i.key, i.content, i.content_hash, i.value, i.user_id,
           i.thread_id, i.agent_id, i.metadata, i.source, i.importance, i.trust, i.index_fields, i.valid_from,
           i.valid_to, greatest(i.at, c.superseded_at),
           coalesce(i.created_at, greatest(i.at, c.superseded_at)), i.ttl_minutes,
           greatest(i.at, c.superseded_at) + i.ttl_minutes * interval '1 minute'
    FROM incoming i LEFT JOIN closed c ON c.id = i.replaces
    ORDER BY i.namespace, i.key
    RETURNING *
), queued AS (
    INSERT INTO {s}.index_queue (tenant_id, kind, item)
    SELECT $1, 1, id::text FROM created WHERE content <> ''
)
""",
    still_open=STILL_OPEN,
)

# Two statements: the first waits for whoever is indexing these rows (it holds their queue rows), and
# only the second can then see the passages that were made of them.
_DELETE_ROWS = """
WITH rows AS (
    DELETE FROM {s}.memories WHERE tenant_id = $1 AND {column} = ANY ($2) RETURNING id, item_id
), unqueued AS (
    DELETE FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = 1 AND item = ANY (ARRAY(SELECT id::text FROM rows))
    RETURNING 1
)
SELECT array_agg(id) AS ids, count(DISTINCT item_id) AS items, (SELECT count(*) FROM unqueued) AS index_queue
FROM rows
"""
_DELETE_INDEX = """
WITH vectors AS (
    DELETE FROM {s}.embeddings WHERE tenant_id = $1 AND passage_id = ANY ($2) RETURNING 1
), waiting AS (
    DELETE FROM {s}.embedding_queue WHERE tenant_id = $1 AND passage_id = ANY ($2) RETURNING 1
), words AS (
    DELETE FROM {s}.passages WHERE tenant_id = $1 AND id = ANY ($2) RETURNING 1
)
SELECT (SELECT count(*) FROM words) AS passages, (SELECT count(*) FROM vectors) AS embeddings,
       (SELECT count(*) FROM waiting) AS embedding_queue
"""


class MemoryWrites:
    """Runs the writing statements of one tenant's memories."""

    def __init__(self, database: Database, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._delete = {column: database.sql(fill(_DELETE_ROWS, column=column)) for column in ("item_id", "user_id")}
        self._delete_index = database.sql(_DELETE_INDEX)

    async def fetch(self, statement: str, *arguments: Any, made: tuple[str, Any] | None = None) -> list[Record]:
        """Run the statement, again where another writer was first or where its answer was lost.

        After the first attempt the writers of a tenant that met queue up behind a lock, so that
        each round lets one of them through.

        Args:
            made: a statement that finds the rows which this one makes, by ids that were chosen
                before (its argument after the tenant), and answers as this one does. Without it
                nothing is repeated whose answer was lost.

        Raises:
            ConflictError: others kept writing the same item all the time.
            OutcomeUnknownError: the answer was lost, and no other was to be had.
        """
        lost: OutcomeUnknownError | None = None
        try:
            return await self._database.fetch(statement, *arguments)
        except DatabaseError as error:
            lost = _lost(error, made)
            if lost is None:  # the pause before the next attempt tells of the others
                retried(error)
        patience = self._database.patience()
        for _ in range(ATTEMPTS):
            try:
                if lost is not None and made is not None:
                    if not await patience.pause():
                        break
                    if found := await self._database.fetch(made[0], self._tenant, made[1], repeat=Repeat.READ):
                        return found
                async with self._database.transaction() as connection:
                    await connection.execute(_LOCK, f"memories of {self._tenant}")
                    return await connection.fetch(statement, *arguments)
            except DatabaseError as error:
                if lost is None or not (isinstance(error, DatabaseUnavailableError) and error.passing):
                    lost = _lost(error, made) or lost
        if lost is not None:
            lost.repeatable = True
            raise lost
        raise ConflictError("Other writers kept changing the same memory all the time: try again.")

    async def erase_all(self, column: str, value: Any) -> dict[str, int]:
        """As `erase`, in a transaction of its own, again where another writer was in the way.

        Raises:
            ConflictError: others kept writing the same rows all the time.
        """
        for _ in range(ATTEMPTS):
            try:
                async with self._database.transaction() as connection:
                    return await self.erase(connection, column, [value])
            except DatabaseError as error:
                if error.sqlstate not in _RETRIED:
                    raise
        raise ConflictError("Other writers kept changing what is to be forgotten all the time: try again.")

    async def erase(self, connection: Connection, column: str, values: list[Any]) -> dict[str, int]:
        """Delete all versions of these items, or all rows of these users, and what the index has of them.

        Args:
            connection: inside a transaction.
            column: "item_id" or "user_id".

        Returns:
            Rows deleted by table, and under "items" how many items these were.
        """
        rows = await connection.fetchrow(self._delete[column], self._tenant, values)
        assert rows is not None  # an aggregate always has a row
        ids = rows["ids"] or []
        index = await connection.fetchrow(self._delete_index, self._tenant, ids)
        assert index is not None  # so has a SELECT without FROM
        return {
            "memories": len(ids),
            **dict(index),
            "index_queue": rows["index_queue"],
            "items": rows["items"],
        }


def _lost(error: DatabaseError, made: tuple[str, Any] | None) -> OutcomeUnknownError | None:
    """Whether the answer was lost; raises what no other attempt can help."""
    if isinstance(error, OutcomeUnknownError) and made is not None:
        return error
    if error.sqlstate in _RETRIED:
        return None
    raise error
