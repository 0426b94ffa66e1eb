"""Refusal of requests during overload, when they could not be served in time."""

import threading

from flask import Flask, request

from todo.http.problems import Unavailable

# Overload must not make an orchestrator's health probe end the process.
ALWAYS_SERVED = "health.health"

_thread = threading.local()


class Overloaded(Unavailable):
    """503: a request that waited for a thread now would wait for too long."""


def refuse_in_this_thread() -> None:
    """Make the calling thread refuse all requests that it handles from now on."""
    _thread.refuses = True


def init_app(app: Flask) -> None:
    """Respond with 503 in a refusing thread, before any other check."""
    app.before_request(_check)


def _check() -> None:
    if getattr(_thread, "refuses", False) and request.endpoint != ALWAYS_SERVED:
        raise Overloaded(reason="every thread is busy, and earlier requests have waited too long already")
