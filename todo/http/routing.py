"""Path matching, where it differs from Flask's own."""

import re

from flask import Flask
from werkzeug.routing import BaseConverter

MIN, MAX = -(2**63), 2**63 - 1
INTEGER = re.compile("-?[0-9]+")

# The paths that have a name in the place of an id. They have methods of their own.
NAMES = ("batch", "changes", "events", "summary")

# Stands for all ids that are none. Ids are positive, so no row has it.
NO_ID = MIN

# The words that clients have in the place of the user where they expect other paths or know no user, and in the place
# of the tasks.
NO_USERS = re.compile(r"v[0-9]+(\.[0-9]+)*|api|rest|users?|tasks?|todos?|undefined|null|", re.IGNORECASE)
TASKS = re.compile(r"tasks?|todos?", re.IGNORECASE)

TASKS_PATH = "The tasks are at /api/me/tasks."


class Int64Converter(BaseConverter):
    """A path segment that is the id of a row: an integer of 64 bits, as PostgreSQL's bigint is.

    Any other segment is the id of no row, so that it is refused where an absent row is: after the token.
    """

    regex = rf"(?!(?:{'|'.join(NAMES)})\Z)[^/]+"
    # It never contains a slash, which werkzeug would take from the regex.
    part_isolating = True

    def to_python(self, value: str) -> int:
        """Convert the segment to an integer."""
        # Python refuses to convert thousands of digits, and no bound has more than 20 characters.
        if len(value) > len(str(MIN)) or not INTEGER.fullmatch(value) or not MIN <= int(value) <= MAX:
            return NO_ID
        return int(value)


def tasks_hint(path: str) -> str:
    """Return where the tasks are, if a path that leads nowhere shows that its client looks for them; else nothing."""
    first, *rest = path.strip("/").split("/")
    if first == "api" and rest[1:2] == ["tasks"]:
        return user_hint(rest[0])
    return f" {TASKS_PATH}" if any(map(TASKS.fullmatch, (first, *rest))) else ""


def user_hint(path_user: str) -> str:
    """Return where the tasks are, if what is in the place of the user is the name of none; else nothing."""
    return f" {TASKS_PATH}" if NO_USERS.fullmatch(path_user) else ""


def init_app(app: Flask) -> None:
    """Match paths with and without a trailing slash alike, redirect nowhere, and register the `int64` converter."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["int64"] = Int64Converter
