"""Add priority, due date, tags and the time of completion; every step changes the catalogue alone."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002_organise_tasks"
down_revision = "0001_create_tasks"
branch_labels = None
depends_on = None

CREATES = {"type": ["priority"]}

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


# Before the type was created in any case, one of another application may have been taken over.
DROP_PRIORITY = """
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_type JOIN pg_class ON pg_class.oid = 'tasks'::regclass AND relowner = typowner
        WHERE pg_type.oid = to_regtype('priority') AND '{low,medium,high}' = (
            SELECT array_agg(enumlabel ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = pg_type.oid
        )::text
    ) THEN
        DROP TYPE priority;
    END IF;
EXCEPTION WHEN dependent_objects_still_exist THEN
    NULL;
END
$$
"""


def upgrade() -> None:
    """Apply the migration."""
    # A type of this name that is there already is not taken over.
    PRIORITY.create(op.get_bind(), checkfirst=False)
    for name, (kind, default) in COLUMNS.items():
        server_default = None if default is None else sa.text(default)
        op.add_column("tasks", sa.Column(name, kind, server_default=server_default, nullable=default is None))


def downgrade() -> None:
    """Revert the migration, and drop these columns with their values."""
    for name in COLUMNS:
        op.drop_column("tasks", name)
    op.execute(DROP_PRIORITY)
