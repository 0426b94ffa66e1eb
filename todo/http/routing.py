"""How paths are matched: what differs from Flask's own way."""

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter, Map

LEAST, GREATEST = -(2**63), 2**63 - 1


class Int64Converter(IntegerConverter):
    """A path segment that is an integer PostgreSQL's bigint can hold; a greater one is a path that does not exist."""

    regex = "-?[0-9]+"

    def __init__(self, url_map: Map) -> None:
        """Bound it to 64 bits."""
        super().__init__(url_map, min=LEAST, max=GREATEST)

    def to_python(self, value: str) -> int:
        """Convert it, or say that there is nothing there.

        A ValidationError would only send the search on to the other methods of the path, and end in a 405.
        """
        # Python itself refuses to convert thousands of digits, and no bound has more than 20 characters.
        if len(value) > len(str(LEAST)) or not LEAST <= int(value) <= GREATEST:
            raise NotFound
        return int(value)


def init_app(app: Flask) -> None:
    """Take a trailing slash for the same path, redirect nowhere, and know 64-bit ids."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["int64"] = Int64Converter
