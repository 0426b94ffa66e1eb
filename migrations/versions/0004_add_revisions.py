"""Add revisions, safe retries and the trash; every step changes the catalogue alone.

The previous version of the code goes on serving, and sets no revisions. A trigger sets them on its writes; a later
release drops the trigger.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004_add_revisions"
down_revision = "0003_fold_texts"
branch_labels = None
depends_on = None

CREATES = {
    "table": ["task_lists", "trash"],
    "index": ["pk_task_lists", "pk_trash", "ix_trash_user_id_revision", "ix_trash_user_id_idempotency_key"],
    "function": ["number_older_write"],
}

NUMBER = """
CREATE FUNCTION number_older_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO task_lists (user_id, revision) VALUES (NEW.user_id, 1)
    ON CONFLICT (user_id) DO UPDATE SET revision = task_lists.revision + 1
    RETURNING task_lists.revision INTO NEW.revision;
    RETURN NEW;
END
$$
"""
ON_INSERT = """
CREATE TRIGGER number_older_insert BEFORE INSERT ON tasks
FOR EACH ROW WHEN (NEW.revision = 0) EXECUTE FUNCTION number_older_write()
"""
# Every update by the older version changes updated_at; numbering a task does not.
ON_UPDATE = """
CREATE TRIGGER number_older_update BEFORE UPDATE ON tasks
FOR EACH ROW WHEN (NEW.revision = OLD.revision AND NEW.updated_at <> OLD.updated_at)
EXECUTE FUNCTION number_older_write()
"""
# `todo db restored` makes a trigger, whose function would outlive the table.
DROP_BEGINNING = """
DO $$
DECLARE
    beginning regprocedure := (
        SELECT tgfoid FROM pg_trigger WHERE tgrelid = 'task_lists'::regclass AND tgname = 'begin_after_restore'
    );
BEGIN
    IF beginning IS NOT NULL THEN
        DROP TRIGGER begin_after_restore ON task_lists;
        EXECUTE format('DROP FUNCTION %s', beginning);
    END IF;
END
$$
"""


def upgrade() -> None:
    """Apply the migration."""
    op.create_table(
        "task_lists",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("forgotten", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("user_id", name=op.f("pk_task_lists")),
        sa.CheckConstraint("forgotten BETWEEN 0 AND revision", name=op.f("ck_task_lists_forgotten_range")),
    )
    op.create_table(
        "trash",
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("task", postgresql.JSONB(), nullable=True),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("pk_trash")),
        sa.CheckConstraint("(task IS NULL) = (expires_at IS NULL)", name=op.f("ck_trash_task_expires")),
    )
    op.create_index("ix_trash_user_id_revision", "trash", ["user_id", "revision"], unique=True)
    op.create_index(
        "ix_trash_user_id_idempotency_key",
        "trash",
        ["user_id", sa.text("(task ->> 'idempotency_key')")],
        postgresql_where=sa.text("(task ->> 'idempotency_key') IS NOT NULL"),
    )
    op.add_column("tasks", sa.Column("revision", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    op.add_column("tasks", sa.Column("idempotency_key", sa.Text(), nullable=True))
    op.add_column("tasks", sa.Column("idempotency_digest", sa.LargeBinary(), nullable=True))
    op.execute(NUMBER)
    op.execute(ON_INSERT)
    op.execute(ON_UPDATE)


def downgrade() -> None:
    """Revert the migration, and drop all deleted tasks."""
    op.execute("DROP TRIGGER number_older_update ON tasks")
    op.execute("DROP TRIGGER number_older_insert ON tasks")
    op.execute("DROP FUNCTION number_older_write()")
    for name in ("revision", "idempotency_key", "idempotency_digest"):
        op.drop_column("tasks", name)
    op.drop_table("trash")
    op.execute(DROP_BEGINNING)
    op.drop_table("task_lists")
