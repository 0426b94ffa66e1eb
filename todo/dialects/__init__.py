"""What front-ends expect that were written for other back-ends of tasks: each dialect is a word of `COMPATIBILITY`.

All of them lead to the same views, and `openapi.json` describes none. Without the setting nothing of this is there.
"""

from collections.abc import Callable

from flask import Flask

from config import Config
from todo.dialects.mirrors import mirrors
from todo.dialects.paths import alias, stats, toggle
from todo.dialects.responses import delete_body, envelope, plain_errors
from todo.dialects.writes import partial_put
from todo.http import adapters
from todo.http.adapters import Adapters

__all__ = ["init_app"]

# In the order in which they are switched on: the other paths come last, so that those of the dialects have them too.
DIALECTS: dict[str, Callable[[Flask, Adapters], None]] = {
    "delete-body": delete_body,
    "envelope": envelope,
    "mirrors": mirrors,
    "partial-put": partial_put,
    "plain-errors": plain_errors,
    "stats": stats,
    "toggle": toggle,
    "alias": alias,
}


def init_app(app: Flask, config: Config) -> None:
    """Adapt the calls as the settings say. The routes must be there."""
    if not config.compatibility:
        return
    app.extensions[adapters.EXTENSION] = chosen = Adapters()
    for name, adapt in DIALECTS.items():
        if name in config.compatibility:
            adapt(app, chosen)
