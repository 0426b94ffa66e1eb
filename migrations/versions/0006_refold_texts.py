"""Fold the texts that are not plain ASCII once more: without marks of any class, and with the base of each letter.

The migration walks the tables in batches, each in its own transaction that locks only the rows it changes. If it is
interrupted, the next run continues: rows that are folded already are skipped. Nothing that clients see is changed, so
no revision is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import click
import sqlalchemy as sa
from alembic import context, op

from todo.tasks.search import columns

revision = "0006_refold_texts"
down_revision = "0005_number_tasks"
branch_labels = None
depends_on = None

BATCH = 5_000
FOLDED = ("folded_title", "folded_description", "folded_tags")

# A text of plain ASCII has as many bytes as characters.
WITH_TEXTS = """
    SELECT {table}.user_id, {table}.id, {table}.revision, title, description, tags,
           folded_title, folded_description, folded_tags
    FROM {rows} CROSS JOIN LATERAL (SELECT concat(title, description, array_to_string(tags, '')) AS joined) AS texts
    WHERE ({table}.user_id, {table}.id) > (:user_id, :id) AND octet_length(joined) > char_length(joined)
    ORDER BY {table}.user_id, {table}.id LIMIT :batch
"""
# A task that has changed since it was read is left to the statement that changed it.
REFOLD = """
    UPDATE {table} SET {assignments}
    FROM unnest(CAST(:users AS text[]), CAST(:ids AS bigint[]), CAST(:revisions AS bigint[]),
                CAST(:titles AS text[]), CAST(:descriptions AS text[]), CAST(:tags AS text[]))
         AS made (user_id, id, revision, title, description, tags)
    WHERE {table}.user_id = made.user_id AND {table}.id = made.id AND {table}.revision = made.revision
"""
TASKS = (
    sa.text(WITH_TEXTS.format(table="tasks", rows="tasks")),
    sa.text(
        REFOLD.format(
            table="tasks",
            assignments="folded_title = made.title, folded_description = made.description, folded_tags = made.tags",
        )
    ),
)
# The row of a task that is no more than its tombstone has no texts.
TRASH = (
    sa.text(
        WITH_TEXTS.format(
            table="trash", rows="trash CROSS JOIN LATERAL jsonb_populate_record(NULL::tasks, trash.task) AS stored"
        )
    ),
    sa.text(
        REFOLD.format(
            table="trash",
            assignments="task = task || jsonb_build_object('folded_title', made.title, "
            "'folded_description', made.description, 'folded_tags', made.tags)",
        )
    ),
)


def upgrade() -> None:
    """Apply the migration."""
    if context.is_offline_mode():
        op.get_context().impl.static_output("-- 0006_refold_texts folds texts in Python, which no SQL can do.")
        return
    with op.get_context().autocommit_block():
        refolded = 0
        # Deleted tasks come first and last, because a task may be deleted or restored while the others are folded.
        for texts, refold in (TRASH, TASKS, TRASH):
            last = {"user_id": "", "id": 0}
            while rows := op.get_bind().execute(texts, last | {"batch": BATCH}).all():
                last = {"user_id": rows[-1].user_id, "id": rows[-1].id}
                if made := list(_refolded(rows)):
                    names = ("users", "ids", "revisions", "titles", "descriptions", "tags")
                    values = dict(zip(names, map(list, zip(*made, strict=True)), strict=True))
                    refolded += op.get_bind().execute(refold, values).rowcount
                    click.echo(f"Refolded the texts of {refolded} tasks.")


def _refolded(rows: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the folded texts of each row that does not have them yet."""
    for row in rows:
        made = columns({"title": row.title, "description": row.description, "tags": row.tags})
        folded = tuple(made[name] for name in FOLDED)
        if folded != (row.folded_title, row.folded_description, row.folded_tags):
            yield row.user_id, row.id, row.revision, *folded


def downgrade() -> None:
    """Do nothing: the columns hold derived values alone."""
