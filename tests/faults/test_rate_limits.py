"""Rate limits that two processes count together in a real Redis, and what becomes of calls when that Redis fails."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes.certificates import self_signed
from faults.redis_server import RedisServer
from support import assert_problem, bearer, new_user
from wire.server import Line, Server, log_from_now, wait_until

from todo.limits.shared import AWAY

# So long that no window ends during a test.
LIMIT, FAILURES = 40, 10
PROCESSES, THREADS = 2, 4
TASKS = "/api/me/tasks"


@pytest.fixture(scope="module")
def module_redis() -> Iterator[RedisServer]:
    redis = RedisServer()
    yield redis
    redis.close()


@pytest.fixture
def redis(module_redis: RedisServer) -> RedisServer:
    """Return an empty Redis."""
    module_redis.client.flushall()
    return module_redis


@pytest.fixture
def broken(redis: RedisServer, server: Server) -> Iterator[RedisServer]:
    """Yield an empty Redis to break; afterwards repair it, and wait until the server has noticed."""
    yield redis
    redis.go_on()
    if redis.process.poll() is not None:
        redis.start()
    redis.client.config_set("maxmemory", 0)
    redis.client.config_set("min-replicas-to-write", 0)
    wait_until_all_count(server)


@pytest.fixture(scope="module")
def server(start_server, database_url: str, module_redis: RedisServer) -> Server:
    """Return a server of two processes that count together."""
    return start_server(
        DATABASE_URL=database_url,
        WEB_CONCURRENCY=str(PROCESSES),
        WEB_THREADS=str(THREADS),
        RATE_LIMIT=f"{LIMIT}/year;{2 * LIMIT}/year",
        RATE_LIMIT_FAILED_AUTH=f"{FAILURES}/year",
        RATE_LIMIT_STORAGE_URL=module_redis.url,
    )


def get_tasks(server: Server, headers: dict[str, str]):
    return server.call("GET", TASKS, headers)


def burst(server: Server, calls: int, headers: dict[str, str] | None = None) -> list:
    """Make calls concurrently, as a new user where no headers are passed."""
    headers = bearer(new_user()) if headers is None else headers
    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(lambda _: get_tasks(server, headers), range(calls)))


def statuses(responses: list) -> Counter[int]:
    return Counter(response.status_code for response in responses)


def wait_until_all_count(server: Server) -> None:
    """Wait until each process counts again: it tries the store after 1, 2, 4 and more seconds."""
    wait_until(lambda: all("RateLimit" in response.headers for response in burst(server, 48)), "counted by all")


def test_two_processes_together_let_exactly_the_limit_through(server, redis):
    responses = burst(server, 3 * LIMIT)

    assert statuses(responses) == {200: LIMIT, 429: 2 * LIMIT}
    passed = [response.headers["RateLimit"].split(";")[1] for response in responses if response.status_code == 200]
    assert sorted(passed) == sorted(f"r={left}" for left in range(LIMIT))
    for response in responses:
        if response.status_code == 429:
            assert_problem(response, 429)
            assert int(response.headers["Retry-After"]) > 0


def test_two_processes_count_failures_of_an_address_together(server, redis):
    responses = burst(server, 3 * FAILURES, {"Authorization": "Bearer x"})

    assert statuses(responses) == {401: FAILURES, 429: 2 * FAILURES}
    assert get_tasks(server, bearer(new_user())).status_code == 200


def test_call_is_one_round_trip_for_each_limit_and_leaves_only_hashes_that_expire(server, redis):
    user = new_user()
    with Line(server.port) as line:
        line.call("GET", TASKS, bearer(user))
        reads = redis.client.info("stats")["total_reads_processed"]
        assert line.call("GET", TASKS, bearer(user)).status_code == 200
        # One of the reads is that of the INFO command itself.
        assert redis.client.info("stats")["total_reads_processed"] == reads + 2 + 1

    keys = redis.client.keys("*")
    assert keys
    assert all(0 < redis.client.ttl(key) <= 31_104_000 for key in keys)
    assert not any(user.encode() in key for key in keys)


def test_store_that_is_killed_lets_all_through_and_counts_again_when_it_is_back(server, broken):
    headers = bearer(new_user())
    assert statuses(burst(server, LIMIT + 1, headers)) == {200: LIMIT, 429: 1}
    logged = log_from_now(server.log)

    broken.kill()
    responses = burst(server, 4 * LIMIT, headers)

    assert statuses(responses) == {200: 4 * LIMIT}
    # The other threads of a process may be counting when the first one fails.
    assert sum("RateLimit" in response.headers for response in responses) <= PROCESSES * THREADS
    lines = [line for line in logged().splitlines() if AWAY in line]
    assert 1 <= len(lines) <= PROCESSES
    assert all(json.loads(line)["level"] == "error" for line in lines)

    broken.start()
    wait_until_all_count(server)
    assert statuses(burst(server, LIMIT + 5, headers)) == {200: LIMIT, 429: 5}


def test_store_that_hangs_delays_no_call_and_mixes_up_no_count_afterwards(server, broken):
    with Line(server.port) as line:
        headers = bearer(new_user())
        assert line.call("GET", TASKS, headers).status_code == 200
        broken.hang()
        started = time.monotonic()
        responses = [line.call("GET", TASKS, headers) for _ in range(100)]
        took_s = time.monotonic() - started

    assert statuses(responses) == {200: 100}
    # With each call waiting for the store it would be 10 s.
    assert took_s < 5

    broken.go_on()
    # On a busy machine, the store may exceed its time-out once more.
    exact = {200: LIMIT, 429: 5}
    wait_until(lambda: statuses(burst(server, LIMIT + 5, bearer(new_user()))) == exact, "limits are enforced again")


def test_store_that_hangs_limits_no_failure_either(server, broken):
    broken.hang()

    assert statuses(burst(server, 5 * FAILURES, {})) == {401: 5 * FAILURES}


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param("maxmemory", 1, id="full"), pytest.param("min-replicas-to-write", 1, id="read-only")],
)
def test_store_that_refuses_to_count_lets_all_through(server, broken, name, value):
    broken.client.config_set(name, value)

    assert statuses(burst(server, 3 * LIMIT)) == {200: 3 * LIMIT}


def test_store_behind_tls_counts_for_clients_that_trust_its_certificate(start_server, database_url, tmp_path):
    redis = RedisServer(self_signed(tmp_path / "redis.pem"))
    try:
        timeouts = "socket_timeout=3&socket_connect_timeout=3"
        limited = {"DATABASE_URL": database_url, "RATE_LIMIT": "2/year"}
        trusting = start_server(**limited, RATE_LIMIT_STORAGE_URL=f"{redis.url}&{timeouts}")
        distrusting = start_server(**limited, RATE_LIMIT_STORAGE_URL=f"{redis.url.partition('?')[0]}?{timeouts}")
        headers = bearer(new_user())

        assert [get_tasks(trusting, headers).status_code for _ in range(3)] == [200, 200, 429]
        assert [get_tasks(distrusting, headers).status_code for _ in range(3)] == [200, 200, 200]
        assert AWAY in distrusting.log.read_text()
    finally:
        redis.close()


def test_process_that_starts_without_its_store_serves_and_counts_later(start_server, database_url, broken):
    broken.kill()
    server = start_server(DATABASE_URL=database_url, RATE_LIMIT=f"{LIMIT}/year", RATE_LIMIT_STORAGE_URL=broken.url)
    assert get_tasks(server, bearer(new_user())).status_code == 200

    broken.start()

    wait_until(lambda: "RateLimit" in get_tasks(server, bearer(new_user())).headers, "counted")
