"""How gunicorn serves the application: `gunicorn -c gunicorn.conf.py wsgi:app`.

What depends on the machine comes from the settings: HOST, PORT, WEB_CONCURRENCY, WEB_THREADS, LOG_LEVEL, METRICS_PORT.
"""

import ctypes
import resource
import signal
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

# gunicorn reads this file before it puts the folder on the path.
sys.path.insert(0, str(Path(__file__).parent))

from config import Config

settings = Config.from_environment()

# PyJWT imports this where it is installed, and it takes 5 MiB of each process; a shared secret needs nothing of it.
if settings.jwks_url is None:
    sys.modules["cryptography"] = None

# With glibc each thread takes memory from a heap of its own and gives none back. Threads that take turns do with one.
with suppress(AttributeError, OSError):
    M_ARENA_MAX = -8
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)

from todo import auth
from todo.extensions import db
from todo.telemetry import logs

bind = f"{settings.host}:{settings.port}"
loglevel = settings.log_level.lower()

# One log for all: gunicorn's lines look like those of the application, and go where those go.
logs.configure(settings)
logger_class = "todo.serving.logger.Logger"

# Requests mostly wait for PostgreSQL, and a thread is the cheapest way to wait. With the database at hand their number
# matters little (four serve a twentieth more than eight); with one 20 ms away eight serve twice as many as four. A
# process is held up by Python itself in the end, so more load wants more processes. Clients never hold up a thread:
# that is the worker's doing; gunicorn's own answers a sixteenth of what this one does when 1,000 clients pause 2 s
# between their calls.
worker_class = "todo.serving.worker.Worker"
workers = settings.web_concurrency
threads = settings.web_threads

# The application is loaded once and then forked: workers start at once and share its memory. None is replaced after
# a number of requests (max_requests): its memory stays flat, and each replacement cuts connections that are kept alive.
preload_app = True

# Browsers and proxies reuse a connection for a while; opening one costs more than keeping it.
keepalive = 30

# A worker that shows no sign of life is replaced after this; its event loop beats even while threads work.
timeout = 30

# On SIGTERM, requests under way get this long to be answered. Orchestrators usually kill after 30 s.
graceful_timeout = 25

# Each connection is a file. A soft limit below the hard one is a relic of select(), which nobody uses here.
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
files = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))

# An idle connection costs some 3 KiB and no time. Those beyond wait in the backlog, and so do all while a worker
# starts; the kernel may shorten it (net.core.somaxconn).
worker_connections = min(8192, files - 256)
backlog = 4096

# Heartbeat files on a disk can stall every worker at once; memory cannot.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # nosec B108

# Nobody talks to the control socket, and two servers of one user would fight over it.
control_socket_disable = True

# An id of 255 characters, each percent-encoded, fits, and a long search and a cursor behind it; a browser with all its
# headers does too.
limit_request_line = 8190
limit_request_fields = 64

# A token may have 8 KiB. One that has more should still get our answer, and not gunicorn's.
limit_request_field_size = 16384

# What a proxy writes into a header and what a client makes up look the same, so TRUSTED_PROXIES alone says whom to
# believe. gunicorn would believe everybody on this machine about the scheme, and about where the application is.
secure_scheme_headers = {}
forwarder_headers = ""


def pre_request(worker, req):
    """Say nothing: gunicorn's own hook writes the path into the log, and with it the id of a user."""


def on_starting(server):
    """Take the port of the metrics before there are workers, which all serve it."""
    server.exporter = None
    if settings.metrics_port is not None:
        # Nothing of it is imported where nobody asks for it.
        from todo.serving.exporter import Exporter  # noqa: PLC0415

        server.exporter = Exporter(server.app.wsgi(), settings)


def pre_fork(server, worker):
    """Number the worker: the one that takes a dead one's place goes on with its counts."""
    taken = {other.number for other in server.WORKERS.values()}
    worker.number = next(number for number in count() if number not in taken)


def post_fork(server, worker):
    """Give the worker what processes cannot share.

    A pool of its own, because two processes on one connection would read each other's answers; and the issuer's keys.
    """
    app = server.app.wsgi()
    with app.app_context():
        db.engine.dispose(close=False)
    auth.after_fork(app)
    if server.exporter is not None:
        server.exporter.serve(worker.number)
    worker.unheard = server.SIG_QUEUE


def post_worker_init(worker):
    """End a worker that was told to before it listened to signals: gunicorn would let it serve until it is killed.

    From the fork on until then, the worker's copy of the master takes its signals.
    """
    while not worker.unheard.empty():
        if worker.unheard.get_nowait() in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            worker.alive = False


def child_exit(server, worker):
    """Forget what was true of a worker only while it lived."""
    if server.exporter is not None:
        server.exporter.forget(worker.number)


def on_exit(server):
    """Leave nothing behind."""
    if server.exporter is not None:
        server.exporter.close()
