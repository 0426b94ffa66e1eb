"""Writes that mean something else in other contracts."""

from flask import Flask

from todo.http.adapters import Adapters

REPLACE, UPDATE = "tasks.replace_task", "tasks.update_task"


def partial_put(app: Flask, _: Adapters) -> None:
    """Let PUT do what PATCH does: an absent member stays as it is."""
    app.view_functions[REPLACE] = app.view_functions[UPDATE]
