"""How many tasks there are of each kind, for a dashboard."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import ValidationError, fields, post_load

from todo.database import statements
from todo.http import dates
from todo.http.fields import NO_NUL, Output
from todo.http.parameters import SingleValue
from todo.http.requests import QuerySchema
from todo.tasks.models import PRIORITIES

TAGS_MAX = 50

SQL = statements.load(__file__, tags_max=str(TAGS_MAX))


@dataclass(frozen=True, slots=True)
class Today:
    """A day somewhere: its first moment, its end, what stands for the whole of it in the table, and the moment now."""

    begin: datetime
    end: datetime
    due: dates.Due
    now: datetime

    @classmethod
    def at(cls, now: datetime, zone: ZoneInfo) -> "Today":
        """Give the day that it is in a time zone."""
        day = now.astimezone(zone).date()
        begin, end = (datetime.combine(d, time(), zone).astimezone(UTC) for d in (day, day + timedelta(days=1)))
        return cls(begin, end, dates.due(day), now)


class TimeZone(SingleValue):
    """A time zone by its name in the IANA database."""

    def read(self, value: str) -> ZoneInfo:
        """Give the zone."""
        try:
            return ZoneInfo(value)
        # The name may be nothing that could be a name, or lead out of the folder of the database.
        except (KeyError, ValueError, OSError):
            raise ValidationError("must be the name of a time zone such as Europe/Prague.") from None


class SummaryQuery(QuerySchema):
    """The parameters of the summary."""

    tz = TimeZone(
        metadata={
            "description": "Whose day `due_today` means: the name of a time zone. By default UTC.",
            "type": "string",
            "pattern": NO_NUL,
            "examples": ["Europe/Prague"],
        }
    )

    @post_load
    def build(self, sent: dict[str, Any], **_: Any) -> Today:
        """Give the day that it is there."""
        return Today.at(datetime.now(UTC), sent.get("tz", ZoneInfo("UTC")))


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
    """How many tasks there are."""

    total = fields.Integer(required=True, metadata={"example": 12})
    pending = fields.Integer(required=True, metadata={"example": 8})
    completed = fields.Integer(required=True, metadata={"example": 4})
    overdue = fields.Integer(required=True, metadata={"description": "Open, and due before now.", "example": 1})
    due_today = fields.Integer(required=True, metadata={"description": "Open, and due on this day.", "example": 2})
    by_priority = fields.Nested(PriorityCountsOut, required=True)
    by_tag = fields.List(
        fields.Nested(TagCountOut),
        required=True,
        metadata={"description": f"The {TAGS_MAX} most frequent tags, whatever their case.", "maxItems": TAGS_MAX},
    )


def summarize(caller: str, today: Today) -> dict[str, Any]:
    """Count the caller's tasks."""
    moments_of = {"now": today.now, "day": today.due.at, "begin": today.begin, "end": today.end}
    (row,) = statements.read(SQL["count_tasks"], {"caller": caller, **moments_of})
    counts = row._asdict()
    tags = counts.pop("by_tag") or []
    by_priority = {name: counts.pop(name) for name in (*reversed(PRIORITIES), "none")}
    return {**counts, "by_priority": by_priority, "by_tag": tags}
