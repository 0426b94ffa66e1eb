"""Threads that serve connections: in order, with a share for each user, and whatever happens to one of them."""

import threading
import time

import pytest
from structlog.testing import capture_logs

from todo.serving import threads
from todo.serving.threads import ThreadPool, Turn

SOON_S = 10


class Gate:
    """What threads serve: each call waits until it is let through.

    Attributes:
        begun: The connections that a thread has begun with, in order.

    """

    def __init__(self):
        self.begun = []
        self.changed = threading.Condition()
        self._passes = threading.Semaphore(0)

    def __call__(self, connection):
        with self.changed:
            self.begun.append(connection)
            self.changed.notify_all()
        assert self._passes.acquire(timeout=SOON_S)

    def let_through(self, number=1):
        self._passes.release(number)

    def wait_for(self, number):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= number, SOON_S)
        return self.begun


@pytest.fixture
def gate():
    gate = Gate()
    yield gate
    gate.let_through(1000)


def test_thread_goes_on_after_an_exception_of_any_kind():
    served = []

    def serve(connection):
        served.append((connection, threading.current_thread()))
        if isinstance(connection, BaseException):
            raise connection

    pool = ThreadPool(1, serve)
    with capture_logs() as logs:
        for connection in (ValueError("x"), SystemExit(3), KeyboardInterrupt(), "last"):
            pool.put(connection, "user")
        deadline = time.monotonic() + SOON_S
        while len(served) < 4 or pool._working:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert len({thread for _, thread in served}) == 1
    assert [entry["event"] for entry in logs] == ["connection failed"] * 3
    assert (pool._waiting, pool._parked) == ({}, {})


def test_user_with_many_requests_gets_half_of_the_threads_and_others_pass(gate):
    pool = ThreadPool(4, gate)
    for number in range(6):
        pool.put(f"a{number}", "a")
    for number in range(2):
        pool.put(f"b{number}", "b")

    assert sorted(gate.wait_for(4)) == ["a0", "a1", "b0", "b1"]
    gate.let_through()
    # Which of the four ends is up to the threads, and so is which of two that begin at once is noted first.
    gate.let_through(20)
    begun = gate.wait_for(8)
    assert sorted(begun[4:]) == ["a2", "a3", "a4", "a5"]


def test_requests_of_nobody_in_particular_take_every_thread(gate):
    pool = ThreadPool(4, gate)
    for number in range(4):
        pool.put(number)
    assert sorted(gate.wait_for(4)) == [0, 1, 2, 3]


def test_share_of_a_single_thread_is_that_thread(gate):
    pool = ThreadPool(1, gate)
    assert pool.share == 1
    pool.put("a0", "a")
    assert gate.wait_for(1) == ["a0"]


def test_overdue_takes_what_waits_in_the_queue_or_for_a_share_and_nothing_else(gate):
    pool = ThreadPool(2, gate)
    for connection, user in (("a0", "a"), ("b0", "b"), ("a1", "a"), ("c0", "c")):
        pool.put(connection, user)
    gate.wait_for(2)
    assert list(pool.overdue(60)) == []
    assert pool.delay_s() > 0
    time.sleep(0.01)
    assert list(pool.overdue(0.001)) == ["a1", "c0"]
    assert list(pool.overdue(0.001)) == []

    gate.let_through(10)
    pool.put("a2", "a")
    pool.put("c1", "c")
    assert gate.wait_for(4)[2:] in (["a2", "c1"], ["c1", "a2"])
    deadline = time.monotonic() + SOON_S
    while pool._working or pool._parked:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert (pool.delay_s(), pool._waiting) == (0.0, {})


def test_overdue_leaves_what_a_thread_has_begun_with_in_the_meantime(gate):
    pool = ThreadPool(1, gate)
    for connection in ("a0", "b0", "c0"):
        pool.put(connection)
    gate.wait_for(1)
    time.sleep(0.01)
    assert next(iter(pool._waiting)).claim() == "b0"
    assert list(pool.overdue(0.001)) == ["c0"]


def test_requests_that_wait_for_their_user_are_bounded_in_bytes_and_others_pass(gate, monkeypatch):
    monkeypatch.setattr(threads, "PARKED_MAX_BYTES", 100)
    pool = ThreadPool(4, gate)
    put = [pool.put(f"a{number}", "a", 60) for number in range(4)]

    # The first two have a thread, the third one waits, and there is no room for the fourth one.
    assert put == [True, True, True, False]
    assert pool.put("b0", "b", 60)
    assert sorted(gate.wait_for(3)) == ["a0", "a1", "b0"]

    time.sleep(0.01)
    assert list(pool.overdue(0.001)) == ["a2"]
    assert pool.put("a4", "a", 60)
    gate.let_through(20)
    assert gate.wait_for(4)[3:] == ["a4"]
    deadline = time.monotonic() + SOON_S
    while pool._working:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert (pool._parked_bytes, pool._queued_bytes) == (0, 0)


@pytest.mark.parametrize("user", [None, "b"])
def test_requests_that_wait_for_a_thread_are_bounded_in_bytes(gate, monkeypatch, user):
    monkeypatch.setattr(threads, "QUEUED_MAX_BYTES", 100)
    pool = ThreadPool(2, gate)
    assert [pool.put("a0", "a", 60), pool.put("a1", "a", 60)] == [True, True]
    assert gate.wait_for(1) == ["a0"]
    assert pool.put("x", None, 60)
    gate.wait_for(2)

    # A thread has begun with two, one waits for its user, and there is room for one of these two.
    assert [pool.put("y", user, 60), pool.put("z", user and "c", 60)] == [True, False]
    gate.let_through(20)
    # The one that waited for its user counts in the queue too, until a thread begins with it.
    assert sorted(gate.wait_for(4)) == ["a0", "a1", "x", "y"]
    deadline = time.monotonic() + SOON_S
    while pool._working:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert (pool._parked_bytes, pool._queued_bytes) == (0, 0)


def test_turn_is_claimed_once():
    turn = Turn("connection", None)
    assert [turn.claim(), turn.claim()] == ["connection", None]
