"""The due tasks of a user as a calendar that other programs subscribe to, under a secret address."""

from todo.calendar.views import bp, feeds

__all__ = ["bp", "feeds"]
