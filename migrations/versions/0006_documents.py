"""A model may be for passages of one kind: documents are read by one that takes its time. Facts alone take fewer steps.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# Parts of functions that are there, and what stands in their place from now on; how often each is there comes last.
INDEX_QUEUED = (
    # each model gets what it is for
    ("RETURNING id, length, keys", "RETURNING id, kind, length, keys", 3),
    (
        "ON m.tenant_id = of_tenant AND m.retired_at IS NULL",
        "ON m.tenant_id = of_tenant AND m.retired_at IS NULL AND (m.kind IS NULL OR m.kind = s.kind)",
        3,
    ),
)

# Where facts alone are asked for, as assistants do most, there are no messages around them to join, and no passage has
# several vectors: the same answer in two thirds of the time.
FACTS_ALONE = """
    IF kinds = '{1}' AND NOT has_parts THEN
        RETURN QUERY
        WITH seen AS MATERIALIZED (
            SELECT p.id, p.words, e.meaning, p.at
            FROM (
                SELECT p.id, coalesce(-(p.weights <#> of_memories), 0) AS words, p.ctid AS at
                FROM passages p
                WHERE p.tenant_id = of_tenant AND p.kind = 1
                  AND (of_user IS NULL OR p.user_id = of_user OR p.user_id IS NULL)
                  AND (of_thread IS NULL OR p.thread_id = of_thread)
                  AND (since IS NULL OR p.said_at >= since) AND (until IS NULL OR p.said_at < until)
                  AND CASE WHEN as_of IS NULL THEN p.live_until IS NULL
                           ELSE p.said_at <= as_of AND (p.live_until IS NULL OR p.live_until > as_of) END
                OFFSET 0
            ) AS p
            LEFT JOIN (
                SELECT e.passage_id, -(e.vector <#> query) AS meaning FROM embeddings e
                WHERE e.tenant_id = of_tenant AND e.model_id = of_model AND query IS NOT NULL
            ) AS e ON e.passage_id = p.id
        ), named AS MATERIALIZED (
            (SELECT s.id, s.words, s.meaning, s.at FROM seen s
             WHERE s.words > 0 ORDER BY s.words DESC, s.id LIMIT wanted)
            UNION
            (SELECT s.id, s.words, s.meaning, s.at FROM seen s
             WHERE s.meaning IS NOT NULL ORDER BY s.meaning DESC, s.id LIMIT wanted)
        ), chosen AS MATERIALIZED (
            SELECT n.at, n.words, n.meaning, n.place
            FROM (
                SELECT n.*, n.words = ends.words OR n.meaning IN (ends.low, ends.high) AS is_end,
                       row_number() OVER (ORDER BY
                           coalesce(by_words * n.words / nullif(ends.words, 0), 0)
                           + coalesce(by_meaning * n.meaning / nullif(ends.high - ends.low, 0), 0) DESC) AS place
                FROM named n, (SELECT max(words) AS words, min(meaning) AS low, max(meaning) AS high FROM named) AS ends
            ) AS n
            WHERE facts = 0 OR n.place <= facts OR n.is_end
        )
        SELECT NULL::text, p.id, p.kind, c.words, c.meaning, p.said_at, p.user_id, p.thread_id, p.seq, p.document_id,
               p.speaker, p.length, false, false, false, p.flagged,
               m.item_id, m.namespace, m.key, m.content, m.metadata::text, m.source::text, m.importance, m.trust,
               m.valid_from, m.valid_to, m.recorded_at, m.superseded_at
        FROM chosen c
        CROSS JOIN LATERAL (
            SELECT * FROM passages p WHERE p.tenant_id = of_tenant AND p.ctid = c.at OFFSET 0) AS p
        LEFT JOIN LATERAL (
            SELECT * FROM memories m WHERE c.place <= facts AND m.tenant_id = of_tenant AND m.id = p.id
              AND (m.expires_at IS NULL OR m.expires_at > now()) OFFSET 0) AS m ON true;
        RETURN;
    END IF;"""
NOT_HERE = """    IF NOT is_here THEN
        RETURN;
    END IF;"""
FOUND_WITH_FACTS = (
    # looked up once for each term, however often it is used
    (
        "coalesce((sizes ->> k.kind::text)::bigint, 0) AS passages) AS n",
        "coalesce((sizes ->> k.kind::text)::bigint, 0) AS passages OFFSET 0) AS n",
        1,
    ),
    (NOT_HERE, NOT_HERE + FACTS_ALONE, 1),
)


def _rewritten(function: str, *parts: tuple[str, str, int]) -> str:
    """The statement that puts something else in place of parts of a function, each of which must be there."""
    old = [f"(told, $part${before}$part$, {times})" for before, _, times in parts]
    new = [f"(changed, $part${after}$part$, {times})" for _, after, times in parts]
    changed = "told"
    for before, after, _ in parts:
        changed = f"replace({changed}, $part${before}$part$, $part${after}$part$)"
    return f"""
DO $rewrite$
DECLARE
    told text := pg_get_functiondef('{function}'::regproc);
    changed text := {changed};
BEGIN
    IF EXISTS (
        SELECT FROM (VALUES {", ".join(old + new)}) AS each (whole, part, times)
        WHERE cardinality(string_to_array(whole, part)) <> times + 1
    ) THEN
        RAISE EXCEPTION '{function} is not the one that this revision knows';
    END IF;
    EXECUTE changed;
END $rewrite$
"""


def _both_ways(function: str, parts: tuple[tuple[str, str, int], ...]) -> tuple[str, str]:
    """That, and the way back."""
    back = reversed([(after, before, times) for before, after, times in parts])
    return _rewritten(function, *parts), _rewritten(function, *back)


# Going back, a model for documents alone has no vectors of the rest: no search may take it for complete.
NOTHING_WAITS = (
    "DELETE FROM embedding_queue q USING embedding_models m "
    "WHERE m.kind IS NOT NULL AND q.tenant_id = m.tenant_id AND q.model_id = m.model_id"
)
STEPS = (
    (
        "ALTER TABLE embedding_models ADD COLUMN kind smallint",
        "ALTER TABLE embedding_models DROP COLUMN kind",
    ),
    (
        "COMMENT ON COLUMN embedding_models.kind IS 'The kind of passages it is for; NULL where it is for all'",
        "UPDATE embedding_models SET retired_at = coalesce(retired_at, now()), ready_at = NULL WHERE kind IS NOT NULL",
    ),
    (
        None,
        NOTHING_WAITS,
    ),
    _both_ways("index_queued", INDEX_QUEUED),
    _both_ways("found_with_facts", FOUND_WITH_FACTS),
)


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        if forwards is not None:
            op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        op.execute(backwards)
