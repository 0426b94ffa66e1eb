"""The query parameters of a list: the vocabulary and the rules of each, and the `Listing` that they make.

A field is given the list of all values of its parameter. The message of a `ValidationError` does not name the
parameter: the code that reports the fault puts the name in front.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from marshmallow import ValidationError, fields, post_load, validates_schema

from todo.http import dates, pagination
from todo.http.fields import NO_NUL
from todo.http.pagination import PageQuery, limit_and_offset
from todo.http.parameters import (
    DATE_NOTE,
    DATETIME_SCHEMA,
    Boolean,
    Choice,
    Choices,
    DateTime,
    SingleValue,
    TimeZone,
    alternatives,
    described,
    enum_schema,
    look_up,
)
from todo.tasks import cursors
from todo.tasks.aliases import COMMA_SEPARATED, PARAMETER_ALIASES, SORT_ALIASES, STATUS_ALIASES
from todo.tasks.listing import BOUNDS, BY_ID, UTC_NAME, Filters, Listing, Position, SortKey
from todo.tasks.models import PRIORITIES
from todo.tasks.schemas import PRIORITY_SCHEMA, TAGS_MAX
from todo.tasks.search import tag_key, words

WORDS_MAX = 10

# What each status says of a task.
STATUSES: dict[str, dict[str, bool]] = {
    "all": {},
    "pending": {"completed": False},
    "completed": {"completed": True},
    "overdue": {"overdue": True},
}
ORDERS = {"asc": False, "desc": True}
# With `all` among them, the priorities restrict nothing.
ALL = "all"
PRIORITY_FILTERS = {**{name: name for name in PRIORITIES}, "none": None, ALL: ALL}
SORTS = {name: name for name in ("created_at", "updated_at", "title", "due_date", "priority", "completed")}


class SortKeys(Choices):
    """The keys of an order, each with a minus sign in front where it is descending."""

    def json_schema(self) -> dict[str, Any]:
        """Return the schema of the keys, ascending and descending."""
        return enum_schema(key for name in self.vocabulary for key in (name, f"-{name}"))

    def read(self, word: str) -> SortKey:
        """Return the key that a word stands for."""
        # An alias may stand for a key with its minus sign.
        word = self.aliases.get(word.lower(), word)
        return SortKey(look_up(word.removeprefix("-"), self.vocabulary, self.aliases), word.startswith("-"))


class SearchWords(SingleValue):
    """Words, each of which a task must contain, whatever the case and the accents."""

    def read(self, value: str) -> tuple[tuple[str, ...], ...]:
        """Return the words, folded."""
        folded = tuple(sorted(words(value)))
        if len(folded) > WORDS_MAX:
            raise ValidationError(f"must have at most {WORDS_MAX} words.")
        return folded


class TagNames(fields.Field[tuple[str, ...]]):
    """Tags, all of which a task must have."""

    def _deserialize(self, value: Sequence[str], *_: Any, **__: Any) -> tuple[str, ...]:
        keys = tuple(sorted({tag_key(tag.strip()) for tag in value}))
        if len(keys) > TAGS_MAX:
            raise ValidationError(f"must be given at most {TAGS_MAX} times: no task has more tags.")
        return keys


class TaskQuery(PageQuery):
    """The query parameters of a list."""

    aliases = PARAMETER_ALIASES
    comma_separated = COMMA_SEPARATED

    status = Choice(
        STATUSES,
        STATUS_ALIASES,
        metadata=described("Open tasks, completed tasks, overdue tasks, or all; in upper or lower case."),
    )
    completed = Boolean(metadata=described("Completed tasks, or open tasks."))
    priority = Choices(
        PRIORITY_FILTERS,
        metadata=described(
            "Tasks of any of these priorities: low, medium, high, none; or all. Separated by commas, or given several "
            "times.",
            items={"anyOf": [PRIORITY_SCHEMA, enum_schema(["none", ALL])]},
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
    tz = TimeZone("The time zone of dates, due dates that are dates included")
    search = SearchWords(
        metadata=described(
            f"Tasks that contain each of these words, {WORDS_MAX} at most, in the title, the description or the tags, "
            "whatever the case and the accents.",
            type="string",
            pattern=NO_NUL,
            examples=["milk"],
        )
    )
    sort = SortKeys(
        SORTS,
        SORT_ALIASES,
        metadata=described(
            f"The order: {alternatives(list(SORTS))}, separated by commas; a minus sign in front makes one descending. "
            "Tasks without a value come last, and the id decides between equals. Without it, by id.",
            examples=[["-priority", "due_date"]],
        ),
    )
    order = Choice(ORDERS, metadata=described("`desc` makes every key descending that has no minus sign."))

    @validates_schema
    def overdue_once(self, parameters: dict[str, Any], **_: Any) -> None:
        """Refuse a status of overdue tasks together with the filter of all others."""
        status = parameters.get("status", {})
        if "overdue" in status and parameters.get("overdue", True) is not status["overdue"]:
            raise ValidationError("cannot be overdue together with overdue=false.", "status")

    @post_load
    def build(self, parameters: dict[str, Any], **_: Any) -> Listing:
        """Return the listing."""
        zone = parameters.get("tz", ZoneInfo(UTC_NAME))
        status = parameters.get("status", {})
        priorities = parameters.get("priority", ())
        filters = Filters(
            completed=tuple(sorted({said["completed"] for said in (status, parameters) if "completed" in said})),
            priorities=() if ALL in priorities else tuple(sorted(priorities, key=str)),
            tag_keys=parameters.get("tag", ()),
            words=parameters.get("search", ()),
            overdue=status.get("overdue", parameters.get("overdue")),
            tz=zone.key,
            **{name: dates.bound(parameters[name], zone) for name in BOUNDS if name in parameters},
        )
        descending = parameters.get("order", False)
        keys: dict[str, SortKey] = {}
        for key in parameters.get("sort") or BY_ID:
            keys.setdefault(key.name, SortKey(key.name, key.descending or descending))
        sort = tuple(keys.values())
        after = self._position(parameters, filters, sort)
        limit, offset = limit_and_offset(parameters)
        return Listing(
            filters=filters,
            sort=sort,
            limit=limit,
            offset=offset,
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
