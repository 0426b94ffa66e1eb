"""Blueprints whose decorators only document: every view returns a finished response."""

from collections.abc import Callable
from typing import Any, TypeVar

import flask_smorest

View = TypeVar("View", bound=Callable[..., Any])


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """A blueprint of flask-smorest that adds views to the OpenAPI document, and leaves them as they are."""

    def response(self, *args: Any, **kwargs: Any) -> Callable[[View], View]:
        """Document the response of a view; see `flask_smorest.Blueprint.response`."""
        return _only_documents(super().response(*args, **kwargs))

    def alt_response(self, *args: Any, **kwargs: Any) -> Callable[[View], View]:
        """Document another response of a view; see `flask_smorest.Blueprint.alt_response`."""
        return _only_documents(super().alt_response(*args, **kwargs))

    @staticmethod
    def doc(**kwargs: Any) -> Callable[[View], View]:
        """Document a view; see `flask_smorest.Blueprint.doc`."""
        return _only_documents(flask_smorest.Blueprint.doc(**kwargs))


def _only_documents(decorate: Callable[[Any], Any]) -> Callable[[View], View]:
    """Return a decorator that takes over the documentation of another one, but not its wrapper of the view."""

    def document(view: View) -> View:
        view._apidoc = decorate(view)._apidoc  # type: ignore[attr-defined]  # noqa: SLF001 (where flask-smorest keeps it)
        return view

    return document
