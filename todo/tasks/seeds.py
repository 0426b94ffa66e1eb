"""Example tasks: a dozen, or millions of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, time, timedelta
from itertools import islice

import orjson

from todo.database import statements
from todo.database.timeouts import NO_LIMITS
from todo.http import dates
from todo.tasks import queries
from todo.tasks.rows import INITIAL, STORED, columns_of

BATCH = 5_000

# The time of day, in UTC, at which examples are due that are not due on a date.
DUE_TIME = time(9, 30)

SQL = statements.load(__file__, names=", ".join(STORED))

# title, description, completed, priority, days from today until it is due, whether it is due at a time of day, tags
EXAMPLES: list[tuple[str, str | None, bool, str | None, int | None, bool, list[str]]] = [
    ("Book the dentist", "Ask for an appointment before nine.", True, "medium", -3, False, ["health"]),
    ("Buy oat milk", "Two litres, the barista kind.", False, "low", 0, False, ["shopping", "home"]),
    (
        "Renew the passport",
        "Photo, old passport and 60 euros; the office is open on Thursdays until six.",
        False,
        "high",
        12,
        False,
        ["errands"],
    ),
    ("Reply to Anna about Saturday", None, True, None, -1, False, ["friends"]),
    (
        "Prepare the quarterly review",
        "Slides by Wednesday; the numbers come from Tomáš.",
        False,
        "high",
        2,
        True,
        ["work"],
    ),
    ("Water the plants", None, True, "low", 0, False, ["home"]),
    ("Fix the dripping tap", "The washer is a half-inch one.", False, "medium", -2, False, ["home", "DIY"]),
    ("Read chapter 4 of the statistics book", None, False, None, None, False, ["study"]),
    ("Cancel the gym membership", "Notice period: four weeks to the end of the month.", False, "medium", 9, False, []),
    ("Back up the photos", "Both phones, then put the disk back in the drawer.", True, "low", None, False, ["home"]),
    ("Plan the trip to Lisbon", "Trains first, then the flat near the Alfama.", False, None, 30, False, ["travel"]),
    ("Call grandma 🎂", "Her birthday is on the 14th.", False, "high", 1, True, ["family"]),
]


@contextmanager
def planting(user: str, total: int) -> Iterator[tuple[int, Iterator[int]]]:
    """Prepare to add as many example tasks to a user's list as are missing from a total.

    All of it is one transaction, since it is more than one statement and must be done wholly or not at all. Two of them
    for one user wait for each other.

    Yields:
        How many tasks are missing, and an iterator that adds them in batches and yields the size of each.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now; then nothing is added.

    """
    caller = {"caller": user}
    with statements.transaction(NO_LIMITS) as transaction:
        ((revision,),) = transaction.read(queries.SQL["lock_list"], caller)
        ((present,),) = transaction.read(SQL["count_tasks"], caller)
        missing = max(total - present, 0)
        now = datetime.now(UTC)
        rows = (
            _example(user, number, now) | {"revision": place}
            for place, number in enumerate(range(present, present + missing), revision + 1)
        )

        def plant() -> Iterator[int]:
            while batch := list(islice(rows, BATCH)):
                yield transaction.write(SQL["insert_tasks"], {"tasks": orjson.dumps(batch).decode()})

        yield missing, plant()
        transaction.write(SQL["raise_revision"], {**caller, "revision": revision + missing})


def _example(user: str, number: int, now: datetime) -> dict[str, object]:
    """Return the columns of one example. After the last one they start again, with a number in the title."""
    round_, place = divmod(number, len(EXAMPLES))
    title, description, completed, priority, days, has_time, tags = EXAMPLES[place]
    due = None
    if days is not None:
        day = now.date() + timedelta(days=days)
        due = dates.due(datetime.combine(day, DUE_TIME, UTC) if has_time else day)
    members = {
        "title": f"{title} ({round_ + 1})" if round_ else title,
        "description": description,
        "completed": completed,
        "priority": priority,
        "due_date": due,
        "tags": tags,
    }
    return {"user_id": user, **INITIAL, **columns_of(members), "completed_at": now if completed else None}
