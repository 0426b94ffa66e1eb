"""Calendars over HTTP: who has an address reads, nobody else does, and nothing shows it."""

import json
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import icalendar
import pytest
from fakes.counting_redis import CountingRedis
from support import assert_problem, bearer, call_as, config_for, new_user

from todo import create_app
from todo.calendar import queries
from todo.limits import CALENDAR_READS_MAX

NOW = datetime.now(UTC)


def day(offset):
    return (NOW + timedelta(days=offset)).date().isoformat()


@pytest.fixture
def subscribe(call):
    """Return a function that gives the user's calendar a new address, and returns its path."""

    def subscribe():
        response = call("PUT", "/calendar")
        assert response.status_code == 201
        return urlsplit(response.json["url"]).path

    return subscribe


@pytest.fixture
def app_on(database_url):
    """Return a function that returns an application with these settings."""
    return lambda **settings: create_app(config_for(database_url, **settings))


def summaries(response):
    assert response.status_code == 200, response.text
    return [str(event["SUMMARY"]) for event in icalendar.Calendar.from_ical(response.get_data()).walk("VEVENT")]


def test_calendar_has_an_address_from_put_to_delete(call, client, subscribe):
    assert call("GET", "/calendar").json == {"active": False}
    assert call("DELETE", "/calendar").status_code == 204
    path = subscribe()
    assert call("GET", "/calendar").json == {"active": True}
    assert client.get(path).status_code == 200
    newer = subscribe()
    assert newer != path
    assert_problem(client.get(path), 404)
    assert client.get(newer).status_code == 200
    for _ in range(2):
        assert call("DELETE", "/calendar").status_code == 204
    assert_problem(client.get(newer), 404)
    assert call("GET", "/calendar").json == {"active": False}


def test_calendar_raises_no_revision(call, subscribe):
    call("POST", "/tasks", title="x")
    before = call("GET", "/tasks/changes").json["next"]
    subscribe()
    call("DELETE", "/calendar")
    assert call("GET", "/tasks/changes").json["next"] == before
    assert call("POST", "/tasks", title="y").json["revision"] == 2


def test_first_task_after_the_address_has_revision_1(call, client, subscribe):
    path = subscribe()
    assert summaries(client.get(path)) == []
    assert call("POST", "/tasks", title="x", due_date=day(0)).json["revision"] == 1
    assert summaries(client.get(path)) == ["x"]


def test_erased_user_has_no_address(call, client, subscribe, user):
    path = subscribe()
    call("DELETE", "", {"Confirm": user})
    assert_problem(client.get(path), 404)
    assert call("GET", "/calendar").json == {"active": False}


def test_calendar_has_the_open_tasks_that_are_due(call, client, subscribe):
    for title, due in {
        "today": day(0), "soon": f"{day(1)}T09:30:00Z", "long ago": day(-89), "too long ago": day(-92),
        "next year": day(700), "too far ahead": day(740), "never": None, "done": day(2),
    }.items():  # fmt: skip
        call("POST", "/tasks", title=title, due_date=due, completed=title == "done")
    path = subscribe()
    assert summaries(client.get(path)) == ["long ago", "today", "soon", "next year"]
    assert summaries(client.get(f"{path}?completed=true")) == ["long ago", "today", "soon", "✓ done", "next year"]


def test_task_that_was_completed_long_ago_is_not_in_it(call, client, subscribe):
    done = "title,due,completed_at,created_at\n" + "".join(
        f"{offset},{day(0)},{day(offset)},2026-01-01\n" for offset in (-1, -29, -32)
    )
    call("POST", "/import", {"Content-Type": "text/csv"}, data=done)
    assert sorted(summaries(client.get(f"{subscribe()}?completed=true"))) == ["✓ -1", "✓ -29"]


def test_calendar_has_5000_tasks_at_most(call, client, subscribe, monkeypatch):
    monkeypatch.setattr(queries, "TASKS_MAX", 2)
    for offset in (3, 1, 2):
        call("POST", "/tasks", title=str(offset), due_date=day(offset))
    assert summaries(client.get(subscribe())) == ["1", "2"]


def test_calendar_is_of_its_owner_alone(client, call, subscribe):
    other = call_as(client, new_user())
    other("POST", "/tasks", title="theirs", due_date=day(0))
    call("POST", "/tasks", title="own", due_date=day(0))
    path, theirs = subscribe(), urlsplit(other("PUT", "/calendar").json["url"]).path
    assert summaries(client.get(path)) == ["own"]
    mixed = f"{path.partition('.')[0]}.{theirs.partition('.')[2]}"
    assert_problem(client.get(mixed), 404)


def test_todos_and_alarms_are_a_matter_of_the_query(call, client, subscribe):
    call("POST", "/tasks", title="x", due_date=day(0))
    response = client.get(subscribe(), query_string={"as": "TODO", "alarm": "pt30m"})
    (todo,) = icalendar.Calendar.from_ical(response.get_data()).walk("VTODO")
    assert todo.walk("VALARM")[0]["TRIGGER"].dt == timedelta(minutes=-30)
    assert response.content_type == "text/calendar; charset=utf-8"


@pytest.mark.parametrize("alarm", ["PT30M", "P1D", "P1DT2H", "PT1H30M", "P2W", "P0D"])
def test_alarm_is_a_duration(call, client, subscribe, alarm):
    call("POST", "/tasks", title="x", due_date=day(0))
    response = client.get(subscribe(), query_string={"alarm": alarm})
    assert icalendar.Calendar.from_ical(response.get_data()).walk("VALARM")[0]["TRIGGER"]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        *(
            ({"alarm": alarm}, "alarm must be a duration such as PT30M, PT2H or P1D.")
            for alarm in ("30", "-PT30M", "P", "PT", "P1DT", "P1Y", "PT30M\r\nX:1", "PT99999M", "P1W2D")
        ),
        ({"as": "journal"}, "as must be event or todo."),
        ({"completed": "yes"}, "completed must be true or false."),
    ],
)
def test_query_that_breaks_a_rule_is_422(client, subscribe, query, detail):
    assert_problem(client.get(subscribe(), query_string=query), 422, detail)


def test_unchanged_calendar_is_304(call, client, subscribe):
    call("POST", "/tasks", title="x", due_date=day(0))
    path = subscribe()
    first = client.get(path)
    etag = {"If-None-Match": first.headers["ETag"]}
    same = client.get(path, headers=etag)
    assert (same.status_code, same.data, same.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert first.headers["Cache-Control"] == same.headers["Cache-Control"] == "private, max-age=900"
    assert client.get(f"{path}?as=todo", headers=etag).status_code == 200
    call("POST", "/tasks", title="y", due_date=day(0))
    assert summaries(client.get(path, headers=etag)) == ["x", "y"]
    assert client.get(subscribe(), headers=etag).status_code == 200


def test_preconditions_on_another_state_are_412(call, client, subscribe):
    path = subscribe()
    stale = {"If-Match": '"1"'}
    for response in (
        client.get(path, headers=stale),
        call("PUT", "/calendar", stale),
        call("DELETE", "/calendar", stale),
    ):
        assert_problem(response, 412)
    assert client.get(path).status_code == 200


def test_calendar_changes_with_the_day(call, client, subscribe, monkeypatch):
    call("POST", "/tasks", title="x", due_date=day(0))
    path = subscribe()
    etag = {"If-None-Match": client.get(path).headers["ETag"]}
    tomorrow = NOW + timedelta(days=1)

    class Tomorrow(datetime):
        @classmethod
        def now(cls, tz):
            return tomorrow.astimezone(tz)

    monkeypatch.setattr("todo.calendar.views.datetime", Tomorrow)
    assert client.get(path, headers=etag).status_code == 200


def test_head_is_get_without_a_body(call, client, subscribe):
    call("POST", "/tasks", title="x", due_date=day(0))
    path = subscribe()
    head, whole = client.head(path), client.get(path)
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["ETag"] == whole.headers["ETag"]
    assert head.headers["Content-Length"] == str(len(whole.data))


def test_read_is_one_round_trip(proxied, proxy, user):
    client = proxied.test_client()
    call = call_as(client, user)
    call("POST", "/tasks", title="x", due_date=day(0))
    path = urlsplit(call("PUT", "/calendar").json["url"]).path
    etag = client.get(path).headers["ETag"]
    proxy.queries.clear()
    assert client.get(path).status_code == 200
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 304
    assert len(proxy.queries) == 2
    for make in (
        lambda: call("PUT", "/calendar"),
        lambda: call("GET", "/calendar"),
        lambda: call("DELETE", "/calendar"),
    ):
        proxy.queries.clear()
        make()
        assert len(proxy.queries) == 1


@pytest.mark.parametrize(
    "damage", [lambda path: path[:-5] + ".ics", lambda path: path.removesuffix(".ics"), lambda path: path + "/x"]
)
def test_damaged_address_is_404_without_the_address(client, subscribe, damage):
    path = subscribe()
    problem = assert_problem(client.get(damage(path)), 404)
    assert problem["instance"] == "/calendar/"


def test_no_error_has_the_address(client, subscribe, proxy, proxied):
    path = subscribe()
    secret = path.rpartition(".")[0].rpartition(".")[2]
    refused = [
        client.post(path),
        client.get(f"{path}?as=x"),
        client.get(path, headers={"Host": "a b"}),
        client.get(f"/x{path}"),
    ]
    proxy.close()
    refused.append(proxied.test_client().get(path))
    assert [response.status_code for response in refused] == [405, 422, 400, 404, 503]
    for response in refused:
        assert secret not in json.dumps([response.text, *response.headers.values()])


def test_61st_read_of_an_hour_is_429_and_concerns_no_other_calendar(client, call, subscribe):
    call("POST", "/tasks", title="x", due_date=day(0))
    path = subscribe()
    etag = {"If-None-Match": client.get(path).headers["ETag"]}
    for number in range(CALENDAR_READS_MAX - 1):
        assert client.open(path, method=("GET", "HEAD")[number % 2], headers=etag).status_code == 304
    refused = client.get(path)
    assert_problem(refused, 429)
    assert 3500 < int(refused.headers["Retry-After"]) <= 3600
    assert refused.headers["RateLimit-Policy"] == '"calendar";q=60;w=3600'
    assert client.get(subscribe()).status_code == 200


def test_reads_are_counted_together_in_redis_which_learns_no_address(app_on, user, counting_redis: CountingRedis):
    port = counting_redis.server_address[1]
    apps = [app_on(RATE_LIMIT_STORAGE_URL=f"redis://127.0.0.1:{port}") for _ in range(2)]
    path = urlsplit(call_as(apps[0].test_client(), user)("PUT", "/calendar").json["url"]).path
    left = [app.test_client().get(path).headers["RateLimit"].split(";")[1] for app in apps]
    assert left == ["r=59", "r=58"]


def test_front_end_cannot_read_a_calendar(client, call, subscribe):
    origin = {"Origin": "http://localhost:3000"}
    response = client.get(subscribe(), headers=origin)
    assert "Access-Control-Allow-Origin" not in response.headers
    assert "Access-Control-Allow-Origin" not in client.options(subscribe(), headers=origin).headers
    assert call("GET", "/calendar", origin).headers["Access-Control-Allow-Origin"] == origin["Origin"]


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_production_without_public_url_gives_no_address(app_on, user, environment):
    call = call_as(app_on(ENVIRONMENT=environment).test_client(), user)
    problem = assert_problem(call("PUT", "/calendar"), 409)
    assert "PUBLIC_URL" in problem["detail"]
    assert call("GET", "/calendar").json == {"active": False}


@pytest.mark.parametrize(
    ("public", "begin"),
    [
        ("https://api.example.com", "https://api.example.com/calendar/"),
        ("https://example.com/todo/", "https://example.com/todo/calendar/"),
    ],
)
def test_address_begins_with_public_url(app_on, user, public, begin):
    call = call_as(app_on(ENVIRONMENT="production", PUBLIC_URL=public).test_client(), user)
    assert call("PUT", "/calendar").json["url"].startswith(begin)


def test_address_begins_with_that_of_the_request_where_public_url_is_not_set(client, user):
    call = call_as(client, user)
    assert (
        call("PUT", "/calendar", {"Host": "localhost:1234"}).json["url"].startswith("http://localhost:1234/calendar/")
    )


@pytest.mark.parametrize("user", ["a/b", "Žofie", "..", "x" * 255])
def test_any_user_has_a_calendar(client, user):
    url = client.put("/api/me/calendar", headers=bearer(user)).json["url"]
    assert client.get(urlsplit(url).path).status_code == 200
