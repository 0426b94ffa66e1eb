"""`flask doctor` as an operator runs it: a process with an environment."""

import pytest
from doctor.examination import PASSWORD, PREVIOUS_SECRET, Report, assert_says_nothing_secret
from support import SECRET
from wire.server import run

pytestmark = pytest.mark.process

UNFIT = {
    "ENVIRONMENT": "development",
    "DATABASE_URL": f"mysql://root:{PASSWORD}@db/todo",
    "JWKS_URL": "https://auth.example.com/jwks",
    "PORT": "x",
}


def examine(*words: str, **changes: str) -> Report:
    ended = run("flask", "doctor", *words, **changes)
    return Report(ended.returncode, ended.stdout + ended.stderr)


def test_doctor_of_a_good_production_finds_nothing(database_url):
    report = examine(DATABASE_URL=database_url, JWT_ISSUER="https://auth.example.com", JWT_AUDIENCE="todo")
    assert report.status == 0
    assert (report.faults, report.advice) == ({}, {})
    assert report.of("ENVIRONMENT").text == "production (environment)"
    assert report.of("LOG_LEVEL").text == "INFO (default)"
    assert report.of("BETTER_AUTH_SECRET").text == f"set, {len(SECRET)} bytes (environment)"
    assert report.last == "All is well."


def test_doctor_where_much_is_wrong_says_all_of_it_and_nothing_secret():
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
    assert {"BETTER_AUTH_SECRETS", "BETTER_AUTH_SECRET"} <= report.advice.keys()


@pytest.mark.parametrize("words", [(), ("--token", "-"), ("--origin", "https://app.example.com")])
def test_doctor_of_unfit_settings_names_each(words):
    report = examine(*words, **UNFIT)
    assert report.status == 1
    assert {line.mark for line in report.lines} == {"✗"}
    assert report.faults.keys() == {"DATABASE_URL", "JWKS_URL", "PORT"}
    assert report.of("PORT").text == "must be a port number from 1 to 65535"
    assert report.of("PORT").remedy.startswith("It is set in the environment;")


def test_doctor_of_settings_that_are_missing_says_where_to_set_them():
    report = examine(BETTER_AUTH_SECRET="")
    assert report.faults.keys() == {"DATABASE_URL", "BETTER_AUTH_URL"}
    assert report.of("DATABASE_URL").remedy.startswith("Set it in the environment or in .env;")


def test_every_other_command_refuses_unfit_settings_in_one_line():
    ended = run("flask", "routes", **UNFIT)
    assert (ended.returncode, ended.stdout) == (1, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("todo cannot start: ")
    assert_says_nothing_secret(line, "")


def test_doctor_on_a_console_without_the_marks_says_them_in_words():
    ended = run("flask", "doctor", PYTHONIOENCODING="latin-1", **UNFIT)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert r"\N{BALLOT X} PORT: must be a port number" in ended.stdout
    assert_says_nothing_secret(ended.stdout, "")
