"""Add priority, due date, tags and the time of completion; every step changes the catalogue alone."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_organise_tasks"
down_revision = "0001_create_tasks"
branch_labels = None
depends_on = None

PRIORITY = postgresql.ENUM("low", "medium", "high", name="priority", create_type=False)

# A column with a default is NOT NULL. PostgreSQL keeps both in the catalogue, and rewrites no row.
COLUMNS = {
    "priority": (PRIORITY, None),
    "due_at": (sa.DateTime(timezone=True), None),
    "due_all_day": (sa.Boolean(), "false"),
    "completed_at": (sa.DateTime(timezone=True), None),
    "tags": (postgresql.ARRAY(sa.Text()), "'{}'"),
    "tag_keys": (postgresql.ARRAY(sa.Text()), None),
    "folded_tags": (sa.Text(), None),
    "folded_title": (sa.Text(), None),
    "folded_description": (sa.Text(), None),
}


def upgrade() -> None:
    """Apply the migration."""
    PRIORITY.create(op.get_bind())
    for name, (kind, default) in COLUMNS.items():
        server_default = None if default is None else sa.text(default)
        op.add_column("tasks", sa.Column(name, kind, server_default=server_default, nullable=default is None))


def downgrade() -> None:
    """Revert the migration, and drop these columns with their values."""
    for name in COLUMNS:
        op.drop_column("tasks", name)
    PRIORITY.drop(op.get_bind())
