"""A model may be one for passages of a single kind: documents are read by one that takes its time.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# What `index_queued` did with every passage, and what it does now: each model gets what it is for.
EVERY = (
    "RETURNING id, length, keys",
    "ON m.tenant_id = of_tenant AND m.retired_at IS NULL",
)
OF_ITS_KIND = (
    "RETURNING id, kind, length, keys",
    "ON m.tenant_id = of_tenant AND m.retired_at IS NULL AND (m.kind IS NULL OR m.kind = s.kind)",
)


def _rewritten(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    """The statement that replaces parts of `index_queued`, all of which must be there, for all three kinds."""
    changed = "told"
    for before, after in zip(old, new, strict=True):
        changed = f"replace({changed}, '{before}', '{after}')"
    checks = " OR ".join(
        f"cardinality(string_to_array({text}, '{part}')) <> 4"
        for text, parts in (("told", old), ("changed", new))
        for part in parts
    )
    return f"""
DO $rewrite$
DECLARE
    told text := pg_get_functiondef('index_queued(text, text[], text[])'::regprocedure);
    changed text := {changed};
BEGIN
    IF {checks} THEN
        RAISE EXCEPTION 'index_queued is not the one that this revision knows';
    END IF;
    EXECUTE changed;
END $rewrite$
"""


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
    (_rewritten(EVERY, OF_ITS_KIND), _rewritten(OF_ITS_KIND, EVERY)),
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
