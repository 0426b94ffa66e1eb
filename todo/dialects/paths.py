"""Other paths of the same calls."""

from typing import Any, NoReturn

from flask import Flask, make_response
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import MethodNotAllowed
from werkzeug.routing import Rule

from todo.http.adapters import Adapters
from todo.http.body import LONGER_BODIES, lengthen

USER = "/api/<user_id>"
COMPLETE = "tasks.complete_task"
SUMMARY = "tasks.summarize_tasks"
STATS = "dialects.stats"

# Where the tasks of the caller are in other contracts, and those of the user in the path.
OF_THE_CALLER = ("/api", "/api/v1")
OF_THE_USER = ("/api/users/<user_id>", "/api/v1/<user_id>")
ALIASED = ("tasks", "stats", "statistics")

# The path that is also a user's own, whose deletion erases all data of that user.
SHARED_PATH = "/api/tasks"


def toggle(app: Flask, _: Adapters) -> None:
    """Complete tasks with POST too, and at `…/toggle`."""
    for rule in _rules(app, COMPLETE):
        app.add_url_rule(rule.rule, COMPLETE, methods=["POST"])
        app.add_url_rule(rule.rule.replace("/complete", "/toggle"), COMPLETE, methods=["PATCH", "POST"])


def stats(app: Flask, _: Adapters) -> None:
    """Serve the summary with the share of completed tasks at `…/stats` and `…/statistics`."""
    summarize = app.view_functions[SUMMARY]

    def read_stats(**arguments: Any) -> ResponseReturnValue:
        response = make_response(summarize(**arguments))
        counts: dict[str, Any] = response.get_json()
        share = counts["completed"] / counts["total"] if counts["total"] else 0.0
        # The headers stay as they are.
        response.data = app.json.dumps(counts | {"completion_rate": round(100 * share, 2)})
        return response

    for folder in (USER, f"{USER}/tasks"):
        for name in ("stats", "statistics"):
            app.add_url_rule(f"{folder}/{name}", STATS, read_stats)


def alias(app: Flask, _: Adapters) -> None:
    """Serve the tasks at the paths of other contracts too, without a user in the path or with other parts around it."""
    # Otherwise a path that names the caller would be redirected to the one that does not.
    app.url_map.redirect_defaults = False
    for rule in _rules(app):
        if rule.rule.removeprefix(f"{USER}/").partition("/")[0] not in ALIASED:
            continue
        methods = (rule.methods or set()) - {"OPTIONS"}
        for prefix in (*OF_THE_CALLER, *OF_THE_USER):
            path = rule.rule.replace(USER, prefix, 1)
            me = {"user_id": "me"} if prefix in OF_THE_CALLER else None
            # An alias is never the path that a `Location` or `Link` has.
            app.add_url_rule(path, rule.endpoint, methods=methods, defaults=me, alias=True)
            if rule.rule in LONGER_BODIES:
                lengthen(path, LONGER_BODIES[rule.rule])
    app.add_url_rule(SHARED_PATH, "dialects.refuse", _refuse, methods=["DELETE"])


def _refuse(**_: Any) -> NoReturn:
    """Refuse to delete what is the list of tasks here, and would otherwise be a user with that id."""
    raise MethodNotAllowed(valid_methods=["GET", "HEAD", "OPTIONS", "POST"])


def _rules(app: Flask, endpoint: str | None = None) -> list[Rule]:
    return list(app.url_map.iter_rules(endpoint))
