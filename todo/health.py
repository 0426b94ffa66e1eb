"""The root page, and the two probes of an orchestrator: liveness and readiness."""

from flask import current_app, jsonify
from flask.typing import ResponseReturnValue
from flask_smorest import Blueprint
from marshmallow import fields

from todo.auth.jwks import KeyCache
from todo.database import statements
from todo.database.failures import DatabaseUnavailable, SchemaLacking
from todo.database.migrate import encoding_fault, newest
from todo.http.fields import Output
from todo.http.openapi import VERSION
from todo.http.problems import Unavailable

bp = Blueprint("health", __name__, description="Public: the name and the state of the service.")

# A migration that older code cannot work with stores the oldest revision that can, as a comment on this table. The
# comment is read by releases older than the migration, so it has to stay in a place that they already read.
APPLIED_REVISION = (
    "SELECT version_num AS applied, obj_description('alembic_version'::regclass) AS serves_from, "
    "current_setting('server_encoding') AS encoding FROM alembic_version"
)


class RootOut(Output):
    """The name of the service, and the paths of its public pages."""

    name = fields.String(required=True, metadata={"example": "todo"})
    version = fields.String(required=True, metadata={"example": VERSION})
    links = fields.Dict(
        keys=fields.String(),
        values=fields.String(metadata={"format": "uri-reference"}),
        required=True,
        metadata={"description": "The paths of the documentation and of the probes.", "example": {"docs": "/docs"}},
    )


class HealthOut(Output):
    """The state of the process."""

    status = fields.String(required=True, metadata={"enum": ["healthy"]})


class ReadyOut(Output):
    """The state of the service, and the result of each check."""

    status = fields.String(required=True, metadata={"enum": ["ready"]})
    checks = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata={"example": {"database": "ok", "schema": "ok"}},
    )


@bp.route("/")
@bp.doc(security=[], operationId="getRoot")
@bp.response(200, RootOut, description="The name, the version, and the paths of the public pages.")
@bp.alt_response(503, "Unavailable")
def root() -> ResponseReturnValue:
    """Return the name of the service."""
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
@bp.doc(security=[], operationId="getHealth")
@bp.response(200, HealthOut, description="The process is up.")
def health() -> ResponseReturnValue:
    """Check whether the process is up, without any other access."""
    return jsonify({"status": "healthy"})


@bp.route("/health/ready")
@bp.doc(security=[], operationId="getReadiness")
@bp.response(
    200, ReadyOut, description="The database answers, its schema is compatible, and the issuer's keys are known."
)
@bp.alt_response(503, "Unavailable")
def ready() -> ResponseReturnValue:
    """Check whether requests can be served."""
    checks, problem = database_state()
    issuer_keys: KeyCache | None = current_app.extensions["issuer_keys"]
    if issuer_keys is not None:
        checks["issuer"] = issuer_keys.state()
        if checks["issuer"] == "failed" and problem is None:
            problem = Unavailable("The keys of the token issuer could not be fetched yet.", reason="no issuer keys")
    if problem is not None:
        problem.members["checks"] = checks
        raise problem
    return jsonify({"status": "ready", "checks": checks})


def database_state() -> tuple[dict[str, str], Unavailable | None]:
    """Return the results of the checks of the database and of its schema, and a problem if one of them failed.

    A schema that is newer than this code passes: a migration keeps what the code before it uses, and a migration that
    does not says so (see `APPLIED_REVISION`).
    """
    try:
        rows = statements.read(APPLIED_REVISION, {})
    except SchemaLacking:
        rows = []
    except DatabaseUnavailable as error:
        checks = {"database": "failed", "schema": "unknown"}
        return checks, Unavailable("The database does not answer.", reason=error.reason)
    if rows and (fault := encoding_fault(rows[0].encoding)) is not None:
        return {"database": "ok", "schema": "failed"}, Unavailable("The database cannot hold every text.", reason=fault)
    applied, serves_from = (rows[0].applied, rows[0].serves_from) if len(rows) == 1 else ("", None)
    if applied == newest():
        return {"database": "ok", "schema": "ok"}, None
    if newest() < applied and (serves_from or "") <= newest():
        return {"database": "ok", "schema": "newer"}, None
    reason = f"the schema is at {applied or 'nothing'}, this version needs {newest()}"
    if newest() < applied:
        reason += f", and the schema is for {serves_from} and later"
    problem = Unavailable("The database schema is not one that this version can serve.", reason=reason)
    return {"database": "ok", "schema": "failed"}, problem
