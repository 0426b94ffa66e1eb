"""The field types of JSON bodies, whatever the resource, and the patterns that describe them.

An error message continues a sentence that begins with the name of the member, which the code that reports the fault
puts in front.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marshmallow import EXCLUDE, Schema, fields

Input = Mapping[str, Any] | None


# White space as `str.strip` defines it. `\s` in the patterns of JSON Schema (ECMA-262) matches other characters.
WHITE_SPACE = r"\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
NO_NUL = r"^[^\x00]*$"

TIMESTAMP = {"type": "string", "format": "date-time", "example": "2026-03-01T09:30:00.123456Z"}
DATE_OR_DATETIME = ({"type": "string", "format": "date"}, {"type": "string", "format": "date-time"})


class Output(Schema):
    """The base of the schemas of response bodies."""

    class Meta:
        """Later versions may add members, so the OpenAPI document must not rule out additional ones."""

        unknown = EXCLUDE


class PlainText(fields.String):
    """A text that PostgreSQL can store. Its length is counted in Unicode code points."""

    default_error_messages = {  # noqa: RUF012 (marshmallow declares it so)
        "required": "is required.",
        "null": "must not be null.",
        "invalid": "must be a string.",
        "nul": "must not contain the NUL character (U+0000): the database cannot hold one.",
    }

    def _deserialize(self, value: Any, attr: str | None, data: Input, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text:
            raise self.make_error("nul")
        return text


class StrippedText(PlainText):
    """A text without the white space around it, as `str.strip` defines white space."""

    def _deserialize(self, value: Any, attr: str | None, data: Input, **kwargs: Any) -> str:
        return super()._deserialize(value, attr, data, **kwargs).strip()


class JsonBoolean(fields.Boolean):
    """JSON `true` or `false` and nothing else: no 1, no "yes"."""

    default_error_messages = {  # noqa: RUF012 (marshmallow declares it so)
        "null": "must be true or false, not null.",
        "invalid": "must be true or false.",
    }

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class UtcDateTime(fields.Field[datetime]):
    """A date-time from the database, in UTC without an offset; written as RFC 3339 with `Z` and microseconds."""

    def _serialize(self, value: datetime | None, *_: Any, **__: Any) -> str | None:
        return None if value is None else f"{value.isoformat()}Z"
