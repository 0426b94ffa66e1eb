"""A picture of the ratios: horizontal bars, each with its spread."""

from collections.abc import Iterator, Sequence
from html import escape

from benchmarks.contenders import CONTENDERS, SEED
from benchmarks.tally import Row, short, spread

WIDTH = 760
LEFT = 150
RIGHT = 110
BAR = 18
STEP = 26
HEADING = 40
COLOURS = {"gunicorn": "#1f6feb", "granian": "#1f6feb"}
OTHERS = "#9aa4b2"
STYLE = "font-family='system-ui, sans-serif' font-size='13' fill='#24292f'"


def draw(lines: Sequence[Row], note: str) -> str:
    """Draw one group of bars for each line."""
    greatest = max((number.greatest or 0 for line in lines for number in line.numbers.values()), default=1)
    scale = (WIDTH - LEFT - RIGHT) / (greatest or 1)
    parts, top = [], 10
    for line in lines:
        parts.append(_text(10, top + 20, f"{line.work}: {line.measure}, {SEED.title} = 1", weight="bold"))
        parts += _bars(line, top + HEADING, scale)
        top += HEADING + STEP * len(line.numbers) + 10
    parts.append(_text(10, top + 14, note))
    height = top + 28
    frame = f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>"
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {STYLE}>"
    return "\n".join([head, frame, *parts, "</svg>", ""])


def _bars(line: Row, top: int, scale: float) -> Iterator[str]:
    named = [(contender, line.numbers[contender.key]) for contender in CONTENDERS if contender.key in line.numbers]
    for place, (contender, number) in enumerate(named):
        middle, least, greatest = number.middle or 0, number.least or 0, number.greatest or 0
        y = top + place * STEP
        colour = COLOURS.get(contender.key, OTHERS)
        yield _text(LEFT - 8, y + 14, contender.title, anchor="end")
        yield f"<rect x='{LEFT}' y='{y}' width='{middle * scale:.1f}' height='{BAR}' fill='{colour}'/>"
        line_y = y + BAR / 2
        ends = f"x1='{LEFT + least * scale:.1f}' x2='{LEFT + greatest * scale:.1f}' y1='{line_y}' y2='{line_y}'"
        yield f"<line {ends} stroke='#24292f' stroke-width='2'/>"
        yield _text(LEFT + greatest * scale + 8, y + 14, _label(middle, least, greatest))


def _label(middle: float, least: float, greatest: float) -> str:
    return f"{short(middle)}{spread(least, greatest)}"


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' font-weight='{weight}'>{escape(words)}</text>"
