"""The contract for people: Swagger UI at `/docs`, ReDoc at `/redoc`. Both read `/openapi.json`."""

from todo.docs.pages import bp

__all__ = ["bp"]
