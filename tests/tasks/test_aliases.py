"""Other names of parameters, values and members, and what forms send: each means what its canonical form means."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from support import assert_problem, bearer
from test_docs import ROOT, rows, section

from todo.http.requests import load_query
from todo.tasks.aliases import PARAMETER_ALIASES, SORT_ALIASES, STATUS_ALIASES
from todo.tasks.filters import TaskQuery

STRICT = {"Prefer": "handling=strict"}
COMPLETED_NAMES = ["is_completed", "is_complete", "complete", "is_done", "done", "isCompleted", "isComplete", "isDone"]

BEYOND = "begins 11000 after it: follow the `Link` of each page instead."

# As sent, and the canonical query.
SAME = [
    *((f"{name}=true", "completed=true") for name in COMPLETED_NAMES),
    ("is_completed=FALSE", "completed=false"),
    ("status_filter=pending", "status=pending"),
    ("statusFilter=Completed", "status=completed"),
    ("status=active", "status=pending"),
    ("status=done", "status=completed"),
    ("status=overdue", "overdue=true"),
    ("status=OVERDUE&overdue=true", "overdue=true"),
    ("status_filter=overdue", "overdue=true"),
    ("priority_filter=high,none", "priority=high,none"),
    ("priorityFilter=high&priorityFilter=none", "priority=high,none"),
    ("priority=all", ""),
    ("priority=All,high", ""),
    ("priority_filter=all", ""),
    ("priority[]=high&priority[]=none", "priority=high,none"),
    ("tags=home", "tag=home"),
    ("tags=home&tags=work", "tag=home&tag=work"),
    ("tags=home,%20work,", "tag=home&tag=work"),
    ("tags=,", ""),
    ("tags[]=home&tags[]=work", "tag=home&tag=work"),
    ("tag[]=a,b", "tag=a,b"),
    ("q=milk", "search=milk"),
    ("skip=2&limit=2", "offset=2&limit=2"),
    ("per_page=2", "limit=2"),
    ("page_size=2", "limit=2"),
    ("pageSize=2", "limit=2"),
    ("perPage=2", "limit=2"),
    ("page=1&limit=2", "limit=2"),
    ("page=2&limit=2", "offset=2&limit=2"),
    ("page=2&per_page=2", "offset=2&limit=2"),
    ("page=2&page_size=2", "offset=2&limit=2"),
    ("page=3&limit=2&offset=4", "offset=4&limit=2"),
    ("page=2", "offset=1000"),
    ("page=11", "offset=10000"),
    ("page=10001&limit=1", "offset=10000&limit=1"),
    ("sort_by=title&sort_order=desc", "sort=title&order=desc"),
    ("sortBy=title&sortOrder=desc", "sort=title&order=desc"),
    ("sort=due_at", "sort=due_date"),
    ("sort=-dueAt", "sort=-due_date"),
    ("sort=dueDate", "sort=due_date"),
    ("sort=DUEDATE", "sort=due_date"),
    ("sort=createdAt", "sort=created_at"),
    ("sort=-createdAt,title", "sort=-created_at,title"),
    ("sort=updatedAt&order=desc", "sort=updated_at&order=desc"),
    ("sort=newest", "sort=-created_at"),
    ("sort=created_newest", "sort=-created_at"),
    ("sort=oldest", "sort=created_at"),
    ("sort_by=created_oldest", "sort=created_at"),
    ("sort=newest&order=asc", "sort=-created_at&order=asc"),
    ("sort=oldest&order=desc", "sort=created_at&order=desc"),
    ("dueBefore=2026-03-01", "due_before=2026-03-01"),
    ("createdAfter=2026-03-01", "created_after=2026-03-01"),
    # A second name may be there where it says the same.
    ("q=Milk&search=milk", "search=milk"),
    ("limit=2&per_page=02", "limit=2"),
    ("limit=&per_page=2", "limit=2"),
    ("done=true&completed=TRUE&isCompleted=true", "completed=true"),
    ("status=done&status_filter=completed", "status=completed"),
    ("tag=a&tag=b&tags=b,a,a", "tag=a&tag=b"),
]


@pytest.fixture
def read(app):
    """Parse a query."""

    def read(query):
        with app.test_request_context(f"/?{query}"):
            return load_query(TaskQuery(), [], strict=True)

    return read


@pytest.mark.parametrize(("sent", "canonical"), SAME)
def test_alias_is_the_canonical_name(read, sent, canonical):
    # The question decides about the tag of a list, and its filters and order about the cursors.
    assert read(sent).question == read(canonical).question


@pytest.mark.parametrize(
    ("query", "parameter", "other"),
    [
        ("search=a&q=b", "q", "search"),
        ("q=b&search=a", "search", "q"),
        ("limit=2&per_page=3", "per_page", "limit"),
        ("page_size=2&per_page=3", "per_page", "page_size"),
        ("limit=2&per_page=x", "per_page", "limit"),
        ("offset=2&skip=0", "skip", "offset"),
        ("completed=true&done=false", "done", "completed"),
        ("done=true&isCompleted=false", "isCompleted", "done"),
        ("status=pending&status_filter=all", "status_filter", "status"),
        ("priority=high&priority_filter=all", "priority_filter", "priority"),
        ("tag=a&tags=a,b", "tags", "tag"),
        ("tag=a&tag[]=b", "tag[]", "tag"),
        ("sort=title&sort_by=-title", "sort_by", "sort"),
        ("order=asc&sortOrder=desc", "sortOrder", "order"),
    ],
)
def test_two_names_with_different_values_are_refused(client, user, query, parameter, other):
    problem = assert_problem(client.get(f"/api/me/tasks?{query}", headers=bearer(user)), 422)
    detail = f"{parameter} means the same as {other}, and must not have another value."
    assert problem["errors"] == [{"parameter": parameter, "detail": detail}]


@pytest.mark.parametrize(
    ("query", "parameter", "detail"),
    [
        ("page=0", "page", "must be a whole number from 1 to 10001."),
        ("page=-1&limit=5", "page", "must be a whole number from 1 to 10001."),
        ("page=two", "page", "must be a whole number from 1 to 10001."),
        ("page=2&limit=5&offset=0", "page", "must be the page that begins at offset, or be sent without it."),
        ("page=2&skip=0", "page", "must be the page that begins at offset, or be sent without it."),
        ("page=1&cursor=x", "page", "cannot be sent together with cursor."),
        ("skip=1&cursor=x", "skip", "cannot be sent together with cursor."),
        (
            "page=12",
            "page",
            f"must begin at most 10000 tasks after the first one, and page 12 of 1000 tasks {BEYOND}",
        ),
        ("per_page=0", "per_page", "must be a whole number from 1 to 1000."),
        ("pageSize=1001&page=1", "pageSize", "must be a whole number from 1 to 1000."),
        ("isCompleted=yes", "isCompleted", "must be true or false."),
        ("status_filter=urgent", "status_filter", "must be all, pending, completed or overdue."),
        ("status=overdue&overdue=false", "status", "cannot be overdue together with overdue=false."),
        (
            "tags=" + ",".join(f"t{n}" for n in range(21)),
            "tags",
            "must be given at most 20 times: no task has more tags.",
        ),
        ("tags[]=%00", "tags[]", "must not contain the NUL character (U+0000)."),
    ],
)
def test_bad_value_is_refused_by_the_name_that_was_sent(client, user, query, parameter, detail):
    problem = assert_problem(client.get(f"/api/me/tasks?{query}", headers=bearer(user)), 422)
    assert problem["errors"] == [{"parameter": parameter, "detail": f"{parameter} {detail}"}]


@pytest.fixture
def tasks(call):
    """Return seven tasks, of which five match the filters below."""
    made = [call("POST", "/tasks", title=f"t{n}", tags=["home", "work"], completed=True).json for n in range(5)]
    call("POST", "/tasks", title="open", tags=["home", "work"])
    call("POST", "/tasks", title="elsewhere", completed=True)
    return made


@pytest.mark.parametrize("sent", ["page=1&per_page=2", "page=1&page_size=2", "limit=2", "skip=0&pageSize=2"])
@pytest.mark.parametrize("filters", ["tags=home,work&isCompleted=true", "tag=home&tag=work&completed=true"])
def test_pages_of_aliases_are_those_of_canonical_names(client, call, tasks, sent, filters):
    canonical = "tag=home&tag=work&completed=true&limit=2"
    first, same = call("GET", f"/tasks?{filters}&{sent}"), call("GET", f"/tasks?{canonical}")
    assert first.json == same.json == tasks[:2]
    link = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])[1]
    query = parse_qsl(urlsplit(link).query)
    assert sorted(query[:-1]) == sorted(parse_qsl(canonical))
    assert query[-1][0] == "cursor"
    user = tasks[0]["user_id"]
    second = client.get(link, headers=bearer(user) | STRICT)
    assert second.json == tasks[2:4]
    # Each page can be asked for by its number, too.
    for number in (2, 3):
        page = call("GET", f"/tasks?{filters}&per_page=2&page={number}", headers=STRICT)
        assert page.json == tasks[2 * number - 2 : 2 * number]
        assert ("Link" in page.headers) is (number == 2)
    assert call("GET", f"/tasks?{filters}&per_page=2&page=4").json == []


def test_tag_of_a_list_is_the_same_by_every_name(call, tasks):
    tag = call("GET", "/tasks?limit=2&search=t&sort=-created_at&offset=2").headers["ETag"]
    for query in ("per_page=2&q=t&sort=newest&skip=2", "pageSize=2&q=T&sortBy=-createdAt&page=2"):
        response = call("GET", f"/tasks?{query}", headers={"If-None-Match": tag})
        assert response.status_code == 304, query
    assert call("GET", "/tasks?per_page=2&q=t&sort=newest&page=1").headers["ETag"] != tag


def test_overdue_as_a_status_is_the_filter_without_a_tag(call):
    overdue = call("POST", "/tasks", title="x", due_date="2020-01-01").json
    call("POST", "/tasks", title="done", due_date="2020-01-01", completed=True)
    call("POST", "/tasks", title="later")
    response = call("GET", "/tasks?status=overdue")
    assert response.json == [overdue]
    assert "ETag" not in response.headers
    assert call("GET", "/tasks?status=overdue&completed=true").json == []


def test_strict_takes_every_alias(call):
    values = {"limit": "5", "offset": "0", "completed": "true", "status": "all", "priority": "low", "tag": "x"}
    values |= {"search": "x", "sort": "title", "order": "asc"}
    for alias, name in PARAMETER_ALIASES.items():
        camel_case = re.sub("_([a-z])", lambda letter: letter[1].upper(), alias)
        for spelling in (alias, camel_case, f"{alias}[]"):
            response = call("GET", f"/tasks?{urlencode({spelling: values[name]})}", headers=STRICT)
            assert response.status_code == 200, spelling
            assert response.headers["Preference-Applied"] == "handling=strict"


def test_documentation_has_every_alias():
    table = rows(section(ROOT / "docs" / "api" / "lists.md", "Other names"))[1:]
    documented = {(name.strip("`"), alias) for name, also in table for alias in re.findall("`([^`]+)`", also)}
    assert documented == {
        *((name, alias) for alias, name in PARAMETER_ALIASES.items()),
        *((f"status={word}", alias) for alias, word in STATUS_ALIASES.items()),
        *((f"sort={word}", alias) for alias, word in SORT_ALIASES.items()),
    }


def test_trash_has_pages_by_the_same_names(call):
    made = [call("POST", "/tasks", title="x").json["id"] for _ in range(3)]
    for task in made:
        call("DELETE", f"/tasks/{task}")
    pages = [call("GET", f"/trash?page={number}&per_page=2", headers=STRICT) for number in (1, 2)]
    assert [[task["id"] for task in page.json] for page in pages] == [made[:0:-1], made[:1]]
    assert "limit=2&cursor=" in pages[0].headers["Link"]
    assert call("GET", "/trash?skip=2&pageSize=5").json == pages[1].json
    assert_problem(call("GET", "/trash?limit=2&per_page=3"), 422)


def test_changes_have_pages_by_the_same_names(call):
    for _ in range(3):
        call("POST", "/tasks", title="x")
    for name in ("limit", "per_page", "page_size", "pageSize"):
        assert len(call("GET", f"/tasks/changes?{name}=2", headers=STRICT).json["tasks"]) == 2


@pytest.fixture
def task(call):
    """Return an open task."""
    return call("POST", "/tasks", title="x").json


@pytest.mark.parametrize("name", ["completed", *COMPLETED_NAMES])
def test_complete_with_a_state_by_any_name_sets_it(call, task, name):
    path = f"/tasks/{task['id']}/complete"
    for value in (False, True, True, False, False):
        assert call("PATCH", path, headers=STRICT, **{name: value}).json["completed"] is value
    for word, value in (("true", True), ("True", True), ("false", False), ("false", False)):
        for data in (None, b"{}"):
            response = call("PATCH", f"{path}?{name}={word}", headers=STRICT, data=data)
            assert response.json["completed"] is value
    assert call("PATCH", f"{path}?{name}=true", **{name: True, "title": "ignored"}).json["completed"] is True


@pytest.mark.parametrize("name", ["completed", *COMPLETED_NAMES])
@pytest.mark.parametrize("value", [None, 1, 0, "true", "", [], {}], ids=repr)
def test_complete_with_a_state_that_is_no_boolean_is_refused_by_its_name(call, task, name, value):
    problem = assert_problem(call("PATCH", f"/tasks/{task['id']}/complete", **{name: value}), 422)
    rule = "must be true or false, not null." if value is None else "must be true or false."
    assert problem["errors"] == [{"pointer": f"#/{name}", "detail": f"{name} {rule}"}]
    assert call("GET", f"/tasks/{task['id']}").json == task


@pytest.mark.parametrize(
    ("query", "members", "where", "detail"),
    [
        ("", {"completed": True, "done": False}, {"pointer": "#/done"}, "done means the same as completed, and"),
        ("", {"done": True, "isDone": 1}, {"pointer": "#/isDone"}, "isDone means the same as done, and"),
        ("?done=true&completed=false", {}, {"parameter": "completed"}, "completed means the same as done, and"),
        (
            "?done=true",
            {"completed": False},
            {"parameter": "completed"},
            "completed means the same in the query and in the body, and",
        ),
    ],
)
def test_complete_with_states_that_differ_is_refused(call, task, query, members, where, detail):
    response = call("PATCH", f"/tasks/{task['id']}/complete{query}", **members)
    assert assert_problem(response, 422)["errors"] == [where | {"detail": f"{detail} must not have another value."}]
    assert call("GET", f"/tasks/{task['id']}").json == task


def test_complete_with_a_query_that_is_no_boolean_is_refused(call, task):
    for query in ("completed=yes", "is_completed=1", "done=on"):
        name = query.partition("=")[0]
        problem = assert_problem(call("PATCH", f"/tasks/{task['id']}/complete?{query}"), 422)
        assert problem["errors"] == [{"parameter": name, "detail": f"{name} must be true or false."}]


@pytest.mark.parametrize(("query", "data"), [("", b""), ("", b"{}"), ("?completed=", b""), ("?x=true", b'{"x": true}')])
def test_complete_without_a_state_toggles(call, task, query, data):
    path = f"/tasks/{task['id']}/complete{query}"
    assert [call("PATCH", path, data=data).json["completed"] for _ in range(3)] == [True, False, True]


def test_complete_by_an_alias_heeds_if_match(call, task):
    path, stale = f"/tasks/{task['id']}/complete", {"If-Match": '"0"'}
    assert_problem(call("PATCH", path, headers=stale, done=True), 412)
    assert_problem(call("PATCH", f"{path}?done=true", headers=stale), 412)
    assert call("PATCH", path, headers={"If-Match": f'"{task["revision"]}"'}, done=True).json["completed"] is True


ORGANISED = {"priority": "high", "due_date": "2026-03-01", "tags": ["before"]}


@pytest.mark.parametrize(
    ("member", "sent", "kept"),
    [
        ("due_date", "", None),
        ("due_date", " \t", None),
        ("priority", "", None),
        ("priority", "  ", None),
        ("priority", "none", None),
        ("priority", "None", None),
        ("priority", "NONE", None),
        ("tags", "", []),
        ("tags", " , ,", []),
        ("tags", "work", ["work"]),
        ("tags", "work, home", ["work", "home"]),
        ("tags", ",work,,  home ,", ["work", "home"]),
        ("tags", "Work,work, a b", ["Work", "a b"]),
        ("tags", ",".join(["x" * 50] * 3), ["x" * 50]),
        ("tags", ",".join(f"t{n}" for n in range(20)), [f"t{n}" for n in range(20)]),
    ],
)
def test_form_value_is_taken_as_what_it_means(call, member, sent, kept):
    created = call("POST", "/tasks", headers=STRICT, title="x", **{member: sent})
    assert (created.status_code, created.json[member]) == (201, kept)
    path = f"/tasks/{created.json['id']}"
    for method, others in (("PUT", {"title": "x"}), ("PATCH", {}), ("PATCH", {"description": ""})):
        call("PATCH", path, **ORGANISED)
        changed = call(method, path, headers=STRICT, **others, **{member: sent})
        assert (changed.status_code, changed.json[member]) == (200, kept)
        for name in ORGANISED.keys() - {member}:
            assert changed.json[name] == ORGANISED[name]
    assert call("GET", path).json[member] == kept


def test_form_values_are_the_same_creation_as_their_meaning(call):
    sent = [
        {"title": "x", "priority": "none", "due_date": "", "tags": "a, b"},
        {"title": "x", "priority": None, "due_date": None, "tags": ["a", "b"]},
        {"title": "x", "tags": ["a", "b"]},
    ]
    responses = [call("POST", "/tasks", headers={"Idempotency-Key": "k"}, **members) for members in sent]
    assert len({response.json["id"] for response in responses}) == 1
    assert [response.headers.get("Idempotent-Replayed") for response in responses] == [None, "true", "true"]


def test_form_tags_that_break_a_rule_are_refused_as_a_whole(call):
    for sent, rule in (
        ("ok," + "x" * 51, "must have 1 to 50 characters between commas, not counting white space around them."),
        (",".join(f"t{n}" for n in range(21)), "must have at most 20 entries."),
        ("a\0b", "must not contain the NUL character (U+0000): the database cannot hold one."),
    ):
        problem = assert_problem(call("POST", "/tasks", title="x", tags=sent), 422)
        assert problem["errors"] == [{"pointer": "#/tags", "detail": f"tags {rule}"}]
    assert call("GET", "/tasks").json == []
