"""Streams of events: a client learns of a change at once, and no thread waits for it."""

from collections.abc import Callable

from flask import Flask

from config import Config
from todo.database.statements import list_changed
from todo.events.beat import Beat
from todo.events.hub import Hub, Stream
from todo.events.views import bp

__all__ = ["Hub", "Stream", "attend", "bp", "init_app"]


def init_app(app: Flask, config: Config) -> None:
    """Note what this process writes."""
    hub = Hub(per_user=config.events_per_user, most=config.events_max, age_s=config.events_max_seconds)
    app.extensions["events"] = hub
    list_changed.connect(hub.announce)


def attend(app: Flask, connections: int, wake: Callable[[], object]) -> Hub:
    """Begin to keep streams open in this process, whose server can do that without a thread for each.

    Args:
        app: The application.
        connections: How many connections the process takes.
        wake: Makes the poller take what is due.

    """
    hub: Hub = app.extensions["events"]
    hub.attend(connections, wake)
    interval_s = app.extensions["config"].events_poll_seconds
    if interval_s:
        Beat(app, hub, interval_s).start()
    return hub
