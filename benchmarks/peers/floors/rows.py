"""gunicorn with one statement of the driver and nothing else: no token, no routes, no rules."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import psycopg2

DATABASE_URL = os.environ["DATABASE_URL"]
NAMES = (
    "id",
    "user_id",
    "title",
    "description",
    "completed",
    "created_at",
    "updated_at",
    "priority",
    "due_at",
    "tags",
    "completed_at",
    "revision",
)
SELECT = f"SELECT {', '.join(NAMES)} FROM tasks WHERE user_id = %s ORDER BY id LIMIT 1000"  # noqa: S608 (names of ours)

mine = threading.local()


def cursor() -> Any:
    """Give the cursor of this thread."""
    if not hasattr(mine, "cursor"):
        connection = psycopg2.connect(DATABASE_URL)
        connection.autocommit = True
        mine.cursor = connection.cursor()
    return mine.cursor


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with the tasks of the user in the path."""
    found = cursor()
    found.execute(SELECT, (environ["PATH_INFO"].split("/")[2],))
    body = orjson.dumps([dict(zip(NAMES, row, strict=True)) for row in found.fetchall()])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
