"""Lists of tasks: which, in what order, from where on; and the one statement that reads a page of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    FromClause,
    Select,
    Text,
    and_,
    bindparam,
    cast,
    collate,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, array

from todo.database.statements import prepared
from todo.http.pagination import PAGE_MAX
from todo.tasks.models import TITLE_MAX
from todo.tasks.rows import COLUMNS, MEMBERS, STORED, columns_of, lists, tasks

BEFORE_ALL = -(2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which tasks. What is not set does not restrict."""

    completed: tuple[bool, ...] = ()
    priorities: tuple[str | None, ...] = ()
    tag_keys: tuple[str, ...] = ()
    due_before: datetime | None = None
    due_after: datetime | None = None
    created_after: datetime | None = None
    updated_after: datetime | None = None
    overdue: bool | None = None
    words: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order, by the name that clients use."""

    name: str
    descending: bool = False

    @property
    def label(self) -> str:
        """Give the name that its values have in a page; the id is there anyway."""
        return "id" if self.name == "id" else f"key_{self.name}"


BY_ID = (SortKey("id"),)


@dataclass(frozen=True, slots=True)
class Position:
    """The last task of a page: where the next one begins.

    Attributes:
        values: What it is sorted by, key by key; a moment is in UTC without saying so.
        id: Its id.
        as_of: When the first page was read: what was overdue then is overdue on every page.

    """

    values: tuple[Any, ...]
    id: int
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a client asks for."""

    filters: Filters = Filters()
    sort: tuple[SortKey, ...] = BY_ID
    limit: int = PAGE_MAX
    offset: int = 0
    after: Position | None = None
    count: bool = False
    as_of: datetime

    @property
    def question(self) -> tuple[Any, ...]:
        """Give all that the answer depends on, beside the tasks and the time."""
        return self.filters, self.sort, self.limit, self.offset, self.after, self.count


def _ascii_folded(text: ColumnElement[str]) -> ColumnElement[str]:
    return func.lower(collate(text, "C"))


# A text is found by its folded form, which is stored only where PostgreSQL cannot make it.
_title = func.coalesce(tasks.c.folded_title, _ascii_folded(tasks.c.title))
_description = func.coalesce(tasks.c.folded_description, _ascii_folded(tasks.c.description))
_searched = (_title, _description, tasks.c.folded_tags)
_tag_keys = func.coalesce(tasks.c.tag_keys, tasks.c.tags)

# Tasks are sorted by what clients see of them. Only a title is sorted by its folded form, and that may be longer than
# the title; what a cursor carries of it must not.
_sorted_title = func.coalesce(func.left(tasks.c.folded_title, TITLE_MAX), _ascii_folded(tasks.c.title))
KEYS: dict[str, ColumnElement[Any]] = MEMBERS | {"title": collate(_sorted_title, "C")}
_NULLABLE = ("due_date", "priority")

Keys = Mapping[str, ColumnElement[Any]]


def _unless_known(caller: Any, known: Any, page: FromClause) -> Select[Any]:
    """Put the revision of the caller's list beside the page, and make of what is stored what clients see.

    When it is the known one there is no row, and no page is read. A page without tasks has one row, whose task is null.
    """
    beside = select(*columns_of(page), lists.c.revision.label("list_revision"))
    return beside.select_from(lists.outerjoin(page, true())).where(lists.c.user_id == caller, lists.c.revision != known)


def _default() -> Select[Any]:
    caller = bindparam("caller", type_=Text)
    page = (
        select(*STORED)
        .where(tasks.c.user_id == caller, tasks.c.id > bindparam("after", type_=BigInteger))
        .order_by(tasks.c.id)
        .limit(bindparam("rows", type_=BigInteger))
        .subquery("page")
    )
    return _unless_known(caller, bindparam("known", type_=BigInteger), page).order_by(page.c.id)


# What nearly everybody asks for, built once.
DEFAULT = prepared(_default())


def default_parameters(caller: str, listing: Listing) -> dict[str, Any] | None:
    """Give the parameters of `DEFAULT` for a page that nothing special is asked of; of any other, None."""
    if listing.sort != BY_ID or listing.filters != Filters() or listing.offset or listing.count:
        return None
    return {"caller": caller, "after": listing.after.id if listing.after else BEFORE_ALL, "rows": listing.limit + 1}


def statement(caller: str, listing: Listing, known: int) -> Select[Any]:
    """Give the statement for one page, and one task more if there is one.

    Behind the columns of a task stand the values that it is sorted by, the number of tasks on all pages, where it is
    asked for, and the revision of the caller's list. When that is the known one, there is no row.
    """
    wanted = conditions(caller, listing)
    if listing.sort[0].name != "id" or listing.count:
        labelled = [KEYS[key.name].label(key.label) for key in listing.sort if key.name != "id"]
        return _keys_first(caller, listing, known, select(tasks.c.id, *labelled).where(*wanted))
    page = _page(select(*STORED).where(*wanted), listing, KEYS).subquery("page")
    return _unless_known(caller, known, page).order_by(*_order(listing.sort, _keys_of(page, listing)))


def _keys_first(caller: str, listing: Listing, known: int, narrow: Select[Any]) -> Select[Any]:
    """Read all that match for their keys alone, once, whether they are sorted or counted or both.

    Only the tasks of the page are then read whole. All is joined to the list from its side, so that nothing is read at
    all when the list is known.
    """
    matching = narrow.cte("matching") if listing.count else None
    source, keys = (narrow, KEYS) if matching is None else (select(matching), _keys_of(matching, listing))
    page = _page(source, listing, keys).cte("page")
    found = [*COLUMNS, *(column for column in page.c if column.name != "id")]
    beside: FromClause = lists
    if matching is not None:
        total = select(func.count().label("total")).select_from(matching).cte("total")
        beside = lists.outerjoin(total, true())
        found.append(total.c.total)
    whole = page.join(tasks, and_(tasks.c.user_id == caller, tasks.c.id == page.c.id))
    return (
        select(*found, lists.c.revision.label("list_revision"))
        .select_from(beside.outerjoin(whole, true()))
        .where(lists.c.user_id == caller, lists.c.revision != known)
        .order_by(*_order(listing.sort, _keys_of(page, listing)))
    )


def _keys_of(rows: FromClause, listing: Listing) -> Keys:
    """Give what rows are sorted by, where they have it already."""
    return {"id": rows.c.id} | {key.name: rows.c[key.label] for key in listing.sort}


def _page(matching: Select[Any], listing: Listing, keys: Keys) -> Select[Any]:
    """Cut a page out of what matches."""
    if listing.after is not None:
        matching = matching.where(_beyond(listing.sort, listing.after, keys))
    page = matching.order_by(*_order(listing.sort, keys)).limit(listing.limit + 1)
    return page.offset(listing.offset) if listing.offset else page


def conditions(caller: str, listing: Listing) -> Sequence[ColumnElement[bool]]:
    """Give what is true of the tasks that are wanted."""
    wanted = listing.filters
    given: list[ColumnElement[bool]] = [tasks.c.user_id == caller]
    given += [tasks.c.completed if completed else ~tasks.c.completed for completed in wanted.completed]
    if wanted.priorities:
        named = [priority for priority in wanted.priorities if priority is not None]
        either = [tasks.c.priority.in_(named)] if named else []
        given.append(or_(*either, *([tasks.c.priority.is_(None)] if None in wanted.priorities else [])))
    if wanted.tag_keys:
        given.append(_tag_keys.bool_op("@>")(cast(array(wanted.tag_keys), ARRAY(Text))))
    for column, earliest in (
        (tasks.c.due_at, wanted.due_after),
        (tasks.c.created_at, wanted.created_after),
        (tasks.c.updated_at, wanted.updated_after),
    ):
        if earliest is not None:
            given.append(column >= earliest)
    if wanted.due_before is not None:
        given.append(tasks.c.due_at < wanted.due_before)
    if wanted.overdue is not None:
        overdue = and_(~tasks.c.completed, func.coalesce(tasks.c.due_at < listing.as_of, False))
        given.append(overdue if wanted.overdue else ~overdue)
    # The longest word is mostly the rarest: where it is missing, no other need be looked for.
    for word in sorted(wanted.words, key=len, reverse=True):
        given.append(or_(*(text.contains(word, autoescape=True) for text in _searched)))
    return given


def _order(sort: Sequence[SortKey], keys: Keys) -> list[ColumnElement[Any]]:
    """Give the order: null comes last either way, and the id decides between equals."""
    order: list[ColumnElement[Any]] = []
    for key in sort:
        directed = keys[key.name].desc() if key.descending else keys[key.name].asc()
        order.append(directed.nulls_last() if key.name in _NULLABLE else directed)
    return order if sort[-1].name == "id" else [*order, keys["id"]]


def _beyond(sort: Sequence[SortKey], last: Position, keys: Keys) -> ColumnElement[bool]:
    """Tell which tasks come after the last one, key by key: further on, or equal and further on in what follows."""
    beyond: ColumnElement[bool] = keys["id"] > last.id
    for key, value in reversed(list(zip(sort, last.values, strict=True))):
        column = keys[key.name]
        there = literal(value, column.type)
        if key is sort[-1] and not key.descending and value is not None and key.name not in ("id", *_NULLABLE):
            # The same said as one comparison, which makes the value of a row once.
            beyond = tuple_(column, keys["id"]) > tuple_(there, literal(last.id, BigInteger))
            continue
        further = column < there if key.descending else column > there
        if key.name == "id":
            beyond = further
        elif value is None:
            beyond = and_(column.is_(None), beyond)
        else:
            if key.name in _NULLABLE:
                further = or_(further, column.is_(None))
            beyond = or_(further, and_(column == there, beyond))
    return beyond
