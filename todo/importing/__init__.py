"""Tasks from elsewhere: files of this and of other services, imported once however often they are sent."""

from todo.importing.command import import_file
from todo.importing.views import bp

__all__ = ["bp", "import_file"]
