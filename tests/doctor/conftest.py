"""Applications and issuers for the doctor to check."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes.issuers import OwnIssuer
from flask import Flask
from support import config_for, new_database
from wire.server import query

import config
from todo import create_app
from todo.extensions import db


@pytest.fixture(autouse=True)
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Hide the settings of this machine, and return the folder whose .env is read."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    for name in config.variables().values():
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(scope="session")
def discreet_url(postgres: Any, migrated_template: str) -> str:
    """Return the URL of a migrated database whose statements PostgreSQL keeps out of its log."""
    url = new_database(postgres, "todo_discreet", migrated_template)
    for name, value in (("log_min_error_statement", "panic"), ("log_error_verbosity", "terse")):
        query(url, f"ALTER DATABASE todo_discreet SET {name} = {value}")
    return url


@pytest.fixture
def make_app(discreet_url: str) -> Iterator[Callable[..., Flask]]:
    """Return a function that builds applications, on the migrated database by default."""
    made: list[Flask] = []

    def make(*, url: str = discreet_url, **changes: str) -> Flask:
        made.append(create_app(config_for(url, **changes)))
        return made[-1]

    yield make
    for app in made:
        with app.app_context():
            db.engine.dispose()


@pytest.fixture
def issuer() -> Iterator[OwnIssuer]:
    """Return an issuer that the test may change."""
    with OwnIssuer() as issuer:
        yield issuer


@pytest.fixture
def issuer_app(make_app: Callable[..., Flask], issuer: OwnIssuer) -> Flask:
    """Return an application that accepts the tokens of that issuer."""
    return make_app(BETTER_AUTH_URL=issuer.url, BETTER_AUTH_SECRET="")
