"""Forgetting that can be undone: facts are closed, threads hidden, and both come back as they were.

What is forgotten here is found by no search and shown by no listing, and every row is kept. A
thread that somebody writes to comes back by itself, as a fact does that is remembered again; a
search index row of it is not remade, so that an undo gives the same answers as before.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from memory_plugin.capabilities.memory_values import USERS_ROOT, item_uuid, unknown_memory
from memory_plugin.capabilities.memory_writes import LIVE, MemoryWrites, fill
from memory_plugin.db.database import Database
from memory_plugin.errors import ConflictError, NotFoundError
from memory_plugin.validation import identifier

OF_USER = f"""(m.user_id = $2 OR m.user_id IS NULL AND $2 = ANY (
    CASE WHEN m.namespace[1] = '{USERS_ROOT}' THEN m.namespace[2:] ELSE m.namespace END))"""
"""The row of `memories m` is of user $2: by its user, or, where it has none, by a label of its namespace."""

_HIDE_THREAD = """
WITH c AS (
    UPDATE {s}.conversations SET forgotten_at = clock_timestamp()
    WHERE tenant_id = $1 AND thread_id = $2 AND forgotten_at IS NULL
    RETURNING thread_id
)
SELECT (SELECT count(*) FROM c) AS conversations,
       (SELECT count(*) FROM {s}.messages m
        WHERE m.tenant_id = $1 AND m.thread_id = (SELECT thread_id FROM c)) AS messages,
       EXISTS (SELECT FROM {s}.conversations WHERE tenant_id = $1 AND thread_id = $2) AS known
"""

_SHOW_THREAD = _HIDE_THREAD.replace("= clock_timestamp()", "= NULL").replace(
    "forgotten_at IS NULL", "forgotten_at IS NOT NULL"
)

# The time of the event is not before any row was recorded, and so equals what the rows get.
_HIDE_USER = fill(
    """
WITH facts AS MATERIALIZED (
    SELECT m.id, m.recorded_at FROM {seen}memories m WHERE m.tenant_id = $1 AND {live} AND {of_user}
    ORDER BY m.id FOR UPDATE
), clock AS MATERIALIZED (
    SELECT greatest(clock_timestamp(), (SELECT max(recorded_at) FROM facts)) AS at
), closed AS (
    UPDATE {s}.memories m SET superseded_at = clock.at FROM clock
    WHERE m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT id FROM facts)) RETURNING m.id
), unlisted AS (
    UPDATE {s}.passages p SET live_until = clock.at FROM clock
    WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT id FROM closed)) RETURNING 1
), threads AS (
    UPDATE {s}.conversations c SET forgotten_at = clock.at FROM clock
    WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.forgotten_at IS NULL RETURNING c.thread_id
), chunks AS (
    UPDATE {s}.passages p SET live_until = '-infinity'
    WHERE p.tenant_id = $1 AND p.kind = 3 AND p.user_id = $2 AND p.live_until IS NULL RETURNING 1
), event AS (
    INSERT INTO {s}.forgotten_users (tenant_id, user_id, forgotten_at) SELECT $1, $2, at FROM clock
    WHERE EXISTS (SELECT FROM closed) OR EXISTS (SELECT FROM threads) OR EXISTS (SELECT FROM chunks)
    ON CONFLICT DO NOTHING
)
SELECT (SELECT count(*) FROM closed) AS memories, (SELECT count(*) FROM threads) AS conversations,
       (SELECT count(*) FROM {s}.messages m
        WHERE m.tenant_id = $1 AND m.thread_id = ANY (ARRAY(SELECT thread_id FROM threads))) AS messages,
       (SELECT count(*) FROM unlisted) + (SELECT count(*) FROM chunks) AS passages
""",
    live=LIVE,
    of_user=OF_USER,
)

# A key that another fact has by now stays with that one.
_SHOW_USER = fill(
    """
WITH events AS MATERIALIZED (
    DELETE FROM {s}.forgotten_users WHERE tenant_id = $1 AND user_id = $2 RETURNING forgotten_at
), facts AS MATERIALIZED (
    SELECT DISTINCT ON (m.namespace, m.key) m.id FROM {seen}memories m
    WHERE m.tenant_id = $1 AND m.superseded_at = ANY (ARRAY(SELECT forgotten_at FROM events)) AND {of_user}
      AND NOT EXISTS (
          SELECT FROM {seen}memories o
          WHERE o.tenant_id = $1 AND o.namespace = m.namespace AND o.key = m.key AND o.superseded_at IS NULL)
    ORDER BY m.namespace, m.key, m.superseded_at DESC, m.version DESC
), opened AS (
    UPDATE {s}.memories m SET superseded_at = NULL
    WHERE m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT id FROM facts)) RETURNING m.id
), listed AS (
    UPDATE {s}.passages p SET live_until = NULL
    WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT id FROM opened)) RETURNING 1
), threads AS (
    UPDATE {s}.conversations c SET forgotten_at = NULL
    WHERE c.tenant_id = $1 AND c.user_id = $2 AND c.forgotten_at = ANY (ARRAY(SELECT forgotten_at FROM events))
    RETURNING c.thread_id
), chunks AS (
    UPDATE {s}.passages p SET live_until = NULL
    WHERE p.tenant_id = $1 AND p.kind = 3 AND p.user_id = $2 AND p.live_until = '-infinity'
      AND EXISTS (SELECT FROM events)
    RETURNING 1
)
SELECT (SELECT count(*) FROM opened) AS memories, (SELECT count(*) FROM threads) AS conversations,
       (SELECT count(*) FROM {s}.messages m
        WHERE m.tenant_id = $1 AND m.thread_id = ANY (ARRAY(SELECT thread_id FROM threads))) AS messages,
       (SELECT count(*) FROM listed) + (SELECT count(*) FROM chunks) AS passages
""",
    of_user=OF_USER,
)

_SHOW_ITEM = """
WITH newest AS MATERIALIZED (
    SELECT m.id, m.item_id, m.namespace, m.key, m.superseded_at FROM {seen}memories m
    WHERE m.tenant_id = $1 AND m.item_id = $2 ORDER BY m.version DESC LIMIT 1
), taken AS MATERIALIZED (
    SELECT o.id FROM newest n JOIN {seen}memories o
      ON o.tenant_id = $1 AND o.namespace = n.namespace AND o.key = n.key
     AND o.superseded_at IS NULL AND o.item_id <> n.item_id
), opened AS (
    UPDATE {s}.memories m SET superseded_at = NULL FROM newest n
    WHERE m.tenant_id = $1 AND m.id = n.id AND m.superseded_at IS NOT NULL
      AND (m.expires_at IS NULL OR m.expires_at > now()) AND NOT EXISTS (SELECT FROM taken)
    RETURNING m.id
), listed AS (
    UPDATE {s}.passages p SET live_until = NULL
    WHERE p.tenant_id = $1 AND p.id = ANY (ARRAY(SELECT id FROM opened)) RETURNING 1
)
SELECT (SELECT count(*) FROM opened) AS memories, (SELECT count(*) FROM listed) AS passages,
       EXISTS (SELECT FROM newest) AS known,
       EXISTS (SELECT FROM taken) AND EXISTS (SELECT FROM newest WHERE superseded_at IS NOT NULL) AS taken
"""


class Forgetting:
    """Hides and brings back items, threads and users of one tenant."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant
        self._writes = MemoryWrites(database, tenant)

    async def hide_thread(self, thread_id: str) -> dict[str, int]:
        """Let no listing, history or search show the thread; rows hidden, by table (none where it is hidden).

        The checkpointer still reads it by its id, and whoever writes to it brings it back.
        """
        counts = await self._run(_HIDE_THREAD, identifier(thread_id, "thread_id"))
        del counts["known"]
        return counts

    async def show_thread(self, thread_id: str) -> dict[str, int]:
        """Undo `hide_thread`; rows shown again, by table.

        Raises:
            NotFoundError: there is no such thread: it never was, or it was erased.
        """
        thread = identifier(thread_id, "thread_id")
        counts = await self._run(_SHOW_THREAD, thread)
        if not counts.pop("known"):
            raise NotFoundError(f"There is no conversation {thread!r} to bring back: what was erased is gone.")
        return counts

    async def hide_user(self, user_id: str) -> dict[str, int]:
        """Close the user's facts, hide the threads, and let no search find the documents; rows by table."""
        return await self._run(_HIDE_USER, identifier(user_id, "user_id"))

    async def show_user(self, user_id: str) -> dict[str, int]:
        """Undo every `hide_user` of this user; rows by table, all 0 where there was none.

        What was forgotten by itself before stays forgotten, and a key that has another fact by now keeps it.
        """
        return await self._run(_SHOW_USER, identifier(user_id, "user_id"))

    async def show_item(self, item_id: UUID | str) -> dict[str, int]:
        """Open the last version of a forgotten memory again, the same row; rows by table.

        Raises:
            NotFoundError: there is no such memory, or it was erased.
            ConflictError: another memory has its key by now.
        """
        item = item_uuid(item_id)
        counts = await self._run(_SHOW_ITEM, item)
        if not counts.pop("known"):
            raise unknown_memory(item)
        if counts.pop("taken"):
            raise ConflictError(f"Another memory stands under the key of {item} now: forget that one first.")
        return counts

    async def _run(self, statement: str, value: Any) -> dict[str, int]:
        """Run the statement, again where a writer of the same rows was in the way; its counts."""
        (row,) = await self._writes.fetch(self._database.sql(statement), self._tenant, value)
        return dict(row)
