"""Flask without what this service does not use: sessions, asynchronous views, and hosts that decide about paths."""

from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import flask
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.routing import MapAdapter
from werkzeug.wsgi import get_host

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# What Werkzeug adds to the header of a response with a body, or removes from that of one without (RFC 9110, sections
# 8.6, 15.3.5 and 15.4.5).
WITH_BODY = (HTTPStatus.OK, HTTPStatus.CREATED)
WITHOUT_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED)
LENGTH = "content-length"
DESCRIBES_BODY = frozenset(
    {
        "allow",
        "content-encoding",
        "content-language",
        LENGTH,
        "content-location",
        "content-md5",
        "content-range",
        "content-type",
        "expires",
        "last-modified",
    }
)


class Response(flask.Response):
    """A response whose header is sent as it is where it is complete."""

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the header, or a copy that Werkzeug has completed, which takes as long as all hooks of a response."""
        names = {name.lower() for name, _ in self.headers}
        if self.status_code in WITH_BODY:
            is_complete = LENGTH in names
        else:
            is_complete = self.status_code in WITHOUT_BODY and names.isdisjoint(DESCRIBES_BODY)
        return self.headers if is_complete else super().get_wsgi_headers(environ)


class NoSessions(SessionInterface):
    """Gives every request the same session, which is empty, cannot be written to, and is not saved."""

    def __init__(self) -> None:
        self._session = self.null_session_class()

    def open_session(self, _app: flask.Flask, _request: flask.Request) -> NullSession:
        """Return the session of every request."""
        return self._session


class Request(flask.Request):
    """A request whose body is read within the bounds of `todo.http.body`, and no others."""

    max_content_length = None


class Application(flask.Flask):
    """The application."""

    request_class = Request
    response_class = Response
    session_interface = NoSessions()

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself; Flask asks for each hook and each view of a request."""
        return func

    def create_url_adapter(self, request: flask.Request | None) -> MapAdapter | None:
        """Return what matches the path of a request, whatever host it is for."""
        if request is None:
            return super().create_url_adapter(None)
        request.host = get_host(request.environ)
        return self.url_map.bind(
            request.host,
            request.root_path,
            url_scheme=request.scheme,
            default_method=request.method,
            path_info=request.path,
            query_args=request.query_string.decode("latin-1"),
        )
