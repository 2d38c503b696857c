"""Erasing a user for good: every row of every table, and the proof that none is left.

What is the user's: threads by their user, with all that is in them; facts by their user, or, where
they have none, by a label of their namespace; documents; texts, summaries and settings by their
scope. What others own stays, and only what ties it to the user is taken off it: the thread that a
fact is from, the name of who set a setting.

An erasure runs in one transaction; where there is much it takes batches, and one that was broken
off goes on when it is started again. It locks the conversations first, then documents and facts,
and the search index last, each in the order of keys, as all writers do.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from memory_plugin.capabilities.forgetting import OF_USER
from memory_plugin.capabilities.memory_writes import fill
from memory_plugin.db.database import Connection, Database
from memory_plugin.errors import ConflictError, DatabaseError
from memory_plugin.validation import identifier

THREADS = 200
DOCUMENTS = 50
FACTS = 5_000
"""How many of each one transaction takes."""

ROUNDS = 8
"""How often what others wrote meanwhile is erased too, before the erasure gives up."""

_RETRIED = {"40001", "40P01", "23503"}  # serialization failure, deadlock, a row that another's new row needs

_LOCK_THREADS = """
SELECT thread_id FROM {s}.conversations WHERE tenant_id = $1 AND user_id = $2 ORDER BY thread_id LIMIT $3 FOR UPDATE
"""
_LOCK_DOCUMENTS = """
SELECT id::text FROM {s}.documents WHERE tenant_id = $1 AND user_id = $2 ORDER BY id LIMIT $3 FOR UPDATE
"""
_LOCK_FACTS = fill(
    "SELECT m.id::text FROM {s}.memories m WHERE m.tenant_id = $1 AND {of_user} ORDER BY m.id LIMIT $3 FOR UPDATE",
    of_user=OF_USER,
)

_THREADS, _FACTS, _DOCUMENTS = "ANY ($2::text[])", "ANY ($3::text[]::uuid[])", "ANY ($4::text[]::uuid[])"

# Waits for an indexer that is at work on these rows. That of a thread waits for the conversation,
# which is locked already, and takes its row of the queue away itself.
_UNQUEUE = f"""
DELETE FROM {{s}}.index_queue WHERE (tenant_id, kind, item) IN (
    SELECT tenant_id, kind, item FROM {{s}}.index_queue
    WHERE tenant_id = $1 AND (
        kind = 1 AND item = ANY ($3::text[])
        OR kind = 3 AND item = ANY (
            ARRAY(SELECT id::text FROM {{s}}.chunks WHERE tenant_id = $1 AND document_id = {_DOCUMENTS})))
    ORDER BY tenant_id, kind, item FOR UPDATE)
AND $2::text[] IS NOT NULL
"""
_UNQUEUE_THREADS = f"""
DELETE FROM {{s}}.index_queue WHERE (tenant_id, kind, item) IN (
    SELECT tenant_id, kind, item FROM {{s}}.index_queue
    WHERE tenant_id = $1 AND kind = 2 AND item = {_THREADS} FOR UPDATE SKIP LOCKED)
"""
_LOCK_PASSAGES = f"""
SELECT id::text FROM {{s}}.passages WHERE tenant_id = $1 AND (
    kind = 2 AND thread_id = {_THREADS} OR id = {_FACTS} OR document_id = {_DOCUMENTS})
ORDER BY id FOR UPDATE
"""

# table, condition; $2 are the threads, $3 the facts, $4 the documents of this batch
_ROWS = (
    ("messages", f"thread_id = {_THREADS}"),
    ("checkpoints", f"thread_id = {_THREADS}"),
    ("checkpoint_blobs", f"thread_id = {_THREADS}"),
    ("checkpoint_writes", f"thread_id = {_THREADS}"),
    ("proposals", f"thread_id = {_THREADS}"),
    ("feedback", f"thread_id = {_THREADS}"),
    ("shared_conversations", f"thread_id = {_THREADS}"),
    ("working_memory", f"scope = 'chat' AND scope_id = {_THREADS}"),
    ("agent_settings", f"scope = 'thread' AND scope_id = {_THREADS}"),
    ("conversations", f"thread_id = {_THREADS}"),
    ("memories", f"id = {_FACTS}"),
    ("chunk_places", f"document_id = {_DOCUMENTS}"),
    ("chunks", f"document_id = {_DOCUMENTS}"),
    ("document_versions", f"document_id = {_DOCUMENTS}"),
    ("documents", f"id = {_DOCUMENTS}"),
)
# facts of others that were said in these threads stay, without the place
_LOOSEN = (
    (
        "memories",
        f"""
UPDATE {{s}}.memories SET thread_id = CASE WHEN thread_id = {_THREADS} THEN NULL ELSE thread_id END,
    source = CASE WHEN source ->> 'thread_id' = {_THREADS}
                  THEN nullif(source - 'thread_id' - 'message_id', '{{}}') ELSE source END
WHERE tenant_id = $1 AND (thread_id = {_THREADS} OR source ->> 'thread_id' = {_THREADS})
""",
    ),
    (
        "passages",
        f"UPDATE {{s}}.passages SET thread_id = NULL WHERE tenant_id = $1 AND kind = 1 AND thread_id = {_THREADS}",
    ),
)
# by passages ($2), those in front of them first
_INDEX = (("embeddings", "passage_id"), ("embedding_queue", "passage_id"), ("passages", "id"))
# by the user ($2), when nothing else is left
_SCOPED = (
    ("working_memory", "DELETE FROM {s}.working_memory WHERE tenant_id = $1 AND scope = 'user' AND scope_id = $2"),
    ("user_memory", "DELETE FROM {s}.user_memory WHERE tenant_id = $1 AND user_id = $2"),
    ("agent_settings", "DELETE FROM {s}.agent_settings WHERE tenant_id = $1 AND scope = 'user' AND scope_id = $2"),
    ("agent_settings", "UPDATE {s}.agent_settings SET set_by = NULL WHERE tenant_id = $1 AND set_by = $2"),
    ("proposals", "DELETE FROM {s}.proposals WHERE tenant_id = $1 AND user_id = $2"),
    ("feedback", "DELETE FROM {s}.feedback WHERE tenant_id = $1 AND given_by = $2"),
    ("forgotten_users", "DELETE FROM {s}.forgotten_users WHERE tenant_id = $1 AND user_id = $2"),
    ("tokens", "DELETE FROM {s}.tokens WHERE tenant_id = $1 AND user_id = $2"),
)
# a word that only this user used must not be guessed from its number
_EMPTY_TERMS = """
DELETE FROM {s}.term_statistics WHERE (tenant_id, kind, term) IN (
    SELECT tenant_id, kind, term FROM {s}.term_statistics WHERE tenant_id = $1 AND passages = 0
    FOR UPDATE SKIP LOCKED)
"""

_CATALOG = """
SELECT c.relname AS table, a.attname AS column, format_type(a.atttypid, NULL) AS type
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = $1::text::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND EXISTS (SELECT FROM pg_attribute t WHERE t.attrelid = c.oid AND t.attname = 'tenant_id')
ORDER BY 1, a.attnum
"""


@dataclass(frozen=True, slots=True)
class ErasureReceipt:
    """What an erasure did, and what a search of the whole schema found afterwards.

    Attributes:
        counts: rows erased, or loosened from the user, by table.
        left: rows that still are the user's, by table and column: empty, which is the proof.
        mentions: rows of others that name the user or one of the threads somewhere (in their JSON,
            say), by table and column; they are not the user's and stay as they are.
        looked_at: columns that were searched.
        at: when the proof was made.
        seconds: how long it all took.
    """

    user_id: str
    counts: Mapping[str, int]
    threads: int
    left: Mapping[str, int]
    mentions: Mapping[str, int]
    looked_at: int
    at: datetime
    seconds: float


class Erasure:
    """Erases users of one tenant."""

    def __init__(self, database: Database, *, tenant: str) -> None:
        self._database = database
        self._tenant = tenant

    async def erase_user(self, user_id: str, *, mentions: bool = False) -> ErasureReceipt:
        """Erase everything of a user, beside any writers, and look that nothing is left.

        Args:
            mentions: look through every other column too for rows of others that name the user;
                that reads the whole schema.

        Raises:
            ConflictError: others kept writing for this user; what was erased stays erased.
        """
        user, started = identifier(user_id, "user_id"), time.monotonic()
        counts: Counter[str] = Counter()
        threads: set[str] = set()
        left: dict[str, int] = {}
        for attempt in range(ROUNDS):
            if attempt:
                await asyncio.sleep(random.random() * 0.02 * 2**attempt)  # noqa: S311 - only to part the two
            while await self._again(user, counts, threads):
                pass
            left = await self.left(user, threads)
            if not left:
                break
        if left:
            raise ConflictError(
                f"Others keep writing for the user {user!r} ({', '.join(left)}): stop the user's agents, "
                "then erase again."
            )
        await self._database.execute(self._database.sql(_EMPTY_TERMS), self._tenant)
        named = await self.mentions(user, threads) if mentions else {}
        return ErasureReceipt(
            user_id=user,
            counts=dict(counts),
            threads=len(threads),
            left=left,
            mentions=named,
            looked_at=len(await self._columns()),
            at=datetime.now(UTC),
            seconds=time.monotonic() - started,
        )

    async def left(self, user_id: str, threads: Iterable[str] = ()) -> dict[str, int]:
        """Rows that are still the user's, by "table.column"; the columns are read from the catalog.

        Args:
            threads: ids of threads that were the user's, to look for too.
        """
        conditions = _owned(await self._columns())
        return await self._count(conditions, user_id, list(threads))

    async def mentions(self, user_id: str, threads: Iterable[str] = ()) -> dict[str, int]:
        """Rows that name the user or one of the threads, by "table.column", in any column of the schema.

        Text counts when it is the name, JSON when the name is a value or a key in it at any depth,
        bytes when they contain it.
        """
        return await self._count(_named(await self._columns()), user_id, list(threads))

    async def _columns(self) -> list[tuple[str, str, str]]:
        rows = await self._database.fetch(_CATALOG, f'"{self._database.schema}"')
        return [(row["table"], row["column"], row["type"]) for row in rows]

    async def _count(self, conditions: Sequence[tuple[str, str, str]], user: str, threads: list[str]) -> dict[str, int]:
        found = {}
        for table, column, condition in conditions:
            statement = (
                f'SELECT count(*) FROM {{s}}."{table}" m WHERE m.tenant_id = $1 AND ({condition}) '
                "AND $2::text IS NOT NULL AND $3::text[] IS NOT NULL"
            )
            number = await self._database.fetchval(self._database.sql(statement), self._tenant, user, threads)
            if number:
                found[f"{table}.{column}"] = number
        return found

    async def _again(self, user: str, counts: Counter[str], threads: set[str]) -> bool:
        """One batch, tried again where a writer was in the way; whether there may be more."""
        for attempt in range(ROUNDS):
            try:
                async with self._database.transaction() as connection:
                    batch: Counter[str] = Counter()
                    taken, more = await self._batch(connection, user, batch)
            except DatabaseError as error:
                if error.sqlstate not in _RETRIED or attempt == ROUNDS - 1:
                    raise
                await asyncio.sleep(random.random() * 0.01 * 2**attempt)  # noqa: S311 - only to part the two
            else:
                counts.update(batch)
                threads.update(taken)
                return more
        raise AssertionError("the last attempt returns or raises")

    async def _batch(self, connection: Connection, user: str, counts: Counter[str]) -> tuple[list[str], bool]:
        """Erase one batch; the threads in it, and whether there may be more."""
        sql, tenant = self._database.sql, self._tenant
        taken = []
        for lock, size in ((_LOCK_THREADS, THREADS), (_LOCK_DOCUMENTS, DOCUMENTS), (_LOCK_FACTS, FACTS)):
            taken.append([row[0] for row in await connection.fetch(sql(lock), tenant, user, size)])
        threads, documents, facts = taken
        batch = (threads, facts, documents)
        counts["index_queue"] += _rows(await connection.execute(sql(_UNQUEUE), tenant, *batch))
        counts["index_queue"] += _rows(await connection.execute(sql(_UNQUEUE_THREADS), tenant, threads))
        passages = [row[0] for row in await connection.fetch(sql(_LOCK_PASSAGES), tenant, *batch)]
        place = {"$2": threads, "$3": facts, "$4": documents}
        for table, condition in _ROWS:
            (which,) = (mark for mark in place if mark in condition)
            statement = f"DELETE FROM {{s}}.{table} WHERE tenant_id = $1 AND {condition.replace(which, '$2')}"
            counts[table] += _rows(await connection.execute(sql(statement), tenant, place[which]))
        for table, column in _INDEX:
            statement = f"DELETE FROM {{s}}.{table} WHERE tenant_id = $1 AND {column} = ANY ($2::text[]::uuid[])"
            counts[table] += _rows(await connection.execute(sql(statement), tenant, passages))
        for table, statement in _LOOSEN if threads else ():
            counts[table] += _rows(await connection.execute(sql(statement), tenant, threads))
        more = len(threads) == THREADS or len(documents) == DOCUMENTS or len(facts) == FACTS
        for table, statement in () if more else _SCOPED:
            counts[table] += _rows(await connection.execute(sql(statement), tenant, user))
        return threads, more


def _rows(tag: str) -> int:
    """How many rows PostgreSQL's command tag tells of."""
    return int(tag.rsplit(" ", 1)[1])


def _owned(columns: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Conditions under which a row is the user's, for every table that has a column of that meaning."""
    tables: dict[str, set[str]] = {}
    for table, column, _ in columns:
        tables.setdefault(table, set()).add(column)
    found = []
    for table, names in tables.items():
        if {"user_id", "namespace"} <= names:
            found.append((table, "user_id", OF_USER))
        elif "user_id" in names:
            found.append((table, "user_id", "m.user_id = $2"))
        if "thread_id" in names:
            found.append((table, "thread_id", "m.thread_id = ANY ($3)"))
        found += [(table, name, f"m.{name} = $2") for name in ("set_by", "given_by") if name in names]
        if {"scope", "scope_id"} <= names:
            whose = "m.scope = 'user' AND m.scope_id = $2 OR m.scope IN ('chat', 'thread') AND m.scope_id = ANY ($3)"
            found.append((table, "scope_id", whose))
        if {"kind", "item"} <= names:
            found.append((table, "item", "m.kind = 2 AND m.item = ANY ($3)"))
        if "source" in names and (table, "source", "jsonb") in columns:
            found.append((table, "source", "m.source ->> 'thread_id' = ANY ($3)"))
    return found


_MENTIONED = {
    "text": "m.{column} = $2 OR m.{column} = ANY ($3)",
    "text[]": "$2 = ANY (m.{column}) OR m.{column} && $3",
    "jsonb": "EXISTS (SELECT FROM unnest($2::text || $3::text[]) AS name"
    " WHERE strpos(m.{column}::text, to_json(name)::text) > 0)",
    "bytea": "EXISTS (SELECT FROM unnest($2::text || $3::text[]) AS name"
    " WHERE position(convert_to(name, 'UTF8') IN m.{column}) > 0)",
}


def _named(columns: Sequence[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Conditions under which a row names the user or a thread, for every column that can hold a name."""
    return [
        (table, column, _MENTIONED[type].replace("{column}", f'"{column}"'))
        for table, column, type in columns
        if type in _MENTIONED and column != "tenant_id"
    ]
