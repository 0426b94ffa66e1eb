"""The configuration of gunicorn for the peers: that of this service, without the settings that only it needs."""

worker_class = "gthread"
workers = 2
threads = 8
preload_app = True
keepalive = 30
loglevel = "warning"
control_socket_disable = True
