"""Settings: typed, frozen, read from the environment and then from `.env`.

This is the only room that reads the environment. All faults are reported together,
in one line that names each variable, before anything else starts.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dotenv import dotenv_values
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent

# What Better Auth signs with when nobody sets a secret: every attacker knows it.
BETTER_AUTH_PUBLIC_DEFAULT = "better-auth-secret-12345678901234567890"
SECRET_MIN_BYTES = 32

ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")


class InvalidSettings(SystemExit):
    """Raised at boot. Left alone, it ends the process with one line on stderr and exit status 1."""

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        """Take the faults found, by the name of the variable."""
        self.errors = errors
        faults = "; ".join(f"{name} {message}" for name, messages in errors.items() for message in messages)
        super().__init__(f"todo cannot start: {faults}.")


def secret_faults(secret: str) -> list[str]:
    """Say what makes a shared secret too weak to guard production, worst first; an empty list is a good secret."""
    faults = []
    if secret == BETTER_AUTH_PUBLIC_DEFAULT:
        faults.append("is the default that Better Auth publishes, which everybody knows")
    if len(secret.encode()) < SECRET_MIN_BYTES:
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


class CommaSeparated(fields.Field[tuple[str, ...]]):
    """A list in one variable: parts separated by commas, white space around each dropped, empty parts skipped."""

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        return tuple(part for part in (part.strip() for part in value.split(",")) if part)


def _must_be_an_origin(origins: tuple[str, ...]) -> None:
    """Browsers send `scheme://host[:port]` and nothing else; anything that differs would silently never match."""
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise ValidationError(
                f"has {origin!r}, which is not an exact origin such as https://app.example.com "
                "(lower case, no path, no trailing slash, no wildcard)"
            )


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
    better_auth_secret: str | None = field(default=None, repr=False)
    better_auth_secret_previous: str | None = field(default=None, repr=False)
    jwt_issuer: tuple[str, ...] = ()
    jwt_audience: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    log_level: str = "INFO"
    host: str = "127.0.0.1"
    port: int = 8000
    web_concurrency: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    web_threads: int = 8

    PRODUCTION: ClassVar[frozenset[str]] = frozenset({"production", "staging"})

    @property
    def production(self) -> bool:
        """Tell whether this process must refuse everything that only development may do."""
        return self.environment in self.PRODUCTION

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Config":
        """Read the settings.

        Args:
            environ: Where to read from. By default `.env` beside this file, overridden by the process environment.

        Raises:
            InvalidSettings: naming every variable at fault.

        """
        if environ is None:
            environ = {k: v for k, v in dotenv_values(ROOT / ".env").items() if v is not None} | dict(os.environ)
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
    better_auth_secret = fields.String(data_key="BETTER_AUTH_SECRET")
    better_auth_secret_previous = fields.String(data_key="BETTER_AUTH_SECRET_PREVIOUS")
    jwt_issuer = CommaSeparated(data_key="JWT_ISSUER")
    jwt_audience = CommaSeparated(data_key="JWT_AUDIENCE")
    cors_origins = CommaSeparated(data_key="CORS_ORIGINS", validate=_must_be_an_origin)
    log_level = fields.String(
        data_key="LOG_LEVEL",
        validate=validate.OneOf(
            ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], error="must be DEBUG, INFO, WARNING, ERROR or CRITICAL"
        ),
    )
    host = fields.String(data_key="HOST")
    port = _integer("PORT", 1, 65535, "a port number")
    web_concurrency = _integer("WEB_CONCURRENCY", 1, 256, "a number of processes")
    web_threads = _integer("WEB_THREADS", 1, 64, "a number of threads")

    @pre_load
    def tidy(self, environ: Mapping[str, str], **_: Any) -> dict[str, str]:
        """Treat an empty variable as unset, as compose files leave it, and the words of a vocabulary in any case."""
        tidied = {name: value for name, value in environ.items() if value != ""}
        for name, spelling in (("ENVIRONMENT", str.lower), ("LOG_LEVEL", str.upper)):
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
        if not environ.get("BETTER_AUTH_SECRET"):
            errors["BETTER_AUTH_SECRET"] = ["is not set: it must be the secret that Better Auth signs with"]
        for name in ("better_auth_secret", "better_auth_secret_previous"):
            if name in settings and (faults := secret_faults(settings[name])):
                errors[name.upper()] = faults
        if errors:
            raise ValidationError(errors)

    @post_load
    def build(self, settings: dict[str, Any], **_: Any) -> Config:
        """Make the Config; outside production a front-end on the customary port may call us."""
        if settings.get("environment", "development") not in Config.PRODUCTION:
            settings.setdefault("cors_origins", ("http://localhost:3000", "http://127.0.0.1:3000"))
        return Config(**settings)
