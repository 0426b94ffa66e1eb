"""The report of a run: a table, and a picture of how far the copies were from the server's list."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
LEFT = 130
RIGHT = 20
GRAPH = 180
LANE = 18
STYLE = "font-family='system-ui, sans-serif' font-size='12' fill='#24292f'"
COLOURS = ("#1f6feb", "#d1242f", "#2da44e")

Bar = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """How many tasks of each copy differ from the server's list at a time, in seconds from the beginning."""

    at_s: float
    differences: Mapping[str, int]


def table(figures: Mapping[str, object], title: str) -> str:
    """Return figures as a table in Markdown."""
    values = [f"{value:,}" if isinstance(value, int) else f"{value}" for value in figures.values()]
    cells = [(title, ""), *zip(figures, values, strict=True)]
    widths = [max(len(row[column]) for row in cells) for column in (0, 1)]
    lines = [f"| {name:{widths[0]}} | {value:>{widths[1]}} |" for name, value in cells]
    lines.insert(1, f"|{'-' * (widths[0] + 2)}|{'-' * (widths[1] + 1)}:|")
    return "\n".join(lines)


def draw(title: str, samples: Sequence[Sample], lanes: Mapping[str, Sequence[Bar]]) -> str:
    """Return the picture: a line for each copy, and below it a lane for each kind of fault.

    Args:
        title: What the picture shows.
        samples: The differences over time.
        lanes: From when to when, in seconds from the beginning, something was the case.

    """
    end_s = max(sample.at_s for sample in samples)
    highest = max(max(sample.differences.values()) for sample in samples) or 1
    x_scale, y_scale = (WIDTH - LEFT - RIGHT) / end_s, GRAPH / highest
    top = 54
    height = top + GRAPH + 34 + LANE * len(lanes)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' role='img' {STYLE}>",
        f"<title>{escape(title)}</title>",
        f"<rect width='{WIDTH}' height='{height}' fill='#ffffff'/>",
        _text(10, 20, title, weight="bold"),
        *_legend(list(samples[0].differences)),
        *_axes(top, end_s, highest, x_scale),
        *_lines(samples, top, x_scale, y_scale),
    ]
    for number, (name, bars) in enumerate(lanes.items()):
        y = top + GRAPH + 30 + LANE * number
        parts.append(_text(LEFT - 8, y + 10, name, anchor="end"))
        parts.append(f"<rect x='{LEFT}' y='{y}' width='{WIDTH - LEFT - RIGHT}' height='{LANE - 5}' fill='#f6f8fa'/>")
        for since, until in bars:
            width = max(2, (until - since) * x_scale)
            box = f"x='{LEFT + since * x_scale:.1f}' y='{y}' width='{width:.1f}' height='{LANE - 5}'"
            parts.append(f"<rect {box} fill='#8c959f'/>")
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> Iterator[str]:
    yield _text(10, 40, "tasks that differ from the server's list:")
    for number, name in enumerate(names):
        x = 260 + 110 * number
        yield f"<rect x='{x}' y='33' width='18' height='4' fill='{COLOURS[number]}'/>"
        yield _text(x + 24, 40, name)


def _axes(top: int, end_s: float, highest: int, x_scale: float) -> Iterator[str]:
    for value, y in ((highest, top), (0, top + GRAPH)):
        yield f"<line x1='{LEFT}' x2='{WIDTH - RIGHT}' y1='{y}' y2='{y}' stroke='#d0d7de'/>"
        yield _text(LEFT - 8, y + 4, f"{value}", anchor="end")
    step = next(step for step in (5, 10, 20, 30, 60, 120, 300, 600, 3600) if end_s / step <= 9)
    for at_s in range(0, int(end_s) + 1, step):
        yield _text(LEFT + at_s * x_scale, top + GRAPH + 18, f"{at_s} s", anchor="middle")


def _lines(samples: Sequence[Sample], top: int, x_scale: float, y_scale: float) -> Iterator[str]:
    for number, name in enumerate(samples[0].differences):
        points = " ".join(
            f"{LEFT + sample.at_s * x_scale:.1f},{top + GRAPH - sample.differences[name] * y_scale:.1f}"
            for sample in samples
        )
        yield f"<polyline points='{points}' fill='none' stroke='{COLOURS[number]}' stroke-width='1.5'/>"


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' font-weight='{weight}'>{escape(words)}</text>"
