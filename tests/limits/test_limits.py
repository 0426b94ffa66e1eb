"""Rate limits: what is counted, what is responded, and that nothing is imported or counted unless a limit is set."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import pytest
from flask import g
from redis import RedisError
from support import assert_problem, bearer, config_for, new_user

from todo import create_app
from todo.extensions import db
from todo.limits import network, shared
from todo.limits.limiter import Limit, Window
from todo.limits.memory import COUNTS_MAX, MemoryStore
from todo.limits.shared import AWAY, BACK, FailOpenStore
from todo.telemetry.logs import hashed

# So long that no window ends during a test.
WINDOW_S = 31_104_000
TASKS = "/api/me/tasks"
HEADERS = {"RateLimit", "RateLimit-Policy"}


@pytest.fixture
def limited(database_url):
    """Return a function that builds an application with some settings, and returns a client of it."""
    apps = []

    def make_client(config=None, **settings):
        apps.append(create_app(config or config_for(database_url, WEB_CONCURRENCY="1", LOG_FORMAT="json", **settings)))
        return apps[-1].test_client()

    yield make_client
    for app in apps:
        with app.app_context():
            db.engine.dispose()


def remaining(response, name="user"):
    """Return how many more requests the headers allow."""
    assert response.headers["RateLimit-Policy"].startswith(f'"{name}";q=')
    subject, left, seconds = response.headers["RateLimit"].split(";")
    assert subject == f'"{name}"'
    assert 0 < int(seconds.removeprefix("t=")) <= WINDOW_S
    return int(left.removeprefix("r="))


def logged(capfd, **wanted):
    """Return the log entries that have these members."""
    entries = [json.loads(line) for line in "".join(capfd.readouterr()).splitlines()]
    return [entry for entry in entries if wanted.items() <= entry.items()]


def test_limits_unset_add_no_header(client, user):
    responses = [client.get(TASKS, headers=bearer(user)), client.get(TASKS)]
    assert [response.status_code for response in responses] == [200, 401]
    assert all(HEADERS.isdisjoint(response.headers.keys()) for response in responses)


@pytest.mark.process
def test_limits_unset_import_nothing(root):
    script = (
        "import sys; from config import Config; from todo import create_app;"
        "create_app(Config(better_auth_secret='x', log_level='ERROR'));"
        "print([name for name in ('limits', 'redis') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_limit_of_calls_exceeded_is_429_with_retry_after(limited, user, capfd):
    client = limited(RATE_LIMIT="2/year")
    responses = [client.get(TASKS, headers=bearer(user)) for _ in range(4)]
    assert [response.status_code for response in responses] == [200, 200, 429, 429]
    assert [remaining(response) for response in responses] == [1, 0, 0, 0]
    assert {response.headers["RateLimit-Policy"] for response in responses} == {f'"user";q=2;w={WINDOW_S}'}
    assert "Retry-After" not in responses[1].headers
    wait_s = int(responses[2].headers["Retry-After"])
    assert responses[2].headers["RateLimit"] == f'"user";r=0;t={wait_s}'
    problem = assert_problem(responses[2], 429, f"Too many requests. Please try again in {wait_s} s.")
    assert problem["title"] == "Too Many Requests"
    entries = logged(capfd, status=429, reason="rate limit: the user is over it", user=hashed(user))
    assert [entry["level"] for entry in entries] == ["info"] * 2


def test_limit_of_calls_is_each_users_own_by_id_and_by_me(limited, user):
    client = limited(RATE_LIMIT="3/year")
    paths = [TASKS, f"/api/{user}/tasks", f"{TASKS}/summary", "/api/me/trash"]
    statuses = [client.get(path, headers=bearer(user, jti=path)).status_code for path in paths]
    assert statuses == [200, 200, 200, 429]
    assert remaining(client.get(TASKS, headers=bearer(new_user()))) == 2


def test_several_limits_all_count_and_the_shortest_window_is_named_first(limited, user):
    client = limited(RATE_LIMIT="2/year;5/day")
    responses = [client.get(TASKS, headers=bearer(user)) for _ in range(3)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert responses[0].headers["RateLimit-Policy"] == f'"user-1";q=5;w=86400, "user-2";q=2;w={WINDOW_S}'
    daily, yearly = responses[2].headers["RateLimit"].split(", ")
    assert daily.startswith('"user-1";r=2;t=')
    assert yearly == f'"user-2";r=0;t={responses[2].headers["Retry-After"]}'


def test_several_limits_are_named_in_the_order_of_their_windows_in_seconds(limited, user):
    response = limited(RATE_LIMIT="9/2 hours;7/90 seconds;5/minute").get(TASKS, headers=bearer(user))
    policy = '"user-1";q=5;w=60, "user-2";q=7;w=90, "user-3";q=9;w=7200'
    assert response.headers["RateLimit-Policy"] == policy


@pytest.mark.slow
def test_limit_after_retry_after_lets_the_user_through(limited, user):
    client = limited(RATE_LIMIT="1/2 seconds")
    _, refused = (client.get(TASKS, headers=bearer(user)) for _ in range(2))
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
def test_limit_of_calls_comes_after_path_and_user_and_does_not_count_their_failures(
    limited, user, method, path, status
):
    client = limited(RATE_LIMIT="1/year")
    for _ in range(2):
        response = client.open(path, method=method, headers=bearer(user))
        assert response.status_code == status
        assert HEADERS.isdisjoint(response.headers.keys())
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
def test_limit_of_calls_comes_before_parameters_body_and_row_and_counts_their_failures(
    limited, user, method, path, body, status
):
    client = limited(RATE_LIMIT="1/year")
    responses = [client.open(path, method=method, headers=bearer(user), data=body) for _ in range(2)]
    assert [response.status_code for response in responses] == [status, 429]
    assert [remaining(response) for response in responses] == [0, 0]


def test_call_over_the_limit_costs_no_statement_and_can_be_read_across_origins(database_url, proxy, user):
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
        pytest.param({"RATE_LIMIT_FAILED_AUTH": "2/year", "RATE_LIMIT": "9/year"}, id="with-a-limit-of-calls"),
    ],
)
def test_limit_of_failures_exceeded_is_429_instead_of_401(limited, settings, capfd):
    client = limited(**settings)
    sent = [{}, {"Authorization": "Bearer x"}, {}, {"Authorization": "Bearer x"}]
    responses = [client.get(TASKS, headers=headers) for headers in sent]
    assert [response.status_code for response in responses] == [401, 401, 429, 429]
    assert [remaining(response, "address") for response in responses] == [1, 0, 0, 0]
    wait_s = responses[2].headers["Retry-After"]
    sentence = f"Too many failed authentications from your address. Please try again in {wait_s} s."
    assert "reason" not in assert_problem(responses[2], 429, sentence)
    assert "WWW-Authenticate" not in responses[2].headers
    assert len(logged(capfd, status=429, reason="Authorization: no bearer token")) == 1


def test_limit_of_calls_alone_leaves_failures_unlimited(limited, database_url, user):
    config = config_for(database_url, WEB_CONCURRENCY="1", RATE_LIMIT="1/year", RATE_LIMIT_FAILED_AUTH="1/year")
    client = limited(replace(config, rate_limit_failed_auth=None))
    assert [client.get(TASKS).status_code for _ in range(3)] == [401, 401, 401]
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(2)] == [200, 429]


def test_limit_of_failures_passes_valid_tokens_and_counts_nothing_else(limited, user):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year")
    responses = [
        client.get(TASKS, headers=bearer(user)),
        client.get("/api/somebody-else/tasks", headers=bearer(user)),
        client.get("/nowhere"),
    ]
    assert [response.status_code for response in responses] == [200, 403, 404]
    assert all(HEADERS.isdisjoint(response.headers.keys()) for response in responses)
    assert [client.get(TASKS).status_code for _ in range(2)] == [401, 429]
    assert client.get(TASKS, headers=bearer(user)).status_code == 200


def test_limit_of_failures_is_each_addresses_own(limited):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year")

    def status(address):
        return client.get(TASKS, environ_overrides={"REMOTE_ADDR": address}).status_code

    assert [status("192.0.2.1"), status("192.0.2.1"), status("192.0.2.2")] == [401, 429, 401]
    # A client that has one address of a /64 network has them all.
    assert [status("2001:db8::1"), status("2001:db8::2"), status("2001:db8:0:1::1")] == [401, 429, 401]
    assert [status(""), status("")] == [401, 429]


@pytest.mark.parametrize(
    ("proxies", "statuses"),
    [pytest.param("0", [401, 429, 429], id="no-proxy"), pytest.param("1", [401, 401, 429], id="one-proxy")],
)
def test_limit_of_failures_behind_a_trusted_proxy_is_of_the_address_it_appended(limited, proxies, statuses):
    client = limited(RATE_LIMIT_FAILED_AUTH="1/year", TRUSTED_PROXIES=proxies)
    # The client may write anything before the last address.
    forwarded = ["192.0.2.1", "192.0.2.2", "192.0.2.9, 192.0.2.1"]
    assert [client.get(TASKS, headers={"X-Forwarded-For": value}).status_code for value in forwarded] == statuses


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
        ("192.0.2.1", "192.0.2.1:1234", True),
        ("192.0.2.1", "[192.0.2.1]:1234", True),
        ("192.0.2.1", "192.0.2.1:", True),
        ("192.0.2.1", " 192.0.2.1 ", True),
        ("192.0.2.1", "192.00.002.01", True),
        ("192.0.2.8", "192.0.2.08:80", True),
        ("192.0.2.1", "::FFFF:192.0.2.1", True),
        ("192.0.2.1", "[::ffff:192.0.2.1]:80", True),
        ("192.0.2.1", "::ffff:c000:0201", True),
        ("192.0.2.1", "0:0:0:0:0:ffff:c000:201%eth0", True),
        ("192.0.2.1", "192.0.2.10", False),
        ("192.0.2.1:1234", "192.0.2.2:1234", False),
        ("2001:db8::1", "[2001:db8::1]", True),
        ("2001:db8::1", "[2001:DB8::0001]:443", True),
        ("2001:db8::1", "2001:0db8:0000:0000:0000:0000:0000:0001", True),
        ("2001:db8::1", "[2001:db8::1%25eth0]:443", True),
        ("[2001:db8::1]:443", "[2001:db8:0:1::1]:443", False),
        ("2001:db8:100::1", "2001:db8:1::1", False),
        ("", "unknown", True),
        ("unknown", "_hidden:80", True),
        ("1.2.3", "1.2.3.4.5", True),
        ("192.0.2.256", "192.0.2", True),
        ("0xc0.0.2.1", "3221225985", True),
        ("2001:db8::1::", "[", True),
        ("\u0661.2.3.4", "x" * 9000, True),
        ("0" * 9000, "9" * 9000, True),
    ],
)
def test_network_of_an_address_is_what_one_client_has(address, other, same):
    assert (network(address) == network(other)) is same


@pytest.mark.parametrize(
    "spelt",
    [
        pytest.param("192.0.2.1:{}", id="port"),
        pytest.param('"[::ffff:192.0.2.1]:{}"', id="brackets"),
        pytest.param("fe80::1%eth{}", id="zone"),
        pytest.param("2001:db8::{}", id="network"),
        pytest.param("nonsense-{}", id="nonsense"),
        pytest.param("for=192.0.2.1;by={}", id="other-syntax"),
    ],
)
def test_limit_of_failures_counts_a_client_once_however_its_address_is_written(limited, spelt):
    client = limited(RATE_LIMIT_FAILED_AUTH="2/year", TRUSTED_PROXIES="1")
    answers = [client.get(TASKS, headers={"X-Forwarded-For": spelt.format(number)}) for number in range(1, 6)]
    assert [answer.status_code for answer in answers] == [401, 401, 429, 429, 429]


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
def test_limits_counted_in_one_place_are_no_warning(database_url, capfd, settings):
    create_app(config_for(database_url, LOG_FORMAT="json", **settings))
    assert logged(capfd, level="warning") == []


def test_shared_store_counts_for_all_processes_and_learns_no_id(limited, user, counting_redis):
    settings = {"RATE_LIMIT": "2/year;9/hour", "RATE_LIMIT_STORAGE_URL": counting_redis.url}
    first, second = limited(**settings), limited(**settings)
    responses = [client.get(TASKS, headers=bearer(user)) for client in (first, second, first)]
    assert [response.status_code for response in responses] == [200, 200, 429]
    assert list(counting_redis.counts.values()) == [3, 3]
    assert list(counting_redis.lifetimes.values()) == [3600, WINDOW_S]
    assert all(hashed(user) in key and user not in key for key in counting_redis.counts)


def test_store_that_is_away_lets_all_calls_through_and_is_one_log_line(limited, user, capfd):
    client = limited(
        RATE_LIMIT="1/year", RATE_LIMIT_FAILED_AUTH="1/year", RATE_LIMIT_STORAGE_URL="redis://:sesame@127.0.0.1:1"
    )
    responses = [client.get(TASKS, headers=bearer(user)) for _ in range(3)] + [client.get(TASKS) for _ in range(2)]
    assert [response.status_code for response in responses] == [200, 200, 200, 401, 401]
    assert all(HEADERS.isdisjoint(response.headers.keys()) for response in responses)
    (entry,) = logged(capfd, event=AWAY)
    assert entry["level"] == "error"
    assert "sesame" not in str(entry)


@pytest.mark.slow
def test_store_that_comes_back_counts_again_and_is_another_log_line(limited, user, counting_redis, capfd):
    client = limited(RATE_LIMIT="1/year", RATE_LIMIT_STORAGE_URL=counting_redis.url)
    counting_redis.refuses = {"EVALSHA"}
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(3)] == [200, 200, 200]
    counting_redis.refuses = set()
    # The first pause is a second.
    time.sleep(1.1)
    assert [client.get(TASKS, headers=bearer(user)).status_code for _ in range(2)] == [200, 429]
    assert [entry["event"] for entry in logged(capfd) if entry["event"] in (AWAY, BACK)] == [AWAY, BACK]


class SwitchableStore:
    """A store that can be switched off and counts how often it was tried."""

    def __init__(self, *, is_away):
        self.is_away = is_away
        self.hits = 0

    def hit(self, _key, window_s, _hits=1):
        self.hits += 1
        if self.is_away:
            raise RedisError
        return Window(self.hits, window_s)


def test_store_that_stays_away_is_tried_after_1_2_4_and_up_to_32_seconds(monkeypatch, capfd):
    now = 1000.0
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: now))
    store = SwitchableStore(is_away=True)
    fail_open = FailOpenStore(store)

    attempts = []
    for second in range(200):
        now = 1000.0 + second
        tried_before = store.hits
        # One hit at most tries it, and all of them pass.
        assert [fail_open.hit("k", 60) for _ in range(3)] == [None] * 3
        attempts += [second] * (store.hits - tried_before)

    assert attempts == [0, 1, 3, 7, 15, 31, 63, 95, 127, 159, 191]
    store.is_away = False
    assert fail_open.hit("k", 60) is None
    now += 32
    assert fail_open.hit("k", 60) == (12, 60)
    assert "".join(capfd.readouterr()).count(AWAY) == 1


def test_store_that_several_threads_find_away_is_one_log_line_and_one_pause(monkeypatch, capfd):
    now = 1000.0
    monkeypatch.setattr(shared, "time", SimpleNamespace(monotonic=lambda: now))
    store = SwitchableStore(is_away=True)
    fail_open = FailOpenStore(store)
    all_threads = threading.Barrier(8, timeout=10)
    hit = store.hit

    def hit_at_once(key, window_s, _hits):
        all_threads.wait()
        return hit(key, window_s)

    store.hit = hit_at_once
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: fail_open.hit("k", 60), range(8))) == [None] * 8
    store.hit = hit

    assert "".join(capfd.readouterr()).count(AWAY) == 1
    store.is_away = False
    now += 1
    assert fail_open.hit("k", 60) == (9, 60)


def test_hit_that_was_under_way_when_the_store_went_does_not_bring_it_back(capfd):
    store = SwitchableStore(is_away=False)
    fail_open = FailOpenStore(store)
    hit = store.hit

    def hit_slowly(key, window_s, _hits):
        window = hit(key, window_s)
        store.hit, store.is_away = hit, True
        assert fail_open.hit("other", 60) is None
        return window

    store.hit = hit_slowly
    assert fail_open.hit("k", 60) == (1, 60)
    assert fail_open.hit("k", 60) is None
    assert store.hits == 2
    assert BACK not in "".join(capfd.readouterr())


def test_limit_whose_store_goes_between_two_quotas_lets_the_caller_through_without_headers(app):
    store = SwitchableStore(is_away=False)
    limit = Limit("user", "1/minute;1/hour", store)
    windows = iter([Window(2, 60), None])
    store.hit = lambda *_: next(windows)

    with app.test_request_context():
        assert limit.count("somebody") == 0
        assert "rate_limit" not in g


def test_memory_loses_no_hit_to_threads():
    store = MemoryStore()
    with ThreadPoolExecutor(8) as pool:
        windows = pool.map(lambda _: store.hit("k", 60), range(400))
        assert sorted(window.hits for window in windows) == list(range(1, 401))


def test_memory_is_bounded_and_keeps_what_is_still_raised():
    store = MemoryStore()
    for number in range(COUNTS_MAX + 10):
        kept = store.hit("kept", 60)
        store.hit(f"k{number}", 60)
    assert kept.hits == COUNTS_MAX + 10
    assert store.hit("k0", 60).hits == 1
    assert len(store._windows) == COUNTS_MAX
    assert store.hit("kept", 60).hits == COUNTS_MAX + 11


@pytest.mark.slow
def test_memory_forgets_a_count_when_its_window_ends():
    store = MemoryStore()
    first, second = store.hit("k", 1), store.hit("k", 1)
    assert (first.hits, second.hits) == (1, 2)
    assert 0 < second.left_s <= first.left_s <= 1
    time.sleep(second.left_s + 0.01)
    assert store.hit("k", 1).hits == 1


def test_memory_needs_no_thread():
    before = set(threading.enumerate())
    MemoryStore().hit("k", 60)
    assert set(threading.enumerate()) <= before
