"""Ratios to a reference: the number of each round against that of FastAPI in the same round, and their spread."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks import markdown
from benchmarks.services import REFERENCE, SERVICES, Service

REQUESTS = "requests/s"

# The measures of a load by their member in the results: the title, the unit, and the digits after the decimal point.
MEASURES = {
    "per_s": (REQUESTS, "/s", 0),
    "p50_ms": ("p50", " ms", 1),
    "p95_ms": ("p95", " ms", 1),
    "p99_ms": ("p99", " ms", 1),
    "app_us": ("CPU of the application a request", " µs", 0),
    "postgres_us": ("CPU of PostgreSQL a request", " µs", 0),
    "worker_mib": ("memory of a worker", " MiB", 0),
}
TEN = 10


@dataclass(frozen=True, slots=True)
class Ratio:
    """A number, and its ratio to the reference: the median, the least and the greatest of all rounds."""

    value: float
    middle: float | None = None
    least: float | None = None
    greatest: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table: one measure of one load, for each service by its key."""

    work: str
    measure: str
    unit: str
    digits: int
    numbers: dict[str, Ratio]

    def as_json(self) -> dict[str, Any]:
        """Return the row for the file of results."""
        return asdict(self)


def compared(values: Mapping[str, Sequence[float]], reference: str = REFERENCE.key) -> dict[str, Ratio]:
    """Compare the numbers of each service, in the order of the rounds, with those of a reference."""
    bases = values.get(reference, ())
    ratios = {}
    for key, numbers in values.items():
        by_round = [number / base for number, base in zip(numbers, bases, strict=False) if base]
        summary = (median(by_round), min(by_round), max(by_round)) if by_round else ()
        ratios[key] = Ratio(median(numbers), *summary)
    return ratios


def rows(measured: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Yield the rows of all loads."""
    for load in dict.fromkeys(result["load"] for result in measured):
        for member, (measure, unit, digits) in MEASURES.items():
            yield Row(load, measure, unit, digits, compared(by_service(measured, load, member)))
        failed = {key: Ratio(sum(numbers)) for key, numbers in by_service(measured, load, "failed").items()}
        yield Row(load, "failed, in all rounds", "", 0, failed)


def by_service(measured: Sequence[Mapping[str, Any]], load: str, member: str) -> dict[str, list[float]]:
    """Return a measure of a load for each service: the numbers of all rounds, in their order."""
    return {
        service.key: numbers
        for service in SERVICES
        if (numbers := [one[member] for one in measured if one["load"] == load and one["service"] == service.key])
    }


def round_trip_rows(results: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the rows of the round trips, and of the times with a distant database."""
    first = next(iter(results.values()))
    for kind in first["round_trips"]:
        numbers = {key: Ratio(result["round_trips"][kind]) for key, result in results.items()}
        yield Row(kind, "round trips", "", 0, numbers)
    for delay in first["median_ms"]:
        for kind in first["round_trips"]:
            values = {key: [result["median_ms"][delay][kind]] for key, result in results.items()}
            yield Row(f"{kind}, database {delay} ms away", "median", " ms", 0, compared(values))


def table(lines: Sequence[Row]) -> list[str]:
    """Return the table of all measures as lines of Markdown."""
    services = [service for service in SERVICES if any(service.key in row.numbers for row in lines)]
    titles = ["work", "measure", *(service.title for service in services)]
    cells = ([row.work, row.measure, *(_cell(row, row.numbers.get(one.key)) for one in services)] for row in lines)
    return markdown.table(f"ll{'r' * len(services)}", titles, cells)


def throughput_table(lines: Iterable[Row], kind: str = "") -> list[str]:
    """Return the table of the requests per second as multiples of the reference, as lines of Markdown.

    Args:
        lines: The rows of all loads.
        kind: The beginning of the names of the loads that it has.

    """
    loads = [
        row for row in lines if row.measure == REQUESTS and REFERENCE.key in row.numbers and row.work.startswith(kind)
    ]
    services = [service for service in _measured(loads) if service is not REFERENCE]
    titles = [f"against {REFERENCE.title}", *(service.title for service in services)]
    cells = ([row.work, *(_ratio(row.numbers.get(service.key)) for service in services)] for row in loads)
    return markdown.table(f"l{'r' * len(services)}", titles, cells)


def cpu_table(lines: Iterable[Row], connections: str) -> list[str]:
    """Return the table of the processor time of a request, of the service and of PostgreSQL, as lines of Markdown."""
    measures = [MEASURES[member][0] for member in ("app_us", "postgres_us")]
    shown = [
        row
        for row in lines
        if row.measure in measures and row.work.endswith(connections) and REFERENCE.key in row.numbers
    ]
    loads: dict[str, dict[str, list[float]]] = {}
    for row in shown:
        for key, ratio in row.numbers.items():
            loads.setdefault(row.work, {}).setdefault(key, []).append(ratio.value)
    services = _measured(shown)
    cells = (
        [work, *(" + ".join(f"{value:,.0f}" for value in numbers.get(service.key, ())) for service in services)]
        for work, numbers in loads.items()
    )
    return markdown.table(f"l{'r' * len(services)}", ["µs", *(service.title for service in services)], cells)


def unchanged_table(measured: Sequence[Mapping[str, Any]], connections: str) -> list[str]:
    """Return the table of lists that a client has already (304) beside whole ones (200), as lines of Markdown."""
    rows = []
    for service in SERVICES:
        if not service.has_etags:
            continue
        cells = []
        for kind in ("list", "unchanged"):
            per_s, app_us, postgres_us = (
                median(by_service(measured, f"{kind}, {connections}", member)[service.key])
                for member in ("per_s", "app_us", "postgres_us")
            )
            cells += [f"{per_s:,.0f}", f"{app_us:,.0f} + {postgres_us:,.0f}"]
        rows.append([service.title, *cells])
    titles = ["", "200: requests/s", "µs of CPU", "304: requests/s", "µs of CPU"]
    return markdown.table("lrrrr", titles, rows)


def _measured(lines: Iterable[Row]) -> list[Service]:
    """Return the services that the rows have numbers of, but for baselines."""
    keys = {key for row in lines for key in row.numbers}
    return [service for service in SERVICES if service.only_kind is None and service.key in keys]


def _ratio(ratio: Ratio | None) -> str:
    if ratio is None:
        return ""
    return f"{short(ratio.middle or 0)}{spread(ratio.least or 0, ratio.greatest or 0)}"


def _cell(row: Row, ratio: Ratio | None) -> str:
    """Return the ratio with its spread, if there is one, and the number."""
    if ratio is None:
        return ""
    value = f"{ratio.value:,.{row.digits}f}{row.unit}"
    if ratio.middle is None or ratio.least is None or ratio.greatest is None:
        return value
    return f"**{short(ratio.middle)}**{spread(ratio.least, ratio.greatest)}; {value}"


def spread(least: float, greatest: float) -> str:
    """Return the range of ratios in brackets, or nothing if they are equal."""
    return "" if least == greatest else f" ({short(least)} to {short(greatest)})"


def short(ratio: float) -> str:
    """Return a ratio with two significant digits."""
    if ratio >= TEN:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
