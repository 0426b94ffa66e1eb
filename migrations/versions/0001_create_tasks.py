"""Create the table of tasks."""

import sqlalchemy as sa
from alembic import op

revision = "0001_create_tasks"
down_revision = None
branch_labels = None
depends_on = None

CREATES = {"table": ["tasks"], "index": ["pk_tasks"]}


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "tasks",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("completed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        # The owner comes first: a user's index entries are adjacent, and a list or a single task needs no other index.
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_tasks")),
        sa.CheckConstraint("char_length(user_id) BETWEEN 1 AND 255", name=op.f("ck_tasks_user_id_length")),
        sa.CheckConstraint("char_length(title) BETWEEN 1 AND 200", name=op.f("ck_tasks_title_length")),
        sa.CheckConstraint("char_length(description) <= 1000", name=op.f("ck_tasks_description_length")),
        sa.CheckConstraint("updated_at >= created_at", name=op.f("ck_tasks_updated_at_order")),
    )


def downgrade() -> None:
    """Revert the migration, and drop all tasks."""
    op.drop_table("tasks")
