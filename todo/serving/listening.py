"""The port that a process binds for itself and for those that it forks."""

import errno
import os
import socket
import time

from todo.telemetry.logs import log

# A port in use is tried this many times, a second apart, as gunicorn tries that of the service: a server that was told
# to stop a moment ago still holds its ports.
ATTEMPTS = 5
RETRY_S = 1.0


def listen(setting: str, host: str, port: int | None) -> socket.socket:
    """Bind a port, for this process and those that it forks. A port in use is tried again.

    Args:
        setting: The setting that the port comes from, as messages name it.
        host: The IP address or host name to listen on.
        port: The port.

    Raises:
        SystemExit: the port cannot be bound.

    """
    # Every address of IPv6 includes every one of IPv4.
    is_ipv6 = ":" in host
    family, is_dual = socket.AF_INET6 if is_ipv6 else socket.AF_INET, is_ipv6 and socket.has_dualstack_ipv6()
    attempt = 1
    while True:
        try:
            return socket.create_server((host, port), family=family, dualstack_ipv6=is_dual)
        except OSError as error:
            number = error.errno or 0
            if number != errno.EADDRINUSE or attempt == ATTEMPTS:
                # The resolver's errors have negative numbers.
                fault = os.strerror(number) if number >= 0 else f"there is no host {host}"
                raise SystemExit(f"todo cannot start: {setting} {port} cannot be bound: {fault}.") from None
        log.warning("port in use", setting=setting, port=port, attempt=attempt)
        time.sleep(RETRY_S)
        attempt += 1
