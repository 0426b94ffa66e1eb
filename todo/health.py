"""The root page, and the two probes of an orchestrator: liveness and readiness."""

from flask import current_app, jsonify
from flask.typing import ResponseReturnValue
from marshmallow import fields

from todo.auth.jwks import KeyCache
from todo.database import ownership, statements
from todo.database.failures import DatabaseUnavailable, SchemaLacking
from todo.database.migrate import encoding_fault
from todo.database.ownership import newest
from todo.http.documented import Blueprint
from todo.http.fields import Output
from todo.http.openapi import VERSION
from todo.http.problems import Unavailable

bp = Blueprint("health", __name__, description="Public: the name and the state of the service.")


class ForeignSchema(Unavailable):
    """503: the schema is that of another application."""


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
    does not says so (see `ownership.STATE`).
    """
    try:
        rows = statements.read(ownership.STATE, ownership.columns())
    except SchemaLacking:
        rows = []
    except DatabaseUnavailable as error:
        checks = {"database": "failed", "schema": "unknown"}
        return checks, Unavailable("The database does not answer.", reason=error.reason)
    if rows and (fault := encoding_fault(rows[0].encoding)) is not None:
        return {"database": "ok", "schema": "failed"}, Unavailable("The database cannot hold every text.", reason=fault)
    applied, serves_from, lacking, _ = rows[0] if len(rows) == 1 else ("", None, 0, None)
    is_newer = ownership.is_newer(applied)
    if not lacking and (applied == newest() or (is_newer and (serves_from or "") <= newest())):
        return {"database": "ok", "schema": "newer" if is_newer else "ok"}, None
    if not all(map(ownership.is_ours, rows)):
        return _unfit("the table alembic_version is that of another application", ForeignSchema)
    reason = f"the schema is at {applied or 'nothing'}, this version needs {newest()}"
    if is_newer:
        reason += f", and the schema is for {serves_from} and later"
    elif applied == newest():
        reason = f"the schema is at {applied}, and {lacking} of its columns are missing"
    return _unfit(reason)


def _unfit(reason: str, kind: type[Unavailable] = Unavailable) -> tuple[dict[str, str], Unavailable]:
    problem = kind("The database schema is not one that this version can serve.", reason=reason)
    return {"database": "ok", "schema": "failed"}, problem
