"""Where calls can be adapted to clients that expect another contract: `todo/dialects/` does, and nothing else."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask import request
from flask.typing import ResponseReturnValue
from marshmallow import Schema

from todo.context import current_application

View = Callable[..., ResponseReturnValue]
# The name of a member, and the rest of a sentence that begins with it.
MemberFault = tuple[str, str]
Body = Mapping[str, Any]
BodyAdapter = Callable[[Schema, Body], tuple[Body, Iterable[MemberFault]]]

EXTENSION = "adapters"


def _as_sent(_: Schema, body: Body) -> tuple[Body, Iterable[MemberFault]]:
    return body, ()


@dataclass(slots=True)
class Adapters:
    """What an application adapts; nothing by default.

    Attributes:
        body: Returns the body, or the part of one, that a schema then validates, and the faults of what it took out.
        views: Functions that run the view of an endpoint, which they receive with its validated arguments.
        representation: Names of what changes the bodies of responses, and so their ETags.

    """

    body: BodyAdapter = _as_sent
    views: dict[str, Callable[..., ResponseReturnValue]] = field(default_factory=dict)
    representation: tuple[str, ...] = ()

    def call(self, view: View, *arguments: Any, **named: Any) -> ResponseReturnValue:
        """Run the view of the request with its validated arguments."""
        adapter = self.views.get(request.endpoint or "") if self.views else None
        return view(*arguments, **named) if adapter is None else adapter(view, *arguments, **named)


NONE = Adapters()


def current() -> Adapters:
    """Return the adapters of the application."""
    try:
        adapters: Adapters = current_application().extensions.get(EXTENSION, NONE)
    except RuntimeError:
        # The records of an import are validated like bodies, and need no application.
        return NONE
    return adapters
