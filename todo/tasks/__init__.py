"""Tasks: what a user has to do."""

from todo.tasks.views import bp

__all__ = ["bp"]
