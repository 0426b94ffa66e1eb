"""The operations on tasks."""

import os
from datetime import datetime
from typing import Any

import jwt
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils import timezone
from ninja import Field, NinjaAPI, Schema
from ninja.errors import HttpError
from ninja.security import HttpBearer

from benchmarks.peers.django_ninja.models import Task

SECRET = os.environ["BETTER_AUTH_SECRET"]


class Bearer(HttpBearer):
    """The bearer token of the user in the path."""

    def authenticate(self, request: HttpRequest, token: str) -> str | None:
        """Return the caller, or None for an invalid token."""
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError:
            return None
        match = request.resolver_match
        if match is None or claims["sub"] != match.kwargs["user_id"]:
            raise HttpError(403, "Not your tasks")
        return str(claims["sub"])


class TaskIn(Schema):
    """The body of a POST."""

    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(None, max_length=1000)
    completed: bool = False
    priority: str | None = None
    due_date: datetime | None = None
    tags: list[str] = Field(default_factory=list)


class TaskPatch(Schema):
    """The body of a PATCH."""

    title: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = Field(None, max_length=1000)
    completed: bool | None = None
    priority: str | None = None
    due_date: datetime | None = None
    tags: list[str] | None = None


class TaskOut(Schema):
    """The representation of a task."""

    id: int
    user_id: str
    title: str
    description: str | None
    completed: bool
    priority: str | None
    due_date: datetime | None
    tags: list[str]
    created_at: datetime
    updated_at: datetime
    completed_at: datetime | None


api = NinjaAPI(auth=Bearer())


@api.get("/{user_id}/tasks", response=list[TaskOut])
def list_tasks(request: HttpRequest, user_id: str) -> Any:  # noqa: ARG001 (Ninja passes it)
    """List tasks."""
    return Task.objects.filter(user_id=user_id)


@api.post("/{user_id}/tasks", response={201: TaskOut})
def create_task(request: HttpRequest, user_id: str, body: TaskIn) -> Any:  # noqa: ARG001 (likewise)
    """Create a task."""
    completed_at = timezone.now() if body.completed else None
    return 201, Task.objects.create(user_id=user_id, completed_at=completed_at, **body.dict())


@api.get("/{user_id}/tasks/{int:task_id}", response=TaskOut)
def get_task(request: HttpRequest, user_id: str, task_id: int) -> Any:  # noqa: ARG001 (likewise)
    """Read one task."""
    return get_object_or_404(Task, id=task_id, user_id=user_id)


@api.patch("/{user_id}/tasks/{int:task_id}", response=TaskOut)
def update_task(request: HttpRequest, user_id: str, task_id: int, body: TaskPatch) -> Any:  # noqa: ARG001 (likewise)
    """Change a task."""
    task = get_object_or_404(Task, id=task_id, user_id=user_id)
    if body.completed is not None and body.completed != task.completed:
        task.completed_at = timezone.now() if body.completed else None
    for name, value in body.dict(exclude_unset=True).items():
        setattr(task, name, value)
    task.save()
    return task


@api.delete("/{user_id}/tasks/{int:task_id}", response={204: None})
def delete_task(request: HttpRequest, user_id: str, task_id: int) -> Any:  # noqa: ARG001 (likewise)
    """Delete a task."""
    get_object_or_404(Task, id=task_id, user_id=user_id).delete()
    return 204, None


urlpatterns = [path("api/", api.urls)]
