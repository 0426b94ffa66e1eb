"""What happens to servers and networks during the run."""

import os
import signal
import time
from collections.abc import Callable
from random import Random
from typing import Any

import psutil
from fakes.http_proxy import HTTPProxy
from wire.people import Field
from wire.server import start_database, wait_until

from todo.database import embedded

DEADLINE_S = 120

Happened = tuple[str, float, float]


class Faults:
    """Faults of all parts between a client and the disk.

    Attributes:
        happened: What happened, from when to when, in seconds of the monotonic clock.

    """

    def __init__(self, field: Field, proxy: HTTPProxy, random: Random) -> None:
        self.happened: list[Happened] = []
        self._field = field
        self._proxy = proxy
        self._random = random
        self._kinds: dict[str, Callable[[], None]] = {
            "workers killed": self._kill_workers,
            "server restarted": field.stop_and_start,
            "database crashed": self._crash_the_database,
            "database killed": self._kill_the_database,
            "connections to the database cut": field.cut,
            "responses of the database lost": field.lose_answers,
            "streams cut": proxy.cut,
        }

    def work(self, times: int, progress: Callable[[], float]) -> None:
        """Cause so many faults, one after the other, evenly over the progress of the run from 0 to 1."""
        plan: list[str] = []
        while len(plan) < times:
            plan += self._random.sample(list(self._kinds), len(self._kinds))
        for number, kind in enumerate(plan[:times]):
            while progress() < (number + 0.5) / times:
                time.sleep(0.02)
            began = time.monotonic()
            self._kinds[kind]()
            self.happened.append((kind, began, time.monotonic()))

    def _kill_workers(self) -> None:
        """Kill all workers at once, and wait until others are at work."""
        server = self._field.server
        wait_until(lambda: len(server.workers()) == 2, "both at work", DEADLINE_S)
        killed = server.workers()
        for worker in killed:
            os.kill(worker, signal.SIGKILL)
        wait_until(lambda: len(server.workers() - killed) == 2, "replaced", DEADLINE_S)

    def _crash_the_database(self) -> None:
        """Let PostgreSQL end at once, as after a failure of its own, and recover."""
        postmaster = self._postmaster()
        postmaster.send_signal(signal.SIGQUIT)
        self._start_again(postmaster)

    def _kill_the_database(self) -> None:
        """Kill all processes of PostgreSQL, which notice nothing, and let it recover."""
        postmaster = self._postmaster()
        for process in (postmaster, *postmaster.children(recursive=True)):
            process.kill()
        self._start_again(postmaster)

    def _postmaster(self) -> psutil.Process:
        return psutil.Process(self._field.postgres.get_pid())

    def _start_again(self, postmaster: psutil.Process) -> None:
        def has_ended() -> bool:
            return not postmaster.is_running() or postmaster.status() == psutil.STATUS_ZOMBIE

        wait_until(has_ended, "ended", DEADLINE_S)
        # It stays away for a moment, in which everybody asks.
        time.sleep(self._random.random() * 2)
        wait_until(self._starts, "recovered", DEADLINE_S)

    def _starts(self) -> bool:
        """Start PostgreSQL; on a busy machine the library may not have the patience to see it recover."""
        postgres: Any = self._field.postgres
        embedded._remove_stale_locks(embedded._library(), postgres.pgdata)
        try:
            start_database(postgres)
        except embedded.subprocess.SubprocessError:
            return False
        return True
