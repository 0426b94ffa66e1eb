"""What is written to a stream: Server-Sent Events (WHATWG HTML, section 9.2)."""

# What keeps the proxies in between from taking the connection for a dead one.
COMMENT = b":\n\n"

# A reader drops an event without data.
EXPIRED = b"event: expired\ndata: {}\n\n"


def opening(retry_ms: int) -> bytes:
    """Return the beginning of a stream: after how many milliseconds a client that lost it comes back."""
    return b"retry: %d\n: todo\n\n" % retry_ms


def changed(cursor: str, revision: int) -> bytes:
    """Return the event that tells a client to read the changes.

    Args:
        cursor: The cursor of the changes feed at this revision. The client sends it when it comes back.
        revision: The revision of its list.

    """
    return b'id: %b\nevent: changed\ndata: {"revision":%d}\n\n' % (cursor.encode(), revision)


def come_back(retry_ms: int) -> bytes:
    """Return the last words of a server that stops: after how many milliseconds the client comes back."""
    return b"retry: %d\n\n" % retry_ms
