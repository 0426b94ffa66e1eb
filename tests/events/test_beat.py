"""How a process finds what other machines and commands have written."""

import threading
import time

import pytest
from structlog.testing import capture_logs
from support import call_as, new_user

from todo import events
from todo.database.failures import DatabaseUnavailable
from todo.events import beat as beat_module
from todo.events.beat import PART, Beat, read_revision
from todo.events.hub import Hub


@pytest.fixture
def hub():
    """Return the streams of a process that hears nothing of the writes of this one."""
    hub = Hub(per_user=20, most=None, age_s=3600)
    hub.attend(80, lambda: None)
    return hub


def wait_for(hub, user, revision):
    stream = hub.open(user, "request", 3600)
    b"".join(stream.begin(revision, None))
    hub.park(stream, user)
    return stream


def test_look_finds_all_lists_that_have_changed_with_one_statement(proxied, proxy, hub):
    users = [new_user() for _ in range(3)]
    for user in users:
        wait_for(hub, user, 0)
    for user in users[:2]:
        assert call_as(proxied.test_client(), user)("POST", "/tasks", title="x").status_code == 201
    proxy.queries.clear()
    beat = Beat(proxied, hub, 2)
    beat.look()
    assert hub.known() == dict(zip(users, (1, 1, 0), strict=True))
    beat.look()
    assert len(proxy.queries) == 2
    assert beat.pause_s == 2


def test_look_for_nobody_costs_no_statement(proxied, proxy, hub):
    Beat(proxied, hub, 2).look()
    assert proxy.queries == []


def test_look_may_take_a_twentieth_of_the_time(app, hub, user, monkeypatch):
    wait_for(hub, user, 0)
    monkeypatch.setattr(beat_module.statements, "read", lambda *_: time.sleep(0.1) or [])
    beat = Beat(app, hub, 1)
    beat.look()
    assert 0.1 * PART <= beat.pause_s < 0.4 * PART


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(DatabaseUnavailable(reason="away"), "away", id="outage"),
        pytest.param(ValueError("a bug"), "a bug", id="bug"),
    ],
)
def test_outage_is_logged_once_and_changes_are_found_after_it(app, hub, user, monkeypatch, error, reason):
    def fail(*_):
        time.sleep(0.1)
        raise error

    wait_for(hub, user, 0)
    call_as(app.test_client(), user)("POST", "/tasks", title="x")
    beat = Beat(app, hub, 1)
    for _ in range(2):
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(beat_module.statements, "read", fail)
            beat.look()
            beat.look()
        (line,) = logs
        assert (line["event"], line["reason"]) == ("changes of other machines cannot be found", reason)
        # However long a failure takes, the next look is not delayed by it.
        assert beat.pause_s == 1
        beat.look()
        assert hub.known() == {user: 1}


@pytest.fixture
def attended(app, hub, monkeypatch):
    """Return a function that begins to serve streams with this time between two looks."""

    def attend(seconds):
        monkeypatch.setitem(app.extensions, "events", hub)
        monkeypatch.setitem(app.extensions, "config", type("Settings", (), {"events_poll_seconds": seconds}))
        return events.attend(app, 80, lambda: None)

    return attend


def test_beat_runs_while_somebody_waits(attended, app, hub, user, monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(Beat, "look", lambda _: looked.set())
    hub = attended(0.01)
    assert not looked.wait(0.1)
    stream = wait_for(hub, user, 0)
    assert looked.wait(10)
    hub.close(stream, "left")
    time.sleep(0.1)
    looked.clear()
    assert not looked.wait(0.1)


def test_process_that_must_not_look_has_no_beat(attended, monkeypatch):
    monkeypatch.setattr(Beat, "start", lambda _: pytest.fail("started"))
    attended(0)


def test_revision_of_a_user_without_a_list_is_0(app, user):
    with app.app_context():
        assert read_revision(user) == 0
        call_as(app.test_client(), user)("POST", "/tasks", title="x")
        assert read_revision(user) == 1
