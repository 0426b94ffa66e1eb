"""How processes start: with wrong settings, with few files, and with the URLs that providers hand out."""

import socket
import sys
from contextlib import ExitStack
from urllib.parse import quote

import psutil
import pytest
from fakes.postgres_proxy import PostgresProxy
from support import bearer
from wire.server import DEADLINE_S, Line, Server, free_port, request, run, start, start_program, wait_until


def has_ipv6() -> bool:
    """Check whether this machine has the loopback address of IPv6."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def is_open(place: tuple[str, int]) -> bool:
    """Check whether something listens at an address."""
    try:
        socket.create_connection(place, timeout=1).close()
    except OSError:
        return False
    return True


# `todo serve` becomes gunicorn, whose configuration reads the settings.
SERVE = ("todo", "serve")
MIGRATE = ("todo", "migrate")
UPGRADE = ("flask", "db", "upgrade")

SETTINGS = {
    "BETTER_AUTH_SECRET",
    "BETTER_AUTH_SECRET_PREVIOUS",
    "BETTER_AUTH_URL",
    "CORS_ORIGINS",
    "DATABASE_URL",
    "ENVIRONMENT",
    "LOG_LEVEL",
    "PORT",
    "TRUSTED_HOSTS",
    "TRUSTED_PROXIES",
    "WEB_CONCURRENCY",
    "WEB_THREADS",
}
GOOD_URL = "postgresql://postgres:url-password@127.0.0.1:1/todo"


FAULTY = [
    pytest.param(
        {"BETTER_AUTH_SECRET": ""},
        {"DATABASE_URL", "BETTER_AUTH_URL", "BETTER_AUTH_SECRET"},
        id="both-missing",
    ),
    pytest.param(
        {"DATABASE_URL": GOOD_URL, "BETTER_AUTH_SECRET": ""},
        {"BETTER_AUTH_URL", "BETTER_AUTH_SECRET"},
        id="issuer-missing",
    ),
    pytest.param(
        {"DATABASE_URL": GOOD_URL, "BETTER_AUTH_SECRET": "", "BETTER_AUTH_URL": "http://auth.example.com"},
        {"BETTER_AUTH_URL"},
        id="issuer-not-https",
    ),
    pytest.param(
        {"DATABASE_URL": "mysql://root:url-password@db/todo", "BETTER_AUTH_SECRET": "Short-Hush"},
        {"DATABASE_URL", "BETTER_AUTH_SECRET"},
        id="both-wrong",
    ),
    pytest.param(
        {"DATABASE_URL": "url-password", "BETTER_AUTH_SECRET": "better-auth-secret-12345678901234567890"},
        {"DATABASE_URL", "BETTER_AUTH_SECRET"},
        id="url-that-is-none-and-secret-that-is-public",
    ),
    pytest.param(
        {
            "DATABASE_URL": GOOD_URL,
            "BETTER_AUTH_SECRET": f" {'Hush' * 10}",
            "BETTER_AUTH_SECRET_PREVIOUS": "Short-Hush",
            "CORS_ORIGINS": "https://app.example.com/",
            "LOG_LEVEL": "LOUD",
            "PORT": "x",
            "TRUSTED_HOSTS": "*",
            "TRUSTED_PROXIES": "all",
            "WEB_CONCURRENCY": "0",
            "WEB_THREADS": "65",
        },
        SETTINGS - {"DATABASE_URL", "ENVIRONMENT", "BETTER_AUTH_URL"},
        id="all-but-the-url",
    ),
    pytest.param({"ENVIRONMENT": "prod", "LOG_LEVEL": "LOUD"}, {"ENVIRONMENT", "LOG_LEVEL"}, id="environment"),
]


def assert_refused(process, named):
    """Assert that a process ends with the faults of exactly these settings in one line, and without a secret."""
    stdout, stderr = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert stderr.startswith("todo cannot start: ")
    assert stderr.endswith(".\n")
    assert stderr.count("\n") == 1
    assert SETTINGS & set(stderr.replace(":", " ").replace(";", " ").split()) == named
    for secret in ("Short-Hush", "HushHush", "url-password", "better-auth-secret-123"):
        assert secret not in stdout + stderr


@pytest.mark.parametrize(("changes", "named"), FAULTY)
def test_start_with_faulty_settings_says_all_of_them_in_one_line_and_no_secret(changes, named):
    for process in [start(*command, **changes) for command in (SERVE, UPGRADE)]:
        assert_refused(process, named)


def test_migrate_with_faulty_settings_reports_all_of_them_in_one_line_and_no_secret():
    changes, named = FAULTY[3].values
    assert_refused(start(*MIGRATE, **changes), named)


@pytest.mark.parametrize("command", [MIGRATE, UPGRADE])
def test_upgrade_of_a_database_that_is_away_prints_one_line(command):
    done = run(*command, DATABASE_URL=GOOD_URL)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("Error: the database cannot be used: ")
    assert "url-password" not in done.stderr


def serve_with(files, **changes):
    """Start the server where a process may open this many files."""
    serve = f'ulimit -n {files} && exec "$0" -m todo serve'
    return start_program("sh", "-c", serve, sys.executable, **changes)


@pytest.mark.parametrize("files", [64, 256, 511])
def test_server_that_may_open_too_few_files_refuses_to_start_and_names_the_limit(database_url, files):
    process = serve_with(files, DATABASE_URL=database_url, PORT=str(free_port()))
    stdout, stderr = process.communicate(timeout=DEADLINE_S)

    assert (process.returncode, stdout) == (1, "")
    assert stderr == (
        f"todo cannot start: a process may open {files} files (ulimit -Hn), and at least 512 are needed: raise "
        "the hard limit, as with LimitNOFILE= in systemd or ulimits in Docker.\n"
    )


def test_server_that_may_open_just_enough_files_serves_more_clients_than_it_has_threads(database_url, user):
    """Of the files that a process keeps for itself it needs less than half, with every thread at the database."""
    port, clients = free_port(), 128
    process = serve_with(
        512, DATABASE_URL=database_url, PORT=str(port), WEB_THREADS="64", METRICS_PORT=str(free_port())
    )
    with process, ExitStack() as stack:
        stack.callback(process.kill)
        wait_until(lambda: accepts(port), "listening")
        lines = [stack.enter_context(Line(port)) for _ in range(clients)]
        for line in lines:
            line.send(request("GET", "/api/me/tasks", bearer(user)))
        assert [line.receive().status_code for line in lines] == [200] * clients
        (worker,) = psutil.Process(process.pid).children()
        assert worker.num_fds() - clients < 128
        process.terminate()
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0


def accepts(port):
    try:
        with Line(port) as line:
            return line.call("GET", "/health").status_code == 200
    except OSError:
        return False


def test_gunicorn_that_served_refused_and_failed_has_logged_no_secret(serve, database_url, user):
    server = serve(DATABASE_URL=database_url, LOG_LEVEL="debug")
    headers = bearer(user)
    token = headers["Authorization"].removeprefix("Bearer ")

    statuses = [
        server.call("POST", "/api/me/tasks", headers, {"title": "Secret title"}).status_code,
        server.call("GET", "/api/me/tasks", {"Authorization": f"Bearer {token}x"}).status_code,
        server.call("GET", "/api/someone/tasks", headers).status_code,
        server.call("POST", "/api/me/tasks", headers, {"title": 1}).status_code,
    ]

    assert statuses == [201, 401, 403, 422]
    log = server.log.read_text()
    assert '"status":401' in log
    for secret in (token, "Secret title", user):
        assert secret not in log
    assert "test-secret-that-is-long-enough" not in log


def assert_works(server: Server, user: str) -> None:
    created = server.call("POST", "/api/me/tasks", bearer(user), {"title": "x"})
    assert created.status_code == 201
    assert server.call("GET", "/api/me/tasks", bearer(user)).get_json() == [created.get_json()]


def test_gunicorn_with_the_short_scheme_in_a_socket_url_works(serve, database_url, user):
    assert database_url.startswith("postgresql://")

    assert_works(serve(DATABASE_URL=database_url.replace("postgresql://", "postgres://")), user)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_url_as_providers_hand_it_out_works(serve, proxy: PostgresProxy, database_url, user, scheme):
    """A password may contain every character that has a meaning elsewhere in a URL."""
    password = quote("p@ss/w%rd:#?%(x)s", safe="")
    options = "sslmode=disable&channel_binding=prefer"
    url = f"{scheme}://postgres:{password}@127.0.0.1:{proxy.port}/todo_test?{options}"

    migrated = run(*MIGRATE, DATABASE_URL=url)

    assert (migrated.returncode, migrated.stderr) == (0, "")
    assert_works(serve(command="todo serve", DATABASE_URL=url), user)
    assert any("INSERT INTO tasks" in sql for sql in proxy.queries)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            "postgresql://postgres@127.0.0.1:1,127.0.0.1:{port}/todo_test?sslmode=disable",
            id="hosts-of-which-one-is-away",
        ),
        pytest.param(
            "postgresql://postgres@/todo_test?host=127.0.0.1,127.0.0.1&port=1,{port}&sslmode=disable",
            id="hosts-as-options",
        ),
        pytest.param("postgresql://postgres@127.0.0.1:{port}/todo_test?sslmode=disable\n", id="newline-at-the-end"),
        pytest.param("postgresql://postgres@/todo_test?hostaddr=127.0.0.1&port={port}&sslmode=disable", id="address"),
        pytest.param("postgresql://postgres@{folder}/todo_test", id="socket-as-host"),
        pytest.param("postgresql://postgres@/todo_test?host={folder}", id="socket-as-option"),
    ],
)
def test_url_as_libpq_takes_it_works(serve, proxy: PostgresProxy, postgres, database_url, user, form):
    folder = quote(str(postgres.get_postmaster_info().socket_dir), safe="")
    assert_works(serve(DATABASE_URL=form.format(port=proxy.port, folder=folder)), user)


@pytest.mark.skipif(not has_ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(
    ("host", "addresses"),
    [("::1", ["::1"]), ("[::1]", ["::1"]), ("::", ["::1", "127.0.0.1"]), (" 127.0.0.1 ", ["127.0.0.1"])],
)
def test_server_listens_on_the_address_of_its_host_with_its_metrics(database_url, host, addresses):
    port, metrics = free_port(), free_port()
    process = start(*SERVE, DATABASE_URL=database_url, HOST=host, PORT=str(port), METRICS_PORT=str(metrics))
    with process, ExitStack() as stack:
        stack.callback(process.kill)
        for address in addresses:
            for each in (port, metrics):
                wait_until(lambda place=(address, each): is_open(place), "listening")
        process.terminate()
        _, log = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0
    assert "Traceback" not in log


def test_server_reports_settings_that_look_misspelt(serve, database_url):
    server = serve(DATABASE_URL=database_url, database_url="x", CORS_ORIGIN="x")
    log = server.log.read_text()
    assert "database_url is not a setting of this service: did you mean DATABASE_URL?" in log
    assert "CORS_ORIGIN is not a setting of this service: did you mean CORS_ORIGINS?" in log
