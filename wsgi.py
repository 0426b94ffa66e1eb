"""Where gunicorn and the flask command both start."""

from todo import create_app

app = create_app()
