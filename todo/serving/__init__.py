"""Serving by gunicorn: a worker whose threads never wait for a client's network."""
