"""`todo doctor` of an installation: the result of each check, and what to do."""

import re
import struct
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import SimpleNamespace
from urllib.parse import quote

import psycopg2
import pytest
from doctor.examination import PASSWORD, PREVIOUS_SECRET, Report, assert_prints_nothing_secret
from fakes.certificates import self_signed, server_context
from fakes.odd_issuer import odd_issuer
from fakes.postgres_proxy import PostgresProxy
from sqlalchemy import make_url
from support import SECRET, config_for, new_database, new_user, segment, sign_raw
from wire.server import free_port, query

import config
from config import BETTER_AUTH_PUBLIC_DEFAULT
from todo.database import embedded
from todo.doctor import installation
from todo.doctor.installation import _connection

EXPECTED = {"JWT_ISSUER": "https://auth.example.com", "JWT_AUDIENCE": "https://todo.example.com"}


def examine(app, *words):
    return Report.of_app(app, *words)


@pytest.fixture
def closed_port():
    return free_port()


def test_doctor_of_a_good_installation_finds_nothing(make_app):
    report = examine(make_app(**EXPECTED))
    assert report.status == 0
    assert (report.faults, report.warnings) == ({}, {})
    assert report.last == "All is well."


def test_doctor_of_a_good_installation_with_an_issuer_finds_nothing(make_app):
    with odd_issuer(date=format_datetime(datetime.now(UTC), usegmt=True)) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET="", CORS_ORIGINS=address))
    assert report.status == 0
    assert (report.faults, report.warnings) == ({}, {})
    assert report.of("tokens").text.endswith(f"{address}/api/auth/jwks")
    assert report.of("key").text == "the-key (EdDSA)"
    assert report.of("issuer expected").text == report.of("audience expected").text == address
    assert re.fullmatch(r"within \d s of the issuer's", report.of("clock").text)
    assert report.of("front-ends").text == f"{address} may call"


def test_doctor_of_two_failures_counts_them(make_app):
    report = examine(make_app(), "--origin", "https://a.example", "--origin", "https://b.example")
    assert report.status == 1
    assert len(report.of_mark("✗")) == 2
    assert report.last == "Failed: 2. Each is marked ✗, with what to do below it."


def test_doctor_has_help(make_app):
    shown = make_app().test_cli_runner().invoke(args=["doctor", "--help"])
    assert shown.exit_code == 0
    assert "--token" in shown.output
    assert "--origin" in shown.output


def test_settings_are_all_listed_once(make_app):
    report = examine(make_app())
    subjects = [line.subject for line in report.lines]
    assert subjects[: len(config.variables())] == list(config.variables().values())
    assert report.of("JWT_ISSUER").text == "not set"
    assert report.of("CORS_ORIGINS").text == "http://localhost:3000, https://app.example.com (default)"


def test_settings_report_their_source(make_app, bare_machine, monkeypatch):
    (bare_machine / ".env").write_text("WEB_THREADS=5\nPORT=8001\n")
    monkeypatch.setenv("PORT", "8002")
    report = examine(make_app(PORT="8002", WEB_THREADS="5"))
    assert report.of("PORT").text == "8002 (environment)"
    assert report.of("WEB_THREADS").text == "5 (.env)"
    assert report.of("HOST").text == "127.0.0.1 (default)"


def test_settings_show_of_secrets_only_their_length(make_app):
    report = examine(make_app(BETTER_AUTH_SECRET_PREVIOUS=PREVIOUS_SECRET))
    assert report.of("BETTER_AUTH_SECRET").text == f"set, {len(SECRET)} bytes (default)"
    assert report.of("BETTER_AUTH_SECRET_PREVIOUS").text == f"set, {len(PREVIOUS_SECRET)} bytes (default)"


def test_settings_show_a_database_url_without_any_of_its_passwords(make_app, closed_port):
    options = f"password={PASSWORD}&sslpassword={PASSWORD}&sslmode=disable"
    url = f"postgres://me:{quote(PASSWORD + '@%/')}@127.0.0.1:{closed_port}/todo?{options}"
    shown = make_url(examine(make_app(url=url)).of("DATABASE_URL").text.removesuffix(" (default)"))
    assert (shown.drivername, shown.username, shown.port) == ("postgresql", "me", closed_port)
    assert (shown.password, shown.query["password"], shown.query["sslmode"]) == ("***", "hidden", "disable")


@pytest.mark.parametrize("place", ["environment", ".env"])
@pytest.mark.parametrize("name", ["DATABASE_URI", "database_url", "Database_Url"])
def test_settings_misspelt_are_named_and_not_shown(make_app, bare_machine, monkeypatch, place, name):
    if place == ".env":
        (bare_machine / ".env").write_text(f"{name}=postgresql://me:{PASSWORD}@db/todo\n")
    else:
        monkeypatch.setenv(name, f"postgresql://me:{PASSWORD}@db/todo")
    report = examine(make_app())
    assert report.status == 0
    assert report.of(name) == (
        "!",
        name,
        "is not a setting of this service",
        "Did you mean DATABASE_URL?",
    )


@pytest.mark.parametrize("name", ["BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET_PREVIOUS"])
@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        pytest.param("weak-and-short", "is shorter than 32 bytes", id="short"),
        pytest.param(f" {SECRET}", "has white space around it", id="white-space"),
        pytest.param(BETTER_AUTH_PUBLIC_DEFAULT, "is the default that Better Auth publishes", id="public"),
    ],
)
def test_settings_weak_secret_is_a_warning(make_app, name, secret, fault):
    report = examine(make_app(**{name: secret}))
    assert report.status == 0
    (line,) = [line for line in report.of_mark("!") if line.subject == name]
    assert line.text.startswith(fault)
    assert "Production refuses it." in line.remedy
    assert secret not in report.output


def test_settings_show_of_a_store_where_it_is(make_app):
    url = f"rediss://me:{PASSWORD}@127.0.0.1:1/1?ssl_password={PASSWORD}"
    report = examine(make_app(RATE_LIMIT="600/minute;5/second", RATE_LIMIT_STORAGE_URL=url, WEB_CONCURRENCY="1"))
    assert report.of("RATE_LIMIT").text == "600/minute;5/second (default)"
    assert report.of("RATE_LIMIT_FAILED_AUTH").text == "60/minute (default)"
    assert report.of("RATE_LIMIT_STORAGE_URL").text == "rediss://127.0.0.1:1/1 (default)"


@pytest.mark.parametrize(
    ("settings", "mark", "subject", "text"),
    [
        pytest.param(
            {"WEB_CONCURRENCY": "1"}, "✓", "rate limits", "counted in the memory of the one process", id="one-process"
        ),
        pytest.param(
            {"WEB_CONCURRENCY": "3"}, "!", "rate limits", "each of 3 processes counts for itself", id="several"
        ),
        pytest.param(
            {"RATE_LIMIT": "", "RATE_LIMIT_STORAGE_URL": "redis://127.0.0.1:1"},
            "!",
            "RATE_LIMIT_STORAGE_URL",
            "is not used, as there is no limit",
            id="no-limit",
        ),
    ],
)
def test_limits_report_where_they_are_counted(make_app, settings, mark, subject, text):
    report = examine(make_app(**EXPECTED, **({"RATE_LIMIT": "600/minute"} | settings)))
    assert report.status == 0
    assert (mark, subject, text) in [line[:3] for line in report.lines]


def test_limits_with_a_store_that_counts_are_good(make_app, counting_redis):
    report = examine(make_app(RATE_LIMIT_FAILED_AUTH="9/minute", RATE_LIMIT_STORAGE_URL=counting_redis.url))
    assert report.of("rate limits") == ("✓", "rate limits", "the store counts", "")


def test_limits_with_a_store_that_is_away_are_a_fault(make_app, closed_port):
    url = f"redis://:{PASSWORD}@127.0.0.1:{closed_port}"
    report = examine(make_app(RATE_LIMIT="600/minute", RATE_LIMIT_STORAGE_URL=url))
    assert set(report.faults) == {"rate limits"}
    assert "refused" in report.faults["rate limits"]


def test_settings_secret_beside_an_issuer_is_reported_as_unused(make_app, issuer):
    report = examine(make_app(BETTER_AUTH_URL=issuer.url, BETTER_AUTH_SECRET="weak-and-short"))
    assert report.status == 0
    assert report.warnings["BETTER_AUTH_SECRET"] == "is not used, as BETTER_AUTH_URL is set"
    assert "Production refuses it" not in report.output


class PoolerProxy(PostgresProxy):
    """A proxy behind which another process answers than the one that greeted the client, as behind a pooler."""

    def _to_client(self, server, client):
        """Pass messages on one by one, with another process id in the greeting (BackendKeyData)."""
        try:
            stream = server.makefile("rb")
            while head := stream.read(5):
                body = stream.read(struct.unpack("!I", head[1:])[0] - 4)
                if head[:1] == b"K":
                    body = struct.pack("!I", struct.unpack("!I", body[:4])[0] + 1) + body[4:]
                client.sendall(head + body)
        except (OSError, struct.error):
            pass
        finally:
            self._close(client, server)


def test_database_that_is_good_is_named_with_its_version(make_app):
    report = examine(make_app())
    assert re.fullmatch(r"PostgreSQL \d+\.\d+.* answers", report.of("database").text)
    assert report.of("connection").text == "direct, to a local socket"
    assert report.of("schema").text == "is up to date"


def test_log_of_a_discreet_database_is_good(make_app):
    assert examine(make_app()).of("PostgreSQL's log") == (
        "✓",
        "PostgreSQL's log",
        "repeats nothing that users write",
        "",
    )


def test_log_with_statements_is_a_warning_with_what_to_run(make_app, database_url):
    line = examine(make_app(url=database_url)).of("PostgreSQL's log")
    assert line.mark == "!"
    assert line.text == (
        "may repeat what users write: log_min_error_statement is error, log_error_verbosity is default"
    )
    assert line.remedy == (
        "As a superuser: ALTER ROLE postgres SET log_min_error_statement = panic; "
        "ALTER ROLE postgres SET log_error_verbosity = terse;"
    )


@pytest.fixture
def talkative(postgres):
    """Return a function that creates a role with a difficult name and these settings, and returns its name and URL."""
    made = []

    def talkative(**settings):
        name = f'Role "{new_user()}"'
        made.append(quoted := '"' + name.replace('"', '""') + '"')
        query(postgres.get_uri(), f"CREATE ROLE {quoted} LOGIN SUPERUSER")
        for setting, value in settings.items():
            query(postgres.get_uri(), f"ALTER ROLE {quoted} SET {setting.replace('__', '.')} = '{value}'")
        url = make_url(postgres.get_uri(database="todo_discreet")).set(username=name)
        return quoted, url.render_as_string(hide_password=False)

    yield talkative
    for quoted in made:
        query(postgres.get_uri(), f"DROP ROLE {quoted}")


@pytest.mark.parametrize(
    ("setting", "value", "good"),
    [
        ("log_min_error_statement", "fatal", "panic"),
        ("log_error_verbosity", "verbose", "terse"),
        ("log_statement", "mod", "none"),
        ("log_min_duration_statement", "1s", "-1"),
        ("log_min_duration_sample", "0", "-1"),
        ("log_transaction_sample_rate", "0.5", "0"),
        ("auto_explain__log_min_duration", "10s", "-1"),
        ("debug_print_plan", "on", "off"),
    ],
)
def test_log_with_one_setting_that_repeats_statements_is_a_warning(make_app, talkative, setting, value, good):
    make_app()
    role, url = talkative(**{setting: value})
    line = examine(make_app(url=url)).of("PostgreSQL's log")
    name = setting.replace("__", ".")
    assert (line.mark, line.text) == ("!", f"may repeat what users write: {name} is {value}")
    assert line.remedy == f"As a superuser: ALTER ROLE {role} SET {name} = {good};"


def test_log_that_what_the_doctor_prints_was_run_against_is_good(make_app, talkative):
    _, url = talkative(log_statement="all", log_min_error_statement="debug5", auto_explain__log_min_duration="0")
    remedy = examine(make_app(url=url)).of("PostgreSQL's log").remedy
    query(url, remedy.removeprefix("As a superuser: "))
    assert examine(make_app(url=url)).of("PostgreSQL's log").mark == "✓"


def test_log_without_anything_of_the_role_is_good_whatever_else_is_set(make_app, talkative):
    _, url = talkative(log_min_messages="panic", log_statement="all")
    assert examine(make_app(url=url)).of("PostgreSQL's log").text == "has nothing of this role"


@pytest.mark.parametrize("forms", ["csvlog", "stderr, jsonlog"])
def test_log_in_a_form_with_all_details_is_a_warning(forms):
    settings = {name: good[0] for name, good in installation.LOG_SETTINGS.items()}
    settings |= {"auto_explain.log_min_duration": None, "log_min_messages": "warning", "log_destination": forms}
    result = installation._check_log(settings, "todo_service")
    assert result.text == f"may repeat what users write: log_destination is {forms}"
    assert result.remedy == "As a superuser: ALTER ROLE todo_service SET log_min_messages = panic;"


def test_log_of_the_embedded_database_is_not_checked(make_app, monkeypatch, postgres):
    monkeypatch.setattr(embedded, "start", lambda _: postgres)
    assert "PostgreSQL's log" not in examine(make_app(url="")).output


def test_database_that_is_away_is_a_fault(make_app, closed_port):
    report = examine(make_app(url=f"postgresql://me:{PASSWORD}@127.0.0.1:{closed_port}/todo"))
    assert report.status == 1
    assert report.faults.keys() == {"database"}
    assert report.faults["database"].startswith("cannot be used: connection to server at ")
    assert "DATABASE_URL" in report.of("database").remedy


def test_database_that_does_not_exist_is_a_fault(make_app, database_url):
    report = examine(make_app(url=str(make_url(database_url).set(database="nowhere"))))
    assert 'database "nowhere" does not exist' in report.faults["database"]


@pytest.fixture
def weakened(make_app, postgres, migrated_template):
    """Return a function that builds an application on a database whose sessions have these defaults."""
    url = new_database(postgres, name := f"todo_{new_user()}", migrated_template)
    admin = postgres.get_uri()

    def weakened(**defaults):
        for setting, value in defaults.items():
            query(admin, f"ALTER DATABASE \"{name}\" SET {setting} = '{value}'")
        return make_app(url=url)

    return weakened


def test_database_that_is_read_only_by_default_is_a_fault_with_what_to_run(weakened):
    report = examine(weakened(default_transaction_read_only="on"))
    assert report.faults == {"default_transaction_read_only": "is on: every write is refused"}
    remedy = report.of("default_transaction_read_only").remedy
    assert re.match(r'ALTER ROLE postgres IN DATABASE "\S+" SET default_transaction_read_only = off;', remedy)


@pytest.mark.parametrize(
    ("name", "value", "effect"),
    [
        ("synchronous_commit", "off", "loses changes"),
        ("session_replication_role", "replica", "triggers do not run"),
    ],
)
def test_database_whose_defaults_weaken_the_service_is_a_warning_with_what_to_run(weakened, name, value, effect):
    report = examine(weakened(**{name: value}))
    assert report.status == 0
    assert effect in report.warnings[name]
    assert report.of(name).remedy.endswith(f" SET {name} = {installation.SESSION_SETTINGS[name][0]};")


def test_database_with_another_isolation_level_is_good(weakened):
    report = examine(weakened(default_transaction_isolation="serializable", client_encoding="latin1"))
    assert report.faults == {}
    assert report.of("default_transaction_isolation") == (
        "✓",
        "default_transaction_isolation",
        "is serializable, and each transaction of the service says read committed",
        "",
    )


def test_database_that_is_a_standby_is_a_fault():
    backend = SimpleNamespace(is_standby=True, role="todo_service", database="todo")
    found = {name: good for name, (good, *_) in installation.SESSION_SETTINGS.items()}
    (line,) = installation._check_session(found | {"default_transaction_isolation": "read committed"}, backend)
    assert str(line).startswith("✗ writes: are refused: this server is a standby\n")
    assert "target_session_attrs=read-write" in line.remedy


def test_database_embedded_that_cannot_start_is_a_fault(make_app, monkeypatch):
    def start(_data_dir):
        raise embedded.EmbeddedUnavailable("the embedded PostgreSQL does not start.")

    monkeypatch.setattr(embedded, "start", start)
    report = examine(make_app(url=""))
    assert report.of("DATABASE_URL").text == "not set"
    assert report.faults == {"database": "the embedded PostgreSQL does not start."}
    assert report.of("database").remedy == "Set DATABASE_URL to the URL of a PostgreSQL instead."


def test_database_without_tables_is_a_fault(make_app, postgres):
    report = examine(make_app(url=new_database(postgres, "todo_doctor_unmigrated")))
    assert report.status == 1
    assert report.faults.keys() == {"schema"}
    assert report.of("schema").remedy.startswith("Run `todo migrate`")


def test_database_with_older_tables_is_a_fault(make_app, postgres):
    url = new_database(postgres, "todo_doctor_older")
    query(url, "CREATE TABLE alembic_version (version_num text)")
    query(url, "INSERT INTO alembic_version VALUES ('0001_create_tasks')")
    report = examine(make_app(url=url))
    assert report.faults.keys() == {"schema"}
    assert "at 0001_create_tasks, this version needs " in report.faults["schema"]
    assert report.of("schema").remedy.startswith("Run `todo migrate`")


@pytest.mark.parametrize("revision", ["5f3c2a1b9d0e", "9999_newer"])
def test_database_of_another_application_is_a_fault(make_app, postgres, revision):
    url = new_database(postgres, f"todo_doctor_{revision}")
    query(url, "CREATE TABLE alembic_version (version_num text)")
    query(url, "INSERT INTO alembic_version VALUES (%s)", revision)
    report = examine(make_app(url=url))
    assert report.status == 1
    assert report.faults == {"schema": "the table alembic_version is that of another application"}
    assert "of its own" in report.of("schema").remedy


def test_database_with_newer_tables_is_good(make_app, postgres, migrated_template):
    url = new_database(postgres, "todo_doctor_newer", migrated_template)
    query(url, "UPDATE alembic_version SET version_num = '9999_newer'")
    report = examine(make_app(url=url))
    assert report.status == 0
    assert report.of("schema").text == "is newer, and this version can serve it"


def test_database_that_this_user_may_not_read_is_a_fault(make_app, database_url):
    query(database_url, "CREATE ROLE todo_doctor LOGIN")
    report = examine(make_app(url=str(make_url(database_url).set(username="todo_doctor"))))
    assert report.faults == {"schema": "this user has no right to read it"}
    assert "rights" in report.of("schema").remedy


@pytest.mark.slow
def test_database_that_stops_answering_is_a_fault(make_app, database_url):
    app = make_app(url=database_url)
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        report = examine(app)
    assert report.faults.keys() == {"database"}
    assert "lock timeout" in report.faults["database"]


@pytest.mark.parametrize(("kind", "expected"), [(PostgresProxy, "direct"), (PoolerProxy, "pooled")])
def test_connection_is_pooled_where_another_process_answers(make_app, socket_path, kind, expected):
    with closing(kind(socket_path)) as proxy:
        report = examine(make_app(url=proxy.url("todo_test")))
    assert report.status == 0
    assert report.of("connection").text == f"{expected}, to 127.0.0.1"


@pytest.mark.parametrize("is_same_process", [True, False])
@pytest.mark.parametrize(
    ("host", "expected"),
    [("ep-x-pooler.eu-central-1.aws.neon.tech", "pooled"), ("ep-x.eu-central-1.aws.neon.tech", "direct")],
)
def test_connection_to_neon_is_recognised_by_the_host_name(host, expected, is_same_process):
    settings = config_for(f"postgresql://me:{PASSWORD}@{host}/todo?sslmode=require")
    assert _connection(settings, is_same_process=is_same_process) == f"{expected}, to {host}"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        pytest.param("", "direct, to the embedded PostgreSQL of this machine", id="embedded"),
        pytest.param("postgresql:///todo", "direct, to a local socket", id="no-host"),
        pytest.param("postgresql:///todo?host=/run/postgresql", "direct, to a local socket", id="folder"),
        pytest.param("postgresql:///todo?host=db.example.com", "direct, to db.example.com", id="host-as-option"),
        pytest.param("postgresql:///todo?host=a.test,b.test", "direct, to a.test, b.test", id="hosts"),
        pytest.param("postgresql://a.test:1,b.test:2/todo", "direct, to a.test, b.test", id="hosts-with-ports"),
        pytest.param("postgresql://%2Frun%2Fpostgresql/todo", "direct, to a local socket", id="folder-as-host"),
        pytest.param("postgresql:///todo?host=@todo", "direct, to a local socket", id="abstract-socket"),
        pytest.param("postgresql:///todo?hostaddr=127.0.0.1", "direct, to 127.0.0.1", id="address-as-option"),
        pytest.param("postgresql://[::1]/todo", "direct, to ::1", id="ipv6"),
    ],
)
def test_connection_names_what_it_goes_to(url, expected):
    assert _connection(config_for(url), is_same_process=True) == expected


def test_tokens_by_the_secret_without_expectations_are_warnings(make_app):
    report = examine(make_app())
    assert report.of("tokens").text == "HS256, signed with BETTER_AUTH_SECRET"
    assert report.warnings.keys() == {"issuer expected", "audience expected"}


def test_tokens_by_the_secret_with_expectations_show_them(make_app):
    report = examine(make_app(JWT_ISSUER="https://a.example,https://b.example", JWT_AUDIENCE="todo"))
    assert report.of("issuer expected").text == "https://a.example or https://b.example"
    assert report.of("audience expected").text == "todo"


def test_issuer_that_is_away_is_a_fault(issuer_app, issuer):
    issuer.close()
    report = examine(issuer_app)
    assert report.status == 1
    assert report.faults == {"issuer": "connection refused"}
    assert "JWKS_URL" in report.of("issuer").remedy


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("html", 'the response is not JSON with a member "keys"'),
        ("empty", "the response has no usable key"),
        ("404", "status 404, expected 200"),
        ("redirect", "status 302, expected 200"),
        ("big", "the response is over 256 KiB"),
        ("reset", "connection reset by peer"),
    ],
)
def test_issuer_that_publishes_no_keys_is_a_fault(issuer_app, issuer, fault, reported):
    issuer.fault(fault)
    assert examine(issuer_app).faults == {"issuer": reported}


def test_issuer_of_unusable_keys_alone_reports_the_reason_of_each(issuer_app, issuer):
    issuer.fault("unusable")
    reported = examine(issuer_app).faults["issuer"]
    assert "key 0: is not meant for signatures" in reported
    assert "key 4: is an RSA key of under 2048 bits" in reported


def test_issuer_whose_certificate_is_not_good_is_a_fault(make_app, tmp_path):
    with odd_issuer(tls=server_context(self_signed(tmp_path / "issuer.pem"))) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.faults["issuer"].startswith("the certificate is not valid: ")
    assert "SSL_CERT_FILE" in report.of("issuer").remedy


def test_issuer_key_that_is_not_used_is_a_warning(make_app):
    with odd_issuer(others=({"kty": "oct", "k": segment(SECRET.encode()), "kid": "oct"},)) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.status == 0
    assert [line.text for line in report.lines if line.subject == "key"] == [
        "the-key (EdDSA)",
        "key 1: is of a kind that is not accepted",
    ]


@pytest.mark.parametrize("kid", ["alice@example.com", "\x1b[2J", "x" * 1000], ids=["address", "escape", "long"])
def test_issuer_key_of_a_strange_name_is_not_repeated(make_app, kid):
    with odd_issuer(kid=kid) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.of("key").text == "a text (EdDSA)"


@pytest.mark.parametrize(("seconds", "direction"), [(60, "ahead of"), (-60, "behind")])
def test_clock_that_is_off_is_a_fault(make_app, seconds, direction):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
    with odd_issuer(date=date) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.status == 1
    assert report.faults.keys() == {"clock"}
    assert re.fullmatch(
        rf"the issuer's is (5|6)\d s {direction} this machine's; 15 s are tolerated", report.faults["clock"]
    )


def test_clock_of_an_answer_that_a_cache_has_kept_is_not_judged(make_app):
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=200), usegmt=True)
    with odd_issuer(date=date, age="200") as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.status == 0
    assert report.warnings["clock"] == "not checked: the issuer's response has no current date"


def test_secret_that_is_no_text_is_a_warning(make_app):
    report = examine(make_app(BETTER_AUTH_SECRET="\udcff" * 40))
    assert "cannot be printed, or is not UTF-8" in report.warnings["BETTER_AUTH_SECRET"]


@pytest.mark.parametrize(
    "date",
    [
        pytest.param(None, id="absent"),
        pytest.param("tomorrow", id="no-date"),
        pytest.param("Sun, 06 Nov 1994 08:49:37 -0000", id="no-zone"),
        pytest.param("Sun, 06 Nov 99999999999999999999 08:49:37 GMT", id="no-year-of-ours"),
    ],
)
def test_clock_without_a_date_of_the_issuer_is_a_warning(make_app, date):
    with odd_issuer(date=date) as address:
        report = examine(make_app(BETTER_AUTH_URL=address, BETTER_AUTH_SECRET=""))
    assert report.status == 0
    assert report.warnings["clock"] == "not checked: the issuer's response has no current date"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "none: the contract is that of openapi.json"),
        ("stats", "stats (COMPATIBILITY)"),
        ("toggle, Alias", "toggle, alias (COMPATIBILITY)"),
    ],
)
def test_dialects_that_are_on_are_named(make_app, words, line):
    report = examine(make_app(COMPATIBILITY=words))
    assert report.of("dialects") == ("✓", "dialects", line, "")


def test_front_end_that_may_call_is_good(make_app):
    report = examine(make_app(), "--origin", "https://app.example.com")
    assert report.status == 0
    assert report.of("front-end").text == "https://app.example.com may call"


def test_front_end_that_may_not_call_is_a_fault(make_app):
    report = examine(make_app(), "--origin", "https://www.example.com")
    assert report.status == 1
    assert report.faults["front-end"] == (
        "https://www.example.com may not call; http://localhost:3000, https://app.example.com may"
    )
    assert report.of("front-end").remedy == "Add https://www.example.com to CORS_ORIGINS."


@pytest.mark.parametrize(
    ("allowed", "origin", "is_same_machine"),
    [
        ("http://localhost:3000", "http://127.0.0.1:3000", True),
        ("http://127.0.0.1:3000", "http://localhost:3000", True),
        ("http://localhost:3000", "http://127.0.0.1:3001", False),
        ("http://localhost:3000", "https://127.0.0.1:3000", False),
        ("http://localhost:3000", "http://localhost:99999", False),
        ("http://localhost:99999", "http://localhost:3000", False),
    ],
)
def test_front_end_by_the_other_name_of_this_machine_is_explained(make_app, allowed, origin, is_same_machine):
    line = examine(make_app(CORS_ORIGINS=allowed), "--origin", origin).of("front-end")
    assert line.mark == "✗"
    assert ("different origins" in line.remedy) == is_same_machine


@pytest.mark.parametrize(
    ("origin", "shown"),
    [
        ("https://app.example.com/", "https://app.example.com/"),
        ("https://App.example.com", "https://App.example.com"),
        ("app.example.com", "app.example.com"),
        ("http://localhost:port", "http://localhost:port"),
        (f"https://me:{PASSWORD}@app.example.com", "a text"),
        ("*", "a text"),
        ("", "a text"),
    ],
)
def test_front_end_that_is_no_origin_is_a_fault_of_its_own(make_app, origin, shown):
    line = examine(make_app(), "--origin", origin).of("front-end")
    assert (line.mark, line.text) == ("✗", f"{shown} is not an origin")
    assert "https://app.example.com" in line.remedy


def test_front_ends_where_none_may_call_are_warnings(make_app):
    report = examine(make_app(ENVIRONMENT="production", CORS_ORIGINS=""))
    assert report.warnings["front-ends"] == "none may call from a browser"


def test_front_end_where_none_may_call_is_a_fault(make_app):
    report = examine(make_app(ENVIRONMENT="production", CORS_ORIGINS=""), "--origin", "https://app.example.com")
    assert report.faults["front-end"] == "https://app.example.com may not call; none may"


def test_front_end_at_the_issuer_that_may_not_call_is_a_warning(issuer_app, issuer):
    report = examine(issuer_app)
    assert report.status == 0
    assert report.warnings["front-ends"].endswith(f"may call, and {issuer.url} may not")


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(f"x{SECRET}x", id="secret"),
        pytest.param(f"password={PASSWORD}", id="password"),
        pytest.param("alice@example.com", id="address"),
        pytest.param("/api/alice%40example.com/tasks", id="encoded-address"),
        pytest.param(sign_raw({"alg": "HS256"}, {}).partition(".")[0], id="part-of-a-token"),
        pytest.param("the-words-that-were-pasted", id="what-was-pasted"),
    ],
)
def test_sweep_finds_what_must_not_be_printed(output):
    with pytest.raises(AssertionError):
        assert_prints_nothing_secret(output, '{"token": "the-words-that-were-pasted"}')
