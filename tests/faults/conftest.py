"""Faults that take root and Debian's packages: poolers, stores and networks of our own to break."""

from wire.conftest import own_postgres, serve, start_server

__all__ = ["own_postgres", "serve", "start_server"]
