"""Few passages are searched by one statement, which brings the facts; words that stand everywhere nominate together.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The number of a term, see term_id(...), as an expression: a function, called for each word, takes most of the time.
A_TERM = "('x' || left(encode(sha256(convert_to(lexeme, 'UTF8')), 'hex'), 7))::bit(28)::integer + 1"

# What the index knows of a question (the first row, as JSON), and then the candidates, if the tenant has no more than
# `few` passages and nothing of it waits for the index: all of them are measured, by words and by meaning, and the best
# `wanted` of each kind by either are given, with the messages around those that are messages. Of facts only the best
# `facts` are, if that is not 0, each with its row, and those at the ends of the scales that all are measured by;
# `by_words` and `by_meaning` say what counts how much for them. The terms of the question are given where it takes
# another statement to find the candidates.
#
# Plans are kept, and do not depend on what the planner believes of tables: it joins by hashing, whatever it takes them
# for. What is known of a passage beside its numbers is read for those that were chosen, from where they were seen: a
# row stays in its place while a statement that sees it runs.
#
# BM25's weight of a term is ln(1 + (N - n + 0.5) / (n + 0.5)), never negative. A speaker's name stands in half of what
# two people say to each other and nowhere else in the tenant, and counts `name_rarity` at the most among messages.
FOUND_WITH_FACTS = """
CREATE FUNCTION found_with_facts(
    of_tenant text, languages text[], question text, kinds smallint[], names text[], known_names text[],
    name_rarity float8, of_model integer, query halfvec, few integer, wanted integer, of_user text, of_thread text,
    since timestamptz, until timestamptz, as_of timestamptz, surroundings integer, nearby integer, times sparsevec,
    facts integer, by_words float8, by_meaning float8
) RETURNS TABLE (
    reading text, id uuid, kind smallint, words float8, meaning float8, said_at timestamptz, user_id text,
    thread_id text, seq bigint, document_id uuid, speaker text, length integer, asks boolean, dated boolean,
    is_context boolean, flagged boolean,
    item_id uuid, namespace text[], key text, content text, metadata text, source text, importance real, trust text,
    valid_from timestamptz, valid_to timestamptz, recorded_at timestamptz, superseded_at timestamptz
)
LANGUAGE plpgsql STABLE SECURITY DEFINER ROWS 100
SET search_path FROM CURRENT SET plan_cache_mode = force_generic_plan SET enable_nestloop = off
SET enable_mergejoin = off SET enable_seqscan = off SET max_parallel_workers_per_gather = 0 SET jit = off AS $body$
#variable_conflict use_column
DECLARE
    is_pending boolean;
    is_waiting boolean;
    is_here boolean;
    has_parts boolean;
    speakers json;
    sizes json;
    in_all bigint;
    terms json;
    of_memories sparsevec;
    of_messages sparsevec;
    of_references sparsevec;
BEGIN
    of_tenant := checked_tenant(of_tenant);
    SELECT EXISTS (SELECT FROM index_queue WHERE tenant_id = of_tenant),
           EXISTS (SELECT FROM embedding_queue WHERE tenant_id = of_tenant AND model_id = of_model
                   AND (not_before IS NULL OR not_before <= now())),
           -- in an order that no other index has, whatever the planner believes of the table
           coalesce((SELECT true FROM embeddings WHERE tenant_id = of_tenant AND model_id = of_model AND part > 0
                     ORDER BY part DESC LIMIT 1), false),
           coalesce((SELECT l.languages FROM search_languages l WHERE l.tenant_id = of_tenant), languages),
           c.sizes, c.in_all
    INTO is_pending, is_waiting, has_parts, languages, sizes, in_all
    FROM (SELECT json_object_agg(c.kind, c.passages) AS sizes, sum(c.passages) AS in_all
          FROM corpus_statistics c WHERE c.tenant_id = of_tenant) AS c;
    IF names <> '{}' THEN
        SELECT json_object_agg(name, speaker), known_names || array_agg(name) || array_agg(speaker)
        INTO speakers, known_names FROM speakers_named(of_tenant, names, of_user, of_thread);
    END IF;
    is_here := NOT is_pending AND NOT is_waiting AND speakers IS NULL AND coalesce(in_all, 0) <= few;
    IF is_here THEN
        kinds := ARRAY(SELECT k.kind FROM unnest(kinds) AS k (kind) WHERE (
            SELECT true FROM passages p WHERE p.tenant_id = of_tenant AND p.kind = k.kind LIMIT 1));
    END IF;
    WITH asked AS MATERIALIZED (
        SELECT lexeme, {a_term} AS term,
               known_names <> '{}'
               AND lexeme = ANY (ARRAY(SELECT query_words(languages, array_to_string(known_names, ' ')))) AS is_name
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
    SELECT CASE WHEN NOT is_here THEN (
               SELECT json_agg(json_build_object('lexeme', lexeme, 'term', term, 'kind', kind, 'containing', containing,
                                                 'weight', weight)) FROM weighted) END,
           (SELECT vector FROM vectors WHERE kind = 1), (SELECT vector FROM vectors WHERE kind = 2),
           (SELECT vector FROM vectors WHERE kind = 3)
    INTO terms, of_memories, of_messages, of_references;
    reading := json_build_object('is_pending', is_pending, 'is_waiting', is_waiting, 'speakers', speakers,
                                 'sizes', sizes, 'terms', terms);
    RETURN NEXT;
    IF NOT is_here THEN
        RETURN;
    END IF;
    RETURN QUERY
    WITH near AS NOT MATERIALIZED (
        SELECT e.passage_id, -(e.vector <#> query) AS meaning FROM embeddings e
        WHERE e.tenant_id = of_tenant AND e.model_id = of_model AND query IS NOT NULL AND NOT has_parts
        UNION ALL
        SELECT e.passage_id, max(-(e.vector <#> query)) FROM embeddings e
        WHERE e.tenant_id = of_tenant AND e.model_id = of_model AND query IS NOT NULL AND has_parts
        GROUP BY e.passage_id
    ), seen AS MATERIALIZED (
        SELECT p.id, p.kind,
               coalesce(-(p.weights <#> CASE p.kind WHEN 1 THEN of_memories WHEN 2 THEN of_messages
                                                    ELSE of_references END), 0) AS words,
               near.meaning, p.thread_id, p.seq, p.ctid AS at
        FROM passages p LEFT JOIN near ON near.passage_id = p.id
        WHERE p.tenant_id = of_tenant AND p.kind = ANY (kinds)
          AND (of_user IS NULL OR p.user_id = of_user OR p.kind <> 2 AND p.user_id IS NULL)
          AND (of_thread IS NULL OR p.kind = 3 OR p.thread_id = of_thread)
          AND (since IS NULL OR p.said_at >= since) AND (until IS NULL OR p.said_at < until)
          AND CASE WHEN as_of IS NULL OR p.kind = 3 THEN p.live_until IS NULL
                   ELSE p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of) END
    ), named AS MATERIALIZED (
        SELECT best.id, k.kind, best.words, best.meaning, best.at FROM unnest(kinds) AS k (kind), LATERAL (
            (SELECT s.id, s.words, s.meaning, s.at FROM seen s WHERE s.kind = k.kind AND s.words > 0
             ORDER BY s.words DESC, s.id LIMIT wanted)
            UNION
            (SELECT s.id, s.words, s.meaning, s.at FROM seen s WHERE s.kind = k.kind AND s.meaning IS NOT NULL
             ORDER BY s.meaning DESC, s.id LIMIT wanted)) AS best
    ), talk AS MATERIALIZED (
        -- a join by their places would compare each message with all of its thread
        SELECT *, max(m.seq) FILTER (WHERE m.is_named) OVER (
                      PARTITION BY m.thread_id ORDER BY m.seq
                      ROWS BETWEEN surroundings PRECEDING AND 1 PRECEDING) AS named_before,
                  min(m.seq) FILTER (WHERE m.is_named) OVER (
                      PARTITION BY m.thread_id ORDER BY m.seq
                      ROWS BETWEEN 1 FOLLOWING AND surroundings FOLLOWING) AS named_after
        FROM (SELECT s.*, s.id IN (SELECT n.id FROM named n) AS is_named
              FROM seen s WHERE 2 = ANY (kinds) AND surroundings > 0 AND s.kind = 2 OFFSET 0) AS m
    ), chosen AS MATERIALIZED (
        SELECT n.at, n.words, n.meaning, true AS is_named, n.place
        FROM (
            SELECT n.*, n.words = ends.words OR n.meaning IN (ends.low, ends.high) AS is_end,
                   row_number() OVER (ORDER BY n.kind <> 1,
                       coalesce(by_words * n.words / nullif(ends.words, 0), 0)
                       + coalesce(by_meaning * n.meaning / nullif(ends.high - ends.low, 0), 0) DESC) AS place
            FROM named n, (SELECT max(words) AS words, min(meaning) AS low, max(meaning) AS high FROM named) AS ends
        ) AS n
        WHERE facts = 0 OR n.kind <> 1 OR n.place <= facts OR n.is_end
        UNION ALL
        SELECT t.at, t.words, t.meaning, false, NULL
        FROM talk t
        WHERE NOT t.is_named AND (t.seq - t.named_before <= nearby OR t.named_after - t.seq <= nearby)
    )
    SELECT NULL::text, p.id, p.kind, c.words, c.meaning, p.said_at, p.user_id, p.thread_id, p.seq, p.document_id,
           p.speaker, p.length, {asks}, p.kind = 2 AND times IS NOT NULL AND (p.weights <#> times) < 0,
           NOT c.is_named AND c.meaning IS NULL, p.flagged,
           m.item_id, m.namespace, m.key, m.content, m.metadata::text, m.source::text, m.importance, m.trust,
           m.valid_from, m.valid_to, m.recorded_at, m.superseded_at
    FROM chosen c
    CROSS JOIN LATERAL (SELECT * FROM passages p WHERE p.tenant_id = of_tenant AND p.ctid = c.at OFFSET 0) AS p
    LEFT JOIN LATERAL (
        SELECT m.text FROM messages m
        WHERE p.kind = 2 AND surroundings > 0
          AND m.tenant_id = of_tenant AND m.thread_id = p.thread_id AND m.seq = p.seq OFFSET 0) AS g ON true
    LEFT JOIN LATERAL (
        SELECT * FROM memories m WHERE p.kind = 1 AND c.place <= facts AND m.tenant_id = of_tenant AND m.id = p.id
          AND (m.expires_at IS NULL OR m.expires_at > now()) OFFSET 0) AS m ON true;
END $body$
""".replace("{a_term}", A_TERM).replace(
    "{asks}",
    # a note in brackets after it aside; a long message is no turn of a talk, and octet_length tells without reading it
    "p.kind = 2 AND octet_length(g.text) <= 2000 AND coalesce(right(rtrim("
    "CASE WHEN right(g.text, 1) = ']' THEN split_part(g.text, ' [', 1) ELSE g.text END,"
    " E' \\n\\t'), 1) IN ('?', '？', '؟'), false)",
)

# The best passages by words, as `found_by_terms` gives them for terms alone and in groups; where these are fewer than
# wanted, also what has one of the terms `or_else`: words may be common, each of them, and never stand together.
BEST_BY_TERMS = """
CREATE FUNCTION best_by_terms(
    of_tenant text, of_kind smallint, matching integer[], groups integer[], or_else integer[], query sparsevec,
    wanted integer, of_user text, or_nobody boolean, of_thread text, since timestamptz, until timestamptz,
    as_of timestamptz
) RETURNS TABLE (id uuid, score float8)
LANGUAGE plpgsql STABLE ROWS 100 SET search_path FROM CURRENT AS $body$
DECLARE
    given bigint;
BEGIN
    RETURN QUERY SELECT * FROM found_by_terms(of_tenant, of_kind, matching, groups, query, wanted, of_user, or_nobody,
                                              of_thread, since, until, as_of);
    GET DIAGNOSTICS given = ROW_COUNT;
    IF given < wanted AND or_else <> '{}' THEN
        RETURN QUERY SELECT * FROM found_by_terms(of_tenant, of_kind, or_else, '{}', query, wanted, of_user, or_nobody,
                                                  of_thread, since, until, as_of);
    END IF;
END $body$
"""

STEPS = (
    # hardly a passage has several vectors: whether a tenant has one is known without looking at all of them
    (
        "CREATE INDEX embeddings_parts_idx ON embeddings (tenant_id, model_id) WHERE part > 0",
        "DROP INDEX embeddings_parts_idx",
    ),
    (FOUND_WITH_FACTS, "DROP FUNCTION found_with_facts"),
    (BEST_BY_TERMS, "DROP FUNCTION best_by_terms"),
)


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        op.execute(backwards)
