"""Purging the trash: first what deleted tasks held, later their tombstones."""

from collections.abc import Iterator
from typing import NamedTuple

from todo.database import distribution, statements
from todo.database.timeouts import BATCH_LIMITS

SQL = statements.load(__file__)
EXPIRED = SQL.pop("expired")
EXPIRED_OF_PIECE = statements.fill(SQL.pop("expired_of_piece"), expired=EXPIRED, trash="%s")
SQL["list_expired"] = statements.fill(EXPIRED, trash="trash", days="%(days)s")
BATCH = 1_000


class Expired(NamedTuple):
    """A user, and how many deleted tasks and tombstones of theirs have expired."""

    user: str
    number: int


class Trash(NamedTuple):
    """The users of whose trash something has expired, and whether these are all: no machine of a cluster is away."""

    expired: list[Expired]
    is_complete: bool


def list_expired(tombstone_days: int) -> Trash:
    """Return the users of whose trash something has expired."""
    if distribution.is_distributed():
        command = statements.fill(EXPIRED_OF_PIECE, days=str(tombstone_days))
        rows = statements.read(SQL["list_expired_by_piece"], {"command": command}, BATCH_LIMITS)
    else:
        rows = statements.read(SQL["list_expired"], {"days": tombstone_days}, BATCH_LIMITS)
    found = [Expired(row.user_id, row.number) for row in rows if row.user_id is not None]
    return Trash(found, all(getattr(row, "is_found", True) for row in rows))


def purge(user: str, tombstone_days: int) -> Iterator[int]:
    """Purge what has expired in a user's trash, in batches that are committed one by one; yield the size of each."""
    parameters = {"user": user, "days": tombstone_days, "batch": BATCH}
    for name in ("purge_tasks", "purge_tombstones"):
        while number := len(statements.write(SQL[name], parameters)):
            yield number
