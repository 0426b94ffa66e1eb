"""Lists compared with a model in plain Python: which tasks, in what order, on which page."""

import re
import unicodedata
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from urllib.parse import parse_qsl, quote, urlencode, urlsplit
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from support import assert_problem, bearer, config_for, new_user, plant

from todo import create_app
from todo.database import statements
from todo.extensions import db
from todo.tasks import filters, listing
from todo.tasks.listing import Listing, Position

MODEL = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))

LINK = re.compile(r'<(/[!-;=?-~]*)>; rel="next"')

# With so few characters texts often match, and each of these characters has caused a fault in some program.
LETTERS = ["a", "A", "b", "é", "É", "e", "e\u0301", "ß", "ss", "İ", "\u0131", "が", "か", "😀", "\u0001", "\u0327"]
LETTERS += ["%", "_", "\\", "'", ":a", " ", "ﬁ", "Ω", "ω", "Σ", "ς", "日"]
LETTERS += ["ł", "Ł", "l", "\u2019", "-", "\u2011", "\u200d", "\ufe0f"]
TEXTS = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=5).map("".join)
TITLES = TEXTS.filter(lambda words: set(words) - {" ", "\u0301", "\u0327", "\u200d", "\ufe0f"})
SPELLINGS_OF_TAGS = [
    "home",
    "HOME",
    " Home ",
    "Café",
    "CAFÉ",
    "cafe\u0301",
    "cafe",
    "Straße",
    "STRASSE",
    "a,b",
    "%",
    "_",
]
TAGS = st.lists(st.sampled_from(SPELLINGS_OF_TAGS) | TITLES, max_size=4)

PRIORITIES = ["low", "medium", "high", None]

# Long ago or far ahead, so that none of them passes during a test.
DAYS = [date(2020, 2, 28), date(2020, 2, 29), date(2020, 3, 1), date(2990, 1, 1)]
TIMES_OF_DAY = [
    timedelta(),
    timedelta(hours=12),
    timedelta(hours=23, minutes=59, seconds=59),
    timedelta(hours=23, minutes=59, seconds=59, microseconds=999_999),
]
MOMENTS = st.builds(
    lambda day, time: datetime(day.year, day.month, day.day, tzinfo=UTC) + time,
    st.sampled_from(DAYS),
    st.sampled_from(TIMES_OF_DAY),
)
DUES = st.none() | st.sampled_from(DAYS) | MOMENTS
ZONES = [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=9))]

STATUSES = {"all": None, "pending": False, "active": False, "incomplete": False, "todo": False}
STATUSES |= {"completed": True, "done": True}
SORTS = {"created_at": "created_at", "created": "created_at", "updated_at": "updated_at", "title": "title"}
SORTS |= {"due_date": "due_date", "priority": "priority", "completed": "completed"}


# The model.

FOLDED = str.maketrans({"ł": "l", "\u0131": "i", "\u2019": "'", "\u2010": "-", "\u200d": "", "\ufe0f": ""})


def folded(words):
    bare = (c for c in unicodedata.normalize("NFKD", words) if not unicodedata.combining(c))
    return "".join(bare).casefold().translate(FOLDED)


def caseless(tag):
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", tag.strip()).casefold())


def due_moment(due, zone=UTC):
    """Return the date-time at which a due date ends."""
    if due is None or isinstance(due, datetime):
        return due
    return first_moment(due + timedelta(days=1), zone) - timedelta(microseconds=1)


def first_moment(bound, zone=UTC):
    return bound if isinstance(bound, datetime) else datetime.combine(bound, time(), zone).astimezone(UTC)


def is_found(task, words):
    """Check whether each word occurs in one of the texts."""
    texts = [folded(part) for part in (task["title"], task["description"] or "", *task["tags"])]
    return all(any(word in part for part in texts) for word in folded(words).split())


def is_overdue(task, zone):
    due = due_moment(task["due"], zone)
    return not task["completed"] and due is not None and due < datetime.now(UTC)


KEEPS = {
    "status": lambda task, wanted, _: wanted is None or task["completed"] == wanted,
    "completed": lambda task, wanted, _: task["completed"] == wanted,
    "priority": lambda task, wanted, _: task["priority"] in wanted,
    "tag": lambda task, wanted, _: {caseless(tag) for tag in wanted} <= {caseless(tag) for tag in task["tags"]},
    "due_before": lambda task, wanted, zone: task["due"] and due_moment(task["due"], zone) < first_moment(wanted, zone),
    "due_after": lambda task, wanted, zone: task["due"] and due_moment(task["due"], zone) >= first_moment(wanted, zone),
    "created_after": lambda task, wanted, zone: task["created"] >= first_moment(wanted, zone),
    "updated_after": lambda task, wanted, zone: task["updated"] >= first_moment(wanted, zone),
    "overdue": lambda task, wanted, zone: is_overdue(task, zone) == wanted,
    "search": lambda task, wanted, _: is_found(task, wanted),
}

VALUES = {
    "id": lambda task: task["id"],
    "created_at": lambda task: task["created"],
    "updated_at": lambda task: task["updated"],
    "title": lambda task: folded(task["title"]),
    "due_date": lambda task: due_moment(task["due"]),
    "priority": lambda task: None if task["priority"] is None else PRIORITIES.index(task["priority"]),
    "completed": lambda task: task["completed"],
}


def listed(tasks, question):
    """Return the tasks that match a question, in the order that it requests."""
    wanted, zone = question["wanted"], ZoneInfo(question["zone"])
    found = [task for task in tasks if all(KEEPS[name](task, wish, zone) for name, wish in wanted.items())]
    found.sort(key=VALUES["id"])
    # A sort leaves equals as they are, so the least important key comes first.
    for name, down in reversed(question["order"]):
        value = VALUES[name]
        found = sorted((task for task in found if value(task) is not None), key=value, reverse=down) + [
            task for task in found if value(task) is None
        ]
    return found


# The parameters to send.


@st.composite
def spelt(draw, word):
    return draw(st.sampled_from([word, word.upper(), word.title(), f" {word} "]))


@st.composite
def written(draw, moment):
    """Format a date or a date-time, the latter with an offset or without one."""
    if not isinstance(moment, datetime):
        return moment.isoformat()
    zone = draw(st.sampled_from([None, *ZONES]))
    if zone is None:
        return moment.replace(tzinfo=None).isoformat()
    return moment.astimezone(zone).isoformat().replace("+00:00", draw(st.sampled_from(["Z", "z", "+00:00"])))


@st.composite
def tasks_to_make(draw):
    """Draw the body of a task, and its meaning."""
    due, priority = draw(DUES), draw(st.sampled_from(PRIORITIES))
    body = {
        "title": draw(TITLES),
        "description": draw(st.none() | TEXTS),
        "completed": draw(st.booleans()),
        "priority": draw(st.sampled_from([priority, priority.upper(), priority.title()])) if priority else None,
        "due_date": None if due is None else draw(written(due)),
        "tags": draw(TAGS),
    }
    made = draw(MOMENTS)
    return body, {
        "priority": priority,
        "due": due,
        "created": made,
        "updated": made + timedelta(seconds=draw(st.integers(0, 1))),
    }


@st.composite
def wants(draw, name):
    """Draw the meaning of one parameter, and ways to send it as pairs of a name and a value."""
    if name == "status":
        word = draw(st.sampled_from(sorted(STATUSES)))
        return STATUSES[word], [(name, draw(spelt(word)))]
    if name in ("completed", "overdue"):
        wanted = draw(st.booleans())
        return wanted, [(name, draw(spelt(str(wanted).lower())))]
    if name == "priority":
        wanted = draw(st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=3))
        words = [draw(spelt(priority or "none")) for priority in wanted]
        return wanted, draw(st.sampled_from([[(name, word) for word in words], [(name, ",".join(words))]]))
    if name == "tag":
        wanted = draw(st.lists(st.sampled_from(SPELLINGS_OF_TAGS), min_size=1, max_size=2))
        return wanted, [(name, tag) for tag in wanted]
    if name == "search":
        words = draw(TITLES | st.sampled_from(SPELLINGS_OF_TAGS))
        return words, [(draw(st.sampled_from(["search", "q"])), words)]
    bound = draw(st.sampled_from(DAYS) | MOMENTS)
    return bound, [(name, draw(written(bound)))]


@st.composite
def questions(draw):
    """Draw a question: the filters, the order, and the parameters to send."""
    wanted, ways = {}, []
    # Few filters, since a question with many seldom matches a task.
    for name in draw(st.lists(st.sampled_from(sorted(KEEPS)), unique=True, max_size=2)):
        wanted[name], pairs = draw(wants(name))
        ways.append(pairs)
    keys = draw(st.lists(st.tuples(st.sampled_from(sorted(SORTS)), st.booleans()), max_size=3))
    words = [f"{'-' if down else ''}{name}" for name, down in keys]
    names = st.sampled_from(["sort", "sort_by"])
    if keys:
        sort = draw(names)
        ways.append(draw(st.sampled_from([[(sort, ",".join(words))], [(sort, draw(spelt(word))) for word in words]])))
    turned = draw(st.sampled_from([None, "asc", "desc"]))
    if turned:
        ways.append([(draw(st.sampled_from(["order", "sort_order"])), draw(spelt(turned)))])
    zone = draw(st.sampled_from(["UTC", "Pacific/Auckland", "America/New_York"]))
    if zone != "UTC":
        ways.append([("tz", draw(spelt(zone)))])
    ways.append(draw(st.lists(st.sampled_from([("colour", "red"), ("priority", ""), ("due_after", " ")]), max_size=1)))
    order = [(SORTS[name], down or turned == "desc") for name, down in keys] or [("id", turned == "desc")]
    count = draw(st.sampled_from([None, "true", "false"]))
    if count:
        ways.append([("count", draw(spelt(count)))])
    return {
        "wanted": wanted,
        "zone": zone,
        "order": order,
        "sent": [pair for pairs in draw(st.permutations(ways)) for pair in pairs],
        "limit": draw(st.integers(1, 5)),
        "offset": draw(st.integers(0, 10)),
        "count": count == "true",
    }


class Caller:
    """A user with an empty list, who creates tasks and reads lists."""

    def __init__(self, app):
        self.app = app
        self.client = app.test_client()
        self.user = new_user()
        self.headers = bearer(self.user)

    def make(self, drawn):
        """Create tasks through the API, set back their times by SQL, and return them as the model has them."""
        made = []
        for body, meant in drawn:
            response = self.client.post("/api/me/tasks", headers=self.headers, json=body)
            assert response.status_code == 201, response.get_data(as_text=True)
            task = response.json
            tags = {}
            for tag in body["tags"]:
                tags.setdefault(caseless(tag), tag.strip())
            expected = {"title": body["title"].strip(), "description": body["description"]}
            expected |= {"completed": body["completed"], "priority": meant["priority"], "tags": list(tags.values())}
            expected["due_date"] = shown(meant["due"])
            assert task == task | expected
            task |= {"created_at": shown(meant["created"]), "updated_at": shown(meant["updated"])}
            made.append({**meant, **expected, "id": task["id"], "json": task})
        times = [{"id": task["id"], "created": task["created"], "updated": task["updated"]} for task in made]
        if times:
            with self.app.app_context(), db.engine.connect() as connection:
                # Like any other change this takes the next revision, so that the ETag of the list changes too.
                set_back = "UPDATE tasks SET created_at = :created, updated_at = :updated"
                connection.execute(text(f"{set_back} WHERE user_id = '{self.user}' AND id = :id"), times)
                numbers = text(f"SELECT id, revision FROM tasks WHERE user_id = '{self.user}'")
                revisions = {row.id: row.revision for row in connection.execute(numbers)}
            for task in made:
                task["json"]["revision"] = revisions[task["id"]]
        return made

    def delete(self, task):
        assert self.client.delete(f"/api/me/tasks/{task['id']}", headers=self.headers).status_code == 204

    def get(self, sent=(), path="/api/me/tasks"):
        """Return one page, the path of the next one if any, and the total if it is in the response."""
        response = self.client.get(f"{path}?{urlencode(sent)}" if sent else path, headers=self.headers)
        assert response.status_code == 200, response.get_data(as_text=True)
        link, total = response.headers.get("Link"), response.headers.get("X-Total-Count")
        return response.json, LINK.fullmatch(link)[1] if link else None, None if total is None else int(total)

    def walk(self, sent, between=lambda: None):
        """Follow the links, and return each page with the total."""
        tasks, following, total = self.get(sent)
        yield tasks, total
        followed = set()
        while following:
            # A client that comes to the same page again would loop for ever.
            assert following not in followed
            followed.add(following)
            between()
            tasks, following, total = self.get(path=following)
            yield tasks, total


def shown(moment):
    """Format a date or a date-time as responses do."""
    if isinstance(moment, datetime):
        return f"{moment.replace(tzinfo=None).isoformat()}Z"
    return None if moment is None else moment.isoformat()


def nodes(plan):
    """Return all nodes of a plan."""
    return [plan, *(node for below in plan.get("Plans", ()) for node in nodes(below))]


def sql(app, query, **values):
    with app.app_context(), db.engine.connect() as connection:
        result = connection.execute(text(query), values)
        return result.all() if result.returns_rows else []


@pytest.mark.slow
@given(drawn=st.lists(tasks_to_make(), min_size=5, max_size=9), asked=st.lists(questions(), min_size=8, max_size=8))
@pytest.mark.timeout(300)
@settings(MODEL, max_examples=50)
def test_list_with_any_question_is_the_list_of_the_model(app, drawn, asked):
    caller = Caller(app)
    tasks = caller.make(drawn)
    for question in asked:
        expected = [task["json"] for task in listed(tasks, question)]
        limit, offset, sent = question["limit"], question["offset"], question["sent"]
        total = len(expected) if question["count"] else None
        assert caller.get(sent) == (expected, None, total)
        pages = list(caller.walk([*sent, ("limit", limit)]))
        assert [task for page, _ in pages for task in page] == expected
        assert {len(page) for page, _ in pages[:-1]} <= {limit}
        assert len(pages) == max(1, -(-len(expected) // limit))
        assert {said for _, said in pages} == {total}
        page, following, said = caller.get([*sent, ("limit", limit), ("offset", offset)])
        assert (page, said) == (expected[offset : offset + limit], total)
        assert (following is not None) == (offset + limit < len(expected))


@pytest.mark.slow
@given(
    drawn=st.lists(tasks_to_make(), min_size=3, max_size=9),
    question=questions(),
    later=st.lists(tasks_to_make(), max_size=9),
    picks=st.lists(st.integers(0, 100), max_size=5),
)
@MODEL
def test_list_while_others_come_and_go_has_each_unchanged_task_once(app, drawn, question, later, picks):
    caller = Caller(app)
    tasks, coming = caller.make(drawn), iter(later)
    gone = set()

    def come_and_go():
        with suppress(StopIteration):
            caller.make([next(coming)])
        if picks and len(gone) < len(tasks):
            here = [task for task in tasks if task["id"] not in gone]
            leaving = here[picks.pop() % len(here)]
            caller.delete(leaving)
            gone.add(leaving["id"])

    sent = [*question["sent"], ("limit", question["limit"])]
    seen = [task["id"] for page, _ in caller.walk(sent, between=come_and_go) for task in page]
    assert len(seen) == len(set(seen))
    there = [task["id"] for task in listed(tasks, question)]
    assert [task for task in seen if task in there and task not in gone] == [task for task in there if task not in gone]


# Cases that the model does not cover.


@pytest.fixture
def caller(app):
    """Return a user with an empty list."""
    return Caller(app)


def make(caller, **members):
    response = caller.client.post("/api/me/tasks", headers=caller.headers, json={"title": "x"} | members)
    assert response.status_code == 201
    return response.json


def url_of(app):
    return app.extensions["config"].database_url


def make_many(caller, number):
    """Create tasks that differ in their titles alone."""
    plant(url_of(caller.app), [caller.user], number, title="task #")


def titles(caller, *sent):
    return [task["title"] for page, _ in caller.walk([*sent, ("limit", 2)]) for task in page]


def test_list_of_rows_from_before_the_columns_finds_and_sorts_them(caller):
    rows = [("Buy MILK", "Oat_", False), ("apples", None, True), ("Zebra", "100 %", True), ("éclair 😀", None, False)]
    sql(caller.app, "INSERT INTO task_lists (user_id, revision) VALUES (:user, 4)", user=caller.user)
    for revision, (title, description, completed) in enumerate(rows, 1):
        sql(
            caller.app,
            "INSERT INTO tasks (user_id, title, description, completed, created_at, updated_at, revision)"
            " VALUES (:user, :title, :description, :completed, '2020-01-01T00:00Z', '2020-01-02T00:00Z', :revision)",
            user=caller.user,
            title=title,
            description=description,
            completed=completed,
            revision=revision,
        )
    assert titles(caller) == ["Buy MILK", "apples", "Zebra", "éclair 😀"]
    assert titles(caller, ("sort", "title")) == ["apples", "Buy MILK", "Zebra", "éclair 😀"]
    assert titles(caller, ("sort", "-title")) == ["éclair 😀", "Zebra", "Buy MILK", "apples"]
    assert titles(caller, ("q", "milk")) == ["Buy MILK"]
    assert titles(caller, ("q", "OAT_")) == ["Buy MILK"]
    assert titles(caller, ("q", "%")) == ["Zebra"]
    assert titles(caller, ("q", "clair 😀")) == ["éclair 😀"]
    assert titles(caller, ("sort", "-completed")) == ["apples", "Zebra", "Buy MILK", "éclair 😀"]
    for nullable in ("due_date", "priority", "-due_date", "-priority", "created_at", "-updated_at"):
        assert titles(caller, ("sort", nullable)) == [title for title, _, _ in rows]
    assert titles(caller, ("priority", "none"), ("overdue", "false")) == [title for title, _, _ in rows]
    assert titles(caller, ("tag", "x")) == []
    tasks, _, _ = caller.get()
    assert [task["tags"] for task in tasks] == [[]] * 4
    assert [task["completed_at"] for task in tasks] == [None, "2020-01-02T00:00:00Z", "2020-01-02T00:00:00Z", None]
    # A change by this version writes the columns that the older one did not have.
    path = f"/api/me/tasks/{tasks[3]['id']}"
    caller.client.patch(path, headers=caller.headers, json={"title": tasks[3]["title"]})
    assert titles(caller, ("q", "ECLAIR")) == ["éclair 😀"]


def test_bounds_are_exclusive_at_the_end_and_inclusive_at_the_beginning(caller):
    day, last, first = (
        make(caller, title=due, due_date=due)["title"]
        for due in ("2026-03-01", "2026-03-01T23:59:59.999999Z", "2026-03-02T01:00:00+01:00")
    )
    make(caller, title="never")
    last_moment = "2026-03-01T23:59:59.999999Z"
    assert titles(caller, ("due_before", "2026-03-02")) == [day, last]
    assert titles(caller, ("due_after", "2026-03-02")) == [first]
    assert titles(caller, ("due_before", last_moment)) == []
    assert titles(caller, ("due_after", last_moment)) == [day, last, first]
    assert titles(caller, ("due_before", "2026-03-02T00:00:00.000001Z"), ("due_after", "2026-03-01")) == [
        day,
        last,
        first,
    ]
    task = caller.get()[0][-1]
    for parameter, moment in (("created_after", task["created_at"]), ("updated_after", task["updated_at"])):
        assert titles(caller, (parameter, moment)) == ["never"]
        after = datetime.fromisoformat(moment) + timedelta(microseconds=1)
        assert titles(caller, (parameter, after.isoformat())) == []


def test_list_without_tasks_is_empty_and_counts_none(caller):
    for sent in ([], [("limit", "1")], [("sort", "-title,due_date")], [("q", "x"), ("offset", "5")]):
        assert caller.get(sent) == ([], None, None)
        assert caller.get([*sent, ("count", "true")]) == ([], None, 0)


def test_list_of_1001_tasks_without_a_limit_is_1000_and_a_link(caller):
    make_many(caller, 1000)
    tasks, following, _ = caller.get()
    assert len(tasks) == 1000
    assert following is None
    last = make(caller)
    page, following, _ = caller.get()
    assert page == tasks
    assert caller.get(path=following) == ([last], None, None)
    assert caller.get([("count", "true")])[2] == 1001
    assert caller.get([("offset", "1000")]) == ([last], None, None)
    assert caller.get([("offset", "10000"), ("count", "true")]) == ([], None, 1001)


@pytest.mark.plain
def test_list_by_default_walks_through_the_key_and_sorts_nothing(caller):
    users = [caller.user, new_user(), new_user()]
    plant(url_of(caller.app), users, 5000)
    sql(caller.app, "ANALYZE tasks")
    # If a list is hardly longer than the page, PostgreSQL may prefer to fetch all rows and sort them.
    now = datetime.now(UTC)
    for asked in (Listing(as_of=now), Listing(as_of=now, limit=20), Listing(as_of=now, after=Position((1,), 1, now))):
        statement, parameters = listing.statement(caller.user, asked, -1)
        with caller.app.app_context():
            (((answer,),),) = statements.read(f"EXPLAIN (FORMAT JSON) {statement}", parameters)
        limits = [node for node in nodes(answer["Plan"]) if node["Node Type"] == "Limit"]
        assert [node["Node Type"] for node in nodes(answer["Plan"]) if "Seq" in node["Node Type"]] == []
        ((scan,),) = (limit["Plans"] for limit in limits)
        assert (scan["Node Type"], scan.get("Index Name")) == ("Index Scan", "pk_tasks")
        assert "Plans" not in scan
        assert "Filter" not in scan
    sql(caller.app, "DELETE FROM tasks WHERE user_id = ANY(:users)", users=users)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "?limit=2",
        "?limit=2&sort=-title,due_date&order=desc&overdue=false&q=x",
        "?limit=2&count=true",
        "?limit=2&count=true&offset=10",
        "?count=true&sort=title&tag=a&tag=b",
        "/summary",
        "/summary?tz=Europe/Prague",
    ],
)
@pytest.mark.unprepared
def test_page_of_any_kind_is_one_statement_that_starts_from_the_caller(proxied, proxy, path):
    caller = Caller(proxied)
    for _ in range(3):
        make(caller)
    proxy.queries.clear()
    response = caller.client.get(f"/api/me/tasks{path}", headers=caller.headers)
    assert response.status_code == 200
    (query,) = proxy.queries
    assert f"user_id = '{caller.user}'" in query
    if "Link" in response.headers:
        proxy.queries.clear()
        caller.get(path=LINK.fullmatch(response.headers["Link"])[1])
        (query,) = proxy.queries
        assert f"user_id = '{caller.user}'" in query


class Clock(datetime):
    """A clock that stands still until it is set."""

    time = datetime(2026, 3, 1, 12, tzinfo=UTC)

    @classmethod
    def now(cls, tz=None):
        return cls.time.astimezone(tz)


@pytest.fixture
def clock(monkeypatch):
    """Return the clock that decides what is overdue."""
    monkeypatch.setattr(Clock, "time", Clock.time)
    monkeypatch.setattr(filters, "datetime", Clock)
    return Clock


def test_overdue_is_on_every_page_what_it_was_on_the_first(caller, clock):
    dues = ["2026-03-01T11:59:59Z", "2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z", "2026-03-01", None]
    made = [make(caller, due_date=due)["id"] for due in dues]

    def days_pass():
        clock.time += timedelta(days=1)

    for overdue, expected in (("true", made[:1]), ("false", made[1:])):
        clock.time = datetime(2026, 3, 1, 12, tzinfo=UTC)
        sent = [("overdue", overdue), ("limit", 1), ("count", "true")]
        pages = list(caller.walk(sent, between=days_pass))
        assert [task["id"] for page, _ in pages for task in page] == expected
        assert [total for _, total in pages] == [len(expected)] * len(expected)
    # Only a first page reads the clock again.
    assert [task["id"] for task in caller.get([("overdue", "true")])[0]] == made[:4]


def test_link_keeps_what_the_client_sent_but_the_offset_and_what_is_empty(caller):
    for _ in range(4):
        make(caller, tags=["a b", "ů&="])
    sent = [("tag", "A B"), ("tag", "ů&="), ("limit", "1"), ("offset", "1"), ("colour", 'a+b%20"<>é'), ("q", "")]
    page, following, _ = caller.get(sent)
    query = parse_qsl(urlsplit(following).query, keep_blank_values=True)
    assert query[:-1] == [pair for pair in sent if pair[0] not in ("offset", "q")]
    assert query[-1][0] == "cursor"
    following_page, after, _ = caller.get(path=following)
    assert following_page[0]["id"] > page[0]["id"]
    assert [name for name, _ in parse_qsl(urlsplit(after).query, keep_blank_values=True)].count("cursor") == 1
    last_page, end, _ = caller.get(path=after)
    assert last_page[0]["id"] > following_page[0]["id"]
    assert end is None


@pytest.mark.parametrize("user", ["plain", "a b", "é 😀", 'q?#%41&"<>', "+;,:@!$'()*~"])
@pytest.mark.parametrize("trailing", ["", "/"])
def test_link_works_for_me_and_for_an_id_that_needs_encoding(caller, user, trailing):
    caller.user = f"{user} {new_user()}"
    caller.headers = bearer(caller.user)
    made = [make(caller)["id"] for _ in range(3)]
    for path in ("/api/me/tasks", f"/api/{quote(caller.user, safe='')}/tasks"):
        page, following, _ = caller.get([("limit", "2")], path=f"{path}{trailing}")
        assert following.startswith(f"{path}?") or "me" not in path
        rest, end, _ = caller.get(path=following)
        assert [task["id"] for task in page + rest] == made
        assert end is None


def test_link_and_total_are_readable_for_browsers_of_other_origins(caller):
    for _ in range(2):
        make(caller)
    headers = caller.headers | {"Origin": "http://localhost:3000"}
    response = caller.client.get("/api/me/tasks?limit=1&count=true", headers=headers)
    exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
    assert {"Link", "X-Total-Count"} <= set(exposed)


def test_head_gives_the_headers_of_get(caller, clock):
    for _ in range(2):
        make(caller)
    for path in ("/api/me/tasks?limit=1&count=true", "/api/me/tasks?limit=2", "/api/me/tasks/summary"):
        got, headed = (caller.client.open(path, method=method, headers=caller.headers) for method in ("GET", "HEAD"))
        assert headed.get_data() == b""
        for response in (got, headed):
            for name in ("X-Request-ID", "traceparent", "Server-Timing"):
                del response.headers[name]
        assert dict(headed.headers) == dict(got.headers)
        assert ("Link" in got.headers) == ("limit=1" in path)


@pytest.mark.parametrize("zone", ["America/New_York", "Pacific/Kiritimati"])
def test_pages_do_not_depend_on_the_time_zone_of_the_session(database_url, zone):
    options = f"options=-c%20TimeZone%3D{zone}"
    app = create_app(config_for(f"{database_url}{'&' if '?' in database_url else '?'}{options}"))
    caller = Caller(app)
    dues = ["0001-01-01", "0001-01-01T00:00:00Z", "2026-03-01", "9999-12-31T23:59:59.999999Z", "9999-12-31"]
    made = [make(caller, due_date=due)["id"] for due in dues]
    for count in ("false", "true"):
        # The last two end at the same date-time, and the later one of them comes first.
        for sort, order in (("due_date", [1, 0, 2, 4, 3]), ("-due_date", [4, 3, 2, 0, 1])):
            pages = caller.walk([("sort", f"{sort},-created_at"), ("limit", 1), ("count", count)])
            assert [made.index(task["id"]) for page, _ in pages for task in page] == order
    with app.app_context():
        db.engine.dispose()


def test_titles_that_grow_when_folded_are_on_one_page_each(caller):
    # Each of these characters is eighteen when it is folded.
    made = [make(caller, title="\ufdfa" * 200)["id"] for _ in range(3)]
    for sort in ("title", "-title"):
        pages = caller.walk([("sort", sort), ("limit", 1)])
        assert [task["id"] for page, _ in pages for task in page] == made


def test_list_never_shows_a_task_of_another_that_has_the_same_number(caller):
    owners = [caller.user, new_user()]
    # The sequence never returns a number twice, although the table could store it.
    sql(caller.app, "INSERT INTO task_lists SELECT owner, 1 FROM unnest(CAST(:users AS text[])) owner", users=owners)
    same = """
        INSERT INTO tasks (id, user_id, title, revision)
        SELECT -1, owner, owner, 1 FROM unnest(CAST(:users AS text[])) owner
    """
    sql(caller.app, same, users=owners)
    for sent in ([], [("count", "true")], [("sort", "title")], [("sort", "title"), ("count", "true")]):
        tasks, _, _ = caller.get(sent)
        assert [task["title"] for task in tasks] == [caller.user]


def test_cursor_of_another_user_shows_the_own_list_alone(caller, app):
    for _ in range(3):
        make(caller)
    stranger = Caller(app)
    own = make(stranger)
    _, following, _ = caller.get([("limit", "1")])
    assert caller.get(path=following)[0]
    assert stranger.get(path=following) == ([own], None, None)
    assert_problem(caller.client.get(following), 401)
