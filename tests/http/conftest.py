"""Shared by the tests of conditional requests and of idempotency."""

import time

import pytest
from sqlalchemy import text

from todo.extensions import db


@pytest.fixture
def wait_for_lock(app):
    """Return a function that waits until a statement of the service waits for another transaction."""
    # Of a message PostgreSQL shows the beginning alone, which does not name the user where it prepares a statement.
    waiting = text("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'todo'")

    def wait():
        with app.app_context(), db.engine.connect() as connection:
            for _ in range(500):
                if connection.execute(waiting).first():
                    return
                time.sleep(0.01)
        raise AssertionError("no statement waits for a lock")

    return wait
