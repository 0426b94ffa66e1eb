"""Who is told of which change, and when."""

import math
import random
import threading
import time
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs
from support import new_user

from todo.database.statements import ListChange
from todo.events import hub as hub_module
from todo.events.hub import RETRY_AFTER_S, Hub, StreamsExhausted, TooManyStreams, changed
from todo.telemetry.logs import hashed
from todo.telemetry.streams import pokes_sent

HOUR = 3600


@pytest.fixture
def hub(monkeypatch):
    """Return the streams of a process that takes 80 connections, and tells of changes at once."""
    monkeypatch.setattr(hub_module, "GATHER_MS", 0)
    hub = Hub(per_user=3, most=None, age_s=HOUR)
    hub.attend(80, lambda: None)
    return hub


def opened(hub, user, revision=0, connection=None):
    """Open a stream as a request does, and park it if there is a connection."""
    stream = hub.open(user, "request", 10 * HOUR)
    b"".join(stream.begin(revision, None))
    if connection is not None:
        hub.park(stream, connection)
    return stream


def told(hub):
    """Return what is due, by the connection."""
    return {stream.connection: event for event, streams in hub.take_due() for stream in streams}


def test_change_is_told_to_all_streams_of_its_user_and_to_no_other(hub, user):
    opened(hub, user, 7, "a")
    opened(hub, user, 7, "b")
    opened(hub, new_user(), 7, "c")
    assert told(hub) == {}
    hub.announce(ListChange(user, 8))
    assert told(hub) == dict.fromkeys("ab", changed(user, 8))
    assert told(hub) == {}


@pytest.mark.parametrize("revision", [6, 7], ids=["older", "the same"])
def test_revision_that_is_known_is_not_told(hub, user, revision):
    opened(hub, user, 7, "a")
    hub.announce(ListChange(user, revision))
    assert told(hub) == {}


def test_change_between_opening_and_parking_is_told_when_the_stream_is_parked(hub, user):
    stream = hub.open(user, "request", HOUR)
    hub.announce(ListChange(user, 8))
    assert told(hub) == {}
    # The revision was read before the change.
    b"".join(stream.begin(7, None))
    hub.park(stream, "a")
    assert told(hub) == {"a": changed(user, 8)}


def test_revision_that_a_new_stream_reads_is_news_to_the_others(hub, user):
    opened(hub, user, 7, "a")
    opened(hub, user, 9, "b")
    assert told(hub) == {"a": changed(user, 9)}


def test_stream_that_has_ended_is_told_nothing_and_cannot_be_parked(hub, user):
    stream, other = opened(hub, user, 7, "a"), opened(hub, user, 7)
    hub.announce(ListChange(user, 8))
    for one in (stream, other, stream):
        hub.close(one, "left")
    hub.park(other, "b")
    assert told(hub) == {}
    assert hub.parked() == []
    assert (hub.number, hub.known(), hub.is_needed.is_set()) == (0, {}, False)


def test_changes_within_a_moment_are_one_event_with_the_newest_revision(hub, user, monkeypatch):
    monkeypatch.setattr(hub_module, "GATHER_MS", 100)
    woken = []
    hub.attend(80, lambda: woken.append(hub.delay_s()))
    opened(hub, user, 7, "a")
    other = new_user()
    opened(hub, other, 1, "b")
    assert hub.delay_s() == math.inf
    for revision in (8, 9, 10):
        hub.announce(ListChange(user, revision))
    hub.announce(ListChange(other, 2))
    assert told(hub) == {}
    # The poller was woken once, and knows until when it may sleep.
    assert len(woken) == 1
    assert 0 < woken[0] <= 0.1
    time.sleep(0.1)
    assert hub.delay_s() == 0
    assert told(hub) == {"a": changed(user, 10), "b": changed(other, 2)}
    assert hub.delay_s() == math.inf


def test_poller_is_not_woken_for_streams_that_are_not_parked(hub, user):
    hub.attend(80, lambda: pytest.fail("woken"))
    opened(hub, user, 7)
    hub.announce(ListChange(user, 8))
    hub.announce(ListChange(new_user(), 8))


def test_round_of_the_poller_ends_after_some_streams(hub, monkeypatch):
    monkeypatch.setattr(hub_module, "ROUND_STREAMS", 3)
    users = [new_user() for _ in range(4)]
    for user in users:
        opened(hub, user, 1, f"{user} 1")
        opened(hub, user, 1, f"{user} 2")
        hub.announce(ListChange(user, 2))
    assert [len(told(hub)) for _ in range(3)] == [4, 4, 0]


@pytest.mark.parametrize(
    ("known", "meanwhile", "read", "expected"),
    [
        pytest.param(7, None, 8, 8, id="another machine wrote"),
        pytest.param(7, None, 3, 3, id="a backup was restored"),
        pytest.param(7, 9, 8, 9, id="read before a write of ours"),
        pytest.param(7, 9, 3, 9, id="restored before a write of ours"),
        pytest.param(7, 8, 9, 9, id="read after a write of ours"),
    ],
)
def test_revision_from_the_database_counts_unless_a_newer_one_became_known(hub, user, known, meanwhile, read, expected):
    opened(hub, user, known, "a")
    if meanwhile:
        hub.announce(ListChange(user, meanwhile))
    hub.correct(user, known, read)
    assert told(hub) == {"a": changed(user, expected)}


def test_revision_from_the_database_of_somebody_who_has_left_is_ignored(hub, user):
    hub.correct(user, 7, 8)
    assert hub.known() == {}


def test_what_siblings_tell_is_told_to_streams(hub, user):
    opened(hub, user, 7, "a")
    key = hub.siblings.key(user)
    hub.siblings = SimpleNamespace(key=hub.siblings.key, listen=lambda: iter([(key, 8), (b"nobody??", 9)]))
    hub.hear()
    assert told(hub) == {"a": changed(user, 8)}


def test_write_is_told_to_siblings(hub, user):
    sent = []
    hub.siblings = SimpleNamespace(key=hub.siblings.key, tell=lambda *message: sent.append(message))
    hub.announce(ListChange(user, 8))
    assert sent == [(hub.siblings.key(user), 8)]


def test_user_has_so_many_streams_and_others_are_not_affected(hub, user):
    streams = [opened(hub, user) for _ in range(3)]
    with pytest.raises(TooManyStreams) as refused:
        hub.open(user, "request", HOUR)
    assert (refused.value.status, refused.value.headers) == (429, {"Retry-After": str(RETRY_AFTER_S)})
    opened(hub, new_user())
    hub.close(streams[0], "left")
    opened(hub, user)


@pytest.mark.parametrize(
    ("most", "connections", "number"),
    [
        pytest.param(None, 8, 4, id="half of the connections"),
        pytest.param(3, 8, 3, id="as set"),
        pytest.param(100, 8, 7, id="never all connections"),
    ],
)
def test_process_has_so_many_streams(most, connections, number):
    hub = Hub(per_user=100, most=most, age_s=HOUR)
    hub.attend(connections, lambda: None)
    streams = [opened(hub, new_user()) for _ in range(number)]
    with pytest.raises(StreamsExhausted) as refused:
        hub.open(new_user(), "request", HOUR)
    assert (refused.value.status, refused.value.headers["Retry-After"]) == (503, str(RETRY_AFTER_S))
    assert hub.number == number
    hub.close(streams[0], "left")
    opened(hub, new_user())


@pytest.mark.parametrize(
    ("token_s", "because", "least", "most"),
    [
        pytest.param(100, "expired", 100, 100, id="token"),
        pytest.param(10 * HOUR, "age", 0.9 * HOUR, 1.1 * HOUR, id="age"),
    ],
)
def test_stream_ends_with_its_token_or_at_an_age_that_differs(token_s, because, least, most):
    hub = Hub(per_user=100, most=100, age_s=HOUR)
    hub.attend(1000, lambda: None)
    now = time.monotonic()
    streams = [hub.open(new_user(), "request", token_s) for _ in range(20)]
    assert {stream.ends_because for stream in streams} == {because}
    assert all(least - 1 < stream.ends_at - now < most + 1 for stream in streams)
    assert (len({round(stream.ends_at - now) for stream in streams}) > 5) == (because == "age")


def test_end_of_a_stream_is_logged_once_and_without_its_user(hub, user):
    stream = opened(hub, user, 7, "a")
    hub.announce(ListChange(user, 8))
    told(hub)
    with capture_logs() as logs:
        hub.close(stream, "slow")
        hub.close(stream, "left")
    (line,) = logs
    assert 0 <= line.pop("duration_ms") < 10_000
    expected = {"reason": "slow", "events": 2, "request_id": "request", "user": hashed(user)}
    assert line == {"event": "stream ended", "log_level": "info"} | expected


@pytest.mark.parametrize(("known", "events"), [(None, 1), (6, 1), (7, 0)])
def test_first_event_comes_at_once_unless_the_client_knows_the_revision(hub, user, known, events):
    stream = hub.open(user, "request", HOUR)
    assert not stream.is_begun
    body = b"".join(stream.begin(7, known))
    assert body == b"retry: 3000\n: todo\n\n" + changed(user, 7) * events
    assert (stream.is_begun, stream.events) == (True, events)


def test_pokes_are_counted(hub, user):
    numbers = []
    count = numbers.append
    pokes_sent.connect(count)
    opened(hub, user, 7, "a")
    opened(hub, user, 7, "b")
    hub.announce(ListChange(user, 8))
    told(hub)
    told(hub)
    pokes_sent.disconnect(count)
    assert numbers == [2]


def test_no_change_is_lost_in_1000_races_with_parking(hub, user):
    """A write takes effect and is announced in one thread, while a stream is opened and parked in another."""
    database = {"revision": 0}
    for _ in range(1000):
        start = threading.Barrier(2)

        def write(start=start):
            start.wait()
            time.sleep(random.random() / 20_000)
            database["revision"] += 1
            hub.announce(ListChange(user, database["revision"]))

        writer = threading.Thread(target=write)
        writer.start()
        start.wait()
        stream = hub.open(user, "request", HOUR)
        read = database["revision"]
        b"".join(stream.begin(read, None))
        hub.park(stream, "a")
        writer.join()
        told(hub)
        assert stream.revision == database["revision"]
        hub.close(stream, "left")
