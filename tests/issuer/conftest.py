"""Issuers for tests: our own, or the real Better Auth where ISSUER=better-auth."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes.issuers import BetterAuth, Issuer, OwnIssuer
from wire.conftest import servers
from wire.server import Server

# An option of pytest would be unknown unless this directory is named on the command line.
CHOSEN = BetterAuth if os.environ.get("ISSUER") == "better-auth" else OwnIssuer

# Tests of tokens that only the real Better Auth issues.
collect_ignore = [] if CHOSEN is BetterAuth else ["test_better_auth.py"]


@contextmanager
def issuers(kind: Callable[..., Issuer] = CHOSEN) -> Iterator[Callable[..., Issuer]]:
    """Yield a function that starts issuers; all are closed at the end."""
    with ExitStack() as stack:

        def make(alg: str = "EdDSA", **options: object) -> Issuer:
            return stack.enter_context(kind(alg, **options))

        yield make


@pytest.fixture
def make_issuer() -> Iterator[Callable[..., Issuer]]:
    """Return a function that starts issuers for one test."""
    with issuers() as make:
        yield make


@pytest.fixture
def issuer(make_issuer: Callable[..., Issuer]) -> Issuer:
    """Return an issuer of the test's own, which it may rotate, retire and break."""
    return make_issuer()


@pytest.fixture(scope="session")
def shared_issuer() -> Iterator[Issuer]:
    """Return an issuer for all tests that rotate, retire and break nothing."""
    with issuers() as make:
        yield make()


@pytest.fixture
def make_better_auth() -> Iterator[Callable[..., BetterAuth]]:
    """Return a function that starts the real Better Auth, for tokens that only it issues."""
    with issuers(BetterAuth) as make:
        yield make


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Return a function that starts servers for one test."""
    with servers(tmp_path) as start:
        yield start
