"""The running service compared with openapi.json, by all checks of schemathesis."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support import bearer
from wire.server import Server, environment

# Some 45 s on 2 processors. What `make test-schema ARGS=…` adds comes later, and counts instead.
BUDGET = "--seed 1 --max-examples 100"
USERS = ("alice", "bob")


# schemathesis ends by itself, and gives up a call that hangs.
@pytest.mark.timeout(0)
def test_service_is_what_its_document_says(database_url: str, root: Path, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    users.write_text(json.dumps({"auth": [as_user(name) for name in USERS]}))
    sizes = {"WEB_CONCURRENCY": "2", "WEB_THREADS": "4"}
    server = Server(tmp_path / "log", DATABASE_URL=database_url, PUBLIC_URL="https://api.example.com", **sizes)
    # A stream of events does not end.
    exclude = "--exclude-path /api/{user_id}/tasks/events"
    options = shlex.split(f"{exclude} --checks all --generation-database none {BUDGET} {os.environ.get('ARGS', '')}")
    try:
        server.wait_until_healthy()
        run = subprocess.run(
            [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", server.url, *options],
            cwd=root,
            env=environment(SCHEMATHESIS_USERS=str(users)),
            check=False,
        )
        assert run.returncode == 0
        assert server.stop() == 0
    finally:
        server.kill()
    assert "Traceback" not in server.log.read_text()


def as_user(name: str) -> dict[str, object]:
    """Return the headers with which schemathesis makes requests as this user."""
    header = {"name": "Authorization", "value": bearer(name, exp=4102444800)["Authorization"]}
    return {"name": name, "fixedHeaders": [header]}
