"""Rows of one tenant that no other tenant's session can see, and what was measured since.

Frozen once released. Statements run with the store's schema first on the search path, so nothing
here names a schema.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# forwards, and what takes it back (None where dropping something else does)
STEPS: tuple[tuple[str | None, str | None], ...] = ()


def upgrade() -> None:
    """Go forwards."""
    for forwards, _ in STEPS:
        if forwards is not None:
            op.execute(forwards)


def downgrade() -> None:
    """Take back what `upgrade` made, and nothing else."""
    for _, backwards in reversed(STEPS):
        if backwards is not None:
            op.execute(backwards)
