"""FastAPI and SQLModel as in the quickstart: a session for each request, and synchronous SQL in async routes."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import jwt
from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy import ARRAY, Column, DateTime, String
from sqlmodel import Field, Session, SQLModel, create_engine, select

SECRET = os.environ["BETTER_AUTH_SECRET"]

DATABASE_URL = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg2:")

engine = create_engine(DATABASE_URL, pool_pre_ping=True, pool_size=10, max_overflow=20)
app = FastAPI()
bearer = HTTPBearer()


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class TaskCreate(SQLModel):
    """The body of a POST."""

    title: str = Field(min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool = False
    priority: str | None = None
    due_date: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))
    tags: list[str] = Field(default_factory=list, sa_column=Column(ARRAY(String), nullable=False))


class TaskUpdate(SQLModel):
    """The body of a PATCH."""

    title: str | None = Field(default=None, min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=1000)
    completed: bool | None = None
    priority: str | None = None
    due_date: datetime | None = None
    tags: list[str] | None = None


class Task(TaskCreate, table=True):
    """A stored task, and its representation."""

    __tablename__ = "peer_tasks"

    id: int | None = Field(default=None, primary_key=True)
    user_id: str = Field(index=True)
    created_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    updated_at: datetime = Field(default_factory=now, sa_type=DateTime(timezone=True))
    completed_at: datetime | None = Field(default=None, sa_type=DateTime(timezone=True))


def get_session() -> Iterator[Session]:
    """Yield the session of a request."""
    with Session(engine) as session:
        yield session


async def get_caller(user_id: str, credentials: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    """Return the caller, who must be the user in the path."""
    try:
        claims = jwt.decode(credentials.credentials, SECRET, algorithms=["HS256"])
    except jwt.InvalidTokenError:
        raise HTTPException(401, "Invalid token") from None
    if claims["sub"] != user_id:
        raise HTTPException(403, "Not your tasks")
    return str(claims["sub"])


Owner = Annotated[str, Depends(get_caller)]
Database = Annotated[Session, Depends(get_session)]


def find(session: Session, user_id: str, task_id: int) -> Task:
    """Return a task of the caller, or raise a 404."""
    task = session.exec(select(Task).where(Task.id == task_id, Task.user_id == user_id)).first()
    if task is None:
        raise HTTPException(404, "Task not found")
    return task


@app.get("/api/{user_id}/tasks")
async def list_tasks(user_id: Owner, session: Database) -> list[Task]:
    """List tasks."""
    return list(session.exec(select(Task).where(Task.user_id == user_id).order_by(Task.id)).all())


@app.post("/api/{user_id}/tasks", status_code=201)
async def create_task(user_id: Owner, session: Database, body: TaskCreate) -> Task:
    """Create a task."""
    task = Task(**body.model_dump(), user_id=user_id, completed_at=now() if body.completed else None)
    session.add(task)
    session.commit()
    session.refresh(task)
    return task


@app.get("/api/{user_id}/tasks/{task_id}")
async def get_task(user_id: Owner, session: Database, task_id: int) -> Task:
    """Read one task."""
    return find(session, user_id, task_id)


@app.patch("/api/{user_id}/tasks/{task_id}")
async def update_task(user_id: Owner, session: Database, task_id: int, body: TaskUpdate) -> Task:
    """Change a task."""
    task = find(session, user_id, task_id)
    if body.completed is not None and body.completed != task.completed:
        task.completed_at = now() if body.completed else None
    task.sqlmodel_update(body.model_dump(exclude_unset=True))
    task.updated_at = now()
    session.add(task)
    session.commit()
    session.refresh(task)
    return task


@app.delete("/api/{user_id}/tasks/{task_id}", status_code=204)
async def delete_task(user_id: Owner, session: Database, task_id: int) -> None:
    """Delete a task."""
    session.delete(find(session, user_id, task_id))
    session.commit()
