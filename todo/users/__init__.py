"""Users' own data, all of it: taken along, or erased."""

from todo.users.command import bp as commands
from todo.users.views import bp

__all__ = ["bp", "commands"]
