"""The two pages and the files they load; nothing comes from another origin, and no script is inline."""

from flask import Blueprint, Response, render_template, request, url_for
from flask.typing import ResponseReturnValue

from todo.http.pages import assets
from todo.http.problems import NotFound

bp = Blueprint("docs", __name__, template_folder="templates")

# What both pages may do; each adds what only it needs. Swagger UI keeps a token: a script of anybody else's
# would read it, so none may run, and no page may frame this one to have it clicked.
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}

# The two inline styles that ReDoc makes, by their content: any other is refused. It fills the empty one by script,
# which needs no leave. The other is that of a scroll bar and there before a nonce could be handed over; it changes
# with the version of ReDoc. The search runs in a worker made of a blob.
EMPTY_STYLE = "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
SCROLLBAR_STYLE = "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='"


@bp.route("/docs")
def swagger_ui() -> ResponseReturnValue:
    """Show Swagger UI, where calls can be tried."""
    return _page("docs/swagger-ui.html", {"style-src": "'self'"})


@bp.route("/redoc")
def redoc() -> ResponseReturnValue:
    """Show ReDoc, which reads better."""
    return _page("docs/redoc.html", {"style-src": f"'self' {EMPTY_STYLE} {SCROLLBAR_STYLE}", "worker-src": "blob:"})


@bp.route("/docs/assets/<name>")
def asset(name: str) -> ResponseReturnValue:
    """Serve a file that a page loads."""
    if name not in assets.ASSETS:
        raise NotFound
    found = assets.read_redoc(url_for(".asset", name=assets.REDOC_LOGO)) if name == assets.REDOC else assets.read(name)
    response = Response(found.body, mimetype=found.mimetype)
    response.set_etag(found.etag)
    # The name stays and the content changes with the version of the package, so a browser asks each time;
    # the answer is nearly always 304.
    response.cache_control.no_cache = True
    return response.make_conditional(request)


def _page(template: str, policy: dict[str, str]) -> Response:
    response = Response(render_template(template), mimetype="text/html")
    response.headers["Content-Security-Policy"] = "; ".join(
        f"{directive} {sources}" for directive, sources in (POLICY | policy).items()
    )
    # A page must fit the version of the files that it loads.
    response.cache_control.no_cache = True
    return response
