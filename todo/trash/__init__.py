"""The trash: deleted tasks, which can be restored until they expire."""

from todo.trash.command import bp as commands
from todo.trash.views import bp

__all__ = ["bp", "commands"]
