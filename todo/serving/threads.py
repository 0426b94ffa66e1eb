"""The threads that run the application, in the order of arrival and with a share for each user.

One user whose requests take long must not occupy all threads. So at most a share of them works for one user at a time:
further requests of that user wait until one of the others is finished, while the requests of other users pass.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable, Iterator
from queue import SimpleQueue
from typing import Any

from todo.telemetry.logs import log

# What the requests that wait for others of their user may take, all together.
PARKED_MAX_BYTES = 32 * 1024 * 1024


class Turn:
    """A connection that waits for a thread.

    Args:
        connection: The connection.
        user: For whom the thread will work, as far as that is known.

    Attributes:
        parked: The bytes of its request, while it waits for others of its user.

    """

    def __init__(self, connection: Any, user: Hashable | None) -> None:
        self.user = user
        self.parked = 0
        self.arrived_at = time.monotonic()
        self._connection = [connection]

    def claim(self) -> Any | None:
        """Return the connection to the first caller, and None to every other."""
        try:
            return self._connection.pop()
        except IndexError:
            return None


class ThreadPool:
    """Threads that serve connections in the order of their arrival.

    Args:
        number: The number of threads.
        serve: The function that they call with each connection. It handles its own exceptions.
        prepare: The function that each thread calls first.

    """

    def __init__(self, number: int, serve: Callable[[Any], None], prepare: Callable[[], None] = lambda: None) -> None:
        # The threads that may work for one user at a time.
        self.share = max(1, number // 2)
        self._queue: SimpleQueue[Turn] = SimpleQueue()
        self._enqueued_at: deque[float] = deque()
        # All turns that no thread has begun with, the oldest first.
        self._waiting: dict[Turn, None] = {}
        self._lock = threading.Lock()
        self._working: Counter[Hashable] = Counter()
        self._parked: dict[Hashable, deque[Turn]] = {}
        self._parked_bytes = 0
        self._serve = serve
        self._prepare = prepare
        for index in range(number):
            threading.Thread(target=self._work, name=f"worker-{index}", daemon=True).start()

    def put(self, connection: Any, user: Hashable | None = None, size: int = 0) -> bool:
        """Add a connection to the end of the queue, unless its user has the share already: then it waits for that.

        Return whether there was room for it: requests that wait for others of their user are bounded in memory.
        """
        turn = Turn(connection, user)
        if user is not None:
            with self._lock:
                if self._working[user] >= self.share:
                    if self._parked_bytes + size > PARKED_MAX_BYTES:
                        return False
                    turn.parked = size
                    self._parked_bytes += size
                    self._waiting[turn] = None
                    self._parked.setdefault(user, deque()).append(turn)
                    return True
                self._working[user] += 1
        self._waiting[turn] = None
        self._enqueue(turn)
        return True

    def delay_s(self) -> float:
        """Return the seconds for which the first connection in the queue has waited; 0 when the queue is empty."""
        try:
            return time.monotonic() - self._enqueued_at[0]
        except IndexError:
            return 0.0

    def overdue(self, timeout_s: float) -> Iterator[Any]:
        """Take connections that have waited for longer than a time-out, and yield them."""
        limit = time.monotonic() - timeout_s
        for turn in list(self._waiting):
            if turn.arrived_at > limit:
                return
            self._waiting.pop(turn, None)
            if (connection := turn.claim()) is not None:
                with self._lock:
                    self._unpark(turn)
                yield connection

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: the threads end with the process. gunicorn calls it."""

    def _unpark(self, turn: Turn) -> None:
        """Count the bytes of a request no longer; the caller holds the lock."""
        self._parked_bytes -= turn.parked
        turn.parked = 0

    def _enqueue(self, turn: Turn) -> None:
        self._enqueued_at.append(time.monotonic())
        self._queue.put(turn)

    def _work(self) -> None:
        self._prepare()
        while True:
            turn = self._queue.get()
            self._enqueued_at.popleft()
            self._waiting.pop(turn, None)
            try:
                if (connection := turn.claim()) is not None:
                    self._serve(connection)
            except BaseException as error:  # noqa: BLE001 (whatever happens to one connection, the thread lives on)
                log.error("connection failed", exc_info=error)
            finally:
                if turn.user is not None:
                    self._finish(turn.user)

    def _finish(self, user: Hashable) -> None:
        """Pass the place of a request on to the next one of its user that still waits."""
        with self._lock:
            parked = self._parked.get(user)
            if parked:
                turn = parked.popleft()
                self._unpark(turn)
                if not parked:
                    del self._parked[user]
            else:
                self._working[user] -= 1
                if not self._working[user]:
                    del self._working[user]
                return
        self._enqueue(turn)
