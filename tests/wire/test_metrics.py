"""Metrics of several processes on one port, correct when processes end, and the dashboard that draws them."""

import json
import os
import re
import signal
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from support import bearer, new_user
from wire.server import DEADLINE_S, Line, Server, free_port, locked, request, run, scrape, start, wait_until

LIST = ("http_requests_total", "GET", "/api/<user_id>/tasks", "200")


def folder_of(server):
    """Return the folder where the processes keep their counts."""
    (worker, *_) = server.workers()
    (folder,) = {Path(m.path).parent for m in psutil.Process(worker).memory_maps() if "todo-metrics-" in m.path}
    return folder


@pytest.fixture(scope="module")
def counting(database_url, start_server):
    """Return a server of two processes, and the port of their metrics."""
    port = free_port()
    server = start_server(DATABASE_URL=database_url, METRICS_PORT=str(port), WEB_CONCURRENCY="2", WEB_THREADS="4")
    return server, port


def make_calls(server, number):
    """Send this many requests from several clients, as one new user."""
    user = new_user()

    def one(_):
        return server.call("GET", "/api/me/tasks", bearer(user)).status_code

    with ThreadPoolExecutor(8) as clients:
        assert set(clients.map(one, range(number))) == {200}


def test_calls_that_two_processes_answered_are_one_number_whoever_is_asked(counting):
    server, port = counting
    before = scrape(port).get(LIST, 0)

    make_calls(server, 200)

    assert [scrape(port)[LIST] for _ in range(10)] == [before + 200] * 10
    counts = scrape(port)
    assert counts["http_request_duration_seconds_count", *LIST[1:3]] == before + 200
    assert len(set(folder_of(server).glob("counter_*"))) == 2
    # Lines of several processes in one file are whole, and there is one for each request.
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert sum(line.get("route") == LIST[2] and line["status"] == 200 for line in lines) == before + 200


def test_process_that_was_killed_leaves_its_counts_to_the_one_in_its_place(counting):
    server, port = counting
    make_calls(server, 50)
    before = scrape(port)
    for _ in range(2):
        workers = server.workers()
        os.kill(min(workers), signal.SIGKILL)
        wait_until(lambda old=workers: len(server.workers() - old) == 1 and len(server.workers()) == 2, "replaced")
        server.wait_until_healthy()
    assert scrape(port)[LIST] == before[LIST]

    make_calls(server, 50)

    assert scrape(port)[LIST] == before[LIST] + 50
    assert len(set(folder_of(server).glob("counter_*"))) == 2
    wait_until(lambda: scrape(port)["database_pool_connections_in_use",] == 0, "nothing in use")


def test_reload_keeps_the_counts_and_the_port(serve, database_url):
    port = free_port()
    server = serve(DATABASE_URL=database_url, METRICS_PORT=str(port), WEB_CONCURRENCY="2", WEB_THREADS="4")
    make_calls(server, 10)
    before, workers = scrape(port)[LIST], server.workers()

    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(server.workers()) == 2 and not server.workers() & workers, "replaced")
    server.wait_until_healthy()

    make_calls(server, 10)
    assert scrape(port)[LIST] == before + 10


def test_port_that_is_taken_ends_the_start_and_names_the_setting(counting, database_url):
    _, port = counting
    done = run(
        "gunicorn",
        "-c",
        "gunicorn.conf.py",
        "wsgi:app",
        DATABASE_URL=database_url,
        METRICS_PORT=str(port),
        PORT=str(free_port()),
    )
    assert done.returncode == 1
    assert done.stderr == f"todo cannot start: METRICS_PORT {port} cannot be bound: Address already in use.\n"


def test_server_that_ends_leaves_nothing_behind(database_url, tmp_path):
    server = Server(tmp_path / "gunicorn.log", DATABASE_URL=database_url, METRICS_PORT=str(free_port()))
    try:
        server.wait_until_healthy()
        folder = folder_of(server)
        assert folder.stat().st_mode & 0o777 == 0o700
        assert server.stop() == 0
    finally:
        server.kill()
    assert not folder.exists()


def test_server_that_was_killed_leaves_its_folder_to_the_next_one(counting, database_url, tmp_path):
    """The master is killed first, and the folder stays while a worker of it lives."""
    settings = {"DATABASE_URL": database_url, "METRICS_PORT": str(free_port())}
    killed, following = Server(tmp_path / "killed.log", **settings), None
    living = folder_of(counting[0])
    try:
        killed.wait_until_healthy()
        folder = folder_of(killed)
        (worker,) = killed.workers()
        os.kill(worker, signal.SIGSTOP)
        killed.process.kill()
        killed.process.wait()
        beside = Server(tmp_path / "beside.log", **(settings | {"METRICS_PORT": str(free_port())}))
        try:
            beside.wait_until_healthy()
            assert folder.exists()
            assert beside.stop() == 0
        finally:
            beside.kill()
        os.kill(worker, signal.SIGKILL)

        following = Server(tmp_path / "following.log", **settings)
        following.wait_until_healthy()

        assert not folder.exists()
        assert folder_of(following).exists()
        assert living.exists()
        assert following.stop() == 0
    finally:
        killed.kill()
        if following is not None:
            following.kill()


def test_server_that_starts_while_the_one_before_it_stops_gets_the_port_of_the_metrics(database_url, user, tmp_path):
    """A request that waits for a lock keeps the one before it for some three seconds."""
    settings = {"DATABASE_URL": database_url, "METRICS_PORT": (metrics := str(free_port()))}
    before = Server(tmp_path / "before.log", **settings)
    after = None
    try:
        before.wait_until_healthy()
        task = before.call("POST", "/api/me/tasks", bearer(user), {"title": "x"}).get_json()
        with locked(database_url, task), Line(before.port) as line:
            line.send(request("PATCH", f"/api/me/tasks/{task['id']}", bearer(user), {"title": "y"}))
            wait_until(lambda: scrape(metrics)["database_pool_connections_in_use",] == 1, "waiting for the lock")
            before.process.terminate()
            after = Server(tmp_path / "after.log", **settings)
            assert line.receive().status_code == 503
        assert before.process.wait(DEADLINE_S) == 0
        after.wait_until_healthy()
        assert LIST not in scrape(metrics)
        assert after.stop() == 0
    finally:
        for server in filter(None, (before, after)):
            server.kill()
    assert "port in use" in (tmp_path / "after.log").read_text()


def test_log_that_nobody_takes_any_more_stops_nobody(database_url, user):
    port = str(free_port())
    process = start("gunicorn", "-c", "gunicorn.conf.py", "wsgi:app", DATABASE_URL=database_url, PORT=port)
    try:
        process.stdout.close()
        process.stderr.close()
        address = f"http://127.0.0.1:{port}/api/me/tasks"
        request = urllib.request.Request(address, headers=bearer(user))

        def answered():
            try:
                with urllib.request.urlopen(request, timeout=DEADLINE_S) as response:
                    return response.status == 200
            except OSError:
                return False

        wait_until(answered, "in service")
        assert all(answered() for _ in range(10))
        process.terminate()
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()


def test_dashboard_asks_for_metrics_that_there_are(start_server, root):
    """Every metric is present where neither the issuer nor the database responds."""
    port = free_port()
    nobody = "http://127.0.0.1:1"
    server = start_server(
        METRICS_PORT=str(port), BETTER_AUTH_URL=nobody, DATABASE_URL="postgresql://postgres@127.0.0.1:1/todo"
    )
    assert server.call("GET", "/api/me/tasks").status_code == 401
    assert server.call("GET", "/health/ready").status_code == 503

    there = {name for name, *_ in scrape(port)}

    dashboard = json.loads((root / "deploy" / "grafana-dashboard.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    queries += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    asked = set(re.findall(r"\b(?:http|database|token|issuer|event|log|list|kept)_\w+", " ".join(queries)))
    assert asked <= there
    assert {name.removesuffix("_sum").removesuffix("_count") for name in there - asked} <= {
        "http_request_duration_seconds"
    }
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"] if "targets" in panel} == {"${datasource}"}
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
