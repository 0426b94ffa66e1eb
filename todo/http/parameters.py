"""The field types of query parameters, whatever the resource.

A field receives the list of the values under one name. An error message continues a sentence that begins with the
name of the parameter, which the code that reports the fault puts in front.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from types import MappingProxyType
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from marshmallow import ValidationError, fields

from todo.http import dates
from todo.http.fields import DATE_OR_DATETIME, NO_NUL

# A plus sign that was not percent-encoded arrives as a space. Offsets follow a time, so a space there is a plus sign.
PLUS_LOST = re.compile(r"(:[0-9.]+) (?=[0-9]{2}:?[0-9]{2}$)")

DATETIME_SCHEMA = {"anyOf": [*DATE_OR_DATETIME], "examples": ["2026-03-01", "2026-03-01T09:30:00Z"]}
DATE_NOTE = "; a date stands for its first instant, in UTC or in `tz`."


class SingleValue(fields.Field[Any]):
    """A parameter with one value."""

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> Any:
        if len(value) > 1:
            raise ValidationError("must be given once.")
        return self.read(value[0].strip())

    def read(self, value: str) -> Any:
        """Parse the value; by default it stays the text."""
        return value


class Choice(SingleValue):
    """A word of a vocabulary, or an alias of one, in any case."""

    def __init__(
        self, vocabulary: Mapping[str, Any], aliases: Mapping[str, str] = MappingProxyType({}), **kwargs: Any
    ) -> None:
        self.vocabulary = vocabulary
        self.aliases = _in_lower_case(aliases)
        kwargs["metadata"] = self.json_schema() | kwargs["metadata"]
        super().__init__(**kwargs)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the value."""
        return enum_schema(self.vocabulary)

    def read(self, value: str) -> Any:
        """Return the meaning of the word."""
        return look_up(value, self.vocabulary, self.aliases)


class Boolean(Choice):
    """`true` or `false`, in any case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__({"true": True, "false": False}, **kwargs)

    def json_schema(self) -> dict[str, Any]:
        """Return a schema from which generated clients derive a boolean type."""
        return {"type": "boolean"}


class Choices(fields.Field[tuple[Any, ...]]):
    """Several words of a vocabulary, or aliases of them: separated by commas, in a repeated parameter, or both."""

    # How clients of the OpenAPI document serialise the array.
    style: ClassVar[Mapping[str, Any]] = {"style": "form", "explode": False}

    def __init__(
        self, vocabulary: Mapping[str, Any], aliases: Mapping[str, str] = MappingProxyType({}), **kwargs: Any
    ) -> None:
        self.vocabulary = vocabulary
        self.aliases = _in_lower_case(aliases)
        kwargs["metadata"] = {"type": "array", "items": self.json_schema()} | kwargs["metadata"]
        super().__init__(**kwargs)

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of one word."""
        return enum_schema(self.vocabulary)

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> tuple[Any, ...]:
        words = [word for part in value for word in part.split(",") if word.strip()]
        return tuple(dict.fromkeys(self.read(word.strip()) for word in words))

    def read(self, word: str) -> Any:
        """Return the meaning of one word."""
        return look_up(word, self.vocabulary, self.aliases)


class WholeNumber(SingleValue):
    """A whole number between two bounds. A number outside of them is refused, never adjusted."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        self.low, self.high = low, high
        kwargs["metadata"] = {"type": "integer", "minimum": low, "maximum": high} | kwargs["metadata"]
        super().__init__(**kwargs)

    def read(self, value: str) -> int:
        """Parse the number."""
        number = int(value) if re.fullmatch("[0-9]{1,9}", value) else -1
        if not self.low <= number <= self.high:
            raise ValidationError(f"must be a whole number from {self.low} to {self.high}.")
        return number


class DateTime(SingleValue):
    """A date-time, or a date, which stands for its first instant in the time zone of the request."""

    def read(self, value: str) -> date | datetime:
        """Parse the value; a date-time is returned in UTC."""
        try:
            return dates.parse(PLUS_LOST.sub(r"\1+", value))
        except ValueError:
            raise ValidationError(
                "must be a date such as 2026-03-01 or a date-time such as 2026-03-01T09:30:00Z that exists."
            ) from None


class TimeZone(SingleValue):
    """A time zone, by its name in the IANA database, in any case.

    Args:
        description: What it decides.

    """

    def __init__(self, description: str) -> None:
        about = described(
            f"{description}, by its IANA name, in upper or lower case. The default is UTC.",
            type="string",
            pattern=NO_NUL,
            examples=["Europe/Prague"],
        )
        super().__init__(metadata=about)

    def read(self, value: str) -> ZoneInfo:
        """Return the zone."""
        try:
            # No name has a space: it is the plus sign of Etc/GMT+5, which was not percent-encoded.
            return dates.zone(value.replace(" ", "+"))
        except KeyError:
            raise ValidationError("must be the name of a time zone such as Europe/Prague.") from None


def look_up(word: str, vocabulary: Mapping[str, Any], aliases: Mapping[str, str]) -> Any:
    """Return the meaning of a word, in any case.

    Args:
        word: The word as sent.
        vocabulary: The words, in lower case, with their meanings.
        aliases: Other words, in lower case, with the words that they stand for.

    Raises:
        ValidationError: The vocabulary does not contain the word; the message lists its words.

    """
    word = word.lower()
    try:
        return vocabulary[aliases.get(word, word)]
    except KeyError:
        raise ValidationError(f"must be {alternatives(list(vocabulary))}.") from None


def _in_lower_case(aliases: Mapping[str, str]) -> dict[str, str]:
    return {alias.lower(): word for alias, word in aliases.items()}


def enum_schema(words: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of a string that is one of several words."""
    return {"type": "string", "enum": list(words)}


def alternatives(words: Sequence[str]) -> str:
    """Return the words as a list in a sentence: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def described(description: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a parameter for the OpenAPI document."""
    return {"description": description, **more}
