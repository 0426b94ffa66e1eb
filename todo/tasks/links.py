"""What can be done next with an answer, as the links of the OpenAPI document say it (OpenAPI 3.1, Link Object)."""

from typing import Any

# The task of the answer; and the same as it was answered, so that it is left alone where somebody was faster.
TASK = {"user_id": "$request.path.user_id", "task_id": "$response.body#/id"}
AS_ANSWERED = TASK | {"header.If-Match": "$response.header.ETag"}
# The task of the request, where the answer says nothing of it.
SAME_TASK = {"user_id": "$request.path.user_id", "task_id": "$request.path.task_id"}
LINKS: dict[str, dict[str, Any]] = {
    "Read": {"operationId": "getTask", "parameters": TASK},
    "Replace": {"operationId": "replaceTask", "parameters": AS_ANSWERED},
    "Change": {"operationId": "updateTask", "parameters": AS_ANSWERED},
    "Complete": {"operationId": "completeTask", "parameters": AS_ANSWERED},
    "Delete": {"operationId": "deleteTask", "parameters": AS_ANSWERED},
    "Restore": {"operationId": "restoreTask", "parameters": SAME_TASK},
    "Discard": {"operationId": "discardTask", "parameters": SAME_TASK},
    "Follow": {
        "operationId": "listChanges",
        "parameters": {"user_id": "$request.path.user_id", "since": "$response.body#/next"},
    },
}
