"""Settings: typed, frozen, read from the environment and then from `.env`.

This is the only room that reads the environment. All faults are reported together,
in one line that names each variable, before anything else starts.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from dotenv import dotenv_values
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent

# What Better Auth signs with when nobody sets a secret: every attacker knows it.
BETTER_AUTH_PUBLIC_DEFAULT = "better-auth-secret-12345678901234567890"
SECRET_MIN_BYTES = 32

# Where Better Auth's calls are when nobody says otherwise.
BETTER_AUTH_BASE_PATH = "/api/auth"

# How often something may happen, and how long a window may be: what a Redis and the headers can hold.
QUOTA_MAX = 1_000_000_000
WINDOW_MAX_S = 366 * 86_400

# The store of counts that is always there, the process itself; and what the URL of another one may hold.
IN_MEMORY = "memory://"
STORE_PATH = re.compile("/?[0-9]*")
STORE_OPTION = re.compile("ssl_[a-z_]+|socket_(connect_)?timeout")

DEFAULT_PORTS = {"http": 80, "https": 443}
URL_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
HOST = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*")


class InvalidSettings(SystemExit):
    """Raised at boot. Left alone, it ends the process with one line on stderr and exit status 1."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        """Take the faults found, by the name of the variable."""
        self.errors = errors
        faults = "; ".join(f"{name} {message}" for name, messages in errors.items() for message in messages)
        super().__init__(f"todo cannot start: {faults}.")


def secret_bytes(secret: str) -> bytes:
    """Give the bytes that tokens are signed with: those of the variable, whether or not they are UTF-8."""
    return secret.encode(errors="surrogateescape")


def secret_faults(secret: str) -> list[str]:
    """Say what makes a shared secret too weak to guard production, worst first; an empty list is a good secret."""
    faults = []
    if not secret.isprintable():
        faults.append("has characters that cannot be printed, or is not UTF-8")
    if secret == BETTER_AUTH_PUBLIC_DEFAULT:
        faults.append("is the default that Better Auth publishes, which everybody knows")
    if len(secret_bytes(secret)) < SECRET_MIN_BYTES:
        faults.append(f"is shorter than {SECRET_MIN_BYTES} bytes")
    if secret != secret.strip():
        faults.append("has white space around it")
    return faults


class DatabaseUrl(fields.String):
    """A PostgreSQL URL as providers hand it out, normalised to the driver that we install."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        scheme, separator, rest = super()._deserialize(value, attr, data, **kwargs).partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg2"}:
            raise ValidationError("must be a PostgreSQL URL that starts with postgresql://")
        url = f"postgresql+psycopg2://{rest}"
        try:
            make_url(url)
        except (ArgumentError, ValueError):
            raise ValidationError(
                "cannot be read as a URL: is the port a number, and are / @ : # % in the password percent-encoded?"
            ) from None
        return url


class HttpUrl(fields.String):
    """An address that may be trusted with who is who: https, or http where it cannot leave the machine.

    It is written as browsers write it (WHATWG URL): in lower case, without the port that goes without saying, and
    without a slash at its end.
    """

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        url = super()._deserialize(value, attr, data, **kwargs).strip()
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValidationError("cannot be read as a URL") from None
        scheme, host = parts.scheme, parts.hostname or ""
        host = f"[{host}]" if ":" in host else host
        origin = f"{scheme}://{host}" + ("" if port in {None, DEFAULT_PORTS.get(scheme)} else f":{port}")
        if (
            not (ORIGIN.fullmatch(origin) and URL_PATH.fullmatch(parts.path))
            or "@" in parts.netloc
            or set("?#") & set(url)
        ):
            raise ValidationError("must be a URL such as https://auth.example.com, with no user, query or fragment")
        if scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValidationError("must begin with https:// unless it is on this machine (localhost)")
        return origin + parts.path.rstrip("/")


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine itself (RFC 6761, section 6.3; RFC 6890)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _must_be_limits(value: str) -> None:
    # It is needed by those alone who limit something.
    from limits import parse_many  # noqa: PLC0415

    try:
        limits = parse_many(value)
    except ValueError:
        raise ValidationError("must be limits such as 600/minute, separated by ; where there are several") from None
    if not all(0 < one.amount <= QUOTA_MAX and one.get_expiry() <= WINDOW_MAX_S for one in limits):
        raise ValidationError(f"must allow from 1 to {QUOTA_MAX} within a year at most")


class CommaSeparated(fields.Field[tuple[str, ...]]):
    """A list in one variable: parts separated by commas, white space around each dropped, empty parts skipped."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        return tuple(part for part in (part.strip() for part in value.split(",")) if part)


def _each_must_be(what: str, pattern: re.Pattern[str]) -> Callable[[tuple[str, ...]], None]:
    """Give a validator of several parts: one that is anything else would silently never match what clients send."""

    def check(parts: tuple[str, ...]) -> None:
        for part in parts:
            if not pattern.fullmatch(part):
                raise ValidationError(f"has {part!r}, which is not {what}")

    return check


AN_ORIGIN = "an exact origin such as https://app.example.com (lower case, no path, no trailing slash, no wildcard)"
A_HOST = (
    "a host such as api.example.com, or .example.com with all below it (lower case, no scheme, no port, no wildcard)"
)


def _must_be_a_store(url: str) -> None:
    """Find out now what would otherwise fail at the first request; nothing is connected yet."""
    if url == IN_MEMORY:
        return
    if not url.startswith(("redis://", "rediss://")):
        raise ValidationError(f"must be a Redis URL that starts with redis:// or rediss://, or {IN_MEMORY}")
    from redis import RedisError, from_url  # noqa: PLC0415

    try:
        from_url(url).connection_pool.make_connection()
        parts = urlsplit(url)
        (parts.hostname or "").encode("idna")
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        readable = STORE_PATH.fullmatch(parts.path) and all(STORE_OPTION.fullmatch(name) for name in names)
    except (TypeError, ValueError, RedisError):
        readable = False
    if not readable:
        raise ValidationError(
            "cannot be read as a URL: are port and options right, and / @ : # % in the password percent-encoded?"
        )


def _dotenv() -> dict[str, str]:
    return {name: value for name, value in dotenv_values(ROOT / ".env").items() if value is not None}


def variables() -> dict[str, str]:
    """Give the name of each setting's variable, by its name in `Config`."""
    return {name: str(field.data_key) for name, field in ConfigSchema().fields.items()}


def source(name: str) -> str:
    """Say where a variable was read from."""
    if os.environ.get(name):
        return "environment"
    return ".env" if _dotenv().get(name) and name not in os.environ else "default"


def misspelt() -> dict[str, str]:
    """Give the variables that were probably meant to be settings, and which ones."""
    known = variables().values()
    candidates = {name for name in (*os.environ, *_dotenv()) if name not in known and not name.startswith("FLASK_")}
    close = {name: get_close_matches(name, known, n=1, cutoff=0.85) for name in sorted(candidates)}
    return {name: matches[0] for name, matches in close.items() if matches}


def _integer(name: str, low: int, high: int, noun: str) -> fields.Integer:
    rule = f"must be {noun} from {low} to {high}"
    return fields.Integer(
        data_key=name, validate=validate.Range(low, high, error=rule), error_messages={"invalid": rule}
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that can be set. Secrets never show in a repr."""

    environment: str = "development"
    database_url: str | None = field(default=None, repr=False)
    better_auth_url: str | None = None
    better_auth_secret: str | None = field(default=None, repr=False)
    better_auth_secret_previous: str | None = field(default=None, repr=False)
    jwt_issuer: tuple[str, ...] = ()
    jwt_audience: tuple[str, ...] = ()
    jwks_url: str | None = None
    cors_origins: tuple[str, ...] = ()
    trash_days: int = 30
    tombstone_days: int = 90
    require_if_match: bool = False
    rate_limit: str | None = None
    rate_limit_failed_auth: str | None = None
    rate_limit_storage_url: str = field(default=IN_MEMORY, repr=False)
    log_level: str = "INFO"
    log_format: str = "console"
    slow_request_ms: int = 1000
    host: str = "127.0.0.1"
    port: int = 8000
    trusted_proxies: int = 0
    trusted_hosts: tuple[str, ...] = ()
    metrics_port: int | None = None
    web_concurrency: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    web_threads: int = 8

    PRODUCTION: ClassVar[frozenset[str]] = frozenset({"production", "staging"})

    @property
    def production(self) -> bool:
        """Tell whether this process must refuse everything that only development may do."""
        return self.environment in self.PRODUCTION

    @property
    def issuer_origin(self) -> str | None:
        """Give the origin of the token issuer, which is what Better Auth writes as `iss` and `aud` by default."""
        if self.better_auth_url is None:
            return None
        return urlsplit(self.better_auth_url)._replace(path="").geturl()

    @property
    def issuers(self) -> tuple[str, ...]:
        """Give the accepted values of `iss`; none means that it is not checked."""
        return self.jwt_issuer or ((self.issuer_origin,) if self.issuer_origin else ())

    @property
    def audiences(self) -> tuple[str, ...]:
        """Give the accepted values of `aud`; none means that it is not checked."""
        return self.jwt_audience or ((self.issuer_origin,) if self.issuer_origin else ())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Config":
        """Read the settings.

        Args:
            environ: Where to read from. By default `.env` beside this file, overridden by the process environment.

        Raises:
            InvalidSettings: naming every variable at fault.

        """
        if environ is None:
            environ = _dotenv() | dict(os.environ)
        try:
            loaded: Config = ConfigSchema().load(environ)
        except ValidationError as error:
            raise InvalidSettings(error.messages_dict) from None
        return loaded


class ConfigSchema(Schema):
    """The variables and their rules. `.env.example` lists the same ones."""

    class Meta:
        """The environment is full of variables that are not ours."""

        unknown = EXCLUDE

    environment = fields.String(
        data_key="ENVIRONMENT",
        validate=validate.OneOf(
            ["development", "test", "staging", "production"], error="must be development, test, staging or production"
        ),
    )
    database_url = DatabaseUrl(data_key="DATABASE_URL")
    better_auth_url = HttpUrl(data_key="BETTER_AUTH_URL")
    better_auth_secret = fields.String(data_key="BETTER_AUTH_SECRET")
    better_auth_secret_previous = fields.String(data_key="BETTER_AUTH_SECRET_PREVIOUS")
    jwt_issuer = CommaSeparated(data_key="JWT_ISSUER")
    jwt_audience = CommaSeparated(data_key="JWT_AUDIENCE")
    jwks_url = HttpUrl(data_key="JWKS_URL")
    cors_origins = CommaSeparated(data_key="CORS_ORIGINS", validate=_each_must_be(AN_ORIGIN, ORIGIN))
    trash_days = _integer("TRASH_DAYS", 0, 3650, "a number of days")
    tombstone_days = _integer("TOMBSTONE_DAYS", 1, 3650, "a number of days")
    require_if_match = fields.Boolean(
        data_key="REQUIRE_IF_MATCH",
        truthy={"true", "yes", "on", "1"},
        falsy={"false", "no", "off", "0"},
        error_messages={"invalid": "must be true or false"},
    )
    rate_limit = fields.String(data_key="RATE_LIMIT", validate=_must_be_limits)
    rate_limit_failed_auth = fields.String(data_key="RATE_LIMIT_FAILED_AUTH", validate=_must_be_limits)
    rate_limit_storage_url = fields.String(data_key="RATE_LIMIT_STORAGE_URL", validate=_must_be_a_store)
    log_level = fields.String(
        data_key="LOG_LEVEL",
        validate=validate.OneOf(
            ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], error="must be DEBUG, INFO, WARNING, ERROR or CRITICAL"
        ),
    )
    log_format = fields.String(
        data_key="LOG_FORMAT", validate=validate.OneOf(["json", "console"], error="must be json or console")
    )
    slow_request_ms = _integer("SLOW_REQUEST_MS", 1, 600_000, "a number of milliseconds")
    host = fields.String(data_key="HOST")
    port = _integer("PORT", 1, 65535, "a port number")
    trusted_proxies = _integer("TRUSTED_PROXIES", 0, 10, "a number of proxies")
    trusted_hosts = CommaSeparated(data_key="TRUSTED_HOSTS", validate=_each_must_be(A_HOST, HOST))
    metrics_port = _integer("METRICS_PORT", 1, 65535, "a port number")
    web_concurrency = _integer("WEB_CONCURRENCY", 1, 256, "a number of processes")
    web_threads = _integer("WEB_THREADS", 1, 64, "a number of threads")

    @pre_load
    def tidy(self, environ: Mapping[str, str], **_: Any) -> dict[str, str]:
        """Treat an empty variable as unset, as compose files leave it, and the words of a vocabulary in any case."""
        tidied = {name: value for name, value in environ.items() if value != ""}
        spellings = {
            "ENVIRONMENT": str.lower,
            "LOG_LEVEL": str.upper,
            "LOG_FORMAT": str.lower,
            "REQUIRE_IF_MATCH": str.lower,
        }
        for name, spelling in spellings.items():
            if name in tidied:
                tidied[name] = spelling(tidied[name].strip())
        return tidied

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def production_takes_no_defaults(self, settings: dict[str, Any], environ: Mapping[str, str], **_: Any) -> None:
        """Refuse to guess in production where the data lives and who may read it."""
        if settings.get("environment") not in Config.PRODUCTION:
            return
        errors: dict[str, list[str]] = {}
        if not environ.get("DATABASE_URL"):
            errors["DATABASE_URL"] = ["is not set: it must be the URL of your PostgreSQL database"]
        if not environ.get("BETTER_AUTH_URL"):
            if not environ.get("BETTER_AUTH_SECRET"):
                rule = "is not set: it must be the address of your Better Auth server"
                errors["BETTER_AUTH_URL"] = [f"{rule} (or BETTER_AUTH_SECRET the secret that it signs with)"]
            for name in ("better_auth_secret", "better_auth_secret_previous"):
                if name in settings and (faults := secret_faults(settings[name])):
                    errors[name.upper()] = faults
        if errors:
            raise ValidationError(errors)

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def keys_have_an_issuer(self, _settings: dict[str, Any], environ: Mapping[str, str], **_: Any) -> None:
        """Refuse keys of which nobody knows whose they are."""
        if environ.get("JWKS_URL") and not environ.get("BETTER_AUTH_URL"):
            raise ValidationError({"JWKS_URL": ["is set and BETTER_AUTH_URL is not: set that one too"]})

    @validates_schema
    def metrics_have_a_port_of_their_own(self, settings: dict[str, Any], **_: Any) -> None:
        """Keep apart what clients may see and what operators see."""
        if settings.get("metrics_port") == settings.get("port", Config().port):
            raise ValidationError({"METRICS_PORT": ["must be another port than PORT"]})

    @post_load
    def build(self, settings: dict[str, Any], **_: Any) -> Config:
        """Make the Config, with the defaults that depend on other settings."""
        if settings.get("environment", "development") in Config.PRODUCTION:
            settings.setdefault("log_format", "json")
        else:
            settings.setdefault("cors_origins", ("http://localhost:3000", "http://127.0.0.1:3000"))
        if settings.get("rate_limit"):
            settings.setdefault("rate_limit_failed_auth", "60/minute")
        if base := settings.get("better_auth_url"):
            # A path in the address says where Better Auth's calls are; without one they are at the customary place.
            base += "" if urlsplit(base).path else BETTER_AUTH_BASE_PATH
            settings.setdefault("jwks_url", f"{base}/jwks")
        return Config(**settings)
