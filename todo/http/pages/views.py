"""The two pages and the files they load. Nothing comes from another origin, and no script is inline."""

from flask import Blueprint, Response, render_template
from flask.typing import ResponseReturnValue

from todo.http.pages import assets
from todo.http.problems import NotFound

bp = Blueprint("docs", __name__, template_folder="templates")

# The policy that both pages share; each adds only what it needs. Swagger UI stores a token, which any foreign script
# could read, so none may run, and no other page may frame this one for clickjacking.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

# The hashes of the two inline style elements that ReDoc creates; all others are refused. ReDoc fills the empty one by
# script, which the policy does not restrict. The other one styles a scroll bar and is created before a nonce could be
# passed; it changes with the version of ReDoc. The search runs in a worker made of a blob.
EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
SCROLLBAR_STYLE = "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"


@bp.route("/docs")
def swagger_ui() -> ResponseReturnValue:
    """Return the page of Swagger UI, in which calls can be tried."""
    return page_response("docs/swagger-ui.html", {"style-src": "'self'"})


@bp.route("/redoc")
def redoc() -> ResponseReturnValue:
    """Return the page of ReDoc, which is made for reading."""
    return page_response(
        "docs/redoc.html", {"style-src": f"'self' {EMPTY_STYLE} {SCROLLBAR_STYLE}", "worker-src": "blob:"}
    )


@bp.route("/docs/assets/<name>")
def asset(name: str) -> ResponseReturnValue:
    """Return a file that a page loads.

    Raises:
        NotFound: no asset has this name.

    """
    if name not in assets.ASSETS:
        raise NotFound
    return asset_response(assets.read(name))


def asset_response(file: assets.Asset) -> Response:
    """Return the response with a file that a page loads."""
    response = Response(file.body, mimetype=file.mimetype)
    response.set_etag(file.etag)
    # The content behind a name changes with the installed version, so a browser revalidates it each time, nearly
    # always with a 304.
    response.cache_control.no_cache = True
    return response


def page_response(template: str, policy: dict[str, str]) -> Response:
    """Return the response with a page.

    Args:
        template: The name of its template.
        policy: What it needs beyond the policy of all pages (CSP Level 3).

    """
    response = Response(render_template(template), mimetype="text/html")
    response.headers["Content-Security-Policy"] = "; ".join(
        f"{directive} {sources}" for directive, sources in (POLICY | policy).items()
    )
    # A page must fit the version of the files that it loads.
    response.cache_control.no_cache = True
    return response
