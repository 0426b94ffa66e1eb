"""All data of a user: exported or erased."""

from todo.users.command import bp as commands
from todo.users.views import bp

__all__ = ["bp", "commands"]
