"""Fold the titles and descriptions that are not plain ASCII, so that a search finds them without case and accents.

It goes through the table in batches, each a transaction of its own that holds nothing but the rows it changes.
Interrupted, it goes on where it was when it is run again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import click
import sqlalchemy as sa
from alembic import context, op

from todo.tasks.search import columns

revision = "0003_fold_texts"
down_revision = "0002_organise_tasks"
branch_labels = None
depends_on = None

BATCH = 5_000

# Text that is plain ASCII has as many bytes as characters. What is folded already is sorted out later: PostgreSQL knows
# nothing about new columns, and would sort the whole table for each batch rather than walk through its key.
BATCH_AFTER = sa.text("""
    SELECT user_id, id, title, description, updated_at, folded_title, folded_description FROM tasks
    WHERE (user_id, id) > (:user_id, :id)
      AND (octet_length(title) > char_length(title) OR octet_length(description) > char_length(description))
    ORDER BY user_id, id LIMIT :batch
""")
FOLD = sa.text("""
    UPDATE tasks SET folded_title = made.title, folded_description = made.description
    FROM unnest(CAST(:users AS text[]), CAST(:ids AS bigint[]), CAST(:moments AS timestamptz[]),
                CAST(:titles AS text[]), CAST(:descriptions AS text[]))
         AS made (user_id, id, updated_at, title, description)
    WHERE tasks.user_id = made.user_id AND tasks.id = made.id AND tasks.updated_at = made.updated_at
""")


def upgrade() -> None:
    """Apply it."""
    if context.is_offline_mode():
        return
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        folded, last = 0, {"user_id": "", "id": 0}
        while rows := connection.execute(BATCH_AFTER, {**last, "batch": BATCH}).all():
            if texts := list(_folded(rows)):
                users, ids, moments, titles, descriptions = map(list, zip(*texts, strict=True))
                values = {"users": users, "ids": ids, "moments": moments}
                connection.execute(FOLD, {**values, "titles": titles, "descriptions": descriptions})
            folded += len(rows)
            last = {"user_id": rows[-1].user_id, "id": rows[-1].id}
            click.echo(f"Folded the texts of {folded} tasks.")


def _folded(rows: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Give what to write, for each row where it is not written yet."""
    for row in rows:
        made = columns({"title": row.title, "description": row.description})
        title, description = made["folded_title"], made["folded_description"]
        if (title, description) != (row.folded_title, row.folded_description):
            # A task that has changed since it was read is left to whoever changed it.
            yield row.user_id, row.id, row.updated_at, title, description


def downgrade() -> None:
    """Take nothing back: the columns hold nothing that anybody wrote."""
