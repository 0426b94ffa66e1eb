"""What a list can be asked for: each parameter of the query, its vocabulary and its rules.

A value arrives as the list of what was sent under one name. A message says what is wrong without naming the
parameter: whoever reports the fault puts the name in front.
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
    """The keys of an order, each with a minus in front where it is to go down."""

    def json_schema(self) -> dict[str, Any]:
        """Say that each key can be turned around."""
        return enum_schema(key for name in self.vocabulary for key in (name, f"-{name}"))

    def read(self, word: str) -> SortKey:
        """Give the key that one word stands for."""
        return SortKey(look_up(word.removeprefix("-"), self.vocabulary), word.startswith("-"))


class SearchWords(SingleValue):
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


class TaskQuery(PageQuery):
    """The parameters of a list."""

    aliases: ClassVar[Mapping[str, str]] = {"q": "search", "sort_by": "sort", "sort_order": "order"}

    status = Choice(STATUSES, metadata=described("Open tasks, completed ones, or all. In any case."))
    completed = Boolean(metadata=described("Completed tasks, or open ones."))
    priority = Choices(
        PRIORITY_FILTERS,
        metadata=described(
            "Tasks of any of these priorities: low, medium, high, none. Several with commas, or given several times.",
            examples=[["high", "none"]],
        ),
    )
    tag = TagNames(
        metadata=described(
            "Tasks with this tag, in whatever case. Given several times: with all of them.",
            type="array",
            items={"type": "string", "pattern": NO_NUL},
            maxItems=TAGS_MAX,
            examples=[["home"]],
        )
    )
    due_before = DateTime(metadata=DATETIME_SCHEMA | described(f"Due before this moment{DATE_NOTE}"))
    due_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Due at this moment or later{DATE_NOTE}"))
    created_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Made at this moment or later{DATE_NOTE}"))
    updated_after = DateTime(metadata=DATETIME_SCHEMA | described(f"Last changed at this moment or later{DATE_NOTE}"))
    overdue = Boolean(metadata=described("Open tasks whose due date has passed, or all others."))
    search = SearchWords(
        metadata=described(
            f"Each of these words, {WORDS_MAX} at most, stands somewhere in the title, the description or the tags; "
            "neither case nor accents count. Also `q`.",
            type="string",
            pattern=NO_NUL,
            examples=["milk"],
        )
    )
    sort = SortKeys(
        SORTS,
        metadata=described(
            f"In which order: {alternatives(list(SORTS))}. Several with commas; a minus in front turns one around. "
            "Without a value comes last, and the id decides between equals. By default by id. Also `sort_by`.",
            examples=[["-priority", "due_date"]],
        ),
    )
    order = Choice(
        ORDERS, metadata=described("`desc` turns every key around that has no minus of its own. Also `sort_order`.")
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
        except pagination.BadCursor as error:
            raise ValidationError(str(error), "cursor") from None
