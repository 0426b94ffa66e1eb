"""The settings: declared once each, read from the environment and then from `.env`, typed and frozen.

Each attribute of `Config` is the declaration of one setting: its variable (the name in upper case), its type, its
default, the rule that a value must satisfy, its meaning, and whether it is secret. The schema that reads the
environment, `.env.example` and `docs/settings.md` are derived from these declarations.

The only `.env` is the one beside this file, for the server and for all commands. No other module reads the environment.
All faults are reported together, in one line that names each variable, before
anything else starts.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, urlsplit

import psycopg2
from dotenv import dotenv_values, find_dotenv
from marshmallow import EXCLUDE, Schema, ValidationError, fields, post_load, pre_load, validate, validates_schema
from psycopg2.extensions import parse_dsn

ROOT = Path(__file__).resolve().parent

# What Better Auth signs with when no secret is set. It is published, so every attacker has it.
BETTER_AUTH_PUBLIC_DEFAULT = "better-auth-secret-12345678901234567890"
SECRET_MIN_BYTES = 32

# The path of Better Auth's API unless it is configured otherwise.
BETTER_AUTH_BASE_PATH = "/api/auth"

# The greatest quota and the longest window of a rate limit: what Redis and the response headers can hold.
QUOTA_MAX = 1_000_000_000
WINDOW_MAX_S = 366 * 86_400

# The store of counts that is always available, the process itself; and what the URL of a Redis may contain.
IN_MEMORY = "memory://"
STORE_PATH = re.compile("/?[0-9]*")
STORE_OPTION = re.compile("ssl_[a-z_]+|socket_(connect_)?timeout")

# The servers, and the number of threads that each has by default. Granian's wait for PostgreSQL alone, and four of them
# serve most; those of gunicorn hand requests over to each other as well.
SERVERS = {"gunicorn": 8, "granian": 4}

# What the calls can be adapted to; `todo/dialects/` does it.
DIALECTS = ("alias", "toggle", "mirrors", "stats", "delete-body", "envelope", "partial-put", "plain-errors")

DEFAULT_PORTS = {"http": 80, "https": 443}
URL_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
ORIGIN = re.compile(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?")
# A front-end in an app or an extension has an origin of another scheme, whose host keeps its case (WHATWG URL). Pages
# of the schemes that are left out have no origin of their own.
APP_SCHEME = r"(?!(?:https?|wss?|ftp|file|data|blob|about|javascript):)[a-z][a-z0-9+.-]*"
FRONT_END_ORIGIN = re.compile(rf"{ORIGIN.pattern}|{APP_SCHEME}://[A-Za-z0-9._~-]+(:[0-9]{{1,5}})?")
HOST = re.compile(r"\.?[a-z0-9-]+(\.[a-z0-9-]+)*")

# A host name to listen on (RFC 1123, section 2.1; Docker's names have underscores too). Its last label is no number, or
# a mistyped IPv4 address would be a name.
LISTENER = re.compile(r"([a-z0-9_-]{1,63}\.)*(?![0-9]+$)[a-z0-9_-]{1,63}", re.IGNORECASE)

# The file of the settings. Windows begins UTF-8 with a byte order mark.
DOTENV = ".env"
DOTENV_ENCODING = "utf-8-sig"

# The variables that a process was started with, where the system (Linux) keeps them.
INITIAL_ENVIRONMENT = Path("/proc/self/environ")

# The parts of a PostgreSQL URL after the scheme, as libpq separates them: the user, hosts, the database, and options.
POSTGRES_URL = re.compile(r"(?P<user>[^@/]*@)?(?P<hosts>[^/?]*)(?P<database>/[^?]*)?(\?(?P<options>.*))?")
SLASHES_IN_PASSWORD = re.compile(r"[^:/?@]*:[^?@]*/[^?@]*@")
OPTION_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
WHOLE_NUMBER = re.compile(r"-?[0-9]{1,9}")
PORT_MAX = 65535

# The options whose values libpq reads only once it has a socket.
NUMERIC_OPTIONS = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)

# A folder that can hold no socket. libpq checks its options before it looks for one there, and so connects to nothing.
NOWHERE = "/dev/null/nowhere"

T = TypeVar("T")


class InvalidSettings(SystemExit):
    """The faults of the settings. Uncaught, it ends the process with one line on stderr and exit status 1.

    Args:
        errors: The faults, by the name of the variable.

    """

    def __init__(self, errors: Mapping[str, list[str]]) -> None:
        self.errors = errors
        faults = "; ".join(f"{name} {message}" for name, messages in errors.items() for message in messages)
        super().__init__(f"todo cannot start: {faults}.")


def secret_bytes(secret: str) -> bytes:
    """Return the bytes that tokens are signed with: those of the variable, whether or not they are UTF-8."""
    return secret.encode(errors="surrogateescape")


def secret_faults(secret: str) -> list[str]:
    """Return the reasons why a shared secret is too weak for production, worst first; none for a good secret."""
    faults = []
    if not secret.isprintable():
        faults.append("has characters that cannot be printed, or is not UTF-8")
    if secret == BETTER_AUTH_PUBLIC_DEFAULT:
        faults.append("is the default that Better Auth publishes, so it is no secret")
    if len(secret_bytes(secret)) < SECRET_MIN_BYTES:
        faults.append(f"is shorter than {SECRET_MIN_BYTES} bytes")
    if secret != secret.strip():
        faults.append("has white space around it")
    return faults


def is_address(host: str) -> bool:
    """Check whether a host is an IP address, without brackets."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def in_url(host: str) -> str:
    """Return a host as a URL has it: an IPv6 address in brackets (RFC 3986, section 3.2.2)."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Check whether a host name or address is that of this machine (RFC 6761, section 6.3; RFC 6890)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return is_address(host) and ip_address(host).is_loopback


class Text(fields.String):
    """Any text.

    Attributes:
        expected: A noun phrase for the documentation that describes the values that are accepted.

    """

    expected = "text"

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return self.parse(super()._deserialize(value, attr, data, **kwargs))

    def parse(self, text: str) -> str:
        """Return the value that a text stands for, or raise a `ValidationError` whose message follows the name."""
        return text


class Choice(Text):
    """One of several words, in any case and with any white space around it."""

    def __init__(self, *words: str) -> None:
        super().__init__()
        self.expected = f"{', '.join(words[:-1])} or {words[-1]}"
        self.words = {word.lower(): word for word in words}

    def parse(self, text: str) -> str:
        """Return the word as it is declared."""
        try:
            return self.words[text.strip().lower()]
        except KeyError:
            raise ValidationError(f"must be {self.expected}") from None


class DatabaseUrl(Text):
    """A PostgreSQL URL as providers hand it out, or with several hosts or a socket; libpq itself judges it."""

    expected = "a PostgreSQL URL that starts with postgresql:// or postgres://"
    UNREADABLE = "cannot be read as a URL: is the port a number, and are / @ : # % ? in the password percent-encoded?"

    def parse(self, text: str) -> str:
        """Return the URL with the scheme of libpq; everything else but slashes in the password is kept to the letter.

        No connection is made, and no message repeats what may be a part of the password.
        """
        # Files of secrets end with a newline.
        scheme, separator, rest = text.strip().partition("://")
        if not separator or scheme not in {"postgres", "postgresql", "postgresql+psycopg2"}:
            raise ValidationError("must be a PostgreSQL URL that starts with postgresql://")
        if not rest.isprintable():
            raise ValidationError("has a character that cannot be printed, such as a line break, or is not UTF-8")
        # Random passwords in base64 have slashes, which other libraries than libpq take as they are.
        if match := SLASHES_IN_PASSWORD.match(rest):
            rest = match[0].replace("/", "%2F") + rest[match.end() :]
        parts = POSTGRES_URL.fullmatch(rest)
        # Where a password has @ in it, libpq takes what follows for a host or a database.
        if parts is None or "@" in f"{parts['hosts']}{parts['database']}":
            raise ValidationError(self.UNREADABLE)
        options = parts["options"] or ""
        url = f"postgresql://{rest}"
        faults = list(self._option_faults(options.split("&")))
        if not faults:
            faults = list(self._value_faults(parse_dsn(url))) if _is_readable(url) else [self.UNREADABLE]
        if faults:
            # Likewise for ? in a password: what follows are no options.
            raise ValidationError([self.UNREADABLE] if parts["user"] is None and "@" in options else faults)
        return url

    def _option_faults(self, options: Iterable[str]) -> Iterator[str]:
        """Yield what is wrong with the options of a URL, each of which is a name, an equals sign and a value."""
        names = []
        for option in filter(None, options):
            name = option.partition("=")[0]
            if name in names:
                yield f"has the option {name} twice: several hosts, or ports, are one value with commas"
            elif _is_readable(f"postgresql://?{option}"):
                names.append(name)
            elif not OPTION_NAME.fullmatch(name):
                yield self.UNREADABLE
            elif _is_readable(f"postgresql://?{name}=0"):
                yield f"has the option {name}, whose value cannot be read: is it percent-encoded?"
            else:
                yield f"has the option {name}, which libpq does not know: remove it"

    def _value_faults(self, parameters: Mapping[str, str]) -> Iterator[str]:
        """Yield the values that libpq would refuse at every connection, before it asks any server."""
        hosts, addresses, ports = (
            parameters[name].split(",") if parameters.get(name) else [] for name in ("host", "hostaddr", "port")
        )
        for port in filter(None, ports):
            if not WHOLE_NUMBER.fullmatch(port):
                yield self.UNREADABLE
            elif not 0 < int(port) <= PORT_MAX:
                yield f"has the port {port}, which is not from 1 to {PORT_MAX}"
        if any(":" in host and not host.startswith(("/", "@")) and not is_address(host) for host in hosts):
            yield "has a port in the option host: ports are the option port, one value with commas"
        if not all(is_address(address) for address in filter(None, addresses)):
            yield "has the option hostaddr, whose value is not an IP address"
        if hosts and addresses and len(hosts) != len(addresses):
            yield "has the option hostaddr with another number of values than there are hosts"
        for name in NUMERIC_OPTIONS:
            if not WHOLE_NUMBER.fullmatch(parameters.get(name, "0")):
                yield f"has the option {name}, whose value is not a whole number"
        elsewhere = ",".join([NOWHERE] * max(len(hosts), len(addresses), 1))
        placed = {"host": elsewhere, "hostaddr": "", "port": ",".join("1" for _ in ports)}
        yield from _faults_of_libpq({**parameters, **placed})


def _faults_of_libpq(parameters: Mapping[str, Any]) -> Iterator[str]:
    """Yield what libpq itself finds wrong with parameters that lead nowhere."""
    try:
        psycopg2.connect(**parameters, async_=True)
    except psycopg2.OperationalError as error:
        fault = str(error).strip().partition("\n")[0]
        if NOWHERE not in fault:
            yield f"is refused by libpq: {fault}"


def _is_readable(url: str) -> bool:
    """Check whether libpq can read a URL."""
    try:
        parse_dsn(url)
    except psycopg2.ProgrammingError:
        return False
    return True


class Host(Text):
    """An address to listen on."""

    expected = "an IP address or a host name"

    def parse(self, text: str) -> str:
        """Return the host, an IPv6 address without the brackets that URLs have around it."""
        host = text.strip()
        address = host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host
        if is_address(address) and "%" not in address:
            return str(ip_address(address))
        if not LISTENER.fullmatch(host):
            raise ValidationError(
                "must be an IP address or a host name such as 127.0.0.1, ::1, 0.0.0.0 (every IPv4 address), "
                ":: (every address) or localhost, with no scheme, no port and no socket (the port is PORT)"
            )
        return host


class HttpUrl(Text):
    """The address of a server: https, or http where the connection cannot leave the machine."""

    expected = "an https:// URL; http:// for this machine alone"

    def parse(self, text: str) -> str:
        """Return the URL as browsers write it (WHATWG URL): lower case, no default port, no slash at the end."""
        url = text.strip()
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValidationError("cannot be read as a URL") from None
        scheme, host = parts.scheme, parts.hostname or ""
        origin = f"{scheme}://{in_url(host)}" + ("" if port in {None, DEFAULT_PORTS.get(scheme)} else f":{port}")
        if (
            not (ORIGIN.fullmatch(origin) and URL_PATH.fullmatch(parts.path))
            or "@" in parts.netloc
            or set("?#") & set(url)
        ):
            raise ValidationError("must be a URL such as https://api.example.com, with no user, query or fragment")
        if scheme != "https" and not is_loopback(parts.hostname or ""):
            raise ValidationError("must begin with https:// unless it is on this machine (localhost)")
        return origin + parts.path.rstrip("/")


class RateLimits(Text):
    """One or several rate limits, in the notation of the library `limits`."""

    expected = "limits such as 600/minute, separated by ; where there are several"

    def parse(self, text: str) -> str:
        """Return the text, which is parsed again where the limits are applied."""
        # Imported here because most processes limit nothing.
        from limits import parse_many  # noqa: PLC0415

        try:
            limits = parse_many(text)
        except ValueError:
            raise ValidationError(f"must be {self.expected}") from None
        if not all(0 < limit.amount <= QUOTA_MAX and limit.get_expiry() <= WINDOW_MAX_S for limit in limits):
            raise ValidationError(f"must allow from 1 to {QUOTA_MAX} within a year at most")
        return text


class StoreUrl(Text):
    """The URL of a store of counts."""

    expected = f"a Redis URL that starts with redis:// or rediss://, or {IN_MEMORY}"

    def parse(self, text: str) -> str:
        """Check now what would otherwise fail at the first request. No connection is made."""
        text = text.strip()
        if text == IN_MEMORY:
            return text
        if not text.startswith(("redis://", "rediss://")):
            raise ValidationError(f"must be {self.expected}")
        from redis import RedisError, from_url  # noqa: PLC0415

        try:
            from_url(text).connection_pool.make_connection()
            parts = urlsplit(text)
            (parts.hostname or "").encode("idna")
            names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
            is_readable = STORE_PATH.fullmatch(parts.path) and all(STORE_OPTION.fullmatch(name) for name in names)
        except (TypeError, ValueError, RedisError):
            is_readable = False
        if not is_readable:
            raise ValidationError(
                "cannot be read as a URL: are port and options right, and / @ : # % in the password percent-encoded?"
            )
        return text


class Flag(fields.Boolean):
    """A boolean, in any case and with any white space around it."""

    expected = "true or false"

    def __init__(self) -> None:
        super().__init__(
            truthy={"true", "yes", "on", "1"},
            falsy={"false", "no", "off", "0"},
            error_messages={"invalid": f"must be {self.expected}"},
        )

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        return super()._deserialize(value.strip().lower(), attr, data, **kwargs)


class Number(fields.Integer):
    """A whole number between two bounds, both included.

    Args:
        noun: What it is, with its article: "a port number".
        low: The least value.
        high: The greatest value.

    """

    def __init__(self, noun: str, low: int, high: int) -> None:
        self.expected = f"{noun} from {low} to {high}"
        rule = f"must be {self.expected}"
        super().__init__(validate=validate.Range(low, high, error=rule), error_messages={"invalid": rule})


class CommaSeparated(fields.Field[tuple[str, ...]]):
    """A list: parts separated by commas, white space around each removed, empty parts skipped.

    Args:
        expected: A noun phrase for the documentation that names the parts that are accepted.
        pattern: What each part must match in full. A part that does not would never match what clients send, and
            nothing would report it.
        part: A noun phrase with its article that describes one part, for the message.

    """

    def __init__(self, expected: str, pattern: str | re.Pattern[str] = ".*", part: str = "") -> None:
        super().__init__()
        self.expected = f"{expected}, separated by commas"
        self.pattern = re.compile(pattern)
        self.part = part

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> tuple[str, ...]:
        parts = tuple(part for part in (part.strip() for part in value.split(",")) if part)
        for part in parts:
            if not self.pattern.fullmatch(part):
                raise ValidationError(f"has {part!r}, which is not {self.part}")
        return parts


class Words(CommaSeparated):
    """Any of several words, in any case, each of them once.

    Args:
        *words: The words, in lower case.

    """

    def __init__(self, *words: str) -> None:
        choice = f"{', '.join(words[:-1])} or {words[-1]}"
        super().__init__(f"any of {choice}", "|".join(map(re.escape, words)), choice)

    def _deserialize(self, value: Any, *others: Any, **options: Any) -> tuple[str, ...]:
        return tuple(dict.fromkeys(super()._deserialize(value.lower(), *others, **options)))


Rule = Text | Flag | Number | CommaSeparated


def setting(default: T, rule: Rule, meaning: str, *, is_secret: bool = False, unset: str = "", example: str = "") -> T:
    """Declare a setting, whose name and type are those of the attribute of `Config`.

    Args:
        default: The value without the variable.
        rule: Parses and validates the text of the variable.
        meaning: One or two sentences for an operator.
        is_secret: Whether the value must not be shown.
        unset: A description of the default, where the value alone is none; Markdown, like the meaning.
        example: The value in `.env.example`, where the default does not serve as one.

    """
    metadata = {"rule": rule, "meaning": meaning, "unset": unset, "example": example}
    declared: T = dataclasses.field(default=default, repr=not is_secret, metadata=metadata)
    return declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings of a process. Secrets never appear in its repr."""

    environment: str = setting(
        "development",
        Choice("development", "test", "staging", "production"),
        "Where the service runs. In staging and production it refuses to start on development's defaults.",
    )
    database_url: str | None = setting(
        None,
        DatabaseUrl(),
        "The PostgreSQL database, as the provider writes its URL, Neon's options included, or as libpq does, with "
        "several hosts or a socket. Required in production.",
        is_secret=True,
        unset="an embedded PostgreSQL",
        example="postgresql://user:password@host/todo?sslmode=require&channel_binding=require",
    )
    database_role_limits: bool = setting(
        False,
        Flag(),
        "Whether the role has the time-outs of the statements, which are then not sent along. Only for Citus: see "
        "docs/operate/scale.md.",
    )
    database_prepare: bool = setting(
        True,
        Flag(),
        "Whether PostgreSQL keeps frequent statements parsed and planned. Behind a pooler that shares sessions the "
        "service notices that it cannot, and stops.",
    )
    better_auth_url: str | None = setting(
        None,
        HttpUrl(),
        "The address of the Better Auth server, as in its own `BETTER_AUTH_URL`. Its published keys verify the tokens. "
        "Production requires this or `BETTER_AUTH_SECRET`.",
        example="http://localhost:3000",
    )
    better_auth_secret: str | None = setting(
        None,
        Text(),
        "Without `BETTER_AUTH_URL`: the secret that Better Auth signs the tokens with (HS256), at least 32 bytes.",
        is_secret=True,
        unset="in development a random one, kept in `instance/`",
    )
    better_auth_secret_previous: str | None = setting(
        None,
        Text(),
        "The secret before the current one, tried second while the secret is rotated.",
        is_secret=True,
    )
    jwt_issuer: tuple[str, ...] = setting(
        (),
        CommaSeparated("issuers"),
        "The accepted values of the claim `iss`.",
        unset="the origin of `BETTER_AUTH_URL`; without that, any",
    )
    jwt_audience: tuple[str, ...] = setting(
        (),
        CommaSeparated("audiences"),
        "The accepted values of the claim `aud`.",
        unset="the origin of `BETTER_AUTH_URL`; without that, any",
    )
    jwks_url: str | None = setting(
        None,
        HttpUrl(),
        "The address of the issuer's keys. It needs `BETTER_AUTH_URL`.",
        unset=f"`{BETTER_AUTH_BASE_PATH}/jwks` of `BETTER_AUTH_URL`",
    )
    cors_origins: tuple[str, ...] = setting(
        (),
        CommaSeparated(
            "exact origins such as https://app.example.com or, of apps, capacitor://localhost",
            FRONT_END_ORIGIN,
            "an exact origin such as https://app.example.com (lower case, no path, no trailing slash, no wildcard)",
        ),
        "The front-ends that may call the API from a browser.",
        unset="`http://localhost:3000,http://127.0.0.1:3000`; in production none",
        example="http://localhost:3000,http://127.0.0.1:3000",
    )
    trash_days: int = setting(
        30,
        Number("a number of days", 0, 3650),
        "How long a deleted task can be restored. With 0 nothing of it is kept.",
    )
    tombstone_days: int = setting(
        90,
        Number("a number of days", 1, 3650),
        "How long the tombstone of a deleted task is kept, for clients that follow the changes.",
    )
    kept_pages_mib: int = setting(
        8,
        Number("a number of MiB", 0, 1024),
        "How much memory each process may take to keep pages of lists, which it sends again while PostgreSQL says that "
        "they have not changed. With 0 it keeps none.",
    )
    events_poll_seconds: int = setting(
        2,
        Number("a number of seconds", 0, 3600),
        "While clients wait for events: how often each process looks for what other machines and commands have "
        "written. With 0 it never looks, so that a database that sleeps may sleep.",
    )
    events_max_seconds: int = setting(
        3600,
        Number("a number of seconds", 1, 86_400),
        "How long a stream of events is open, at most a tenth more or less. The client then opens a new one.",
    )
    events_per_user: int = setting(
        20,
        Number("a number of streams", 1, 1000),
        "How many streams of events a user may have in each process. With more the response is 429.",
    )
    events_max: int | None = setting(
        None,
        Number("a number of streams", 1, 8192),
        "How many streams of events each process keeps open. With more the response is 503.",
        unset="half of the connections that a process takes, 4096 at most",
        example="4096",
    )
    require_if_match: bool = setting(
        False,
        Flag(),
        "Whether every change of a task must carry `If-Match`. Without it the response is then 428.",
    )
    compatibility: tuple[str, ...] = setting(
        (),
        Words(*DIALECTS),
        "What front-ends that were written for other back-ends expect; `docs/better-auth.md` has what each word does.",
    )
    rate_limit: str | None = setting(None, RateLimits(), "How often a user may call.", unset="no limit")
    rate_limit_failed_auth: str | None = setting(
        None,
        RateLimits(),
        "How often an address may fail to authenticate before the response is 429 instead of 401.",
        unset="`60/minute` with `RATE_LIMIT`; without that, no limit",
    )
    rate_limit_storage_url: str = setting(
        IN_MEMORY,
        StoreUrl(),
        "The Redis in which all processes count calls together.",
        is_secret=True,
        unset="`memory://`, where each process counts its own",
        example="redis://localhost:6379/0",
    )
    log_level: str = setting(
        "INFO", Choice("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"), "The least severity that is logged."
    )
    log_format: str = setting(
        "console",
        Choice("json", "console"),
        "The form of the log: `json` is one line of JSON for each event, `console` is for reading.",
        unset="`json` in production, otherwise `console`",
        example="console",
    )
    slow_request_ms: int = setting(
        1000,
        Number("a number of milliseconds", 1, 600_000),
        "A request that takes longer is logged as a warning.",
    )
    host: str = setting(
        "127.0.0.1",
        Host(),
        "The IP address or host name to listen on; `0.0.0.0` is every IPv4 address, `::` every address of the machine.",
    )
    port: int = setting(8000, Number("a port number", 1, 65535), "The port to listen on.")
    public_url: str | None = setting(
        None,
        HttpUrl(),
        "The address of this service as clients reach it. The addresses of calendars and of `/mcp` begin with it; in "
        "production there are none of them without it.",
        unset="outside production, the address of the request",
        example="https://api.example.com",
    )
    trusted_proxies: int = setting(
        0,
        Number("a number of proxies", 0, 10),
        "How many proxies in front of the service are trusted about the client's address and scheme "
        "(`X-Forwarded-For` and `X-Forwarded-Proto`). With too many, a client can forge its address.",
    )
    trusted_hosts: tuple[str, ...] = setting(
        (),
        CommaSeparated(
            "hosts such as api.example.com, or .example.com with all below it",
            HOST,
            "a host such as api.example.com, or .example.com with all below it "
            "(lower case, no scheme, no port, no wildcard)",
        ),
        "The hosts that the service answers for. Health checks are answered for any host.",
        unset="any host",
        example="api.example.com",
    )
    metrics_port: int | None = setting(
        None,
        Number("a port number", 1, 65535),
        "The port of the Prometheus metrics, on `HOST`. It must not be reachable from outside.",
        unset="no metrics",
        example="9100",
    )
    web_server: str = setting(
        "gunicorn", Choice(*SERVERS), "The server that `todo serve` runs; `docs/operate/deploy.md` compares them."
    )
    web_concurrency: int = setting(
        min(os.cpu_count() or 1, 8),
        Number("a number of processes", 1, 256),
        "The number of worker processes.",
        unset="one for each processor, at most 8",
        example="2",
    )
    web_threads: int = setting(
        8,
        Number("a number of threads", 1, 64),
        "The number of threads in each worker process. Each thread uses at most one connection to PostgreSQL.",
        unset="8, and 4 with `WEB_SERVER=granian`",
        example="8",
    )

    PRODUCTION: ClassVar[frozenset[str]] = frozenset({"production", "staging"})

    @property
    def production(self) -> bool:
        """Whether this process must refuse everything that only development may do."""
        return self.environment in self.PRODUCTION

    @property
    def address(self) -> str:
        """Where the service listens, as in a URL: host and port."""
        return f"{in_url(self.host)}:{self.port}"

    @property
    def issuer_origin(self) -> str | None:
        """The origin of the token issuer, which is what Better Auth writes as `iss` and `aud` by default."""
        if self.better_auth_url is None:
            return None
        return urlsplit(self.better_auth_url)._replace(path="").geturl()

    @property
    def authorization_server(self) -> str | None:
        """The base URL of Better Auth's API, which is what its OAuth provider writes as `iss`."""
        return None if self.better_auth_url is None else _with_base_path(self.better_auth_url)

    @property
    def resource(self) -> str | None:
        """The `aud` of access tokens of assistants, the address of `/mcp`; None where there are no such tokens."""
        if self.public_url is None or self.better_auth_url is None:
            return None
        return f"{self.public_url}/mcp"

    @property
    def issuers(self) -> tuple[str, ...]:
        """The accepted values of `iss`; with none, the claim is not checked."""
        return self.jwt_issuer or ((self.issuer_origin,) if self.issuer_origin else ())

    @property
    def audiences(self) -> tuple[str, ...]:
        """The accepted values of `aud`; with none, the claim is not checked."""
        return self.jwt_audience or ((self.issuer_origin,) if self.issuer_origin else ())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> "Config":
        """Read the settings.

        Args:
            environ: The variables. By default those of `.env` beside this file, overridden by the process environment.

        Raises:
            InvalidSettings: Some settings are missing or wrong, and it names every one of them; or `.env` is not text.

        """
        if environ is None:
            environ = _dotenv() | _process_environment()
        try:
            config: Config = ConfigSchema().load(environ)
        except ValidationError as error:
            raise InvalidSettings(error.messages_dict) from None
        return config


def _with_base_path(url: str) -> str:
    """Return the base URL of Better Auth's API: a path in its address is the one of the API."""
    return url if urlsplit(url).path else url + BETTER_AUTH_BASE_PATH


def variables() -> dict[str, str]:
    """Return the name of each setting's variable, by the name of the attribute of `Config`."""
    return {field.name: field.name.upper() for field in dataclasses.fields(Config)}


class _Rules(Schema):
    """The rules that concern several settings, and the defaults that depend on other settings."""

    class Meta:
        """The environment is full of variables of other programs."""

        unknown = EXCLUDE

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Name the variable of a field, in faults too."""
        field_obj.data_key = field_name.upper()

    @pre_load
    def drop_empty(self, environ: Mapping[str, str], **_: Any) -> dict[str, str]:
        """Treat an empty variable as unset, which is how compose files leave it."""
        return {name: value for name, value in environ.items() if value != ""}

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def production_takes_no_defaults(self, loaded: dict[str, Any], environ: Mapping[str, str], **_: Any) -> None:
        """Refuse to guess in production where the data is and who may read it."""
        if loaded.get("environment") not in Config.PRODUCTION:
            return
        errors: dict[str, list[str]] = {}
        if not environ.get("DATABASE_URL"):
            errors["DATABASE_URL"] = ["is not set: it must be the URL of your PostgreSQL database"]
        if not environ.get("BETTER_AUTH_URL"):
            if not environ.get("BETTER_AUTH_SECRET"):
                rule = "is not set: it must be the address of your Better Auth server"
                errors["BETTER_AUTH_URL"] = [f"{rule} (or BETTER_AUTH_SECRET the secret that it signs with)"]
            for name in ("better_auth_secret", "better_auth_secret_previous"):
                if name in loaded and (faults := secret_faults(loaded[name])):
                    errors[name.upper()] = faults
        if errors:
            raise ValidationError(errors)

    @validates_schema(skip_on_field_errors=False, pass_original=True)
    def keys_have_an_issuer(self, _loaded: dict[str, Any], environ: Mapping[str, str], **_: Any) -> None:
        """Refuse keys whose issuer is unknown."""
        if environ.get("JWKS_URL") and not environ.get("BETTER_AUTH_URL"):
            raise ValidationError({"JWKS_URL": ["is set and BETTER_AUTH_URL is not: set that one too"]})

    @validates_schema
    def metrics_have_a_port_of_their_own(self, loaded: dict[str, Any], **_: Any) -> None:
        """Keep what operators may see apart from what clients may see."""
        if loaded.get("metrics_port") == loaded.get("port", Config().port):
            raise ValidationError({"METRICS_PORT": ["must be another port than PORT"]})

    @post_load
    def build(self, loaded: dict[str, Any], **_: Any) -> Config:
        """Build the `Config`, with the defaults that depend on other settings."""
        if loaded.get("environment", "development") in Config.PRODUCTION:
            loaded.setdefault("log_format", "json")
        else:
            loaded.setdefault("cors_origins", ("http://localhost:3000", "http://127.0.0.1:3000"))
        if loaded.get("rate_limit"):
            loaded.setdefault("rate_limit_failed_auth", "60/minute")
        loaded.setdefault("web_threads", SERVERS[loaded.get("web_server", Config().web_server)])
        if base := loaded.get("better_auth_url"):
            loaded.setdefault("jwks_url", f"{_with_base_path(base)}/jwks")
        return Config(**loaded)


ConfigSchema = _Rules.from_dict(
    {field.name: field.metadata["rule"] for field in dataclasses.fields(Config)}, name="ConfigSchema"
)


def _dotenv() -> dict[str, str]:
    """Return the variables of the project's own `.env`, to the letter: `$` has no meaning in it.

    Raises:
        InvalidSettings: The file cannot be read, or is not UTF-8.

    """
    try:
        text = (ROOT / DOTENV).read_text(DOTENV_ENCODING)
    except (FileNotFoundError, IsADirectoryError):
        # A virtual environment may have that name.
        return {}
    except UnicodeDecodeError:
        text = "\0"
    except OSError as error:
        raise InvalidSettings({DOTENV: [f"cannot be read: {os.strerror(error.errno or 0)}"]}) from None
    if "\0" in text:
        # ASCII in UTF-16 is UTF-8 too, with a null character beside each letter.
        raise InvalidSettings({DOTENV: ["is not UTF-8: save it in that encoding"]})
    values = dotenv_values(stream=StringIO(text), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}


def _process_environment() -> dict[str, str]:
    """Return the environment of the process, without what `flask` has added from a `.env` file.

    `flask` reads the `.env` of the folder or of one above it, and replaces `$` in it; the server would not. Where
    `deploy/install.py` has run it reads none, and nothing is left to do here.
    """
    environ = dict(os.environ)
    if environ.get("FLASK_RUN_FROM_CLI") != "true":
        return environ
    # Imported here because gunicorn reads the settings before it needs Flask.
    from flask.helpers import get_load_dotenv  # noqa: PLC0415

    if not get_load_dotenv():
        return environ
    try:
        entries = INITIAL_ENVIRONMENT.read_bytes().split(b"\0")
    except OSError:
        entries = []
    initial = {os.fsdecode(entry.partition(b"=")[0]) for entry in entries}
    added = dotenv_values(find_dotenv(usecwd=True))
    return {name: value for name, value in environ.items() if name in initial or added.get(name) != value}


def source(name: str) -> str:
    """Return where a variable is set: `environment`, `.env` or `default`."""
    environ = _process_environment()
    if environ.get(name):
        return "environment"
    return DOTENV if _dotenv().get(name) and name not in environ else "default"


def misspelt() -> dict[str, str]:
    """Return the variables that were probably meant to be settings, each with the name of that setting.

    A name in lower case is one of them.
    """
    names = variables().values()
    found = sorted({*_process_environment(), *_dotenv()}.difference(names))
    candidates = [name for name in found if not name.upper().startswith("FLASK_")]
    close = {name: get_close_matches(name.upper(), names, n=1, cutoff=0.85) for name in candidates}
    return {name: matches[0] for name, matches in close.items() if matches}
