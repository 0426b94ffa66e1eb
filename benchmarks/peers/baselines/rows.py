"""gunicorn with one statement of the driver, without tokens, routes and validation."""

import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import orjson
import psycopg2

DATABASE_URL = os.environ["DATABASE_URL"]
COLUMNS = (
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
SELECT = f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE user_id = %s ORDER BY id LIMIT 1000"  # noqa: S608 (fixed names)

local = threading.local()


def cursor() -> Any:
    """Return the cursor of this thread."""
    if not hasattr(local, "cursor"):
        connection = psycopg2.connect(DATABASE_URL)
        connection.autocommit = True
        local.cursor = connection.cursor()
    return local.cursor


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Return the tasks of the user in the path."""
    tasks = cursor()
    tasks.execute(SELECT, (environ["PATH_INFO"].split("/")[2],))
    body = orjson.dumps([dict(zip(COLUMNS, row, strict=True)) for row in tasks.fetchall()])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
