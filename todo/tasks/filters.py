"""The query parameters of a list: the vocabulary and the rules of each, and the `Listing` that they make.

A field is given the list of all values of its parameter. The message of a `ValidationError` does not name the
parameter: the code that reports the fault puts the name in front.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from marshmallow import ValidationError, fields, post_load

from todo.http import pagination
from todo.http.fields import NO_NUL
from todo.http.pagination import PAGE_MAX, PageQuery
from todo.http.parameters import (
    DATE_NOTE,
    DATETIME_SCHEMA,
    Boolean,
    Choice,
    Choices,
    DateTime,
    SingleValue,
    alternatives,
    described,
    enum_schema,
    look_up,
)
from todo.tasks import cursors
from todo.tasks.listing import BY_ID, Filters, Listing, Position, SortKey
from todo.tasks.models import PRIORITIES
from todo.tasks.schemas import TAGS_MAX
from todo.tasks.search import fold, tag_key

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


class SortKeys(Choices):
    """The keys of an order, each with a minus sign in front where it is descending."""

    def json_schema(self) -> dict[str, Any]:
        """Return the schema of the keys, ascending and descending."""
        return enum_schema(key for name in self.vocabulary for key in (name, f"-{name}"))

    def read(self, word: str) -> SortKey:
        """Return the key that a word stands for."""
        return SortKey(look_up(word.removeprefix("-"), self.vocabulary), word.startswith("-"))


class SearchWords(SingleValue):
    """Words, each of which a task must contain, whatever the case and the accents."""

    def read(self, value: str) -> tuple[str, ...]:
        """Return the words, folded."""
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


class TaskQuery(PageQuery):
    """The query parameters of a list."""

    aliases: ClassVar[Mapping[str, str]] = {"q": "search", "sort_by": "sort", "sort_order": "order"}

    status = Choice(STATUSES, metadata=described("Open tasks, completed tasks, or all; in upper or lower case."))
    completed = Boolean(metadata=described("Completed tasks, or open tasks."))
    priority = Choices(
        PRIORITY_FILTERS,
        metadata=described(
            "Tasks of any of these priorities: low, medium, high, none. Separated by commas, or given several times.",
            examples=[["high", "none"]],
        ),
    )
    tag = TagNames(
        metadata=described(
            "Tasks with this tag, in upper or lower case. Given several times: tasks with all of them.",
            type="array",
            items={"type": "string", "pattern": NO_NUL},
            maxItems=TAGS_MAX,
            examples=[["home"]],
        )
    )
    due_before = DateTime(metadata=DATETIME_SCHEMA | described(f"Due before this time{DATE_NOTE}"))
    due_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Due at this time or later{DATE_NOTE}"))
    created_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Created at this time or later{DATE_NOTE}"))
    updated_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Last changed at this time or later{DATE_NOTE}"))
    overdue = Boolean(metadata=described("`true`: open tasks whose due date has passed; `false`: all other tasks."))
    search = SearchWords(
        metadata=described(
            f"Tasks that contain each of these words, {WORDS_MAX} at most, in the title, the description or the tags, "
            "whatever the case and the accents. Also `q`.",
            type="string",
            pattern=NO_NUL,
            examples=["milk"],
        )
    )
    sort = SortKeys(
        SORTS,
        metadata=described(
            f"The order: {alternatives(list(SORTS))}, separated by commas; a minus sign in front makes one descending. "
            "Tasks without a value come last, and the id decides between equals. Without it, by id. Also `sort_by`.",
            examples=[["-priority", "due_date"]],
        ),
    )
    order = Choice(
        ORDERS, metadata=described("`desc` makes every key descending that has no minus sign. Also `sort_order`.")
    )

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> Listing:
        """Return the listing."""
        filters = Filters(
            completed=tuple(
                sorted(
                    {*parameters.get("status", ()), *([parameters["completed"]] if "completed" in parameters else [])}
                )
            ),
            priorities=tuple(sorted(parameters.get("priority", ()), key=str)),
            tag_keys=tuple(sorted(parameters.get("tag", ()))),
            words=tuple(sorted(parameters.get("search", ()))),
            **{
                name: parameters[name]
                for name in ("due_before", "due_after", "created_after", "updated_after", "overdue")
                if name in parameters
            },
        )
        descending = parameters.get("order", False)
        keys: dict[str, SortKey] = {}
        for key in parameters.get("sort") or BY_ID:
            keys.setdefault(key.name, SortKey(key.name, key.descending or descending))
        sort = tuple(keys.values())
        after = self._position(parameters, filters, sort)
        return Listing(
            filters=filters,
            sort=sort,
            limit=parameters.get("limit", PAGE_MAX),
            offset=parameters.get("offset", 0),
            after=after,
            count=parameters.get("count", False),
            as_of=after.as_of if after else datetime.now(UTC),
        )

    @staticmethod
    def _position(parameters: Mapping[str, Any], filters: Filters, sort: tuple[SortKey, ...]) -> Position | None:
        if "cursor" not in parameters:
            return None
        try:
            return cursors.decode(parameters["cursor"], filters, sort)
        except pagination.BadCursor as error:
            raise ValidationError(str(error), "cursor") from None
