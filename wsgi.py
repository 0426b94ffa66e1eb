"""Where gunicorn and the flask command both start."""

from config import InvalidSettings
from todo import create_app, doctor

try:
    app = create_app()
except InvalidSettings as refusal:
    app = doctor.patient(refusal)
