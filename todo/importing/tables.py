"""Tables: files of values separated by commas, semicolons or tabs, in the dialects found in the wild (RFC 4180)."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from todo.importing.records import Record, Remark

DELIMITERS = ",;\t"

# How many rows may precede the header: preambles, and the line `sep=;` of Excel.
PREAMBLE_MAX = 20

# The most columns of a table: each row is read by all of them, so that thousands would make a small file expensive.
COLUMNS_MAX = 200

# The most characters of a value. What is too long for a task is cut with a warning, and not refused.
csv.field_size_limit(16 * 1024 * 1024)

# The columns whose white space is kept.
TEXTS = frozenset({"description", "notes", "note", "body", "details"})


@dataclass(frozen=True, slots=True)
class Table:
    """A table below its header.

    Attributes:
        line: The line of the header.
        names: The names of the columns as the file has them.
        rows: The rows with their lines; instead of a row that cannot be read, its fault.

    """

    line: int
    names: Sequence[str]
    rows: Iterator[tuple[int, list[str] | str]]

    def records(
        self, read: frozenset[str], ignored: frozenset[str]
    ) -> Iterator[tuple[Record, dict[str, str]] | Remark]:
        """Yield a record for each row that is not empty, with its values by the names of the columns.

        Args:
            read: The columns that the format reads.
            ignored: Those that hold nothing of a task. The first value of any other column is remarked upon.

        """
        remarked, keys = set(read | ignored), self.keys
        for line, row in self.rows:
            if not any(cell.strip() for cell in row):
                continue
            record = Record(place={"line": line})
            if isinstance(row, str):
                record.faults.append(row)
                yield record, {}
                continue
            if any(cell.strip() for cell in row[len(self.names) :]):
                record.faults.append(f"The row has {len(row)} values, and the header {len(self.names)} columns.")
            values = dict.fromkeys(keys, "")
            values |= {key: cell if key in TEXTS else cell.strip() for key, cell in zip(keys, row, strict=False)}
            for name, key in zip(self.names, keys, strict=True):
                if values.get(key) and key not in remarked:
                    remarked.add(key)
                    yield Remark({"line": self.line}, f"The column {name} is left out.")
            record.content = {key: value for key, value in values.items() if value}
            yield record, values

    @property
    def keys(self) -> list[str]:
        """The names of the columns as programs compare them."""
        return [key(name) for name in self.names]


def key(name: str) -> str:
    """Return the name of a column without its case and its spaces."""
    return "_".join(name.strip().casefold().split())


def find(text: str, is_header: Callable[[list[str]], bool]) -> Table | None:
    """Return the table of a text, whatever separates its values, or None if it has no such header.

    Args:
        text: The content of the file.
        is_header: Checks the names of the columns.

    """
    for delimiter in DELIMITERS:
        rows = _rows(text, delimiter)
        for line, row in islice(rows, PREAMBLE_MAX):
            if isinstance(row, list) and len(row) <= COLUMNS_MAX and is_header([key(name) for name in row]):
                return Table(line, [name.strip() for name in row], rows)
    return None


def _rows(text: str, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The parser goes on with the next line.
            yield line, f"The row cannot be read: {error}."
