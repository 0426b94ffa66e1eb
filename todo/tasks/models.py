"""The tables, and the bounds that both they and the schemas keep."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    Identity,
    Index,
    LargeBinary,
    PrimaryKeyConstraint,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from todo.extensions import db

USER_ID_MAX = 255
TITLE_MAX = 200
DESCRIPTION_MAX = 1000

# In ascending order.
PRIORITIES = ("low", "medium", "high")


class TaskList(db.Model):  # type: ignore[name-defined,misc]
    """What the writes of one user take turns at: each locks this row first and raises the revision by one.

    So the order of the revisions is the order in which the writes became visible, and who has seen all up to a revision
    has missed nothing. A user who never wrote has no row. It outlives the user's data: old cursors must not be taken
    for good ones.
    """

    __tablename__ = "task_lists"
    __table_args__ = (CheckConstraint("forgotten BETWEEN 0 AND revision", name="forgotten_range"),)

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    # What was deleted up to this revision is no longer known in full.
    forgotten: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    erased_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))


class Task(db.Model):  # type: ignore[name-defined,misc]
    """One task. Lengths are in Unicode code points.

    The key begins with the owner: a user's rows lie together, so a list is one short walk through the key,
    whoever else has how many, and the table can be distributed by user. The index by revision is written with every
    change in any case; it carries what lists are filtered and sorted by, so that those need not look at each task.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        CheckConstraint(f"char_length(user_id) BETWEEN 1 AND {USER_ID_MAX}", name="user_id_length"),
        CheckConstraint(f"char_length(title) BETWEEN 1 AND {TITLE_MAX}", name="title_length"),
        CheckConstraint(f"char_length(description) <= {DESCRIPTION_MAX}", name="description_length"),
        CheckConstraint("updated_at >= created_at", name="updated_at_order"),
        Index(
            None,
            "user_id",
            "revision",
            unique=True,
            postgresql_include=[
                "id",
                "completed",
                "created_at",
                "updated_at",
                "priority",
                "due_at",
                "due_all_day",
                "completed_at",
            ],
        ),
        Index(
            None,
            "user_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    user_id: Mapped[str] = mapped_column(Text)
    # The sequence numbers all users' tasks together, so a later task has a greater id.
    id: Mapped[int] = mapped_column(BigInteger, Identity())
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    completed: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    priority: Mapped[str | None] = mapped_column(Enum(*PRIORITIES, name="priority"))
    # A day stands at its last moment in UTC.
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    due_all_day: Mapped[bool] = mapped_column(server_default=false())
    # Of a completed task from before this column it is unknown, and `updated_at` comes nearest.
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    # What tags and texts are found by, where PostgreSQL cannot tell it from themselves (see folding).
    tag_keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    folded_tags: Mapped[str | None] = mapped_column(Text)
    folded_title: Mapped[str | None] = mapped_column(Text)
    folded_description: Mapped[str | None] = mapped_column(Text)
    # The revision of the list that this task was last changed in. A trigger replaces 0, which only writers that know
    # nothing of revisions leave.
    revision: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # What the client named the creation by, and what it asked for then.
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    idempotency_digest: Mapped[bytes | None] = mapped_column(LargeBinary)


class TrashedTask(db.Model):  # type: ignore[name-defined,misc]
    """A deleted task: for a while with all that it held, then only the mark that there was one.

    Followers of the changes learn from either that the task is gone.
    """

    __tablename__ = "trash"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        CheckConstraint("(task IS NULL) = (expires_at IS NULL)", name="task_expires"),
        Index(None, "user_id", "revision", unique=True),
        Index(
            "ix_trash_user_id_idempotency_key",
            "user_id",
            text("(task ->> 'idempotency_key')"),
            postgresql_where=text("(task ->> 'idempotency_key') IS NOT NULL"),
        ),
    )

    user_id: Mapped[str] = mapped_column(Text)
    id: Mapped[int] = mapped_column(BigInteger, autoincrement=False)
    # The revision of the list that the task was deleted in.
    revision: Mapped[int] = mapped_column(BigInteger)
    deleted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The row as it was in `tasks`.
    task: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
