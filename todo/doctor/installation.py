"""The checks of an installation: its settings, database, token issuer, rate limits and front-ends."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from psycopg2.extensions import parse_dsn
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

import config as settings
from config import DOTENV, IN_MEMORY, Config, DatabaseUrl, StoreUrl, secret_faults
from todo.auth import fetch, keys
from todo.auth.rules import LEEWAY_S, describe
from todo.commands import database_error
from todo.database.embedded import EmbeddedUnavailable
from todo.database.migrate import ENCODING_REMEDY, encoding_fault
from todo.database.ownership import OWN_DATABASE
from todo.doctor.cluster import ROLE_LIMITS, check_cluster
from todo.doctor.results import Result, failed, passed, warning
from todo.extensions import db
from todo.health import ForeignSchema, database_state
from todo.http.problems import InternalError

# The password of a database's URL; libpq takes secrets among the options too.
PASSWORD = re.compile(r"(?<=//)([^@/:]*):[^@/]*@")
SECRET_OPTION = re.compile(r"([?&][^&=]*(?:pass|secret)[^&=]*=)[^&]*")

# The parts of a store's URL that are not shown: user and password, and options.
STORE_PRIVATE = re.compile(r"(?<=//)[^/]*@|\?.*")

# Where to change a setting, by its source.
WHERE = {
    "environment": "It is set in the environment",
    ".env": "It is set in .env",
    "default": "Set it in the environment or in .env",
}

# A pooler stands between this service and PostgreSQL when the process that answers is not the one that the connection
# was made to. At Neon there is always something in between, and the host name shows whether it is a pooler.
BACKEND = text("""
    SELECT current_setting('server_version') AS version, pg_backend_pid() AS process,
        current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS is_standby,
        quote_ident(current_user) AS role, quote_ident(current_database()) AS database
""")
NEON, NEON_POOLER = ".neon.tech", "-pooler."

# The driver puts values into the text of a statement. Each of these settings decides whether PostgreSQL writes that
# text, or a row, to its log; with one of these values it does not. The first value is the one to set.
LOG_SETTINGS = {
    "log_min_error_statement": ("panic",),
    "log_error_verbosity": ("terse",),
    "log_statement": ("none", "ddl"),
    "log_min_duration_statement": ("-1",),
    "log_min_duration_sample": ("-1",),
    "log_transaction_sample_rate": ("0",),
    "auto_explain.log_min_duration": ("-1",),
    "debug_print_parse": ("off",),
    "debug_print_rewritten": ("off",),
    "debug_print_plan": ("off",),
}
# With `panic` PostgreSQL logs nothing of a role, so the others decide nothing.
LOG_LEVEL, NOTHING = "log_min_messages", "panic"
# These forms of the log have the details of errors, and so rows, whatever the verbosity is.
LOG_FORM, DETAILED_FORMS = "log_destination", re.compile("csvlog|jsonlog")
SETTINGS = text("SELECT name, current_setting(name, true) AS value FROM unnest(CAST(:names AS text[])) AS name")

# What a role or a database may set for its sessions, that the service does not set itself, and that weakens it: a good
# value, the bad ones, and what they do.
READ_ONLY = "default_transaction_read_only"
SESSION_SETTINGS = {
    READ_ONLY: ("off", ("on",), "every write is refused"),
    "synchronous_commit": ("on", ("off",), "a crash of PostgreSQL loses changes that were acknowledged"),
    "session_replication_role": ("origin", ("replica",), "triggers do not run"),
}
# What each transaction of the service says for itself.
ISOLATION, READ_COMMITTED = "default_transaction_isolation", "read committed"


def check_refusal(faults: Mapping[str, Sequence[str]]) -> Iterator[Result]:
    """Report the settings that keep the service from starting."""
    for name, rules in faults.items():
        for rule in rules:
            if name == DOTENV:
                yield failed(name, rule, "The file with that name in the folder of the project is meant.")
            else:
                yield failed(name, rule, f"{WHERE[settings.source(name)]}; .env.example describes its values.")


def check_settings(config: Config) -> Iterator[Result]:
    """Report each setting with its source, then variables that look misspelt, then weak or unused secrets."""
    for field in dataclasses.fields(Config):
        name, value = field.name.upper(), getattr(config, field.name)
        yield passed(name, f"{_displayed(field, value)} ({settings.source(name)})" if value else "not set")
    for name, likely in settings.misspelt().items():
        yield warning(name, "is not a setting of this service", f"Did you mean {likely}?")
    yield from _check_secret("BETTER_AUTH_SECRET", config.better_auth_secret, config)
    yield from _check_secret("BETTER_AUTH_SECRET_PREVIOUS", config.better_auth_secret_previous, config)


def _check_secret(name: str, secret: str | None, config: Config) -> Iterator[Result]:
    if secret is None:
        return
    if config.jwks_url is not None:
        remedy = f"The issuer's keys verify the tokens: unset {name}."
        yield warning(name, "is not used, as BETTER_AUTH_URL is set", remedy)
        return
    for fault in secret_faults(secret):
        remedy = "Production refuses it. Make one with `openssl rand -hex 32`, and set the same in Better Auth."
        yield warning(name, fault, remedy)


def _displayed(field: dataclasses.Field[Any], value: Any) -> str:
    """Return the text to show for a value; for a secret no more than where it leads or how long it is."""
    match field.metadata["rule"]:
        case DatabaseUrl():
            return SECRET_OPTION.sub(r"\1hidden", PASSWORD.sub(r"\1:***@", str(value)))
        case StoreUrl():
            return STORE_PRIVATE.sub("", str(value))
    if not field.repr:
        return f"set, {len(settings.secret_bytes(value))} bytes"
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check_database(config: Config) -> Iterator[Result]:
    """Report whether PostgreSQL answers, its version, the way to it, and whether its schema fits."""
    try:
        with db.engine.connect() as connection:
            backend = connection.execute(BACKEND).one()
            greeted_by = connection.connection.dbapi_connection.get_backend_pid()  # type: ignore[union-attr]
            names = [LOG_LEVEL, LOG_FORM, *LOG_SETTINGS, *SESSION_SETTINGS, ISOLATION, *ROLE_LIMITS]
            found = {row.name: row.value for row in connection.execute(SETTINGS, {"names": names})}
    except (DBAPIError, EmbeddedUnavailable) as error:
        yield failed("database", database_error(error).message.removeprefix("the database "), _database_remedy(config))
        return
    yield passed("database", f"PostgreSQL {backend.version} answers")
    yield passed("connection", _connection(config, is_same_process=backend.process == greeted_by))
    if (fault := encoding_fault(backend.encoding)) is not None:
        yield failed("encoding", fault, ENCODING_REMEDY)
    else:
        yield _check_schema(config)
    yield from _check_session(found, backend)
    yield from check_cluster(config, found, backend.role)
    # The embedded server is that of a developer, who writes the titles too.
    if config.database_url is not None:
        yield _check_log(found, backend.role)


def _check_session(found: Mapping[str, str | None], backend: Any) -> Iterator[Result]:
    """Report what the role, the database or the server sets for sessions, where it weakens the service.

    Args:
        found: The values of the settings.
        backend: The row of `BACKEND`.

    """
    if backend.is_standby:
        remedy = "Set DATABASE_URL to the primary, or to all hosts, with target_session_attrs=read-write."
        yield failed("writes", "are refused: this server is a standby", remedy)
    for name, (good, bad, effect) in SESSION_SETTINGS.items():
        if found[name] in bad:
            remedy = f"ALTER ROLE {backend.role} IN DATABASE {backend.database} SET {name} = {good};"
            if name == READ_ONLY:
                yield failed(name, f"is {found[name]}: {effect}", f"{remedy} Providers set it where a disk is full.")
            else:
                yield warning(name, f"is {found[name]}: {effect}", remedy)
    if found[ISOLATION] != READ_COMMITTED:
        yield passed(ISOLATION, f"is {found[ISOLATION]}, and each transaction of the service says {READ_COMMITTED}")


def _database_remedy(config: Config) -> str:
    if config.database_url is None:
        return "Set DATABASE_URL to the URL of a PostgreSQL instead."
    return "Start PostgreSQL, or correct the host, port, name or password in DATABASE_URL."


def _check_schema(config: Config) -> Result:
    try:
        checks, fault = database_state()
    except InternalError:
        remedy = "Make the user in DATABASE_URL the owner of the tables, or grant it all rights to them."
        return failed("schema", "this user has no right to read it", remedy)
    if fault is None:
        is_newer = checks["schema"] == "newer"
        return passed("schema", "is newer, and this version can serve it" if is_newer else "is up to date")
    if checks["database"] == "failed":
        return failed("database", f"stopped answering: {fault.reason}", _database_remedy(config))
    if isinstance(fault, ForeignSchema):
        return failed("schema", str(fault.reason), OWN_DATABASE)
    return failed("schema", str(fault.reason), "Run `todo migrate`; if the schema is newer, update this service.")


def _check_log(logged: Mapping[str, str | None], role: str) -> Result:
    """Report whether PostgreSQL's log may have what users write.

    Args:
        logged: The values of the settings that decide; none for one of a library that is not loaded.
        role: The name of the service's role, as SQL.

    """
    subject = "PostgreSQL's log"
    if logged[LOG_LEVEL] == NOTHING:
        return passed(subject, "has nothing of this role")
    faulty = {name: logged[name] for name, good in LOG_SETTINGS.items() if logged[name] not in {None, "", *good}}
    changes = {name: LOG_SETTINGS[name][0] for name in faulty}
    if DETAILED_FORMS.search(logged[LOG_FORM] or ""):
        faulty[LOG_FORM], changes = logged[LOG_FORM], {LOG_LEVEL: NOTHING}
    if not faulty:
        return passed(subject, "repeats nothing that users write")
    found = ", ".join(f"{name} is {value}" for name, value in faulty.items())
    statements = " ".join(f"ALTER ROLE {role} SET {name} = {value};" for name, value in changes.items())
    return warning(subject, f"may repeat what users write: {found}", f"As a superuser: {statements}")


def _connection(config: Config, *, is_same_process: bool) -> str:
    if config.database_url is None:
        return "direct, to the embedded PostgreSQL of this machine"
    parameters = parse_dsn(config.database_url)
    # A path is the folder of a socket.
    host = parameters.get("host") or parameters.get("hostaddr", "/")
    pooled = NEON_POOLER in host if host.endswith(NEON) else not is_same_process
    to = "a local socket" if host.startswith(("/", "@")) else host.replace(",", ", ")
    return f"{'pooled' if pooled else 'direct'}, to {to}"


def check_rate_limits(config: Config) -> Iterator[Result]:
    """Report whether what the rate limits count is counted where it should be."""
    url = config.rate_limit_storage_url
    if not (config.rate_limit or config.rate_limit_failed_auth):
        if url != IN_MEMORY:
            remedy = "Set RATE_LIMIT or RATE_LIMIT_FAILED_AUTH, or unset RATE_LIMIT_STORAGE_URL."
            yield warning("RATE_LIMIT_STORAGE_URL", "is not used, as there is no limit", remedy)
    elif url != IN_MEMORY:
        yield _check_store(url)
    elif config.web_concurrency > 1:
        remedy = "Set RATE_LIMIT_STORAGE_URL to a Redis in which they count together."
        yield warning("rate limits", f"each of {config.web_concurrency} processes counts for itself", remedy)
    else:
        yield passed("rate limits", "counted in the memory of the one process")


def _check_store(url: str) -> Result:
    # Imported here because no other command needs the client.
    from redis import RedisError  # noqa: PLC0415

    from todo.limits.shared import RedisStore  # noqa: PLC0415

    try:
        RedisStore(url).hit("doctor", 1)
    except RedisError as error:
        remedy = "Start Redis, or correct RATE_LIMIT_STORAGE_URL: until then no call is limited."
        return failed("rate limits", f"the store does not count: {error}", remedy)
    return passed("rate limits", "the store counts")


def check_issuer(config: Config) -> Iterator[Result]:
    """Report how tokens are verified, and whether what that needs is there."""
    if config.jwks_url is None:
        yield passed("tokens", "HS256, signed with BETTER_AUTH_SECRET")
        yield from _check_expected_claims(config)
        return
    yield passed("tokens", f"signed with the issuer's keys, published at {config.jwks_url}")
    yield from _check_expected_claims(config)
    try:
        fetched = fetch.get(config.jwks_url)
        published = keys.parse(fetched.body)
    except fetch.CertificateRefused as error:
        remedy = "If your own certificate authority signed it, set SSL_CERT_FILE to the file with its certificate."
        yield failed("issuer", str(error), remedy)
        return
    except fetch.FetchFailed as error:
        remedy = "Start Better Auth there, with its jwt plugin; if its keys are elsewhere, set JWKS_URL."
        yield failed("issuer", str(error), remedy)
        return
    except keys.UnusableKeys as error:
        remedy = "Set BETTER_AUTH_URL, or JWKS_URL, so that it leads to the key set of Better Auth."
        yield failed("issuer", str(error), remedy)
        return
    yield passed("issuer", "answers")
    for key in published.keys.values():
        yield passed("key", f"{describe(key.kid)} ({key.algorithm})")
    for fault in published.dropped:
        yield warning("key", fault, "It is not used: tokens that it signs are refused.")
    # The date of a cached response is that of its origin, some time ago.
    yield _check_clock(fetched.date if fetched.age is None else None)


def _check_expected_claims(config: Config) -> Iterator[Result]:
    for subject, name, expected in (
        ("issuer expected", "JWT_ISSUER", config.issuers),
        ("audience expected", "JWT_AUDIENCE", config.audiences),
    ):
        if expected:
            yield passed(subject, " or ".join(expected))
        else:
            remedy = f"Set {name}, so that tokens made for another service are refused."
            yield warning(subject, "any, as none is configured", remedy)


def _check_clock(date: str | None) -> Result:
    try:
        apart = round((parsedate_to_datetime(date or "") - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return warning("clock", "not checked: the issuer's response has no current date")
    if abs(apart) > LEEWAY_S:
        direction = "ahead of" if apart > 0 else "behind"
        remedy = "Synchronise both clocks (NTP): valid tokens look expired, or not yet valid."
        text = f"the issuer's is {abs(apart)} s {direction} this machine's; {LEEWAY_S} s are tolerated"
        return failed("clock", text, remedy)
    return passed("clock", f"within {max(1, abs(apart))} s of the issuer's")


def check_front_ends(config: Config, origins: Sequence[str]) -> Iterator[Result]:
    """Report which front-ends may call the API from a browser.

    Args:
        config: The settings.
        origins: The origins of front-ends that must be able to; without any, the issuer's own origin is checked.

    """
    allowed = ", ".join(config.cors_origins) or "none"
    for origin in origins:
        if origin in config.cors_origins:
            yield passed("front-end", f"{origin} may call")
        elif not settings.FRONT_END_ORIGIN.fullmatch(origin):
            remedy = "Write it as browsers do: lower case, nothing after host and port, as in https://app.example.com."
            yield failed("front-end", f"{describe(origin)} is not an origin", remedy)
        else:
            remedy = _front_end_remedy(origin, config.cors_origins)
            yield failed("front-end", f"{origin} may not call; {allowed} may", remedy)
    if origins:
        return
    if not config.cors_origins:
        yield warning("front-ends", "none may call from a browser", "Set CORS_ORIGINS to the origins of yours.")
    elif config.issuer_origin and config.issuer_origin not in config.cors_origins:
        remedy = "If your front-end is served from there, add it to CORS_ORIGINS."
        yield warning("front-ends", f"{allowed} may call, and {config.issuer_origin} may not", remedy)
    else:
        yield passed("front-ends", f"{allowed} may call")


def check_dialects(config: Config) -> Iterator[Result]:
    """Report which contracts of other back-ends the calls are adapted to."""
    names = ", ".join(config.compatibility)
    yield passed("dialects", f"{names} (COMPATIBILITY)" if names else "none: the contract is that of openapi.json")


def _front_end_remedy(origin: str, allowed: Sequence[str]) -> str:
    remedy = f"Add {origin} to CORS_ORIGINS."
    local = {origin.replace("//localhost", "//127.0.0.1"), origin.replace("//127.0.0.1", "//localhost")}
    if not local.isdisjoint(allowed):
        remedy += " To a browser localhost and 127.0.0.1 are different origins."
    return remedy
