"""Give the tasks that are there their revisions, and add the indexes that begin with them or with the keys of retries.

It goes through the table in batches, each a transaction of its own that holds nothing but the rows it changes and the
lists of their users. Interrupted, it goes on where it was when it is run again. The indexes are built while others
write.
"""

import click
import sqlalchemy as sa
from alembic import context, op

revision = "0005_number_tasks"
down_revision = "0004_add_revisions"
branch_labels = None
depends_on = None

BATCH = 5_000
ALL = 2**62

# Tasks are locked before lists, in the order of the older version that may be writing meanwhile: what it changed in the
# last moment has its number already. Each task gets the number of its place among those of its user.
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


def upgrade() -> None:
    """Apply it."""
    with op.get_context().autocommit_block():
        if context.is_offline_mode():
            op.execute(NUMBER.format(user_id="''", id=0, batch=ALL))
        else:
            _number()
        for name, (columns, options) in INDEXES.items():
            # One that an interrupted run left behind cannot be used.
            op.drop_index(name, "tasks", if_exists=True, postgresql_concurrently=True)
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
    """Take the indexes back; the numbers go with their column."""
    for name in INDEXES:
        op.drop_index(name, "tasks")
