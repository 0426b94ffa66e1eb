"""The record of a request: its log line, its times and sizes, and the signal."""

import re
import time

import pytest
from structlog.testing import capture_logs
from support import bearer, config_for

from todo import create_app
from todo.http.problems import Unavailable
from todo.telemetry.requests import database_time, request_finished


@pytest.fixture
def odd(database_url):
    """Return a function that makes clients of an application with odd routes."""

    def make(**changes):
        app = create_app(config_for(database_url, **changes))

        @app.route("/rest")
        def rest():
            with database_time, database_time:
                time.sleep(0.02)
            return "é" * 10

        @app.route("/stream")
        def stream():
            def chunks():
                for chunk in (b"one", b"three"):
                    with database_time:
                        time.sleep(0.01)
                    yield chunk
                with database_time:
                    time.sleep(0.01)

            return chunks(), {"Content-Type": "text/plain"}

        @app.route("/broken/<kind>")
        def broken(kind):
            def chunks():
                yield b"one"
                raise Unavailable(reason="the disk is full") if kind == "away" else KeyError("a private matter")

            return chunks(), {"Content-Type": "text/plain"}

        return app.test_client()

    return make


def logged(client, path, **kwargs):
    """Send a request, read its whole response, and return the one line that is logged."""
    with capture_logs() as logs:
        response = client.open(path, **kwargs)
        response.close()
    (entry,) = logs
    return entry


def test_times_and_size_of_a_response_are_its_own(odd):
    entry = logged(odd(), "/rest")
    assert entry["bytes"] == 20
    assert 20 <= entry["database_ms"] <= entry["duration_ms"]
    assert logged(odd(), "/nowhere")["database_ms"] == 0


@pytest.mark.parametrize(("method", "path"), [("HEAD", "/rest"), ("HEAD", "/stream"), ("OPTIONS", "/rest")])
def test_size_of_a_response_without_a_body_is_zero(odd, method, path):
    assert logged(odd(), path, method=method)["bytes"] == 0


def test_size_of_not_modified_is_zero(client):
    asset = "/docs/assets/swagger-ui.css"
    first = client.get(asset)
    first.close()
    assert logged(client, asset)["bytes"] == int(first.headers["Content-Length"])
    again = logged(client, asset, headers={"If-None-Match": first.headers["ETag"]})
    assert (again["status"], again["bytes"]) == (304, 0)


def test_stream_is_logged_when_it_is_finished(odd):
    client = odd()
    with capture_logs() as logs:
        response = client.get("/stream")
        assert logs == []
        assert response.data == b"onethree"
        response.close()
    (entry,) = logs
    assert entry["bytes"] == 8
    assert 30 <= entry["database_ms"] <= entry["duration_ms"]


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("away", Unavailable, "the response broke off: the disk is full"),
        ("bug", KeyError, "the response broke off: a bug"),
    ],
)
def test_stream_that_breaks_off_is_an_error(odd, kind, error, reason):
    client = odd()
    with capture_logs() as logs:
        response = client.get(f"/broken/{kind}")
        with pytest.raises(error):
            response.get_data()
        response.close()
    (entry,) = logs
    assert (entry["log_level"], entry["status"], entry["bytes"], entry["reason"]) == ("error", 200, 3, reason)
    assert isinstance(entry["exc_info"], error)


@pytest.mark.parametrize("path", ["/health", "/health/ready"])
def test_probe_is_logged_at_debug_alone(odd, path):
    assert logged(odd(LOG_LEVEL="debug"), path)["log_level"] == "debug"
    client = odd()
    with capture_logs() as logs:
        client.get(path)
    assert logs == []


def test_probe_that_fails_is_an_error(proxied, proxy):
    proxy.refuse = True
    entry = logged(proxied.test_client(), "/health/ready")
    assert (entry["log_level"], entry["status"]) == ("error", 503)


def test_request_that_is_slow_is_a_warning_even_where_others_are_not_logged(odd):
    client = odd(SLOW_REQUEST_MS="10", LOG_LEVEL="warning")
    with capture_logs() as logs:
        client.get("/rest")
        client.get("/nowhere")
    (entry,) = logs
    assert (entry["log_level"], entry["slow"]) == ("warning", True)
    assert "slow" not in logged(odd(), "/rest")


def test_unknown_method_is_not_repeated(odd):
    assert logged(odd(), "/rest", method="BUYMILK")["method"] == "other"


def test_request_inside_of_another_context_has_a_record_of_its_own(app):
    with app.app_context():
        ids = {app.test_client().get("/health").headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2


def test_server_timing_is_sent_outside_of_production_alone(odd, user):
    timing = odd().get("/api/me/tasks", headers=bearer(user)).headers["Server-Timing"]
    app_ms, database_ms = map(float, re.fullmatch(r"app;dur=(\d+\.\d\d), db;dur=(\d+\.\d\d)", timing).groups())
    assert 0 < database_ms < app_ms
    assert "Server-Timing" in odd(ENVIRONMENT="test").get("/").headers
    assert "Server-Timing" not in odd(ENVIRONMENT="staging").get("/").headers


def test_record_of_a_request_is_sent_with_the_signal(odd, user):
    records = []
    client = odd(LOG_LEVEL="critical")

    def keep(record):
        records.append(record)

    with request_finished.connected_to(keep):
        client.get("/api/me/tasks", headers=bearer(user))
    (record,) = records
    assert (record.method, record.route, record.status) == ("GET", "/api/<user_id>/tasks", 200)
    assert record.user_id == user
