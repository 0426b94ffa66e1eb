"""The summary of a list: how many tasks there are of each kind, for a dashboard."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import fields, post_load

from todo.database import statements
from todo.http import dates
from todo.http.fields import Output
from todo.http.parameters import TimeZone
from todo.http.requests import QuerySchema
from todo.tasks.models import PRIORITIES

TAGS_MAX = 50

SQL = statements.load(__file__, tags_max=str(TAGS_MAX))


@dataclass(frozen=True, slots=True)
class Today:
    """A date in a time zone.

    Attributes:
        begin: When it begins, in UTC.
        end: When the next one begins, in UTC.
        due: How the table stores it as a due date.
        now: The present time.

    """

    begin: datetime
    end: datetime
    due: dates.Due
    now: datetime

    @classmethod
    def at(cls, now: datetime, zone: ZoneInfo) -> "Today":
        """Return the date in a time zone."""
        date = dates.date_in(zone, now)
        begin, end = (dates.bound(day, zone) for day in (date, date + timedelta(days=1)))
        return cls(begin, end, dates.due(date), now)


class SummaryQuery(QuerySchema):
    """The query parameters of the summary."""

    tz = TimeZone("The time zone of `due_today`, and the one in which a date is over that makes a task `overdue`")

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> Today:
        """Return the date in the time zone."""
        return Today.at(datetime.now(UTC), parameters.get("tz", ZoneInfo("UTC")))


class TagCountOut(Output):
    """A tag, and how many tasks have it."""

    tag = fields.String(required=True, metadata={"example": "home"})
    count = fields.Integer(required=True, metadata={"example": 3})


class PriorityCountsOut(Output):
    """How many tasks have each priority."""

    high = fields.Integer(required=True)
    medium = fields.Integer(required=True)
    low = fields.Integer(required=True)
    none = fields.Integer(required=True)


class SummaryOut(Output):
    """How many tasks there are of each kind."""

    total = fields.Integer(required=True, metadata={"example": 12})
    pending = fields.Integer(required=True, metadata={"example": 8})
    completed = fields.Integer(required=True, metadata={"example": 4})
    overdue = fields.Integer(
        required=True, metadata={"description": "Open, and due before now or on an earlier date.", "example": 1}
    )
    due_today = fields.Integer(required=True, metadata={"description": "Open, and due on this date.", "example": 2})
    by_priority = fields.Nested(PriorityCountsOut, required=True)
    by_tag = fields.List(
        fields.Nested(TagCountOut),
        required=True,
        metadata={"description": f"The {TAGS_MAX} most frequent tags, whatever their case.", "maxItems": TAGS_MAX},
    )


def summarize(caller: str, today: Today) -> dict[str, Any]:
    """Return the numbers of the caller's tasks."""
    times = {"now": today.now, "day": today.due.at, "begin": today.begin, "end": today.end}
    (row,) = statements.read(SQL["count_tasks"], {"caller": caller, **times})
    counts = row._asdict()
    tags = counts.pop("by_tag") or []
    by_priority = {name: counts.pop(name) for name in (*reversed(PRIORITIES), "none")}
    return {**counts, "by_priority": by_priority, "by_tag": tags}
