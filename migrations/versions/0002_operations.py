"""What operators need: a thread's own retention.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

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
