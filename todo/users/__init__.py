"""All data of a user: exported or erased."""

from todo.users.command import bp as commands
from todo.users.views import bp, init_app

__all__ = ["bp", "commands", "init_app"]
