"""The one `.env` of a project in a folder of another one, for `flask`, `todo` and gunicorn alike."""

import shutil
import subprocess
import sys

import pytest
from support import SECRET
from wire.server import environment

SECRET_WITH_DOLLARS = "$HOME-${PATH}-and-more-that-is-long-enough-for-HS256"

# How `flask` starts: in an environment that deploy/install.py has prepared, and in any other one.
PREPARED, OTHER = {"FLASK_SKIP_DOTENV": "1"}, {"FLASK_SKIP_DOTENV": "0"}
FLASK, TODO = ("flask",), ("todo",)


@pytest.fixture(scope="module")
def monorepo(root, tmp_path_factory):
    """Return a folder with the project in it, as a folder of its own."""
    folder = tmp_path_factory.mktemp("monorepo")
    (folder / "backend").mkdir()
    for name in ("boot.py", "config.py", "wsgi.py", "gunicorn.conf.py"):
        shutil.copy(root / name, folder / "backend" / name)
    for name in ("todo", "migrations"):
        shutil.copytree(root / name, folder / "backend" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def run_in(monorepo, discard_dotenv):
    """Return a function that runs a module in the project's folder, with these settings alone and no database."""

    def run_in(*words, **variables):
        kept = {name: value for name, value in environment().items() if name in {"PATH", "HOME"}}
        return subprocess.run(
            [sys.executable, "-m", *words],
            cwd=monorepo / "backend",
            env=kept | {"DATABASE_URL": "postgresql://127.0.0.1:1/todo"} | variables,
            capture_output=True,
            text=True,
            check=False,
        )

    return run_in


@pytest.fixture
def discard_dotenv(monorepo):
    """Remove the files that a test writes."""
    yield
    for folder in (monorepo, monorepo / "backend"):
        (folder / ".env").unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(TODO, {}, id="todo"),
        pytest.param(FLASK, PREPARED, id="flask-prepared"),
        pytest.param(FLASK, OTHER, id="flask-elsewhere"),
    ],
)
def test_commands_read_no_dotenv_of_a_folder_above(monorepo, run_in, words, variables):
    (monorepo / ".env").write_text("PORT=8009\nJWT_ISSUER=https://parent.example\nHOST=::1\n")
    done = run_in(*words, "doctor", BETTER_AUTH_SECRET=SECRET, HOST="::1", **variables)
    assert "✓ HOST: ::1 (environment)" in done.stdout
    assert "✓ PORT: 8000 (default)" in done.stdout
    assert "✓ JWT_ISSUER: not set" in done.stdout
    assert "parent.example" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "variables"),
    [
        pytest.param(TODO, {}, id="todo"),
        pytest.param(FLASK, PREPARED, id="flask-prepared"),
        pytest.param(FLASK, OTHER, id="flask-elsewhere"),
    ],
)
def test_commands_read_the_dotenv_of_the_project_to_the_letter(monorepo, run_in, words, variables):
    (monorepo / ".env").write_text(f"BETTER_AUTH_SECRET={SECRET}\n")
    (monorepo / "backend" / ".env").write_text(f'BETTER_AUTH_SECRET="{SECRET_WITH_DOLLARS}"\nPORT=8007\n')
    made = run_in(*words, "token", "--user", "u1", **variables)
    assert (made.returncode, made.stderr) == (0, "")
    given = run_in(*words, "token", "--user", "u1", BETTER_AUTH_SECRET=SECRET_WITH_DOLLARS, **variables)
    assert made.stdout.split(".")[0] == given.stdout.split(".")[0]
    checked = run_in(*words, "doctor", **variables).stdout
    assert f"✓ BETTER_AUTH_SECRET: set, {len(SECRET_WITH_DOLLARS)} bytes (.env)" in checked
    assert "✓ PORT: 8007 (.env)" in checked


@pytest.mark.parametrize(
    "words",
    [
        ("todo", "purge"),
        ("flask", "purge"),
        ("flask", "db", "upgrade"),
        ("gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"),
    ],
)
def test_dotenv_that_is_not_utf8_is_one_line_that_names_it(monorepo, run_in, words):
    (monorepo / "backend" / ".env").write_bytes("PORT=8007\n".encode("utf-16"))
    done = run_in(*words, **PREPARED)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "todo cannot start: .env is not UTF-8: save it in that encoding.\n"


def test_installation_keeps_flask_from_reading_any_dotenv(root, tmp_path):
    """The file that is installed runs at the start of Python, before Flask looks for one."""
    subprocess.run([sys.executable, root / "deploy" / "install.py", tmp_path], check=True)
    show = "import os; print(os.environ['FLASK_SKIP_DOTENV'])"
    kept = {name: value for name, value in environment().items() if name in {"PATH", "HOME"}}
    for variables, expected in (({}, "1"), (OTHER, "0")):
        done = subprocess.run(
            [sys.executable, "-c", show], env=kept | variables, capture_output=True, text=True, check=True
        )
        assert done.stdout == f"{expected}\n"
