"""How paths are matched: what differs from Flask's own way."""

from flask import Flask
from werkzeug.routing import IntegerConverter, Map


class Int64Converter(IntegerConverter):
    """A path segment that is an integer PostgreSQL's bigint can hold; any other is a path that does not exist."""

    regex = "-?[0-9]+"

    def __init__(self, url_map: Map) -> None:
        """Bound it to 64 bits."""
        super().__init__(url_map, min=-(2**63), max=2**63 - 1)


def init_app(app: Flask) -> None:
    """Take a trailing slash for the same path, redirect nowhere, and know 64-bit ids."""
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters["int64"] = Int64Converter
