"""Lists of tasks: which tasks, in what order, from where on; and the statement that reads a page of them.

A statement is put together from fragments that stand in this module and in `listing.sql`. What clients send only ever
becomes a parameter of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from todo.database import statements
from todo.http import dates
from todo.http.pagination import PAGE_MAX
from todo.tasks.models import TITLE_MAX
from todo.tasks.rows import COLUMNS, MEMBERS

SQL = statements.load(__file__, columns=COLUMNS)

UTC_NAME = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which tasks a list has. A filter that is not set does not restrict it.

    Attributes:
        words: The words to search for, each in all spellings that may be stored.
        tz: The name of the time zone in which a due date that is a date begins and ends.

    """

    completed: tuple[bool, ...] = ()
    priorities: tuple[str | None, ...] = ()
    tag_keys: tuple[str, ...] = ()
    due_before: datetime | None = None
    due_after: datetime | None = None
    created_after: datetime | None = None
    updated_after: datetime | None = None
    overdue: bool | None = None
    words: tuple[tuple[str, ...], ...] = ()
    tz: str = UTC_NAME


@dataclass(frozen=True, slots=True)
class SortKey:
    """One key of an order, by the name that clients use."""

    name: str
    descending: bool = False

    @property
    def column(self) -> str:
        """Return the name of the column that has its values in a page."""
        return f"key_{self.name}"


BY_ID = (SortKey("id"),)


@dataclass(frozen=True, slots=True)
class Position:
    """The last task of a page: where the next page begins.

    Attributes:
        values: The values that it is sorted by, one for each key; a time is in UTC, without an offset.
        id: Its id.
        as_of: When the first page was read: tasks that were overdue then are overdue on every page.

    """

    values: tuple[Any, ...]
    id: int
    as_of: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """A request for a page of a list."""

    filters: Filters = Filters()
    sort: tuple[SortKey, ...] = BY_ID
    limit: int = PAGE_MAX
    offset: int = 0
    after: Position | None = None
    count: bool = False
    as_of: datetime

    @property
    def question(self) -> tuple[Any, ...]:
        """Return everything that the response depends on, beside the tasks and the time."""
        return self.filters, self.sort, self.limit, self.offset, self.after, self.count


# A text is found by its folded form, which is stored only where PostgreSQL cannot compute it (see `search`).
TITLE = 'coalesce(folded_title, lower(title COLLATE "C"))'
DESCRIPTION = 'coalesce(folded_description, lower(description COLLATE "C"))'
SEARCHED = (TITLE, DESCRIPTION, "folded_tags")

# Tasks are sorted by what clients see of them. Only a title is sorted by its folded form, which may be longer than the
# title; the part of it that a cursor carries must not.
KEYS = MEMBERS | {
    "title": f'coalesce(left(folded_title, {TITLE_MAX}), lower(title COLLATE "C")) COLLATE "C"',
}
NULLABLE = ("due_date", "priority")

# The condition of each bound on a date-time.
BOUNDS = {
    "due_after": "due_at >= {}",
    "created_after": "created_at >= {}",
    "updated_after": "updated_at >= {}",
    "due_before": "due_at < {}",
}

# The characters that mean something in a pattern of LIKE.
LIKE_ESCAPES = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


def statement(caller: str, listing: Listing, known_revision: int) -> tuple[str, dict[str, Any]]:
    """Return the statement for one page, and one task more if there is one, with its parameters.

    Behind the columns of a task stand the values that it is sorted by (where that is not the id), the number of tasks
    on all pages (where that is requested), and the revision of the caller's list. When the list is at the known
    revision, there is no row.
    """
    conditions, parameters = conditions_of(listing)
    parameters |= {
        "caller": caller,
        "known_revision": known_revision,
        "rows": listing.limit + 1,
        "offset": listing.offset,
    }
    is_by_id = listing.sort[0].name == "id" and not listing.count
    names = {key.name: key.name if is_by_id else key.column for key in listing.sort}
    identifier = "id" if is_by_id else "page_id"
    beyond = "true"
    if listing.after is not None:
        beyond = _beyond(listing.sort, names, identifier, listing.after)
        parameters |= {f"last_{key.name}": value for key, value in zip(listing.sort, listing.after.values, strict=True)}
        parameters["last_id"] = listing.after.id
    order = _order(listing.sort, names, identifier)
    if is_by_id:
        conditions += [beyond] if listing.after is not None else []
        page = SQL["page_by_id"]
        # Without other filters the best plan for any user reads the key in its order until the page is full.
        simple = Filters(completed=listing.filters.completed, tz=listing.filters.tz)
        page = page if listing.filters == simple else str(page)
        return statements.fill(page, conditions=" AND ".join(conditions), order=order), parameters
    sql = statements.fill(
        SQL["counted_page" if listing.count else "page_by_keys"],
        keys=", ".join(f"{KEYS[key.name]} AS {key.column}" for key in listing.sort),
        key_names=", ".join(names.values()),
        conditions=" AND ".join(conditions),
        beyond=beyond,
        order=order,
    )
    return sql, parameters


def conditions_of(listing: Listing) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions that the tasks of a list meet, and their parameters."""
    filters = listing.filters
    conditions = ["user_id = %(caller)s"]
    conditions += ["completed" if completed else "NOT completed" for completed in filters.completed]
    parameters: dict[str, Any] = {}
    if filters.priorities:
        parameters["priorities"] = [priority for priority in filters.priorities if priority is not None]
        either = ["priority = ANY (%(priorities)s::priority[])"] if parameters["priorities"] else []
        either += ["priority IS NULL"] if None in filters.priorities else []
        conditions.append(f"({' OR '.join(either)})")
    if filters.tag_keys:
        parameters["tag_keys"] = list(filters.tag_keys)
        conditions.append("coalesce(tag_keys, tags) @> %(tag_keys)s::text[]")
    for name, condition in BOUNDS.items():
        if (moment := getattr(filters, name)) is not None:
            parameters[name] = moment
            bound = _due_bound(name, filters.tz, parameters) if name.startswith("due_") else f"%({name})s"
            conditions.append(condition.format(bound))
    if filters.overdue is not None:
        parameters["as_of"] = listing.as_of
        overdue = f"(NOT completed AND coalesce(due_at < {_due_bound('as_of', filters.tz, parameters)}, false))"
        conditions.append(overdue if filters.overdue else f"NOT {overdue}")
    # The longest word is mostly the rarest: where it is missing, the others need not be looked for.
    for number, spellings in enumerate(sorted(filters.words, key=lambda word: len(word[0]), reverse=True)):
        names = [f"word_{number}_{place}" for place in range(len(spellings))]
        patterns = [f"%{spelling.translate(LIKE_ESCAPES)}%" for spelling in spellings]
        parameters |= zip(names, patterns, strict=True)
        conditions.append(f"({' OR '.join(f'{text} LIKE %({name})s' for name in names for text in SEARCHED)})")
    return conditions, parameters


def _due_bound(name: str, tz: str, parameters: dict[str, Any]) -> str:
    """Return the SQL of the bound in the parameter of this name, with which `due_at` is compared.

    A due date that is a date is stored as the end of that date in UTC. In any other time zone it is compared as a date.
    """
    if tz == UTC_NAME:
        return f"%({name})s"
    parameters[f"{name}_date"] = dates.due(dates.date_in(ZoneInfo(tz), parameters[name])).at
    return f"CASE WHEN due_all_day THEN %({name}_date)s ELSE %({name})s END"


def _order(sort: Sequence[SortKey], names: Mapping[str, str], identifier: str) -> str:
    """Return the order: null comes last in both directions, and the id decides between equals."""
    order = [f"{names[key.name]}{' DESC' * key.descending}{' NULLS LAST' * (key.name in NULLABLE)}" for key in sort]
    return ", ".join(order if sort[-1].name == "id" else [*order, identifier])


def _beyond(sort: Sequence[SortKey], names: Mapping[str, str], identifier: str, last: Position) -> str:
    """Return the condition of the tasks after the last one.

    Key by key, they are beyond it, or equal and beyond it in the keys that follow.
    """
    beyond = f"{identifier} > %(last_id)s"
    for key, value in reversed(list(zip(sort, last.values, strict=True))):
        column, last_value = names[key.name], f"%(last_{key.name})s"
        further = f"{column} {'<' if key.descending else '>'} {last_value}"
        if key.name == "id":
            beyond = further
        elif key is sort[-1] and not key.descending and value is not None and key.name not in NULLABLE:
            # The same as one comparison, which computes the value of a row once.
            beyond = f"({column}, {identifier}) > ({last_value}, %(last_id)s)"
        elif value is None:
            beyond = f"({column} IS NULL AND {beyond})"
        else:
            or_null = f" OR {column} IS NULL" if key.name in NULLABLE else ""
            beyond = f"({further}{or_null} OR ({column} = {last_value} AND {beyond}))"
    return beyond
