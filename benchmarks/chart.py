"""The chart of the comparison as SVG: a panel of horizontal bars for each question, each bar with its spread."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

from benchmarks.ratios import by_service
from benchmarks.services import SERVICES

WIDTH = 760
LEFT = 215
RIGHT = 190
BAR = 18
STEP = 26
HEADING = 40
GAP = 14
OURS = ("gunicorn", "granian", "gunicorn_pages", "granian_pages")
COLOUR, OTHER_COLOUR = "#1f6feb", "#9aa4b2"
STYLE = "font-family='system-ui, sans-serif' font-size='13' fill='#24292f'"


@dataclass(frozen=True, slots=True)
class Panel:
    """A question that the chart answers: measures of one load, whose sum is drawn for each service."""

    title: str
    load: str
    members: tuple[str, ...]
    unit: str


PANELS = (
    Panel("Requests per second with 16 connections (more is better)", "mix, 16 conn.", ("per_s",), "/s"),
    Panel("Requests per second with 64 connections (more is better)", "mix, 64 conn.", ("per_s",), "/s"),
    Panel(
        "Processor time of a request, service and PostgreSQL (less is better)",
        "mix, 16 conn.",
        ("app_us", "postgres_us"),
        " µs",
    ),
)


def draw(measured: Sequence[Mapping[str, Any]], note: str) -> str:
    """Return the chart of the measured loads, with a note below. Each panel has a scale of its own."""
    parts, top = [], 10
    for panel in PANELS:
        if values := _values(measured, panel):
            parts.append(_text(10, top + 20, panel.title, weight="bold"))
            parts += _bars(values, panel.unit, top + HEADING)
            top += HEADING + STEP * len(values) + GAP
    parts.append(_text(10, top + 14, note))
    height = top + 28
    frame = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {STYLE}>"
    return "\n".join([head, frame, *parts, "</svg>", ""])


def _values(measured: Sequence[Mapping[str, Any]], panel: Panel) -> dict[str, list[float]]:
    members = [by_service(measured, panel.load, member) for member in panel.members]
    return {key: [sum(parts) for parts in zip(*(found[key] for found in members), strict=True)] for key in members[0]}


def _bars(values: Mapping[str, Sequence[float]], unit: str, top: int) -> Iterator[str]:
    scale = (WIDTH - LEFT - RIGHT) / max(max(numbers) for numbers in values.values())
    for place, service in enumerate(one for one in SERVICES if one.key in values):
        numbers = values[service.key]
        middle, least, greatest = median(numbers), min(numbers), max(numbers)
        y = top + place * STEP
        ours = service.key in OURS
        yield _text(LEFT - 8, y + 14, service.title, anchor="end", weight="bold" if ours else "normal")
        fill = COLOUR if ours else OTHER_COLOUR
        yield f"<rect x='{LEFT}' y='{y}' width='{middle * scale:.1f}' height='{BAR}' fill='{fill}'/>"
        line_y = y + BAR / 2
        ends = f"x1='{LEFT + least * scale:.1f}' x2='{LEFT + greatest * scale:.1f}' y1='{line_y}' y2='{line_y}'"
        yield f"<line {ends} stroke='#24292f' stroke-width='2'/>"
        around = "" if least == greatest else f" ({least:,.0f} to {greatest:,.0f})"
        yield _text(LEFT + greatest * scale + 8, y + 14, f"{middle:,.0f}{unit}{around}")


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' font-weight='{weight}'>{escape(words)}</text>"
