"""Batches: a queue of operations on tasks in one request, which can be sent again."""

from todo.batch.views import bp

__all__ = ["bp"]
