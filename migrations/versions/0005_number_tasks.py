"""Set the revisions of the existing tasks, and create the indexes on revisions and on idempotency keys.

The migration walks the table in batches, each in its own transaction that locks only the rows it changes and the lists
of their users. If it is interrupted, the next run continues: tasks with a revision are skipped. The indexes are built
concurrently with writes.
"""

import click
import sqlalchemy as sa
from alembic import context, op

revision = "0005_number_tasks"
down_revision = "0004_add_revisions"
branch_labels = None
depends_on = None

CREATES = {"index": ["ix_tasks_user_id_revision", "ix_tasks_user_id_idempotency_key"]}

BATCH = 5_000
ALL = 2**62

# Tasks are locked before lists, in the order of the older version, which may be writing meanwhile: a task that it has
# just changed has its revision already. The revisions follow the order of the ids of each user.
NUMBER = """
    WITH batch AS MATERIALIZED (
        SELECT user_id, id, revision FROM tasks WHERE (user_id, id) > ({user_id}, {id})
        ORDER BY user_id, id LIMIT {batch} FOR UPDATE
    ),
    bare AS (
        SELECT user_id, id, row_number() OVER (PARTITION BY user_id ORDER BY id) AS place,
               count(*) OVER (PARTITION BY user_id) AS size
        FROM batch WHERE revision = 0
    ),
    raised AS (
        INSERT INTO task_lists (user_id, revision)
        SELECT user_id, count(*) FROM bare GROUP BY user_id ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE SET revision = task_lists.revision + excluded.revision
        RETURNING user_id, revision
    ),
    numbered AS (
        UPDATE tasks SET revision = raised.revision - bare.size + bare.place
        FROM bare JOIN raised ON raised.user_id = bare.user_id
        WHERE tasks.user_id = bare.user_id AND tasks.id = bare.id
        RETURNING tasks.id
    )
    SELECT user_id, id, (SELECT count(*) FROM numbered) AS numbered FROM batch ORDER BY user_id DESC, id DESC LIMIT 1
"""

INDEXES = {
    "ix_tasks_user_id_revision": (
        ["user_id", "revision"],
        {
            "postgresql_include": [
                "id",
                "completed",
                "created_at",
                "updated_at",
                "priority",
                "due_at",
                "due_all_day",
                "completed_at",
            ]
        },
    ),
    "ix_tasks_user_id_idempotency_key": (
        ["user_id", "idempotency_key"],
        {"postgresql_where": sa.text("idempotency_key IS NOT NULL")},
    ),
}

DROP_LEFTOVER = """
DO $$
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    IF EXISTS (SELECT FROM pg_index WHERE indexrelid = to_regclass('{name}') AND indrelid = 'tasks'::regclass) THEN
        DROP INDEX {name};
    END IF;
END
$$
"""


def upgrade() -> None:
    """Apply the migration."""
    with op.get_context().autocommit_block():
        if context.is_offline_mode():
            op.execute(NUMBER.format(user_id="''", id=0, batch=ALL))
        # Where the tables are distributed with Citus, which refuses the statement, every task has its number.
        elif op.get_bind().scalar(sa.text("SELECT 1 FROM tasks WHERE revision = 0 LIMIT 1")):
            _number()
        for name, (columns, options) in INDEXES.items():
            # An index that an interrupted run left behind is invalid. One of another table is not ours to drop.
            op.execute(DROP_LEFTOVER.format(name=name))
            op.create_index(name, "tasks", columns, unique=True, postgresql_concurrently=True, **options)


def _number() -> None:
    statement = sa.text(NUMBER.format(user_id=":user_id", id=":id", batch=BATCH))
    connection = op.get_bind()
    numbered, last = 0, {"user_id": "", "id": 0}
    while row := connection.execute(statement, last).first():
        last = {"user_id": row.user_id, "id": row.id}
        if row.numbered:
            numbered += row.numbered
            click.echo(f"Numbered {numbered} tasks.")


def downgrade() -> None:
    """Drop the indexes; the revisions are dropped with their column."""
    for name in INDEXES:
        op.drop_index(name, "tasks")
