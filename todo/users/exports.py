"""How many exports run at once: one for each user, and few enough that they leave most threads to other requests."""

import threading
from collections.abc import Generator

from todo.http.problems import TooManyRequests, Unavailable
from todo.users import queries

# An export of an ordinary list takes less than a second.
RETRY_AFTER_S = 5


class ExportRunning(TooManyRequests):
    """429: the user has an export that is still running."""

    cause = "An export of yours is running already"


class Exports:
    """The exports of this process.

    Args:
        limit: How many may run at once.

    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._users: set[str] = set()
        self._lock = threading.Lock()

    def run(self, user: str) -> Generator[bytes]:
        """Yield the pieces of an export; no other one of the user may begin before it is closed.

        Raises:
            ExportRunning: the user has one that is not closed.
            Unavailable: as many as may run at once are running, or PostgreSQL cannot answer now.

        """
        with self._lock:
            if user in self._users:
                raise ExportRunning(RETRY_AFTER_S, user_id=user)
            if len(self._users) >= self._limit:
                raise Unavailable(reason="as many exports are running as may run at once")
            self._users.add(user)
        try:
            yield from queries.export(user)
        finally:
            with self._lock:
                self._users.discard(user)
