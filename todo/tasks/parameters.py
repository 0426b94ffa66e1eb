"""What a list can be asked for: each parameter of the query, its vocabulary and its rules.

A value arrives as the list of what was sent under one name. A message says what is wrong without naming the
parameter: whoever reports the fault puts the name in front.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load, validates_schema

from todo.tasks import cursors, moments
from todo.tasks.folding import fold, tag_key
from todo.tasks.listing import BY_ID, PAGE_MAX, Filters, Listing, Position, SortKey
from todo.tasks.models import PRIORITIES
from todo.tasks.schemas import DAY_OR_MOMENT, NO_NUL, TAGS_MAX
from todo.validation import QuerySchema

OFFSET_MAX = 10_000
WORDS_MAX = 10

STATUSES = {
    "all": (),
    "pending": (False,),
    "active": (False,),
    "incomplete": (False,),
    "todo": (False,),
    "completed": (True,),
    "done": (True,),
}
BOOLEANS = {"true": True, "false": False}
ORDERS = {"asc": False, "desc": True}
PRIORITY_FILTERS = {**{name: name for name in PRIORITIES}, "none": None}
SORTS = {
    "created_at": "created_at",
    "created": "created_at",
    "updated_at": "updated_at",
    "title": "title",
    "due_date": "due_date",
    "priority": "priority",
    "completed": "completed",
}

# A plus sign that was not percent-encoded arrives as a space. It comes after a time: the space before one is meant.
PLUS_LOST = re.compile(r"(:[0-9.]+) (?=[0-9]{2}:?[0-9]{2}$)")


class Once(fields.Field[Any]):
    """A parameter that is given once."""

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> Any:
        if len(value) > 1:
            raise ValidationError("must be given once.")
        return self.read(value[0].strip())

    def read(self, value: str) -> Any:
        """Read the one value."""
        return value


class Word(Once):
    """A word of a vocabulary, in any case."""

    def __init__(self, vocabulary: Mapping[str, Any], **kwargs: Any) -> None:
        self.vocabulary = vocabulary
        kwargs["metadata"] = self.documented() | kwargs["metadata"]
        super().__init__(**kwargs)

    def documented(self) -> dict[str, Any]:
        """Say what clients may choose from."""
        return _one_of(self.vocabulary)

    def read(self, value: str) -> Any:
        """Give what the word stands for."""
        return _meaning(value, self.vocabulary)


class Truth(Word):
    """`true` or `false`."""

    def documented(self) -> dict[str, Any]:
        """Say it in the way that gives clients a type for it."""
        return {"type": "boolean"}


class Words(fields.Field[tuple[Any, ...]]):
    """Several words of a vocabulary: separated by commas, or given several times, or both."""

    # How clients of the documentation write them.
    style: ClassVar[Mapping[str, Any]] = {"style": "form", "explode": False}

    def __init__(self, vocabulary: Mapping[str, Any], **kwargs: Any) -> None:
        self.vocabulary = vocabulary
        kwargs["metadata"] = {"type": "array", "items": self.documented()} | kwargs["metadata"]
        super().__init__(**kwargs)

    def documented(self) -> dict[str, Any]:
        """Say what clients may choose from."""
        return _one_of(self.vocabulary)

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> tuple[Any, ...]:
        words = [word for part in value for word in part.split(",") if word.strip()]
        return tuple(dict.fromkeys(self.read(word.strip()) for word in words))

    def read(self, word: str) -> Any:
        """Give what one word stands for."""
        return _meaning(word, self.vocabulary)


class SortKeys(Words):
    """The keys of an order, each with a minus in front where it is to go down."""

    def documented(self) -> dict[str, Any]:
        """Say that each key can be turned around."""
        return _one_of(key for name in self.vocabulary for key in (name, f"-{name}"))

    def read(self, word: str) -> SortKey:
        """Give the key that one word stands for."""
        return SortKey(_meaning(word.removeprefix("-"), self.vocabulary), word.startswith("-"))


class WholeNumber(Once):
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


class Moment(Once):
    """A day, which stands for its first moment in UTC, or a moment."""

    def read(self, value: str) -> datetime:
        """Give the moment."""
        try:
            return moments.bound(moments.parse(PLUS_LOST.sub(r"\1+", value)))
        except ValueError:
            raise ValidationError(
                "must be a day such as 2026-03-01 or a moment such as 2026-03-01T09:30:00Z that exists."
            ) from None


class SearchWords(Once):
    """Words, of which each must be found, as far as neither case nor accents count."""

    def read(self, value: str) -> tuple[str, ...]:
        """Give the words, folded."""
        words = tuple(dict.fromkeys(fold(value).split()))
        if len(words) > WORDS_MAX:
            raise ValidationError(f"must have at most {WORDS_MAX} words.")
        return words


class TagNames(fields.Field[tuple[str, ...]]):
    """Tags, all of which a task must have."""

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> tuple[str, ...]:
        keys = tuple(dict.fromkeys(tag_key(tag.strip()) for tag in value))
        if len(keys) > TAGS_MAX:
            raise ValidationError(f"must be given at most {TAGS_MAX} times: no task has more tags.")
        return keys


def _meaning(word: str, vocabulary: Mapping[str, Any]) -> Any:
    try:
        return vocabulary[word.lower()]
    except KeyError:
        raise ValidationError(f"must be {_either(list(vocabulary))}.") from None


def _one_of(words: Iterable[str]) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def _either(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def _says(description: str, **more: Any) -> dict[str, Any]:
    return {"description": description, **more}


MOMENT = {"anyOf": [*DAY_OR_MOMENT], "examples": ["2026-03-01", "2026-03-01T09:30:00Z"]}
FROM = "; a day stands for its first moment in UTC."


class PageQuery(QuerySchema):
    """The parameters of every list that comes in pages."""

    limit = WholeNumber(1, PAGE_MAX, metadata=_says(f"How many tasks at most; {PAGE_MAX} without it."))
    offset = WholeNumber(
        0, OFFSET_MAX, metadata=_says("How many tasks to skip. The pages of `Link` are faster, and skip nothing.")
    )
    cursor = Once(metadata=cursors.SEALED | _says("Where to go on, from the `Link` of the page before."))
    count = Truth(BOOLEANS, metadata=_says("Whether to count all tasks that match, for `X-Total-Count`."))

    @validates_schema
    def begins_in_one_place(self, sent: dict[str, Any], **_: Any) -> None:
        """Refuse to guess where a page begins."""
        if "cursor" in sent and "offset" in sent:
            raise ValidationError("cannot be sent together with cursor.", "offset")


class TaskQuery(PageQuery):
    """The parameters of a list."""

    aliases: ClassVar[Mapping[str, str]] = {"q": "search", "sort_by": "sort", "sort_order": "order"}

    status = Word(STATUSES, metadata=_says("Open tasks, completed ones, or all. In any case."))
    completed = Truth(BOOLEANS, metadata=_says("Completed tasks, or open ones."))
    priority = Words(
        PRIORITY_FILTERS,
        metadata=_says(
            "Tasks of any of these priorities: low, medium, high, none. Several with commas, or given several times.",
            examples=[["high", "none"]],
        ),
    )
    tag = TagNames(
        metadata=_says(
            "Tasks with this tag, in whatever case. Given several times: with all of them.",
            type="array",
            items={"type": "string", "pattern": NO_NUL},
            maxItems=TAGS_MAX,
            examples=[["home"]],
        )
    )
    due_before = Moment(metadata=MOMENT | _says(f"Due before this moment{FROM}"))
    due_after = Moment(metadata=MOMENT | _says(f"Due at this moment or later{FROM}"))
    created_after = Moment(metadata=MOMENT | _says(f"Made at this moment or later{FROM}"))
    updated_after = Moment(metadata=MOMENT | _says(f"Last changed at this moment or later{FROM}"))
    overdue = Truth(BOOLEANS, metadata=_says("Open tasks whose due date has passed, or all others."))
    search = SearchWords(
        metadata=_says(
            f"Each of these words, {WORDS_MAX} at most, stands somewhere in the title, the description or the tags; "
            "neither case nor accents count. Also `q`.",
            type="string",
            pattern=NO_NUL,
            examples=["milk"],
        )
    )
    sort = SortKeys(
        SORTS,
        metadata=_says(
            f"In which order: {_either(list(SORTS))}. Several with commas; a minus in front turns one around. Without "
            "a value comes last, and the id decides between equals. By default by id. Also `sort_by`.",
            examples=[["-priority", "due_date"]],
        ),
    )
    order = Word(
        ORDERS, metadata=_says("`desc` turns every key around that has no minus of its own. Also `sort_order`.")
    )

    @post_load
    def build(self, sent: dict[str, Any], **_: Any) -> Listing:
        """Make the listing."""
        filters = Filters(
            completed=tuple(sorted({*sent.get("status", ()), *([sent["completed"]] if "completed" in sent else [])})),
            priorities=tuple(sorted(sent.get("priority", ()), key=str)),
            tag_keys=tuple(sorted(sent.get("tag", ()))),
            words=tuple(sorted(sent.get("search", ()))),
            **{
                name: sent[name]
                for name in ("due_before", "due_after", "created_after", "updated_after", "overdue")
                if name in sent
            },
        )
        turned = sent.get("order", False)
        chosen: dict[str, SortKey] = {}
        for key in sent.get("sort") or BY_ID:
            chosen.setdefault(key.name, SortKey(key.name, key.descending or turned))
        sort = tuple(chosen.values())
        after = self._position(sent, filters, sort)
        return Listing(
            filters=filters,
            sort=sort,
            limit=sent.get("limit", PAGE_MAX),
            offset=sent.get("offset", 0),
            after=after,
            count=sent.get("count", False),
            as_of=after.as_of if after else datetime.now(UTC),
        )

    @staticmethod
    def _position(sent: Mapping[str, Any], filters: Filters, sort: tuple[SortKey, ...]) -> Position | None:
        if "cursor" not in sent:
            return None
        try:
            return cursors.decode(sent["cursor"], filters, sort)
        except cursors.BadCursor as error:
            raise ValidationError(str(error), "cursor") from None
