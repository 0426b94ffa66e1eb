"""The ids of a request: one for its response and its log line, one for the whole trace that it is part of."""

import random
import re
from typing import NamedTuple

# Long enough for every tracing scheme, short enough for a log line, without characters that could forge one.
WELL_FORMED_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

# Version, trace id, parent id and flags, none of the ids zero (Trace Context Level 1, section 3.2.2). Version 00 ends
# there; later versions may continue after another hyphen (section 4.3).
TRACEPARENT = re.compile(
    r"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?"
)
SAMPLED = 0x01


class Trace(NamedTuple):
    """The place of a request in a trace.

    Attributes:
        trace_id: The id that all spans of the trace share, in 32 hexadecimal digits.
        traceparent: The header that passes it on, with the span of this request as the parent.

    """

    trace_id: str
    traceparent: str


def request_id(header: str | None) -> str:
    """Return a request's id: the client's `X-Request-ID` when it is well formed, else a new one."""
    if header and WELL_FORMED_REQUEST_ID.fullmatch(header):
        return header
    return _hex_digits(32)


def trace(header: str | None) -> Trace:
    """Continue the trace of a well-formed `traceparent`, or start one (Trace Context Level 1, section 4).

    The flag whether the client records the trace is passed on. A trace that starts here is not recorded.
    """
    if header and (parent := TRACEPARENT.fullmatch(header)):
        trace_id, span_id = parent[1], _hex_digits(16)
        flags = int(parent[2], 16) & SAMPLED
    else:
        ids = _hex_digits(48)
        trace_id, span_id = ids[:32], ids[32:]
        flags = 0
    return Trace(trace_id, f"00-{trace_id}-{span_id}-{flags:02x}")


def _hex_digits(number: int) -> str:
    """Return so many random hexadecimal digits.

    Nobody has to be unable to guess an id. The system's own randomness is a system call, during which another thread
    takes the interpreter; each process has a seed of its own, a forked one too.
    """
    return f"{random.getrandbits(4 * number):0{number}x}"  # nosec B311
