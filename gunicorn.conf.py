"""How gunicorn serves the application: `todo serve`, or `gunicorn -c gunicorn.conf.py wsgi:app`.

What depends on the machine comes from the settings: HOST, PORT, WEB_CONCURRENCY, WEB_THREADS, LOG_LEVEL, METRICS_PORT.
"""

import signal
import sys
from itertools import count
from pathlib import Path

# gunicorn executes this file before it puts the project's folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

import boot

settings = boot.prepare("gunicorn")

from todo import auth
from todo.events.siblings import Siblings
from todo.extensions import db

bind = settings.address
loglevel = settings.log_level.lower()

logger_class = "todo.serving.logger.Logger"

# Requests mostly wait for PostgreSQL, and a thread is the cheapest way to wait. With the database on the same machine
# the number of threads matters little (four serve a twentieth more than eight); with one 20 ms away eight serve twice
# as many as four. In the end Python itself limits a process, so more load needs more processes. Clients never occupy a
# thread, because the worker reads and writes in its event loop: when 1,000 clients pause 2 s between their calls,
# gunicorn's own threaded worker serves 294 requests/s and this one 390 (measured over 25 s).
worker_class = "todo.serving.worker.Worker"
workers = settings.web_concurrency
threads = settings.web_threads

# The application is loaded once and then forked: workers start at once and share its memory. No worker is replaced
# after a number of requests (max_requests): their memory stays flat, and each replacement cuts open connections.
preload_app = True

keepalive = boot.KEEP_ALIVE_S

# A worker without a heartbeat is replaced after this many seconds; its event loop beats even while its threads work.
timeout = 30

graceful_timeout = boot.SHUTDOWN_S

# An idle connection costs about 3 KiB and no time; one with a stream of events a little more, and half of them may have
# one. Connections beyond these wait in the backlog, and so do all while a worker starts.
worker_connections = boot.raise_file_limit()
backlog = boot.BACKLOG

# Heartbeat files on a slow disk can stall every worker at once; in memory they cannot.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nosec B108

# gunicorn would take its parser in C as soon as that is installed. It saves a fifteenth of a request's processor time,
# but its newest release responds with 400 to what is to be 413, 431, 501 or 200: to a length of many digits, too many
# header fields, a transfer coding that nobody knows, and a later minor version of HTTP.
http_parser = "python"

# Nothing uses the control socket, and two servers of one user would compete for it.
control_socket_disable = True

# A user's id of 255 characters fits, each percent-encoded, followed by a long search and a cursor; a browser with all
# its headers fits too.
limit_request_line = 8190
limit_request_fields = 64

# A token may have 8 KiB. The application, not gunicorn, should refuse a longer one, so gunicorn accepts more.
limit_request_field_size = 16384

# A header that a proxy adds and one that a client forges look the same, so TRUSTED_PROXIES alone decides which to
# trust. By default gunicorn would trust every client on this machine about the scheme and the application's root path.
secure_scheme_headers = {}
forwarder_headers = ""


def pre_request(worker, req):
    """Log nothing: gunicorn's own hook would log the path, and with it the id of a user."""


def on_starting(server):
    """Report misspelt settings, and make what the workers share before there are any: a port and sockets."""
    boot.report_misspelt(server.log.warning)
    server.siblings = Siblings(server.cfg.workers)
    server.exporter = None
    if settings.metrics_port is not None:
        # The exporter and its library stay out of processes without metrics.
        from todo.serving.exporter import Exporter  # noqa: PLC0415

        server.exporter = Exporter(server.app.wsgi(), settings)


def pre_fork(server, worker):
    """Number the worker. One that replaces a dead worker takes its number and continues its counts."""
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in count() if number not in taken)


def post_fork(server, worker):
    """Set up what processes cannot share.

    The worker gets a connection pool of its own, because two processes on one connection would read each other's
    results, and it starts to fetch the issuer's keys.
    """
    app = server.app.wsgi()
    with app.app_context():
        db.engine.dispose(close=False)
    auth.after_fork(app)
    server.siblings.join(worker.number)
    app.extensions["events"].siblings = server.siblings
    if server.exporter is not None:
        server.exporter.serve(worker.number)
    worker.unheard = server.SIG_QUEUE


def post_worker_init(worker):
    """End a worker that received a signal before it installed its handlers.

    From the fork until then its copy of the master's handler takes the signals, and gunicorn would let it serve until
    it is killed.
    """
    while not worker.unheard.empty():
        if worker.unheard.get_nowait() in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            worker.alive = False


def child_exit(server, worker):
    """Drop the metrics that describe a worker only while it lives."""
    if server.exporter is not None:
        server.exporter.forget(worker.number)


def on_exit(server):
    """Release what the workers shared."""
    server.siblings.close()
    if server.exporter is not None:
        server.exporter.close()
