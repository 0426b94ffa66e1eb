"""Other names by which clients know the parameters of a list, their values, and the completion of a task.

Each stands for a name that `docs/api/lists.md` describes. That page has a table of all of them.
"""

from todo.http.pagination import PAGE_ALIASES

COMPLETED_ALIASES = dict.fromkeys(("is_completed", "is_complete", "complete", "is_done", "done"), "completed")

PARAMETER_ALIASES = {
    **PAGE_ALIASES,
    **COMPLETED_ALIASES,
    "status_filter": "status",
    "priority_filter": "priority",
    "tags": "tag",
    "q": "search",
    "sort_by": "sort",
    "sort_order": "order",
}
# Tags that are sent under this name are separated by commas, as in a body.
COMMA_SEPARATED = ("tags",)

STATUS_ALIASES = {"active": "pending", "incomplete": "pending", "todo": "pending", "done": "completed"}

SORT_ALIASES = {
    "created": "created_at",
    "createdAt": "created_at",
    "oldest": "created_at",
    "created_oldest": "created_at",
    "newest": "-created_at",
    "created_newest": "-created_at",
    "updatedAt": "updated_at",
    "dueDate": "due_date",
    "due_at": "due_date",
    "dueAt": "due_date",
}
