# Public defaults for local work, read by the flask command. Never a secret: those belong in .env.
FLASK_APP=wsgi
