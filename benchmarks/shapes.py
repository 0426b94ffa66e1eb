"""The questions that are asked of a table: the real statements, with values that fit the user."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from benchmarks.filling import AS_OF
from todo.database import statements
from todo.database.statements import Statement
from todo.http.dates import due
from todo.tasks import listing, queries, summary
from todo.tasks.filters import WORDS_MAX
from todo.tasks.listing import BY_ID, Filters, Listing, Position, SortKey
from todo.tasks.search import fold

PAGE = 50
FEW = 20

# No revision of a list: who knows none of them wants the page.
UNKNOWN = -1
NEVER = datetime(2099, 1, 1, tzinfo=UTC)
SORTS = ("created_at", "updated_at", "title", "due_date", "priority", "completed")

TAG_KEYS = text("""
    SELECT key FROM tasks, unnest(coalesce(tag_keys, tags)) AS key WHERE user_id = :caller
    GROUP BY key ORDER BY count(*) DESC, key
""")


@dataclass(frozen=True, slots=True)
class Shape:
    """One question.

    Attributes:
        name: What it is called in the tables.
        group: `instant`, `list` or `other`: which target it has.
        statement: What the application would run.
        parameters: And with what.

    """

    name: str
    group: str
    statement: Statement
    parameters: Mapping[str, Any]


def page_of(user: str, wanted: Listing) -> tuple[Statement, dict[str, Any]]:
    """Give the statement for a page of a user's list, as the application chooses it, and its parameters."""
    if parameters := listing.default_parameters(user, wanted):
        return listing.DEFAULT, {**parameters, "known": UNKNOWN}
    return listing.statement(user, wanted, UNKNOWN), {}


class Subject:
    """A user, and what about the user's tasks is frequent, rare, first and in the middle."""

    def __init__(self, user: str) -> None:
        """Look at the user's tasks."""
        self.user = user
        total = replace(Listing(as_of=AS_OF), limit=1, count=True)
        self.tasks: int = statements.read(listing.statement(user, total, UNKNOWN), {})[0].total
        middle = {"caller": user, "task": self.position(BY_ID, self.tasks // 2).id}
        self.title_words = tuple(fold(statements.read(queries.GET, middle)[0].title).split())[:WORDS_MAX]
        self.tag_keys = [row.key for row in statements.read(TAG_KEYS, {"caller": user})]

    def position(self, sort: tuple[SortKey, ...], place: int) -> Position:
        """Give where a page begins behind the task at this place of an order."""
        asked = Listing(sort=sort, limit=1, offset=place, as_of=AS_OF)
        row = statements.read(listing.statement(self.user, asked, UNKNOWN), {})[0]
        return Position(tuple(getattr(row, key.label) for key in sort), row.id, AS_OF)

    def edge(self, name: str, place: int) -> datetime:
        """Give the moment that so many tasks come after."""
        moment: datetime = self.position((SortKey(name, descending=True),), place).values[0]
        return moment

    def page(self, name: str, group: str = "list", **asked: Any) -> Shape:
        """Ask for a page of the list."""
        wanted = Listing(**({"limit": PAGE, "as_of": AS_OF} | asked))
        return Shape(name, group, *page_of(self.user, wanted))


def shapes(subject: Subject) -> Iterator[Shape]:
    """Give all questions about a user's tasks."""
    yield from _plain(subject)
    yield from _filtered(subject)
    yield from _searched(subject)
    yield from _sorted(subject)
    yield from _together(subject)
    yield from _counted(subject)
    moment = summary.Today(AS_OF, AS_OF + timedelta(days=1), due(AS_OF.date()), AS_OF)
    values = {"now": moment.now, "day": moment.due.at, "begin": moment.begin, "end": moment.end}
    yield Shape("summary", "other", summary.COUNTS, {"caller": subject.user, **values})


def _plain(subject: Subject) -> Iterator[Shape]:
    middle = subject.position(BY_ID, subject.tasks // 2)
    yield subject.page("first page, limit 50", "instant")
    yield subject.page("deep page by cursor, limit 50", "instant", after=middle)
    yield Shape("get one", "instant", queries.GET, {"caller": subject.user, "task": middle.id})
    yield subject.page("first page, limit 1000", "other", limit=1000)
    yield subject.page("deep page by cursor, limit 1000", "other", limit=1000, after=middle)
    yield subject.page("offset 10000", "other", offset=10_000)


def _filtered(subject: Subject) -> Iterator[Shape]:
    for name, filters in filters_of(subject).items():
        yield subject.page(f"filter {name}", filters=filters)
    deep = subject.position(BY_ID, subject.tasks // 2)
    yield subject.page("filter completed, deep page by cursor", filters=Filters(completed=(True,)), after=deep)


def filters_of(subject: Subject) -> dict[str, Filters]:
    """Give each filter, with many, few and no matches where a filter can have them."""
    often, rare = subject.tag_keys[0], subject.tag_keys[-1]
    given = {
        "completed=true: half": Filters(completed=(True,)),
        "completed=false: half": Filters(completed=(False,)),
        "completed=true and status=pending: none": Filters(completed=(False, True)),
        "priority=high: a sixth": Filters(priorities=("high",)),
        "priority=low,none: two thirds": Filters(priorities=("low", None)),
        "tag, the most frequent": Filters(tag_keys=(often,)),
        "tag, the rarest": Filters(tag_keys=(rare,)),
        "two tags, the rarest": Filters(tag_keys=(rare, subject.tag_keys[-2])),
        "tag: none": Filters(tag_keys=("nobody has this",)),
        "overdue=true: a quarter": Filters(overdue=True),
        "overdue=false: three quarters": Filters(overdue=False),
    }
    for name in ("created_at", "updated_at", "due_date"):
        after = {"created_at": "created_after", "updated_at": "updated_after", "due_date": "due_after"}[name]
        many = subject.edge(name, subject.tasks // 4)
        few = subject.edge(name, FEW)
        edges: dict[str, Any] = {"many": many, "few": few, "none": NEVER}
        given |= {f"{after}: {kind}": Filters(**{after: edges[kind]}) for kind in edges}
    last = subject.edge("due_date", subject.tasks // 4)
    return given | {
        "due_before: many": Filters(due_before=last),
        "due_before: none": Filters(due_before=datetime(2001, 1, 1, tzinfo=UTC)),
        "due_after and due_before, an hour": Filters(due_after=last, due_before=last + timedelta(hours=1)),
    }


def _searched(subject: Subject) -> Iterator[Shape]:
    for name, words in {
        "one word: many": ("report",),
        "one word with an accent: some": ("zurich",),
        "one word: none": ("nowherezz",),
        "three words: many": ("me", "re", "in"),
        "three words: some": ("invoice", "meeting", "milk"),
        "the words of one title: few": subject.title_words,
        "three words: none": ("nowherezz", "report", "xylophonezz"),
    }.items():
        yield subject.page(f"search {name}", filters=Filters(words=words))


def _sorted(subject: Subject) -> Iterator[Shape]:
    for name in SORTS:
        for descending in (False, True):
            yield from _order(subject, (SortKey(name, descending),))
    yield from _order(subject, (SortKey("priority", descending=True), SortKey("due_date")))
    yield from _order(subject, (SortKey("completed"), SortKey("updated_at", descending=True)))


def _order(subject: Subject, sort: tuple[SortKey, ...]) -> Iterator[Shape]:
    name = ",".join(f"{'-' if key.descending else ''}{key.name}" for key in sort)
    yield subject.page(f"sort {name}", sort=sort)
    # A page in the middle, and not among those without a value, which are the second half of some orders.
    middle = subject.position(sort, subject.tasks * 2 // 5)
    yield subject.page(f"sort {name}, deep page by cursor", sort=sort, after=middle)


def together(subject: Subject) -> dict[str, dict[str, Any]]:
    """Give what several filters, words and orders at once look like."""
    often = subject.tag_keys[0]
    some = Filters(
        completed=(False,),
        priorities=("high", None),
        tag_keys=(often,),
        created_after=subject.edge("created_at", subject.tasks * 9 // 10),
        words=("re",),
    )
    return {
        "filters, search, sort -updated_at": {
            "filters": some,
            "sort": (SortKey("updated_at", descending=True),),
        },
        "filters, search, sort -priority,title": {
            "filters": some,
            "sort": (SortKey("priority", descending=True), SortKey("title")),
        },
        "filters, three words without matches, sort title": {
            "filters": replace(some, words=("re", "me", "nowherezz")),
            "sort": (SortKey("title"),),
        },
        "completed=false, sort due_date": {"filters": Filters(completed=(False,)), "sort": (SortKey("due_date"),)},
        "tag, sort -created_at": {
            "filters": Filters(tag_keys=(often,)),
            "sort": (SortKey("created_at", descending=True),),
        },
        "search one word, sort due_date": {"filters": Filters(words=("report",)), "sort": (SortKey("due_date"),)},
    }


def _together(subject: Subject) -> Iterator[Shape]:
    for name, asked in together(subject).items():
        yield subject.page(name, **asked)


def _counted(subject: Subject) -> Iterator[Shape]:
    often = subject.tag_keys[0]
    deep = subject.position(BY_ID, subject.tasks // 2)
    counted: dict[str, dict[str, Any]] = {
        "all": {},
        "all, deep page by cursor": {"after": deep},
        "completed=false": {"filters": Filters(completed=(False,))},
        "tag": {"filters": Filters(tag_keys=(often,))},
        "due_after: many": {"filters": Filters(due_after=subject.edge("due_date", subject.tasks // 4))},
        "tag: none": {"filters": Filters(tag_keys=("nobody has this",))},
        "search one word": {"filters": Filters(words=("report",))},
        "sort -updated_at": {"sort": (SortKey("updated_at", descending=True),)},
        "sort title": {"sort": (SortKey("title"),)},
    }
    for name, asked in (counted | together(subject)).items():
        yield subject.page(f"count, {name}", "other", count=True, **asked)
