"""Forgetting what has expired: first what deleted tasks held, later that there were any."""

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import text

from todo.database import statements
from todo.database.timeouts import WORK

BATCH = 1_000

# One walk through the trash, at the start: the rest is done user by user, so that it also runs where users are spread
# over machines.
EXPIRED = text("""
    SELECT user_id, count(*) FILTER (WHERE task IS NOT NULL) + count(*) FILTER (WHERE is_old) AS number
    FROM (SELECT user_id, task, deleted_at <= now() - make_interval(days => :days) AS is_old FROM trash
          WHERE expires_at <= now() OR task IS NULL) AS expired
    WHERE task IS NOT NULL OR is_old
    GROUP BY user_id ORDER BY user_id
""")

# Whoever else is purging is left alone with what it has begun.
FORGET_TASKS = text("""
    UPDATE trash SET task = NULL, expires_at = NULL
    WHERE user_id = :user AND id = ANY(ARRAY(
        SELECT id FROM trash WHERE user_id = :user AND expires_at <= now() LIMIT :batch FOR UPDATE SKIP LOCKED))
    RETURNING id
""")

# Marks go together with the word that they are gone, or a follower could miss a deletion and not know.
FORGET_MARKS = text("""
    WITH locked AS (SELECT user_id FROM task_lists WHERE user_id = :user FOR UPDATE),
    old AS (SELECT trash.id FROM trash, locked
            WHERE trash.user_id = :user AND task IS NULL AND deleted_at <= now() - make_interval(days => :days)
            LIMIT :batch),
    gone AS (DELETE FROM trash WHERE user_id = :user AND task IS NULL AND id IN (SELECT id FROM old)
             RETURNING id, revision),
    noted AS (UPDATE task_lists SET forgotten = greatest(forgotten, (SELECT max(revision) FROM gone))
              WHERE user_id = :user AND EXISTS (SELECT FROM gone))
    SELECT id FROM gone
""")


class Expired(NamedTuple):
    """Whose tasks and marks have expired, and how many."""

    user: str
    number: int


def expired(tombstone_days: int) -> list[Expired]:
    """Find what has expired."""
    rows = statements.read(EXPIRED, {"days": tombstone_days}, WORK)
    return [Expired(row.user_id, row.number) for row in rows]


def forget(user: str, tombstone_days: int) -> Iterator[int]:
    """Forget what of a user has expired, in batches that each take effect by themselves; give the size of each."""
    parameters = {"user": user, "days": tombstone_days, "batch": BATCH}
    for statement in (FORGET_TASKS, FORGET_MARKS):
        while found := len(statements.write(statement, parameters)):
            yield found
