"""Tasks: what a user has to do."""

from todo.tasks.links import LINKS
from todo.tasks.views import bp

__all__ = ["LINKS", "bp"]
