"""The front door and the two questions an orchestrator asks: are you up, and can you work?"""

from functools import cache

from alembic.script import ScriptDirectory
from flask import current_app, jsonify
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from sqlalchemy import text

from todo import database
from todo.database import DatabaseUnavailable, SchemaLacking
from todo.errors import Unavailable
from todo.openapi import VERSION

bp = Blueprint("health", __name__, description="Public: who we are and how we are.")

APPLIED = text("SELECT version_num FROM alembic_version")


@bp.route("/")
@bp.doc(security=[])
@bp.response(200, description="Name, version, and where to go from here.")
def root() -> ResponseReturnValue:
    """Say who is here."""
    return jsonify(
        {
            "name": "todo",
            "version": VERSION,
            "links": {
                "docs": "/docs",
                "redoc": "/redoc",
                "openapi": "/openapi.json",
                "health": "/health",
                "ready": "/health/ready",
            },
        }
    )


@bp.route("/health")
@bp.doc(security=[])
@bp.response(200, description="The process is up.")
def health() -> ResponseReturnValue:
    """Tell whether the process is up; touches nothing."""
    return jsonify({"status": "healthy"})


@bp.route("/health/ready")
@bp.doc(security=[])
@bp.response(200, description="The database answers, and its schema is the one that this code needs.")
@bp.alt_response(503, "Unavailable")
def ready() -> ResponseReturnValue:
    """Tell whether requests can be served."""
    try:
        applied = [row.version_num for row in database.read(APPLIED, {})]
    except SchemaLacking:
        applied = []
    except DatabaseUnavailable as problem:
        checks = {"database": "failed", "schema": "unknown"}
        raise Unavailable("The database does not answer.", checks=checks, reason=problem.reason) from problem
    if applied != [needed()]:
        checks = {"database": "ok", "schema": "failed"}
        reason = f"the schema is at {applied}, this version needs {needed()}"
        raise Unavailable("The database schema is not the one that this version needs.", checks=checks, reason=reason)
    return jsonify({"status": "ready", "checks": {"database": "ok", "schema": "ok"}})


@cache
def needed() -> str | None:
    """Name the newest migration: the revision that this version of the code is written for."""
    return ScriptDirectory(current_app.extensions["migrate"].directory).get_current_head()
