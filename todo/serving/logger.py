"""The messages of gunicorn as lines of the application's log."""

import logging
import re
from typing import Any

from gunicorn import glogging

from todo.telemetry.logs import Forwarder

# A message of gunicorn about a request may quote the request, with tokens and ids of users. Only its beginning is kept:
# the fault is named in plain words up to a colon, a bracket or a quotation mark.
MESSAGES_THAT_QUOTE = re.compile(
    r"Invalid request from ip=[^ :]*(:[0-9a-f:.]+)?: [A-Za-z ]*"
    r"|Error handling request"
    r"|Application callable raised an exception"
    r"|Ignored premature client disconnection"
    r"|Closing connection"
)


def remove_quotation(record: logging.LogRecord) -> bool:
    """Cut off the part of a message that may quote a request."""
    if match := MESSAGES_THAT_QUOTE.match(record.getMessage()):
        record.msg, record.args = match[0].strip(), ()
    return True


class Logger(glogging.Logger):  # type: ignore[misc]
    """Forwards the log of gunicorn and of all libraries. There is no access log, as each request is logged already."""

    def setup(self, cfg: Any) -> None:
        """Replace gunicorn's own handlers, at the start and at each reload."""
        super().setup(cfg)
        forwarder = Forwarder()
        logging.basicConfig(level=logging.WARNING, handlers=[forwarder], force=True)
        self.error_log.handlers = [forwarder]
        self.error_log.filters = [remove_quotation]
