"""Every call of the contract, against gunicorn as production runs it."""

from wire.calls import CallChecks


class TestCalls(CallChecks):
    """The calls on a direct connection to PostgreSQL."""
