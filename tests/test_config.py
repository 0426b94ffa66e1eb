"""Settings: their sources, their defaults and their rules."""

import dataclasses
import os
import subprocess
import sys

import pytest
from psycopg2.extensions import parse_dsn

import config
from config import BETTER_AUTH_PUBLIC_DEFAULT, Config, InvalidSettings
from todo.auth import with_secret

URL = "postgresql://u:sesame@db.example.com/todo"
SECRET = "a secret of more than thirty-two bytes"
PRODUCTION = {"ENVIRONMENT": "production", "DATABASE_URL": URL, "BETTER_AUTH_SECRET": SECRET}


def test_config_without_any_variable_is_development():
    settings = Config.from_environment({})
    assert settings.environment == "development"
    assert not settings.production
    assert settings.database_url is None
    assert settings.better_auth_secret is None
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.cors_origins == ("http://localhost:3000", "http://127.0.0.1:3000")
    assert (settings.trash_days, settings.tombstone_days, settings.require_if_match) == (30, 90, False)
    assert (settings.trusted_proxies, settings.trusted_hosts) == (0, ())
    assert 1 <= settings.web_concurrency <= 8


def test_config_reads_every_variable():
    settings = Config.from_environment(
        {
            "ENVIRONMENT": " Staging ",
            "DATABASE_URL": URL,
            "BETTER_AUTH_URL": "https://Auth.example.com:443/",
            "BETTER_AUTH_SECRET": SECRET,
            "BETTER_AUTH_SECRET_PREVIOUS": SECRET[::-1],
            "JWT_ISSUER": "https://a.example, https://b.example,",
            "JWT_AUDIENCE": "todo",
            "JWKS_URL": "https://auth.example.com/keys",
            "CORS_ORIGINS": "https://app.example.com,http://localhost:5173",
            "TRASH_DAYS": "7",
            "TOMBSTONE_DAYS": "365",
            "REQUIRE_IF_MATCH": " TRUE ",
            "COMPATIBILITY": " Alias, plain-errors,,alias ",
            "RATE_LIMIT": "600/minute; 30 per 2 seconds",
            "RATE_LIMIT_FAILED_AUTH": "20/hour",
            "RATE_LIMIT_STORAGE_URL": "rediss://u:p@redis.example.com:6380/1?socket_timeout=0.3",
            "LOG_LEVEL": "debug",
            "LOG_FORMAT": " Console ",
            "SLOW_REQUEST_MS": "250",
            "HOST": "0.0.0.0",
            "PORT": "8080",
            "TRUSTED_PROXIES": "2",
            "TRUSTED_HOSTS": "api.example.com, .example.org,10.0.0.1",
            "METRICS_PORT": "9100",
            "WEB_CONCURRENCY": "3",
            "WEB_THREADS": "4",
        }
    )
    assert settings == Config(
        environment="staging",
        database_url="postgresql://u:sesame@db.example.com/todo",
        better_auth_url="https://auth.example.com",
        better_auth_secret=SECRET,
        better_auth_secret_previous=SECRET[::-1],
        jwt_issuer=("https://a.example", "https://b.example"),
        jwt_audience=("todo",),
        jwks_url="https://auth.example.com/keys",
        cors_origins=("https://app.example.com", "http://localhost:5173"),
        trash_days=7,
        tombstone_days=365,
        require_if_match=True,
        compatibility=("alias", "plain-errors"),
        rate_limit="600/minute; 30 per 2 seconds",
        rate_limit_failed_auth="20/hour",
        rate_limit_storage_url="rediss://u:p@redis.example.com:6380/1?socket_timeout=0.3",
        log_level="DEBUG",
        log_format="console",
        slow_request_ms=250,
        host="0.0.0.0",
        port=8080,
        trusted_proxies=2,
        trusted_hosts=("api.example.com", ".example.org", "10.0.0.1"),
        metrics_port=9100,
        web_concurrency=3,
        web_threads=4,
    )
    assert settings.production


def test_config_takes_an_empty_variable_for_unset():
    assert Config.from_environment(dict.fromkeys(["DATABASE_URL", "BETTER_AUTH_SECRET", "PORT"], "")).port == 8000


def test_config_in_production_allows_no_origin_by_itself():
    assert Config.from_environment(PRODUCTION).cors_origins == ()


@pytest.mark.parametrize(
    "origin",
    [
        "capacitor://localhost",
        "ionic://localhost",
        "tauri://localhost",
        "http://tauri.localhost",
        "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
        "moz-extension://0b8bc9f2-6b0a-4a55-9a0e-4f5c1c2d3e4f",
        "safari-web-extension://0B8BC9F2-6B0A-4A55-9A0E-4F5C1C2D3E4F",
        "app://.",
        "app://-",
        "com.example.app://localhost:8080",
    ],
)
def test_origin_of_an_app_is_accepted(origin):
    settings = Config.from_environment({**PRODUCTION, "CORS_ORIGINS": f"https://app.example.com, {origin}"})
    assert settings.cors_origins == ("https://app.example.com", origin)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_config_database_url_is_normalised_and_keeps_the_rest(scheme):
    rest = "u:p%40ss@ep-x-pooler.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require"
    assert Config.from_environment({"DATABASE_URL": f"{scheme}://{rest}"}).database_url == f"postgresql://{rest}"


@pytest.mark.parametrize(
    ("url", "parameters"),
    [
        ("postgresql://", {}),
        ("postgresql:///db", {"dbname": "db"}),
        ("postgresql://h1:1,h2:2/db", {"host": "h1,h2", "port": "1,2", "dbname": "db"}),
        ("postgresql://h1,h2:5433/db", {"host": "h1,h2", "port": ",5433", "dbname": "db"}),
        ("postgresql://h1,h2/db?port=5433", {"host": "h1,h2", "port": "5433", "dbname": "db"}),
        ("postgresql:///db?host=a,b&port=1,2", {"host": "a,b", "port": "1,2", "dbname": "db"}),
        ("postgresql://%2Frun%2Fpg:5433/db", {"host": "/run/pg", "port": "5433", "dbname": "db"}),
        ("postgresql:///db?host=/run/pg", {"host": "/run/pg", "dbname": "db"}),
        ("postgresql:///db?host=@abstract", {"host": "@abstract", "dbname": "db"}),
        ("postgresql://[::1]:5433/db", {"host": "::1", "port": "5433", "dbname": "db"}),
        (
            "postgresql:///db?hostaddr=10.0.0.1,::1&port=1,2",
            {"hostaddr": "10.0.0.1,::1", "port": "1,2", "dbname": "db"},
        ),
        ("postgresql://h/db?hostaddr=10.0.0.1", {"host": "h", "hostaddr": "10.0.0.1", "dbname": "db"}),
        ("postgresql://u:p%2F%40%3A%23%25@h/db", {"user": "u", "password": "p/@:#%", "host": "h", "dbname": "db"}),
        ("postgresql://u:p w?é@h/db", {"user": "u", "password": "p w?é", "host": "h", "dbname": "db"}),
        ("postgresql://u:p/w+/=@h/db", {"user": "u", "password": "p/w+/=", "host": "h", "dbname": "db"}),
        ("postgresql://h:5433/db?user=a@b", {"host": "h", "port": "5433", "dbname": "db", "user": "a@b"}),
        ("postgresql:///db?user=me@server", {"user": "me@server", "dbname": "db"}),
        ("postgresql://h/db?ssl=true&", {"host": "h", "sslmode": "require", "dbname": "db"}),
        (
            "postgresql://h/?sslmode=verify-full&sslrootcert=system&target_session_attrs=read-write",
            {"host": "h", "sslmode": "verify-full", "sslrootcert": "system", "target_session_attrs": "read-write"},
        ),
        (
            "postgresql://h/?options=-csearch_path%3Dtodo&keepalives=0&connect_timeout=-1",
            {"host": "h", "options": "-csearch_path=todo", "keepalives": "0", "connect_timeout": "-1"},
        ),
        (" postgres://h/db\n", {"host": "h", "dbname": "db"}),
        ("postgres://h/db\r\n", {"host": "h", "dbname": "db"}),
    ],
)
def test_config_takes_each_form_of_url_that_libpq_takes(url, parameters):
    assert parse_dsn(Config.from_environment({"DATABASE_URL": url}).database_url) == parameters


UNREADABLE = "cannot be read as a URL: is the port a number, and are / @ : # % ? in the password percent-encoded?"
UNKNOWN = "which libpq does not know: remove it"


@pytest.mark.parametrize(
    ("rest", "faults"),
    [
        ("h/db?schema=public", [f"has the option schema, {UNKNOWN}"]),
        ("h/db?pgbouncer=true&schema=x", [f"has the option {name}, {UNKNOWN}" for name in ("pgbouncer", "schema")]),
        ("h/db?SSLMODE=require", [f"has the option SSLMODE, {UNKNOWN}"]),
        ("h/db?ssl=1", [f"has the option ssl, {UNKNOWN}"]),
        ("h/db?x%20y=1", [UNREADABLE]),
        ("h/db?sslmode", ["has the option sslmode, whose value cannot be read: is it percent-encoded?"]),
        ("h/db?password=100%", ["has the option password, whose value cannot be read: is it percent-encoded?"]),
        ("/db?host=a&host=b", ["has the option host twice: several hosts, or ports, are one value with commas"]),
        ("/db?host=a:1,b:2", ["has a port in the option host: ports are the option port, one value with commas"]),
        ("h:99999/db", ["has the port 99999, which is not from 1 to 65535"]),
        ("h/db?port=0", ["has the port 0, which is not from 1 to 65535"]),
        ("h1:1,h2:65536/db", ["has the port 65536, which is not from 1 to 65535"]),
        ("h:-1/db", ["has the port -1, which is not from 1 to 65535"]),
        ("h:5432x/db", [UNREADABLE]),
        ("[::1/db", [UNREADABLE]),
        ("u:sesame%zz@h/db", [UNREADABLE]),
        ("u:sesame/open@h:x/db", [UNREADABLE]),
        ("u:123/sesame?@h/db", [UNREADABLE]),
        ("u:open@sesame@h/db", [UNREADABLE]),
        ("u:12/x?sesame=1@h/db", [UNREADABLE]),
        ("h/db\nsesame", ["has a character that cannot be printed, such as a line break, or is not UTF-8"]),
        ("u:\udcff@h/db", ["has a character that cannot be printed, such as a line break, or is not UTF-8"]),
        ("h/db?sslmode=foo", ['is refused by libpq: invalid sslmode value: "foo"']),
        ("h/db?sslmode=", ['is refused by libpq: invalid sslmode value: ""']),
        ("h/db?sslmode=foo&channel_binding=on", ["is refused by libpq: "]),
        ("h/db?channel_binding=on", ['is refused by libpq: invalid channel_binding value: "on"']),
        ("h/db?target_session_attrs=write", ['is refused by libpq: invalid target_session_attrs value: "write"']),
        ("h/db?gssencmode=x", ['is refused by libpq: invalid gssencmode value: "x"']),
        ("h/db?ssl_min_protocol_version=1", ["is refused by libpq: invalid "]),
        ("h/db?sslrootcert=system&sslmode=require", ['is refused by libpq: weak sslmode "require"']),
        ("h1,h2/db?port=1,2,3", ["is refused by libpq: could not match 3 port numbers to 2 hosts"]),
        ("h/db?service=nowhere", ['is refused by libpq: definition of service "nowhere" not found']),
        ("h/db?hostaddr=h", ["has the option hostaddr, whose value is not an IP address"]),
        ("h1,h2/db?hostaddr=::1", ["has the option hostaddr with another number of values than there are hosts"]),
        ("h/db?keepalives=yes", ["has the option keepalives, whose value is not a whole number"]),
        ("h/db?connect_timeout=3s", ["has the option connect_timeout, whose value is not a whole number"]),
        (
            "h:99999/db?sslmode=foo&tcp_user_timeout=x",
            [
                "has the port 99999, which is not from 1 to 65535",
                "has the option tcp_user_timeout, whose value is not a whole number",
                'is refused by libpq: invalid sslmode value: "foo"',
            ],
        ),
    ],
)
def test_config_database_url_that_libpq_would_refuse_is_refused_by_option(rest, faults):
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment({"DATABASE_URL": f"postgresql://{rest}"})
    found = refused.value.errors["DATABASE_URL"]
    assert len(found) == len(faults)
    assert all(one.startswith(start) for one, start in zip(found, faults, strict=True)), found
    assert "sesame" not in str(refused.value)


@pytest.mark.parametrize(
    ("value", "host", "address"),
    [
        ("0.0.0.0", "0.0.0.0", "0.0.0.0:8000"),
        (" 127.0.0.1 ", "127.0.0.1", "127.0.0.1:8000"),
        ("::", "::", "[::]:8000"),
        ("[::]", "::", "[::]:8000"),
        ("::1\n", "::1", "[::1]:8000"),
        ("[::1]", "::1", "[::1]:8000"),
        ("0:0:0:0:0:0:0:1", "::1", "[::1]:8000"),
        ("2001:DB8::1", "2001:db8::1", "[2001:db8::1]:8000"),
        ("localhost", "localhost", "localhost:8000"),
        ("my_service.internal", "my_service.internal", "my_service.internal:8000"),
        ("", "127.0.0.1", "127.0.0.1:8000"),
    ],
)
def test_config_host_is_an_address_or_a_name_and_has_brackets_where_a_port_follows(value, host, address):
    settings = Config.from_environment({"HOST": value})
    assert (settings.host, settings.address) == (host, address)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("ENVIRONMENT", "prod", "must be development, test, staging or production"),
        ("DATABASE_URL", "sqlite:///todo.db", "must be a PostgreSQL URL"),
        ("DATABASE_URL", "db.example.com", "must be a PostgreSQL URL"),
        ("DATABASE_URL", "postgresql+asyncpg://db/todo", "must be a PostgreSQL URL"),
        ("DATABASE_URL", "postgresql://u:se/same@h:5432x/db", "cannot be read as a URL"),
        *(
            ("HOST", host, "must be an IP address or a host name")
            for host in (
                " ",
                "*",
                "a b",
                "unix:/run/todo.sock",
                "unix:todo",
                "fd://3",
                "/run/todo.sock",
                "http://localhost",
                "localhost:8000",
                "127.0.0.1:8000",
                "[::1]:8000",
                "[::1",
                "[localhost]",
                "[127.0.0.1]",
                "fe80::1%eth0",
                ":::",
                "256.0.0.1",
                "127.1",
                "0",
                "127.0.0.1,::1",
                "a..b",
                "é.example",
            )
        ),
        ("BETTER_AUTH_URL", "localhost:3000", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://", "must be a URL such as"),
        ("BETTER_AUTH_URL", "ftp://auth.example.com", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://u:p@auth.example.com", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com/?x=1", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com/#x", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com/?", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com/api auth", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com/é", "must be a URL such as"),
        ("BETTER_AUTH_URL", "https://auth.example.com:x", "cannot be read as a URL"),
        ("BETTER_AUTH_URL", "http://auth.example.com", "must begin with https:// unless it is on this machine"),
        ("BETTER_AUTH_URL", "http://10.0.0.1:3000", "must begin with https:// unless it is on this machine"),
        ("BETTER_AUTH_URL", "http://localhost.example.com", "must begin with https:// unless it is on this machine"),
        ("CORS_ORIGINS", "https://x(y)$", "is not an exact origin"),
        ("CORS_ORIGINS", "https://u:p@app.example.com", "is not an exact origin"),
        ("CORS_ORIGINS", "https://App.example.com", "is not an exact origin"),
        ("CORS_ORIGINS", "https://", "is not an exact origin"),
        ("CORS_ORIGINS", "*", "is not an exact origin"),
        ("CORS_ORIGINS", "https://app.example.com/", "is not an exact origin"),
        ("CORS_ORIGINS", "https://app.example.com,app.example.com", "is not an exact origin"),
        ("CORS_ORIGINS", "https://*.example.com", "is not an exact origin"),
        *(
            ("CORS_ORIGINS", origin, "is not an exact origin")
            for origin in (
                "capacitor://",
                "capacitor://localhost/",
                "capacitor://local host",
                "Capacitor://localhost",
                "capacitor:localhost",
                "chrome-extension://*",
                "file://",
                "file:///index.html",
                "file://localhost",
                "data://x",
                "javascript://x",
                "ws://localhost",
                "wss://app.example.com",
                "1app://localhost",
                "null",
                "tauri://user@localhost",
            )
        ),
        ("TRASH_DAYS", "-1", "must be a number of days from 0 to 3650"),
        ("TRASH_DAYS", "3651", "must be a number of days from 0 to 3650"),
        ("TRASH_DAYS", "30d", "must be a number of days from 0 to 3650"),
        ("TRASH_DAYS", "0.5", "must be a number of days from 0 to 3650"),
        ("TOMBSTONE_DAYS", "0", "must be a number of days from 1 to 3650"),
        ("TOMBSTONE_DAYS", "3651", "must be a number of days from 1 to 3650"),
        ("TOMBSTONE_DAYS", "never", "must be a number of days from 1 to 3650"),
        ("REQUIRE_IF_MATCH", "maybe", "must be true or false"),
        ("REQUIRE_IF_MATCH", "2", "must be true or false"),
        (
            "COMPATIBILITY",
            "alias,aliases",
            "has 'aliases', which is not alias, toggle, mirrors, stats, delete-body, envelope, partial-put or plain",
        ),
        ("COMPATIBILITY", "true", "has 'true', which is not alias"),
        ("COMPATIBILITY", "partial_put", "has 'partial_put', which is not alias"),
        ("COMPATIBILITY", "alias toggle", "has 'alias toggle', which is not alias"),
        ("REQUIRE_IF_MATCH", "t", "must be true or false"),
        ("REQUIRE_IF_MATCH", " ", "must be true or false"),
        ("RATE_LIMIT", "many", "must be limits such as 600/minute"),
        ("RATE_LIMIT", "600/fortnight", "must be limits such as 600/minute"),
        ("RATE_LIMIT", "600/minute;", "must be limits such as 600/minute"),
        ("RATE_LIMIT", f"{'9' * 5000}/minute", "must be limits such as 600/minute"),
        ("RATE_LIMIT", "600/minute;0/second", "must allow from 1 to 1000000000 within a year at most"),
        ("RATE_LIMIT", "1000000001/minute", "must allow from 1 to 1000000000 within a year at most"),
        ("RATE_LIMIT", "1/2 years", "must allow from 1 to 1000000000 within a year at most"),
        ("RATE_LIMIT_FAILED_AUTH", "-1/minute", "must be limits such as 600/minute"),
        ("RATE_LIMIT_STORAGE_URL", "memcached://localhost", "must be a Redis URL that starts with redis://"),
        ("RATE_LIMIT_STORAGE_URL", "redis://localhost:x", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://a..b", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://:p/w@localhost", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://localhost/name", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://localhost?retry=1", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://localhost?socket_timeout=x", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "redis://localhost?ssl_cert_reqs=none", "cannot be read as a URL"),
        ("RATE_LIMIT_STORAGE_URL", "rediss://localhost?ssl_cert_reqs=some", "cannot be read as a URL"),
        ("LOG_LEVEL", "loud", "must be DEBUG, INFO, WARNING, ERROR or CRITICAL"),
        ("LOG_FORMAT", "xml", "must be json or console"),
        ("SLOW_REQUEST_MS", "0", "must be a number of milliseconds from 1 to 600000"),
        ("SLOW_REQUEST_MS", "1s", "must be a number of milliseconds from 1 to 600000"),
        ("PORT", "http", "must be a port number from 1 to 65535"),
        ("PORT", "65536", "must be a port number from 1 to 65535"),
        ("TRUSTED_PROXIES", "-1", "must be a number of proxies from 0 to 10"),
        ("TRUSTED_PROXIES", "11", "must be a number of proxies from 0 to 10"),
        ("TRUSTED_PROXIES", "*", "must be a number of proxies from 0 to 10"),
        ("TRUSTED_HOSTS", "*", "is not a host such as"),
        ("TRUSTED_HOSTS", "*.example.com", "is not a host such as"),
        ("TRUSTED_HOSTS", "https://api.example.com", "is not a host such as"),
        ("TRUSTED_HOSTS", "api.example.com:8000", "is not a host such as"),
        ("TRUSTED_HOSTS", "api.example.com,API.example.org", "has 'API.example.org', which is not a host such as"),
        ("TRUSTED_HOSTS", "api.example.com.", "is not a host such as"),
        ("TRUSTED_HOSTS", "api_1", "is not a host such as"),
        ("TRUSTED_HOSTS", ".", "is not a host such as"),
        ("TRUSTED_HOSTS", "[::1]", "is not a host such as"),
        ("METRICS_PORT", "0", "must be a port number from 1 to 65535"),
        ("METRICS_PORT", "8000", "must be another port than PORT"),
        ("WEB_CONCURRENCY", "0", "must be a number of processes from 1 to 256"),
        ("WEB_THREADS", "1.5", "must be a number of threads from 1 to 64"),
    ],
)
def test_config_bad_value_is_refused_by_name_and_rule(name, value, message):
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment({name: value})
    assert list(refused.value.errors) == [name]
    assert f"{name} " in str(refused.value)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "value", "days"),
    [
        ("TRASH_DAYS", "0", 0),
        ("TRASH_DAYS", "3650", 3650),
        ("TRASH_DAYS", "", 30),
        ("TOMBSTONE_DAYS", "1", 1),
        ("TOMBSTONE_DAYS", "3650", 3650),
        ("TOMBSTONE_DAYS", "", 90),
    ],
)
def test_config_days_can_be_any_number_between_the_bounds(name, value, days):
    assert getattr(Config.from_environment({name: value}), name.lower()) == days


@pytest.mark.parametrize(
    ("value", "required"),
    [
        *((word, True) for word in ("true", "yes", "on", "1", "True", "YES", "On ")),
        *((word, False) for word in ("false", "no", "off", "0", "False", "NO", " oFF", "")),
    ],
)
def test_config_require_if_match_takes_the_usual_words_in_any_case(value, required):
    assert Config.from_environment({"REQUIRE_IF_MATCH": value}).require_if_match is required


@pytest.mark.parametrize(
    ("variables", "calls", "failures"),
    [
        pytest.param({}, None, None, id="neither"),
        pytest.param({"RATE_LIMIT": "5/second"}, "5/second", "60/minute", id="calls"),
        pytest.param({"RATE_LIMIT_FAILED_AUTH": "5/day"}, None, "5/day", id="failures"),
        pytest.param(
            {"RATE_LIMIT": "1/year", "RATE_LIMIT_FAILED_AUTH": "2/month|3/minute"},
            "1/year",
            "2/month|3/minute",
            id="both",
        ),
    ],
)
def test_config_limits_of_calls_bring_one_of_failures_and_not_the_other_way(variables, calls, failures):
    settings = Config.from_environment(variables)
    assert (settings.rate_limit, settings.rate_limit_failed_auth) == (calls, failures)


@pytest.mark.parametrize(
    "url",
    [
        "memory://",
        "redis://",
        "redis://h\n",
        "redis://:p%2Fw@[::1]:6379/0",
        "rediss://h?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
    ],
)
def test_config_takes_the_url_of_a_store_of_counts(url):
    assert Config.from_environment({"RATE_LIMIT_STORAGE_URL": url}).rate_limit_storage_url == url.strip()


@pytest.mark.parametrize(
    ("environment", "log_format"),
    [("development", "console"), ("test", "console"), ("staging", "json"), ("production", "json")],
)
def test_config_log_is_json_in_production_and_console_elsewhere(environment, log_format):
    settings = {"ENVIRONMENT": environment, "DATABASE_URL": URL, "BETTER_AUTH_SECRET": SECRET}
    assert Config.from_environment(settings).log_format == log_format
    assert Config.from_environment(settings | {"LOG_FORMAT": "json"}).log_format == "json"


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_config_production_names_all_missing_settings_in_one_line(environment):
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment({"ENVIRONMENT": environment, "PORT": "x"})
    assert set(refused.value.errors) == {"DATABASE_URL", "BETTER_AUTH_URL", "PORT"}
    assert "BETTER_AUTH_SECRET" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_config_production_reports_one_fault_of_a_bad_url():
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment(PRODUCTION | {"DATABASE_URL": "mysql://db"})
    assert refused.value.errors == {"DATABASE_URL": ["must be a PostgreSQL URL that starts with postgresql://"]}


@pytest.mark.parametrize("name", ["BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET_PREVIOUS"])
@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ("sesame", "is shorter than 32 bytes"),
        (f" {SECRET}", "has white space around it"),
        (f"{SECRET}\n", "has white space around it"),
        (BETTER_AUTH_PUBLIC_DEFAULT, "is the default that Better Auth publishes"),
    ],
)
def test_config_production_refuses_a_weak_secret_and_does_not_repeat_it(name, secret, message):
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment(PRODUCTION | {name: secret})
    assert message in str(refused.value)
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "origin", "jwks_url"),
    [
        ("http://localhost:3000", "http://localhost:3000", "http://localhost:3000/api/auth/jwks"),
        (" http://localhost:3000/ ", "http://localhost:3000", "http://localhost:3000/api/auth/jwks"),
        ("http://localhost:3000/api/auth", "http://localhost:3000", "http://localhost:3000/api/auth/jwks"),
        ("https://app.example.com/auth/", "https://app.example.com", "https://app.example.com/auth/jwks"),
        ("HTTPS://App.Example.com:443", "https://app.example.com", "https://app.example.com/api/auth/jwks"),
        ("http://127.0.0.2:80", "http://127.0.0.2", "http://127.0.0.2/api/auth/jwks"),
        ("http://[::1]:3000", "http://[::1]:3000", "http://[::1]:3000/api/auth/jwks"),
        ("http://auth.localhost", "http://auth.localhost", "http://auth.localhost/api/auth/jwks"),
    ],
)
def test_config_better_auth_url_sets_the_issuer_and_the_address_of_the_keys(url, origin, jwks_url):
    settings = Config.from_environment({"BETTER_AUTH_URL": url})
    assert settings.issuer_origin == origin
    assert (settings.issuers, settings.audiences, settings.jwks_url) == ((origin,), (origin,), jwks_url)


def test_config_issuer_audience_and_keys_can_be_set_apart():
    settings = Config.from_environment(
        {
            "BETTER_AUTH_URL": "https://auth.example.com",
            "JWT_ISSUER": "https://a.example",
            "JWT_AUDIENCE": "todo,https://b.example",
            "JWKS_URL": "http://127.0.0.1:9/keys",
        }
    )
    assert (settings.issuers, settings.audiences) == (("https://a.example",), ("todo", "https://b.example"))
    assert settings.jwks_url == "http://127.0.0.1:9/keys"


def test_config_without_an_issuer_expects_nothing():
    settings = Config.from_environment({"BETTER_AUTH_SECRET": SECRET})
    assert (settings.issuers, settings.audiences, settings.issuer_origin, settings.jwks_url) == ((), (), None, None)


def test_config_production_with_an_issuer_needs_no_secret_and_does_not_check_one():
    settings = {"ENVIRONMENT": "production", "DATABASE_URL": URL, "BETTER_AUTH_URL": "https://auth.example.com"}
    assert Config.from_environment(settings).better_auth_secret is None
    assert Config.from_environment(settings | {"BETTER_AUTH_SECRET": "short"}).production


def test_config_keys_without_an_issuer_are_refused():
    with pytest.raises(InvalidSettings, match="JWKS_URL is set and BETTER_AUTH_URL is not"):
        Config.from_environment({"JWKS_URL": "https://auth.example.com/keys"})


def test_config_secret_length_counts_bytes():
    assert Config.from_environment(PRODUCTION | {"BETTER_AUTH_SECRET": "é" * 16}).production


def test_config_development_takes_a_weak_secret():
    assert Config.from_environment({"BETTER_AUTH_SECRET": "short"}).better_auth_secret == "short"


def test_config_never_shows_a_secret():
    store = "redis://:sesame@redis.example.com"
    variables = PRODUCTION | {"BETTER_AUTH_SECRET_PREVIOUS": SECRET[::-1], "RATE_LIMIT_STORAGE_URL": store}
    shown = repr(Config.from_environment(variables))
    assert SECRET not in shown
    assert SECRET[::-1] not in shown
    assert "sesame" not in shown


def test_config_reads_dotenv_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PORT=8001\nWEB_THREADS=5\nJWT_AUDIENCE\n")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    for name in ("PORT", "WEB_THREADS", "JWT_AUDIENCE", "DATABASE_URL", "ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", "8002")
    settings = Config.from_environment()
    assert (settings.port, settings.web_threads, settings.jwt_audience) == (8002, 5, ())


def test_source_is_where_a_variable_was_read_from(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text("PORT=8001\nWEB_THREADS=5\nHOST=\n")
    monkeypatch.setattr(config, "ROOT", tmp_path)
    for name in ("PORT", "WEB_THREADS", "HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PORT", "8002")
    assert [config.source(name) for name in ("PORT", "WEB_THREADS", "HOST")] == ["environment", ".env", "default"]


def test_misspelt_names_the_likely_setting(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "CORS_ORIGIN=x\nDATABASE_URI=x\nPORT=8001\nFLASK_DATABASE_URL=x\ndatabase_url=x\nJwt_Issuer=x\nflask_port=1\n"
    )
    monkeypatch.setattr(config, "ROOT", tmp_path)
    monkeypatch.setattr(os, "environ", {"BETTER_AUTH_ULR": "x", "PATH": "x", "web_threads": "2"})
    assert config.misspelt() == {
        "BETTER_AUTH_ULR": "BETTER_AUTH_URL",
        "CORS_ORIGIN": "CORS_ORIGINS",
        "DATABASE_URI": "DATABASE_URL",
        "Jwt_Issuer": "JWT_ISSUER",
        "database_url": "DATABASE_URL",
        "web_threads": "WEB_THREADS",
    }


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Return the folder of the project, in an environment without settings."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    for name in config.variables().values():
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "secret"),
    [
        pytest.param(rb"BETTER_AUTH_SECRET=a$PATH${PATH}b", "a$PATH${PATH}b", id="no-interpolation"),
        pytest.param(b'A=x\nBETTER_AUTH_SECRET="${A}"', "${A}", id="no-interpolation-in-quotes"),
        pytest.param(b"\xef\xbb\xbfBETTER_AUTH_SECRET=x", "x", id="byte-order-mark"),
        pytest.param(b"export BETTER_AUTH_SECRET='a # b'\r\n# x\r\n", "a # b", id="quoted"),
        pytest.param("BETTER_AUTH_SECRET=žluť".encode(), "žluť", id="utf-8"),
        pytest.param(b"better_auth_secret=x", None, id="wrong-case"),
        pytest.param(b"", None, id="empty"),
    ],
)
def test_dotenv_is_read_to_the_letter(alone, content, secret):
    (alone / ".env").write_bytes(content)
    assert Config.from_environment().better_auth_secret == secret


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("PORT=8001 # žluť".encode("latin2"), id="latin"),
        pytest.param("PORT=8001".encode("utf-16"), id="utf-16"),
        pytest.param("PORT=8001".encode("utf-16-le"), id="utf-16-without-a-mark"),
        pytest.param(bytes(range(256)), id="binary"),
    ],
)
def test_dotenv_that_is_not_utf8_is_one_line_that_names_it(alone, content):
    (alone / ".env").write_bytes(content)
    with pytest.raises(InvalidSettings) as refused:
        Config.from_environment()
    assert str(refused.value) == "todo cannot start: .env is not UTF-8: save it in that encoding."


def test_dotenv_that_cannot_be_read_is_one_line_that_names_it(alone):
    (alone / ".env").symlink_to(".env")
    with pytest.raises(InvalidSettings, match=r"^todo cannot start: \.env cannot be read: [^\n]+\.$"):
        Config.from_environment()


def test_dotenv_that_is_a_folder_is_none(alone):
    (alone / ".env").mkdir()
    assert Config.from_environment().port == 8000


@pytest.mark.parametrize(
    ("initial", "host", "where"),
    [
        pytest.param(b"PORT=8003\0HOST=::1\0", "::1", "environment", id="set-to-the-same-before"),
        pytest.param(b"PORT=8003\0", "127.0.0.1", "default", id="added"),
        pytest.param(None, "127.0.0.1", "default", id="unknown-system"),
    ],
)
def test_what_flask_has_read_from_a_folder_above_is_no_setting(alone, monkeypatch, initial, host, where):
    """It has put what it found into the environment before it imports the application."""
    (alone / ".env").write_text("HOST=::1\nJWT_ISSUER=${HOST}\n")
    project = alone / "backend"
    project.mkdir()
    monkeypatch.setattr(config, "ROOT", project)
    monkeypatch.chdir(project)
    monkeypatch.setattr(config, "INITIAL_ENVIRONMENT", alone / "environ")
    if initial is not None:
        (alone / "environ").write_bytes(initial)
    for name, value in (("FLASK_RUN_FROM_CLI", "true"), ("FLASK_SKIP_DOTENV", "0"), ("PORT", "8003")):
        monkeypatch.setenv(name, value)
    for name, value in (("HOST", "::1"), ("JWT_ISSUER", "::1")):
        monkeypatch.setenv(name, value)

    settings = Config.from_environment()

    assert (settings.host, settings.port, settings.jwt_issuer) == (host, 8003, ())
    assert [config.source(name) for name in ("HOST", "PORT", "JWT_ISSUER")] == [where, "environment", "default"]
    monkeypatch.setenv("FLASK_SKIP_DOTENV", "1")
    assert Config.from_environment().jwt_issuer == ("::1",)


def test_with_secret_makes_a_secret_only_without_one_and_without_an_issuer(tmp_path):
    made = with_secret(Config(), str(tmp_path))
    assert made.better_auth_secret == (tmp_path / "better-auth-secret").read_text()
    assert with_secret(Config(better_auth_secret="s"), str(tmp_path)).better_auth_secret == "s"
    assert with_secret(Config(jwks_url="https://auth.example.com/jwks"), str(tmp_path)).better_auth_secret is None


@pytest.mark.process
def test_invalid_settings_end_a_process_with_one_line_and_status_1(root):
    environment = {"ENVIRONMENT": "production", "PATH": os.environ["PATH"]}
    ended = subprocess.run(
        [sys.executable, "wsgi.py"], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith("todo cannot start: ")
    assert "DATABASE_URL is not set" in line
    assert "BETTER_AUTH_URL is not set" in line


def test_dotenv_example_names_exactly_the_variables_that_are_read(root):
    lines = (root / ".env.example").read_text().splitlines()
    listed = [line.removeprefix("#").partition("=")[0] for line in lines if "=" in line and not line.startswith("# ")]
    assert (
        listed == [field.data_key for field in config.ConfigSchema().fields.values()] == [*config.variables().values()]
    )
    assert all(f"`{name}`" in (root / "docs" / "settings.md").read_text() for name in listed)


def test_dotenv_example_holds_values_that_are_accepted(root):
    lines = (root / ".env.example").read_text().splitlines()
    values = dict(line.removeprefix("#").split("=", 1) for line in lines if line.startswith("#") and line[1:2] != " ")
    assert values.keys() == set(config.variables().values())
    assert Config.from_environment(values).metrics_port == 9100


def test_every_setting_is_declared_with_what_the_documentation_needs():
    for field in dataclasses.fields(Config):
        assert field.metadata["meaning"].endswith(".")
        assert field.metadata["rule"].expected
    hidden = {field.name for field in dataclasses.fields(Config) if not field.repr}
    secrets = {"better_auth_secret", "better_auth_secret_previous"}
    assert hidden == secrets | {"database_url", "rate_limit_storage_url"}
