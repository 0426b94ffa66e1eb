"""The committed contract is the one that the code speaks, and it is a good document."""

import json

from openapi_spec_validator import validate
from support import WRITABLE_MEMBERS

from todo.http.openapi import VERSION


def test_openapi_committed_is_what_the_code_generates(client, root):
    # When this fails: `make openapi`, and read the difference as a client would.
    assert json.loads((root / "openapi.json").read_text()) == client.get("/openapi.json").json


def test_openapi_is_valid_3_1(client):
    document = client.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_openapi_lists_every_call_and_which_errors_it_has(client):
    paths = client.get("/openapi.json").json["paths"]
    body, row = {"400", "413", "415"}, {"404"}
    common = {"401", "403", "422", "429", "503"}
    known, changed = {"304"}, {"412", "428"}
    expected = {
        ("/api/{user_id}/tasks", "get"): {"200"} | common | known,
        ("/api/{user_id}/tasks", "post"): {"201"} | common | body,
        ("/api/{user_id}/tasks/changes", "get"): {"200", "410"} | common | known,
        ("/api/{user_id}/tasks/summary", "get"): {"200"} | common,
        ("/api/{user_id}/tasks/{task_id}", "get"): {"200"} | common | row | known,
        ("/api/{user_id}/tasks/{task_id}", "put"): {"200"} | common | row | body | changed,
        ("/api/{user_id}/tasks/{task_id}", "patch"): {"200"} | common | row | body | changed,
        ("/api/{user_id}/tasks/{task_id}", "delete"): {"200", "204"} | common | row | changed,
        ("/api/{user_id}/tasks/{task_id}/complete", "patch"): {"200"} | common | row | body | changed,
        ("/api/{user_id}/trash", "get"): {"200"} | common,
        ("/api/{user_id}/trash", "delete"): {"204"} | common,
        ("/api/{user_id}/trash/{task_id}", "delete"): {"204"} | common | row,
        ("/api/{user_id}/trash/{task_id}/restore", "post"): {"200"} | common | row,
        ("/api/{user_id}/export", "get"): {"200"} | common,
        ("/api/{user_id}", "delete"): {"204"} | common,
        ("/", "get"): {"200", "503"},
        ("/health", "get"): {"200"},
        ("/health/ready", "get"): {"200", "503"},
    }
    assert {
        (path, method): set(operation["responses"])
        for path, item in paths.items()
        for method, operation in item.items()
        if method != "parameters"
    } == expected


def test_openapi_says_which_calls_are_public(client):
    document = client.get("/openapi.json").json
    assert document["security"] == [{"bearer": []}]
    public = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict) and operation.get("security") == []
    }
    assert public == {"/", "/health", "/health/ready"}


def test_openapi_says_that_a_patch_changes_something(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    assert schemas["TaskPatch"]["anyOf"] == [{"required": [member]} for member in WRITABLE_MEMBERS]
    assert "anyOf" not in schemas["TaskIn"]


def test_openapi_lets_patches_be_merge_patches(client):
    for path in ("/api/{user_id}/tasks/{task_id}", "/api/{user_id}/tasks/{task_id}/complete"):
        patch = client.get("/openapi.json").json["paths"][path]["patch"]
        assert set(patch["requestBody"]["content"]) == {"application/json", "application/merge-patch+json"}


def test_openapi_links_lead_to_calls_that_take_what_they_give(client):
    document = client.get("/openapi.json").json
    takes = {
        operation.get("operationId"): {parameter["name"] for parameter in parameters}
        for operation, parameters in operations(document)
    }
    links = [
        resolved(document, link)
        for operation, _ in operations(document)
        for response in operation["responses"].values()
        for link in response.get("links", {}).values()
    ]
    assert {link["operationId"] for link in links} == {
        link["operationId"] for link in document["components"]["links"].values()
    }
    for link in links:
        assert {name.removeprefix("header.") for name in link["parameters"]} <= takes[link["operationId"]]


def test_openapi_fills_in_no_parameter_that_nobody_asked_for(client):
    # Pages put an `example` into the form, so a call that is tried out would have every filter there is.
    document = client.get("/openapi.json").json
    filled = {
        parameter["name"]
        for _, parameters in operations(document)
        for parameter in parameters
        if "example" in parameter or "example" in parameter["schema"]
    }
    assert filled == {"user_id"}


def operations(document):
    """Give every operation, and its parameters."""
    for item in document["paths"].values():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                parameters = [*shared, *operation.get("parameters", [])]
                yield operation, [resolved(document, parameter) for parameter in parameters]


def resolved(document, part):
    """Give what a reference means."""
    if "$ref" not in part:
        return part
    for name in part["$ref"].split("/")[1:]:
        document = document[name]
    return document


def test_version_is_the_same_everywhere(root):
    assert f'version = "{VERSION}"' in (root / "pyproject.toml").read_text()
    assert f"## {VERSION}" in (root / "CHANGELOG.md").read_text()
