"""Fold the titles and descriptions that are not plain ASCII, so that a search ignores their case and accents.

The migration walks the table in batches, each in its own transaction that locks only the rows it changes. If it is
interrupted, the next run continues: rows that are folded already are skipped.
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

# A text of plain ASCII has as many bytes as characters. Rows that are folded already are filtered out in Python:
# PostgreSQL has no statistics about new columns, and would sort the table for each batch rather than walk its key.
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
    """Apply the migration."""
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
    """Yield the folded texts of each row that does not have them yet."""
    for row in rows:
        made = columns({"title": row.title, "description": row.description})
        title, description = made["folded_title"], made["folded_description"]
        if (title, description) != (row.folded_title, row.folded_description):
            # A task that has changed since it was read is left to the statement that changed it.
            yield row.user_id, row.id, row.updated_at, title, description


def downgrade() -> None:
    """Do nothing: the columns hold derived values alone."""
