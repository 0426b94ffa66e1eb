"""Add priority, due date, tags and the time of completion; every step is a matter of the catalogue alone."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_organise_tasks"
down_revision = "0001_create_tasks"
branch_labels = None
depends_on = None

PRIORITY = postgresql.ENUM("low", "medium", "high", name="priority", create_type=False)

NULLABLE = {
    "priority": PRIORITY,
    "due_at": sa.DateTime(timezone=True),
    "completed_at": sa.DateTime(timezone=True),
    "folded_title": sa.Text(),
    "folded_description": sa.Text(),
    "folded_tags": sa.Text(),
    "tag_keys": postgresql.ARRAY(sa.Text()),
}
REQUIRED = {
    "due_all_day": (sa.Boolean(), "false"),
    "tags": (postgresql.ARRAY(sa.Text()), "'{}'"),
}


def upgrade() -> None:
    """Apply it."""
    PRIORITY.create(op.get_bind())
    for name, kind in NULLABLE.items():
        op.add_column("tasks", sa.Column(name, kind, nullable=True))
    for name, (kind, default) in REQUIRED.items():
        op.add_column("tasks", sa.Column(name, kind, server_default=sa.text(default), nullable=False))


def downgrade() -> None:
    """Take it back, with what was written into these columns."""
    for name in (*NULLABLE, *REQUIRED):
        op.drop_column("tasks", name)
    PRIORITY.drop(op.get_bind())
