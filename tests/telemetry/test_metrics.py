"""The metrics, and that no label has more values the more clients send."""

import json
import math
import os
import re
import threading

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from support import bearer, config_for

from todo import create_app
from todo.auth.jwks import KeyCache
from todo.auth.keys import KeySet
from todo.database import statements
from todo.database.failures import ConnectionLost, DatabaseUnavailable, RolledBack, SchemaLacking
from todo.extensions import db
from todo.http.problems import InternalError, InvalidToken
from todo.telemetry import metrics, tracing
from todo.telemetry.metrics import Metrics
from todo.telemetry.output import LineWriter
from todo.telemetry.refusals import Refusal, TokenRule
from todo.telemetry.requests import Record
from todo.telemetry.streams import pokes_sent


@pytest.fixture
def registry():
    return CollectorRegistry()


@pytest.fixture
def observed(app, registry):
    """Return metrics that count what happens in this process."""
    with app.app_context():
        metrics_of_app = Metrics(registry, engine=db.engine, key_age=None, streams=int, kept_bytes=int)
    metrics_of_app.observe()
    return metrics_of_app


def samples(registry, name):
    """Return the values of a metric by its labels."""
    all_samples = (sample for metric in registry.collect() for sample in metric.samples)
    return {tuple(sample.labels.values()): sample.value for sample in all_samples if sample.name == name}


def test_requests_are_counted_by_method_route_and_status(observed, registry, client, user):
    client.get("/api/me/tasks", headers=bearer(user))
    client.get("/api/me/tasks", headers=bearer(user))
    client.get(f"/api/{user}x/tasks/7", headers=bearer(user))
    client.get(f"/nowhere/{user}")
    client.open("/", method="BUYMILK")
    assert samples(registry, "http_requests_total") == {
        ("GET", "/api/<user_id>/tasks", "200"): 2,
        ("GET", "/api/<user_id>/tasks/<int64:task_id>", "403"): 1,
        ("GET", "none", "404"): 1,
        ("other", "none", "405"): 1,
    }
    durations = samples(registry, "http_request_duration_seconds_bucket")
    assert durations["GET", "/api/<user_id>/tasks", "+Inf"] == 2
    assert [float(bound) for _, route, bound in durations if route == "none"][:14] == [*metrics.BUCKETS, math.inf]


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        pytest.param(None, "Authorization", id="none"),
        pytest.param("Bearer a,b", "Authorization", id="two"),
        pytest.param("Bearer x", "form", id="no-token"),
        pytest.param(f"Bearer {'x' * 8193}", "size", id="too-long"),
        pytest.param(bearer("u", exp=1)["Authorization"], "expiry", id="expired"),
        pytest.param(f"{bearer('u')['Authorization']}x", "signature", id="forged"),
    ],
)
def test_refusals_are_counted_by_the_rule_that_was_broken(observed, registry, client, authorization, reason):
    headers = {"Authorization": authorization} if authorization else {}
    assert client.get("/api/me/tasks", headers=headers).status_code == 401
    assert samples(registry, "token_refusals_total") == {(reason,): 1}


def test_refusal_that_a_rate_limit_turns_into_429_is_counted_by_its_rule(registry, database_url):
    app = create_app(config_for(database_url, RATE_LIMIT_FAILED_AUTH="1/year", WEB_CONCURRENCY="1"))
    with app.app_context():
        metrics_of_app = Metrics(registry, engine=db.engine, key_age=None, streams=int, kept_bytes=int)
    metrics_of_app.observe()

    assert [app.test_client().get("/api/me/tasks").status_code for _ in range(2)] == [401, 429]
    assert samples(registry, "token_refusals_total") == {("Authorization",): 2}


def test_refusal_of_another_origin_than_the_guard_is_counted_as_other(observed, registry, database_url):
    app = create_app(config_for(database_url))

    @app.route("/odd")
    def odd():
        raise InvalidToken(Refusal("Buy milk", "oat milk"))

    app.test_client().get("/odd")
    assert samples(registry, "token_refusals_total") == {("other",): 1}


def test_user_over_a_limit_is_no_refusal_of_a_token(observed, registry, user):
    record = Record("id", tracing.trace(None), method="GET", status=429, reason="rate limit: the user is over it")

    observed.count_request(record)

    assert samples(registry, "token_refusals_total") == {}
    assert samples(registry, "http_requests_total") == {("GET", "none", "429"): 1}


def test_rules_that_are_counted_are_those_of_the_header_and_of_both_verifiers(app, database_url):
    settings = {"BETTER_AUTH_URL": "http://localhost:9", "PUBLIC_URL": "http://localhost:8"}
    verifiers = [each.extensions["token_verifier"] for each in (app, create_app(config_for(database_url, **settings)))]
    rules = {rule for verifier in verifiers for rule in (*verifier.rules, *(verifier.access_token_rules or ()))}
    assert rules | {TokenRule.AUTHORIZATION, TokenRule.SIZE, TokenRule.FORM} == set(TokenRule)


@pytest.mark.parametrize(
    ("sqlstate", "kind"),
    [
        ("53300", "unavailable"),
        ("40001", "undone"),
        ("42P01", "schema"),
        ("08006", "node"),
        ("0A000", "not_supported"),
        ("22012", "bug"),
    ],
)
def test_database_errors_are_counted_by_kind(observed, registry, app, sqlstate, kind):
    failing = f"DO $$ BEGIN RAISE SQLSTATE '{sqlstate}'; END $$"
    with app.app_context(), pytest.raises((DatabaseUnavailable, InternalError)):
        statements.read(failing, {})
    assert samples(registry, "database_errors_total") == {(kind,): 2 if kind == "undone" else 1}


def test_connection_that_was_lost_is_counted_though_the_caller_notices_nothing(observed, registry, proxied, proxy):
    with proxied.app_context(), capture_logs():
        statements.read("SELECT 1", {})
        proxy.lose_answers = True
        with pytest.raises(DatabaseUnavailable):
            statements.read("SELECT 1", {})
    assert samples(registry, "database_errors_total") == {("connection_lost",): 2}


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        (DatabaseUnavailable, "unavailable"),
        (ConnectionLost, "connection_lost"),
        (RolledBack, "undone"),
        (SchemaLacking, "schema"),
        (InternalError, "bug"),
    ],
)
def test_database_error_of_a_class_without_a_kind_is_counted_by_that_of_its_parent(
    observed, registry, database_url, monkeypatch, parent, kind
):
    unknown = type("Unknown", (parent,), {"__doc__": parent.__doc__})
    monkeypatch.setattr(statements, "problem_of", lambda error, *_, **__: unknown(reason=str(error)))
    app = create_app(config_for(database_url))

    @app.route("/failing")
    def failing():
        statements.read("SELECT 1 / 0", {})

    assert app.test_client().get("/failing").status_code == parent.status
    assert set(samples(registry, "database_errors_total")) == {(kind,)}
    with app.app_context():
        db.engine.dispose()


def test_kinds_of_database_errors_are_those_that_are_documented(root):
    def kinds(problem):
        return {problem.kind}.union(*map(kinds, problem.__subclasses__()))

    known = kinds(DatabaseUnavailable) | {InternalError.kind}
    (row,) = re.findall(
        r"^\| `database_errors_total` \|.*$", (root / "docs/operate/metrics.md").read_text(), re.MULTILINE
    )
    assert set(re.findall(r"`(\w+)`", row)) == known | {"database_errors_total", "kind"}
    dashboard = json.loads((root / "deploy" / "grafana-dashboard.json").read_text())
    (description,) = [panel["description"] for panel in dashboard["panels"] if "by kind" in panel["title"]]
    assert set(re.findall(r"(\w+): ", description)) == known


def test_lines_that_could_not_be_written_are_counted(observed, registry):
    full = os.open("/dev/full", os.O_WRONLY)
    writer = LineWriter(full)
    for _ in range(3):
        writer.msg(b"lost")
    os.close(full)
    assert samples(registry, "log_lines_dropped_total") == {(): 3}


def test_pool_is_measured(database_url, registry, user):
    app = create_app(config_for(database_url, WEB_THREADS="1"))
    with app.app_context():
        engine = db.engine
        engine.pool._timeout = 30
    measured = Metrics(registry, engine=engine, key_age=None, streams=int, kept_bytes=int)

    def state() -> tuple[float | None, float | None]:
        measured.sample()
        names = ("database_pool_connections_in_use", "database_pool_waiting")
        return tuple(registry.get_sample_value(name) for name in names)

    assert state() == (0, 0)
    with engine.connect(), engine.connect():
        assert state() == (2, 0)
        third = threading.Thread(target=lambda: engine.connect().close())
        third.start()
        while state() != (2, 1):
            pass
    third.join()
    assert state() == (0, 0)
    assert registry.get_sample_value("issuer_keys_age_seconds") is None
    engine.dispose()


def test_pages_of_lists_are_counted_by_their_source(observed, registry, client, user):
    sources = ("client",), ("kept",), ("database",)
    assert samples(registry, "list_pages_total") == dict.fromkeys(sources, 0)
    first = client.get("/api/me/tasks", headers=bearer(user))
    client.get("/api/me/tasks", headers=bearer(user))
    client.get("/api/me/tasks", headers=bearer(user) | {"If-None-Match": first.headers["ETag"]})
    assert samples(registry, "list_pages_total") == dict.fromkeys(sources, 1)


def test_streams_and_their_pokes_are_counted(app, registry):
    with app.app_context():
        measured = Metrics(registry, engine=db.engine, key_age=None, streams=lambda: 7, kept_bytes=lambda: 8)
    measured.observe()
    measured.sample()
    pokes_sent.send(3)
    pokes_sent.send(2)
    assert samples(registry, "event_streams") == {(): 7}
    assert samples(registry, "kept_pages_bytes") == {(): 8}
    assert samples(registry, "event_pokes_total") == {(): 5}


def test_age_of_the_issuers_keys_is_measured(app, registry):
    now = [1000.0]
    keys = KeyCache(lambda: KeySet({}), clock=lambda: now[0])
    with app.app_context():
        measured = Metrics(registry, engine=db.engine, key_age=keys.age, streams=int, kept_bytes=int)

    def age() -> float | None:
        measured.sample()
        return registry.get_sample_value("issuer_keys_age_seconds")

    assert age() == math.inf
    with capture_logs():
        keys.refresh().finished.wait(10)
    now[0] += 70
    assert age() == 70
