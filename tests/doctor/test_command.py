"""`todo doctor` as an operator runs it, with an environment. Only what a process decides is tested in one."""

import pytest
from click.testing import CliRunner
from doctor.examination import PASSWORD, PREVIOUS_SECRET, Report, assert_prints_nothing_secret
from flask.cli import ScriptInfo
from support import SECRET
from wire.server import run

from todo import __main__ as command

UNFIT = {
    "ENVIRONMENT": "development",
    "DATABASE_URL": f"mysql://root:{PASSWORD}@db/todo",
    "JWKS_URL": "https://auth.example.com/jwks",
    "PORT": "x",
}


@pytest.fixture
def invoke(monkeypatch):
    """Run a command of `todo` in this process, with the variables that production needs and these changes."""

    def invoke(*words, **changes):
        for name, value in ({"ENVIRONMENT": "production", "BETTER_AUTH_SECRET": SECRET} | changes).items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(command.todo, words, obj=ScriptInfo(create_app=command.application))

    return invoke


@pytest.fixture
def examine(invoke):
    """Return a function that runs the doctor and returns its report."""

    def examine(*words, **changes):
        ended = invoke("doctor", *words, **changes)
        return Report(ended.exit_code, ended.output)

    return examine


@pytest.mark.process
def test_doctor_of_a_good_production_finds_nothing(discreet_url):
    expected = {"JWT_ISSUER": "https://auth.example.com", "JWT_AUDIENCE": "todo"}
    ended = run("todo", "doctor", DATABASE_URL=discreet_url, **expected)
    report = Report(ended.returncode, ended.stdout + ended.stderr)
    assert report.status == 0
    assert (report.faults, report.warnings) == ({}, {})
    assert report.of("ENVIRONMENT").text == "production (environment)"
    assert report.of("LOG_LEVEL").text == "INFO (default)"
    assert report.of("BETTER_AUTH_SECRET").text == f"set, {len(SECRET)} bytes (environment)"
    assert report.last == "All is well."


def test_doctor_where_much_is_wrong_reports_all_of_it_and_nothing_secret(examine):
    address = "127.0.0.1:1"
    report = examine(
        "--origin",
        "https://www.example.com",
        ENVIRONMENT="development",
        DATABASE_URL=f"postgresql://me:{PASSWORD}@{address}/todo?password={PASSWORD}",
        BETTER_AUTH_URL=f"http://{address}",
        BETTER_AUTH_SECRET=PREVIOUS_SECRET,
        BETTER_AUTH_SECRETS=PREVIOUS_SECRET,
    )
    assert report.status == 1
    assert list(report.faults) == ["database", "issuer", "front-end"]
    assert {"BETTER_AUTH_SECRETS", "BETTER_AUTH_SECRET"} <= report.warnings.keys()


@pytest.mark.parametrize("words", [(), ("--token", "-"), ("--origin", "https://app.example.com")])
def test_doctor_of_unfit_settings_names_each(examine, words):
    report = examine(*words, **UNFIT)
    assert report.status == 1
    assert {line.mark for line in report.lines} == {"✗"}
    assert report.faults.keys() == {"DATABASE_URL", "JWKS_URL", "PORT"}
    assert report.of("PORT").text == "must be a port number from 1 to 65535"
    assert report.of("PORT").remedy.startswith("It is set in the environment;")


def test_doctor_of_a_dotenv_that_is_not_utf8_names_it(examine, bare_machine):
    (bare_machine / ".env").write_bytes("PORT=8001".encode("utf-16"))
    report = examine()
    assert report.faults == {".env": "is not UTF-8: save it in that encoding"}


def test_doctor_of_missing_settings_reports_where_to_set_them(examine):
    report = examine(BETTER_AUTH_SECRET="")
    assert report.faults.keys() == {"DATABASE_URL", "BETTER_AUTH_URL"}
    assert report.of("DATABASE_URL").remedy.startswith("Set it in the environment or in .env;")


def test_every_other_command_refuses_unfit_settings_in_one_line(invoke):
    ended = invoke("purge", **UNFIT)
    assert ended.exit_code == 1
    (line,) = ended.output.splitlines()
    assert line.startswith("todo cannot start: ")
    assert_prints_nothing_secret(line, "")


@pytest.mark.process
def test_doctor_of_flask_on_a_console_without_the_marks_writes_their_names():
    ended = run("flask", "doctor", PYTHONIOENCODING="latin-1", **UNFIT)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert r"\N{BALLOT X} PORT: must be a port number" in ended.stdout
    assert_prints_nothing_secret(ended.stdout, "")
