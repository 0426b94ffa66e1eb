"""Revisions behind PgBouncer."""

import pytest
from wire.revisions import RevisionChecks
from wire.server import Server


class TestRevisionsBehindPgBouncer(RevisionChecks):
    """The checks of revisions with a connection pooler between the server and PostgreSQL."""

    @pytest.fixture
    def server(self, pooled_server: Server) -> Server:
        """Return the server behind the pooler."""
        return pooled_server

    @pytest.fixture
    def database_url(self, direct_url: str) -> str:
        """Return the URL of its database, past the pooler."""
        return direct_url
