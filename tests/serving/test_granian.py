"""What a process of Granian does when it starts, in one process."""

import ctypes
import os
import signal
import sys
from types import SimpleNamespace

import pytest

from todo import auth
from todo.serving import granian


@pytest.fixture
def started(monkeypatch, app):
    """Return the names of what was called, in a process that Granian has just started."""
    calls = []
    monkeypatch.setitem(sys.modules, "wsgi", SimpleNamespace(app=app))
    monkeypatch.setattr(auth, "after_fork", lambda _: calls.append("keys"))
    return calls


def test_process_without_metrics_has_the_application_with_sessions_of_its_own(started, app):
    assert granian.start_worker() is app
    assert started == ["keys"]


def test_process_with_metrics_takes_the_counts_of_a_dead_one_with_its_number(started, app, monkeypatch):
    exporter = SimpleNamespace(
        claim=lambda: 3,
        forget=lambda number: started.append(f"forget {number}"),
        serve=lambda number: started.append(f"serve {number}"),
    )
    monkeypatch.setitem(app.extensions, "exporter", exporter)
    assert granian.start_worker() is app
    assert started == ["keys", "forget 3", "serve 3"]


def test_process_ends_by_a_signal_that_arrives_before_its_handlers(monkeypatch):
    calls = []
    monkeypatch.setattr(signal, "signal", lambda *handler: calls.append(handler))
    monkeypatch.setattr(os, "setpgid", lambda *group: calls.append(group))
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(prctl=lambda *option: calls.append(option)))
    granian.block_stop_signals()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    granian.follow_server()

    assert blocked >= {signal.SIGTERM, signal.SIGINT}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & blocked
    assert calls == [(signal.SIGTERM, signal.SIG_DFL), (0, 0), (granian.PR_SET_PDEATHSIG, signal.SIGTERM)]
