"""Checks of every call of the contract, made with curl."""

import json
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from support import TASK_MEMBERS, assert_problem, bearer, claims, new_user, sign
from wire.server import DEADLINE_S, ORIGIN, Line, Response, Server, environment, request

Curl = Callable[..., Response]

MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")
JSON = ("--header", "Content-Type: application/json")
PROBLEM_JSON = "application/problem+json"


def run_curl(server: Server, path: str, *arguments: str) -> Response:
    """Run curl without the ~/.curlrc of this machine."""
    done = subprocess.run(
        ["curl", "-q", "--silent", "--show-error", "--include", "--noproxy", "*", *arguments, server.url + path],
        env=environment(),
        capture_output=True,
        timeout=DEADLINE_S,
        check=True,
    )
    return Response.parse(done.stdout, "HEAD" if "--head" in arguments else "GET")


def path_of(task: dict[str, Any]) -> str:
    return f"/api/{task['user_id']}/tasks/{task['id']}"


CROSS_ORIGIN = ("--header", f"Origin: {ORIGIN}")


class CallChecks:
    """Every call of the contract. A subclass chooses the server by the fixture of this name."""

    @pytest.fixture
    def curl(self, server: Server, user: str) -> Curl:
        """Return a function that makes requests as the user, which announce JSON even without a body."""
        token = ("--header", f"Authorization: {bearer(user)['Authorization']}")

        def curl(
            method: str, path: str, body: Any = None, *arguments: str, media_type: str = "application/json"
        ) -> Response:
            sent = () if body is None else ("--data-binary", body if isinstance(body, str) else json.dumps(body))
            announced = ("--header", f"Content-Type: {media_type}")
            return run_curl(server, path, "--request", method, *token, *announced, *sent, *arguments)

        return curl

    @pytest.fixture
    def task(self, curl: Curl) -> dict[str, Any]:
        """Return a new task."""
        created: dict[str, Any] = curl(
            "POST", "/api/me/tasks", {"title": "Buy oat milk", "description": "Two"}
        ).get_json()
        return created

    def test_list_of_a_new_user_is_an_empty_array(self, curl, user):
        answer = curl("GET", f"/api/{user}/tasks")

        assert (answer.status_code, answer.content_type, answer.data) == (200, "application/json", b"[]")

    def test_list_of_several_tasks_is_in_order_of_creation(self, curl, user):
        created = [curl("POST", f"/api/{user}/tasks", {"title": title}).get_json() for title in ("c", "a", "b")]

        assert curl("GET", "/api/me/tasks").get_json() == created

    def test_create_answers_the_task_and_a_location_that_can_be_followed(self, curl, user):
        answer = curl("POST", f"/api/{user}/tasks", {"title": "  Call grandma 🎂 ", "description": ""})

        created = answer.get_json()
        assert answer.status_code == 201
        assert list(created)[:7] == TASK_MEMBERS[:7]
        assert isinstance(created["id"], int)
        assert MOMENT.fullmatch(created["created_at"])
        assert created["updated_at"] == created["created_at"]
        known = {"user_id": user, "title": "Call grandma 🎂", "description": "", "completed": False}
        assert created.items() >= known.items()
        assert curl("GET", answer.headers["Location"]).get_json() == created

    def test_get_answers_the_task(self, curl, task):
        answer = curl("GET", path_of(task))

        assert (answer.status_code, answer.get_json()) == (200, task)

    def test_put_replaces_and_clears_an_absent_description(self, curl, task):
        curl("PATCH", path_of(task), {"completed": True})

        answer = curl("PUT", path_of(task), {"title": "Buy soy milk"})

        replaced = answer.get_json()
        assert answer.status_code == 200
        assert (replaced["title"], replaced["description"], replaced["completed"]) == ("Buy soy milk", None, True)
        assert replaced["updated_at"] > task["updated_at"]
        assert curl("GET", path_of(task)).get_json() == replaced

    def test_put_of_what_was_read_changes_nothing_but_the_time(self, curl, task):
        answer = curl("PUT", path_of(task), task)

        assert answer.status_code == 200
        assert answer.get_json() | {"updated_at": ""} == task | {"updated_at": ""}

    @pytest.mark.parametrize("media_type", ["application/json", "application/merge-patch+json"], ids=["json", "merge"])
    def test_patch_changes_what_is_sent_and_clears_null(self, curl, task, media_type):
        changed = curl("PATCH", path_of(task), {"completed": True}, media_type=media_type)
        cleared = curl("PATCH", path_of(task), {"description": None}, media_type=media_type)

        assert (changed.status_code, cleared.status_code) == (200, 200)
        after = changed.get_json()
        assert after["completed_at"] == after["updated_at"]
        expected = task | {"completed": True, "updated_at": "", "revision": task["revision"] + 1}
        assert after | {"updated_at": "", "completed_at": None} == expected
        assert cleared.get_json()["description"] is None
        assert cleared.get_json()["completed"] is True

    @pytest.mark.parametrize(
        ("body", "arguments"),
        [
            pytest.param(None, (), id="no-body"),
            pytest.param("", (), id="content-length-0"),
            pytest.param("{}", (), id="empty-object"),
            pytest.param("{}", ("--header", "Transfer-Encoding: chunked"), id="empty-object-chunked"),
        ],
    )
    def test_complete_without_a_value_toggles(self, curl, task, body, arguments):
        answers = [curl("PATCH", f"{path_of(task)}/complete", body, *arguments) for _ in range(2)]

        assert [answer.status_code for answer in answers] == [200, 200]
        assert [answer.get_json()["completed"] for answer in answers] == [True, False]

    def test_complete_with_a_value_sets(self, curl, task):
        path = f"{path_of(task)}/complete"

        answers = [curl("PATCH", path, {"completed": value}) for value in (True, True, False)]

        assert [answer.get_json()["completed"] for answer in answers] == [True, True, False]

    def test_delete_answers_204_and_the_task_is_gone(self, curl, task):
        answer = curl("DELETE", path_of(task))

        assert answer.status_code == 204
        assert_problem(curl("GET", path_of(task)), 404, "Task not found")
        assert_problem(curl("DELETE", path_of(task)), 404, "Task not found")

    def test_delete_sends_no_byte_after_the_headers(self, server, user, task):
        with Line(server.port) as line:
            line.send(request("DELETE", path_of(task), {**bearer(user), "Connection": "close"}))
            head, separator, body = line.receive_all().partition(b"\r\n\r\n")

        assert head.startswith(b"HTTP/1.1 204 ")
        assert (separator, body) == (b"\r\n\r\n", b"")
        assert b"\r\ncontent-type:" not in head.lower()
        assert b"\r\ncontent-length:" not in head.lower()

    def test_me_is_the_caller_in_every_call(self, curl, user):
        created = curl("POST", "/api/me/tasks", {"title": "x"}).get_json()
        path = f"/api/me/tasks/{created['id']}"

        assert created["user_id"] == user
        assert curl("GET", "/api/me/tasks").get_json() == [created]
        assert curl("GET", path).get_json() == created
        assert curl("PUT", path, {"title": "y"}).get_json()["title"] == "y"
        assert curl("PATCH", path, {"title": "z"}).get_json()["title"] == "z"
        assert curl("PATCH", f"{path}/complete").get_json()["completed"] is True
        assert curl("DELETE", path).status_code == 204

    def test_trailing_slash_is_the_same_path_without_a_redirect(self, curl, user):
        created = curl("POST", f"/api/{user}/tasks/", {"title": "x"})
        path = path_of(created.get_json())

        assert created.status_code == 201
        assert curl("GET", f"/api/{user}/tasks/").get_json() == [created.get_json()]
        assert curl("GET", f"{path}/").get_json() == created.get_json()
        assert curl("PUT", f"{path}/", {"title": "y"}).status_code == 200
        assert curl("PATCH", f"{path}/", {"title": "z"}).status_code == 200
        assert curl("PATCH", f"{path}/complete/").get_json()["completed"] is True
        assert curl("DELETE", f"{path}/").status_code == 204

    @pytest.mark.parametrize("one", [False, True], ids=["list", "task"])
    def test_head_answers_the_headers_of_get_and_no_body(self, server, user, task, one):
        path = path_of(task) if one else f"/api/{user}/tasks"
        headers = {**bearer(user), "X-Request-ID": "head", "Connection": "close"}

        heads = []
        for method in ("GET", "HEAD"):
            with Line(server.port) as line:
                line.send(request(method, path, headers))
                heads.append(line.receive_all().partition(b"\r\n\r\n"))

        own = re.compile(rb"(Date|traceparent): .*")
        (get, _, body), (head, _, nothing) = ([own.sub(b"", part) for part in parts] for parts in heads)
        assert head == get
        assert f"Content-Length: {len(body)}".encode() in head
        assert nothing == b""

    def test_head_of_an_error_is_the_error_without_its_body(self, curl):
        answer = curl("GET", "/api/me/tasks/0", None, "--head")

        assert (answer.status_code, answer.content_type) == (404, PROBLEM_JSON)
        assert int(answer.headers["Content-Length"]) > 0
        assert answer.data == b""

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            pytest.param("/api/me/tasks", {"GET", "HEAD", "OPTIONS", "POST"}, id="tasks"),
            pytest.param("/api/me/tasks/1", {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"}, id="task"),
            pytest.param("/api/me/tasks/1/complete", {"OPTIONS", "PATCH"}, id="complete"),
            pytest.param("/health", {"GET", "HEAD", "OPTIONS"}, id="health"),
        ],
    )
    def test_options_without_a_token_says_what_is_allowed(self, server, path, allowed):
        answer = run_curl(server, path, "--request", "OPTIONS")
        refusal = run_curl(server, path, "--request", "TRACE")

        assert answer.status_code in (200, 204)
        assert answer.data == b""
        assert set(answer.headers["Allow"].split(", ")) == allowed
        assert_problem(refusal, 405)
        assert set(refusal.headers["Allow"].split(", ")) == allowed

    def test_options_of_the_server_says_what_is_allowed_anywhere(self, server):
        answer = run_curl(server, "/", "--request", "OPTIONS", "--request-target", "*")
        # gunicorn refuses this itself.
        refusal = run_curl(server, "/", "--request-target", "*")

        assert (answer.status_code, answer.data) == (204, b"")
        assert set(answer.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}
        assert refusal.status_code == 400

    def test_etag_that_a_proxy_has_changed_is_the_etag(self, curl, task):
        etag = curl("GET", path_of(task)).headers["ETag"]
        changed = f'W/{etag[:-1]}-gzip"'

        assert curl("GET", path_of(task), None, "--header", f"If-None-Match: {changed}").status_code == 304
        assert curl("PUT", path_of(task), {"title": "z"}, "--header", f"If-Match: {changed}").status_code == 200
        assert_problem(curl("GET", path_of(task), None, "--header", f"If-Match: {changed}"), 412)
        assert curl("GET", "/api/me/tasks", None, "--header", "If-None-Match: *").status_code == 304

    @pytest.mark.parametrize("task_id", ["abc", "1.0", str(2**63), "%20"])
    def test_id_that_is_no_integer_is_an_absent_task(self, curl, server, task_id):
        assert_problem(run_curl(server, f"/api/me/tasks/{task_id}"), 401)
        assert_problem(curl("GET", f"/api/me/tasks/{task_id}"), 404, "Task not found")

    def test_get_with_a_body_ignores_it(self, curl, task):
        assert curl("GET", path_of(task), "not JSON").get_json() == task
        assert curl("GET", path_of(task), "<x/>", media_type="text/xml").get_json() == task
        assert curl("GET", path_of(task), {"title": "z"}, "--header", "Content-Encoding: gzip").get_json() == task

    def test_delete_with_a_body_ignores_it(self, curl, task):
        assert curl("DELETE", path_of(task), "not JSON").status_code == 204

    @pytest.mark.parametrize(
        ("authorization", "detail"),
        [
            pytest.param(None, "Missing authentication token", id="none"),
            pytest.param("Basic dTpw", "Missing authentication token", id="basic"),
            pytest.param("Bearer", "Missing authentication token", id="no-token"),
            pytest.param("Bearer x.y.z", "Invalid token", id="nonsense"),
            pytest.param(f"Bearer {sign(claims('a'), secret='a' * 40)}", "Invalid token", id="other-secret"),
            pytest.param(f"Bearer {sign(claims('a', exp=1))}", "Token has expired", id="expired"),
            pytest.param(f"Bearer {sign(claims(''))}", "Invalid token: missing user_id", id="nobody"),
        ],
    )
    def test_call_without_a_good_token_is_401(self, server, authorization, detail):
        headers = () if authorization is None else ("--header", f"Authorization: {authorization}")

        for method, path in [
            ("GET", "/api/me/tasks"),
            ("POST", "/api/me/tasks"),
            ("PATCH", "/api/me/tasks/1/complete"),
        ]:
            assert_problem(run_curl(server, path, "--request", method, *JSON, *headers), 401, detail)

    def test_call_on_the_path_of_another_user_is_403(self, curl, task):
        other = f"/api/{new_user()}/tasks"

        for method, path in [("GET", other), ("POST", other), ("DELETE", f"{other}/{task['id']}")]:
            assert_problem(curl(method, path, "not JSON"), 403, "User ID mismatch")

    def test_task_of_another_user_is_answered_like_one_that_never_was(self, server, task):
        stranger = ("--header", f"Authorization: {bearer(new_user())['Authorization']}")

        theirs = run_curl(server, f"/api/me/tasks/{task['id']}", *stranger)
        absent = run_curl(server, "/api/me/tasks/0", *stranger)

        unlike = {"instance": "", "request_id": ""}
        assert assert_problem(theirs, 404, "Task not found") | unlike == absent.get_json() | unlike

    @pytest.mark.parametrize(
        ("method", "path", "body", "media_type", "status"),
        [
            pytest.param("GET", "/api/me/task", None, "application/json", 404, id="unknown-path"),
            pytest.param("GET", "/api/me/tasks/x", None, "application/json", 404, id="no-integer"),
            pytest.param("GET", f"/api/me/tasks/{2**63}", None, "application/json", 404, id="over-64-bits"),
            pytest.param("DELETE", "/api/me/tasks", None, "application/json", 405, id="method"),
            pytest.param("POST", "/api/me/tasks", "{", "application/json", 400, id="syntax"),
            pytest.param("POST", "/api/me/tasks", "x" * 70_000, "application/json", 413, id="size"),
            pytest.param("POST", "/api/me/tasks", "title=x", "application/x-www-form-urlencoded", 415, id="form"),
            pytest.param("POST", "/api/me/tasks", "{}", "application/merge-patch+json", 415, id="merge-patch-on-post"),
            pytest.param("POST", "/api/me/tasks", None, "application/json", 422, id="no-body"),
            pytest.param("POST", "/api/me/tasks", "{}", "application/json", 422, id="no-title"),
            pytest.param("POST", "/api/me/tasks", "[]", "application/json", 422, id="array"),
        ],
    )
    def test_call_that_breaks_a_rule_is_a_problem_and_creates_nothing(
        self, curl, method, path, body, media_type, status
    ):
        problem = assert_problem(curl(method, path, body, media_type=media_type), status)

        assert problem["instance"] == path
        assert curl("GET", "/api/me/tasks").data == b"[]"

    @pytest.mark.parametrize(
        ("method", "body", "headers", "status"),
        [
            pytest.param("GET", None, (), 200, id="200"),
            pytest.param("POST", {"title": "x"}, (), 201, id="201"),
            pytest.param("POST", "{", (), 400, id="400"),
            pytest.param("GET", None, ("--header", "Authorization: Basic dTpw"), 401, id="401"),
            pytest.param("DELETE", None, (), 405, id="405"),
            pytest.param("POST", "x" * 70_000, (), 413, id="413"),
            pytest.param("POST", "{}", ("--header", "Content-Encoding: gzip"), 415, id="415"),
            pytest.param("POST", {}, (), 422, id="422"),
        ],
    )
    def test_answer_to_an_allowed_origin_can_be_read_by_it(self, server, user, method, body, headers, status):
        token = () if status == 401 else ("--header", f"Authorization: {bearer(user)['Authorization']}")
        sent = () if body is None else ("--data-binary", body if isinstance(body, str) else json.dumps(body))

        answer = run_curl(server, "/api/me/tasks", "--request", method, *CROSS_ORIGIN, *JSON, *token, *headers, *sent)

        assert answer.status_code == status
        assert answer.headers.get_all("Access-Control-Allow-Origin") == [ORIGIN]
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert {"Location", "ETag", "Retry-After", "X-Request-ID"} <= set(
            answer.headers["Access-Control-Expose-Headers"].split(", ")
        )
        assert "Origin" in answer.headers["Vary"]

    def test_answer_404_of_any_path_can_be_read_by_an_allowed_origin(self, curl):
        for path in ("/api/me/tasks/0", "/nowhere"):
            answer = curl("GET", path, None, *CROSS_ORIGIN)

            assert_problem(answer, 404)
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN

    def test_answer_to_another_origin_allows_it_nothing(self, curl):
        for origin in ("https://evil.example.com", f"{ORIGIN}.evil.example.com", "null"):
            answer = curl("GET", "/api/me/tasks", None, "--header", f"Origin: {origin}")

            assert answer.status_code == 200
            assert "Access-Control-Allow-Origin" not in answer.headers

    @pytest.mark.parametrize("path", ["/api/me/tasks", "/api/me/tasks/1", "/api/me/tasks/1/complete"])
    def test_preflight_without_a_token_allows_methods_and_headers(self, server, path):
        answer = run_curl(
            server, path, "--request", "OPTIONS", *CROSS_ORIGIN,
            "--header", "Access-Control-Request-Method: PATCH",
            "--header", "Access-Control-Request-Headers: authorization, content-type, idempotency-key",
        )  # fmt: skip

        assert answer.status_code in (200, 204)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(
            answer.headers["Access-Control-Allow-Methods"].split(", ")
        )
        allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"authorization", "content-type", "idempotency-key"} <= set(allowed)

    def test_preflight_from_another_origin_allows_it_nothing(self, server):
        answer = run_curl(
            server, "/api/me/tasks", "--request", "OPTIONS",
            "--header", "Origin: https://evil.example.com", "--header", "Access-Control-Request-Method: PATCH",
        )  # fmt: skip

        assert "Access-Control-Allow-Origin" not in answer.headers

    @pytest.mark.parametrize("path", ["/api/me/tasks", "/api/me/tasks/0", "/health"])
    def test_request_id_that_is_well_formed_is_echoed(self, curl, path):
        answer = curl("GET", path, None, "--header", "X-Request-ID: 7d0f/a_b-c.d:1")

        assert answer.headers.get_all("X-Request-ID") == ["7d0f/a_b-c.d:1"]

    @pytest.mark.parametrize("sent", ["two words", '{"a":1}', "ü", "x" * 129], ids=["space", "json", "umlaut", "long"])
    def test_request_id_that_is_malformed_is_replaced(self, curl, sent):
        answers = [curl("GET", "/api/me/tasks/0", None, "--header", f"X-Request-ID: {sent}") for _ in range(2)]

        ids = [answer.headers["X-Request-ID"] for answer in answers]
        assert all(re.fullmatch(r"[0-9a-f]{32}", given) for given in ids)
        assert ids[0] != ids[1]
        assert assert_problem(answers[0], 404)["request_id"] == ids[0]

    @pytest.mark.parametrize("size", [64 * 1024 + 1, 100_000])
    def test_connection_after_413_answers_the_next_request(self, server, user, size):
        with Line(server.port) as line:
            assert_problem(line.call("POST", "/api/me/tasks", bearer(user), b"x" * size), 413)
            answer = line.call("GET", "/api/me/tasks", bearer(user))

        assert (answer.status_code, answer.data) == (200, b"[]")

    @pytest.mark.parametrize("method", ["GET", "DELETE"])
    def test_connection_after_an_ignored_body_answers_the_next_request(self, server, user, task, method):
        smuggled = request("GET", "/nowhere")
        with Line(server.port) as line:
            ignored = line.call(method, path_of(task), bearer(user), smuggled)
            answer = line.call("GET", "/api/me/tasks", bearer(user))

        assert ignored.status_code == (200 if method == "GET" else 204)
        assert answer.get_json() == ([task] if method == "GET" else [])

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer x"}], ids=["none", "bad"])
    def test_connection_after_an_unread_body_of_401_answers_the_next_request(self, server, user, headers):
        with Line(server.port) as line:
            assert_problem(line.call("POST", "/api/me/tasks", headers, request("GET", "/nowhere")), 401)
            answer = line.call("GET", "/api/me/tasks", bearer(user))

        assert (answer.status_code, answer.data) == (200, b"[]")
