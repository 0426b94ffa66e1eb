"""The scripts, styles and pictures of the pages: what they are called, and which installed package they are in."""

from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path

from werkzeug.http import generate_etag

# By name: the package, and the path in it. Nothing else is served.
ASSETS: dict[str, tuple[str, str]] = {
    "page.css": ("todo", "http/pages/static/page.css"),
    "redoc.js": ("todo", "http/pages/static/redoc.js"),
    "redoc.standalone.js": ("flask_openapi3_redoc", "templates/redoc/js/redoc.standalone.js"),
    "redoc.svg": ("flask_openapi3_redoc", "templates/redoc/images/redoc.svg"),
    "swagger-ui-bundle.js": ("flask_swagger_ui", "dist/swagger-ui-bundle.js"),
    "swagger-ui.css": ("flask_swagger_ui", "dist/swagger-ui.css"),
    "swagger-ui.js": ("todo", "http/pages/static/swagger-ui.js"),
    "swagger-ui.png": ("flask_swagger_ui", "dist/favicon-32x32.png"),
}

# Python's own table differs from version to version and from machine to machine.
TYPES = {".css": "text/css", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml"}

# ReDoc shows the logo of its makers, and would fetch it from theirs.
REDOC = "redoc.standalone.js"
REDOC_LOGO = "redoc.svg"
REDOC_LOGO_ELSEWHERE = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


class AssetMissing(RuntimeError):
    """Raised when a package is not installed, or is a version without the file; says which."""


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served."""

    body: bytes
    mimetype: str
    etag: str


def locate(name: str) -> Path:
    """Find the file of an asset.

    The package is found and not imported: that of ReDoc would bring pydantic into every worker.

    Args:
        name: A key of `ASSETS`.

    Raises:
        AssetMissing: there is no such file.

    """
    package, inside = ASSETS[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise AssetMissing(f"{name} is in the package {package}, which is not installed.")
    path = Path(spec.origin).parent / inside
    if not path.is_file():
        raise AssetMissing(f"{name} should be {path}, where the installed version of {package} has no file.")
    return path


@cache
def read(name: str) -> Asset:
    """Give an asset as its package has it; the file is read once.

    Raises:
        AssetMissing: there is no such file.

    """
    return _asset(name, locate(name).read_bytes())


@lru_cache(maxsize=1)
def read_redoc(logo_url: str) -> Asset:
    """Give the script of ReDoc, changed to fetch its logo from us.

    Args:
        logo_url: The URL of the logo here, which depends on the path that the application is mounted at.

    Raises:
        AssetMissing: there is no such file.

    """
    return _asset(REDOC, locate(REDOC).read_bytes().replace(REDOC_LOGO_ELSEWHERE, logo_url.encode()))


def _asset(name: str, body: bytes) -> Asset:
    return Asset(body, TYPES[Path(name).suffix], generate_etag(body))
