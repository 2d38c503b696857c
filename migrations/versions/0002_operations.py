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

# A text without its accents; with built-in functions alone, as an index on an expression needs them.
FOLDED = (
    r"translate(replace(regexp_replace(normalize({}, NFD), '[\u0300-\u036f]+', '', 'g'), 'ß', 'ss'),"
    " 'łŁøØđĐħĦı', 'lLoOdDhHi')"
)

THREAD_WORDS = (
    r"to_tsvector('simple', regexp_replace(regexp_replace("
    + FOLDED.format("coalesce(title, '') || ' ' || thread_id")
    + r", '[\u0001-\u002f\u003a-\u0040\u005b-\u0060\u007b-\u007f]+', ' ', 'g'),"
    r" '([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])',"
    r" ' \1 ', 'g'))"
)

# (forwards, backwards); backwards in reverse order
STEPS = (
    (
        "CREATE INDEX conversations_metadata_idx ON conversations USING gin (metadata jsonb_path_ops)",
        "DROP INDEX conversations_metadata_idx",
    ),
    (
        f"CREATE INDEX conversations_words_idx ON conversations USING gin (({THREAD_WORDS}))",
        "DROP INDEX conversations_words_idx",
    ),
    (
        (
            f"CREATE INDEX passages_folded_idx ON passages USING gin (({FOLDED.format('lexemes::text')}::tsvector))"
            " WITH (fastupdate = off) WHERE kind = 2"
        ),
        "DROP INDEX passages_folded_idx",
    ),
    (
        "ALTER TABLE conversations ADD COLUMN retention jsonb",
        "ALTER TABLE conversations DROP COLUMN retention",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.retention IS"
            " 'How much of this thread''s history is kept, in place of the policy for all; NULL follows that one'"
        ),
        None,
    ),
    (
        "CREATE INDEX conversations_retention_idx ON conversations (tenant_id, thread_id) WHERE retention IS NOT NULL",
        "DROP INDEX conversations_retention_idx",
    ),
    (
        "ALTER TABLE conversations ADD COLUMN forgotten_at timestamptz",
        "ALTER TABLE conversations DROP COLUMN forgotten_at",
    ),
    (
        (
            "COMMENT ON COLUMN conversations.forgotten_at IS"
            " 'When the thread was forgotten softly: hidden until somebody writes to it or undoes it'"
        ),
        None,
    ),
    (HIDES, "DROP FUNCTION conversation_hides()"),
    (
        (
            "CREATE TRIGGER conversation_hides AFTER UPDATE OF forgotten_at ON conversations FOR EACH ROW"
            " WHEN ((old.forgotten_at IS NULL) <> (new.forgotten_at IS NULL)) EXECUTE FUNCTION conversation_hides()"
        ),
        "DROP TRIGGER conversation_hides ON conversations",
    ),
    (
        (
            'CREATE TABLE forgotten_users (tenant_id text COLLATE "C" NOT NULL, user_id text COLLATE "C" NOT NULL,'
            " forgotten_at timestamptz NOT NULL,"
            " CONSTRAINT forgotten_users_pkey PRIMARY KEY (tenant_id, user_id, forgotten_at))"
        ),
        "DROP TABLE forgotten_users",
    ),
    (
        (
            "COMMENT ON TABLE forgotten_users IS"
            " 'When a user was forgotten softly: what was closed or hidden at these times comes back by an undo'"
        ),
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
