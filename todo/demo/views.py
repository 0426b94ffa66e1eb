"""The page and the files it loads. They are read from this folder, and no other file is served."""

from pathlib import Path

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from todo.http.pages.assets import Asset
from todo.http.pages.views import asset_response, page_response
from todo.http.problems import NotFound

bp = Blueprint("demo", __name__, url_prefix="/demo", template_folder="templates")

STATIC = Path(__file__).parent / "static"

# `todo-sync.js` is built from clients/typescript.
ASSETS = {"demo.css", "demo.js", "demo.svg", "todo-sync.js"}


@bp.route("")
def demo() -> ResponseReturnValue:
    """Return the page. A token comes in the fragment of its address, which no browser sends and no log has."""
    return page_response("demo/demo.html", {"style-src": "'self'"})


@bp.route("/assets/<name>")
def asset(name: str) -> Response:
    """Return a file that the page loads, as it is now: this is for development.

    Raises:
        NotFound: No file of the page has this name.

    """
    if name not in ASSETS:
        raise NotFound
    return asset_response(Asset.read(STATIC / name))
