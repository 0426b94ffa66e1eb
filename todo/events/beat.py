"""The beat: a look at the database from time to time, for what other machines and commands have written.

PostgreSQL's own NOTIFY is no way for this: it takes a lock on the whole database when a transaction commits, so that
users would wait for each other, and a pooler in transaction mode cannot listen.
"""

import threading
import time

from flask import Flask

from todo.database import statements
from todo.events.hub import Hub
from todo.http.problems import Unavailable
from todo.telemetry.logs import log

SQL = statements.load(__file__)

# A look may take this part of the time, so the pause after it is so many times as long.
PART = 20


def read_revision(user: str) -> int:
    """Return the revision of a user's list; 0 if they have none.

    Raises:
        DatabaseUnavailable: PostgreSQL cannot answer now.

    """
    rows = statements.read(SQL["get_revision"], {"caller": user})
    return int(rows[0].revision) if rows else 0


class Beat:
    """Looks for changes in a thread of its own, as long as somebody waits for them.

    Args:
        app: The application.
        hub: Who waits.
        interval_s: Seconds between two looks, at least.

    """

    def __init__(self, app: Flask, hub: Hub, interval_s: float) -> None:
        self._app = app
        self._hub = hub
        self._interval_s = interval_s
        self._is_failing = False
        # Until the next look.
        self.pause_s = interval_s

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="beat", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._hub.is_needed.wait()
            time.sleep(self.pause_s)
            self.look()

    def look(self) -> None:
        """Look for changes once. A failure is logged once, until a look succeeds; the metrics count each."""
        started = time.monotonic()
        self.pause_s = self._interval_s
        try:
            self._look()
        except Unavailable as problem:
            self._report(problem.reason, None)
        except Exception as error:  # noqa: BLE001 (whatever happens, the thread lives on)
            self._report("a bug", error)
        else:
            self._is_failing = False
            self.pause_s = max(self._interval_s, PART * (time.monotonic() - started))

    def _report(self, reason: str | None, bug: Exception | None) -> None:
        if not self._is_failing:
            log.warning("changes of other machines cannot be found", reason=reason, exc_info=bug)
        self._is_failing = True

    def _look(self) -> None:
        # Everybody may have left meanwhile.
        if known := self._hub.known():
            parameters = {"users": list(known), "revisions": list(known.values())}
            with self._app.app_context():
                rows = statements.read(SQL["list_changed"], parameters)
            for row in rows:
                self._hub.correct(row.user_id, known[row.user_id], row.revision)
