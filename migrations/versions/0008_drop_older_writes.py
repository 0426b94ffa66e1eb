"""Drop the triggers that number the writes of a version without revisions; the catalogue alone changes.

That version, of before 0004_add_revisions, can serve no longer, and learns so from the comment on the version table.
Citus distributes no table that has a trigger.
"""

from alembic import op

revision = "0008_drop_older_writes"
down_revision = "0007_add_feeds"
branch_labels = None
depends_on = None

# The function is found by its trigger: one of the same name may be another application's.
DROP = """
DO $$
DECLARE
    numbering regprocedure := (
        SELECT tgfoid FROM pg_trigger WHERE tgrelid = 'tasks'::regclass AND tgname = 'number_older_insert'
    );
BEGIN
    IF numbering IS NOT NULL THEN
        DROP TRIGGER number_older_update ON tasks;
        DROP TRIGGER number_older_insert ON tasks;
        EXECUTE format('DROP FUNCTION %s', numbering);
    END IF;
END
$$
"""

# What 0004_add_revisions created.
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
ON_UPDATE = """
CREATE TRIGGER number_older_update BEFORE UPDATE ON tasks
FOR EACH ROW WHEN (NEW.revision = OLD.revision AND NEW.updated_at <> OLD.updated_at)
EXECUTE FUNCTION number_older_write()
"""


def upgrade() -> None:
    """Apply the migration."""
    op.execute(DROP)
    op.execute("COMMENT ON TABLE alembic_version IS '0004_add_revisions'")


def downgrade() -> None:
    """Revert the migration."""
    op.execute("COMMENT ON TABLE alembic_version IS NULL")
    op.execute(NUMBER)
    op.execute(ON_INSERT)
    op.execute(ON_UPDATE)
