"""Purging the trash: first what deleted tasks held, later their tombstones."""

from collections.abc import Iterator
from typing import NamedTuple

from todo.database import statements
from todo.database.timeouts import BATCH_LIMITS

SQL = statements.load(__file__)
BATCH = 1_000


class Expired(NamedTuple):
    """A user, and how many deleted tasks and tombstones of theirs have expired."""

    user: str
    number: int


def list_expired(tombstone_days: int) -> list[Expired]:
    """Return the users of whose trash something has expired."""
    rows = statements.read(SQL["list_expired"], {"days": tombstone_days}, BATCH_LIMITS)
    return [Expired(row.user_id, row.number) for row in rows]


def purge(user: str, tombstone_days: int) -> Iterator[int]:
    """Purge what has expired in a user's trash, in batches that are committed one by one; yield the size of each."""
    parameters = {"user": user, "days": tombstone_days, "batch": BATCH}
    for name in ("purge_tasks", "purge_tombstones"):
        while number := len(statements.write(SQL[name], parameters)):
            yield number
