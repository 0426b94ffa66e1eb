"""The secret address of a calendar, where a real server could show it."""

from urllib.parse import urlsplit

import pytest
from support import bearer
from wire.server import Line, free_port, wait_until


@pytest.mark.slow
def test_server_that_served_and_failed_has_logged_no_address(serve, database_url, user):
    metrics = free_port()
    server = serve(
        DATABASE_URL=database_url, LOG_LEVEL="DEBUG", PUBLIC_URL="https://api.example.com", METRICS_PORT=str(metrics)
    )
    url = server.call("PUT", "/api/me/calendar", bearer(user)).get_json()["url"]
    path = urlsplit(url).path
    secret = path.removesuffix(".ics").rpartition(".")[2]
    answered = []
    for method, target, headers in (
        ("GET", path, {}),
        ("HEAD", path, {}),
        ("GET", f"{path}?as=x", {}),
        ("POST", path, {}),
        ("GET", path[:-5], {}),
        ("GET", f"/x{path}", {}),
        ("GET", f"http://localhost{path}", {}),
        ("GET", path, {"Bad header": "x"}),
        ("GET", path, {"Transfer-Encoding": "x"}),
        ("GET", f"{path}{'x' * 9000}", {}),
        ("B@D", path, {}),
    ):
        with Line(server.port) as line:
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            line.send(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{head}Connection: close\r\n\r\n".encode())
            answered.append(line.receive_all())
    statuses = [int(answer.split()[1]) for answer in answered]
    assert statuses[:7] == [200, 200, 422, 405, 404, 404, 200]
    assert min(statuses[7:]) >= 400
    assert [answer for answer in answered if secret.encode() in answer] == []

    with Line(metrics) as line:
        line.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        shown = line.receive_all()
    assert b"/calendar/<address>.ics" in shown
    assert secret.encode() not in shown
    wait_until(lambda: "/calendar/<address>.ics" in server.log.read_text(), "logged")
    assert server.stop() == 0
    assert secret not in server.log.read_text()
