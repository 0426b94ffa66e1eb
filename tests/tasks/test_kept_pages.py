"""Kept pages: sent again only while they are true, bounded, and with no trace in any response."""

import math
import re
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import assert_problem, bearer, call_as, config_for, new_user, open_app, plant
from tasks.test_list_model import questions, tasks_to_make
from wire.server import query

from todo import create_app
from todo.extensions import db
from todo.http.pagination import decode_cursor
from todo.tasks import cursors, kept_pages
from todo.tasks.kept_pages import (
    AGE_MAX_S,
    COUNTED_MIN_BYTES,
    ENTRY_BYTES,
    MIB,
    PAGE_MAX_BYTES,
    TABLE_PART,
    KeptPages,
    PageBody,
)
from todo.telemetry.lists import PageSource, page_found

CLIENT, KEPT, DATABASE = PageSource
CURSOR = re.compile(r"(?<=cursor=)[\w-]+")
OF_THE_REQUEST = ("Server-Timing", "traceparent", "X-Request-ID")
ORIGIN = "https://app.example.com"


@pytest.fixture
def sources():
    """Return where the pages come from that are requested in this process, in order."""
    found = []

    def note(source):
        found.append(source)

    with page_found.connected_to(note):
        yield found


@pytest.fixture
def processes(database_url):
    """Return a function that makes another application with these settings, as another process has it."""
    apps = []

    def make(**changes):
        apps.append(create_app(config_for(database_url, **changes)))
        return apps[-1].test_client()

    yield make
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def shown(response):
    """Return what a client sees of a response, but for what each request has of its own, and the time in cursors."""
    headers = [(name, value) for name, value in response.headers if name not in OF_THE_REQUEST]
    return response.status_code, [(name, CURSOR.sub(position, value)) for name, value in headers], response.get_data()


def position(cursor):
    """Return what a cursor says but for the time at which its first page was read, which only overdue lists need."""
    digest, values, last_id, _ = decode_cursor(cursor[0], cursors.VERSION, 4)
    return str([digest, values, last_id])


# The four outcomes


LISTS = ["/tasks", "/tasks?limit=2", "/tasks?sort=-title,due_date&limit=1", "/tasks?count=true&limit=1"]
LISTS += ["/tasks?status=pending&priority=none&tag=a", "/tasks?q=nothing&count=true", "/tasks?due_before=2026-03-01"]


@pytest.mark.parametrize("path", LISTS)
def test_page_that_is_kept_is_sent_again_in_one_round_trip(proxied, proxy, user, sources, path):
    call = call_as(proxied.test_client(), user)
    for number in range(3):
        call("POST", "/tasks", title=f"x{number}", tags=["a"], due_date="2026-02-28")
    first = call("GET", path)
    proxy.queries.clear()
    others = [call("GET", path) for _ in range(3)]
    assert sources == [DATABASE, KEPT, KEPT, KEPT]
    assert len(proxy.queries) == 3
    assert [shown(other) for other in others] == [shown(first)] * 3


def test_page_that_the_client_has_is_not_modified_in_one_round_trip(proxied, proxy, user, sources):
    call = call_as(proxied.test_client(), user)
    etag = call("GET", "/tasks").headers["ETag"]
    proxy.queries.clear()
    assert call("GET", "/tasks", {"If-None-Match": etag}).status_code == 304
    assert sources == [DATABASE, CLIENT]
    assert len(proxy.queries) == 1


def test_page_after_a_write_is_read_and_kept_in_the_place_of_the_one_before(proxied, proxy, user, sources):
    call = call_as(proxied.test_client(), user)
    before = call("GET", "/tasks").headers["ETag"]
    task = call("POST", "/tasks", title="x").json
    proxy.queries.clear()
    after = [call("GET", "/tasks", headers) for headers in ({}, {"If-None-Match": before})]
    assert sources == [DATABASE, DATABASE, KEPT]
    assert len(proxy.queries) == 2
    assert [response.json for response in after] == [[task]] * 2
    with proxied.app_context():
        assert kept_pages.current().size() == COUNTED_MIN_BYTES


@pytest.mark.parametrize("overdue", ["/tasks?overdue=true", "/tasks?overdue=false", "/tasks?status=overdue"])
def test_page_that_changes_with_time_is_never_kept(proxied, proxy, user, sources, overdue):
    call = call_as(proxied.test_client(), user)
    call("GET", overdue)
    proxy.queries.clear()
    assert "ETag" not in call("GET", overdue, {"If-None-Match": '"1"'}).headers
    assert sources == [DATABASE, DATABASE]
    assert len(proxy.queries) == 1
    with proxied.app_context():
        assert kept_pages.current().size() == 0


# Revisions of the client and of the kept page


def test_client_with_a_newer_page_than_the_kept_one_has_the_newest(processes, user, sources):
    here, there = (call_as(processes(), user) for _ in range(2))
    here("GET", "/tasks")
    there("POST", "/tasks", title="x")
    newer = there("GET", "/tasks").headers["ETag"]
    sources.clear()
    assert here("GET", "/tasks", {"If-None-Match": newer}).status_code == 304
    assert [task["title"] for task in here("GET", "/tasks").json] == ["x"]
    assert here("GET", "/tasks").headers["ETag"] == newer
    assert sources == [CLIENT, DATABASE, KEPT]


def test_client_with_a_newer_page_that_is_out_of_date_too_gets_the_newest(processes, user, sources):
    here, there = (call_as(processes(), user) for _ in range(2))
    here("GET", "/tasks")
    there("POST", "/tasks", title="x")
    newer = there("GET", "/tasks").headers["ETag"]
    there("POST", "/tasks", title="y")
    sources.clear()
    response = here("GET", "/tasks", {"If-None-Match": newer})
    assert [task["title"] for task in response.json] == ["x", "y"]
    assert here("GET", "/tasks", {"If-None-Match": newer}).get_data() == response.get_data()
    assert sources == [DATABASE, KEPT]


def test_client_with_an_etag_of_another_query_gets_the_kept_page(call, sources):
    call("POST", "/tasks", title="x")
    other = call("GET", "/tasks?limit=1").headers["ETag"]
    first = call("GET", "/tasks")
    sources.clear()
    second = call("GET", "/tasks", {"If-None-Match": f'{other}, "{2**40}", "x"'})
    assert shown(second) == shown(first)
    assert sources == [KEPT]


def test_client_with_the_etag_of_a_revision_to_come_gets_what_is_there(call, sources):
    etag = call("GET", "/tasks").headers["ETag"]
    forged = etag.replace('"0-', f'"{"9" * 18}-')
    assert call("GET", "/tasks", {"If-None-Match": forged}).headers["ETag"] == etag
    assert call("GET", "/tasks").headers["ETag"] == etag
    assert sources == [DATABASE, DATABASE, KEPT]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_preconditions_are_evaluated_on_a_kept_page_as_on_any_other(processes, user, method):
    kept, read = (call_as(processes(KEPT_PAGES_MIB=mib), user) for mib in ("8", "0"))
    kept("POST", "/tasks", title="x")
    etag = kept("GET", "/tasks").headers["ETag"]
    cases = [{}, {"If-None-Match": "*"}, {"If-None-Match": etag}, {"If-None-Match": f'W/{etag}, "x"'}]
    cases += [{"If-Match": "*"}, {"If-Match": etag}, {"If-Match": etag, "If-None-Match": etag}]
    for headers in cases:
        assert shown(kept(method, "/tasks", headers)) == shown(read(method, "/tasks", headers))
    statuses = [kept(method, "/tasks", headers).status_code for headers in cases]
    assert statuses == [200, 304, 304, 304, 200, 200, 304]
    assert_problem(kept("GET", "/tasks", {"If-Match": '"x"'}), 412)


# What a body depends on


def test_users_share_no_page(app, sources):
    calls = [call_as(app.test_client(), new_user()) for _ in range(2)]
    for number, call in enumerate(calls):
        call("POST", "/tasks", title=f"of user {number}")
    titles = [[task["title"] for call in calls for task in call("GET", "/tasks").json] for _ in range(2)]
    assert titles == [["of user 0", "of user 1"]] * 2
    assert sources == [DATABASE, DATABASE, KEPT, KEPT]


def test_headers_of_a_kept_page_are_those_of_its_request(client, user, sources):
    for number in range(3):
        client.post("/api/me/tasks", headers=bearer(user), json={"title": f"x{number}"})
    first = client.get("/api/me/tasks?limit=1", headers=bearer(user))
    second = client.get(f"/api/{user}/tasks?per_page=1&colour=red", headers=bearer(user) | {"Origin": ORIGIN})
    assert sources == [DATABASE, KEPT]
    assert (first.data, first.headers["ETag"]) == (second.data, second.headers["ETag"])
    assert first.headers["Link"].startswith("</api/me/tasks?limit=1&cursor=")
    assert second.headers["Link"].startswith(f"</api/{user}/tasks?limit=1&colour=red&cursor=")
    assert "Access-Control-Allow-Origin" not in first.headers
    assert second.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


def test_kept_page_follows_from_another_kept_page(call, sources):
    for number in range(5):
        call("POST", "/tasks", title=f"x{number}")
    walks = []
    for _ in range(2):
        path, titles = "?limit=2", []
        while path:
            page = call("GET", f"/tasks{path}")
            titles += [task["title"] for task in page.json]
            path = page.headers.get("Link", "").partition("/tasks")[2].partition(">")[0]
        walks.append(titles)
    assert walks == [[f"x{number}" for number in range(5)]] * 2
    assert sources == [DATABASE] * 3 + [KEPT] * 3


@pytest.mark.parametrize("words", ["envelope", "mirrors", "envelope,mirrors"])
def test_dialect_adapts_a_kept_page_as_any_other(processes, user, sources, words):
    plain, adapted = call_as(processes(), user), call_as(processes(COMPATIBILITY=words), user)
    for number in range(3):
        plain("POST", "/tasks", title=f"x{number}")
    first = adapted("GET", "/tasks?limit=2")
    second = adapted("GET", "/tasks?limit=2")
    assert sources == [DATABASE, KEPT]
    assert shown(second) == shown(first)
    assert ("is_completed" in first.text) == ("mirrors" in words)
    assert first.text.startswith("{" if "envelope" in words else "[")


@pytest.mark.slow
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_responses_with_kept_pages_are_those_without(app, without_pages, data):
    user = new_user()
    kept, read = (call_as(one.test_client(), user) for one in (app, without_pages))
    asked = data.draw(st.lists(questions(), min_size=1, max_size=3))
    paths = [question["sent"] + [("limit", question["limit"])] * data.draw(st.integers(0, 1)) for question in asked]
    ids, etags = [], ['"1"', "*"]
    for step in data.draw(st.lists(st.sampled_from(["create", "change", "delete", *["list"] * 6]), max_size=20)):
        if step == "create":
            body, _ = data.draw(tasks_to_make())
            ids.append(kept("POST", "/tasks", **body).json["id"])
        elif step == "change" and ids:
            read("PATCH", f"/tasks/{data.draw(st.sampled_from(ids))}/complete")
        elif step == "delete" and ids:
            kept("DELETE", f"/tasks/{ids.pop()}")
        else:
            sent = data.draw(st.sampled_from(paths))
            method = data.draw(st.sampled_from(["GET", "GET", "HEAD"]))
            headers = {"If-None-Match": data.draw(st.sampled_from(etags))} if data.draw(st.booleans()) else {}
            expected = read(method, "/tasks", headers, query=sent)
            assert shown(kept(method, "/tasks", headers, query=sent)) == shown(expected)
            etags.append(expected.headers.get("ETag", "*"))


@pytest.fixture(scope="module")
def without_pages(database_url):
    """Return the application that keeps no pages."""
    with open_app(database_url, KEPT_PAGES_MIB="0") as app:
        yield app


def test_setting_of_nothing_keeps_nothing(processes, user, sources):
    client = processes(KEPT_PAGES_MIB="0")
    call = call_as(client, user)
    assert call("GET", "/tasks").get_data() == call("GET", "/tasks").get_data()
    assert sources == [DATABASE, DATABASE]
    with client.application.app_context():
        assert kept_pages.current().size() == 0


# Revisions that could come back


def test_page_of_an_erased_user_is_not_sent(call, user, sources):
    call("POST", "/tasks", title="secret")
    call("GET", "/tasks")
    assert call("DELETE", "", {"Confirm": user}).status_code == 204
    assert call("GET", "/tasks").json == []
    task = call("POST", "/tasks", title="anew").json
    assert [call("GET", "/tasks").json for _ in range(2)] == [[task]] * 2
    assert sources == [DATABASE, DATABASE, DATABASE, KEPT]


def test_page_of_a_revision_that_the_database_lost_goes_when_an_earlier_one_is_read(call, user, database_url, sources):
    call("POST", "/tasks", title="replicated")
    lost = call("POST", "/tasks", title="lost").json
    assert len(call("GET", "/tasks").json) == 2
    # A replica takes over that had not received the last write.
    query(database_url, "DELETE FROM tasks WHERE user_id = %s AND id = %s", user, lost["id"])
    query(database_url, "UPDATE task_lists SET revision = 1 WHERE user_id = %s", user)
    assert [task["title"] for task in call("GET", "/tasks").json] == ["replicated"]
    other = call("POST", "/tasks", title="other").json
    assert other["revision"] == lost["revision"]
    assert [task["title"] for task in call("GET", "/tasks").json] == ["replicated", "other"]
    assert sources == [DATABASE] * 3


# Bounds


class Clock:
    """A clock that is set by hand, in seconds."""

    now = 0.0

    def __call__(self):
        return self.now


def page(number, size=100, *, revision=1, expires_at=math.inf):
    return PageBody(b"%d" % number, revision, b"x" * size, None, None, expires_at)


def test_page_is_sent_for_a_bounded_time_however_often(database_url, user, sources):
    app, clock = create_app(config_for(database_url)), Clock()
    app.extensions[kept_pages.EXTENSION] = KeptPages(MIB, clock)
    call = call_as(app.test_client(), user)
    for clock.now in (0, 1, AGE_MAX_S / 2, math.nextafter(AGE_MAX_S, 0), AGE_MAX_S, AGE_MAX_S + 1):
        assert call("GET", "/tasks").status_code == 200
    assert sources == [DATABASE, KEPT, KEPT, KEPT, DATABASE, KEPT]
    with app.app_context():
        db.engine.dispose()


def test_page_that_has_expired_is_forgotten_once_it_is_the_first():
    clock = Clock()
    pages = KeptPages(MIB, clock)
    for number, expires_at in ((1, 10), (2, 5), (3, 30)):
        pages.keep(page(number, expires_at=expires_at))
    clock.now = 5
    assert pages.find(b"2") is None
    pages.keep(page(4))
    assert pages.size() == 4 * COUNTED_MIN_BYTES
    clock.now = 10
    pages.keep(page(5))
    assert pages.size() == 3 * COUNTED_MIN_BYTES
    assert [pages.find(b"%d" % number) is not None for number in range(1, 6)] == [False, False, True, True, True]


def test_page_that_was_requested_least_recently_makes_room():
    pages = KeptPages(4 * COUNTED_MIN_BYTES)
    for number in (1, 2, 3):
        pages.keep(page(number))
    assert pages.find(b"1")
    pages.keep(page(4))
    assert [pages.find(b"%d" % number) is not None for number in (1, 2, 3, 4)] == [True, False, True, True]
    assert pages.size() == 3 * COUNTED_MIN_BYTES


def test_page_that_is_too_large_is_not_kept_and_neither_is_the_one_before():
    pages = KeptPages(MIB)
    largest = PAGE_MAX_BYTES - ENTRY_BYTES - 1
    pages.keep(page(1, largest))
    assert pages.find(b"1")
    pages.keep(page(1, largest + 1, revision=2))
    assert pages.find(b"1") is None
    assert pages.size() == 0


def test_page_that_is_too_large_is_read_each_time(call, user, database_url, sources):
    plant(database_url, [user], 300, description="x" * 1000)
    assert len({len(call("GET", "/tasks").data) for _ in range(2)}) == 1
    assert sources == [DATABASE, DATABASE]


def test_page_that_was_read_last_is_the_one_that_is_kept():
    pages = KeptPages(MIB)
    pages.keep(page(1, revision=2))
    pages.keep(page(1, revision=1))
    assert pages.find(b"1").revision == 1


# Empty lists, short ones, pages of 50 tasks, and the largest; together, and one kind after the other.
SIZES = [
    pytest.param([2] * 12_000, id="empty"),
    pytest.param([700] * 12_000, id="short"),
    pytest.param([16_000] * 6_000, id="pages"),
    pytest.param([250_000] * 2_000, id="large"),
    pytest.param([2, 16_000, 700, 250_000] * 2_000, id="mixed"),
    pytest.param([2] * 6_000 + [16_000] * 3_000, id="empty and then pages"),
    pytest.param([3_300] * 6_000 + [250_000] * 1_000, id="short and then large"),
]


@pytest.mark.parametrize("mib", [1, 5, 7, 8])
@pytest.mark.parametrize("sizes", SIZES)
def test_memory_that_is_held_is_at_most_what_is_counted_and_what_is_allowed(sizes, mib):
    pages = KeptPages(mib * MIB, lambda: -1.0)
    tracemalloc.start()
    try:
        for number, size in enumerate(sizes):
            # Numbers and texts of their own, as each response has them.
            text = str(10**12 + number)
            pages.keep(
                PageBody((text * 20).encode(), number + 10**15, bytes(size), text * 8, number + 10**15, number / 7)
            )
            if number % 250 == 0:
                held, _ = tracemalloc.get_traced_memory()
                assert held <= pages.size() + mib * MIB * TABLE_PART
        assert held <= mib * MIB
        assert pages.size() > mib * MIB * 0.7
    finally:
        tracemalloc.stop()


def test_queries_of_every_shape_take_no_more_memory_than_allowed(processes, user, sources):
    client = processes(KEPT_PAGES_MIB="1")
    call = call_as(client, user)
    call("POST", "/tasks", title="x")
    for number in range(1, 1_001):
        assert call("GET", "/tasks", query={"limit": number, "q": "x" * (number % 180)}).status_code == 200
    with client.application.app_context():
        assert MIB / 2 < kept_pages.current().size() <= MIB
    assert sources == [DATABASE] * 1_000


# At once


def test_pages_that_threads_read_and_write_at_once_are_those_of_their_etags(app, user):
    created = call_as(app.test_client(), user)("POST", "/tasks", title="0").json
    done = threading.Event()

    def write(writer):
        call = call_as(app.test_client(), user)
        for number in range(40):
            call("PATCH", f"/tasks/{created['id']}", title=f"{writer} {number}")
        return 0

    def read(_):
        call, newest, number = call_as(app.test_client(), user), 0, 0
        while not done.is_set():
            response = call("GET", "/tasks")
            revision = int(response.headers["ETag"].strip('"').partition("-")[0])
            assert [task["revision"] for task in response.json] == [revision]
            assert revision >= newest
            newest, number = revision, number + 1
        return number

    with ThreadPoolExecutor(6) as threads:
        readers = [threads.submit(read, number) for number in range(3)]
        try:
            for writer in [threads.submit(write, number) for number in range(3)]:
                writer.result()
        finally:
            done.set()
        assert all(reader.result() for reader in readers)


def test_pages_that_threads_keep_at_once_stay_within_the_bounds():
    pages = KeptPages(20 * COUNTED_MIN_BYTES)

    def keep(_):
        for number in range(2_000):
            pages.keep(page(number % 50))
            found = pages.find(b"%d" % (number % 50 * 7 % 50))
            assert found is None or found.body == b"x" * 100

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(keep, range(4)))
    assert pages.size() == 18 * COUNTED_MIN_BYTES
