"""The key cache: what it fetches and when, which threads wait, and its state during outages of the issuer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from structlog.testing import capture_logs
from support import config_for

from todo import create_app
from todo.auth.fetch import FetchFailed
from todo.auth.jwks import ATTEMPT_INTERVAL_S, ATTEMPTS, FRESH_S, STALE_S, Attempt, KeyCache, KeysUnavailable
from todo.auth.keys import Key, KeySet

DEADLINE_S = 10


class Issuer:
    """Stand-in for an issuer: publishes keys at once, or when `released` is set, or fails."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.kids = ["k1"]
        self.fault: str | None = None
        self.fetches = 0
        self.released = threading.Event()
        self.released.set()

    def clock(self) -> float:
        return self.now

    def fetch(self) -> KeySet:
        self.fetches += 1
        assert self.released.wait(DEADLINE_S)
        if self.fault is not None:
            raise FetchFailed(self.fault)
        return KeySet({kid: Key(kid, "EdDSA", (), None) for kid in self.kids}, ("key 1: has no kid",))


@pytest.fixture
def issuer():
    issuer = Issuer()
    yield issuer
    issuer.released.set()


@pytest.fixture
def cache(issuer) -> KeyCache:
    return KeyCache(issuer.fetch, clock=issuer.clock)


def settle(cache: KeyCache) -> None:
    """Wait until no fetch is running."""
    assert cache._attempt.finished.wait(DEADLINE_S)


def test_find_first_lookup_fetches_and_the_next_ones_do_not(cache, issuer):
    for _ in range(3):
        assert cache.find("k1").kid == "k1"
    assert issuer.fetches == 1


def test_find_fresh_key_needs_no_fetch_until_the_end_of_its_time(cache, issuer):
    cache.find("k1")
    issuer.now += FRESH_S
    assert cache.find("k1").kid == "k1"
    assert issuer.fetches == 1


def test_find_stale_key_is_returned_at_once_while_one_fetch_runs(cache, issuer):
    cache.find("k1")
    issuer.now += FRESH_S + 1
    issuer.released.clear()
    for _ in range(5):
        assert cache.find("k1").kid == "k1"
    issuer.released.set()
    settle(cache)
    assert issuer.fetches == 2
    assert cache.find("k1").kid == "k1"
    assert issuer.fetches == 2


def test_find_retired_key_is_gone_after_the_fresh_time(cache, issuer):
    cache.find("k1")
    issuer.kids = ["k2"]
    issuer.now += FRESH_S + 1
    cache.find("k1")
    settle(cache)
    assert cache.find("k1") is None
    assert cache.find("k2").kid == "k2"


def test_find_stale_key_is_kept_for_an_hour_of_failures_and_no_longer(cache, issuer):
    cache.find("k1")
    issuer.fault = "status 503"
    began = issuer.now
    while issuer.now <= began + FRESH_S + STALE_S - 60:
        issuer.now += 60
        assert cache.find("k1").kid == "k1"
        settle(cache)
    issuer.now = began + FRESH_S + STALE_S + 1
    with pytest.raises(KeysUnavailable):
        cache.find("k1")
    issuer.fault = None
    issuer.now += ATTEMPT_INTERVAL_S
    assert cache.find("k1").kid == "k1"


def use_up(cache: KeyCache) -> None:
    """Leave no attempt in the bucket of a cache."""
    while cache._seconds_to_next() <= 0:
        cache.refresh()
        settle(cache)


def test_find_key_that_appears_right_after_a_fetch_is_found(cache, issuer):
    for number in range(1, ATTEMPTS + 1):
        issuer.kids = [f"k{n}" for n in range(1, number + 1)]
        assert cache.find(f"k{number}").kid == f"k{number}"
    assert issuer.fetches == ATTEMPTS


def test_find_unknown_kid_without_an_attempt_is_unavailable_until_the_next_one(cache, issuer):
    cache.find("k1")
    use_up(cache)
    issuer.kids = ["k1", "k2"]
    for wait_s, later_s in ((10, 4), (6, 5.5), (1, 0.5)):
        with pytest.raises(KeysUnavailable, match="not due yet") as refused:
            cache.find("k2")
        assert refused.value.headers == {"Retry-After": str(wait_s)}
        assert cache.find("k1").kid == "k1"
        issuer.now += later_s
    assert issuer.fetches == ATTEMPTS
    assert cache.find("k2").kid == "k2"
    assert issuer.fetches == ATTEMPTS + 1


@pytest.mark.parametrize("attempts", range(ATTEMPTS + 1))
def test_bucket_fills_by_one_attempt_in_each_interval_and_overflows(cache, issuer, attempts):
    use_up(cache)
    spent = issuer.fetches
    issuer.now += attempts * ATTEMPT_INTERVAL_S
    use_up(cache)
    assert issuer.fetches - spent == attempts
    issuer.now += 100 * ATTEMPT_INTERVAL_S
    use_up(cache)
    assert issuer.fetches - spent == attempts + ATTEMPTS


@pytest.mark.parametrize("fault", [None, "status 503"])
def test_find_flood_of_unknown_kids_fetches_once_in_each_interval(cache, issuer, fault):
    cache.find("k1")
    issuer.fault = fault
    began = issuer.now
    missing = 0
    for n in range(1000):
        issuer.now = began + n / 10
        try:
            assert cache.find(f"random-{n}") is None
        except KeysUnavailable:
            pass
        else:
            missing += 1
        assert cache.find("k1").kid == "k1"
    # Of 100 s: the attempts that were left, and one more after each interval.
    assert issuer.fetches - 1 == ATTEMPTS - 1 + 9
    assert missing == (0 if fault else issuer.fetches - 1)


def test_find_before_any_key_was_fetched_is_unavailable_and_counts_the_first_attempt(cache, issuer):
    issuer.fault = "connection refused"
    for wait_s, later_s in ((1, 0), (1, 0), (10, 4), (6, 5.5), (1, 0.5)):
        with pytest.raises(KeysUnavailable) as refused:
            cache.find("k1")
        assert refused.value.headers == {"Retry-After": str(wait_s)}
        assert "connection refused" in refused.value.reason
        issuer.now += later_s
    assert issuer.fetches == ATTEMPTS
    issuer.fault = None
    assert cache.find("k1").kid == "k1"


def test_find_waits_for_a_fetch_that_runs_already_and_then_for_one_of_its_own(cache, issuer):
    published = [threading.Event(), threading.Event()]

    def fetch():
        issuer.fetches += 1
        # The response to the first request was made before the key was.
        kids = ["k1"] if issuer.fetches == 1 else ["k1", "k2"]
        assert published[issuer.fetches - 1].wait(DEADLINE_S)
        return KeySet({kid: Key(kid, "EdDSA", (), None) for kid in kids})

    cache._fetch = fetch
    cache.refresh()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "k2")
        while cache._waiting._value:
            pass
        for event in published:
            event.set()
        assert waiting.result().kid == "k2"
    assert issuer.fetches == 2


def test_find_that_waited_for_an_earlier_fetch_without_another_attempt_is_unavailable(cache, issuer):
    use_up(cache)
    issuer.now += ATTEMPT_INTERVAL_S
    issuer.released.clear()
    cache.refresh()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "k2")
        while cache._waiting._value:
            pass
        issuer.released.set()
        with pytest.raises(KeysUnavailable, match="not due yet"):
            waiting.result()


def test_find_that_waited_for_an_earlier_fetch_which_failed_starts_no_other(cache, issuer):
    issuer.released.clear()
    issuer.fault = "status 503"
    cache.refresh()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "k1")
        while cache._waiting._value:
            pass
        issuer.released.set()
        with pytest.raises(KeysUnavailable, match="status 503"):
            waiting.result()
    assert issuer.fetches == 1


def test_find_after_the_fresh_time_starts_one_fetch_for_an_unknown_kid(cache, issuer):
    cache.find("k1")
    issuer.now += FRESH_S + 1
    assert cache.find("unknown") is None
    assert issuer.fetches == 2


def test_find_cached_never_waits(cache, issuer):
    assert cache.find("k1").kid == "k1"
    assert cache.find_cached("unknown") is None
    assert issuer.fetches == 1
    issuer.released.clear()
    issuer.now += FRESH_S + 1
    assert cache.find_cached("k1").kid == "k1"
    assert cache.find_cached("unknown") is None


def test_find_many_at_once_share_one_fetch(issuer):
    cache = KeyCache(issuer.fetch, clock=issuer.clock, waiting_max=16)
    issuer.released.clear()
    with ThreadPoolExecutor(16) as pool:
        found = [pool.submit(cache.find, "k1") for _ in range(16)]
        issuer.released.set()
        assert {future.result().kid for future in found} == {"k1"}
    assert issuer.fetches == 1


def test_refresh_that_comes_second_joins_the_first(cache, issuer):
    first = Attempt(issuer.now)
    with ThreadPoolExecutor(1) as pool:
        with cache._starting:
            second = pool.submit(cache.refresh)
            time.sleep(0.05)
            cache._attempt = first
        assert second.result() is first
    assert issuer.fetches == 0


def test_find_does_not_wait_when_the_maximum_of_threads_waits(issuer):
    cache = KeyCache(issuer.fetch, clock=issuer.clock, waiting_max=2)
    issuer.released.clear()
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(cache.find, "k1") for _ in range(2)]
        while cache._waiting._value:
            pass
        with pytest.raises(KeysUnavailable, match="enough threads"):
            cache.find("k1")
        issuer.released.set()
        assert [future.result().kid for future in waiting] == ["k1", "k1"]
    assert cache._waiting._value == 2


def test_find_known_key_is_returned_at_once_while_other_threads_wait(cache, issuer):
    cache.find("k1")
    issuer.now += FRESH_S + 1
    issuer.released.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "unknown")
        while cache._waiting._value:
            pass
        for _ in range(100):
            assert cache.find("k1").kid == "k1"
        assert not waiting.done()
        issuer.released.set()
        assert waiting.result() is None


def test_find_fetch_that_hangs_beyond_its_deadline_blocks_no_lookup(cache, issuer):
    issuer.released.clear()
    attempt = cache.refresh()
    issuer.now += 60
    with pytest.raises(KeysUnavailable, match="within 3 s"):
        cache.find("k1")
    assert cache.refresh() is attempt
    assert issuer.fetches == 1
    issuer.released.set()
    settle(cache)
    assert cache.find("k1").kid == "k1"


def test_find_survives_whatever_a_fetch_raises(cache, issuer):
    cache.find("k1")
    for error in (RecursionError(), KeyError("keys"), MemoryError()):
        issuer.now += ATTEMPT_INTERVAL_S

        def fail(error=error):
            raise error

        cache._fetch = fail
        with pytest.raises(KeysUnavailable):
            cache.find("unknown")
        assert cache.find("k1").kid == "k1"


def test_state_follows_the_keys(cache, issuer):
    issuer.fault = "status 503"
    assert cache.state() == "failed"
    issuer.now += ATTEMPT_INTERVAL_S
    issuer.fault = None
    assert cache.state() == "ok"
    issuer.now += FRESH_S + 1
    issuer.fault = "status 503"
    cache.state()
    settle(cache)
    assert cache.state() == "stale"
    issuer.released.clear()
    issuer.now += ATTEMPT_INTERVAL_S
    assert cache.state() == "stale"
    issuer.released.set()
    settle(cache)
    issuer.now += STALE_S
    assert cache.state() == "expired"
    issuer.fault = None
    issuer.now += ATTEMPT_INTERVAL_S
    cache.state()
    settle(cache)
    assert cache.state() == "ok"


def test_state_of_a_fetch_that_hangs_is_stale(cache, issuer):
    cache.find("k1")
    issuer.now += FRESH_S + 1
    issuer.released.clear()
    assert cache.state() == "ok"
    issuer.now += DEADLINE_S
    assert cache.state() == "stale"


def test_state_with_the_maximum_of_waiting_threads_is_failed_at_once(cache, issuer):
    issuer.released.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "k1")
        while cache._waiting._value:
            pass
        assert cache.state() == "failed"
        issuer.released.set()
        waiting.result()


def test_log_has_one_line_for_each_failure_and_each_change(cache, issuer):
    with capture_logs() as logs:
        cache.find("k1")
        for fault, kids in (("status 503", ["k1"]), (None, ["k1"]), (None, ["k2", "k1"])):
            issuer.now += FRESH_S + 1
            issuer.fault, issuer.kids = fault, kids
            cache.find("k1")
            settle(cache)
    assert [(entry["log_level"], entry["event"], entry.get("reason") or entry["keys"]) for entry in logs] == [
        ("info", "issuer keys fetched", 1),
        ("warning", "issuer keys not fetched", "status 503"),
        ("info", "issuer keys fetched", 2),
    ]
    assert logs[0]["dropped"] == ["key 1: has no kid"]


def test_refresh_that_can_start_no_thread_is_a_failed_attempt_and_tried_again(cache, issuer, monkeypatch):
    cache.find("k1")
    issuer.now += ATTEMPT_INTERVAL_S
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("no more threads")))
        with pytest.raises(KeysUnavailable, match="no more threads"):
            cache.find("unknown")
        assert cache.find("k1").kid == "k1"
    issuer.now += ATTEMPT_INTERVAL_S
    assert cache.find("unknown") is None


def test_find_key_that_arrives_at_the_last_moment_is_found(cache, issuer, monkeypatch):
    issuer.released.clear()
    cache.refresh()
    issuer.now += DEADLINE_S
    looked = []

    def at_hand_after_the_first_look(kid, look=cache._find_cached):
        found = look(kid)
        if len(looked) == 1:
            issuer.released.set()
            settle(cache)
        looked.append(kid)
        return found

    monkeypatch.setattr(cache, "_find_cached", at_hand_after_the_first_look)
    with pytest.raises(KeysUnavailable):
        cache.find("k1")
    assert cache.find("k1").kid == "k1"


def test_find_refused_to_wait_has_retry_after_the_deadline_of_the_fetch(cache, issuer):
    issuer.released.clear()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(cache.find, "k1")
        while cache._waiting._value:
            pass
        with pytest.raises(KeysUnavailable) as refused:
            cache.find("k1")
        assert refused.value.headers == {"Retry-After": "3"}
        issuer.released.set()
        waiting.result()


def test_find_key_is_as_old_as_the_start_of_its_fetch(cache, issuer):
    issuer.released.clear()
    attempt = cache.refresh()
    issuer.now += 2
    issuer.released.set()
    settle(cache)
    assert cache._cached.fetched_at == attempt.started_at == issuer.now - 2


@pytest.mark.parametrize(("threads", "seats"), [("1", 1), ("4", 1), ("8", 2), ("64", 16)])
def test_a_quarter_of_the_threads_may_wait(database_url, threads, seats):
    app = create_app(config_for(database_url, BETTER_AUTH_URL="http://127.0.0.1:1", WEB_THREADS=threads))
    assert app.extensions["issuer_keys"]._waiting._value == seats
