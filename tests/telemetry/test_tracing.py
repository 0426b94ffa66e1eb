"""The ids that connect a response with its log line, and a request with a trace."""

import re

import pytest

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT_ID = "00f067aa0ba902b7"
GOOD = f"00-{TRACE_ID}-{PARENT_ID}-01"


@pytest.mark.parametrize("header", ["abc", "a" * 128, "6f1c8a8e-7b1c-4a5e-9d8e-000000000000", "1-5f2/x:y.z~@=+"])
def test_request_id_well_formed_is_adopted(client, header):
    response = client.get("/nowhere", headers={"X-Request-ID": header})
    assert response.headers["X-Request-ID"] == header
    assert response.json["request_id"] == header


@pytest.mark.parametrize("header", [None, "", "a" * 129, "a b", 'a"b', "a,b", "é", "<script>"])
def test_request_id_absent_or_malformed_is_generated(client, header):
    headers = {} if header is None else {"X-Request-ID": header}
    ids = {client.get("/health", headers=headers).headers["X-Request-ID"] for _ in range(2)}
    assert len(ids) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", made) for made in ids)


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        pytest.param(GOOD, "01", id="sampled"),
        pytest.param(f"00-{TRACE_ID}-{PARENT_ID}-00", "00", id="not-sampled"),
        pytest.param(f"00-{TRACE_ID}-{PARENT_ID}-ff", "01", id="flags-that-nobody-knows"),
        pytest.param(f"01-{TRACE_ID}-{PARENT_ID}-01", "01", id="later-version"),
        pytest.param(f"cc-{TRACE_ID}-{PARENT_ID}-01-what-the-future-will-be-like", "01", id="later-version-with-more"),
    ],
)
def test_trace_that_is_well_formed_continues_in_a_new_span(client, header, flags):
    answers = [client.get("/nowhere", headers={"traceparent": header}).headers["traceparent"] for _ in range(2)]
    spans = {re.fullmatch(f"00-{TRACE_ID}-([0-9a-f]{{16}})-{flags}", answer)[1] for answer in answers}
    assert len(spans) == 2
    assert PARENT_ID not in spans


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="none"),
        pytest.param("", id="empty"),
        pytest.param(GOOD.upper(), id="upper-case"),
        pytest.param(f"00-{'0' * 32}-{PARENT_ID}-01", id="zero-trace"),
        pytest.param(f"00-{TRACE_ID}-{'0' * 16}-01", id="zero-parent"),
        pytest.param(f"{GOOD}-more", id="version-00-with-more"),
        pytest.param(f"01-{TRACE_ID}-{PARENT_ID}-01.more", id="more-without-hyphen"),
        pytest.param(f"ff-{TRACE_ID}-{PARENT_ID}-01", id="version-that-cannot-be"),
        pytest.param(f"00-{TRACE_ID[1:]}-{PARENT_ID}-01", id="short"),
        pytest.param(f"{GOOD},{GOOD}", id="two"),
        pytest.param(GOOD.replace("f", "g"), id="not-hexadecimal"),
    ],
)
def test_trace_absent_or_malformed_starts_here(client, header):
    headers = {} if header is None else {"traceparent": header}
    answers = [client.get("/health", headers=headers).headers["traceparent"] for _ in range(2)]
    traces = {re.fullmatch("00-([0-9a-f]{32})-[0-9a-f]{16}-00", answer)[1] for answer in answers}
    assert len(traces) == 2
    assert TRACE_ID not in traces
