"""The front door and the two questions an orchestrator asks: are you up, and can you work?"""

from flask import current_app, jsonify
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from marshmallow import fields

from todo.auth.jwks import KeyCache
from todo.database import statements
from todo.database.failures import DatabaseUnavailable, SchemaLacking
from todo.database.migrate import newest
from todo.http.fields import Output
from todo.http.openapi import VERSION
from todo.http.problems import Unavailable

bp = Blueprint("health", __name__, description="Public: who we are and how we are.")

# A migration after which code of before cannot serve any more says from which revision on code can, as a comment on
# this table; what a later release says to an older one must be where that one already looks.
APPLIED = (
    "SELECT version_num AS applied, obj_description('alembic_version'::regclass) AS serves_from FROM alembic_version"
)


class RootOut(Output):
    """Who answers, and where to go from here."""

    name = fields.String(required=True, metadata={"example": "todo"})
    version = fields.String(required=True, metadata={"example": VERSION})
    links = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"format": "uri-reference"}),
        required=True,
        metadata={"description": "The paths of the documentation and of the probes.", "example": {"docs": "/docs"}},
    )


class HealthOut(Output):
    """That the process is up."""

    status = fields.String(required=True, metadata={"enum": ["healthy"]})


class ReadyOut(Output):
    """That requests can be served, and each check."""

    status = fields.String(required=True, metadata={"enum": ["ready"]})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"example": {"database": "ok", "schema": "ok"}},
    )


@bp.route("/")
@bp.doc(security=[])
@bp.response(200, RootOut, description="Name, version, and where to go from here.")
@bp.alt_response(503, "Unavailable")
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
@bp.response(200, HealthOut, description="The process is up.")
def health() -> ResponseReturnValue:
    """Tell whether the process is up; touches nothing."""
    return jsonify({"status": "healthy"})


@bp.route("/health/ready")
@bp.doc(security=[])
@bp.response(
    200, ReadyOut, description="The database answers, its schema is the right one, and the issuer's keys are known."
)
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
    """Say how the database and its schema are, and what to answer when that is not enough.

    A schema that is newer than this code is good: migrations keep what the code before them uses, and one that does
    not says so.
    """
    try:
        rows = statements.read(APPLIED, {})
    except SchemaLacking:
        rows = []
    except DatabaseUnavailable as problem:
        checks = {"database": "failed", "schema": "unknown"}
        return checks, Unavailable("The database does not answer.", reason=problem.reason)
    applied, serves_from = (rows[0].applied, rows[0].serves_from) if len(rows) == 1 else ("", None)
    if applied == newest():
        return {"database": "ok", "schema": "ok"}, None
    if newest() < applied and (serves_from or "") <= newest():
        return {"database": "ok", "schema": "newer"}, None
    reason = f"the schema is at {applied or 'nothing'}, this version needs {newest()}"
    if newest() < applied:
        reason += f", and the schema is for {serves_from} and later"
    trouble = Unavailable("The database schema is not one that this version can serve.", reason=reason)
    return {"database": "ok", "schema": "failed"}, trouble
