"""The documents for people: Swagger UI and ReDoc."""
from flask import Blueprint
bp = Blueprint("docs", __name__)
