"""The tables, and the limits that both they and the schemas enforce."""

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
    """The list of one user: every write locks this row first and raises its revision by one.

    So the order of the revisions is the order in which the writes became visible, and a client that has all changes up
    to a revision has missed none. A user who never wrote has no row. The row outlives the user's data, so that an old
    cursor is never taken for a valid one.
    """

    __tablename__ = "task_lists"
    __table_args__ = (CheckConstraint("forgotten BETWEEN 0 AND revision", name="forgotten_range"),)

    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    revision: Mapped[int] = mapped_column(BigInteger)
    # Tombstones up to this revision have been purged.
    forgotten: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    erased_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # Of the secret in the address of the calendar, where it has one.
    feed_digest: Mapped[bytes | None] = mapped_column(LargeBinary)


class Task(db.Model):  # type: ignore[name-defined,misc]
    """One task. Lengths are in Unicode code points.

    The primary key begins with the user: the rows of a user lie together, so a list is one short index scan, however
    many tasks other users have, and the table can be distributed by user. The index by revision is written with every
    change anyway; it includes the columns that lists are filtered and sorted by, so that those need not read each row.
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
    # One sequence numbers the tasks of all users, so a later task has a greater id.
    id: Mapped[int] = mapped_column(BigInteger, Identity())
    title: Mapped[str] = mapped_column(Text)
    description: Mapped[str | None] = mapped_column(Text)
    completed: Mapped[bool] = mapped_column(server_default=false())
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    priority: Mapped[str | None] = mapped_column(Enum(*PRIORITIES, name="priority"))
    # A date is stored as its last microsecond in UTC.
    due_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    due_all_day: Mapped[bool] = mapped_column(server_default=false())
    # Null for a task completed before this column existed; `updated_at` comes nearest.
    completed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    # What search and filters compare, where PostgreSQL cannot compute it (see `search`).
    tag_keys: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    folded_tags: Mapped[str | None] = mapped_column(Text)
    folded_title: Mapped[str | None] = mapped_column(Text)
    folded_description: Mapped[str | None] = mapped_column(Text)
    # The revision of the list at the last change of this task. A trigger replaces 0, which releases without revisions
    # leave.
    revision: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # The client's key for the creation, and a digest of the body that it sent then.
    idempotency_key: Mapped[str | None] = mapped_column(Text)
    idempotency_digest: Mapped[bytes | None] = mapped_column(LargeBinary)


class TrashedTask(db.Model):  # type: ignore[name-defined,misc]
    """A deleted task: the whole of it until it expires, then its tombstone alone.

    Either shows followers of the changes that the task was deleted.
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
    # The revision of the list at the deletion.
    revision: Mapped[int] = mapped_column(BigInteger)
    deleted_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    expires_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # The row as it was in `tasks`.
    task: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
