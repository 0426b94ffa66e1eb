"""The contract for people: Swagger UI at `/docs`, ReDoc at `/redoc`. Both read `/openapi.json`."""

from todo.http.pages.views import bp

__all__ = ["bp"]
