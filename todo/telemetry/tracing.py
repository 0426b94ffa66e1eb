"""The ids of a request: one for its answer and its log line, one for everything that a trace goes through."""

import os
import re
from typing import NamedTuple

# Long enough for every tracing scheme, short enough for a log line, and nothing that could forge one.
WELL_FORMED_REQUEST_ID = re.compile(r"[A-Za-z0-9._~:/+=@-]{1,128}")

# Version, trace id, parent id and flags, none of the ids zero (Trace Context Level 1, section 3.2.2). Version 00 ends
# there; later ones may go on behind another hyphen (section 4.3).
TRACEPARENT = re.compile(
    r"(?:00(?=.{53}\Z)|(?!00|ff)[0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?"
)
SAMPLED = 0x01


class Trace(NamedTuple):
    """Where in a trace this request is.

    Attributes:
        trace_id: The id that all spans of a trace have, in 32 hexadecimal digits.
        traceparent: How it is told to others, with the span that is ours.

    """

    trace_id: str
    traceparent: str


def request_id(sent: str | None) -> str:
    """Give a request's id: the client's `X-Request-ID` when it is well formed, else a new one."""
    if sent and WELL_FORMED_REQUEST_ID.fullmatch(sent):
        return sent
    return os.urandom(16).hex()


def trace(sent: str | None) -> Trace:
    """Go on with the trace of a `traceparent` that is well formed, or begin one (Trace Context Level 1, section 4).

    Whether the caller records the trace is passed on; nobody records one that begins here.
    """
    if sent and (parent := TRACEPARENT.fullmatch(sent)):
        trace_id, span_id = parent[1], os.urandom(8).hex()
        flags = int(parent[2], 16) & SAMPLED
    else:
        ids = os.urandom(24).hex()
        trace_id, span_id = ids[:32], ids[32:]
        flags = 0
    return Trace(trace_id, f"00-{trace_id}-{span_id}-{flags:02x}")
