"""Example tasks, a dozen or a million."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

from sqlalchemy import func, insert, select

from todo import database
from todo.tasks.models import Task

BATCH = 5_000

# What the advisory lock is taken for, so that two runs for one user wait for each other.
LOCK = 0x7365656473

# title, description, completed
EXAMPLES = [
    ("Book the dentist", "Ask for an appointment before nine.", True),
    ("Buy oat milk", "Two litres, the barista kind.", False),
    ("Renew the passport", "Photo, old passport and 60 euros; the office is open on Thursdays until six.", False),
    ("Reply to Anna about Saturday", None, True),
    ("Prepare the quarterly review", "Slides by Wednesday; the numbers come from Tomáš.", False),
    ("Water the plants", None, True),
    ("Fix the dripping tap", "The washer is a half-inch one.", False),
    ("Read chapter 4 of the statistics book", None, False),
    ("Cancel the gym membership", "Notice period: four weeks to the end of the month.", False),
    ("Back up the photos", "Both phones, then put the disk back in the drawer.", True),
    ("Plan the trip to Lisbon", "Trains first, then the flat near the Alfama.", False),
    ("Call grandma 🎂", "Her birthday is on the 14th.", False),
]


@contextmanager
def planting(user: str, total: int) -> Iterator[tuple[int, Iterator[int]]]:
    """Prepare to give a user as many example tasks as are missing from a total.

    All of it is one transaction, because it is to be done wholly or not at all and takes more than one statement.

    Yields:
        How many tasks are missing, and an iterator that adds them in batches and gives the size of each.

    """
    with database.transaction() as connection:
        connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(user, LOCK))))
        present = connection.scalar(select(func.count()).select_from(Task).where(Task.user_id == user)) or 0
        missing = max(total - present, 0)
        rows = (_example(user, number) for number in range(present, present + missing))

        def plant() -> Iterator[int]:
            while batch := list(islice(rows, BATCH)):
                connection.execute(insert(Task), batch)
                yield len(batch)

        yield missing, plant()


def _example(user: str, number: int) -> dict[str, object]:
    """Give one of the examples, which come over and over; from the second round on they are numbered."""
    turn, place = divmod(number, len(EXAMPLES))
    title, description, completed = EXAMPLES[place]
    numbered = f"{title} ({turn + 1})" if turn else title
    return {"user_id": user, "title": numbered, "description": description, "completed": completed}
