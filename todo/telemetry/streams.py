"""What is recorded of the streams of events: a line when one ends, and how many pokes were sent."""

from blinker import Signal

from todo.telemetry.logs import hashed, log

# Sent with the number of streams that were told of a change.
pokes_sent = Signal()


def log_end(user: str, request_id: str, *, events: int, duration_s: float, reason: str) -> None:
    """Log that a stream has ended.

    Args:
        user: Whose list it was about. Only a hash of it is logged.
        request_id: The id of the request that opened it.
        events: How many events it had.
        duration_s: How long it was open, in seconds.
        reason: Why it ended: `left`, `expired`, `age`, `slow` or `shutdown`.

    """
    log.info(
        "stream ended",
        reason=reason,
        events=events,
        duration_ms=round(duration_s * 1000, 3),
        request_id=request_id,
        user=hashed(user),
    )
