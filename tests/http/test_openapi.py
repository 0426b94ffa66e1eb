"""The committed contract is the one that the code generates, and it is a valid document."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate

from todo.http import idempotency
from todo.http.openapi import REQUEST_HEADERS, VERSION
from todo.http.problems import UnprocessableContent

# The header values that a server passes on; it strips the white space around them (RFC 9110, section 5.5).
HEADER_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")).map(str.strip)
QUOTED_VALUES = st.text(st.sampled_from('a "\\'), max_size=300).map('"{}"'.format)


def test_openapi_committed_is_what_the_code_generates(client, root):
    # If this fails, run `make openapi`, and review the difference as a client would.
    assert json.loads((root / "openapi.json").read_text()) == client.get("/openapi.json").json


def test_openapi_is_valid_3_1(client):
    document = client.get("/openapi.json").json
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_openapi_lists_every_call_and_its_errors(client):
    paths = client.get("/openapi.json").json["paths"]
    body, row = {"400", "413", "415"}, {"404"}
    common = {"401", "403", "422", "429", "503"}
    read, failed, write = {"304", "412"}, {"412"}, {"412", "428"}
    expected = {
        ("/api/{user_id}/tasks", "get"): {"200"} | common | read,
        ("/api/{user_id}/tasks", "post"): {"201"} | common | body | failed,
        ("/api/{user_id}/tasks/batch", "post"): {"200"} | common | row | body | write,
        ("/api/{user_id}/tasks/changes", "get"): {"200", "410"} | common | read,
        ("/api/{user_id}/tasks/events", "get"): {"200"} | common | read,
        ("/api/{user_id}/tasks/summary", "get"): {"200"} | common | read,
        ("/api/{user_id}/tasks/{task_id}", "get"): {"200"} | common | row | read,
        ("/api/{user_id}/tasks/{task_id}", "put"): {"200"} | common | row | body | write,
        ("/api/{user_id}/tasks/{task_id}", "patch"): {"200"} | common | row | body | write,
        ("/api/{user_id}/tasks/{task_id}", "delete"): {"200", "204"} | common | row | write,
        ("/api/{user_id}/tasks/{task_id}/complete", "patch"): {"200"} | common | row | body | write,
        ("/api/{user_id}/trash", "get"): {"200"} | common | read,
        ("/api/{user_id}/trash", "delete"): {"204"} | common | failed,
        ("/api/{user_id}/trash/{task_id}", "delete"): {"204"} | common | row | failed,
        ("/api/{user_id}/trash/{task_id}/restore", "post"): {"200"} | common | row | failed,
        ("/api/{user_id}/export", "get"): {"200"} | common | read,
        ("/api/{user_id}/import", "post"): {"200"} | common | body | failed,
        ("/api/{user_id}/calendar", "get"): {"200"} | common | read,
        ("/api/{user_id}/calendar", "put"): {"201", "409"} | common | failed,
        ("/api/{user_id}/calendar", "delete"): {"204"} | common | failed,
        ("/calendar/{address}.ics", "get"): {"200", "404", "422", "429", "503"} | read,
        ("/api/{user_id}", "delete"): {"204"} | common | failed,
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


def test_openapi_names_the_public_calls(client):
    document = client.get("/openapi.json").json
    assert document["security"] == [{"bearer": []}]
    public = {
        path
        for path, item in document["paths"].items()
        for operation in item.values()
        if isinstance(operation, dict) and operation.get("security") == []
    }
    assert public == {"/", "/health", "/health/ready", "/calendar/{address}.ics"}


def test_openapi_requires_a_member_of_a_patch(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    assert [name for name, schema in schemas.items() if "minProperties" in schema] == ["TaskPatch"]
    # Generators of clients drop an operation whose body is an object and an alternative at once.
    assert schemas["TaskPatch"]["minProperties"] == 1
    assert not {"anyOf", "oneOf", "allOf"} & schemas["TaskPatch"].keys()


def test_openapi_has_one_enumeration_of_priorities(client):
    document = client.get("/openapi.json").json
    priority = document["components"]["schemas"].pop("Priority")
    assert priority == {"type": "string", "enum": ["low", "medium", "high"]}
    assert not [words for words in re.findall(r'"enum": \[[^]]*]', json.dumps(document)) if '"medium"' in words]


def test_openapi_has_the_operation_ids_that_clients_are_generated_with(client):
    document = client.get("/openapi.json").json
    assert document["servers"] == [{"url": "/"}]
    assert [operation["operationId"] for operation, _ in operations(document)] == [
        "listTasks",
        "createTask",
        "listChanges",
        "summarizeTasks",
        "getTask",
        "replaceTask",
        "updateTask",
        "deleteTask",
        "completeTask",
        "streamEvents",
        "runBatch",
        "listTrash",
        "emptyTrash",
        "restoreTask",
        "discardTask",
        "exportUser",
        "eraseUser",
        "importTasks",
        "getCalendar",
        "putCalendar",
        "deleteCalendar",
        "readCalendar",
        "getRoot",
        "getHealth",
        "getReadiness",
    ]


@pytest.mark.parametrize(("prefix", "url"), [("", "/"), ("/behind/a-prefix", "/behind/a-prefix")])
def test_openapi_served_behind_a_prefix_names_it_as_the_server(client, prefix, url):
    served = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": prefix})
    assert served.content_type == "application/json"
    assert served.json == client.get("/openapi.json").json | {"servers": [{"url": url}]}


def test_openapi_gives_a_body_to_responses_that_have_one(client):
    document = client.get("/openapi.json").json
    for operation, _ in operations(document):
        for status, response in operation["responses"].items():
            assert ("content" in resolved(document, response)) is (status not in ("204", "304"))
    export = document["paths"]["/api/{user_id}/export"]["get"]["responses"]["200"]
    assert export["content"] == {"application/x-ndjson": {"schema": {"type": "string"}}}


def test_openapi_accepts_merge_patches(client):
    for path in ("/api/{user_id}/tasks/{task_id}", "/api/{user_id}/tasks/{task_id}/complete"):
        patch = client.get("/openapi.json").json["paths"][path]["patch"]
        assert set(patch["requestBody"]["content"]) == {"application/json", "application/merge-patch+json"}


def test_openapi_tells_the_operations_of_a_batch_apart(client):
    schemas = client.get("/openapi.json").json["components"]["schemas"]
    operations = schemas["BatchIn"]["properties"]["operations"]
    assert (operations["minItems"], operations["maxItems"]) == (1, 100)
    mapping = operations["items"]["discriminator"]["mapping"]
    assert operations["items"]["discriminator"]["propertyName"] == "op"
    assert operations["items"]["oneOf"] == [{"$ref": reference} for reference in mapping.values()]
    assert list(mapping) == ["create", "update", "delete", "restore"]
    for kind, reference in mapping.items():
        operation = schemas[reference.removeprefix("#/components/schemas/")]
        assert operation["properties"]["op"]["enum"] == [kind]
        assert "op" in operation["required"]
        assert "additionalProperties" not in operation


def test_openapi_links_lead_to_calls_with_their_parameters(client):
    document = client.get("/openapi.json").json
    accepted = {
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
        assert {name.removeprefix("header.") for name in link["parameters"]} <= accepted[link["operationId"]]


def test_openapi_fills_no_optional_parameter_in(client):
    # Swagger UI fills each `example` into its form, so a call that is tried out would be sent with every filter.
    document = client.get("/openapi.json").json
    filled = {
        parameter["name"]
        for _, parameters in operations(document)
        for parameter in parameters
        if "example" in parameter or "example" in parameter["schema"]
    }
    assert filled == {"user_id"}


def operations(document):
    """Yield each operation and its parameters."""
    for item in document["paths"].values():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                parameters = [*shared, *operation.get("parameters", [])]
                yield operation, [resolved(document, parameter) for parameter in parameters]


def resolved(document, part):
    """Return the target of a reference, or the part itself."""
    if "$ref" not in part:
        return part
    for name in part["$ref"].split("/")[1:]:
        document = document[name]
    return document


def test_version_is_the_same_everywhere(root):
    assert f'version = "{VERSION}"' in (root / "pyproject.toml").read_text()
    assert f"## {VERSION}" in (root / "CHANGELOG.md").read_text()


@settings(deadline=None)
@given(HEADER_VALUES | QUOTED_VALUES)
def test_pattern_of_idempotency_key_accepts_what_the_service_accepts(key):
    if re.fullmatch(REQUEST_HEADERS["Idempotency-Key"]["schema"]["pattern"], key):
        idempotency.parse(key, {})
    else:
        with pytest.raises(UnprocessableContent):
            idempotency.parse(key, {})
