"""How gunicorn serves the application: a worker whose threads never wait for a client's network."""
