"""What schemathesis cannot read in the document: which values exist, and what the contract requires beside its checks.

It loads this file by itself, as schemathesis.toml says.
"""

import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import requests
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.meta import TestPhase

TASKS = "/api/{user_id}/tasks"
TASK = f"{TASKS}/{{task_id}}"
BATCH = f"{TASKS}/batch"
TRASH = "/api/{user_id}/trash"
TRASHED = f"{TRASH}/{{task_id}}"
IMPORT = "/api/{user_id}/import"
CALENDAR = "/calendar/{address}.ics"

# Unknown members are ignored, but not with `Prefer: handling=strict`, and a change needs a known one. A name in
# quotation marks is the same name. Parameters that are good by themselves can contradict each other. A batch addresses
# each task once.
UNSAID = re.compile(
    "is not known here|Nothing to change|[Kk]ey has been used for another task|at least one visible character"
    "|is already (addressed|used) by operation"
    "|must not have another value|cannot be overdue together|must be the page that begins|page .* begins .* after it"
)


FILES = {
    "csv": "title\nBuy oat milk\n",
    "todo": '{"task": {"title": "Buy oat milk"}}\n',
    "todoist": "TYPE,CONTENT\ntask,Buy oat milk\n",
    "ticktick": "List Name,Title,Status\nHome,Buy oat milk,0\n",
    "google-tasks": '{"kind": "tasks#taskLists", "items": [{"items": [{"title": "Buy oat milk"}]}]}',
    "ical": "BEGIN:VCALENDAR\r\nBEGIN:VTODO\r\nSUMMARY:Buy oat milk\r\nEND:VTODO\r\nEND:VCALENDAR\r\n",
}


@dataclass
class Seen:
    """The responses of the service so far.

    Attributes:
        cursors: Cursors of the changes feed.
        keys: Idempotency keys.
        ids: The ids of all tasks, existing or deleted.
        tasks: Those of the tasks that are there.
        trash: Those of the tasks in the trash.
        restored: Those of the tasks that came back from it.

    """

    cursors: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    tasks: list[str] = field(default_factory=list)
    trash: list[str] = field(default_factory=list)
    restored: set[str] = field(default_factory=set)
    if_match: int = 0


seen = Seen()


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict) -> None:
    """Aim a request at a task that exists, which no schema expresses, and make it invalid only where intended."""
    if not case.meta:
        return
    if not case.meta.is_negative_at(ParameterLocation.QUERY):
        for name in {"cursor", "since"} & case.query.keys():
            if case.query[name] not in seen.cursors:
                del case.query[name]
    if case.meta.is_negative_at(ParameterLocation.BODY) and isinstance(case.body, dict):
        spoil_form_values(case.body)
    if not case.meta.is_negative_at(ParameterLocation.HEADER):
        name_what_is_there(case)
    if not case.meta.is_negative_at(ParameterLocation.PATH) and "task_id" in case.path_parameters:
        point_at_a_task(case)
    if not case.meta.is_negative_at(ParameterLocation.PATH) and case.path == CALENDAR:
        point_at_a_calendar(case)
    if not case.meta.is_negative_at(ParameterLocation.BODY) and case.path == IMPORT:
        send_a_file(case)


def point_at_a_calendar(case: Case) -> None:
    """Insert a new address, which was not read yet."""
    url = f"{case.operation.base_url}/api/me/calendar"
    made = requests.put(url, headers=alice(), timeout=30).json()["url"]
    case.path_parameters["address"] = made.rpartition("/")[2].removesuffix(".ics")


def send_a_file(case: Case) -> None:
    """Insert a file of the format that is named, or of any."""
    case.media_type = "application/octet-stream"
    case.body = FILES.get(str(case.query.get("format")).lower(), FILES["csv"])


def spoil_form_values(body: dict) -> None:
    """Replace texts that the service takes as forms send them, and the document does not say so."""
    for name in ("tags", "due_date", "priority"):
        if isinstance(body.get(name), str) and (name == "tags" or body[name].strip().lower() in ("", "none")):
            body[name] = 0
    operations = body.get("operations")
    for operation in operations if isinstance(operations, list) else ():
        if isinstance(operation, dict) and isinstance(operation.get("task"), dict):
            spoil_form_values(operation["task"])


def name_what_is_there(case: Case) -> None:
    """Insert a new idempotency key for a creation, and the ETag of a task."""
    if (key := case.headers.get("Idempotency-Key")) is not None:
        fresh = f"key-{len(seen.keys)}" if key in seen.keys else key
        case.headers["Idempotency-Key"] = fresh
        seen.keys.add(fresh)
    if (etags := case.headers.get("If-Match")) is not None:
        seen.if_match += 1
        # Every other one stays, and names another state.
        if etags == '"17"' or seen.if_match % 2:
            case.headers["If-Match"] = "*"


def point_at_a_task(case: Case) -> None:
    """Insert the id of a task that exists or is in the trash; create one where there is none."""
    trashed = case.path.startswith(TRASH)
    found = seen.trash if trashed else seen.tasks
    # One call after another asks for what was deleted, too.
    asked = str(case.path_parameters["task_id"])
    if asked in found or (case.meta.phase.name == TestPhase.STATEFUL and asked in seen.ids):
        return
    if not found:
        url = f"{case.operation.base_url}/api/me/tasks"
        made = str(requests.post(url, json={"title": "made"}, headers=alice(), timeout=30).json()["id"])
        if trashed:
            requests.delete(f"{url}/{made}", headers=alice(), timeout=30).raise_for_status()
        seen.ids.add(made)
        found.append(made)
    case.path_parameters["task_id"] = found[-1]


def alice() -> dict[str, str]:
    """Return the headers of a request by the owner of these tasks."""
    first, *_ = json.loads(Path(os.environ["SCHEMATHESIS_USERS"]).read_text())["auth"]
    return {header["name"]: header["value"] for header in first["fixedHeaders"]}


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Record the tasks that exist after a response."""
    answered = f"{case.method} {case.path} {response.status_code}"
    asked = str(case.path_parameters.get("task_id"))
    if answered == f"GET {TASKS}/changes 200":
        seen.cursors.add(response.json()["next"])
    elif answered == f"POST {TASKS} 201":
        seen.tasks.append(str(response.json()["id"]))
        seen.ids.add(seen.tasks[-1])
    elif answered == f"POST {TRASHED}/restore 200":
        move(asked, seen.trash, seen.tasks)
        seen.restored.add(asked)
    elif answered in (f"DELETE {TASK} 204", f"DELETE {TASK} 200"):
        move(asked, seen.tasks, seen.trash)
        seen.restored.discard(asked)
    elif answered == f"DELETE {TRASHED} 204":
        move(asked, seen.trash, [])
    elif answered == f"DELETE {TRASH} 204":
        seen.trash.clear()
    elif answered == "DELETE /api/{user_id} 204":
        seen.trash.clear()
        seen.tasks.clear()


def move(task: str, origin: list[str], destination: list[str]) -> None:
    """Record that a task has moved between the list and the trash."""
    if task in origin:
        origin.remove(task)
    if task not in destination:
        destination.append(task)


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """Check whether a reported failure is one."""
    if "positive_data_acceptance" in failure.checks and response.status_code == 422:
        return not all(UNSAID.search(error["detail"]) for error in response.json()["errors"])
    # The values of a batch are judged operation by operation.
    if "negative_data_rejection" in failure.checks and (case.path, response.status_code) == (BATCH, 200):
        return not any(result["status"] == 422 for result in response.json()["results"])
    # What was deleted comes back when somebody wants it back.
    return "use_after_free" not in failure.checks or str(case.path_parameters.get("task_id")) not in seen.restored
