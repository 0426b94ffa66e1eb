"""Every rule on what goes in, and the shape of what comes out.

A message says what is wrong with a field without naming it: whoever reports the fault puts the name in front.
"""

from datetime import date, datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate, validates_schema

from todo.http import dates
from todo.http.fields import (
    DATE_OR_DATETIME,
    NO_NUL,
    NOT_BLANK,
    TIMESTAMP,
    JsonBoolean,
    Output,
    PlainText,
    StrippedText,
    UtcDateTime,
)
from todo.tasks.models import DESCRIPTION_MAX, PRIORITIES, TITLE_MAX, USER_ID_MAX
from todo.tasks.search import tag_key

TAGS_MAX = 20
TAG_MAX = 50


class PriorityName(fields.Field[str]):
    """One of the priorities, in any case; lower case from there on."""

    default_error_messages = {"invalid": "must be low, medium, high or null."}  # noqa: RUF012 (marshmallow has it so)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str:
        if not isinstance(value, str) or value.lower() not in PRIORITIES:
            raise self.make_error("invalid")
        return value.lower()


class DueDate(fields.Field[Any]):
    """A day or a moment, as clients write it; out as it came in, but a moment in UTC (RFC 3339)."""

    default_error_messages = {  # noqa: RUF012 (marshmallow has it so)
        "invalid": "must be a day such as 2026-03-01, a moment such as 2026-03-01T09:30:00Z that exists, or null.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dates.Due:
        try:
            return dates.due(dates.parse(value))
        except (TypeError, ValueError):
            raise self.make_error("invalid") from None

    def _serialize(self, value: date | None, *_: Any, **__: Any) -> str | None:
        if isinstance(value, datetime):
            return f"{value.isoformat()}Z"
        return None if value is None else value.isoformat()


class Tags(fields.Field[list[str]]):
    """Short texts, each once in whatever case; null means none."""

    default_error_messages = {  # noqa: RUF012 (marshmallow has it so)
        "invalid": "must be an array of strings.",
        "many": f"must have at most {TAGS_MAX} entries.",
        "length": f"must have 1 to {TAG_MAX} characters, not counting white space around them.",
        "text": "must be a string.",
        "nul": PlainText.default_error_messages["nul"],
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[str]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        faults = {}
        tags: dict[str, str] = {}
        for place, member in enumerate(value):
            tag = member.strip() if isinstance(member, str) else ""
            if fault := self._fault(member, tag):
                faults[place] = self.make_error(fault).messages
            else:
                tags.setdefault(tag_key(tag), tag)
        if faults:
            raise ValidationError(faults)
        if len(tags) > TAGS_MAX:
            raise self.make_error("many")
        return list(tags.values())

    @staticmethod
    def _fault(member: Any, tag: str) -> str | None:
        if not isinstance(member, str):
            return "text"
        if not 1 <= len(tag) <= TAG_MAX:
            return "length"
        return "nul" if "\0" in tag else None


TITLE: dict[str, Any] = {
    "validate": validate.Length(
        1, TITLE_MAX, error="must have 1 to {max} characters, not counting white space around them."
    ),
    "metadata": {
        "description": "What is to be done. White space around it is removed.",
        "pattern": NOT_BLANK,
        "example": "Buy oat milk",
    },
}
DESCRIPTION: dict[str, Any] = {
    "allow_none": True,
    "validate": validate.Length(max=DESCRIPTION_MAX, error="must have at most {max} characters."),
    "metadata": {
        "description": "More about it, kept as sent.",
        "pattern": NO_NUL,
        "example": "Two litres, the barista kind.",
    },
}
COMPLETED: dict[str, Any] = {"metadata": {"description": "Whether it is done.", "example": False}}
PRIORITY: dict[str, Any] = {
    "allow_none": True,
    "metadata": {
        "description": "How much it matters; upper case is accepted, and comes back in lower case.",
        "type": "string",
        "enum": [*PRIORITIES, None],
        "example": "high",
    },
}
DUE_DATE: dict[str, Any] = {
    "allow_none": True,
    "metadata": {
        "description": "A day, which is that day everywhere and comes back as sent, or a moment, which comes back in "
        "UTC; a moment without an offset is in UTC.",
        "anyOf": [*DATE_OR_DATETIME, {"type": "null"}],
        "examples": ["2026-03-01", "2026-03-01T09:30:00Z"],
    },
}
TAGS: dict[str, Any] = {
    "metadata": {
        "description": "Each stripped of white space around it, and kept once whatever its case, as first spelt.",
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": TAG_MAX},
        "maxItems": TAGS_MAX,
        "example": ["shopping", "home"],
    },
}

TAGS_IN: dict[str, Any] = {
    # There is always an array, but null may be sent for an empty one.
    "allow_none": True,
    "metadata": TAGS["metadata"] | {"items": TAGS["metadata"]["items"] | {"pattern": NOT_BLANK}},
}


class TaskInput(Schema):
    """What the bodies of all calls have in common: members that nobody knows are skipped."""

    class Meta:
        """A client may send back what it read."""

        unknown = EXCLUDE

    @pre_load
    def no_tags_are_an_empty_array(self, document: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Take null for no tags: there is always an array."""
        return document | {"tags": []} if "tags" in document and document["tags"] is None else document


class TaskIn(TaskInput):
    """The body of a POST or a PUT."""

    title = StrippedText(required=True, **TITLE)
    description = PlainText(**DESCRIPTION)
    completed = JsonBoolean(**COMPLETED)
    priority = PriorityName(**PRIORITY)
    due_date = DueDate(**DUE_DATE)
    tags = Tags(**TAGS_IN)


class TaskPatch(TaskInput):
    """The body of a PATCH (RFC 7396): an absent member is untouched, null clears."""

    title = StrippedText(**TITLE)
    description = PlainText(**DESCRIPTION)
    completed = JsonBoolean(**COMPLETED)
    priority = PriorityName(**PRIORITY)
    due_date = DueDate(**DUE_DATE)
    tags = Tags(**TAGS_IN)

    # Says in the OpenAPI document what the rule below enforces.
    at_least_one = True

    @validates_schema
    def changes_something(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse what would look like a change and be none."""
        if not data:
            raise ValidationError(f"Nothing to change: send at least one of {', '.join(self.fields)}.")


class TaskCompletion(TaskInput):
    """The body of PATCH …/complete: nothing, to toggle, or what to set."""

    completed = JsonBoolean(**COMPLETED)


def _without_pattern(rules: dict[str, Any]) -> dict[str, Any]:
    """Take away what only senders need to know."""
    return rules | {"metadata": {name: value for name, value in rules["metadata"].items() if name != "pattern"}}


class TaskOut(Output):
    """A task as clients see it."""

    id = fields.Integer(
        required=True, metadata={"description": "Later tasks have greater numbers.", "example": 42, "format": "int64"}
    )
    user_id = fields.String(
        required=True,
        validate=validate.Length(1, USER_ID_MAX),
        metadata={"description": "Whose task it is.", "example": "user-123"},
    )
    title = fields.String(required=True, **_without_pattern(TITLE))
    description = fields.String(required=True, **_without_pattern(DESCRIPTION))
    completed = fields.Boolean(required=True, **COMPLETED)
    created_at = UtcDateTime(
        required=True,
        metadata=TIMESTAMP | {"description": "When it was made."},
    )
    updated_at = UtcDateTime(
        required=True,
        metadata=TIMESTAMP | {"description": "When it last changed; it never goes back."},
    )
    priority = PriorityName(required=True, **PRIORITY)
    due_date = DueDate(required=True, **DUE_DATE)
    tags = Tags(required=True, **TAGS)
    completed_at = UtcDateTime(
        required=True,
        allow_none=True,
        metadata=TIMESTAMP | {"description": "When it was completed, and null while it is not."},
    )
    revision = fields.Integer(
        required=True,
        metadata={
            "description": "Which of its user's changes was the last one to it; quoted, it is the task's `ETag`.",
            "example": 17,
            "format": "int64",
        },
    )


# What the server alone writes. A client that sends these back is not wrong, even when it asks for strictness.
READ_ONLY = frozenset(TaskOut().fields) - frozenset(TaskPatch().fields)
