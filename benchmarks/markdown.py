"""Tables in Markdown."""

from collections.abc import Iterable, Sequence

ALIGNMENT = {"l": "---", "r": "--:"}


def table(alignment: str, titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table.

    Args:
        alignment: A letter for each column: `l` for left, `r` for right.
        titles: The titles of the columns.
        rows: The cells of each row.

    """
    rule = "|".join(ALIGNMENT[letter] for letter in alignment)
    return [_line(titles), f"|{rule}|", *(_line(row) for row in rows)]


def _line(cells: Sequence[str]) -> str:
    # An empty cell has one space, as editors of Markdown write it.
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in cells)
