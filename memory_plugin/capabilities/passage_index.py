"""The statements that turn queued rows into passages, one kind after the other.

Any number of processes may run them at once. Queue rows are locked in one order; whoever comes
second finds them gone. For messages the queue names the thread and the conversation's
`indexed_seq` says how far it is done; the row of the conversation, which every writer of messages
updates too, decides whether the queue row may go: a message that arrives while its thread is
being indexed keeps it there.
"""

from __future__ import annotations

from dataclasses import dataclass

from memory_plugin.capabilities.languages import AVERAGE_LENGTH, OF_CHUNK, OF_MEMORY, OF_MESSAGE, of_tenant
from memory_plugin.db.database import Database, Repeat
from memory_plugin.instruction_signs import flagged_sql

BATCH = {1: 2_000, 2: 200, 3: 500}
"""Queue rows of memories and of chunks, and messages, that one statement takes: the more, the fewer times the words
that all have are counted."""

THREADS = 50
"""Threads whose messages one statement takes."""

RECALL_TOOLS = ("recall", "search_references")
"""Tools whose answers are stored text already: indexing them again would echo for ever."""

_PENDING = "SELECT DISTINCT kind FROM {s}.index_queue WHERE tenant_id = $1"

A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"
"""The number of a term, as `term_id` gives it: calling a function for each word takes most of the time."""

_TERM_OF_HASH = (
    "((get_byte(hash, 0) << 20) | (get_byte(hash, 1) << 12) | (get_byte(hash, 2) << 4) | (get_byte(hash, 3) >> 4)) + 1"
)

# What every kind does with its rows once they are in `source`. Length, weights and keys are those that `words_length`,
# `words_weights` and `term_keys` give, read from the words together.
_STORE = """
stored AS (
    INSERT INTO {s}.passages (tenant_id, id, kind, user_id, thread_id, seq, document_id, speaker, said_at, live_until,
                              flagged, length, lexemes, weights, keys)
    SELECT $1, id, {kind}, user_id, thread_id, seq, document_id, speaker, said_at, live_until, flagged,
           said.length, lexemes, counted.weights, counted.keys
    FROM (
        SELECT source.*, {words} AS lexemes, {flagged} AS flagged
        FROM (SELECT * FROM source OFFSET 0) AS source OFFSET 0
    ) AS source
    CROSS JOIN (SELECT {salt} AS salt OFFSET 0) AS tenant
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(coalesce(cardinality(positions), 1)), 0)::integer AS length FROM unnest(lexemes)
    ) AS said
    CROSS JOIN LATERAL (
        SELECT coalesce(array_agg(term # tenant.salt), '{}') AS keys,
               ('{' || coalesce(string_agg(term || ':' || (tf * 1.9::real / (tf + 0.9::real * (0.6::real + 0.4::real
                    * (said.length / {average}::real))))::real, ',' ORDER BY term), '') || '}/268435456')::sparsevec
                    AS weights
        FROM (
            SELECT DISTINCT ON (term) term, tf FROM (
                SELECT {term_of_hash} AS term, tf FROM (
                    SELECT sha256(convert_to(lexeme, 'UTF8')) AS hash, coalesce(cardinality(positions), 1)::real AS tf
                    FROM unnest(lexemes) OFFSET 0
                ) AS hashed
            ) AS frequencies ORDER BY term, tf DESC
        ) AS terms
    ) AS counted
    ON CONFLICT DO NOTHING
    RETURNING id, length, keys
), terms AS (
    INSERT INTO {s}.term_statistics AS t (tenant_id, kind, term, passages)
    SELECT $1, {kind}, key # (SELECT {salt}), count(*) FROM stored, unnest(keys) AS k (key)
    GROUP BY 3 ORDER BY 3
    ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = t.passages + excluded.passages
    RETURNING 1
), corpus AS (
    INSERT INTO {s}.corpus_statistics AS c (tenant_id, kind, passages, total_length)
    -- after the terms, as where passages are deleted: otherwise two of these could wait for each other
    SELECT $1, {kind}, count(*), sum(length) FROM stored WHERE (SELECT count(*) FROM terms) >= 0 HAVING count(*) > 0
    ON CONFLICT (tenant_id, kind) DO UPDATE
    SET passages = c.passages + excluded.passages, total_length = c.total_length + excluded.total_length
), vectors AS (
    INSERT INTO {s}.embedding_queue (tenant_id, model_id, passage_id)
    SELECT $1, m.model_id, s.id
    FROM stored s JOIN {s}.embedding_models m ON m.tenant_id = $1 AND m.retired_at IS NULL
    ON CONFLICT DO NOTHING
)
"""

# Rows are named by arrays: under row security no index serves a join on what a cast made, and all rows of the
# tenant would be read for every batch.
_TAKE_ITEMS = """
WITH taken AS MATERIALIZED (
    SELECT item FROM {s}.index_queue WHERE tenant_id = $1 AND kind = {kind} ORDER BY item LIMIT {batch} FOR UPDATE
), gone AS (
    DELETE FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = {kind} AND item = ANY (ARRAY(SELECT item FROM taken))
)
"""

_SPOKEN = f"""
, spoken AS MATERIALIZED (
    SELECT languages, languages[1]::regconfig AS first FROM (SELECT {of_tenant("$2")} AS languages) AS own
)
"""

# The lexemes of a text in the languages of the tenant. Most tenants have one, and most texts nothing but ASCII: what
# the functions look for is not in them then, and to ask them costs as much as reading a short text.
_WORDS = """
CASE WHEN (SELECT cardinality(languages) FROM spoken) <> 1
     THEN {s}.words_of((SELECT languages FROM spoken), text)
     WHEN octet_length(text) = char_length(text) THEN to_tsvector((SELECT first FROM spoken), left(text, 100000))
     ELSE {s}.words((SELECT first FROM spoken), text) END
"""

_MEMORIES = f"""
, source AS (
    SELECT m.id, m.user_id, m.thread_id, NULL::bigint AS seq, NULL::uuid AS document_id, NULL::text AS speaker,
           m.recorded_at AS said_at, m.superseded_at AS live_until, {OF_MEMORY} AS text, m.content AS told
    FROM {{s}}.memories m WHERE m.tenant_id = $1 AND m.id = ANY (ARRAY(SELECT item::uuid FROM taken))
),
"""

_CHUNKS = f"""
, source AS (
    SELECT c.id, d.user_id, NULL::text AS thread_id, NULL::bigint AS seq, c.document_id, NULL::text AS speaker,
           d.updated_at AS said_at, NULL::timestamptz AS live_until, {OF_CHUNK} AS text, c.text AS told
    FROM {{s}}.chunks c JOIN {{s}}.documents d ON d.tenant_id = $1 AND d.id = c.document_id
    WHERE c.tenant_id = $1 AND c.id = ANY (ARRAY(SELECT item::uuid FROM taken))
),
"""

# Of the threads that are taken, the messages of the first ones; where there are more than one statement takes, all
# threads stay in the queue that may have some left.
_MESSAGES = (
    """
WITH taken AS MATERIALIZED (
    SELECT item FROM {s}.index_queue WHERE tenant_id = $1 AND kind = 2 ORDER BY item LIMIT {threads} FOR UPDATE
), threads AS MATERIALIZED (
    SELECT thread_id, user_id, indexed_seq, message_seq FROM {s}.conversations
    WHERE tenant_id = $1 AND thread_id = ANY (ARRAY(SELECT item FROM taken))
), fresh AS MATERIALIZED (
    SELECT t.user_id, t.thread_id, m.*
    FROM (SELECT * FROM threads ORDER BY thread_id) AS t, LATERAL (
        SELECT seq, id, origin, role, name, text, said_at FROM {s}.messages
        WHERE tenant_id = $1 AND thread_id = t.thread_id AND seq > t.indexed_seq ORDER BY seq LIMIT {batch}
    ) AS m
    LIMIT {batch}
), reached AS MATERIALIZED (
    SELECT t.thread_id, CASE WHEN (SELECT count(*) FROM fresh) < {batch} THEN t.message_seq ELSE max(f.seq) END AS seq
    FROM threads t LEFT JOIN fresh f USING (thread_id) GROUP BY t.thread_id, t.message_seq
), marked AS (
    UPDATE {s}.conversations c SET indexed_seq = greatest(c.indexed_seq, r.seq)
    FROM reached r
    WHERE c.tenant_id = $1 AND c.thread_id = ANY (ARRAY(SELECT thread_id FROM reached)) AND c.thread_id = r.thread_id
    RETURNING c.thread_id, c.indexed_seq >= c.message_seq AS done, c.forgotten_at
), gone AS (
    DELETE FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = 2 AND item = ANY (ARRAY(
        SELECT item FROM taken EXCEPT ALL SELECT thread_id FROM marked WHERE NOT done))
)
"""
    + _SPOKEN
    + f"""
, source AS (
    SELECT g.id, g.user_id, g.thread_id, g.seq, NULL::uuid AS document_id, coalesce(g.name, g.role) AS speaker,
           g.said_at, CASE WHEN marked.forgotten_at IS NOT NULL THEN '-infinity'::timestamptz END AS live_until,
           {OF_MESSAGE} AS text, g.text AS told
    FROM fresh g JOIN marked USING (thread_id)  -- a thread that was erased meanwhile has no row to mark
    WHERE origin <> 2 AND text <> '' AND role <> 'remove' AND NOT (role = 'tool' AND name = ANY ($3::text[]))
),
"""
)

_COUNT = """
SELECT count(*) AS rows, (SELECT count(*) FROM stored) AS passages, {is_more} AS more FROM taken
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one round took: rows of the queue, passages made of them, and whether there may be more."""

    rows: int
    passages: int
    more: bool


class IndexStatements:
    """Runs the statement of each kind that has something queued."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending = database.sql(_PENDING)
        full = "count(*) = {batch}"
        unread = "count(*) = {threads} OR EXISTS (SELECT FROM marked WHERE NOT done)"
        self._statements = {
            1: self._statement(1, _TAKE_ITEMS + _SPOKEN + _MEMORIES, full),
            2: self._statement(2, _MESSAGES, unread),
            3: self._statement(3, _TAKE_ITEMS + _SPOKEN + _CHUNKS, full),
        }

    def _statement(self, kind: int, source: str, is_more: str) -> str:
        statement = (source + _STORE + _COUNT.replace("{is_more}", is_more)).replace("{words}", _WORDS)
        parts = {
            "flagged": flagged_sql("told"),
            "term_of_hash": _TERM_OF_HASH,
            # what `term_keys` adds to the number of a term
            "salt": f"({{s}}.term_id($1) << 4) # {kind}",
            "kind": f"{kind}::smallint",
            "average": str(AVERAGE_LENGTH[kind]),
            "batch": str(BATCH[kind]),
            "threads": str(THREADS),
        }
        for name, part in parts.items():
            statement = statement.replace(f"{{{name}}}", part)
        return self._database.sql(statement)

    async def run(self, tenant: str, languages: list[str]) -> Taken:
        """One batch of each kind that is queued.

        Args:
            languages: that words are read in, where the tenant has none of its own.
        """
        rounds: list[Taken] = []
        for pending in await self._database.fetch(self._pending, tenant, repeat=Repeat.READ):
            kind = pending["kind"]
            arguments = [tenant, languages, *([list(RECALL_TOOLS)] if kind == 2 else [])]
            row = await self._database.fetchrow(self._statements[kind], *arguments, repeat=Repeat.READ)
            assert row is not None  # an aggregate always has a row
            rounds.append(Taken(*row))
        return Taken(
            sum(each.rows for each in rounds),
            sum(each.passages for each in rounds),
            any(each.more for each in rounds),
        )
