"""A server for the clients."""

from wire.conftest import server

__all__ = ["server"]
