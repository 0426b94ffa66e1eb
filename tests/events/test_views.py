"""The call for events: what it reads of a request, and what it responds on servers of both kinds."""

import math
import time

import pytest
from support import assert_problem, bearer, claims, new_user, sign

from todo.database.statements import ListChange
from todo.events import views
from todo.events.hub import Hub, changed
from todo.http.pagination import encode_cursor
from todo.tasks.changes import Position, decode_position, encode_position

PATH = "/tasks/events"
OPENING = b"retry: 5000\n: todo\n\n"


@pytest.fixture
def listed(call):
    """Return the cursor of a user's list at revision 2."""
    for title in ("a", "b"):
        call("POST", "/tasks", title=title)
    return call("GET", "/tasks/changes").json["next"]


class Socket:
    """What a server has that keeps streams open."""

    stream = None

    def hold(self, stream):
        assert self.stream is None
        self.stream = stream


@pytest.fixture
def listen(app, client, user, monkeypatch):
    """Return a function that asks for events on a server that keeps streams open."""
    hub = Hub(per_user=2, most=3, age_s=3600)
    hub.attend(80, lambda: None)
    monkeypatch.setitem(app.extensions, "events", hub)

    def listen(method="GET", as_user=user, headers=(), query="", **changes):
        socket = Socket()
        response = client.open(
            f"/api/me/tasks/events{query}",
            method=method,
            headers=bearer(as_user, **changes) | dict(headers),
            environ_overrides={"gunicorn.socket": socket},
        )
        return response, socket.stream

    listen.hub = hub
    return listen


def test_server_that_keeps_no_stream_open_responds_and_ends(call, user, listed):
    response = call("GET", PATH)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/event-stream"
    assert response.headers["Cache-Control"] == "no-store, no-transform"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.data == OPENING + changed(user, 2)
    assert changed(user, 2) == b'id: %b\nevent: changed\ndata: {"revision":2}\n\n' % listed.encode()


def test_first_event_of_an_empty_list_has_revision_0(call, user):
    response = call("GET", PATH)
    assert response.data == OPENING + changed(user, 0)
    (cursor,) = [line.removeprefix("id: ") for line in response.text.splitlines() if line.startswith("id: ")]
    assert call("GET", PATH, {"Last-Event-ID": cursor}).data == OPENING
    assert call("GET", "/tasks/changes", query={"since": cursor}).json["tasks"] == []


@pytest.mark.parametrize(
    ("since", "last", "is_told"),
    [
        pytest.param("old", None, True, id="old since"),
        pytest.param("current", None, False, id="current since"),
        pytest.param(None, "old", True, id="old header"),
        pytest.param(None, "current", False, id="current header"),
        pytest.param("old", "current", False, id="the header counts"),
        pytest.param("current", "old", True, id="the header counts, too"),
        pytest.param("current", "bad", False, id="a bad header is none"),
        pytest.param(None, "bad", True, id="a bad header alone is none"),
        pytest.param(None, "other", True, id="that of another user is none"),
        pytest.param("current", "ahead", False, id="one that is ahead is none"),
        pytest.param(None, "ahead", True, id="one alone that is ahead is none"),
        pytest.param("", "", True, id="both empty"),
        pytest.param("expired", None, True, id="expired"),
        pytest.param("page", None, True, id="in the middle of all tasks"),
    ],
)
def test_event_comes_at_once_unless_the_cursor_is_current(call, listen, user, listed, since, last, is_told):
    cursors = {
        "": "",
        "old": encode_position(user, Position(1)),
        "current": listed,
        "bad": "x",
        "other": encode_position(new_user(), Position(2)),
        "ahead": encode_position(user, Position(3)),
        "expired": encode_position(user, Position(0)),
        "page": encode_position(user, Position(1, 2)),
    }
    query = {} if since is None else {"since": cursors[since]}
    headers = {} if last is None else {"Last-Event-ID": cursors[last]}
    assert call("GET", PATH, headers, query=query).data == OPENING + changed(user, 2) * is_told
    response, stream = listen(headers=headers, query=f"?since={cursors[since]}" if since else "")
    assert response.data == b"retry: 3000\n: todo\n\n" + changed(user, 2) * is_told
    assert (stream.revision, stream.events, stream.is_begun) == (2, is_told, True)


@pytest.mark.parametrize("last", [None, "current"])
@pytest.mark.parametrize(
    ("cursor", "rule"),
    [
        pytest.param(lambda _: "x", "is not one that this service gave", id="damaged"),
        pytest.param(
            lambda _: encode_position(new_user(), Position(2)), "was given to another user", id="of another user"
        ),
        pytest.param(lambda user: encode_position(user, Position(3)), "is ahead of this list", id="ahead"),
        pytest.param(lambda user: encode_position(user, Position(1, 3)), "is ahead of this list", id="a page ahead"),
        pytest.param(lambda _: encode_cursor([1, "x", [], 7, None]), "another version", id="of a list"),
    ],
)
def test_bad_since_is_422_also_beside_a_good_header(call, listen, user, listed, cursor, rule, last):
    headers = {} if last is None else {"Last-Event-ID": listed}
    responses = [
        call("GET", PATH, headers, query={"since": cursor(user)}),
        listen(headers=headers, query=f"?since={cursor(user)}")[0],
    ]
    for response in responses:
        problem = assert_problem(response, 422)
        ((fault),) = problem["errors"]
        assert fault["parameter"] == "since"
        assert rule in fault["detail"]


def test_two_sinces_are_422(call, listed):
    assert_problem(call("GET", f"{PATH}?since={listed}&since={listed}"), 422)


def test_cursor_from_before_an_erasure_gives_an_event_and_the_feed_says_410(call, user, listed):
    call("DELETE", "", {"Confirm": user})
    assert call("GET", PATH, query={"since": listed}).data == OPENING + changed(user, 3)
    assert_problem(call("GET", "/tasks/changes", query={"since": listed}), 410)


def test_head_has_the_headers_alone_and_opens_nothing(call, listen):
    response, stream = listen("HEAD")
    assert (response.status_code, response.data, stream, listen.hub.number) == (200, b"", None, 0)
    assert response.headers["Content-Type"] == "text/event-stream"
    assert "Content-Length" not in response.headers
    assert "Content-Length" not in call("HEAD", PATH).headers
    assert call("HEAD", PATH, query={"since": "x"}).status_code == 422


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_other_methods_are_405(call, method):
    assert_problem(call(method, PATH), 405)


@pytest.mark.parametrize(
    ("headers", "status"), [({"If-None-Match": "*"}, 304), ({"If-Match": '"1"'}, 412)], ids=["304", "412"]
)
def test_precondition_that_fails_leaves_the_stream_unbegun(call, listen, headers, status):
    assert call("GET", PATH, headers).status_code == status
    response, stream = listen(headers=headers)
    assert (response.status_code, stream.is_begun) == (status, False)


def test_path_and_token_are_checked_before_anything_is_opened(client, listen, user):
    assert_problem(client.get("/api/me/tasks/events"), 401)
    assert_problem(client.get("/api/other/tasks/events?since=x", headers=bearer(user)), 403)
    assert_problem(client.get(f"/api/me/tasks/events?access_token={sign(claims(user))}"), 401)
    assert listen.hub.number == 0


def test_user_with_too_many_streams_gets_429_and_the_process_with_too_many_503(listen, user):
    assert [listen()[0].status_code for _ in range(2)] == [200, 200]
    response, stream = listen()
    assert assert_problem(response, 429)["detail"] == (
        "You have too many open streams of events. Please try again in 60 s."
    )
    assert (response.headers["Retry-After"], stream) == ("60", None)
    assert listen(as_user=new_user())[0].status_code == 200
    response, stream = listen(as_user=new_user())
    assert "60 seconds" in assert_problem(response, 503)["detail"]
    assert (response.headers["Retry-After"], stream) == ("60", None)


@pytest.mark.parametrize(("lifetime_s", "leeway_s"), [(100, 15), (-5, 15)])
def test_stream_ends_when_its_token_expires_with_the_leeway(listen, lifetime_s, leeway_s):
    _, stream = listen(exp=int(time.time()) + lifetime_s)
    assert stream.ends_because == "expired"
    assert stream.ends_at - time.monotonic() == pytest.approx(lifetime_s + leeway_s, abs=2)


def test_stream_knows_the_request_that_opened_it(listen):
    response, stream = listen()
    assert stream.request_id == response.headers["X-Request-ID"]


def test_stream_is_opened_before_the_revision_is_read(listen, user, monkeypatch):
    def read_revision(caller):
        assert listen.hub.known() == {caller: 0}
        # A write takes effect after the revision was read, and before the stream is parked.
        listen.hub.announce(ListChange(caller, 3))
        return 2

    monkeypatch.setattr(views, "read_revision", read_revision)
    response, stream = listen()
    assert response.data.endswith(changed(user, 2))
    listen.hub.park(stream, "a")
    assert listen.hub.delay_s() < math.inf


def test_browser_of_another_origin_may_send_the_last_event_id(client):
    preflight = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization, last-event-id",
    }
    response = client.options("/api/me/tasks/events", headers=preflight)
    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "last-event-id"} <= set(allowed.split(", "))


def test_strict_request_may_send_nothing_but_since(call):
    strict = {"Prefer": "handling=strict"}
    assert call("GET", PATH, strict).headers["Preference-Applied"] == "handling=strict"
    problem = assert_problem(call("GET", PATH, strict, query={"sinse": "x"}), 422)
    assert "did you mean since?" in problem["detail"]


def test_position_of_a_cursor_is_read_back(user):
    for position in (Position(0), Position(7), Position(7, 2**63 - 1)):
        assert decode_position(user, encode_position(user, position)) == position
