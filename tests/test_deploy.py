"""The files of a deployment agree with the code: compose.yaml, the pins of images and actions, licences."""

import json
import re
import runpy
import sys

import pytest
import yaml
from sqlalchemy import make_url

import config
from todo.doctor.installation import LOG_SETTINGS

REFERENCE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


@pytest.fixture(scope="module")
def compose(root):
    return yaml.safe_load((root / "compose.yaml").read_text())


@pytest.fixture(scope="module")
def services(compose):
    return compose["services"]


def names_in(value):
    """Return the variables that a part of the file refers to."""
    return {name for name, _ in REFERENCE.findall(json.dumps(value))}


def url_of(service):
    """Return the service's URL of the database, with the names of the variables in it."""
    return make_url(REFERENCE.sub(r"\1", service["environment"]["DATABASE_URL"]))


@pytest.mark.parametrize("name", ["api", "migrate"])
def test_compose_passes_every_setting_on(services, name):
    """A variable without a value is passed on as it is, and one that is not set stays unset, with its own default."""
    environment = dict(services[name]["environment"])

    assert {"DATABASE_URL"} < environment.keys()
    assert environment.pop("DATABASE_URL").startswith("postgresql://")
    assert environment.pop("ENVIRONMENT") == "${ENVIRONMENT:-production}"
    assert set(environment.values()) == {None}
    assert environment.keys() == set(config.variables().values()) - {"DATABASE_URL", "ENVIRONMENT", "HOST", "PORT"}


def test_compose_publishes_the_port_of_the_settings_on_this_machine_alone(services):
    assert services["api"]["ports"] == [f"127.0.0.1:${{PORT:-{config.Config().port}}}:8000"]
    assert [name for name, service in services.items() if "ports" in service] == ["api"]


def test_compose_serves_as_a_role_with_fewer_rights_and_migrates_as_the_owner(services, root):
    owner = services["db"]["environment"]["POSTGRES_USER"]
    serving, migrating = url_of(services["api"]), url_of(services["migrate"])

    assert (migrating.username, migrating.password) == (owner, "POSTGRES_PASSWORD")
    assert (serving.username, serving.password) == ("todo_service", "POSTGRES_SERVICE_PASSWORD")
    assert f"CREATE ROLE {serving.username}'" in (root / "migrations" / "roles.sql").read_text()
    assert services["roles"]["environment"]["PGUSER"] == owner
    # The container of the API knows no password but that of its own role.
    assert "POSTGRES_PASSWORD" not in names_in(services["api"])
    assert "env_file" not in services["api"]


def test_compose_grants_the_rights_between_the_migration_and_the_service(services):
    def waits_for(name):
        return {of: on["condition"] for of, on in services[name]["depends_on"].items()}

    assert waits_for("migrate") == {"db": "service_healthy"}
    assert waits_for("roles") == {"migrate": "service_completed_successfully"}
    assert waits_for("api") == {"roles": "service_completed_successfully"}
    assert services["roles"]["entrypoint"].endswith("--file /roles.sql")
    assert services["roles"]["volumes"] == ["./migrations/roles.sql:/roles.sql:ro"]


def test_compose_bounds_memory_and_processes_of_every_container(services):
    for name, service in services.items():
        assert re.fullmatch(r"\d+[mg]", service["mem_limit"]), name
        assert service["pids_limit"] > 0, name


@pytest.mark.parametrize("name", ["api", "migrate", "roles"])
def test_compose_takes_every_privilege_away(services, name):
    service = services[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_compose_keeps_what_users_write_out_of_the_log_of_postgresql(services, root):
    """The two settings whose defaults put it there; for the service's role the script sets all that can."""
    flags = dict(re.findall(r"-c (\w+)=(\S+)", services["db"]["command"]))
    scripted = dict(re.findall(r"\('(log_\w+)', '([^']+)'\)", (root / "migrations" / "roles.sql").read_text()))

    assert {name: flags[name] for name in ("log_min_error_statement", "log_error_verbosity")}.items() <= {
        name: good[0] for name, good in LOG_SETTINGS.items()
    }.items()
    assert scripted == {name: good[0] for name, good in LOG_SETTINGS.items() if name.startswith("log_")}


def test_variables_of_compose_that_are_no_settings_are_named_at_its_top(compose, root):
    others = names_in(compose) - set(config.variables().values())
    top = (root / "compose.yaml").read_text().partition("\nx-todo:")[0]

    assert others == {"POSTGRES_PASSWORD", "POSTGRES_SERVICE_PASSWORD"}
    assert all(name in top for name in others)


def test_base_images_are_pinned_by_digest(root, services):
    dockerfile = (root / "Dockerfile").read_text()
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", dockerfile, re.MULTILINE))
    bases = [
        REFERENCE.sub(lambda one: arguments[one[1]], base)
        for base in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    ]
    images = [service["image"] for service in services.values() if "image" in service]

    assert len(bases) == 2
    assert all(re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in bases + images)


def test_actions_and_containers_of_workflows_are_pinned(root):
    for workflow in (root / ".github" / "workflows").glob("*.yml"):
        text = workflow.read_text()
        used = re.findall(r"uses: (.*)", text)
        assert used
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v[\d.]+", action) for action in used), used
        containers = re.findall(r"image: (\S+)", text)
        assert all(re.search(r"@sha256:[0-9a-f]{64}$", image) for image in containers), containers


@pytest.fixture(scope="module")
def notices(root):
    return runpy.run_path(str(root / ".ci" / "notices.py"))


@pytest.mark.skipif(sys.platform != "linux", reason="the packages for other systems hold other libraries")
def test_notices_name_the_licences_of_what_is_installed(root, notices):
    assert (root / "NOTICES.md").read_text() == notices["page"](), "run `make notices`"


def test_notices_name_every_package_of_an_image(root):
    pinned = re.findall(r"^([a-z0-9.-]+)==(\S+)", (root / "requirements-image.txt").read_text(), re.MULTILINE)
    named = re.findall(r"^\| (\S+) \| (\S+) \| ([^|]+) \|", (root / "NOTICES.md").read_text(), re.MULTILINE)

    assert {(name, version) for name, version, _ in named} >= set(pinned)
    assert {name for name, _, _ in named} - {name for name, _ in pinned} == {"redoc", "swagger-ui-dist", "package"}
    assert all(licence.strip() for _, _, licence in named)


def test_image_has_the_notices(root):
    copied = re.findall(r"^COPY (.*) \./$", (root / "Dockerfile").read_text(), re.MULTILINE)[-1].split()
    ignored = (root / ".dockerignore").read_text().splitlines()

    assert {"LICENSE", "NOTICES.md"} <= set(copied)
    assert all(f"!{name}" in ignored for name in copied)


def test_bill_of_materials_has_licences_and_the_javascript_of_the_pages(root, notices):
    pinned = re.findall(r"^([a-z0-9.-]+)==(\S+)", (root / "requirements.txt").read_text(), re.MULTILINE)
    bill = {"components": [{"name": name, "purl": f"pkg:pypi/{name}@{version}"} for name, version in pinned]}

    for _ in range(2):
        notices["complete"](bill)

        components = {component["name"]: component for component in bill["components"]}
        assert len(components) == len(bill["components"]) == len(pinned) + 2
        assert components["redoc"]["licenses"] == [{"expression": "MIT"}]
        assert components["redoc"]["purl"].startswith("pkg:npm/redoc@")
        assert components["psycopg2-binary"]["licenses"] == [{"license": {"name": "LGPL with exceptions"}}]
        assert all(component["licenses"] for component in components.values())
        assert len(bill["dependencies"]) == 2
    sums = (root / "todo/http/pages/static/vendor/redoc/SHA256SUMS").read_text()
    (hashed,) = components["redoc"]["hashes"]
    assert f"{hashed['content']}  redoc.standalone.js" in sums


def test_notices_of_another_version_than_the_pinned_one_are_refused(notices, tmp_path, monkeypatch):
    (tmp_path / "requirements.txt").write_text("flask==0.1\n")
    monkeypatch.setitem(notices["packages"].__globals__, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"flask 0\.1 is pinned"):
        list(notices["packages"]())
