"""Path matching, where it differs from Flask's own."""

from flask import Flask
from werkzeug.exceptions import NotFound
from werkzeug.routing import IntegerConverter, Map

MIN, MAX = -(2**63), 2**63 - 1


class Int64Converter(IntegerConverter):
    """A path segment that is an integer of 64 bits, as PostgreSQL's bigint is; any other integer is 404."""

    regex = "-?[0-9]+"

    def __init__(self, url_map: Map) -> None:
        """Set the bounds of 64 bits."""
        super().__init__(url_map, min=MIN, max=MAX)

    def to_python(self, value: str) -> int:
        """Convert the segment to an integer.

        Raises:
            NotFound: it is beyond 64 bits. A ValidationError would make the router go on to rules for other methods of
                the path, and end in a 405.

        """
        # Python refuses to convert thousands of digits, and no bound has more than 20 characters.
        if len(value) > len(str(MIN)) or not MIN <= int(value) <= MAX:
            raise NotFound
        return int(value)


def init_app(app: Flask) -> None:
    """Match paths with and without a trailing slash alike, redirect nowhere, and register the `int64` converter."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["int64"] = Int64Converter
