"""Tasks: models, schemas, statements and views, and the changes feed of a list."""

from todo.tasks.kept_pages import init_app
from todo.tasks.links import LINKS
from todo.tasks.schemas import COMPONENTS
from todo.tasks.views import bp

__all__ = ["COMPONENTS", "LINKS", "bp", "init_app"]
