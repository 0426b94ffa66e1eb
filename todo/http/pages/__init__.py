"""The documentation pages: Swagger UI at `/docs` and ReDoc at `/redoc`. Both read `/openapi.json`."""

from todo.http.pages.views import bp

__all__ = ["bp"]
