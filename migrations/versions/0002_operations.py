"""What operators need: a thread's own retention, and forgetting that can be undone.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# Passages of a hidden thread are live until before any time, so that no search finds them, at any `as_of`.
HIDES = """
CREATE FUNCTION conversation_hides() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    EXECUTE format('UPDATE %1$I.passages SET live_until = CASE WHEN $1 THEN ''-infinity''::timestamptz END
        WHERE tenant_id = $2 AND thread_id = $3 AND kind = 2', tg_table_schema)
    USING new.forgotten_at IS NOT NULL, new.tenant_id, new.thread_id;
    RETURN NULL;
END $body$
"""

# (forwards, backwards); backwards in reverse order
STEPS = (
    (
        "ALTER TABLE conversations ADD COLUMN retention jsonb",
        "ALTER TABLE conversations DROP COLUMN retention",
    ),
    (
        "COMMENT ON COLUMN conversations.retention IS"
        " 'How much of this thread''s history is kept, in place of the policy for all; NULL follows that one'",
        None,
    ),
    (
        "ALTER TABLE conversations ADD COLUMN forgotten_at timestamptz",
        "ALTER TABLE conversations DROP COLUMN forgotten_at",
    ),
    (
        "COMMENT ON COLUMN conversations.forgotten_at IS"
        " 'When the thread was forgotten softly: hidden until somebody writes to it or undoes it'",
        None,
    ),
    (HIDES, "DROP FUNCTION conversation_hides()"),
    (
        "CREATE TRIGGER conversation_hides AFTER UPDATE OF forgotten_at ON conversations FOR EACH ROW"
        " WHEN ((old.forgotten_at IS NULL) <> (new.forgotten_at IS NULL)) EXECUTE FUNCTION conversation_hides()",
        "DROP TRIGGER conversation_hides ON conversations",
    ),
    (
        'CREATE TABLE forgotten_users (tenant_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL,'
        " forgotten_at timestamptz NOT NULL,"
        " CONSTRAINT forgotten_users_pkey PRIMARY KEY (tenant_id, user_id, forgotten_at))",
        "DROP TABLE forgotten_users",
    ),
    (
        "COMMENT ON TABLE forgotten_users IS"
        " 'When a user was forgotten softly: what was closed or hidden at these times comes back by an undo'",
        None,
    ),
)


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        if backwards is not None:
            op.execute(backwards)
