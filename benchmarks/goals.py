"""The goals of the comparison, and whether the measured results meet them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import markdown
from benchmarks.ratios import by_service, compared, short, spread
from benchmarks.services import REFERENCE

Results = Mapping[str, Any]
SERVERS = {"gunicorn": "gunicorn", "granian": "Granian"}
NAMES = SERVERS | {"gunicorn_pages": "gunicorn with pages", "granian_pages": "Granian with pages"}

# What was measured, as text, and whether that meets the goal; None where the results do not say.
Finding = tuple[str, bool | None]
NOT_MEASURED: Finding = ("not measured", None)
MARKS = {True: "met", False: "**missed**", None: ""}


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal.

    Attributes:
        text: What is to be reached.
        measure: Returns the finding.

    """

    text: str
    measure: Callable[[Results], Finding]


def _times_as_many(reference: str, least: Mapping[str, float], *loads: str) -> Goal:
    """Return the goal to serve so many times the requests of another service."""
    name = {"fastapi": "FastAPI", "fastify": "Fastify"}[reference]
    asked = " and ".join(f"{NAMES[key]} {ratio:g}" for key, ratio in least.items())

    def measure(results: Results) -> Finding:
        found, met = [], True
        for load in loads:
            ratios = compared(by_service(results["measured"], load, "per_s"), reference)
            for key, ratio in least.items():
                if key not in ratios:
                    return NOT_MEASURED
                middle = ratios[key].middle or 0
                around = spread(ratios[key].least or 0, ratios[key].greatest or 0)
                found.append(f"{NAMES[key]} {short(middle)}{around}")
                met = met and middle >= ratio
        return ", ".join(found), met

    return Goal(f"{'; '.join(loads)}: times {name}'s requests/s: {asked}", measure)


def _one_round_trip(results: Results) -> Finding:
    trips = results["round_trips"]["gunicorn"]["round_trips"]
    return ", ".join(f"{kind} {number}" for kind, number in trips.items()), set(trips.values()) == {1}


def _responds(load: str, member: str, limit_ms: float) -> Goal:
    """Return the goal to respond to nearly all requests of a load in time, and to each of them."""

    def measure(results: Results) -> Finding:
        found, met = [], True
        for key, name in SERVERS.items():
            middle = median(by_service(results["measured"], load, member)[key])
            failed = int(sum(by_service(results["measured"], load, "failed")[key]))
            found.append(f"{name} {middle:,.0f} ms, {failed} failed")
            met = met and middle < limit_ms and failed == 0
        return "; ".join(found), met

    return Goal(f"{load}: {member.removesuffix('_ms')} under {limit_ms:g} ms, none failed", measure)


def _keeps_throughput(results: Results) -> Finding:
    measured = results["measured"]
    many, few = (
        median(by_service(measured, load, "per_s")["gunicorn"]) for load in ("mix, 1,000 conn.", "mix, 64 conn.")
    )
    failed = int(sum(by_service(measured, "mix, 1,000 conn.", "failed")["gunicorn"]))
    ratio = many / few
    return f"{ratio:.2f} times, {failed} failed", ratio >= 1 and failed == 0


def _far_database(least: Mapping[str, float]) -> Goal:
    def measure(results: Results) -> Finding:
        times = {key: found["median_ms"]["5"] for key, found in results["round_trips"].items()}
        ratios = {kind: times[REFERENCE.key][kind] / times["gunicorn"][kind] for kind in least}
        found = ", ".join(f"{kind} {short(ratio)}" for kind, ratio in ratios.items())
        return found, all(ratios[kind] >= asked for kind, asked in least.items())

    asked = ", ".join(f"{kind} {ratio:g}" for kind, ratio in least.items())
    return Goal(f"database 5 ms away: times as fast as {REFERENCE.title}: {asked}", measure)


def _first_page(results: Results) -> Finding:
    time_ms = results["growth"][-1]["calls"]["first page of 50"]["median_ms"]
    return f"{time_ms:.2f} ms", time_ms <= 1


def _memory(key: str, max_mib: float, what: str) -> Goal:
    """Return the goal for the memory of a worker."""

    def measure(results: Results) -> Finding:
        sizes = [result["worker_mib"] for result in results["measured"] if result["service"] == key]
        if not sizes:
            return NOT_MEASURED
        return f"{sizes[0]:.0f} MiB at first, {max(sizes):.0f} at most", max(sizes) <= max_mib

    return Goal(f"a worker of {NAMES[key]} within {max_mib:g} MiB under {what}", measure)


KINDS = ("get, 16 conn.", "patch, 16 conn.", "create, 16 conn.")
GOALS: Sequence[Goal] = (
    Goal("one round trip to PostgreSQL for each kind of request", _one_round_trip),
    _times_as_many("fastapi", {"gunicorn": 2.6, "granian": 3.5}, "mix, 16 conn."),
    _times_as_many("fastapi", {"gunicorn": 4.5, "granian": 6}, "mix, 64 conn."),
    _responds("mix, 64 conn.", "p99_ms", 150),
    _times_as_many("fastify", {"gunicorn": 0.9, "granian": 1}, "mix, 16 conn.", "mix, 64 conn."),
    _times_as_many("fastify", {"granian_pages": 1.2}, "mix, 16 conn.", "mix, 64 conn."),
    _times_as_many("fastify", {"gunicorn": 0.5, "granian": 0.7}, *KINDS),
    _responds("mix, 1,000 conn., each pausing 2 s", "p95_ms", 500),
    Goal("mix, 1,000 conn.: as many requests/s on gunicorn as with 64, none failed", _keeps_throughput),
    _far_database({"list": 2.5, "get": 2.5, "create": 5, "patch": 6}),
    Goal("5,000,000 tasks, a user with 200,000: first page within 1 ms in the database", _first_page),
    _memory("gunicorn", 65, "all loads of this comparison"),
    _memory("gunicorn_pages", 78, "the mix"),
)


def table(results: Results) -> list[str]:
    """Return the table of the goals as lines of Markdown."""
    return markdown.table("lll", ["goal", "measured", ""], _rows(results))


def _rows(results: Results) -> Iterator[list[str]]:
    for goal in GOALS:
        measured, met = goal.measure(results)
        yield [goal.text, measured, MARKS[met]]
