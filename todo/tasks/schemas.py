"""The rules for the bodies of requests, and the shape of the bodies of responses.

A message does not name its member: the code that reports the fault puts the name in front.
"""

from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate, validates_schema

from todo.http import dates
from todo.http.fields import (
    DATE_OR_DATETIME,
    NO_NUL,
    TIMESTAMP,
    WHITE_SPACE,
    JsonBoolean,
    Output,
    PlainText,
    StrippedText,
    UtcDateTime,
)
from todo.http.parameters import Boolean, described, enum_schema
from todo.http.problems import UnprocessableContent
from todo.http.requests import AliasedSchema, QuerySchema
from todo.tasks.aliases import COMPLETED_ALIASES
from todo.tasks.models import DESCRIPTION_MAX, PRIORITIES, TITLE_MAX, USER_ID_MAX
from todo.tasks.search import INVISIBLE, shows_nothing, tag_key

TAGS_MAX = 20
TAG_MAX = 50

BLANK = "must have at least one visible character."
# A pattern of ECMA-262 without flags knows neither combining marks nor characters beyond U+FFFF.
_invisible = "".join(rf"\u{ord(first):04x}-\u{ord(last):04x}" for first, last in INVISIBLE if last <= "\uffff")
NOT_BLANK = rf"^[^\x00]*[^\x00{WHITE_SPACE}{_invisible}][^\x00]*$"


class PriorityName(fields.Field[Any]):
    """A priority, in upper or lower case; stored in lower case."""

    default_error_messages = {"invalid": "must be low, medium, high or null."}  # noqa: RUF012 (declared so by marshmallow)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> str | None:
        # Forms have no null, and send what the option without a priority stands for.
        if isinstance(value, str) and value.strip().lower() in ("", "none"):
            return None
        if not isinstance(value, str) or value.lower() not in PRIORITIES:
            raise self.make_error("invalid")
        return value.lower()


class DueDate(fields.Field[Any]):
    """A date or a date-time; a date is returned as it was sent, and a date-time in UTC (RFC 3339)."""

    default_error_messages = {  # noqa: RUF012 (declared so by marshmallow)
        "invalid": "must be null or a date such as 2026-03-01 or a date-time such as 2026-03-01T09:30:00Z that exists.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dates.Due | None:
        # Forms have no null, and send an empty text for a date that is not filled in.
        if isinstance(value, str) and not value.strip():
            return None
        try:
            return dates.due(dates.parse(value))
        except (TypeError, ValueError):
            raise self.make_error("invalid") from None

    def _serialize(self, value: date | None, *_: Any, **__: Any) -> str | None:
        if isinstance(value, datetime):
            return f"{value.isoformat()}Z"
        return None if value is None else value.isoformat()


class Tags(fields.Field[list[str]]):
    """Short texts, each of them once, whatever its case; null stands for none.

    Forms have no arrays: one text is read as texts with commas between them.
    """

    default_error_messages = {  # noqa: RUF012 (declared so by marshmallow)
        "invalid": "must be an array of strings.",
        "many": f"must have at most {TAGS_MAX} entries.",
        "length": f"must have 1 to {TAG_MAX} characters, not counting white space around them.",
        "part_length": f"must have 1 to {TAG_MAX} characters between commas, not counting white space around them.",
        "text": "must be a string.",
        "nul": PlainText.default_error_messages["nul"],
        "blank": BLANK,
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> list[str]:
        if isinstance(value, str):
            members: Any = [part for part in value.split(",") if part.strip()]
        elif isinstance(value, list):
            members = value
        else:
            raise self.make_error("invalid")
        faults = {}
        tags: dict[str, str] = {}
        for index, member in enumerate(members):
            tag = member.strip() if isinstance(member, str) else ""
            if fault := self._fault(member, tag):
                faults[index] = self.make_error(fault).messages
            else:
                tags.setdefault(tag_key(tag), tag)
        if faults and isinstance(value, str):
            # The parts of a text have no positions of their own.
            raise self.make_error("nul" if "\0" in value else "part_length")
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
        if "\0" in tag:
            return "nul"
        return "blank" if shows_nothing(tag) else None


def _is_visible(title: str) -> None:
    """Refuse a title that shows nothing; an empty one is too short already."""
    if title and shows_nothing(title):
        raise ValidationError(BLANK)


TITLE: dict[str, Any] = {
    "validate": [
        validate.Length(1, TITLE_MAX, error="must have 1 to {max} characters, not counting white space around them."),
        _is_visible,
    ],
    "metadata": {
        "description": "The title, without the white space around it. White space, combining marks and invisible "
        "characters alone are blank.",
        "pattern": NOT_BLANK,
        "example": "Buy oat milk",
    },
}
DESCRIPTION: dict[str, Any] = {
    "allow_none": True,
    "validate": validate.Length(max=DESCRIPTION_MAX, error="must have at most {max} characters."),
    "metadata": {
        "description": "The description, stored as sent.",
        "pattern": NO_NUL,
        "example": "Two litres, the barista kind.",
    },
}
COMPLETED: dict[str, Any] = {"metadata": {"description": "Whether the task is completed.", "example": False}}
# What several schemas of the document refer to.
COMPONENTS = {"Priority": enum_schema(PRIORITIES)}
PRIORITY_SCHEMA = {"$ref": "#/components/schemas/Priority"}
PRIORITY: dict[str, Any] = {
    "allow_none": True,
    "metadata": {
        "description": "The priority. Upper case is accepted, and returned in lower case.",
        "anyOf": [PRIORITY_SCHEMA, {"type": "null"}],
        "example": "high",
    },
}
DUE_DATE: dict[str, Any] = {
    "allow_none": True,
    "metadata": {
        "description": "A date, which is the same date everywhere and is returned as sent, or a date-time, which is "
        "returned in UTC. A date-time without an offset is in UTC.",
        "anyOf": [*DATE_OR_DATETIME, {"type": "null"}],
        "examples": ["2026-03-01", "2026-03-01T09:30:00Z"],
    },
}
TAGS: dict[str, Any] = {
    "metadata": {
        "description": "The tags, each without the white space around it, and once whatever its case, as first spelt. "
        "Like a title, none is blank.",
        "type": "array",
        "items": {"type": "string", "minLength": 1, "maxLength": TAG_MAX},
        "maxItems": TAGS_MAX,
        "example": ["shopping", "home"],
    },
}

TAGS_IN: dict[str, Any] = {
    # A response always has an array; in a request null stands for an empty one.
    "allow_none": True,
    "metadata": TAGS["metadata"] | {"items": TAGS["metadata"]["items"] | {"pattern": NOT_BLANK}},
}


class TaskInput(Schema):
    """The base of the bodies of requests: unknown members are ignored."""

    class Meta:
        """A client may send back the task that it read."""

        unknown = EXCLUDE

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._required = {name for name, field in self.fields.items() if field.required}

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Validate a body. Where none is missing, absent members are not visited: they have no defaults."""
        return super().load(data, partial=self._required <= data.keys() or None, **kwargs)

    @pre_load
    def no_tags_are_an_empty_array(self, document: dict[str, Any], **_: Any) -> dict[str, Any]:
        """Replace null by an empty array of tags."""
        return document | {"tags": []} if "tags" in document and document["tags"] is None else document


class WritableMembers(TaskInput):
    """The members of a task that clients write."""

    title = StrippedText(**TITLE)
    description = PlainText(**DESCRIPTION)
    completed = JsonBoolean(**COMPLETED)
    priority = PriorityName(**PRIORITY)
    due_date = DueDate(**DUE_DATE)
    tags = Tags(**TAGS_IN)


class TaskIn(WritableMembers):
    """The body of a POST or a PUT."""

    title = StrippedText(required=True, **TITLE)


class TaskPatch(WritableMembers):
    """The body of a PATCH (RFC 7396): an absent member stays as it is, null clears it."""

    # Declares in the OpenAPI document what it can say of the rule that is checked below.
    at_least_one = True

    @validates_schema
    def changes_something(self, data: dict[str, Any], **_: Any) -> None:
        """Refuse a body without any writable member."""
        if not data:
            raise ValidationError(f"Nothing to change: send at least one of {', '.join(self.fields)}.")


class TaskCompletion(TaskInput, AliasedSchema):
    """The body of PATCH …/complete: with `completed`, or an alias of it, the task is set; without, it is toggled."""

    aliases = COMPLETED_ALIASES

    completed = JsonBoolean(**COMPLETED)


class CompletionQuery(QuerySchema):
    """The query parameters of PATCH …/complete, for clients that send no body."""

    aliases = COMPLETED_ALIASES

    completed = Boolean(metadata=described("Whether the task is completed: the same as `completed` in the body."))


def completion(query: Mapping[str, bool], body: Mapping[str, bool]) -> Mapping[str, bool]:
    """Return what a PATCH …/complete sets; nothing, where it toggles.

    Raises:
        UnprocessableContent: The query and the body contradict each other.

    """
    if query and body and query != body:
        rule = "completed means the same in the query and in the body, and must not have another value."
        raise UnprocessableContent([{"parameter": "completed", "detail": rule}])
    return {**query, **body}


def _without_pattern(rules: dict[str, Any]) -> dict[str, Any]:
    """Return the rules of a member for a response, which needs no pattern."""
    return rules | {"metadata": {name: value for name, value in rules["metadata"].items() if name != "pattern"}}


class TaskOut(Output):
    """The task in a response."""

    id = fields.Integer(
        required=True,
        metadata={"description": "The id. Later tasks have greater ids.", "example": 42, "format": "int64"},
    )
    user_id = fields.String(
        required=True,
        validate=validate.Length(1, USER_ID_MAX),
        metadata={"description": "The id of the user whose task it is.", "example": "user-123"},
    )
    title = fields.String(required=True, **_without_pattern(TITLE))
    description = fields.String(required=True, **_without_pattern(DESCRIPTION))
    completed = fields.Boolean(required=True, **COMPLETED)
    created_at = UtcDateTime(
        required=True,
        metadata=TIMESTAMP | {"description": "When the task was created."},
    )
    updated_at = UtcDateTime(
        required=True,
        metadata=TIMESTAMP | {"description": "When the task was last changed. It never goes back."},
    )
    priority = PriorityName(required=True, **PRIORITY)
    due_date = DueDate(required=True, **DUE_DATE)
    tags = Tags(required=True, **TAGS)
    completed_at = UtcDateTime(
        required=True,
        allow_none=True,
        metadata=TIMESTAMP | {"description": "When the task was completed; null while it is not."},
    )
    revision = fields.Integer(
        required=True,
        metadata={
            "description": "The number of the last change of the task among all changes of its user; in quotation "
            "marks it is the `ETag` of the task.",
            "example": 17,
            "format": "int64",
        },
    )


class CreatedTaskOut(TaskOut):
    """The task in the response to a creation."""

    deleted_at = UtcDateTime(
        metadata=TIMESTAMP | {"description": "Of a task that was created earlier and is in the trash: its deletion."}
    )


# The members that the server alone writes. They are ignored in a request, even with `Prefer: handling=strict`.
READ_ONLY = frozenset(TaskOut().fields) - frozenset(TaskPatch().fields)
