"""The entry point of gunicorn and of the command `flask`."""

import sys

from config import InvalidSettings
from todo import create_app, doctor

try:
    app = create_app()
except InvalidSettings as refusal:
    # `flask` loads the application before it knows the command, and the doctor must run with wrong settings too.
    if "doctor" not in sys.argv:
        raise
    app = doctor.stub_app(refusal)
