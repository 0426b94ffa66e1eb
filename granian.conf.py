"""How Granian serves the application: `todo serve --server granian`, or `python granian.conf.py`.

What depends on the machine comes from the settings: HOST, PORT, WEB_CONCURRENCY, WEB_THREADS, LOG_LEVEL, METRICS_PORT.
"""

import boot

settings = boot.prepare("granian")

from todo.serving import granian

granian.serve(settings)
