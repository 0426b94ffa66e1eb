"""The field types of JSON bodies, whatever the resource, and the patterns that describe them.

An error message continues a sentence that begins with the name of the member, which the code that reports the fault
puts in front.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from marshmallow import EXCLUDE, INCLUDE, Schema, ValidationError, fields, validate

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


FLOAT_EXACT_MAX = 2**53

# The messages of members that must be present.
PRESENT: dict[str, Any] = {"required": "is required.", "null": "must not be null."}


class PlainText(fields.String):
    """A text that PostgreSQL can store. Its length is counted in Unicode code points."""

    default_error_messages = PRESENT | {
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


def whole_number(value: Any) -> int | None:
    """Return a JSON number without a fraction as an integer, and None for anything else.

    `17.0` is one too, up to the numbers of which a float holds each (RFC 8259, section 6).
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < FLOAT_EXACT_MAX:
        return int(value)
    return value if type(value) is int else None


class Int64(fields.Integer):
    """A JSON number without a fraction that is an integer of 64 bits, as PostgreSQL's bigint is."""

    default_error_messages = PRESENT | {"invalid": "must be an integer of at most 64 bits."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        number = whole_number(value)
        if number is None or not -(2**63) <= number < 2**63:
            raise self.make_error("invalid")
        return number


class JsonObject(fields.Nested):
    """A JSON object that is documented by a schema, and left for others to validate."""

    default_error_messages = PRESENT | {"invalid": "must be an object."}

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        return value


class JsonArray(fields.List[Any]):
    """A JSON array, whose length is checked before its elements are: a body can hold very many.

    Args:
        element: The field of each element.
        least: How many there are at least.
        most: How many there are at most.
        **kwargs: As of every field.

    """

    default_error_messages = PRESENT | {
        "invalid": "must be an array.",
        "length": "must have {least} to {most} entries.",
    }

    def __init__(self, element: fields.Field[Any], least: int, most: int, **kwargs: Any) -> None:
        super().__init__(element, validate=validate.Length(least, most), **kwargs)
        self._bounds = {"least": least, "most": most}

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise self.make_error("invalid")
        if not self._bounds["least"] <= len(value) <= self._bounds["most"]:
            raise self.make_error("length", **self._bounds)
        return super()._deserialize(value, *args, **kwargs)


class OneOf(fields.Field[dict[str, Any]]):
    """A JSON object of one of several kinds, as one member of it states (OpenAPI 3.1, Discriminator Object).

    Members that its schema does not know are kept.

    Args:
        discriminator: The name of that member.
        kinds: The schema of each kind, by its value of that member.
        **kwargs: As of every field.

    """

    default_error_messages = PRESENT | {"invalid": "must be an object."}

    def __init__(self, discriminator: str, kinds: Mapping[str, Schema], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.discriminator = discriminator
        self.kinds = kinds

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.make_error("invalid")
        kind = value.get(self.discriminator)
        if not isinstance(kind, str) or kind not in self.kinds:
            *others, last = self.kinds
            rule = f"must be {', '.join(others)} or {last}." if self.discriminator in value else PRESENT["required"]
            raise ValidationError({self.discriminator: [rule]})
        loaded = self.kinds[kind].load(value, unknown=INCLUDE)
        # In the order in which they were sent, which marshmallow does not keep.
        return {name: loaded[name] for name in value}
