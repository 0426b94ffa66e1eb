"""Add the digest of the secret in the address of a user's calendar; the catalogue alone changes."""

import sqlalchemy as sa
from alembic import op

revision = "0007_add_feeds"
down_revision = "0006_refold_texts"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the migration."""
    op.add_column("task_lists", sa.Column("feed_digest", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Revert the migration; the addresses of all calendars stop working."""
    op.drop_column("task_lists", "feed_digest")
