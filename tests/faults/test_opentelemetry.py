"""OpenTelemetry, as docs/operate/metrics.md shows it: nothing of it is in the code, and traces go through it."""

import json
import re
import subprocess

import pytest
from support import bearer
from wire.server import Server, environment, free_port, wait_until

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Instrumented(Server):
    """The server, started with the documented command in a virtual environment of its own."""

    def __init__(self, log, root, port, database_url):
        page = (root / "docs/operate/metrics.md").read_text()
        shown = re.search(r"^ *((?:OTEL_\w+=\S+ )+)\\\n *\.venv/bin/(opentelemetry-.*)$", page, re.MULTILINE)
        variables, command = shown.groups()
        tools = root / ".venv" / "otel" / "bin"
        settings = dict(variable.split("=") for variable in variables.split())
        self.log, self.port = log, port
        with log.open("w") as output:
            self.process = subprocess.Popen(
                f"{tools}/{command.replace('.venv/bin', str(tools))}".split(),
                cwd=root,
                env=environment(PORT=str(port), DATABASE_URL=database_url, PATH=f"{tools}:/usr/bin:/bin", **settings),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


def spans(server):
    """Return the spans written so far."""
    decoder, said = json.JSONDecoder(), server.log.read_text()
    return [decoder.raw_decode(said, match.start())[0] for match in re.finditer(r'^\{\n +"name"', said, re.MULTILINE)]


@pytest.fixture
def instrumented(tmp_path, root, database_url):
    server = Instrumented(tmp_path / "gunicorn.log", root, free_port(), database_url)
    try:
        server.wait_until_healthy()
        yield server
        assert server.stop() == 0
    finally:
        server.kill()


def test_trace_goes_from_the_caller_through_the_request_to_the_statement(instrumented, user):
    headers = bearer(user) | {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01"}

    created = instrumented.call("POST", "/api/me/tasks", headers, {"title": "a private matter"})

    assert created.status_code == 201
    assert created.headers["traceparent"].startswith(f"00-{TRACE_ID}-")

    def traced():
        return [span for span in spans(instrumented) if span["context"]["trace_id"] == f"0x{TRACE_ID}"]

    def of(kind):
        return [span for span in traced() if span["kind"] == f"SpanKind.{kind}"]

    wait_until(lambda: of("SERVER"), "written")
    (request,) = of("SERVER")
    assert request["name"] == "POST /api/<user_id>/tasks"
    assert request["parent_id"] == f"0x{PARENT_ID}"
    assert {statement["parent_id"] for statement in of("CLIENT")} == {request["context"]["span_id"]}
    assert "INSERT INTO" in of("CLIENT")[-1]["attributes"]["db.statement"]
    said = instrumented.log.read_text()
    assert f'"trace_id":"{TRACE_ID}"' in said
    assert "private" not in said
