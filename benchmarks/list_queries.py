"""The queries of a list that are measured: the statements of the application, with values that suit the user."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from benchmarks.dataset import AS_OF
from todo.database import statements
from todo.http.dates import due
from todo.tasks import listing, queries, summary
from todo.tasks.filters import WORDS_MAX
from todo.tasks.listing import BY_ID, Filters, Listing, Position, SortKey
from todo.tasks.search import fold

PAGE = 50
FEW = 20

# The last revision of a client without an ETag, for which a statement always returns the page.
NO_REVISION = -1
NEVER = datetime(2099, 1, 1, tzinfo=UTC)
SORTS = ("created_at", "updated_at", "title", "due_date", "priority", "completed")

TAG_KEYS = """
    SELECT key FROM tasks, unnest(coalesce(tag_keys, tags)) AS key WHERE user_id = %(caller)s
    GROUP BY key ORDER BY count(*) DESC, key
"""


@dataclass(frozen=True, slots=True)
class Query:
    """A query to measure.

    Attributes:
        name: What it is called in the peer_dataset.
        group: `instant`, `list` or `other`: which target it has.
        statement: What the application would run.
        parameters: And with what.

    """

    name: str
    group: str
    statement: str
    parameters: Mapping[str, Any]


def page_of(user: str, page: Listing) -> tuple[str, dict[str, Any]]:
    """Return the statement for a page of a user's list, and its parameters."""
    return listing.statement(user, page, NO_REVISION)


class QueriedUser:
    """A user, with the values that are frequent, rare or in the middle among the user's tasks."""

    def __init__(self, user: str) -> None:
        self.id = user
        total = replace(Listing(as_of=AS_OF), limit=1, count=True)
        self.tasks: int = statements.read(*page_of(user, total))[0].total
        middle = {"caller": user, "task_id": self.position(BY_ID, self.tasks // 2).id}
        title = statements.read(queries.SQL["get_task"], middle)[0].title
        self.title_words = tuple(fold(title).split())[:WORDS_MAX]
        self.tag_keys = [row.key for row in statements.read(TAG_KEYS, {"caller": user})]

    def position(self, sort: tuple[SortKey, ...], place: int) -> Position:
        """Return the position after the task at this place of an order."""
        page = Listing(sort=sort, limit=1, offset=place, as_of=AS_OF)
        row = statements.read(*page_of(self.id, page))[0]
        return Position(tuple(row.id if key.name == "id" else getattr(row, key.column) for key in sort), row.id, AS_OF)

    def edge(self, name: str, place: int) -> datetime:
        """Return the date-time that this many tasks come after."""
        value: datetime = self.position((SortKey(name, descending=True),), place).values[0]
        return value

    def page(self, name: str, group: str = "list", **fields: Any) -> Query:
        """Return the query of a page of the list."""
        page = Listing(**({"limit": PAGE, "as_of": AS_OF} | fields))
        return Query(name, group, *page_of(self.id, page))


def queries_of(user: QueriedUser) -> Iterator[Query]:
    """Yield all queries of a user's tasks."""
    yield from _unfiltered(user)
    yield from _filtered(user)
    yield from _searched(user)
    yield from _sorted(user)
    yield from _combinations(user)
    yield from _counted(user)
    today = summary.Today(AS_OF, AS_OF + timedelta(days=1), due(AS_OF.date()), AS_OF)
    values = {"now": today.now, "day": today.due.at, "begin": today.begin, "end": today.end}
    yield Query("summary", "other", summary.SQL["count_tasks"], {"caller": user.id, **values})


def _unfiltered(user: QueriedUser) -> Iterator[Query]:
    middle = user.position(BY_ID, user.tasks // 2)
    yield user.page("first page, limit 50", "instant")
    yield user.page("deep page by cursor, limit 50", "instant", after=middle)
    yield Query("get one", "instant", queries.SQL["get_task"], {"caller": user.id, "task_id": middle.id})
    yield user.page("first page, limit 1000", "other", limit=1000)
    yield user.page("deep page by cursor, limit 1000", "other", limit=1000, after=middle)
    yield user.page("offset 10000", "other", offset=10_000)


def _filtered(user: QueriedUser) -> Iterator[Query]:
    for name, filters in filters_of(user).items():
        yield user.page(f"filter {name}", filters=filters)
    deep = user.position(BY_ID, user.tasks // 2)
    yield user.page("filter completed, deep page by cursor", filters=Filters(completed=(True,)), after=deep)


def filters_of(user: QueriedUser) -> dict[str, Filters]:
    """Return the filters, with many, few and no matches where that is possible."""
    frequent, rare = user.tag_keys[0], user.tag_keys[-1]
    filters = {
        "completed=true: half": Filters(completed=(True,)),
        "completed=false: half": Filters(completed=(False,)),
        "completed=true and status=pending: none": Filters(completed=(False, True)),
        "priority=high: a sixth": Filters(priorities=("high",)),
        "priority=low,none: two thirds": Filters(priorities=("low", None)),
        "tag, the most frequent": Filters(tag_keys=(frequent,)),
        "tag, the rarest": Filters(tag_keys=(rare,)),
        "two tags, the rarest": Filters(tag_keys=(rare, user.tag_keys[-2])),
        "tag: none": Filters(tag_keys=("no task has this",)),
        "overdue=true: a quarter": Filters(overdue=True),
        "overdue=false: three quarters": Filters(overdue=False),
    }
    for name in ("created_at", "updated_at", "due_date"):
        after = {"created_at": "created_after", "updated_at": "updated_after", "due_date": "due_after"}[name]
        many = user.edge(name, user.tasks // 4)
        few = user.edge(name, FEW)
        edges: dict[str, Any] = {"many": many, "few": few, "none": NEVER}
        filters |= {f"{after}: {kind}": Filters(**{after: edges[kind]}) for kind in edges}
    last = user.edge("due_date", user.tasks // 4)
    return filters | {
        "due_before: many": Filters(due_before=last),
        "due_before: none": Filters(due_before=datetime(2001, 1, 1, tzinfo=UTC)),
        "due_after and due_before, an hour": Filters(due_after=last, due_before=last + timedelta(hours=1)),
    }


def _searched(user: QueriedUser) -> Iterator[Query]:
    for name, words in {
        "one word: many": ("report",),
        "one word with an accent: some": ("zurich",),
        "one word: none": ("nowherezz",),
        "three words: many": ("me", "re", "in"),
        "three words: some": ("invoice", "meeting", "milk"),
        "the words of one title: few": user.title_words,
        "three words: none": ("nowherezz", "report", "xylophonezz"),
    }.items():
        yield user.page(f"search {name}", filters=Filters(words=tuple((word,) for word in words)))


def _sorted(user: QueriedUser) -> Iterator[Query]:
    for name in SORTS:
        for descending in (False, True):
            yield from _order(user, (SortKey(name, descending),))
    yield from _order(user, (SortKey("priority", descending=True), SortKey("due_date")))
    yield from _order(user, (SortKey("completed"), SortKey("updated_at", descending=True)))


def _order(user: QueriedUser, sort: tuple[SortKey, ...]) -> Iterator[Query]:
    name = ",".join(f"{'-' if key.descending else ''}{key.name}" for key in sort)
    yield user.page(f"sort {name}", sort=sort)
    # A page in the middle, before the tasks without a value, which are the second half of some orders.
    middle = user.position(sort, user.tasks * 2 // 5)
    yield user.page(f"sort {name}, deep page by cursor", sort=sort, after=middle)


def combinations(user: QueriedUser) -> dict[str, dict[str, Any]]:
    """Return pages with several filters, words and orders at once."""
    frequent = user.tag_keys[0]
    filters = Filters(
        completed=(False,),
        priorities=("high", None),
        tag_keys=(frequent,),
        created_after=user.edge("created_at", user.tasks * 9 // 10),
        words=("re",),
    )
    return {
        "filters, search, sort -updated_at": {
            "filters": filters,
            "sort": (SortKey("updated_at", descending=True),),
        },
        "filters, search, sort -priority,title": {
            "filters": filters,
            "sort": (SortKey("priority", descending=True), SortKey("title")),
        },
        "filters, three words without matches, sort title": {
            "filters": replace(filters, words=("re", "me", "nowherezz")),
            "sort": (SortKey("title"),),
        },
        "completed=false, sort due_date": {"filters": Filters(completed=(False,)), "sort": (SortKey("due_date"),)},
        "tag, sort -created_at": {
            "filters": Filters(tag_keys=(frequent,)),
            "sort": (SortKey("created_at", descending=True),),
        },
        "search one word, sort due_date": {"filters": Filters(words=("report",)), "sort": (SortKey("due_date"),)},
    }


def _combinations(user: QueriedUser) -> Iterator[Query]:
    for name, fields in combinations(user).items():
        yield user.page(name, **fields)


def _counted(user: QueriedUser) -> Iterator[Query]:
    frequent = user.tag_keys[0]
    deep = user.position(BY_ID, user.tasks // 2)
    counted: dict[str, dict[str, Any]] = {
        "all": {},
        "all, deep page by cursor": {"after": deep},
        "completed=false": {"filters": Filters(completed=(False,))},
        "tag": {"filters": Filters(tag_keys=(frequent,))},
        "due_after: many": {"filters": Filters(due_after=user.edge("due_date", user.tasks // 4))},
        "tag: none": {"filters": Filters(tag_keys=("no task has this",))},
        "search one word": {"filters": Filters(words=("report",))},
        "sort -updated_at": {"sort": (SortKey("updated_at", descending=True),)},
        "sort title": {"sort": (SortKey("title"),)},
    }
    for name, fields in (counted | combinations(user)).items():
        yield user.page(f"count, {name}", "other", count=True, **fields)
