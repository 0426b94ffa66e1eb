"""Rate limits: who is counted, what is answered, and that there is nothing of it unless it is set."""

import json
import logging
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from limits.errors import StorageError
from support import assert_problem, bearer, config_for, new_user

from todo import create_app
from todo.extensions import db
from todo.limits import network
from todo.limits.limiter import AWAY, BACK
from todo.limits.stores import COUNTS_MAX, MemoryStore, RedisStore
from todo.telemetry.logs import hashed

# So long that no window ends during a test.
WINDOW_S = 31_104_000
TASKS = "/api/me/tasks"
HEADERS = {"RateLimit", "RateLimit-Policy"}


@pytest.fixture
def limited(database_url):
    """Give a way to make clients of an application with these settings."""

    made = []

    def make(config=None, **settings):
        made.append(create_app(config or config_for(database_url, WEB_CONCURRENCY="1", LOG_FORMAT="json", **settings)))
        return made[-1].test_client()

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


def left(response, name="user"):
    """Give how many more are allowed, as the headers say."""
    assert response.headers["RateLimit-Policy"].startswith(f'"{name}";q=')
    shown, remaining, seconds = response.headers["RateLimit"].split(";")
    assert shown == f'"{name}"'
    assert 0 < int(seconds.removeprefix("t=")) <= WINDOW_S
    return int(remaining.removeprefix("r="))


def logged(capfd, **wanted):
    """Give the log entries that have these members."""
    entries = [json.loads(line) for line in "".join(capfd.readouterr()).splitlines()]
    return [entry for entry in entries if wanted.items() <= entry.items()]


def test_limits_unset_are_not_there_at_all(client, user):
    responses = [client.get(TASKS, headers=bearer(user)), client.get(TASKS)]
    assert [response.status_code for response in responses] == [200, 401]
    assert all(HEADERS.isdisjoint(response.headers.keys()) for response in responses)


@pytest.mark.process
def test_limits_unset_import_nothing(root):
    script = (
        "import sys; from config import Config; from todo import create_app;"
        "create_app(Config(better_auth_secret='x', log_level='ERROR'));"
        "print([name for name in ('flask_limiter', 'limits', 'redis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_limit_of_calls_is_answered_429_with_when_to_come_back(limited, user, capfd):
    client = limited(RATE_LIMIT="2/year")
    answers = [client.get(TASKS, headers=bearer(user)) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert [left(answer) for answer in answers] == [1, 0, 0, 0]
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {f'"user";q=2;w={WINDOW_S}'}
    assert "Retry-After" not in answers[1].headers
    wait_s = int(answers[2].headers["Retry-After"])
    assert answers[2].headers["RateLimit"] == f'"user";r=0;t={wait_s}'
    problem = assert_problem(answers[2], 429, f"Too many requests. Please try again in {wait_s} s.")
    assert problem["title"] == "Too Many Requests"
    entries = logged(capfd, status=429, reason="rate limit: the user is over it", user=hashed(user))
    assert [entry["level"] for entry in entries] == ["info"] * 2


def test_limit_of_calls_is_each_users_own_by_id_and_me_alike(limited, user):
    client = limited(RATE_LIMIT="3/year")
    paths = [TASKS, f"/api/{user}/tasks", f"{TASKS}/summary", "/api/me/trash"]
    statuses = [client.get(path, headers=bearer(user, jti=path)).status_code for path in paths]
    assert statuses == [200, 200, 200, 429]
    assert left(client.get(TASKS, headers=bearer(new_user()))) == 2


def test_limits_hold_together(limited, user):
    client = limited(RATE_LIMIT="2/year;5/day")
    answers = [client.get(TASKS, headers=bearer(user)) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["RateLimit-Policy"] == f'"user-1";q=5;w=86400, "user-2";q=2;w={WINDOW_S}'
    daily, yearly = answers[2].headers["RateLimit"].split(", ")
    assert daily.startswith('"user-1";r=2;t=')
    assert yearly == f'"user-2";r=0;t={answers[2].headers["Retry-After"]}'


@pytest.mark.slow
def test_limit_lets_whoever_waited_as_told_through(limited, user):
    client = limited(RATE_LIMIT="1/2 seconds")
    refused = [client.get(TASKS, headers=bearer(user)) for _ in range(2)][1]
    wait_s = int(refused.headers["Retry-After"])
    assert 0 < wait_s <= 2
    time.sleep(wait_s)
    assert client.get(TASKS, headers=bearer(user)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        pytest.param("GET", "/api/me/nothing", 404, id="path"),
        pytest.param("PUT", TASKS, 405, id="method"),
        pytest.param("POST", "/api/somebody-else/tasks", 403, id="user"),
        pytest.param("GET", "/health", 200, id="public"),
        pytest.param("OPTIONS", TASKS, 200, id="options"),
    ],
)
def test_limit_of_calls_comes_after_path_and_user_and_counts_none_of_them(limited, user, method, path, status):
    client = limited(RATE_LIMIT="1/year")
    for _ in range(2):
        answer = client.open(path, method=method, headers=bearer(user))
        assert answer.status_code == status
        assert HEADERS.isdisjoint(answer.headers.keys())
    assert client.get(TASKS, headers=bearer(user)).status_code == 200
    assert client.open(path, method=method, headers=bearer(user)).status_code == status


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        pytest.param("POST", TASKS, b"{", 400, id="syntax"),
        pytest.param("POST", TASKS, b'{"title": 1}', 422, id="body"),
        pytest.param("GET", f"{TASKS}?limit=0", None, 422, id="parameters"),
        pytest.param("GET", f"{TASKS}/1", None, 404, id="row"),
    ],
)
def test_limit_of_calls_comes_before_all_else_and_counts_what_fails_there(limited, user, method, path, body, status):
    client = limited(RATE_LIMIT="1/year")
    answers = [client.open(path, method=method, headers=bearer(user), data=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 429]
    assert [left(answer) for answer in answers] == [0, 0]


def test_limited_call_costs_no_statement_and_can_be_read_across_origins(database_url, proxy, user):
    url = proxy.url("todo_test")
    client = create_app(config_for(url, RATE_LIMIT="1/year", WEB_CONCURRENCY="1")).test_client()
    headers = bearer(user) | {"Origin": "https://app.example.com"}
    client.get(TASKS, headers=headers)
    before = len(proxy.queries)
    refused = client.get(TASKS, headers=headers)
    assert (refused.status_code, len(proxy.queries)) == (429, before)
    assert refused.headers["Access-Control-Allow-Origin"] == "https://app.example.com"
    exposed = set(refused.headers["Access-Control-Expose-Headers"].split(", "))
    assert exposed >= {"Retry-After", "RateLimit", "RateLimit-Policy"}


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"RATE_LIMIT_FAILED_AUTH": "2/year"}, id="alone"),
        pytest.param({"RATE_LIMIT_FAILED_AUTH": "2/year", "RATE_LIMIT": "9/year"}, id="beside-that-of-calls"),
    ],
)
def test_limit_of_failures_is_answered_429_instead_of_401(limited, settings, capfd):
    client = limited(**settings)
    headers = [{}, {"Authorization": "Bearer x"}, {}, {"Authorization": "Bearer x"}]
    answers = [client.get(TASKS, headers=sent) for sent in headers]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429]
    assert [left(answer, "address") for answer in answers] == [1, 0, 0, 0]
    wait_s = answers[2].headers["Retry-After"]
    sentence = f"Too many failed authentications from your address. Please try again in {wait_s} s."
    assert "reason" not in assert_problem(answers[2], 429, sentence)
    assert "WWW-Authenticate" not in answers[2].headers
    assert len(logged(capfd, status=429, reason="Authorization: no bearer token")) == 1


def test_limit_of_calls_alone_leaves_failures_unlimited(limited, database_url, user):
    settings = config_for(database_url, WEB_CONCURRENCY="1", RATE_LIMIT="1/year", RATE_LIMIT_FAILED_AUTH="1/year")
    client = limited(replace(settings, rate_limit_failed_auth=None))
    assert [client.get(TASKS).status_code for _ in range(3)] == [401, 401, 401]
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(2)] == [200, 429]


def test_limit_of_failures_never_stops_a_good_token_and_counts_nothing_else(limited, user):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year")
    good = [
        client.get(TASKS, headers=bearer(user)),
        client.get("/api/somebody-else/tasks", headers=bearer(user)),
        client.get("/nowhere"),
    ]
    assert [answer.status_code for answer in good] == [200, 403, 404]
    assert all(HEADERS.isdisjoint(answer.headers.keys()) for answer in good)
    assert [client.get(TASKS).status_code for _ in range(2)] == [401, 429]
    assert client.get(TASKS, headers=bearer(user)).status_code == 200


def test_limit_of_failures_is_each_addresses_own(limited):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year")

    def status(address):
        return client.get(TASKS, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [401, 429, 401]
    # Who has one of these addresses has them all.
    assert [status("2001:db8::1"), status("2001:db8::2"), status("2001:db8:0:1::1")] == [401, 429, 401]
    assert [status(""), status("")] == [401, 429]


@pytest.mark.parametrize(
    ("proxies", "statuses"),
    [pytest.param("0", [401, 429, 429], id="nobody-is-believed"), pytest.param("1", [401, 401, 429], id="one-proxy")],
)
def test_limit_of_failures_is_of_the_address_that_a_trusted_proxy_names(limited, proxies, statuses):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year", TRUSTED_PROXIES=proxies)
    # What stands before the last address came from the client.
    named = ["192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.1"]
    assert [client.get(TASKS, headers={"X-Forwarded-For": name}).status_code for name in named] == statuses


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:DB8:0:0:0:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("unix:", "unix:", True),
        ("", "192.0.2.1", False),
    ],
)
def test_network_is_what_one_client_has(address, other, same):
    assert (network(address) == network(other)) is same


def test_limits_in_memory_with_several_processes_are_one_warning(database_url, capfd):
    create_app(config_for(database_url, RATE_LIMIT="1/second", WEB_CONCURRENCY="3", LOG_FORMAT="json"))
    (entry,) = logged(capfd, level="warning")
    assert entry["processes"] == 3
    assert "RATE_LIMIT_STORAGE_URL" in entry["event"]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"WEB_CONCURRENCY": "1", "RATE_LIMIT": "1/second"}, id="one-process"),
        pytest.param({"WEB_CONCURRENCY": "3"}, id="no-limit"),
        pytest.param(
            {"WEB_CONCURRENCY": "3", "RATE_LIMIT": "1/second", "RATE_LIMIT_STORAGE_URL": "redis://127.0.0.1:1"},
            id="shared-store",
        ),
    ],
)
def test_limits_that_are_what_they_say_are_no_warning(database_url, capfd, settings):
    create_app(config_for(database_url, LOG_FORMAT="json", **settings))
    assert logged(capfd, level="warning") == []


def test_shared_store_counts_for_all_who_share_it_and_is_not_told_who_they_are(limited, user, counting_redis):
    settings = {"RATE_LIMIT": "2/year;9/hour", "RATE_LIMIT_STORAGE_URL": counting_redis.url}
    first, second = limited(**settings), limited(**settings)
    answers = [client.get(TASKS, headers=bearer(user)) for client in (first, second, first)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert list(counting_redis.counts.values()) == [3, 3]
    assert list(counting_redis.lifetimes.values()) == [3600, WINDOW_S]
    assert all(hashed(user) in key and user not in key for key in counting_redis.counts)


def test_store_that_is_away_lets_everybody_through_and_is_one_log_line(limited, user, capfd):
    client = limited(
        RATE_LIMIT="1/year", RATE_LIMIT_FAILED_AUTH="1/year", RATE_LIMIT_STORAGE_URL="redis://:sesame@127.0.0.1:1"
    )
    answers = [client.get(TASKS, headers=bearer(user)) for _ in range(3)] + [client.get(TASKS) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401]
    assert all(HEADERS.isdisjoint(answer.headers.keys()) for answer in answers)
    (entry,) = logged(capfd, event=AWAY)
    assert entry["level"] == "error"
    assert "sesame" not in str(entry)


def test_store_that_several_threads_find_away_is_the_same_log_line_of_each(limited, capfd):
    limited(RATE_LIMIT="1/year", RATE_LIMIT_STORAGE_URL="redis://127.0.0.1:1")
    # What all but the first of them make Flask-Limiter say.
    try:
        RedisStore("redis://127.0.0.1:1", wrap_exceptions=True).incr("k", 1)
    except StorageError:
        logging.getLogger("flask-limiter").exception("Failed to rate limit. Swallowing error")
    (entry,) = logged(capfd, event=AWAY)
    assert (entry["level"], "exception" in entry) == ("error", False)


@pytest.mark.slow
def test_store_that_comes_back_counts_again_and_is_another_log_line(limited, user, counting_redis, capfd):
    client = limited(RATE_LIMIT="1/year", RATE_LIMIT_STORAGE_URL=counting_redis.url)
    counting_redis.refuses = {"EVALSHA"}
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(3)] == [200, 200, 200]
    counting_redis.refuses = set()
    # It is asked again after more than a second.
    time.sleep(1.1)
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(2)] == [200, 429]
    assert [entry["event"] for entry in logged(capfd) if entry["event"] in (AWAY, BACK)] == [AWAY, BACK]


@pytest.fixture
def memory(app):
    """Give the counts of a process, as a request finds them."""
    store = MemoryStore()
    with app.test_request_context():
        yield store


def test_memory_loses_no_count_to_threads(app):
    store = MemoryStore()

    def count(_):
        with app.test_request_context():
            raised = store.incr("k", 60)
            assert store.get("k") == raised
            return raised

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(count, range(400))) == list(range(1, 401))


def test_memory_is_bounded_and_keeps_what_is_still_counted(memory):
    for number in range(COUNTS_MAX + 10):
        kept = memory.incr("kept", 60)
        memory.incr(f"k{number}", 60)
    assert kept == COUNTS_MAX + 10
    assert memory.incr("k0", 60) == 1
    assert memory.reset() == COUNTS_MAX
    assert memory.incr("kept", 60) == 1


@pytest.mark.slow
def test_memory_forgets_a_count_when_its_window_ends(memory):
    assert [memory.incr("k", 1) for _ in range(2)] == [1, 2]
    until = memory.get_expiry("k")
    assert 0 < until - time.time() <= 1
    time.sleep(until - time.time() + 0.01)
    assert memory.incr("k", 1) == 1
    memory.clear("k")
    assert (memory.incr("k", 1), memory.check()) == (1, True)


def test_memory_needs_no_thread(memory):
    before = set(threading.enumerate())
    memory.incr("k", 60)
    assert set(threading.enumerate()) <= before
