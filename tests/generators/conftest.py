"""A server for the generated clients."""

from wire.conftest import server

__all__ = ["server"]
