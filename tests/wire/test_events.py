"""Streams of events on real servers: who learns of which change, how soon, and what ends a stream."""

import json
import os
import random
import resource
import signal
import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import psutil
import pytest
from support import bearer, new_user
from wire.listener import PATH, Listener
from wire.server import DEADLINE_S, ROOT, Line, Server, free_port, query, request, run, wait_until
from wire.test_metrics import scrape

POLL_S = 1


@pytest.fixture(scope="module")
def settings(database_url):
    return {"DATABASE_URL": database_url, "WEB_CONCURRENCY": "2", "WEB_THREADS": "4"}


@pytest.fixture(scope="module")
def never_looking(start_server, settings):
    """Return a server of two processes that learns of nothing but what they write."""
    return start_server(EVENTS_POLL_SECONDS="0", **settings)


@pytest.fixture
def configured(serve, settings, tmp_path):
    """Return a function that starts a server whose configuration goes on with some lines of Python."""

    def start(lines, **changes):
        conf = tmp_path / "changed.py"
        conf.write_text(
            f"from runpy import run_path\nglobals().update(run_path({str(ROOT / 'gunicorn.conf.py')!r}))\n{lines}"
        )
        return serve(conf=conf, **settings | changes)

    return start


def write(server, user):
    """Create a task, and return its revision."""
    response = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
    assert response.status_code == 201
    return response.get_json()["revision"]


def until(listener, revision):
    """Wait until a listener has learned of a revision."""
    while (event := listener.next()).data["revision"] < revision:
        pass
    assert (event.name, event.data) == ("changed", {"revision": revision})


def ends(server):
    """Return the lines of the log about ends of streams."""
    lines = [json.loads(line) for line in server.log.read_text().splitlines()]
    return [line for line in lines if line["event"] == "stream ended"]


def test_stream_begins_as_documented(never_looking, user):
    revision = write(never_looking, user)
    with Listener(never_looking.port, user) as listener:
        event = listener.next()
        assert listener.status == 200
        for line in (
            "content-type: text/event-stream",
            "cache-control: no-store, no-transform",
            "x-accel-buffering: no",
            "transfer-encoding: chunked",
        ):
            assert f"\r\n{line}\r\n" in f"{listener.head}\r\n"
        assert (event.name, event.data, listener.retry_ms) == ("changed", {"revision": revision}, 3000)
        assert listener.body.startswith(b"retry: 3000\n: todo\n\nid: ")
        feed = never_looking.call("GET", "/api/me/tasks/changes", bearer(user)).get_json()
        assert event.id == feed["next"]


def assert_learn(listeners, server, user, *, writes):
    """Assert that new listeners learn of each of some writes."""
    for listener in listeners:
        listener.next()
    for _ in range(writes):
        revision = write(server, user)
        for listener in listeners:
            until(listener, revision)


def test_change_by_any_process_reaches_a_listener_in_any_process(never_looking, user):
    with ExitStack() as stack:
        # Processes take connections as they come, so some of these are in each.
        listeners = [stack.enter_context(Listener(never_looking.port, user)) for _ in range(12)]
        assert_learn(listeners, never_looking, user, writes=20)


def test_changes_within_a_moment_are_one_event(never_looking, user):
    with Listener(never_looking.port, user) as listener:
        listener.next()
        with ExitStack() as stack:
            lines = [stack.enter_context(Line(never_looking.port)) for _ in range(3)]
            for line in lines:
                line.send(request("POST", "/api/me/tasks", bearer(user), {"title": "x"}))
            assert [line.receive("POST").status_code for line in lines] == [201] * 3
        event = listener.next()
        # On a busy machine the last one may come later.
        until_last = event.data["revision"] if event.data["revision"] == 3 else listener.next().data["revision"]
        assert until_last == 3
        assert listener.quiet(0.3)


def test_listener_learns_nothing_of_other_users_and_of_what_changes_nothing(never_looking, user):
    revision = write(never_looking, user)
    with Listener(never_looking.port, user) as listener:
        task = never_looking.call("GET", "/api/me/tasks", bearer(user)).get_json()[0]
        until(listener, revision)
        write(never_looking, new_user())
        path = f"/api/me/tasks/{task['id']}"
        assert never_looking.call("PATCH", path, bearer(user), {"title": "x"}).status_code == 200
        assert never_looking.call("PATCH", path, bearer(user), {"title": ""}).status_code == 422
        assert listener.quiet(0.5)


def test_every_kind_of_write_reaches_a_listener(never_looking, user):
    headers = bearer(user)
    with Listener(never_looking.port, user) as listener:
        until(listener, 0)
        task = never_looking.call("POST", "/api/me/tasks", headers, {"title": "x"}).get_json()
        path, trashed = f"/api/me/tasks/{task['id']}", f"/api/me/trash/{task['id']}"
        until(listener, 1)
        for revision, (method, where, more, body) in enumerate(
            [
                ("PUT", path, {}, {"title": "y"}),
                ("PATCH", path, {}, {"title": "z"}),
                ("PATCH", f"{path}/complete", {}, None),
                ("DELETE", path, {}, None),
                ("POST", f"{trashed}/restore", {}, None),
                ("DELETE", "/api/me", {"Confirm": user}, None),
            ],
            start=2,
        ):
            assert never_looking.call(method, where, headers | more, body).status_code in (200, 204)
            until(listener, revision)


def test_listener_that_comes_back_with_its_last_id_misses_nothing_and_gets_nothing_twice(never_looking, user):
    write(never_looking, user)
    with Listener(never_looking.port, user) as listener:
        last = listener.next().id
    with Listener(never_looking.port, user, {"Last-Event-ID": last}) as listener:
        assert listener.quiet(0.3)
    revision = write(never_looking, user)
    with Listener(never_looking.port, user, {"Last-Event-ID": last}) as listener:
        until(listener, revision)
    feed = never_looking.call("GET", f"/api/me/tasks/changes?since={last}", bearer(user)).get_json()
    assert [task["revision"] for task in feed["tasks"]] == [revision]


@pytest.mark.slow
def test_no_change_is_lost_in_1000_races_between_a_write_and_the_parking(never_looking):
    """Nothing would find a lost change later: this server never looks, and nothing else is written."""

    def race(number):
        user = new_user()
        headers = bearer(user)
        with Listener(never_looking.port, user) as listener, Line(never_looking.port) as line:
            time.sleep(random.random() * 0.006)
            assert line.call("POST", "/api/me/tasks", headers, {"title": "x"}).status_code == 201
            until(listener, 1)

    with ThreadPoolExecutor(8) as racers:
        assert len(list(racers.map(race, range(1000)))) == 1000


def test_listener_holds_no_thread(serve, settings, user):
    server = serve(**settings | {"WEB_CONCURRENCY": "1", "WEB_THREADS": "2"})
    (worker,) = server.workers()
    with ExitStack() as stack:
        first = stack.enter_context(Listener(server.port, user))
        first.next()
        threads = psutil.Process(worker).num_threads()
        for _ in range(19):
            stack.enter_context(Listener(server.port, user)).next()
        assert psutil.Process(worker).num_threads() == threads
        until(first, write(server, user))


def test_user_and_process_have_so_many_streams(serve, settings, user):
    limits = {"WEB_CONCURRENCY": "1", "EVENTS_PER_USER": "2", "EVENTS_MAX": "3"}
    server = serve(**settings | limits)
    with ExitStack() as stack:

        def status(of):
            listener = stack.enter_context(Listener(server.port, of))
            return listener.status, listener.head

        assert [status(user)[0] for _ in range(2)] == [200, 200]
        refused, head = status(user)
        assert (refused, "retry-after: 60" in head) == (429, True)
        assert status(new_user())[0] == 200
        refused, head = status(new_user())
        assert (refused, "retry-after: 60" in head) == (503, True)
        # Other calls are answered, and the places are free again when their clients have left.
        assert server.call("GET", "/api/me/tasks", bearer(user)).status_code == 200
    wait_until(lambda: len(ends(server)) == 3, "all have left")
    with Listener(server.port, user) as listener:
        assert listener.status == 200


def test_token_that_expires_ends_the_stream_and_a_new_one_goes_on(never_looking, user):
    write(never_looking, user)
    expires = int(time.time()) - 13
    with Listener(never_looking.port, user, exp=expires) as listener:
        (first, expired) = listener.read_to_end()
        assert listener.is_complete
        assert (first.name, expired.name, expired.data) == ("changed", "expired", {})
        assert time.time() >= expires + 15
        with Listener(never_looking.port, user, {"Last-Event-ID": expired.id}) as again:
            assert again.quiet(0.3)
            revision = write(never_looking, user)
            until(again, revision)


@pytest.fixture(scope="module")
def ageing(start_server, settings):
    """Return a server whose streams end after a second."""
    return start_server(EVENTS_MAX_SECONDS="1", **settings)


def test_stream_ends_at_an_age_without_a_word_and_its_connection_is_kept_alive(ageing, user):
    before = len(ends(ageing))
    with Listener(ageing.port, user) as listener:
        (event,) = listener.read_to_end()
        assert event.name == "changed"
        assert listener.is_complete
        listener.socket.sendall(request("GET", "/health"))
        assert listener.socket.recv(1000).startswith(b"HTTP/1.1 200")
    wait_until(lambda: len(ends(ageing)) > before, "logged")
    line = ends(ageing)[before]
    assert (line["reason"], line["events"]) == ("age", 1)
    assert line["duration_ms"] > 800


def test_client_of_http_1_0_gets_unframed_events(ageing, user):
    with Listener(ageing.port, user, protocol="HTTP/1.0") as listener:
        until(listener, 0)
        assert "transfer-encoding" not in listener.head
        revision = write(ageing, user)
        until(listener, revision)
        assert listener.read_to_end() == []
        assert listener.is_closed
        assert listener.body.endswith(b'data: {"revision":1}\n\n')


def test_head_is_answered_at_once(never_looking, user):
    with Line(never_looking.port) as line:
        for _ in range(2):
            response = line.call("HEAD", PATH, bearer(user))
            assert (response.status_code, response.headers["Content-Type"]) == (200, "text/event-stream")


def test_comment_comes_before_a_proxy_takes_the_connection_for_dead(configured, user):
    server = configured("from todo.serving import worker\nworker.COMMENT_S = 0.5\n")
    with Listener(server.port, user) as listener:
        listener.next()
        deadline = time.monotonic() + DEADLINE_S
        # One is in the first words.
        while listener.comments < 4:
            assert listener.quiet(0.1)
            assert time.monotonic() < deadline


def test_slow_reader_loses_its_stream_and_gets_the_change_when_it_comes_back(configured, user):
    server = configured(
        "from todo.events import hub\nhub.GATHER_MS = 0\n"
        "from todo.serving import worker\nworker.KERNEL_SEND_BUFFER_BYTES = 4096\n",
        WEB_CONCURRENCY="1",
    )
    with socket.create_connection(("127.0.0.1", server.port)) as slow, Line(server.port) as line:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        slow.sendall(request("GET", PATH, bearer(user)))
        headers = bearer(user)
        deadline = time.monotonic() + DEADLINE_S
        while not ends(server):
            assert line.call("POST", "/api/me/tasks", headers, {"title": "x"}).status_code == 201
            assert time.monotonic() < deadline
        (line_of_log,) = ends(server)
        assert line_of_log["reason"] == "slow"
    revision = write(server, user)
    with Listener(server.port, user) as listener:
        until(listener, revision)


def test_change_by_another_machine_or_a_command_is_found_by_the_next_look(serve, settings, database_url, user):
    server = serve(EVENTS_POLL_SECONDS=str(POLL_S), **settings)
    other = serve(EVENTS_POLL_SECONDS="0", **settings)
    with Listener(server.port, user) as listener:
        listener.next()
        for _ in range(5):
            revision = write(other, user)
            until(listener, revision)
        for revision, command in (
            (17, ("seed", "--user", user, "--count", "17")),
            (18, ("user", "erase", "--yes", user)),
        ):
            assert run("flask", *command, DATABASE_URL=database_url).returncode == 0
            until(listener, revision)
        # After a backup was restored, the revision is a lower one.
        query(database_url, "UPDATE task_lists SET revision = 5, forgotten = 0 WHERE user_id = %s", user)
        assert listener.next().data == {"revision": 5}


def test_server_that_never_looks_leaves_the_database_alone(never_looking, database_url, user):
    with Listener(never_looking.port, user) as listener:
        listener.next()
        query(database_url, "INSERT INTO task_lists (user_id, revision) VALUES (%s, 7)", user)
        assert listener.quiet(2.5)


def test_without_messages_between_processes_the_next_look_finds_a_change(configured, user):
    server = configured(
        """
at_fork = post_fork
def post_fork(server, worker):
    from todo.events.siblings import Siblings
    server.siblings.close()
    server.siblings = Siblings(0)
    at_fork(server, worker)
""",
        EVENTS_POLL_SECONDS=str(POLL_S),
    )
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(server.port, user)) for _ in range(8)]
        assert_learn(listeners, server, user, writes=4)


def test_killed_process_is_replaced_by_one_that_tells_and_is_told(serve, settings, user):
    server = serve(EVENTS_POLL_SECONDS="0", **settings)
    for _ in range(2):
        with ExitStack() as stack:
            listeners = [stack.enter_context(Listener(server.port, user)) for _ in range(12)]
            for listener in listeners:
                listener.next()
            before = server.workers()
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda old=before: len(server.workers() - old) == 1 and len(server.workers()) == 2, "replaced")
            server.wait_until_healthy()
            assert all(listener.quiet(0.01) for listener in listeners)
            kept = [listener for listener in listeners if not listener.is_closed]
            # Those whose process was killed come back.
            kept += [
                stack.enter_context(Listener(server.port, user, {"Last-Event-ID": listeners[0].last_id}))
                for _ in range(8)
            ]
            for _ in range(5):
                revision = write(server, user)
                for listener in kept:
                    until(listener, revision)


def test_sigterm_ends_every_stream_in_time_and_sends_clients_away_one_after_the_other(serve, settings):
    server = serve(**settings)
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(server.port, new_user())) for _ in range(100)]
        for listener in listeners:
            listener.next()
        server.process.terminate()
        for listener in listeners:
            assert listener.read_to_end() == []
            assert listener.is_complete
            wait_until(lambda one=listener: one.quiet(0.01) and one.is_closed, "closed")
        # Streams that were waited for would take until the graceful time-out.
        assert server.process.wait(20) == 0
        assert all(1000 <= listener.retry_ms <= 8000 for listener in listeners)
        assert len({listener.retry_ms for listener in listeners}) > 20
    assert [line["reason"] for line in ends(server)] == ["shutdown"] * 100


def test_sigterm_while_streams_begin_ends_those_too(serve, settings, user):
    server = serve(**settings)
    users = [new_user() for _ in range(40)]
    stop = threading.Event()

    def come_and_go(one):
        while not stop.is_set():
            try:
                with Listener(server.port, one) as listener:
                    listener.read_to_end()
            except OSError:
                return

    with ThreadPoolExecutor(40) as clients:
        for one in users:
            clients.submit(come_and_go, one)
        time.sleep(0.2)
        server.process.terminate()
        assert server.process.wait(20) == 0
        stop.set()


def test_streams_of_all_processes_are_counted(serve, settings, user):
    port = free_port()
    server = serve(METRICS_PORT=str(port), **settings)
    with ExitStack() as stack:
        listeners = [stack.enter_context(Listener(server.port, user)) for _ in range(6)]
        for listener in listeners:
            listener.next()
        wait_until(lambda: scrape(port)["event_streams",] == 6, "counted")
        revision = write(server, user)
        for listener in listeners:
            until(listener, revision)
        assert scrape(port)["event_pokes_total",] == 6
    wait_until(lambda: scrape(port)["event_streams",] == 0, "counted again")
    assert scrape(port)["event_pokes_total",] == 6


def test_rate_limit_counts_the_connection_alone(serve, settings, user):
    server = serve(RATE_LIMIT="3/hour", **settings | {"WEB_CONCURRENCY": "1"})
    with Listener(server.port, user) as listener:
        listener.next()
        for _ in range(2):
            revision = write(server, user)
            until(listener, revision)
        assert 'ratelimit: "user";r=2' in listener.head
        assert server.call("GET", PATH, bearer(user)).status_code == 429


@pytest.fixture
def flask_server(tmp_path, database_url):
    """Return Flask's own server, which a signal ends as it is."""
    server = Server(tmp_path / "flask.log", command="flask run --port {port}", DATABASE_URL=database_url)
    server.wait_until_healthy()
    yield server
    server.kill()


def test_flask_run_responds_and_ends(flask_server, user):
    server = flask_server
    for revision in (0, 1):
        with Listener(server.port, user) as listener:
            (event,) = listener.read_to_end()
            assert (event.data, listener.retry_ms) == ({"revision": revision}, 5000)
        with Listener(server.port, user, {"Last-Event-ID": event.id}) as listener:
            assert listener.read_to_end() == []
        write(server, user)


# What each may take of memory, as the documents state.
LISTENER_MAX_BYTES = 6 * 1024
LISTENERS = 2000


@pytest.fixture
def many_files():
    """Allow this process more open files than usual."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * LISTENERS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
def test_2000_listeners_take_little_memory_and_slow_nobody_down(serve, settings, many_files, user):
    server = serve(**settings | {"WEB_CONCURRENCY": "1"})
    (worker,) = server.workers()
    process = psutil.Process(worker)
    write(server, user)

    def median(path):
        with Line(server.port) as line:
            times = []
            for _ in range(300):
                started = time.monotonic()
                assert line.call("GET", path, bearer(user)).status_code == 200
                times.append(time.monotonic() - started)
        return statistics.median(times)

    def listen(stack, number):
        for start in range(0, number, 100):
            fresh = [Listener(server.port, new_user()) for _ in range(start, min(number, start + 100))]
            for listener in fresh:
                stack.enter_context(listener)
                listener.next()

    with ExitStack() as stack:
        listen(stack, 100)
        before = {path: median(path) for path in ("/health", "/api/me/tasks")}
        memory, threads = process.memory_info().rss, process.num_threads()
        listen(stack, LISTENERS - 100)
        assert (process.memory_info().rss - memory) / (LISTENERS - 100) < LISTENER_MAX_BYTES
        assert process.num_threads() == threads
        # Wide enough for a busy machine; if each listener cost a call anything, these would take seconds.
        for path, alone in before.items():
            assert median(path) < 3 * alone + 0.05, path
        with Listener(server.port, user) as listener:
            listener.next()
            revision = write(server, user)
            until(listener, revision)
