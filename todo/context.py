"""The objects behind the proxies of Flask, for what runs with every request. This module imports nothing from todo.

A proxy looks for each attribute on itself first, where Python makes and drops an error before the object is asked. That
takes longer than most of what is done with the attribute. Werkzeug documents `_get_current_object` for its users.
"""

from typing import Any

from flask import Flask, Request, current_app, g, request


def current_request() -> Request:
    """Return the request that is handled."""
    found: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def current_application() -> Flask:
    """Return the application that handles it, or in whose context this runs.

    Raises:
        RuntimeError: There is none.

    """
    found: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def current_globals() -> Any:
    """Return what is kept while the request is handled."""
    return g._get_current_object()  # noqa: SLF001
