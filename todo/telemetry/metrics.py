"""What is counted and measured for Prometheus. Only a server that shows it imports this room.

Labels have few values, whatever clients send: methods that HTTP knows, templates of paths, names of rules.
"""

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine

from todo.telemetry.requests import Record, database_failed, request_over

# In seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

KINDS = {
    "DatabaseUnavailable": "unavailable",
    "ConnectionLost": "connection_lost",
    "RolledBack": "undone",
    "SchemaLacking": "schema",
    "InternalError": "bug",
}
# An address that had too many of the first gets the second; and so does a user, whose token is good.
REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS)


class Metrics:
    """The metrics of one process.

    Args:
        registry: Where they are registered.
        engine: Its pool is looked at.
        rules: The names of the rules that a token can break.
        key_age: Returns the seconds since the issuer's keys were fetched, where there is an issuer.

    """

    def __init__(
        self, registry: CollectorRegistry, *, engine: Engine, rules: Iterable[str], key_age: Callable[[], float] | None
    ) -> None:
        self._engine = engine
        self._rules = frozenset(rules)
        self._measure_key_age = key_age
        self._requests = Counter(
            "http_requests_total", "Requests that were answered.", ("method", "route", "status"), registry=registry
        )
        self._durations = Histogram(
            "http_request_duration_seconds",
            "How long requests took.",
            ("method", "route"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._in_use = _gauge("database_pool_connections_in_use", "Connections that a thread uses.", registry)
        self._waiting = _gauge("database_pool_waiting", "Threads that wait for a connection.", registry)
        self._errors = Counter("database_errors_total", "Statements that failed.", ("kind",), registry=registry)
        self._refusals = Counter(
            "token_refusals_total", "Calls whose token was refused.", ("reason",), registry=registry
        )
        if key_age is not None:
            documentation = "Time since the issuer's keys were fetched, in the process that has the oldest."
            self._key_age = Gauge(
                "issuer_keys_age_seconds", documentation, registry=registry, multiprocess_mode="livemax"
            )

    def observe(self) -> None:
        """Count from now on what happens in this process."""
        request_over.connect(self.count_request)
        database_failed.connect(self.count_error)

    def count_request(self, record: Record) -> None:
        """Count a request that is over, and the refusal of its token."""
        route = record.route or "none"
        self._requests.labels(record.method, route, str(record.status)).inc()
        self._durations.labels(record.method, route).observe(record.duration_s)
        if record.status in REFUSED and record.reason is not None:
            self._count_refusal(record.status, record.reason.partition(":")[0])

    def _count_refusal(self, status: int, rule: str) -> None:
        if rule in self._rules:
            self._refusals.labels(rule).inc()
        elif status == HTTPStatus.UNAUTHORIZED:
            self._refusals.labels("other").inc()

    def count_error(self, problem: Exception) -> None:
        """Count a statement that failed."""
        self._errors.labels(KINDS[type(problem).__name__]).inc()

    def sample(self) -> None:
        """Measure what is neither done nor over: it is."""
        pool: Any = self._engine.pool
        self._in_use.set(pool.checkedout())
        self._waiting.set(pool.waiting())
        if self._measure_key_age is not None:
            self._key_age.set(self._measure_key_age())


def _gauge(name: str, documentation: str, registry: CollectorRegistry) -> Gauge:
    """Make a gauge that is the sum over all processes that live."""
    return Gauge(name, documentation, registry=registry, multiprocess_mode="livesum")
