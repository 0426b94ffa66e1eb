"""The operations that can follow a response, as links of the OpenAPI document (OpenAPI 3.1, Link Object)."""

from typing import Any

# The task of the response; and the same in the state of the response, so that a write after another one is refused.
TASK = {"user_id": "$request.path.user_id", "task_id": "$response.body#/id"}
IN_THIS_STATE = TASK | {"header.If-Match": "$response.header.ETag"}
# The task of the request, where the response does not carry it.
SAME_TASK = {"user_id": "$request.path.user_id", "task_id": "$request.path.task_id"}
LINKS: dict[str, dict[str, Any]] = {
    "Read": {"operationId": "getTask", "parameters": TASK},
    "Replace": {"operationId": "replaceTask", "parameters": IN_THIS_STATE},
    "Change": {"operationId": "updateTask", "parameters": IN_THIS_STATE},
    "Complete": {"operationId": "completeTask", "parameters": IN_THIS_STATE},
    "Delete": {"operationId": "deleteTask", "parameters": IN_THIS_STATE},
    "Restore": {"operationId": "restoreTask", "parameters": SAME_TASK},
    "Discard": {"operationId": "discardTask", "parameters": SAME_TASK},
    "Follow": {
        "operationId": "listChanges",
        "parameters": {"user_id": "$request.path.user_id", "since": "$response.body#/next"},
    },
}
