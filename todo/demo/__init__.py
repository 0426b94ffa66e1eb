"""The page at `/demo`, for development: two devices of one user side by side, over the built TypeScript client."""

from todo.demo.views import bp

__all__ = ["bp"]
