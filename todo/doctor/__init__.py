"""`flask doctor`: what is wrong with this installation, or with one token, and what to do about it."""

from todo.doctor.command import bp, patient

__all__ = ["bp", "patient"]
