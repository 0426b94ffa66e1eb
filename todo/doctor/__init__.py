"""`todo doctor`: checks an installation, or one token, and reports what to do about each fault."""

from todo.doctor.command import bp, stub_app

__all__ = ["bp", "stub_app"]
