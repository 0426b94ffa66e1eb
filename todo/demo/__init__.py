"""The page at `/demo`: two devices of one user side by side, over the built TypeScript client. For development alone."""

from todo.demo.views import bp

__all__ = ["bp"]
