"""The front door and the two questions an orchestrator asks: are you up, and can you work?"""

from functools import cache

from alembic.script import ScriptDirectory
from flask import current_app, jsonify
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from sqlalchemy import text

from todo import database
from todo.auth.jwks import KeyCache
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
@bp.response(200, description="The database answers, its schema is the right one, and the issuer's keys are known.")
@bp.alt_response(503, "Unavailable")
def ready() -> ResponseReturnValue:
    """Tell whether requests can be served."""
    checks, trouble = database_state()
    issuer_keys: KeyCache | None = current_app.extensions["issuer_keys"]
    if issuer_keys is not None:
        checks["issuer"] = issuer_keys.state()
        if checks["issuer"] == "failed" and trouble is None:
            trouble = Unavailable("The keys of the token issuer could not be fetched yet.", reason="no issuer keys")
    if trouble is not None:
        trouble.members["checks"] = checks
        raise trouble
    return jsonify({"status": "ready", "checks": checks})


def database_state() -> tuple[dict[str, str], Unavailable | None]:
    """Say how the database and its schema are, and what to answer when that is not enough."""
    try:
        applied = [row.version_num for row in database.read(APPLIED, {})]
    except SchemaLacking:
        applied = []
    except DatabaseUnavailable as problem:
        checks = {"database": "failed", "schema": "unknown"}
        return checks, Unavailable("The database does not answer.", reason=problem.reason)
    if applied != [needed()]:
        reason = f"the schema is at {', '.join(applied) or 'nothing'}, this version needs {needed()}"
        trouble = Unavailable("The database schema is not the one that this version needs.", reason=reason)
        return {"database": "ok", "schema": "failed"}, trouble
    return {"database": "ok", "schema": "ok"}, None


@cache
def needed() -> str | None:
    """Name the newest migration: the revision that this version of the code is written for."""
    return ScriptDirectory(current_app.extensions["migrate"].directory).get_current_head()
