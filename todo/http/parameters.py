"""The types of query parameters, whatever the resource.

A value arrives as the list of what was sent under one name. A message says what is wrong without naming the
parameter: whoever reports the fault puts the name in front.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from marshmallow import ValidationError, fields

from todo.http import dates
from todo.http.fields import DATE_OR_DATETIME

BOOLEANS = {"true": True, "false": False}

# A plus sign that was not percent-encoded arrives as a space. It comes after a time: the space before one is meant.
PLUS_LOST = re.compile(r"(:[0-9.]+) (?=[0-9]{2}:?[0-9]{2}$)")


class SingleValue(fields.Field[Any]):
    """A parameter that is given once."""

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> Any:
        if len(value) > 1:
            raise ValidationError("must be given once.")
        return self.read(value[0].strip())

    def read(self, value: str) -> Any:
        """Read the one value."""
        return value


class Choice(SingleValue):
    """A word of a vocabulary, in any case."""

    def __init__(self, vocabulary: Mapping[str, Any], **kwargs: Any) -> None:
        self.vocabulary = vocabulary
        kwargs["metadata"] = self.documented() | kwargs["metadata"]
        super().__init__(**kwargs)

    def documented(self) -> dict[str, Any]:
        """Say what clients may choose from."""
        return one_of(self.vocabulary)

    def read(self, value: str) -> Any:
        """Give what the word stands for."""
        return meaning(value, self.vocabulary)


class Boolean(Choice):
    """`true` or `false`."""

    def documented(self) -> dict[str, Any]:
        """Say it in the way that gives clients a type for it."""
        return {"type": "boolean"}


class Choices(fields.Field[tuple[Any, ...]]):
    """Several words of a vocabulary: separated by commas, or given several times, or both."""

    # How clients of the documentation write them.
    style: ClassVar[Mapping[str, Any]] = {"style": "form", "explode": False}

    def __init__(self, vocabulary: Mapping[str, Any], **kwargs: Any) -> None:
        self.vocabulary = vocabulary
        kwargs["metadata"] = {"type": "array", "items": self.documented()} | kwargs["metadata"]
        super().__init__(**kwargs)

    def documented(self) -> dict[str, Any]:
        """Say what clients may choose from."""
        return one_of(self.vocabulary)

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> tuple[Any, ...]:
        words = [word for part in value for word in part.split(",") if word.strip()]
        return tuple(dict.fromkeys(self.read(word.strip()) for word in words))

    def read(self, word: str) -> Any:
        """Give what one word stands for."""
        return meaning(word, self.vocabulary)


class WholeNumber(SingleValue):
    """A whole number between two bounds; never bent to fit."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        self.low, self.high = low, high
        kwargs["metadata"] = {"type": "integer", "minimum": low, "maximum": high} | kwargs["metadata"]
        super().__init__(**kwargs)

    def read(self, value: str) -> int:
        """Give the number."""
        number = int(value) if re.fullmatch("[0-9]{1,9}", value) else -1
        if not self.low <= number <= self.high:
            raise ValidationError(f"must be a whole number from {self.low} to {self.high}.")
        return number


class DateTime(SingleValue):
    """A day, which stands for its first moment in UTC, or a moment."""

    def read(self, value: str) -> datetime:
        """Give the moment."""
        try:
            return dates.bound(dates.parse(PLUS_LOST.sub(r"\1+", value)))
        except ValueError:
            raise ValidationError(
                "must be a day such as 2026-03-01 or a moment such as 2026-03-01T09:30:00Z that exists."
            ) from None


def meaning(word: str, vocabulary: Mapping[str, Any]) -> Any:
    """Return the value that a word of a vocabulary stands for, in any case.

    Raises:
        ValidationError: the vocabulary does not have it; the message lists the words.

    """
    try:
        return vocabulary[word.lower()]
    except KeyError:
        raise ValidationError(f"must be {either(list(vocabulary))}.") from None


def one_of(words: Iterable[str]) -> dict[str, Any]:
    """Return the JSON Schema of one of several words."""
    return {"type": "string", "enum": list(words)}


def either(words: Sequence[str]) -> str:
    """Return the words as a list in a sentence: `a, b or c`."""
    return f"{', '.join(words[:-1])} or {words[-1]}"


def described(description: str, **more: Any) -> dict[str, Any]:
    """Return the metadata of a parameter for the OpenAPI document."""
    return {"description": description, **more}


DATETIME = {"anyOf": [*DATE_OR_DATETIME], "examples": ["2026-03-01", "2026-03-01T09:30:00Z"]}
DAY_MEANS = "; a day stands for its first moment in UTC."
