"""New numbers after the restore of a backup, in place of those that it would give out a second time.

A restored database is at older numbers than clients have seen. It would go on from there, and give the same revisions
and ids to other contents: a stale ETag would match, and a cursor would miss changes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from todo.database import statements
from todo.database.timeouts import BATCH_LIMITS

SQL = statements.load(__file__)
BATCH = 5_000


class Renumbering(NamedTuple):
    """The number that all lists are raised to, and how many lists there are."""

    number: int
    lists: int


def prepare() -> Renumbering:
    """Choose the number, and let new tasks and new lists begin after it.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now; then nothing is changed.
        InternalError: The role of this session does not own the tables; then nothing is changed.

    """
    chosen = statements.read(SQL["choose_number"], {}, BATCH_LIMITS)[0]
    with statements.transaction(BATCH_LIMITS) as transaction:
        # One by one: Citus hands the whole message on with a definition that is in it.
        for name in ("allow_trigger", "drop_trigger", "create_function", "create_trigger", "begin_ids"):
            transaction.write(SQL[name], {"number": chosen.number})
    return Renumbering(chosen.number, chosen.lists)


def raise_lists(number: int) -> Iterator[int]:
    """Raise all lists to a number, in batches that are committed one by one; yield how many lists each batch raised.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now; what was yielded is done.

    """
    return _in_batches("raise_lists", {"number": number})


def expire_cursors() -> Iterator[int]:
    """Give each list a revision at which all clients read it anew; in batches, and failing, as `raise_lists` does."""
    return _in_batches("expire_cursors", {})


def _in_batches(name: str, parameters: Mapping[str, Any]) -> Iterator[int]:
    after = ""
    while (last := _find_last(after)) is not None:
        yield len(statements.write(SQL[name], {"after": after, "last": last, **parameters}, BATCH_LIMITS))
        after = last


def _find_last(after: str) -> str | None:
    last: str | None = statements.read(SQL["find_last"], {"after": after, "batch": BATCH}, BATCH_LIMITS)[0].last
    return last
