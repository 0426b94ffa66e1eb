"""The scripts, styles and images of the pages: their names, and the package that each file is in."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Self

from werkzeug.http import generate_etag

# The package of each asset, and the path in it. No other file is served.
ASSETS: dict[str, tuple[str, str]] = {
    "page.css": ("todo", "http/pages/static/page.css"),
    "redoc.js": ("todo", "http/pages/static/redoc.js"),
    "redoc.standalone.js": ("todo", "http/pages/static/vendor/redoc/redoc.standalone.js"),
    "redoc.svg": ("todo", "http/pages/static/redoc.svg"),
    "swagger-ui-bundle.js": ("flask_swagger_ui", "dist/swagger-ui-bundle.js"),
    "swagger-ui.css": ("flask_swagger_ui", "dist/swagger-ui.css"),
    "swagger-ui.js": ("todo", "http/pages/static/swagger-ui.js"),
    "swagger-ui.png": ("flask_swagger_ui", "dist/favicon-32x32.png"),
}

# The table of Python's mimetypes module differs between versions and machines.
TYPES = {".css": "text/css", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml"}


class AssetMissing(RuntimeError):
    """Raised when the package of an asset is not installed, or its version lacks the file."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    body: bytes
    mimetype: str
    etag: str

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file of one of the types above, unchanged."""
        body = path.read_bytes()
        return cls(body, TYPES[path.suffix], generate_etag(body))


def locate(name: str) -> Path:
    """Return the path of an asset's file.

    The package is located without importing it, as only its files are needed.

    Args:
        name: A key of `ASSETS`.

    Raises:
        AssetMissing: the file does not exist.

    """
    package, relative_path = ASSETS[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise AssetMissing(f"{name} is in the package {package}, which is not installed.")
    path = Path(spec.origin).parent / relative_path
    if not path.is_file():
        raise AssetMissing(f"{name} should be {path}, where the installed version of {package} has no file.")
    return path


@cache
def read(name: str) -> Asset:
    """Read an asset, unchanged and once per process.

    Args:
        name: A key of `ASSETS`.

    Raises:
        AssetMissing: the file does not exist.

    """
    return Asset.read(locate(name))
