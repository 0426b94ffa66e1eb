"""How gunicorn serves the others: as it serves us, without what only our application needs."""

worker_class = "gthread"
workers = 2
threads = 8
preload_app = True
keepalive = 30
loglevel = "warning"
control_socket_disable = True
