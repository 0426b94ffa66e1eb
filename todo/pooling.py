"""The pool of connections, which knows how many threads wait for one."""

import math
import threading
from typing import Any

from sqlalchemy import QueuePool


class Pool(QueuePool):
    """Hands out connections, and keeps count of the threads that have none yet.

    Attributes:
        lost_at: When one of its connections was last found dead, in seconds of the monotonic clock.

    """

    lost_at = -math.inf

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin with nobody."""
        super().__init__(*args, **kwargs)
        self._asking: set[int] = set()

    def waiting(self) -> int:
        """Tell how many threads wait, for one that is in use or that is being opened."""
        return len(self._asking)

    def _do_get(self) -> Any:
        thread = threading.get_ident()
        self._asking.add(thread)
        try:
            return super()._do_get()
        finally:
            self._asking.discard(thread)
