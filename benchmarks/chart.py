"""A chart of ratios as SVG: horizontal bars, each with its spread."""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.ratios import Row, short, spread
from benchmarks.services import REFERENCE, SERVICES

WIDTH = 760
LEFT = 150
RIGHT = 110
BAR = 18
STEP = 26
HEADING = 40
COLOURS = {"gunicorn": "#1f6feb", "granian": "#1f6feb"}
OTHER_COLOUR = "#9aa4b2"
STYLE = "font-family='system-ui, sans-serif' font-size='13' fill='#24292f'"


def draw(rows: Sequence[Row], note: str) -> str:
    """Return the chart, with a group of bars for each row and a note below."""
    greatest = max((ratio.greatest or 0 for row in rows for ratio in row.numbers.values()), default=1)
    scale = (WIDTH - LEFT - RIGHT) / (greatest or 1)
    parts, top = [], 10
    for row in rows:
        parts.append(_text(10, top + 20, f"{row.work}: {row.measure}, {REFERENCE.title} = 1", weight="bold"))
        parts += _bars(row, top + HEADING, scale)
        top += HEADING + STEP * len(row.numbers) + 10
    parts.append(_text(10, top + 14, note))
    height = top + 28
    frame = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {STYLE}>"
    return "\n".join([head, frame, *parts, "</svg>", ""])


def _bars(row: Row, top: int, scale: float) -> Iterator[str]:
    bars = [(service, row.numbers[service.key]) for service in SERVICES if service.key in row.numbers]
    for place, (service, ratio) in enumerate(bars):
        middle, least, greatest = ratio.middle or 0, ratio.least or 0, ratio.greatest or 0
        y = top + place * STEP
        colour = COLOURS.get(service.key, OTHER_COLOUR)
        yield _text(LEFT - 8, y + 14, service.title, anchor="end")
        yield f"<rect x='{LEFT}' y='{y}' width='{middle * scale:.1f}' height='{BAR}' fill='{colour}'/>"
        line_y = y + BAR / 2
        ends = f"x1='{LEFT + least * scale:.1f}' x2='{LEFT + greatest * scale:.1f}' y1='{line_y}' y2='{line_y}'"
        yield f"<line {ends} stroke='#24292f' stroke-width='2'/>"
        yield _text(LEFT + greatest * scale + 8, y + 14, f"{short(middle)}{spread(least, greatest)}")


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' font-weight='{weight}'>{escape(words)}</text>"
