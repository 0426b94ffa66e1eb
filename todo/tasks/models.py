"""The table of tasks, and the bounds that both it and the schemas keep."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Enum,
    Identity,
    PrimaryKeyConstraint,
    Text,
    false,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from todo.extensions import db

USER_ID_MAX = 255
TITLE_MAX = 200
DESCRIPTION_MAX = 1000

# In ascending order.
PRIORITIES = ("low", "medium", "high")


class Task(db.Model):  # type: ignore[name-defined,misc]
    """One task. Lengths are in Unicode code points.

    The key begins with the owner: a user's rows lie together, so a list is one short walk through the key,
    whoever else has how many, and the table can be distributed by user. There is no other index: it would have to
    be written with every change, and a list of whatever order is found fast enough without.
    """

    __tablename__ = "tasks"
    __table_args__ = (
        PrimaryKeyConstraint("user_id", "id"),
        CheckConstraint(f"char_length(user_id) BETWEEN 1 AND {USER_ID_MAX}", name="user_id_length"),
        CheckConstraint(f"char_length(title) BETWEEN 1 AND {TITLE_MAX}", name="title_length"),
        CheckConstraint(f"char_length(description) <= {DESCRIPTION_MAX}", name="description_length"),
        CheckConstraint("updated_at >= created_at", name="updated_at_order"),
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
