"""What gunicorn has to say, in the lines of our own log."""

import logging
import re
from typing import Any

from gunicorn import glogging

from todo.telemetry.logs import Forwarder

# What gunicorn says of a request may quote it, tokens and ids of users included: of that only the beginning is kept.
# What is wrong with it is said in plain words up to a colon, a bracket or a quotation mark.
QUOTING = re.compile(
    r"Invalid request from ip=[^ :]*(:[0-9a-f:.]+)?: [A-Za-z ]*"
    r"|Error handling request"
    r"|Ignored premature client disconnection"
    r"|Closing connection"
)


def quote_nothing(record: logging.LogRecord) -> bool:
    """Cut off what may be a client's words."""
    if said := QUOTING.match(record.getMessage()):
        record.msg, record.args = said[0].strip(), ()
    return True


class Logger(glogging.Logger):  # type: ignore[misc]
    """Lets gunicorn, and every library that logs, write through us; requests have their line already."""

    def setup(self, cfg: Any) -> None:
        """Take the place of gunicorn's own handlers, at the start and at each reload."""
        super().setup(cfg)
        forwarder = Forwarder()
        logging.basicConfig(level=logging.WARNING, handlers=[forwarder], force=True)
        self.error_log.handlers = [forwarder]
        self.error_log.filters = [quote_nothing]
