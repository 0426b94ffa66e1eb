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

# What the requests that wait for a thread may take, all together, and those that wait for others of their user.
QUEUED_MAX_BYTES = 64 * 1024 * 1024
PARKED_MAX_BYTES = 32 * 1024 * 1024


class Turn:
    """A connection that waits for a thread.

    Args:
        connection: The connection.
        user: For whom the thread will work, as far as that is known.
        size: The bytes of its request; 0 when they are counted no longer.

    Attributes:
        is_parked: Whether it waits for others of its user.

    """

    def __init__(self, connection: Any, user: Hashable | None, size: int = 0) -> None:
        self.user = user
        self.size = size
        self.is_parked = False
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
        self._queued_bytes = 0
        self._parked_bytes = 0
        self._serve = serve
        self._prepare = prepare
        for index in range(number):
            threading.Thread(target=self._work, name=f"worker-{index}", daemon=True).start()

    def put(self, connection: Any, user: Hashable | None = None, size: int = 0) -> bool:
        """Add a connection to the end of the queue, unless its user has the share already: then it waits for that.

        Return whether there was room for it: the requests that wait are bounded in memory.
        """
        turn = Turn(connection, user, size)
        with self._lock:
            if user is not None and self._working[user] >= self.share:
                if self._parked_bytes + size > PARKED_MAX_BYTES:
                    return False
                turn.is_parked = True
                self._parked_bytes += size
                self._waiting[turn] = None
                self._parked.setdefault(user, deque()).append(turn)
                return True
            if self._queued_bytes + size > QUEUED_MAX_BYTES:
                return False
            if user is not None:
                self._working[user] += 1
            self._queued_bytes += size
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
                    self._release(turn)
                yield connection

    def shutdown(self, *, wait: bool) -> None:
        """Do nothing: the threads end with the process. gunicorn calls it."""

    def _release(self, turn: Turn) -> None:
        """Count a request no longer; the caller holds the lock."""
        if turn.is_parked:
            self._parked_bytes -= turn.size
            parked = self._parked[turn.user]
            # The oldest one is overdue first, so it is found at once.
            parked.remove(turn)
            if not parked:
                del self._parked[turn.user]
        else:
            self._queued_bytes -= turn.size
        turn.size = 0

    def _enqueue(self, turn: Turn) -> None:
        self._enqueued_at.append(time.monotonic())
        self._queue.put(turn)

    def _work(self) -> None:
        self._prepare()
        while True:
            turn = self._queue.get()
            self._enqueued_at.popleft()
            self._waiting.pop(turn, None)
            with self._lock:
                self._release(turn)
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
                turn.is_parked = False
                self._parked_bytes -= turn.size
                self._queued_bytes += turn.size
                if not parked:
                    del self._parked[user]
            else:
                self._working[user] -= 1
                if not self._working[user]:
                    del self._working[user]
                return
        self._enqueue(turn)
