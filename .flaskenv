# Read by the command flask. It holds nothing secret: secrets belong in .env.
FLASK_APP=wsgi
