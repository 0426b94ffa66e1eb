"""Metrics for Prometheus. Only a server that exports them imports this module.

The values of labels are few, whatever clients send: the methods of HTTP, the templates of paths, the rules for tokens.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from sqlalchemy import Engine

from todo.telemetry.lists import PageSource, page_found
from todo.telemetry.output import LineWriter, line_dropped
from todo.telemetry.requests import Record, database_failed, request_finished
from todo.telemetry.streams import pokes_sent

# In seconds.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class DatabaseFailure(Protocol):
    """A problem that a failure of the database is translated into.

    Attributes:
        kind: The kind of the failure, as `database_errors_total` labels it. It stands on the class of the problem.

    """

    kind: str


class Metrics:
    """The metrics of one process.

    Args:
        registry: Where they are registered.
        engine: The engine whose connection pool is measured.
        key_age: Returns the seconds since the issuer's keys were fetched, where there is an issuer.
        streams: Returns the number of open streams of events.
        kept_bytes: Returns the number of bytes that kept pages of lists take.

    """

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        engine: Engine,
        key_age: Callable[[], float] | None,
        streams: Callable[[], int],
        kept_bytes: Callable[[], int],
    ) -> None:
        self._registry = registry
        self._engine = engine
        self._count_streams = streams
        self._measure_kept = kept_bytes
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
        self._streams = _gauge("event_streams", "Streams of events that are open.", registry)
        self._kept = _gauge("kept_pages_bytes", "Memory for pages of lists that are kept.", registry)
        self._errors = Counter("database_errors_total", "Statements that failed.", ("kind",), registry=registry)
        self._refusals = Counter(
            "token_refusals_total", "Calls whose token was refused.", ("reason",), registry=registry
        )
        self._pages = Counter("list_pages_total", "Pages of lists.", ("source",), registry=registry)
        if key_age is not None:
            documentation = "Time since the issuer's keys were fetched, in the process that has the oldest."
            self._key_age = Gauge(
                "issuer_keys_age_seconds", documentation, registry=registry, multiprocess_mode="livemax"
            )

    def observe(self) -> None:
        """Start to count the requests and failures of this process, and the lines that it drops."""
        # Not before: a counter without labels takes a file of the process that creates it, and the master needs none.
        self._dropped_lines = Counter(
            "log_lines_dropped_total", "Lines of the log that could not be written.", registry=self._registry
        )
        self._pokes = Counter(
            "event_pokes_total", "Streams of events that were told of a change.", registry=self._registry
        )
        for source in PageSource:
            self._pages.labels(source.value)
        line_dropped.connect(self.count_dropped_line)
        pokes_sent.connect(self.count_pokes)
        request_finished.connect(self.count_request)
        database_failed.connect(self.count_error)
        page_found.connect(self.count_page)

    def count_request(self, record: Record) -> None:
        """Count a finished request, and the refusal of its token.

        The response to a refused token is a 401, or a 429 when its address had too many of them. A 401 without a rule,
        which the guard never raises, is labelled `other`.
        """
        route = record.route or "none"
        self._requests.labels(record.method, route, str(record.status)).inc()
        self._durations.labels(record.method, route).observe(record.duration_s)
        if record.refused_rule is not None or record.status == HTTPStatus.UNAUTHORIZED:
            self._refusals.labels(record.refused_rule or "other").inc()

    def count_error(self, problem: DatabaseFailure) -> None:
        """Count a failed statement."""
        self._errors.labels(problem.kind).inc()

    def count_page(self, source: PageSource) -> None:
        """Count a page of a list."""
        self._pages.labels(source.value).inc()

    def count_dropped_line(self, _writer: LineWriter) -> None:
        """Count a line of the log that could not be written."""
        self._dropped_lines.inc()

    def count_pokes(self, number: int) -> None:
        """Count the streams that were told of a change."""
        self._pokes.inc(number)

    def sample(self) -> None:
        """Measure this process: its connection pool, its streams, its kept pages, and the age of the issuer's keys."""
        pool: Any = self._engine.pool
        self._in_use.set(pool.checkedout())
        self._waiting.set(pool.waiting())
        self._streams.set(self._count_streams())
        self._kept.set(self._measure_kept())
        if self._measure_key_age is not None:
            self._key_age.set(self._measure_key_age())


def _gauge(name: str, documentation: str, registry: CollectorRegistry) -> Gauge:
    """Build a gauge that is summed over all live processes."""
    return Gauge(name, documentation, registry=registry, multiprocess_mode="livesum")
