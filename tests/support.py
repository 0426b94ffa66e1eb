"""Assertions and factories that all tests share: users, tokens, settings, databases, and one check of every problem."""

import base64
import hmac
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import flask_migrate
import jwt
import psycopg2
import pytest
from flask import Flask

from config import Config
from todo import create_app
from todo.database import embedded
from todo.extensions import db

# A cluster that somebody has started, for `make test-citus`.
CITUS_URL = os.environ.get("CITUS_URL")

# Statements of the service that wait for another transaction. On Citus they wait where the rows are.
WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'todo'"
    if CITUS_URL is None
    else "SELECT pid FROM citus_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
)

SECRET = "test-secret-that-is-long-enough-for-HS256-and-guards-nothing"

# No name in the DNS is that long (RFC 1035, section 2.3.4), so no server is asked for its address.
UNKNOWN_HOST = ".".join(["nowhere"] * 40)

# The members of a task, in the order in which every response has them.
TASK_MEMBERS = [
    "id",
    "user_id",
    "title",
    "description",
    "completed",
    "created_at",
    "updated_at",
    "priority",
    "due_date",
    "tags",
    "completed_at",
    "revision",
]
# Those that clients may write.
WRITABLE_MEMBERS = ["title", "description", "completed", "priority", "due_date", "tags"]

Headers = Mapping[str, str] | Iterable[tuple[str, str]]
Call = Callable[..., Any]


def new_user() -> str:
    """Return the id of a user that no other test has."""
    return f"user-{uuid.uuid4().hex}"


def claims(user: str, /, **changes: Any) -> dict[str, Any]:
    """Return the claims of a valid token with these changes; a claim set to None is left out."""
    now = int(time.time())
    made = {"sub": user, "iat": now, "exp": now + 3600} | changes
    return {name: value for name, value in made.items() if value is not None}


def sign(payload: dict[str, Any], *, secret: str = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    """Sign claims as an issuer would; a header set to None is left out."""
    return jwt.encode(payload, secret, algorithm=algorithm, headers=headers)


def sign_raw(header: Any, payload: Any) -> str:
    """Sign a header and claims that a library would refuse, with HS256 and the right secret."""

    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{segment(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def segment(part: Any) -> str:
    """Encode bytes, or anything as JSON, as a part of a token (RFC 7515, section 2)."""
    data = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sized(size: int) -> bytes:
    """Return a valid body of exactly this many bytes; an unknown member fills it."""
    body = json.dumps({"title": "x", "filler": ""}).encode()
    return body.replace(b'""', b'"' + b"x" * (size - len(body)) + b'"')


def bearer(user: str, /, **changes: Any) -> dict[str, str]:
    """Return the headers of this user's requests, which announce JSON with and without a body, as front-ends do."""
    return {"Authorization": f"Bearer {sign(claims(user, **changes))}", "Content-Type": "application/json"}


def call_as(client: Any, user: str, /) -> Call:
    """Return a function that makes requests as this user, on the paths below the user's own.

    `call("POST", "/tasks", title="x")` sends a body of JSON with this member, and `call("DELETE")` is a request for
    the account itself. Headers are added to those of `bearer`; `data` is a body as bytes or text.
    """

    def call(
        method: str, path: str = "", headers: Headers = (), *, query: Any = None, data: Any = None, **members: Any
    ) -> Any:
        return client.open(
            f"/api/{quote(user, safe='')}{path}",
            method=method,
            headers=bearer(user) | dict(headers),
            query_string=query,
            **({"json": members} if members else {"data": data}),
        )

    return call


def assert_problem(response: Any, status: int, detail: str | None = None) -> dict[str, Any]:
    """Assert that a response is a problem with this status (RFC 9457), and return its body."""
    assert response.status_code == status, response.get_data(as_text=True)
    assert response.content_type == "application/problem+json"
    problem: dict[str, Any] = response.get_json()
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert isinstance(problem["title"], str)
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    assert problem["instance"].startswith("/")
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert ("errors" in problem) == (status == 422)
    for error in problem.get("errors", ()):
        assert error["detail"]
        assert error.get("pointer", "#").startswith("#")
    if detail is not None:
        assert problem["detail"] == detail
    if status == 401:
        challenge = response.headers["WWW-Authenticate"].partition(" resource_metadata=")[0].removesuffix(",")
        assert challenge in ("Bearer", 'Bearer error="invalid_token"')
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    return problem


def config_for(url: str | None, **changes: Any) -> Config:
    """Return the settings of an environment with these variables."""
    variables = {
        "DATABASE_URL": url or "",
        "BETTER_AUTH_SECRET": SECRET,
        "CORS_ORIGINS": "http://localhost:3000,https://app.example.com",
    }
    return Config.from_environment(variables | changes)


@contextmanager
def open_app(url: str | None, **changes: Any) -> Iterator[Flask]:
    """Open the application on a database, with these settings, and close its connections at the end."""
    app = create_app(config_for(url, **changes))
    yield app
    with app.app_context():
        db.engine.dispose()


def start_postgres(folder: Path) -> Any:
    """Start a PostgreSQL with its data in this folder, which never waits for the disk.

    Data of tests survive the crash of a process, and need not survive that of the machine: without fsync a commit
    takes a tenth of the time, and so does the creation of the first databases.
    """
    library = embedded._library()
    execute = library.pgexec

    def execute_without_sync(program: str, arguments: tuple[str, ...], **options: Any) -> Any:
        unsafe = ("--no-sync", "--set=fsync=off") if program == "initdb" else ()
        return execute(program, (*arguments, *unsafe), **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "pgexec", execute_without_sync)
        return embedded.start(folder)


def new_database(server: Any, name: str, template: str = "template1") -> str:
    """Create a database as a copy of another one, and return its URL."""
    with closing(psycopg2.connect(server.get_uri())) as connection:
        connection.autocommit = True
        connection.cursor().execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    return server.get_uri(database=name)


def migrate(url: str) -> None:
    """Run all migrations on a database."""
    with create_app(config_for(url)).app_context():
        flask_migrate.upgrade()
        db.engine.dispose()


def distribute(url: str) -> None:
    """Distribute the tables of a database over its cluster."""
    app = create_app(config_for(url))
    done = app.test_cli_runner().invoke(args=["db", "distribute"])
    assert done.exit_code == 0, done.output
    with app.app_context():
        db.engine.dispose()


def plant(url: str, users: Iterable[str], number: int, *, title: str = "x", description: str | None = None) -> None:
    """Give users who have no list yet this many tasks each, at once and not by the service."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO task_lists (user_id, revision) SELECT owner, %(number)s FROM unnest(%(users)s) AS owner;
            INSERT INTO tasks (user_id, title, description, revision)
            SELECT owner, replace(%(title)s, '#', n::text), %(description)s, n
            FROM generate_series(1, %(number)s) AS n, unnest(%(users)s) AS owner ORDER BY n
            """,
            {"users": list(users), "number": number, "title": title, "description": description},
        )
