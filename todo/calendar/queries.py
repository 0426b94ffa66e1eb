"""The statements of a calendar, one round trip each, the owner's id always first."""

from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple

from todo.calendar.addresses import Address
from todo.database import statements
from todo.tasks.rows import COLUMNS, TaskRow, as_task

SQL = statements.load(__file__, columns=COLUMNS)

TASKS_MAX = 5_000
PAST = timedelta(days=90)
FUTURE = timedelta(days=2 * 366)
COMPLETED = timedelta(days=30)


class Feed(NamedTuple):
    """The due tasks of a user, the first ones first, and the revision of the list; no tasks if it is the known one."""

    revision: int
    tasks: list[TaskRow]


def activate(caller: str, digest: bytes) -> None:
    """Let the address with this digest be that of the caller's calendar, and no other."""
    statements.write(SQL["set_digest"], {"caller": caller, "digest": digest})


def deactivate(caller: str) -> None:
    """Let the caller's calendar have no address."""
    statements.write(SQL["clear_digest"], {"caller": caller})


def is_active(caller: str) -> bool:
    """Check whether the caller's calendar has an address."""
    return bool(statements.read(SQL["is_active"], {"caller": caller})[0].active)


def read(address: Address, today: date, known_revision: int | None, *, with_completed: bool) -> Feed | None:
    """Return the calendar of an address, or None if it is that of none.

    Args:
        address: The address.
        today: The date in UTC. Nothing else of the present time counts, so that a calendar changes once a day or with a
            task.
        known_revision: The revision whose calendar the client has.
        with_completed: Whether tasks that were completed of late are in it.

    """
    midnight = datetime.combine(today, time(), UTC)
    parameters = {
        "begin": midnight - PAST,
        "end": midnight + FUTURE,
        "completed_since": midnight - COMPLETED,
        "with_completed": with_completed,
        "known_revision": -1 if known_revision is None else known_revision,
        "rows": TASKS_MAX,
    }
    rows = statements.read(SQL["read_feed"], {"caller": address.owner, "digest": address.digest, **parameters})
    if not rows:
        return None
    return Feed(rows[0].list_revision, [as_task(row) for row in rows if row.id is not None])
