"""Turning callers away while there are more than can be served in time."""

import threading

from flask import Flask, request

from todo.http.problems import Unavailable

# A health probe must not end a process because it has much to do.
ALWAYS_SERVED = "health.health"

_here = threading.local()


class Overloaded(Unavailable):
    """503: whoever waited for a thread now would wait for too long."""


def turn_away_here() -> None:
    """Make the thread that calls this one whose requests are all turned away."""
    _here.turns_away = True


def init_app(app: Flask) -> None:
    """Answer 503 in such a thread, before anything else is done for a request."""
    app.before_request(_check)


def _check() -> None:
    if getattr(_here, "turns_away", False) and request.endpoint != ALWAYS_SERVED:
        raise Overloaded(reason="every thread is busy, and those who came earlier have waited too long already")
