"""Acknowledged writes survive when a server is stopped and when one of its processes is killed."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from support import assert_problem, bearer
from wire.server import DEADLINE_S, ROOT, Load, assert_kept, blocked_updates, locked, titles, wait_until


@pytest.fixture
def settings(database_url):
    return {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "WEB_THREADS": "4"}


def test_sigterm_under_load_loses_no_acknowledged_write(serve, settings, database_url, user):
    server = serve(**settings)

    workers = server.workers()

    with Load(server, user, clients=12) as load:
        wait_until(lambda: len(load.acknowledged) > 200, "under load")
        # This fails after the 30 s that orchestrators allow.
        assert server.stop() == 0

    assert_kept(database_url, user, load)
    assert set(load.statuses) == {200, 201}
    assert not any(psutil.pid_exists(worker) for worker in workers)


def test_sigterm_while_a_request_waits_for_the_database_answers_it(serve, settings, database_url, user):
    server = serve(**settings)
    created = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
    path = f"/api/me/tasks/{created['id']}"

    with locked(database_url, created) as connection, ThreadPoolExecutor() as pool:
        waiting = pool.submit(server.call, "PATCH", path, bearer(user), {"title": "y"})
        wait_until(lambda: blocked_updates(database_url), "waiting for the row")
        server.process.terminate()
        wait_until(lambda: "Handling signal: term" in server.log.read_text(), "told to stop")
        connection.rollback()

        answer = waiting.result(DEADLINE_S)

    assert (answer.status_code, answer.get_json()["title"]) == (200, "y")
    assert server.stop() == 0
    assert titles(database_url, user) == ["y"]


def test_sigterm_ends_a_worker_that_is_only_starting(serve, settings, tmp_path):
    """A worker that missed the signal would serve for 25 s more, and be killed in the middle of a request."""
    conf = tmp_path / "slow_to_start.py"
    conf.write_text(
        f"""
from runpy import run_path
globals().update(run_path({str(ROOT / "gunicorn.conf.py")!r}))
at_once = post_fork
def post_fork(server, worker):
    import time
    if server.WORKERS:
        time.sleep(1)
    at_once(server, worker)
"""
    )
    server = serve(conf=conf, **settings)
    workers = server.workers()

    assert server.stop() == 0
    log = server.log.read_text()
    assert all(f"Worker exiting (pid: {worker})" in log for worker in workers)


def test_sigkill_of_a_worker_loses_no_acknowledged_write_and_it_is_replaced(serve, settings, database_url, user):
    server = serve(**settings)
    before = server.workers()
    killed = min(before)

    with Load(server, user, clients=8) as load:
        wait_until(lambda: len(load.acknowledged) > 50, "under load")
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: len(server.workers() - {killed}) == 2, "replaced")
        answered = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > answered + 50, "under load again")

    assert before - {killed} < server.workers()
    assert_kept(database_url, user, load)
    assert set(load.statuses) == {200, 201}


def test_sigkill_of_every_worker_is_survived(serve, settings, database_url, user):
    server = serve(**settings)
    assert server.call("POST", "/api/me/tasks", bearer(user), {"title": "before"}).status_code == 201
    killed = server.workers()

    for worker in killed:
        os.kill(worker, signal.SIGKILL)
    wait_until(lambda: len(server.workers() - killed) == 2, "replaced")

    assert server.call("POST", "/api/me/tasks", bearer(user), {"title": "after"}).status_code == 201
    assert sorted(titles(database_url, user)) == ["after", "before"]
    assert_problem(server.call("GET", "/api/me/tasks"), 401)
