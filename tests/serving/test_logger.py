"""Messages of gunicorn about requests, which must not quote them."""

import logging

import pytest
from gunicorn.http import errors

from todo.serving.logger import remove_quotation

SECRET = "GET /api/user-123/tasks?search=oat%20milk token: (Bearer eyJ) 'é"


def filtered(message, *args):
    """Return what remains of a message of gunicorn."""
    record = logging.LogRecord("gunicorn.error", logging.WARNING, __file__, 1, message, args, None)
    assert remove_quotation(record)
    return record.getMessage()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidRequestLine(SECRET), "Invalid HTTP request line"),
        (errors.InvalidRequestMethod(SECRET), "Invalid HTTP method"),
        (errors.InvalidHTTPVersion(SECRET), "Invalid HTTP Version"),
        (errors.InvalidHeader(SECRET), "Invalid HTTP Header"),
        (errors.InvalidHeaderName(SECRET), "Invalid HTTP header name"),
        (errors.ObsoleteFolding(SECRET), "Obsolete line folding is unacceptable"),
        (errors.UnsupportedTransferCoding(SECRET), "Unsupported transfer coding"),
        (errors.InvalidChunkSize(SECRET), "Invalid chunk size"),
        (errors.ChunkMissingTerminator(SECRET), "Invalid chunk terminator is not"),
        (errors.ExpectationFailed(SECRET), "Unable to comply with expectation"),
        (errors.ForbiddenProxyRequest(SECRET), "Proxy request from"),
        (errors.LimitRequestLine(9000, 8190), "Request Line is too large"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
@pytest.mark.parametrize("address", ["127.0.0.1", "2001:db8::1", ""], ids=["v4", "v6", "socket"])
def test_request_that_cannot_be_parsed_is_named_by_its_fault_and_not_quoted(error, kind, address):
    assert filtered(f"Invalid request from ip={address}: {error}") == f"Invalid request from ip={address}: {kind}"


@pytest.mark.parametrize(
    ("message", "args"),
    [
        ("Error handling request %s %s", ("GET", SECRET)),
        ("Error handling request %s", (SECRET,)),
        ("Ignored premature client disconnection. %s", (errors.NoMoreData(SECRET),)),
        ("Closing connection. %s", (SECRET,)),
    ],
)
def test_request_that_failed_or_was_cut_off_is_not_quoted(message, args):
    assert filtered(message, *args) == message.partition("%")[0].strip(" .")


def test_message_that_is_not_about_a_request_is_kept_in_full():
    assert filtered("Booting worker with pid: %s", 7) == "Booting worker with pid: 7"
