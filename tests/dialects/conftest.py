"""Applications that speak dialects, and the calls of front-ends to them."""

import json
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from support import bearer, config_for

from config import DIALECTS
from todo import create_app
from todo.extensions import db

ALL = ",".join(DIALECTS)


class FrontEnd:
    """A front-end of one user, in one dialect or several.

    Args:
        app: The application.
        user: The id of the user.
        words: The value of `COMPATIBILITY`.

    """

    def __init__(self, app: Any, user: str, words: str) -> None:
        self._client = app.test_client()
        self.app = app
        self.user = user
        self.words = words.split(",")

    def __call__(self, method: str, path: str, *, headers: Any = (), body: Any = None, **members: Any) -> Any:
        """Call a path, with a body of JSON if there are members; `body` is any other document."""
        document = members or body
        # The client of Flask would write the body in the dialect of the application.
        data = None if document is None else json.dumps(document)
        return self._client.open(path, method=method, headers=bearer(self.user) | dict(headers), data=data)

    def tasks(self, path: str = "/api/me/tasks") -> list[dict[str, Any]]:
        """Return the tasks of a list, in whatever form the list is."""
        listed = self("GET", path)
        assert listed.status_code == 200, listed.text
        return listed.json["tasks"] if "envelope" in self.words else listed.json

    def create(self, title: str = "Buy oat milk", **members: Any) -> dict[str, Any]:
        """Create a task, and return it."""
        created = self("POST", "/api/me/tasks", title=title, **members)
        assert created.status_code == 201, created.text
        return created.json

    @property
    def deleted(self) -> int:
        """The status of a deletion."""
        return 200 if "delete-body" in self.words else 204

    @property
    def error_type(self) -> str:
        """The media type of an error."""
        return "application/json" if "plain-errors" in self.words else "application/problem+json"


@pytest.fixture(scope="session")
def application(database_url: str) -> Iterator[Callable[[str], Any]]:
    """Return a function that returns the application with these words in `COMPATIBILITY`."""
    made = []

    @cache
    def application(words: str, **changes: str) -> Any:
        made.append(create_app(config_for(database_url, COMPATIBILITY=words, **changes)))
        return made[-1]

    yield application
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def speak(application: Any, user: str) -> Callable[..., FrontEnd]:
    """Return a function that returns a front-end for these words."""
    return lambda words, **changes: FrontEnd(application(words, **changes), user, words)


@pytest.fixture(params=["alone", "with all others"])
def front_end(request: pytest.FixtureRequest, speak: Callable[..., FrontEnd]) -> FrontEnd:
    """Return a front-end for the word that the module names as `WORD`, alone and together with all others."""
    return speak(request.module.WORD if request.param == "alone" else ALL)
