"""Which requests are accepted, and how the faults of the others are reported."""

import json
from io import BytesIO

import pytest
from marshmallow import Schema, fields
from support import assert_problem, bearer, sized

from todo.http import requests
from todo.http.requests import preference

LIMIT = 64 * 1024


@pytest.fixture
def post(client, user):
    """Return a function that sends a body to the creation of a task."""

    def post(data=None, *, content_type="application/json", path="", **headers):
        sent = {"Authorization": bearer(user)["Authorization"]} | headers
        return client.post(f"/api/me/tasks{path}", data=data, content_type=content_type, headers=sent)

    return post


@pytest.fixture
def patch(client, user):
    """Return a function that sends a body to the change of a task."""
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json

    def patch(data=None, *, content_type="application/json", **headers):
        sent = {"Authorization": bearer(user)["Authorization"]} | headers
        url = f"/api/me/tasks/{task['id']}"
        return client.patch(url, data=data, content_type=content_type, headers=sent)

    return patch


def chunked(stream):
    """Return the WSGI environment of a chunked body, whose length is unknown."""
    return {"wsgi.input": stream, "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}


def nested(depth):
    """Return a valid body of this depth."""
    return b'{"title":"x","deep":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"{", id="truncated"),
        pytest.param(b"title=x", id="a form"),
        pytest.param(b'{"title": "x",}', id="trailing comma"),
        pytest.param(b"{'title': 'x'}", id="single quotes"),
        pytest.param(b'{"title": "x"} {}', id="two documents"),
        pytest.param(b'{"title": NaN}', id="NaN"),
        pytest.param(b'{"title": "x", "n": Infinity}', id="Infinity"),
        pytest.param(b'{"title": "x", "n": -Infinity}', id="-Infinity"),
        pytest.param(b'{"title": "x", "n": 1e999}', id="a number beyond the range of floats"),
        pytest.param(b'{"title": "\xff"}', id="not UTF-8"),
        pytest.param('{"title": "é"}'.encode("latin-1"), id="Latin-1"),
        pytest.param('{"title": "x"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"title": "x"}', id="byte order mark"),
        pytest.param(b'{"title": "\\ud800"}', id="lone high surrogate"),
        pytest.param(b'{"title": "\\udc00x"}', id="lone low surrogate"),
        pytest.param(b'{"title": "x", "\\ud800": 1}', id="lone surrogate in a name"),
        pytest.param(b'{"title": "\xed\xa0\x80"}', id="surrogate in UTF-8"),
        pytest.param(b'{"title": "a\nb"}', id="raw line feed in a string"),
        pytest.param(b"\0", id="NUL"),
        pytest.param(b" ", id="white space alone"),
        pytest.param(nested(101), id="101 levels"),
        pytest.param(b"[" * 5000 + b"]" * 5000, id="5000 levels"),
        pytest.param(b'{"a":' * 5000 + b"1" + b"}" * 5000, id="5000 objects"),
        pytest.param(b"[" * 60_000, id="60000 brackets"),
    ],
)
def test_body_that_is_not_json_is_400(client, user, post, data):
    problem = assert_problem(post(data), 400)
    assert "JSON" in problem["detail"] or "nested" in problem["detail"]
    assert client.get("/api/me/tasks", headers=bearer(user)).json == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(nested(100), id="100 levels"),
        pytest.param(b'{"title":"x","wide":[' + b"[],{}," * 5000 + b"[]]}", id="thousands of brackets side by side"),
        pytest.param(b'{"title":"[[[[' + b"[" * 180 + b'"}', id="brackets in a string"),
        pytest.param(b'{"title":"y","title":"x"}', id="a member twice: the last one counts"),
        pytest.param(b'{"title":"\\ud83d\\ude00"}', id="a surrogate pair"),
        pytest.param(b' \r\n\t{"title":"x"} ', id="white space around"),
        pytest.param(b'{"title":"x","n":123456789012345678901234567890}', id="a large number"),
        pytest.param(sized(LIMIT), id="64 KiB"),
    ],
)
def test_body_that_is_json_is_accepted(post, data):
    assert post(data).status_code == 201


@pytest.mark.parametrize("data", [b"[]", b'"x"', b"5", b"null", b"true", b"[{}]"])
def test_body_that_is_not_an_object_is_422(post, patch, client, user, data):
    for response in (post(data), patch(data)):
        problem = assert_problem(response, 422, "The body must be a JSON object.")
        assert problem["errors"] == [{"pointer": "#", "detail": "The body must be a JSON object."}]


def test_body_absent_where_one_is_required_is_422(post, patch):
    for send in (post, patch):
        for content_type in ("application/json", None, "text/plain"):
            problem = assert_problem(send(b"", content_type=content_type), 422, "A JSON body is required.")
            assert problem["errors"] == [{"pointer": "#", "detail": "A JSON body is required."}]


@pytest.mark.parametrize("data", [sized(LIMIT + 1), b"x" * 10_000_000])
def test_body_over_64_kib_is_413(post, patch, data):
    assert_problem(post(data), 413)
    assert_problem(patch(data, content_type="text/plain"), 413)


@pytest.mark.parametrize("data", [sized(LIMIT + 1), b"x" * 20_000_000])
def test_body_over_64_kib_without_a_length_is_413(client, user, data):
    assert_problem(client.post("/api/me/tasks", headers=bearer(user), environ_overrides=chunked(BytesIO(data))), 413)


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON", "application/json; charset=utf-8", None, ""]
)
def test_body_of_json_or_of_no_media_type_is_accepted(post, content_type):
    assert post(b'{"title": "x"}', content_type=content_type).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "application/vnd.api+json",
        "application/merge-patch+json",
        "json",
    ],
)
def test_body_of_another_media_type_is_415(post, content_type):
    response = post(b'{"title": "x"}', content_type=content_type)
    assert_problem(response, 415, "The request body must have the media type application/json.")
    assert response.headers["Accept"] == "application/json"


def test_patch_of_another_media_type_names_both(patch):
    response = patch(b'{"title": "x"}', content_type="application/json-patch+json")
    assert_problem(response, 415)
    assert response.headers["Accept"] == "application/json, application/merge-patch+json"


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "gzip, identity", "x"])
def test_body_with_a_content_coding_is_415(post, coding):
    response = post(b'{"title": "x"}', **{"Content-Encoding": coding})
    assert_problem(response, 415)
    assert response.headers["Accept-Encoding"] == "identity"


def test_body_with_the_coding_identity_is_accepted(post):
    assert post(b'{"title": "x"}', **{"Content-Encoding": "identity"}).status_code == 201


@pytest.mark.parametrize("length", [64 * 1024 + 1, 10**12, 10**40])
def test_body_that_states_a_length_over_64_kib_is_413_whatever_arrives(client, user, length):
    response = client.post(
        "/api/me/tasks", headers=bearer(user), data=b"{", environ_overrides={"CONTENT_LENGTH": str(length)}
    )
    assert_problem(response, 413)


@pytest.mark.parametrize("error", [OSError, RuntimeError], ids=["disconnected client", "server's own exception"])
def test_body_over_64_kib_whose_rest_breaks_off_is_413(client, user, error):
    class Endless(BytesIO):
        def readinto(self, buffer):
            if self.tell() > 64 * 1024:
                raise error("the rest is malformed")
            return super().readinto(buffer)

        def read(self, size=-1):
            if self.tell() > 64 * 1024:
                raise error("the rest is malformed")
            return super().read(size)

    response = client.post("/api/me/tasks", headers=bearer(user), environ_overrides=chunked(Endless(b"x" * 100_000)))
    assert_problem(response, 413)


@pytest.mark.parametrize("error", [OSError, RuntimeError], ids=["disconnected client", "server's own exception"])
def test_body_that_is_cut_short_is_400(client, user, error):
    class Broken(BytesIO):
        def readinto(self, _):
            raise error("chunk size is not a number")

        read = readinto

    response = client.post("/api/me/tasks", headers=bearer(user), environ_overrides=chunked(Broken()))
    problem = assert_problem(response, 400)
    assert "chunk" not in json.dumps(problem)


@pytest.mark.parametrize(
    ("prefer", "strict"),
    [
        (None, False),
        ("handling=strict", True),
        ("handling=lenient", False),
        ("Handling = Strict", True),
        ('handling="strict"', True),
        ("return=minimal, handling=strict", True),
        ("respond-async;x=1, handling=strict; y=2", True),
        ("handling=lenient, handling=strict", False),
        ("handling=strict, handling=lenient", True),
        ("handling", False),
        ("xhandling=strict", False),
        (",,;=", False),
    ],
)
def test_prefer_handling_follows_rfc_7240(app, prefer, strict):
    with app.test_request_context("/", headers={"Prefer": prefer} if prefer else {}):
        assert (preference("handling") == "strict") is strict


def test_strict_names_each_unknown_member_and_the_nearest_known_one(post):
    body = json.dumps({"title": "x", "titel": "y", "Description": "z", "a/b~c description %": 1})
    response = post(body, Prefer="handling=strict")
    problem = assert_problem(response, 422)
    assert problem["errors"] == [
        {"pointer": "#/titel", "detail": "titel is not known here; did you mean title?"},
        {"pointer": "#/Description", "detail": "Description is not known here; did you mean description?"},
        {
            "pointer": "#/a~1b~0c%20description%20%25",
            "detail": "a/b~c description % is not known here; did you mean description?",
        },
    ]
    assert response.headers["Preference-Applied"] == "handling=strict"


def test_strict_reports_broken_rules_beside_unknown_members(post):
    problem = assert_problem(post(b'{"titel": "x", "completed": 1}', Prefer="handling=strict"), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/titel", "#/title", "#/completed"]


def test_strict_patch_of_unknown_members_alone_names_them(patch):
    problem = assert_problem(patch(b'{"titel": "x"}', Prefer="handling=strict"), 422)
    assert [error["pointer"] for error in problem["errors"]] == ["#/titel"]


def test_strict_body_that_is_not_an_object_is_422(patch):
    response = patch(b"[]", Prefer="handling=strict")
    assert_problem(response, 422)
    assert response.headers["Preference-Applied"] == "handling=strict"


def test_strict_complete_accepts_completed_alone(client, user, patch):
    task = client.get("/api/me/tasks", headers=bearer(user)).json[0]
    url, strict = f"/api/me/tasks/{task['id']}/complete", bearer(user) | {"Prefer": "handling=strict"}
    problem = assert_problem(client.patch(url, headers=strict, json={"title": "y", "finished": True}), 422)
    assert problem["errors"] == [
        {"pointer": "#/title", "detail": "title is not known here; did you mean completed?"},
        {"pointer": "#/finished", "detail": "finished is not known here; did you mean completed?"},
    ]
    assert client.get("/api/me/tasks", headers=bearer(user)).json == [task]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("POST", "", {"title": "x"}),
        ("GET", "/{id}", None),
        ("PUT", "/{id}", {"title": "x"}),
        ("PATCH", "/{id}", {"title": "x"}),
        ("PATCH", "/{id}/complete", None),
        ("DELETE", "/{id}", None),
    ],
)
def test_strict_names_each_unknown_parameter_and_confirms_the_preference(client, user, method, path, body):
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json
    url, strict = f"/api/me/tasks{path.format(id=task['id'])}", bearer(user) | {"Prefer": "handling=strict"}
    refused = client.open(f"{url}?colour=red&statsu=done", method=method, headers=strict, json=body)
    problem = assert_problem(refused, 422)
    # Only a call with query parameters has names to suggest.
    hints = {
        "": ("; did you mean count?", "; did you mean status?"),
        "/{id}/complete": ("; did you mean complete?", "; did you mean is_complete?"),
    }
    colour, statsu = hints.get(path, (".", ".")) if method in ("GET", "PATCH") else (".", ".")
    assert problem["errors"] == [
        {"parameter": "colour", "detail": f"colour is not known here{colour}"},
        {"parameter": "statsu", "detail": f"statsu is not known here{statsu}"},
    ]
    assert client.get("/api/me/tasks", headers=bearer(user)).json == [task]
    accepted = client.open(url, method=method, headers=strict, json=body and task | body)
    assert accepted.status_code in (200, 201, 204)
    for response in (refused, accepted):
        assert response.headers["Preference-Applied"] == "handling=strict"


def test_strict_without_a_required_body_names_that_and_the_parameters(post):
    response = post(b"", path="?colour=red", Prefer="handling=strict")
    problem = assert_problem(response, 422)
    assert [error.get("parameter", error.get("pointer")) for error in problem["errors"]] == ["colour", "#"]
    assert response.headers["Preference-Applied"] == "handling=strict"


@pytest.mark.parametrize(("number", "more"), [(100, None), (101, 1), (4000, 3900)])
def test_strict_with_many_unknown_members_names_a_hundred_and_how_many_more(post, number, more):
    members = {f"titl{index}": 0 for index in range(number)}
    problem = assert_problem(post(json.dumps({"title": "x"} | members), Prefer="handling=strict"), 422)
    assert [error["pointer"] for error in problem["errors"]] == [f"#/{name}" for name in list(members)[:100]]
    assert problem.get("more") == more
    assert problem["detail"].endswith(f" There are {number - 10} more faults.")


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({f"{index:x}": 0 for index in range(6_000)}, id="many-names"),
        pytest.param({f"{index}é" + "\x7f" * 600: 0 for index in range(106)}, id="long-names"),
        pytest.param({"\x01" * 10_000: 0}, id="one-name"),
        pytest.param({"tags": [0] * 20_000}, id="elements"),
        pytest.param({"tags": ["x" * 51] * 1_100}, id="long-elements"),
    ],
)
@pytest.mark.parametrize("prefer", ["handling=strict", "handling=lenient"])
def test_problem_of_a_body_of_64_kib_is_at_most_six_times_as_large(post, members, prefer):
    body = json.dumps(members | {"title": 1}, separators=(",", ":"), ensure_ascii=False)
    assert len(body.encode()) <= 64 * 1024

    response = post(body, Prefer=prefer)

    assert_problem(response, 422)
    assert len(response.data) < 6 * 64 * 1024


def test_strict_with_thousands_of_unknown_members_names_the_first_in_detail(post):
    members = {f"titl{number}": 0 for number in range(4000)}
    problem = assert_problem(post(json.dumps({"title": "x"} | members), Prefer="handling=strict"), 422)
    assert problem["detail"].startswith("titl0 is not known here; did you mean title? titl1 is")
    assert problem["detail"].endswith(" There are 3990 more faults.")


def test_strict_accepts_a_task_as_it_was_read(client, user):
    task = client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"}).json
    url, strict = f"/api/me/tasks/{task['id']}", bearer(user) | {"Prefer": "handling=strict"}
    for method in ("PUT", "PATCH"):
        assert client.open(url, method=method, headers=strict, json=task).status_code == 200


def test_lenient_confirms_no_preference(post):
    assert "Preference-Applied" not in post(b'{"title": "x"}', Prefer="return=minimal").headers


def test_load_body_of_known_members_without_faults_returns_them(app):
    class Nothing(Schema):
        known = fields.Integer()

    with app.test_request_context("/"):
        assert requests.load_body(Nothing(), {"known": 1}, frozenset({"known"}), [], strict=True) == {"known": 1}
