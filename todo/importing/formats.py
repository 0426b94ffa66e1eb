"""The formats that can be imported. A new one is a module with `NAME`, `detect` and `read`, and its line here."""

from collections.abc import Iterator
from typing import Protocol
from zoneinfo import ZoneInfo

from todo.importing import csv_table, google_tasks, ical, ticktick, todo_export, todoist
from todo.importing.records import Record, Remark, Unreadable


class Format(Protocol):
    """The module of a format."""

    NAME: str

    def detect(self, text: str) -> bool:
        """Check whether a file is probably of this format."""

    def read(self, text: str, zone: ZoneInfo) -> Iterator[Record | Remark]:
        """Yield the tasks of a file in its order.

        Raises:
            Unreadable: The file as a whole is not of this format.

        """


# In the order in which they are tried: a table of any kind comes last.
MODULES: tuple[Format, ...] = (
    todo_export,
    google_tasks,
    ical,
    todoist,
    ticktick,
    csv_table,
)
FORMATS = {module.NAME: module for module in MODULES}


def detected(text: str) -> Format:
    """Return the format of a file, by its content.

    Raises:
        Unreadable: It could be none of them.

    """
    for module in MODULES:
        if module.detect(text):
            return module
    raise Unreadable(f"The format of the file cannot be recognised: name it, one of {', '.join(FORMATS)}.")
