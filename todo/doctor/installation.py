"""Whether this installation works: its settings, its database, its token issuer, its front-ends."""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

import config as settings
from config import IN_MEMORY, Config, secret_faults
from todo.auth import fetch, keys
from todo.auth.rules import LEEWAY_S, describe
from todo.cli import database_trouble
from todo.database.embedded import EmbeddedUnavailable
from todo.doctor.diagnosis import Diagnosis, advice, bad, good
from todo.extensions import db
from todo.health import database_state
from todo.http.problems import InternalError

SECRETS = ("better_auth_secret", "better_auth_secret_previous")

# libpq takes passwords among the options of a URL too.
SECRET_OPTION = re.compile("pass|secret")

# What the URL of a store is better not shown with: user and password, and options.
STORE_PRIVATE = re.compile(r"(?<=//)[^/]*@|\?.*")

# Where to look for a setting, by its source.
WHERE = {
    "environment": "It is set in the environment",
    ".env": "It is set in .env",
    "default": "Set it in the environment or in .env",
}

# A pooler stands between us and PostgreSQL when the process that answers is not the one that greeted us. At Neon
# something always does, and the name of the host says whether it is a pooler.
BACKEND = text("SELECT current_setting('server_version') AS version, pg_backend_pid() AS process")
NEON, NEON_POOLER = ".neon.tech", "-pooler."


def examine_refusal(faults: Mapping[str, Sequence[str]]) -> Iterator[Diagnosis]:
    """Say which settings keep the service from starting."""
    for name, rules in faults.items():
        for rule in rules:
            yield bad(name, rule, f"{WHERE[settings.source(name)]}; .env.example says what belongs there.")


def examine_settings(config: Config) -> Iterator[Diagnosis]:
    """Say what is set, and where."""
    for field, name in settings.variables().items():
        value = getattr(config, field)
        yield good(name, f"{_presented(field, value)} ({settings.source(name)})" if value else "not set")
    for name, meant in settings.misspelt().items():
        yield advice(name, "is no setting of this service", f"Did you mean {meant}?")
    for field in SECRETS:
        yield from _examine_secret(settings.variables()[field], getattr(config, field), config)


def _examine_secret(name: str, secret: str | None, config: Config) -> Iterator[Diagnosis]:
    if secret is None:
        return
    if config.jwks_url is not None:
        yield advice(name, "is not used, as BETTER_AUTH_URL is set", "The issuer's keys verify the tokens. Unset it.")
        return
    for fault in secret_faults(secret):
        remedy = "Production refuses it. `openssl rand -hex 32` makes a good one; Better Auth must have the same."
        yield advice(name, fault, remedy)


def _presented(field: str, value: Any) -> str:
    """Show a value, and of a secret no more than that it is there."""
    if field in SECRETS:
        return f"set, {len(settings.secret_bytes(value))} bytes"
    if field == "database_url":
        url = make_url(value)
        options = {name: "hidden" if SECRET_OPTION.search(name) else option for name, option in url.query.items()}
        return url.set(drivername="postgresql", query=options).render_as_string(hide_password=True)
    if field == "rate_limit_storage_url":
        return STORE_PRIVATE.sub("", str(value))
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def examine_database(config: Config) -> Iterator[Diagnosis]:
    """Say whether PostgreSQL answers, which one, through what, and whether its schema is ours."""
    try:
        with db.engine.connect() as connection:
            version, process = connection.execute(BACKEND).one()
            greeted_by = connection.connection.dbapi_connection.get_backend_pid()  # type: ignore[union-attr]
    except (DBAPIError, EmbeddedUnavailable) as error:
        yield bad("database", database_trouble(error).message.removeprefix("the database "), _database_remedy(config))
        return
    yield good("database", f"PostgreSQL {version} answers")
    yield good("connection", _connection(config, is_same_process=process == greeted_by))
    yield _examine_schema(config)


def _database_remedy(config: Config) -> str:
    if config.database_url is None:
        return "DATABASE_URL may name any PostgreSQL instead."
    return "Is PostgreSQL running, and are host, port, name and password in DATABASE_URL right?"


def _examine_schema(config: Config) -> Diagnosis:
    try:
        checks, trouble = database_state()
    except InternalError:
        remedy = "The user in DATABASE_URL must own the tables, or have all rights to them."
        return bad("schema", "this user may not look at it", remedy)
    if trouble is None:
        is_newer = checks["schema"] == "newer"
        text = "is newer, and this version can serve it" if is_newer else "is the one that this version needs"
        return good("schema", text)
    if checks["database"] == "failed":
        return bad("database", f"answered, and then: {trouble.reason}", _database_remedy(config))
    return bad("schema", str(trouble.reason), "Run `flask db upgrade`; if the schema is newer, update this service.")


def _connection(config: Config, *, is_same_process: bool) -> str:
    if config.database_url is None:
        return "direct, to the embedded PostgreSQL of this machine"
    url = make_url(config.database_url)
    # A path is the folder of a socket.
    host = url.host or ", ".join(url.normalized_query.get("host", "/"))
    pooled = NEON_POOLER in host if host.endswith(NEON) else not is_same_process
    return f"{'pooled' if pooled else 'direct'}, to {'a local socket' if host.startswith('/') else host}"


def examine_limits(config: Config) -> Iterator[Diagnosis]:
    """Say whether what limits callers is counted where it should be."""
    url = config.rate_limit_storage_url
    if not (config.rate_limit or config.rate_limit_failed_auth):
        if url != IN_MEMORY:
            remedy = "Set RATE_LIMIT or RATE_LIMIT_FAILED_AUTH, or unset it."
            yield advice("RATE_LIMIT_STORAGE_URL", "is not used, as there is no limit", remedy)
    elif url != IN_MEMORY:
        yield _examine_store(url)
    elif config.web_concurrency > 1:
        remedy = "Set RATE_LIMIT_STORAGE_URL to a Redis in which they count together."
        yield advice("rate limits", f"each of {config.web_concurrency} processes counts for itself", remedy)
    else:
        yield good("rate limits", "counted in the memory of the one process")


def _examine_store(url: str) -> Diagnosis:
    # What it takes weighs on each command, and this one alone needs it.
    from redis import RedisError  # noqa: PLC0415

    from todo.limits.shared import RedisStore  # noqa: PLC0415

    try:
        RedisStore(url).hit("doctor", 1)
    except RedisError as error:
        remedy = "Nobody is limited until it does. Is Redis running, and is RATE_LIMIT_STORAGE_URL right?"
        return bad("rate limits", f"the store does not count: {error}", remedy)
    return good("rate limits", "the store counts")


def examine_issuer(config: Config) -> Iterator[Diagnosis]:
    """Say how tokens are verified, and whether what that needs is there."""
    if config.jwks_url is None:
        yield good("tokens", "HS256, signed with BETTER_AUTH_SECRET")
        yield from _examine_expectations(config)
        return
    yield good("tokens", f"signed with the issuer's keys, published at {config.jwks_url}")
    yield from _examine_expectations(config)
    try:
        fetched = fetch.get(config.jwks_url)
        published = keys.parse(fetched.body)
    except fetch.CertificateRefused as error:
        remedy = "If an authority of your own signed it, SSL_CERT_FILE must name the file with its certificate."
        yield bad("issuer", str(error), remedy)
        return
    except fetch.FetchFailed as error:
        remedy = "Is Better Auth running there, with its jwt plugin? JWKS_URL says where else its keys are."
        yield bad("issuer", str(error), remedy)
        return
    except keys.UnusableKeys as error:
        yield bad("issuer", str(error), "BETTER_AUTH_URL, or JWKS_URL, must lead to the key set of Better Auth.")
        return
    yield good("issuer", "answers")
    for key in published.keys.values():
        yield good("key", f"{describe(key.kid)} ({key.algorithm})")
    for fault in published.dropped:
        yield advice("key", fault, "It is not used: tokens that it signs are refused.")
    # What a cache has kept says what time it was then.
    yield _examine_clock(fetched.date if fetched.age is None else None)


def _examine_expectations(config: Config) -> Iterator[Diagnosis]:
    for subject, name, expected in (
        ("issuer expected", "JWT_ISSUER", config.issuers),
        ("audience expected", "JWT_AUDIENCE", config.audiences),
    ):
        if expected:
            yield good(subject, " or ".join(expected))
        else:
            remedy = f"Set {name}, so that tokens made for another service are no good here."
            yield advice(subject, "any, as none is configured", remedy)


def _examine_clock(date: str | None) -> Diagnosis:
    try:
        apart = round((parsedate_to_datetime(date or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return advice("clock", "the issuer does not say what time it is")
    if abs(apart) > LEEWAY_S:
        direction = "ahead of" if apart > 0 else "behind"
        remedy = "Synchronise both clocks (NTP): good tokens look expired, or not yet valid."
        return bad("clock", f"the issuer's is {abs(apart)} s {direction} ours; {LEEWAY_S} s are tolerated", remedy)
    return good("clock", f"within {max(1, abs(apart))} s of the issuer's")


def examine_front_ends(config: Config, origins: Sequence[str]) -> Iterator[Diagnosis]:
    """Say which front-ends browsers let call us.

    Args:
        config: The settings.
        origins: The front-ends that must be able to; without any, the issuer's own origin is looked at.

    """
    allowed = ", ".join(config.cors_origins) or "none"
    for origin in origins:
        if origin in config.cors_origins:
            yield good("front-end", f"{origin} may call")
        elif not settings.ORIGIN.fullmatch(origin):
            remedy = (
                "Give it as browsers do, as in https://app.example.com: in lower case, and nothing after host and port."
            )
            yield bad("front-end", f"{describe(origin)} is no origin", remedy)
        else:
            yield bad("front-end", f"{origin} may not call; {allowed} may", _remedy_for(origin, config.cors_origins))
    if origins:
        return
    if not config.cors_origins:
        yield advice("front-ends", "none may call from a browser", "Set CORS_ORIGINS to the origins of yours.")
    elif config.issuer_origin and config.issuer_origin not in config.cors_origins:
        remedy = "If your front-end is served from there, add it to CORS_ORIGINS."
        yield advice("front-ends", f"{allowed} may call, and {config.issuer_origin} may not", remedy)
    else:
        yield good("front-ends", f"{allowed} may call")


def _remedy_for(origin: str, allowed: Sequence[str]) -> str:
    remedy = f"Add {origin} to CORS_ORIGINS."
    local = {origin.replace("//localhost", "//127.0.0.1"), origin.replace("//127.0.0.1", "//localhost")}
    if not local.isdisjoint(allowed):
        remedy += " To a browser localhost and 127.0.0.1 are different origins."
    return remedy
