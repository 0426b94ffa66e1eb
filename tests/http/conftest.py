"""Shared by the tests of conditional requests and of idempotency."""

import time

import pytest
from sqlalchemy import text

from todo.extensions import db


@pytest.fixture
def wait_for_lock(app, user):
    """Return a function that waits until a statement about the user waits for another transaction."""
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE :about")

    def wait():
        with app.app_context(), db.engine.connect() as connection:
            for _ in range(500):
                if connection.execute(waiting, {"about": f"%{user}%"}).first():
                    return
                time.sleep(0.01)
        raise AssertionError("no statement waits for a lock")

    return wait
