"""Ratios: each round's number against the seed's in the same round, and how far they spread."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.contenders import CONTENDERS, SEED

# What is told of a load, its unit, and the digits after the point.
MEASURES = {
    "per_s": ("requests/s", "/s", 0),
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
    """A number, and its ratio to the seed's: in the middle, the least and the greatest of all rounds."""

    value: float
    middle: float | None = None
    least: float | None = None
    greatest: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    work: str
    measure: str
    unit: str
    digits: int
    numbers: dict[str, Ratio]

    def as_json(self) -> dict[str, Any]:
        """Give it for the file of results."""
        return asdict(self)


def compared(values: Mapping[str, Sequence[float]]) -> dict[str, Ratio]:
    """Compare the numbers of all rounds, by contender, with those of the seed in the same rounds."""
    base = values.get(SEED.key, ())
    told = {}
    for key, numbers in values.items():
        ratios = [number / seed for number, seed in zip(numbers, base, strict=False) if seed]
        against = (median(ratios), min(ratios), max(ratios)) if ratios else ()
        told[key] = Ratio(median(numbers), *against)
    return told


def rows(measured: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    """Give the lines of all loads."""
    for load in dict.fromkeys(one["load"] for one in measured):
        here = [one for one in measured if one["load"] == load]
        for member, (measure, unit, digits) in MEASURES.items():
            yield Row(load, measure, unit, digits, compared(_by_contender(here, member)))
        failed = {key: Ratio(sum(numbers)) for key, numbers in _by_contender(here, "failed").items()}
        yield Row(load, "failed, in all rounds", "", 0, failed)


def _by_contender(measured: Sequence[Mapping[str, Any]], member: str) -> dict[str, list[float]]:
    return {
        contender.key: numbers
        for contender in CONTENDERS
        if (numbers := [one[member] for one in measured if one["contender"] == contender.key])
    }


def trip_rows(found: Mapping[str, Any]) -> Iterator[Row]:
    """Give the lines of the round trips."""
    first = next(iter(found.values()))
    for kind in first["trips"]:
        numbers = {key: Ratio(one["trips"][kind]) for key, one in found.items()}
        yield Row(kind, "round trips", "", 0, numbers)
    for delay in first["median_ms"]:
        for kind in first["trips"]:
            values = {key: [one["median_ms"][delay][kind]] for key, one in found.items()}
            yield Row(f"{kind}, database {delay} ms away", "median", " ms", 0, compared(values))


def table(lines: Sequence[Row]) -> list[str]:
    """Give the table as lines of Markdown."""
    shown = [contender for contender in CONTENDERS if any(contender.key in line.numbers for line in lines)]
    titles = ["work", "what", *(contender.title for contender in shown)]
    written = [f"| {' | '.join(titles)} |", f"|---|---|{'--:|' * len(shown)}"]
    for line in lines:
        cells = [_cell(line, line.numbers.get(contender.key)) for contender in shown]
        written.append(f"| {line.work} | {line.measure} | {' | '.join(cells)} |")
    return written


def _cell(line: Row, number: Ratio | None) -> str:
    """Write the ratio, its spread where there is one, and then the number itself."""
    if number is None:
        return ""
    value = f"{number.value:,.{line.digits}f}{line.unit}"
    if number.middle is None or number.least is None or number.greatest is None:
        return value
    return f"**{short(number.middle)}**{spread(number.least, number.greatest)}; {value}"


def spread(least: float, greatest: float) -> str:
    """Write how far ratios spread, if they do."""
    return "" if least == greatest else f" ({short(least)} to {short(greatest)})"


def short(ratio: float) -> str:
    """Write a ratio with two digits that matter."""
    if ratio >= TEN:
        return f"{ratio:,.0f}"
    return f"{ratio:.1f}" if ratio >= 1 else f"{ratio:.2f}"
