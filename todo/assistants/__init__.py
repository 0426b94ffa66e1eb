"""Assistants: the tasks as tools of the Model Context Protocol, for programs that act for a user."""

from flask import Flask

from config import Config
from todo.assistants.views import bp

__all__ = ["init_app"]


def init_app(app: Flask, config: Config) -> None:
    """Serve assistants; in production only where the settings say how clients reach this service."""
    if config.public_url is not None or not config.production:
        app.register_blueprint(bp)
