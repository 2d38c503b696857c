"""The statements that turn queued rows into passages, one kind after the other.

Any number of processes may run them at once. Queue rows are locked in one order; whoever comes
second finds them gone. For messages the queue names the thread and the conversation's
`indexed_seq` says how far it is done; the row of the conversation, which every writer of messages
updates too, decides whether the queue row may go: a message that arrives while its thread is
being indexed keeps it there.
"""

from __future__ import annotations

from memory_plugin.capabilities.languages import AVERAGE_LENGTH, OF_CHUNK, OF_MEMORY, OF_MESSAGE, of_tenant
from memory_plugin.db.database import Database, Repeat
from memory_plugin.instruction_signs import flagged_sql

BATCH = 500
"""Queue rows of memories and chunks, or messages of one thread, that one statement takes."""

THREADS = 20

RECALL_TOOLS = ("recall", "search_references")
"""Tools whose answers are stored text already: indexing them again would echo for ever."""

_PENDING = "SELECT DISTINCT kind FROM {s}.index_queue WHERE tenant_id = $1"

A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"
"""The number of a term, as `term_id` gives it: calling a function for each word takes most of the time."""

# What every kind does with its rows once they are in `source`. Length, weights and keys are those that `words_length`,
# `words_weights` and `term_keys` give, read from the words together.
_STORE = """
stored AS (
    INSERT INTO {s}.passages (tenant_id, id, kind, user_id, thread_id, seq, document_id, speaker, said_at, live_until,
                              flagged, length, lexemes, weights, keys)
    SELECT $1, id, kind, user_id, thread_id, seq, document_id, speaker, said_at, live_until, flagged,
           counted.length, lexemes, counted.weights, counted.keys
    FROM (SELECT * FROM source OFFSET 0) AS source
    CROSS JOIN (SELECT {s}.term_id($1) << 4 AS salt OFFSET 0) AS tenant
    CROSS JOIN LATERAL (
        SELECT coalesce(max(length), 0) AS length, coalesce(array_agg(term # (tenant.salt # kind)), '{}') AS keys,
               ('{' || coalesce(string_agg(term || ':' || (tf * 1.9::real / (tf + 0.9::real * (0.6::real + 0.4::real
                    * (length / $3::real))))::real, ',' ORDER BY term), '') || '}/268435456')::sparsevec AS weights
        FROM (
            SELECT {a_term} AS term, max(tf)::real AS tf, max(length)::integer AS length FROM (
                SELECT lexeme, coalesce(cardinality(positions), 1) AS tf,
                       sum(coalesce(cardinality(positions), 1)) OVER () AS length
                FROM unnest(lexemes)
            ) AS frequencies GROUP BY 1
        ) AS terms
    ) AS counted
    ON CONFLICT DO NOTHING
    RETURNING id, kind, length, keys
), terms AS (
    INSERT INTO {s}.term_statistics AS t (tenant_id, kind, term, passages)
    SELECT $1, kind, key # (tenant.salt # kind), count(DISTINCT id)
    FROM stored, unnest(keys) AS k (key), (SELECT {s}.term_id($1) << 4 AS salt OFFSET 0) AS tenant
    GROUP BY 2, 3 ORDER BY 3
    ON CONFLICT (tenant_id, kind, term) DO UPDATE SET passages = t.passages + excluded.passages
), corpus AS (
    INSERT INTO {s}.corpus_statistics AS c (tenant_id, kind, passages, total_length)
    SELECT $1, kind, count(*), sum(length) FROM stored GROUP BY kind
    ON CONFLICT (tenant_id, kind) DO UPDATE
    SET passages = c.passages + excluded.passages, total_length = c.total_length + excluded.total_length
), vectors AS (
    INSERT INTO {s}.embedding_queue (tenant_id, model_id, passage_id)
    SELECT $1, m.model_id, s.id
    FROM stored s JOIN {s}.embedding_models m ON m.tenant_id = $1 AND m.retired_at IS NULL
    ON CONFLICT DO NOTHING
)
""".replace("{a_term}", A_TERM)

_TAKE_ITEMS = """
WITH taken AS (
    SELECT item FROM {s}.index_queue WHERE tenant_id = $1 AND kind = {kind} ORDER BY item LIMIT $4 FOR UPDATE
), gone AS (
    DELETE FROM {s}.index_queue
    WHERE tenant_id = $1 AND kind = {kind} AND item = ANY (ARRAY(SELECT item FROM taken))
)
"""


def _words(text: str) -> str:
    """The lexemes of a text, in the languages of the tenant."""
    languages = of_tenant("$2")
    # most have one, and every function between costs as much as a short text
    return (
        f"CASE WHEN cardinality({languages}) = 1 THEN {{s}}.words(({languages})[1]::regconfig, {text}) "
        f"ELSE {{s}}.words_of({languages}, {text}) END AS lexemes"
    )


_MEMORIES = """
, source AS (
    SELECT m.id, 1::smallint AS kind, m.user_id, m.thread_id, NULL::bigint AS seq, NULL::uuid AS document_id,
           NULL::text AS speaker, m.recorded_at AS said_at, m.superseded_at AS live_until,
           {flagged} AS flagged,
           {words}
    FROM taken t JOIN {s}.memories m ON m.tenant_id = $1 AND m.id = t.item::uuid
),
""".replace("{flagged}", flagged_sql("m.content")).replace("{words}", _words(OF_MEMORY))

_CHUNKS = """
, source AS (
    SELECT c.id, 3::smallint AS kind, d.user_id, NULL::text AS thread_id, NULL::bigint AS seq, c.document_id,
           NULL::text AS speaker, d.updated_at AS said_at, NULL::timestamptz AS live_until,
           {flagged} AS flagged,
           {words}
    FROM taken t JOIN {s}.chunks c ON c.tenant_id = $1 AND c.id = t.item::uuid
    JOIN {s}.documents d ON d.tenant_id = $1 AND d.id = c.document_id
),
""".replace("{flagged}", flagged_sql("c.text")).replace("{words}", _words(OF_CHUNK))

_MESSAGES = """
WITH taken AS (
    SELECT item FROM {s}.index_queue WHERE tenant_id = $1 AND kind = 2 ORDER BY item LIMIT $5 FOR UPDATE
), threads AS (
    SELECT c.thread_id, c.user_id, c.indexed_seq, c.message_seq
    FROM taken t JOIN {s}.conversations c ON c.tenant_id = $1 AND c.thread_id = t.item
), fresh AS (
    SELECT t.user_id, t.thread_id, m.*
    FROM threads t, LATERAL (
        SELECT seq, id, origin, role, name, text, said_at FROM {s}.messages
        WHERE tenant_id = $1 AND thread_id = t.thread_id AND seq > t.indexed_seq ORDER BY seq LIMIT $4
    ) m
), reached AS (
    SELECT t.thread_id, CASE WHEN count(f.seq) < $4 THEN t.message_seq ELSE max(f.seq) END AS seq
    FROM threads t LEFT JOIN fresh f USING (thread_id) GROUP BY t.thread_id, t.message_seq
), marked AS (
    UPDATE {s}.conversations c SET indexed_seq = greatest(c.indexed_seq, r.seq)
    FROM reached r WHERE c.tenant_id = $1 AND c.thread_id = r.thread_id
    RETURNING c.thread_id, c.indexed_seq >= c.message_seq AS done, c.forgotten_at
), gone AS (
    DELETE FROM {s}.index_queue q USING taken t
    WHERE q.tenant_id = $1 AND q.kind = 2 AND q.item = t.item
      AND NOT EXISTS (SELECT FROM marked WHERE marked.thread_id = t.item AND NOT marked.done)
), source AS (
    SELECT id, 2::smallint AS kind, user_id, thread_id, seq, NULL::uuid AS document_id,
           coalesce(name, role) AS speaker, said_at,
           CASE WHEN marked.forgotten_at IS NOT NULL THEN '-infinity'::timestamptz END AS live_until,
           {flagged} AS flagged,
           {words}
    FROM fresh g JOIN marked USING (thread_id)  -- a thread that was erased meanwhile has no row to mark
    WHERE origin <> 2 AND text <> '' AND role <> 'remove' AND NOT (role = 'tool' AND name = ANY ($6))
),
""".replace("{flagged}", flagged_sql("g.text")).replace("{words}", _words(OF_MESSAGE))

_COUNT = "SELECT count(*) FROM taken"


class IndexStatements:
    """Runs the statement of each kind that has something queued."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pending = database.sql(_PENDING)
        items = {1: _MEMORIES, 3: _CHUNKS}
        self._statements = {
            kind: database.sql(_TAKE_ITEMS.replace("{kind}", str(kind)) + source + _STORE + _COUNT)
            for kind, source in items.items()
        }
        self._statements[2] = database.sql(_MESSAGES + _STORE + _COUNT)

    async def run(self, tenant: str, languages: list[str]) -> int:
        """One batch of each kind; how many queue rows were taken, 0 when nothing is left.

        Args:
            languages: that words are read in, where the tenant has none of its own.
        """
        taken = 0
        for row in await self._database.fetch(self._pending, tenant, repeat=Repeat.READ):
            kind = row["kind"]
            arguments = [tenant, languages, AVERAGE_LENGTH[kind], BATCH]
            if kind == 2:
                arguments += [THREADS, list(RECALL_TOOLS)]
            taken += await self._database.fetchval(self._statements[kind], *arguments, repeat=Repeat.READ)
        return taken
