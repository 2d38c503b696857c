"""A question is read, and answered where a tenant has few passages, in one step.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# The number of a term, see term_id(...), as an expression: a function, called for each word, takes most of the time.
A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"

# What the index knows of a question (the first row, as JSON), and then the candidates, if the tenant has no more than
# `few` passages and nothing of it waits for the index: all of them are measured, by words and by meaning, and the best
# `wanted` of each kind by either are given, with the messages around those that are messages. Plans are kept, and do
# not depend on what the planner believes of tables: it joins by hashing, whatever it takes them for.
#
# BM25's weight of a term is ln(1 + (N - n + 0.5) / (n + 0.5)), never negative. A speaker's name stands in half of what
# two people say to each other and nowhere else in the tenant, and counts `name_rarity` at the most among messages.
FOUND_AT_ONCE = """
CREATE FUNCTION found_at_once(
    of_tenant text, languages text[], question text, kinds smallint[], names text[], known_names text[],
    name_rarity float8, of_model integer, query halfvec, few integer, wanted integer, of_user text, of_thread text,
    since timestamptz, until timestamptz, as_of timestamptz, surroundings integer, nearby integer, times sparsevec
) RETURNS TABLE (
    reading text, id uuid, kind smallint, words float8, meaning float8, said_at timestamptz, user_id text,
    thread_id text, seq bigint, document_id uuid, speaker text, length integer, asks boolean, dated boolean,
    is_context boolean, flagged boolean
)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    is_pending boolean;
    is_waiting boolean;
    speakers json;
    sizes json;
    in_all bigint;
    terms json;
    of_memories sparsevec;
    of_messages sparsevec;
    of_references sparsevec;
BEGIN
    of_tenant := checked_tenant(of_tenant);
    is_pending := EXISTS (SELECT FROM index_queue WHERE tenant_id = of_tenant);
    is_waiting := EXISTS (SELECT FROM embedding_queue WHERE tenant_id = of_tenant AND model_id = of_model
                          AND (not_before IS NULL OR not_before <= now()));
    IF names <> '{}' THEN
        SELECT json_object_agg(name, speaker), known_names || array_agg(name) || array_agg(speaker)
        INTO speakers, known_names FROM speakers_named(of_tenant, names, of_user, of_thread);
    END IF;
    SELECT json_object_agg(c.kind, c.passages), sum(c.passages) INTO sizes, in_all
    FROM corpus_statistics c WHERE c.tenant_id = of_tenant;
    languages := coalesce((SELECT l.languages FROM search_languages l WHERE l.tenant_id = of_tenant), languages);
    WITH asked AS MATERIALIZED (
        SELECT lexeme, {a_term} AS term,
               lexeme = ANY (ARRAY(SELECT query_words(languages, array_to_string(known_names, ' ')))) AS is_name
        FROM query_words(languages, question) AS lexeme
    ), counted AS (
        SELECT a.lexeme, a.term, k.kind, a.is_name, n.containing,
               ln(1 + (greatest(n.passages - n.containing, 0) + 0.5) / (n.containing + 0.5::float8)) AS rarity
        FROM asked a CROSS JOIN unnest(kinds) AS k (kind),
             LATERAL (SELECT coalesce((SELECT s.passages FROM term_statistics s WHERE s.tenant_id = of_tenant
                                       AND s.kind = k.kind AND s.term = a.term), 0) AS containing,
                             coalesce((sizes ->> k.kind::text)::bigint, 0) AS passages) AS n
    ), weighted AS MATERIALIZED (
        SELECT *, CASE WHEN is_name AND kind = 2 THEN least(rarity, name_rarity) ELSE rarity END AS weight FROM counted
    ), vectors AS (
        SELECT kind, ('{' || string_agg(term || ':' || weight::real, ',') || '}/268435456')::sparsevec AS vector
        FROM (SELECT kind, term, max(weight) AS weight FROM weighted WHERE weight > 0 GROUP BY 1, 2) AS each GROUP BY 1
    )
    SELECT json_agg(json_build_object('lexeme', lexeme, 'term', term, 'kind', kind, 'containing', containing,
                                      'weight', weight)),
           (SELECT vector FROM vectors WHERE kind = 1), (SELECT vector FROM vectors WHERE kind = 2),
           (SELECT vector FROM vectors WHERE kind = 3)
    INTO terms, of_memories, of_messages, of_references FROM weighted;
    reading := json_build_object('is_pending', is_pending, 'is_waiting', is_waiting, 'speakers', speakers,
                                 'sizes', sizes, 'terms', terms);
    RETURN NEXT;
    IF is_pending OR is_waiting OR speakers IS NOT NULL OR coalesce(in_all, 0) > few THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH near AS MATERIALIZED (
        SELECT e.passage_id, max(-(e.vector <#> query)) AS meaning FROM embeddings e
        WHERE e.tenant_id = of_tenant AND e.model_id = of_model AND query IS NOT NULL GROUP BY e.passage_id
    ), seen AS MATERIALIZED (
        SELECT p.id, p.kind,
               coalesce(-(p.weights <#> CASE p.kind WHEN 1 THEN of_memories WHEN 2 THEN of_messages
                                                    ELSE of_references END), 0) AS words,
               near.meaning, p.said_at, p.user_id, p.thread_id, p.seq, p.document_id, p.speaker, p.length,
               p.kind = 2 AND times IS NOT NULL AND (p.weights <#> times) < 0 AS dated, p.flagged
        FROM passages p LEFT JOIN near ON near.passage_id = p.id
        WHERE p.tenant_id = of_tenant AND p.kind = ANY (kinds)
          AND (of_user IS NULL OR p.user_id = of_user OR p.kind <> 2 AND p.user_id IS NULL)
          AND (of_thread IS NULL OR p.kind = 3 OR p.thread_id = of_thread)
          AND (since IS NULL OR p.said_at >= since) AND (until IS NULL OR p.said_at < until)
          AND CASE WHEN as_of IS NULL OR p.kind = 3 THEN p.live_until IS NULL
                   ELSE p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of) END
    ), named AS MATERIALIZED (
        SELECT best.* FROM unnest(kinds) AS k (kind), LATERAL (
            (SELECT * FROM seen s WHERE s.kind = k.kind AND s.words > 0 ORDER BY s.words DESC, s.id LIMIT wanted)
            UNION
            (SELECT * FROM seen s WHERE s.kind = k.kind AND s.meaning IS NOT NULL
             ORDER BY s.meaning DESC, s.id LIMIT wanted)) AS best
    ), talk AS MATERIALIZED (
        SELECT *, row_number() OVER (PARTITION BY s.thread_id ORDER BY s.seq) AS place
        FROM seen s WHERE s.kind = 2 AND surroundings > 0
    ), chosen AS MATERIALIZED (
        SELECT n.*, true AS is_named FROM named n
        UNION ALL
        SELECT DISTINCT t.id, t.kind, t.words, t.meaning, t.said_at, t.user_id, t.thread_id, t.seq, t.document_id,
               t.speaker, t.length, t.dated, t.flagged, false
        FROM (SELECT c.thread_id, c.seq, c.place + step AS place
              FROM talk c, generate_series(-surroundings, surroundings) AS step
              WHERE step <> 0 AND c.id IN (SELECT n.id FROM named n)) AS around
        JOIN talk t ON t.thread_id = around.thread_id AND t.place = around.place
                    AND abs(t.seq - around.seq) <= nearby
        WHERE t.id NOT IN (SELECT n.id FROM named n)
    )
    SELECT NULL::text, c.id, c.kind, c.words, c.meaning, c.said_at, c.user_id, c.thread_id, c.seq, c.document_id,
           c.speaker, c.length, {asks}, c.dated, NOT c.is_named AND c.meaning IS NULL, c.flagged
    FROM chosen c LEFT JOIN LATERAL (
        SELECT m.text FROM messages m
        WHERE m.tenant_id = of_tenant AND m.thread_id = c.thread_id AND m.seq = c.seq LIMIT 1) AS g
      ON c.kind = 2 AND surroundings > 0;
END $body$
""".replace("{a_term}", A_TERM).replace(
    "{asks}",
    # a note in brackets after it aside; a long message is no turn of a talk, and octet_length tells without reading it
    "c.kind = 2 AND octet_length(g.text) <= 2000 AND coalesce(right(rtrim("
    "CASE WHEN right(g.text, 1) = ']' THEN split_part(g.text, ' [', 1) ELSE g.text END,"
    " E' \\n\\t'), 1) IN ('?', '？', '؟'), false)",
)
# What these read takes a millisecond or two, and starting a worker five.
ALONE = tuple(
    (
        f"ALTER FUNCTION {name} SET max_parallel_workers_per_gather = 0",
        f"ALTER FUNCTION {name} RESET max_parallel_workers_per_gather",
    )
    for name in ("found_by_words", "speakers_named", "facts_near", "current_row")
)
# forwards, and what takes it back
STEPS = ((FOUND_AT_ONCE, "DROP FUNCTION found_at_once"), *ALONE)


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        op.execute(backwards)
