"""The tools, each declared once: what it is called with, what it returns, what it does, and the scope that it needs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from flask import current_app
from marshmallow import Schema

from todo.assistants import json_schema
from todo.assistants.protocol import INVALID_PARAMS, ProtocolError
from todo.assistants.schemas import (
    DESCRIPTION_MAX,
    FILTERS,
    AddArguments,
    AddResult,
    CompleteArguments,
    DeleteArguments,
    DeleteResult,
    ListArguments,
    ListResult,
    TaskArguments,
    TaskResult,
    UpdateArguments,
)
from todo.auth.access import READ, WRITE
from todo.http.etags import ETags, Preconditions
from todo.http.fields import whole_number
from todo.http.idempotency import identify
from todo.http.problems import SENTENCES_MAX, Fault, PreconditionRequired, UnprocessableContent
from todo.http.requests import QuerySchema, load_body, unknown_names
from todo.tasks import queries, summary
from todo.tasks.queries import TaskPage
from todo.tasks.rows import TaskRow
from todo.tasks.schemas import READ_ONLY, TaskInput, TaskPatch
from todo.tasks.summary import SummaryOut, SummaryQuery
from todo.trash.queries import restore_task

Content = Mapping[str, Any]

READ_ONLY_HINT = {"readOnlyHint": True, "openWorldHint": False}
ADDS = {"readOnlyHint": False, "destructiveHint": False, "idempotentHint": False, "openWorldHint": False}
SETS = ADDS | {"idempotentHint": True}
DELETES = ADDS | {"destructiveHint": True}

PATCH = TaskPatch()

REVISION_REQUIRED = "Send if_revision with the revision of the task, so that nobody's changes are overwritten unseen."


@dataclass(frozen=True)
class Tool:
    """A tool.

    Attributes:
        name: Its name.
        title: Its name for people.
        about: What it does, for models.
        arguments: The schema of its arguments.
        result: The schema of its result.
        run: Does it for a caller with valid arguments, in one round trip to PostgreSQL, and returns the result.
        hints: What clients may expect of it.
        description: What a list of tools has of it.

    """

    name: str
    title: str
    about: str
    arguments: Schema
    result: Schema
    run: Callable[[str, Any], Content]
    hints: Mapping[str, bool]
    description: dict[str, Any] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Generate the description."""
        description = {
            "name": self.name,
            "title": self.title,
            "description": self.about,
            "inputSchema": json_schema.of_arguments(self.arguments),
            "outputSchema": json_schema.of_result(self.result),
            "annotations": {"title": self.title, **self.hints},
        }
        object.__setattr__(self, "description", description)

    @property
    def scope(self) -> str:
        """Return the scope that a token must have."""
        return READ if self.hints["readOnlyHint"] else WRITE

    def call(self, caller: str, arguments: Any) -> Content:
        """Validate the arguments, and run the tool.

        Raises:
            ProtocolError: There are no such arguments.
            Problem: The tool failed, or the members of a task break a rule.

        """
        return self.run(caller, self._load(_own(caller, arguments)))

    def _load(self, arguments: Mapping[str, Any]) -> Any:
        unknown = [name for name in arguments if name not in self.arguments.fields]
        required = [name for name, each in self.arguments.fields.items() if each.required and name not in arguments]
        faults = unknown_names(unknown, self.arguments.fields, _in_arguments, SENTENCES_MAX)
        faults += [{**_in_arguments(name), "detail": f"{name} is required."} for name in required]
        if faults:
            raise ProtocolError(INVALID_PARAMS, UnprocessableContent(faults).detail)
        try:
            sent = _as_query(arguments) if isinstance(self.arguments, QuerySchema) else arguments
            return load_body(self.arguments, sent, frozenset(), [], strict=False)
        except UnprocessableContent as problem:
            if isinstance(self.arguments, TaskInput):
                raise
            raise ProtocolError(INVALID_PARAMS, problem.detail) from None


def _in_arguments(name: str) -> Fault:
    return {"parameter": name}


def _own(caller: str, arguments: Any) -> dict[str, Any]:
    """Return the arguments without the user, who is the caller, and nobody else.

    Raises:
        ProtocolError: The arguments are no object, or name another user.

    """
    if not isinstance(arguments, dict | None):
        raise ProtocolError(INVALID_PARAMS, "arguments must be an object.")
    own = dict(arguments or {})
    if own.pop("user_id", None) not in (None, caller, "me"):
        raise ProtocolError(INVALID_PARAMS, "user_id must be the caller's own id, or be left out.")
    return own


def _as_query(arguments: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return arguments as a query has them: the values of each as texts. One without a value counts as absent.

    Raises:
        UnprocessableContent: An argument has a value that no parameter can have.

    """
    query: dict[str, list[str]] = {}
    for name, value in arguments.items():
        texts = [_as_text(each) for each in (value if isinstance(value, list) else [value])]
        if None in texts:
            rule = f"{name} must be a string, a whole number, a boolean or an array of them, with no NUL character."
            raise UnprocessableContent([{**_in_arguments(name), "detail": rule}])
        if present := [text for text in texts if text and text.strip()]:
            query[name] = present
    return query


def _as_text(value: Any) -> str | None:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if (number := whole_number(value)) is not None:
        return str(number)
    return value if isinstance(value, str) and "\0" not in value else None


def _revision(arguments: Mapping[str, Any]) -> Preconditions:
    """Return the precondition that a change states.

    Raises:
        PreconditionRequired: It states none, and the settings require one.

    """
    revision = arguments.get("if_revision")
    if revision is None and current_app.extensions["config"].require_if_match:
        raise PreconditionRequired(REVISION_REQUIRED)
    return Preconditions(None if revision is None else ETags(any=False, tags=frozenset([str(revision)])))


def list_tasks(caller: str, arguments: Any) -> Content:
    """Return a page of the caller's tasks."""
    # Without a revision that the caller knows there is always a page.
    page = cast(TaskPage, queries.list_tasks(caller, arguments))
    return {"tasks": [_shortened(task) for task in page.tasks], "next_cursor": page.next}


def _shortened(task: TaskRow) -> TaskRow:
    description = task["description"]
    if description is None or len(description) <= DESCRIPTION_MAX:
        return task
    return task | {"description": f"{description[: DESCRIPTION_MAX - 1]}…", "description_truncated": True}


def add_task(caller: str, arguments: dict[str, Any]) -> Content:
    """Create a task, once for its key."""
    key = arguments.pop("idempotency_key", None)
    task, _ = queries.create_task(caller, arguments, None if key is None else identify(key, arguments))
    return {"task": task}


def update_task(caller: str, arguments: dict[str, Any]) -> Content:
    """Change members of a task."""
    members = load_body(PATCH, arguments["members"], READ_ONLY | PATCH.fields.keys(), [], strict=True)
    return {"task": queries.update_task(caller, arguments["task_id"], members, _revision(arguments))}


def complete_task(caller: str, arguments: dict[str, Any]) -> Content:
    """Complete or reopen a task."""
    state = {"completed": arguments["completed"]}
    return {"task": queries.update_task(caller, arguments["task_id"], state, _revision(arguments))}


def delete_task(caller: str, arguments: dict[str, Any]) -> Content:
    """Move a task into the trash."""
    days = current_app.extensions["config"].trash_days
    deletion = queries.delete_task(caller, arguments["task_id"], days, _revision(arguments))
    return {
        "deleted": {
            "id": deletion.task["id"],
            "revision": deletion.revision,
            "deleted_at": deletion.deleted_at,
            "expires_at": deletion.expires_at,
        }
    }


DECLARED = (
    Tool(
        "list_tasks",
        "List tasks",
        "List the user's tasks, or those that match: by status, words, tag, priority or due date, sorted, in pages.",
        ListArguments(only=FILTERS),
        ListResult(),
        list_tasks,
        READ_ONLY_HINT,
    ),
    Tool(
        "get_task",
        "Read a task",
        "Return one task, with its whole description.",
        TaskArguments(),
        TaskResult(),
        lambda caller, arguments: {"task": queries.get_task(caller, arguments["task_id"])},
        READ_ONLY_HINT,
    ),
    Tool(
        "summarize_tasks",
        "Count tasks",
        "Count the user's tasks: open, completed, overdue, due today, and by priority and tag.",
        SummaryQuery(),
        SummaryOut(),
        summary.summarize,
        READ_ONLY_HINT,
    ),
    Tool(
        "add_task",
        "Add a task",
        "Create a task. Only the title is required.",
        AddArguments(exclude=["completed"]),
        AddResult(),
        add_task,
        ADDS,
    ),
    Tool(
        "update_task",
        "Change a task",
        "Change the given members of a task, and leave the others alone.",
        UpdateArguments(),
        TaskResult(),
        update_task,
        SETS,
    ),
    Tool(
        "complete_task",
        "Complete a task",
        "Mark a task as completed, or with completed=false as open again.",
        CompleteArguments(),
        TaskResult(),
        complete_task,
        SETS,
    ),
    Tool(
        "delete_task",
        "Delete a task",
        "Move a task into the trash. The result says until when restore_task brings it back.",
        DeleteArguments(),
        DeleteResult(),
        delete_task,
        DELETES,
    ),
    Tool(
        "restore_task",
        "Restore a task",
        "Bring a deleted task back from the trash, with its old id.",
        TaskArguments(),
        TaskResult(),
        lambda caller, arguments: {"task": restore_task(caller, arguments["task_id"])},
        ADDS,
    ),
)
TOOLS = {tool.name: tool for tool in DECLARED}
