"""Rate limits: who is counted, what is answered, and that there is nothing of it unless it is set."""

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from support import assert_problem, bearer, config_for, new_user

from config import Quota
from todo import create_app
from todo.extensions import db
from todo.limits.limiter import Limiter, network
from todo.limits.stores import COUNTS_MAX, PAUSE_S, REPORT_EVERY_S, Forgiving, MemoryStore
from todo.logs import hashed

# So long that no window ends during a test.
WINDOW_S = 31_104_000
TASKS = "/api/me/tasks"
HEADERS = {"RateLimit", "RateLimit-Policy"}


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


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


def test_limits_unset_import_nothing(root):
    script = (
        "import sys; from config import Config; from todo import create_app;"
        "create_app(Config(better_auth_secret='x', log_level='ERROR'));"
        "print([name for name in ('limits', 'redis') if name in sys.modules])"
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
    assert answers[0].headers["RateLimit-Policy"] == f'"user-1";q=2;w={WINDOW_S}, "user-2";q=5;w=86400'
    yearly, daily = answers[2].headers["RateLimit"].split(", ")
    assert yearly == f'"user-1";r=0;t={answers[2].headers["Retry-After"]}'
    assert daily.startswith('"user-2";r=2;t=')


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
    client = limited(replace(settings, rate_limit_failed_auth=()))
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
    assert list(counting_redis.lifetimes.values()) == [WINDOW_S, 3600]
    assert all(hashed(user) in key and user not in key for key in counting_redis.counts)


def test_store_that_is_away_lets_everybody_through_and_is_one_log_line(limited, user, capfd):
    client = limited(
        RATE_LIMIT="1/year", RATE_LIMIT_FAILED_AUTH="1/year", RATE_LIMIT_STORAGE_URL="redis://:sesame@127.0.0.1:1"
    )
    answers = [client.get(TASKS, headers=bearer(user)) for _ in range(3)] + [client.get(TASKS) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 401, 401]
    assert all(HEADERS.isdisjoint(answer.headers.keys()) for answer in answers)
    (entry,) = logged(capfd, event="rate limits are not held: their store does not answer")
    assert entry["level"] == "error"
    assert "sesame" not in entry["reason"]


@given(
    quotas=st.lists(st.builds(Quota, st.integers(1, 5), st.integers(1, 30)), min_size=1, max_size=3),
    pauses_s=st.lists(st.floats(0, 12), max_size=40),
    start=st.floats(0, 2e9),
)
def test_limiter_lets_no_more_than_the_quota_into_any_window(quotas, pauses_s, start):
    clock = Clock(start)
    limiter = Limiter("user", quotas, MemoryStore(), clock)
    passed, came = [{} for _ in quotas], [{} for _ in quotas]
    for pause_s in pauses_s:
        clock.now += pause_s
        standing = limiter.count("u")
        for number, quota in enumerate(quotas):
            window = clock.now // quota.window_s
            came[number][window] = came[number].get(window, 0) + 1
            passed[number][window] = passed[number].get(window, 0) + (standing.wait_s == 0)
            assert passed[number][window] <= quota.amount
        is_over = any(came[number][clock.now // quota.window_s] > quota.amount for number, quota in enumerate(quotas))
        assert (standing.wait_s > 0) is is_over


@given(amount=st.integers(1, 5), window_s=st.integers(1, 1000), now=st.floats(0, 2e9))
def test_limiter_lets_whoever_waited_as_told_through(amount, window_s, now):
    clock = Clock(now)
    limiter = Limiter("user", [Quota(amount, window_s)], MemoryStore(), clock)
    *_, last = [limiter.count("u") for _ in range(amount + 1)]
    assert 0 < last.wait_s <= window_s
    clock.now += last.wait_s
    assert limiter.count("u").wait_s == 0


class Slow(dict):
    """A memory in which others have the time to write between a read and what follows from it."""

    def get(self, key, default):
        found = super().get(key, default)
        time.sleep(0.001)
        return found


def test_memory_store_loses_no_count_to_threads():
    store = MemoryStore()
    store._counts = Slow()
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: store.count([("k", 1)]), range(40)))
    assert sorted(counts) == [[number] for number in range(1, 41)]


def test_memory_store_is_bounded_and_keeps_what_is_still_counted():
    store = MemoryStore()
    for number in range(COUNTS_MAX + 10):
        store.count([("kept", 1), (f"k{number}", 1)])
    assert len(store._counts) == COUNTS_MAX
    assert store.count([("kept", 1), ("k0", 1)]) == [COUNTS_MAX + 11, 1]


class Flaky:
    """A store that fails on demand, and counts who asks."""

    def __init__(self) -> None:
        self.fails = False
        self.asked = 0

    def count(self, windows):
        self.asked += 1
        if self.fails:
            raise OSError("no route")
        return [self.asked for _ in windows]


@pytest.fixture
def flaky():
    return Flaky()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def forgiving(flaky, clock):
    return Forgiving(flaky, OSError, clock)


@pytest.fixture
def entries():
    """Give what is logged, as it is logged."""
    with capture_logs() as entries:
        yield entries


def test_forgiving_asks_a_failed_store_once_in_a_pause_and_notices_its_return(forgiving, flaky, clock, entries):
    assert forgiving.count([("k", 1)]) == [1]
    flaky.fails = True
    assert [forgiving.count([("k", 1)]) for _ in range(5)] == [None] * 5
    assert flaky.asked == 2
    clock.now += PAUSE_S
    assert [forgiving.count([("k", 1)]) for _ in range(5)] == [None] * 5
    assert flaky.asked == 3
    flaky.fails = False
    assert forgiving.count([("k", 1)]) is None
    clock.now += PAUSE_S
    assert [forgiving.count([("k", 1)]) for _ in range(3)] == [[4], [5], [6]]


def test_forgiving_lets_the_others_go_on_while_one_finds_out(forgiving, flaky, clock, entries):
    flaky.fails = True
    forgiving.count([("k", 1)])
    clock.now += PAUSE_S
    flaky.fails = False
    meanwhile = []
    asked = flaky.count

    def while_it_hangs(windows):
        meanwhile.extend(forgiving.count(windows) for _ in range(3))
        return asked(windows)

    flaky.count = while_it_hangs
    assert forgiving.count([("k", 1)]) == [2]
    assert meanwhile == [None] * 3


def test_forgiving_writes_a_line_every_ten_seconds_at_most(forgiving, flaky, clock, entries):
    flaky.fails = True
    # A quarter of a second is exact as a float.
    for quarter in range(int(2.5 * REPORT_EVERY_S * 4)):
        clock.now = quarter / 4
        forgiving.count([("k", 1)])
    assert [(entry["log_level"], entry["reason"]) for entry in entries] == [("error", "no route")] * 3


def test_forgiving_hides_no_bug(forgiving, flaky):
    flaky.count = lambda _: 1 / 0
    with pytest.raises(ZeroDivisionError):
        forgiving.count([("k", 1)])
