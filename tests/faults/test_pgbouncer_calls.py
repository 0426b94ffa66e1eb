"""Every call of the contract behind PgBouncer."""

import pytest
from wire.calls import CallChecks
from wire.server import Server


class TestCallsBehindPgBouncer(CallChecks):
    """The calls with a connection pooler between the server and PostgreSQL."""

    @pytest.fixture
    def server(self, pooled_server: Server) -> Server:
        """Return the server behind the pooler."""
        return pooled_server
