"""gunicorn with a constant response."""

from collections.abc import Callable, Iterable
from typing import Any

BODY = b'{"status":"ok"}'


def app(_environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Return the constant response."""
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(BODY)))])
    return [BODY]
