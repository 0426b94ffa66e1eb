"""The documents are true: links lead somewhere, names exist, examples work, and figures are the measured ones.

The calls of the README and of the quickstart are pasted and run by `tests/wire/test_newcomer.py`.
"""

import json
import re
import runpy
import subprocess
import textwrap
from functools import cache
from pathlib import Path

import pytest
import yaml
from flask import Flask
from prometheus_client import CollectorRegistry
from support import bearer, call_as

import config
from benchmarks.ratios import short, spread
from benchmarks.services import SERVICES
from todo.extensions import cors
from todo.http.body import LONGER_BODIES
from todo.http.problems import Problem
from todo.tasks.schemas import TaskOut

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
DOCUMENTS = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")), *PAGES]
WITH_BENCHMARKS = [*DOCUMENTS, ROOT / "benchmarks" / "README.md"]

FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} (.*)$", re.MULTILINE)

# What a document names that is made when a command runs, by a reader, or by Linux.
NOT_IN_THE_REPOSITORY = re.compile(
    r"(instance|site)/.*|todo/projects/|tests/projects/|docs/api/projects\.md|sbom\.json|tasks\.ndjson|user\.ndjson|Tasks\.json"
    r"|token\.txt|000N_.*"
)
FILE = re.compile(r"(?<![\w/.$<-])((?:\.?[a-z]\w*/)[\w./-]*|[\w.-]+\.(?:py|md|json|ya?ml|txt|in))(?![\w.<])")
# Names with a slash that begin otherwise are paths of the API, media types or images.
FOLDERS = r"(todo|tests|docs|migrations|benchmarks|deploy|\.ci|\.github)/|[\w.-]+$"
# Variables of others.
NOT_SETTINGS = re.compile(
    r"SCRIPT_NAME|OTEL_\w+|POSTGRES_(SERVICE_)?PASSWORD|API_TOKEN_SECRET|SSL_CERT_FILE|TCP_USER_TIMEOUT|SOAK_S|CITUS_URL"
)


def by_path(paths):
    return pytest.mark.parametrize("file", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in paths])


@cache
def text_of(file: Path) -> str:
    return file.read_text()


def prose(file: Path) -> str:
    """Return a document without its code blocks."""
    return FENCE.sub("", text_of(file))


def blocks(file: Path, *languages: str) -> list[str]:
    return [textwrap.dedent(code) for language, code in FENCE.findall(text_of(file)) if language in languages]


def code(file: Path) -> list[str]:
    """Return everything in a document that is set as code, in a line or in a block."""
    spans = re.findall(r"`([^`\n]+)`", prose(file))
    return [*spans, *blocks(file, "sh", "")]


def example(document: str, language: str, word: str = "checksum") -> str:
    """Return the one example in a language that has this word in it."""
    found = [textwrap.dedent(block) for name, block in FENCE.findall(document) if name == language]
    (block,) = [block for block in found if word in block]
    return block


def anchors(file: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub and the site make them."""
    headings = [re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(prose(file))]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def section(file: Path, heading: str) -> str:
    return re.split(r"^#+ ", text_of(file).partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(markdown: str) -> list[list[str]]:
    """Return the cells of each row of the tables, without their headings."""
    lines = re.findall(r"^\| (.*) \|$", markdown, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines]


@by_path(WITH_BENCHMARKS)
def test_local_links_of_a_document_lead_to_files_and_headings(file):
    for matched in LINK.findall(prose(file)):
        target = matched[0] or matched[1]
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        linked = (file.parent / path).resolve() if path else file
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target
        if file in PAGES:
            # A page of the site cannot lead out of the site. Pictures are in it.
            assert linked in PAGES or (linked.suffix == ".svg" and linked.is_relative_to(ROOT / "docs")), target


def test_figures_of_convergence_are_those_of_the_runs():
    page = ROOT / "docs" / "decisions" / "convergence.md"
    runs = [json.loads(text_of(page.with_suffix("") / f"seed-{seed}.json")) for seed in (1, 2, 3)]

    for name, value in runs[0].items():
        texts = [f"{run[name]:,}" if isinstance(value, int) else f"`{run[name]}`" for run in runs]
        assert [name, *texts] in rows(section(page, "What came out")), name


def test_navigation_of_the_site_names_every_page_once():
    def pages(entry):
        if isinstance(entry, str):
            return [entry]
        return [page for part in (entry.values() if isinstance(entry, dict) else entry) for page in pages(part)]

    named = pages(yaml.safe_load(text_of(ROOT / "mkdocs.yml"))["nav"])

    assert sorted(named) == sorted(str(page.relative_to(ROOT / "docs")) for page in PAGES)


def test_readme_has_one_screen():
    assert len(text_of(ROOT / "README.md").splitlines()) <= 120


@by_path(DOCUMENTS)
def test_files_that_a_document_names_exist(file):
    names = {path.name for path in ROOT.rglob("*.*") if not {"node_modules", ".venv"} & set(path.parts)}
    for span in code(file):
        for name in FILE.findall(span):
            if NOT_IN_THE_REPOSITORY.fullmatch(name) or "://" in span or not re.match(FOLDERS, name):
                continue
            assert (ROOT / name).exists() or ("/" not in name and name in names), name


@by_path(DOCUMENTS)
def test_tests_that_a_document_names_exist(file):
    named = re.findall(r"`(tests/(?:\w+/)*test_\w+\.py)(?:::(?:\w+::)?(test_\w+))?`", text_of(file))

    assert [(path, test) for path, test in named if not is_defined(ROOT / path, test or "test_[a-z0-9_]+")] == []


def is_defined(path: Path, test: str) -> bool:
    return path.exists() and re.search(rf"^ *def {test}\(", path.read_text(), re.MULTILINE) is not None


def test_every_guarantee_of_security_md_names_a_test():
    table = text_of(ROOT / "SECURITY.md").partition("## What each layer guarantees")[2].partition("\n## ")[0]
    guarantees = [row for row in rows(table) if row[0] != "layer"]

    assert guarantees
    assert all(re.search(r"`tests/[\w/]+\.py", row[2]) for row in guarantees)


@by_path(DOCUMENTS)
def test_make_targets_that_a_document_names_exist(file):
    targets = set(re.findall(r"^([a-z][a-z-]*):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for span in code(file):
        for words in re.findall(r"^make ((?:[a-z][a-z-]*(?: |$))+)", span, re.MULTILINE):
            assert set(words.split()) <= targets, span


@by_path(DOCUMENTS)
def test_flask_commands_that_a_document_names_exist(file, app: Flask):
    for span in code(file):
        for words in re.findall(r"(?:^|/| todo |\()flask ((?:[a-z]+ ?)+)", span):
            command = app.cli
            for word in words.split():
                if word == "db":
                    # Its commands are Flask-Migrate's, which are imported only to migrate.
                    break
                command = command.commands[word]
                if not hasattr(command, "commands"):
                    break


@by_path(DOCUMENTS)
def test_todo_commands_that_a_document_names_are_in_the_reference(file):
    reference = text_of(ROOT / "docs" / "cli.md")
    for span in code(file):
        for words in re.findall(r"(?:^|bin/|\()todo ((?:user )?[a-z]+)", span):
            assert f"todo {words}" in reference, words


@by_path(DOCUMENTS)
def test_settings_that_a_document_names_exist(file):
    variables = set(config.variables().values())
    for span in code(file):
        for name in re.findall(r"(?<![\w$])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", span):
            assert name in variables or NOT_SETTINGS.fullmatch(name) or is_a_constant(name), name


@cache
def is_a_constant(name: str) -> bool:
    """Check whether some code of ours calls something so."""
    sources = [ROOT / "config.py", *(ROOT / "todo").rglob("*.py")]
    return any(re.search(rf"^{name}\b", text_of(source), re.MULTILINE) for source in sources)


@by_path(DOCUMENTS)
def test_paths_that_a_document_names_are_in_the_contract(file):
    paths = json.loads(text_of(ROOT / "openapi.json"))["paths"]
    for span in code(file):
        for method, path in re.findall(r"(?:([A-Z]+) )?(/(?:api/\{user_id\}|health)[\w/{}]*)", span):
            assert path in paths, path
            assert not method or method.lower() in paths[path], (method, path)


def test_every_call_of_the_contract_is_in_the_documents():
    named = {
        (method.lower(), path)
        for page in PAGES
        for span in code(page)
        for method, path in re.findall(r"^([A-Z]+) (/[\w/{}]*)$", span)
    }
    calls = {
        (method, path)
        for path, operations in json.loads(text_of(ROOT / "openapi.json"))["paths"].items()
        for method in operations
        if path.startswith("/api/") and method != "parameters"
    }

    assert calls <= named


@by_path(DOCUMENTS)
def test_examples_of_a_document_can_be_read(file):
    for block in blocks(file, "json"):
        json.loads(block)
    for block in blocks(file, "python"):
        compile(block, str(file), "exec")
    script = "\n".join(blocks(file, "sh"))
    subprocess.run(["bash", "-n"], input=script, text=True, check=True, capture_output=True)


def test_example_of_a_task_has_the_members_of_a_task():
    (shown,) = blocks(ROOT / "docs" / "api" / "tasks.md", "json")

    assert list(json.loads(shown)) == list(TaskOut().fields)
    assert TaskOut().validate(json.loads(shown)) == {}


def test_documented_statuses_are_those_of_the_problems():
    def statuses(problem):
        own = {str(problem.status.value)} if "status" in vars(problem) else set()
        return own.union(*map(statuses, problem.__subclasses__()))

    documented = {row[0] for row in rows(text_of(ROOT / "docs" / "api" / "errors.md")) if row[0].isdigit()}

    assert documented == statuses(Problem)


def test_documented_metrics_are_those_that_are_counted(app: Flask):
    # Imported here, because only a server that shows the metrics imports them.
    from todo.telemetry.metrics import Metrics  # noqa: PLC0415

    registry = CollectorRegistry()
    Metrics(registry, engine=None, key_age=float, streams=int, kept_bytes=int).observe()
    counted = {
        f"{family.name}_total" if family.type == "counter" else family.name: sorted(labels_of(registry, family.name))
        for family in registry.collect()
    }
    table = section(ROOT / "docs" / "operate" / "metrics.md", "Prometheus")
    documented = {row[0].strip("`"): sorted(re.findall(r"`(\w+)`", row[1])) for row in rows(table)[1:]}

    assert documented == counted


def labels_of(registry, name):
    return registry._names_to_collectors[name]._labelnames


def test_documented_headers_of_cors_are_those_that_are_sent():
    table = dict(rows(section(ROOT / "docs" / "better-auth.md", "CORS")))
    options = cors._options

    assert re.findall(r"`([\w-]+)`", table["request headers allowed"]) == options["allow_headers"]
    assert re.findall(r"`([\w-]+)`", table["response headers readable"]) == options["expose_headers"]
    assert table["methods"].startswith(", ".join(options["methods"]))
    assert table["preflight"] == f"kept for {options['max_age']} s"


def constant(package: str, name: str):
    """Return a constant of a package, whichever of its modules it is in."""
    sources = [ROOT / package] if package.endswith(".py") else (ROOT / "todo" / package).rglob("*.py")
    assigned = re.compile(rf"^{name} = ([\d_ *]+)", re.MULTILINE)
    found = [expression for source in sources for expression in assigned.findall(source.read_text())]
    (expression,) = set(found)
    return eval(expression)


LIMITS = [
    ("line of the log", "telemetry", "LINE_MAX", "{} bytes", 1),
    ("unread lines in a pipe", "telemetry", "PIPE_SIZE", "{} MiB, or what the system allows", 1024 * 1024),
    ("request line", "gunicorn.conf.py", "limit_request_line", "{} bytes", 1),
    ("header fields", "gunicorn.conf.py", "limit_request_fields", "{}", 1),
    ("one header field", "gunicorn.conf.py", "limit_request_field_size", "{} KiB", 1024),
    ("all header fields", "serving", "HEAD_MAX_BYTES", "{} KiB", 1024),
    ("body", "http", "BODY_MAX_BYTES", "{} KiB", 1024),
    ("body of an import", "http", "IMPORT_MAX_BYTES", "{} MiB", 1024**2),
    ("tasks of an import; the command has no bound, and writes as many at once", "importing", "TASKS_MAX", "{:,}", 1),
    ("columns of a table", "importing", "COLUMNS_MAX", "{}", 1),
    ("tasks of a calendar", "calendar", "TASKS_MAX", "{:,}", 1),
    (
        "reads of a calendar in an hour, in each process; with `RATE_LIMIT_STORAGE_URL` in all",
        *("limits", "CALENDAR_READS_MAX", "{}", 1),
    ),
    (
        "framing of a chunked body: the lines of its chunks, extensions, trailers",
        *("serving", "FRAMING_MAX_BYTES", "{} KiB", 1024),
    ),
    ("line of chunked framing", "serving", "CHUNK_LINE_MAX_BYTES", "{} bytes", 1),
    ("nesting of JSON", "http", "NESTING_MAX", "{} levels", 1),
    ("token", "auth", "TOKEN_MAX_BYTES", "{} KiB", 1024),
    ("user id", "tasks", "USER_ID_MAX", "{} characters", 1),
    ("from the first to the last byte of a request", "serving", "REQUEST_MAX_S", "{} s", 1),
    ("idle connection kept alive", "boot.py", "KEEP_ALIVE_S", "{} s", 1),
    ("after the last response, a client that still sends", "serving", "LINGER_S", "{} s", 1),
    ("what is discarded at once of a client that still sends", "serving", "DISCARD_BYTES", "{} KiB", 1024),
    ("a client that receives its response slowly", "serving", "SEND_MIN_BYTES_S", "{} KiB/s, over each 30 s", 1024),
    ("from the first to the last byte of a response", "serving", "SEND_MAX_S", "{} s", 1),
    ("incomplete requests, all together", "serving", "REQUESTS_MAX_BYTES", "{} MiB", 1024**2),
    ("complete requests that wait for a thread, all together", "serving", "QUEUED_MAX_BYTES", "{} MiB", 1024**2),
    ("requests that wait for others of their user, all together", "serving", "PARKED_MAX_BYTES", "{} MiB", 1024**2),
    ("unsent rest of a response, in memory", "serving", "MEMORY_MAX_BYTES", "{} KiB", 1024),
    ("unsent responses in memory, all together", "serving", "UNSENT_MEMORY_MAX_BYTES", "{} MiB", 1024**2),
    ("unsent responses in files, all together", "serving", "UNSENT_FILES_MAX_BYTES", "{} MiB", 1024**2),
    ("silence of a stream", "serving", "COMMENT_S", "{} s", 1),
    ("changes of a list that are one event", "events", "GATHER_MS", "{} ms", 1),
    ("a client that acknowledges nothing, on Linux", "serving", "ACKNOWLEDGED_MS", "{:,} ms", 1),
    ("streams that are told of changes in one round", "events", "ROUND_STREAMS", "{}", 1),
    ("processes that tell each other", "events", "SIBLINGS_MAX", "{}", 1),
    ("messages read at once", "events", "READ_MAX", "{}", 1),
    ("one kept page", "tasks", "PAGE_MAX_BYTES", "{} KiB", 1024),
    ("age of a kept page", "tasks", "AGE_MAX_S", "{} s", 1),
    ("verified tokens", "auth", "CACHED_MAX", "{:,}", 1),
    ("counts of rate limits, without Redis", "limits", "COUNTS_MAX", "{:,}", 1),
    ("`title`", "tasks", "TITLE_MAX", "{} characters", 1),
    ("`description`", "tasks", "DESCRIPTION_MAX", "{} characters", 1),
    ("one tag", "tasks", "TAG_MAX", "{} characters", 1),
    ("`Idempotency-Key`", "http", "IDEMPOTENCY_KEY_MAX", "{} characters", 1),
    ("operations of a batch", "batch", "OPERATIONS_MAX", "{}", 1),
    ("revisions in one `if_revision`", "batch", "REVISIONS_MAX", "{}", 1),
    ("tasks in a list of an assistant", "assistants", "LIMIT_MAX", "{}", 1),
    ("characters of each description in it", "assistants", "DESCRIPTION_MAX", "{}", 1),
    ("`limit`", "http", "PAGE_MAX", "{}", 1),
    ("`offset`", "http", "OFFSET_MAX", "{:,}", 1),
    ("faults in the `detail` of a 422", "http", "SENTENCES_MAX", "{}", 1),
    ("faults in the `errors` of a 422", "http", "FAULTS_MAX", "{}", 1),
    ("words of `search`", "tasks", "WORDS_MAX", "{}", 1),
    ("difference between clocks", "auth", "LEEWAY_S", "{} s", 1),
    ("keys in use without a refresh", "auth", "FRESH_S", "{} s", 1),
    ("keys in use while the issuer is away", "auth", "STALE_S", "{} s more", 1),
    ("stop after SIGTERM", "boot.py", "SHUTDOWN_S", "{} s", 1),
    ("worker without a sign of life", "gunicorn.conf.py", "timeout", "{} s", 1),
    ("wait for a connection of the pool", "database", "POOL_TIMEOUT_S", "{} s", 1),
    ("wait for PostgreSQL to accept a connection", "database", "CONNECT_TIMEOUT_S", "{} s", 1),
    ("wait for a lock", "database", "LOCK_TIMEOUT_MS", "{} s", 1000),
    (
        "wait of a request for a thread, before it gets a 503; new ones are refused at once then",
        "serving",
        "QUEUE_MAX_S",
        "{} s",
        1,
    ),
    (
        "open files that a process must be allowed (`ulimit -Hn`), or the server does not start",
        "boot.py",
        "FILES_MIN",
        "{}",
        1,
    ),
]


@pytest.mark.parametrize(("bound", "package", "name", "form", "unit"), LIMITS, ids=[limit[2] for limit in LIMITS])
def test_documented_limit_is_that_of_the_code(bound, package, name, form, unit):
    documented = {row[0]: row[1] for row in rows(text_of(ROOT / "docs" / "operate" / "limits.md"))}

    assert documented[bound] == form.format(constant(package, name) // unit)


def test_documented_limits_of_streams_are_those_of_the_settings():
    documented = {row[0]: row for row in rows(section(ROOT / "docs" / "operate" / "limits.md", "Streams of events"))}
    settings = config.Config()

    assert documented["streams of a user, in each process"][1] == str(settings.events_per_user)
    assert documented["age of a stream"][1].startswith(f"{settings.events_max_seconds} s")
    assert documented["between two looks for what others wrote"][1] == (
        f"{settings.events_poll_seconds} s, and {constant('events', 'PART')} times as long as the last one took"
    )
    retry_after = constant("events", "RETRY_AFTER_S")
    for bound in ("streams of a user, in each process", "streams of a process"):
        assert documented[bound][3].endswith(f"with `Retry-After: {retry_after}`")


def test_map_names_every_module_of_the_application():
    page = text_of(ROOT / "docs" / "develop" / "map.md")
    for heading, table in re.findall(r"^### `(todo/(?:\w+/)?)`\n(.*?)(?=^##)", page, re.DOTALL | re.MULTILINE):
        named = {name for row in rows(table)[1:] for name in re.findall(r"`([^`]+)`", row[0])}
        folder = ROOT / heading
        modules = {path.name for suffix in ("py", "sql") for path in folder.glob(f"*.{suffix}")}
        packages = {f"{path.name}/" for path in folder.iterdir() if (path / "__init__.py").exists()}
        # The packages of the application have tables of their own.
        assert named - packages == modules, heading
        assert heading == "todo/" or packages <= named, heading
    described = set(re.findall(r"^### `todo/(\w+)/`$", page, re.MULTILINE))
    assert described == {path.parent.name for path in (ROOT / "todo").glob("*/__init__.py")}


def test_limits_of_bodies_are_documented_by_route():
    batch = LONGER_BODIES["/api/<user_id>/tasks/batch"]
    assert f"| body of a batch | {batch // 1024} KiB | 413 |" in text_of(ROOT / "docs" / "operate" / "limits.md")


def test_outbox_in_python_pushes_until_everything_has_arrived(client, user):
    shown = {}
    exec(example(text_of(ROOT / "docs" / "api" / "batch.md"), "python", "Outbox"), shown)
    call = call_as(client, user)
    losses = iter([False, True, True])

    def send(batch):
        response = call("POST", "/tasks/batch", **batch)
        if next(losses, False):
            raise OSError
        return response.status_code, response.json

    outbox = shown["Outbox"](send)
    for number in range(150):
        outbox.create(title=f"task {number}")
    # The response to the second hundred is lost, twice.
    assert [outbox.push(), outbox.push(), outbox.push()] == [False, False, True]
    assert [task["title"] for task in call("GET", "/tasks").json] == [f"task {number}" for number in range(150)]
    assert list(outbox.tasks.values()) == call("GET", "/tasks").json

    one, two, three = list(outbox.tasks)[:3]
    call("PATCH", f"/tasks/{two}", title="by another device")
    call("DELETE", f"/tasks/{three}")
    outbox.update(one, title="a")
    outbox.update(one, completed=True)
    outbox.update(two, title="b")
    outbox.update(three, title="c")
    outbox.create(title="")
    assert outbox.push()
    assert outbox.queue == []
    assert {task["id"]: task for task in call("GET", "/tasks").json} == outbox.tasks
    (stale, current), (invalid, detail) = outbox.conflicts
    assert (stale["id"], current["title"]) == (two, "by another device")
    assert (invalid["op"], detail.split()[0]) == ("create", "title")

    outbox.update(two, title="mine")
    losses = iter([True])
    assert not outbox.push()
    outbox.update(two, title="mine after all")
    outbox.delete(one)
    assert outbox.push()
    assert {task["id"]: task for task in call("GET", "/tasks").json} == outbox.tasks
    assert outbox.tasks[two]["title"] == "mine after all"
    assert one not in outbox.tasks
    assert len(outbox.conflicts) == 2


def test_checksum_in_python_is_that_of_the_feed(client, user):
    shown = {}
    exec(example(text_of(ROOT / "docs" / "api" / "sync.md"), "python", "def checksum"), shown)
    for tasks in range(3):
        feed = client.get("/api/me/tasks/changes", headers=bearer(user)).json
        assert feed["count"] == tasks
        assert shown["checksum"](feed["tasks"]) == feed["checksum"]
        assert shown["checksum"](feed["tasks"][::-1]) == feed["checksum"]
        client.post("/api/me/tasks", headers=bearer(user), json={"title": "x"})
    assert shown["checksum"](feed["tasks"][:1]) != feed["checksum"]


def test_follower_in_python_keeps_a_copy(client, user):
    shown = {}
    for word in ("def checksum", "def catch_up"):
        exec(example(text_of(ROOT / "docs" / "api" / "sync.md"), "python", word), shown)
    call = call_as(client, user)
    expired = iter([False, False, False, True])

    def get(path):
        if next(expired, False):
            return 410, {"detail": "Gone"}
        # Two changes a page.
        response = call("GET", f"{path}{'&' if '?' in path else '?'}limit=2")
        return response.status_code, response.json

    def stored():
        return {task["id"]: task for task in call("GET", "/tasks").json}

    copy = {}
    ids = [call("POST", "/tasks", title=f"task {number}").json["id"] for number in range(5)]
    since = shown["catch_up"](get, copy)
    assert copy == stored()

    call("DELETE", f"/tasks/{ids[0]}")
    call("PATCH", f"/tasks/{ids[1]}", title="b")
    # The cursor has expired.
    since = shown["catch_up"](get, copy, since)
    assert copy == stored()

    # The copy is wrong.
    del copy[ids[2]]
    shown["catch_up"](get, copy, since)
    assert copy == stored()

    with pytest.raises(RuntimeError, match="since"):
        shown["catch_up"](get, copy, "nonsense")


@pytest.fixture(scope="module")
def peers():
    """Return the results of the comparison, by load."""
    found = json.loads(text_of(ROOT / "benchmarks" / "results" / "peers.json"))
    return {(row["work"], row["measure"]): row["numbers"] for row in found["rows"]}


@pytest.mark.parametrize("file", ["docs/performance.md", "benchmarks/README.md"])
def test_speeds_that_are_quoted_are_those_that_were_measured(peers, file):
    table = text_of(ROOT / file).partition("| against FastAPI |")[2].partition("\n\n")[0]
    titles, _, *quoted = rows(f"| against FastAPI |{table}")
    keys = {service.title: service.key for service in SERVICES}

    assert titles[1:5] == ["Django Ninja", "Fastify", "todo on gunicorn", "todo on Granian"]
    assert quoted
    for work, *cells in quoted:
        ratios = [peers[work, "requests/s"].get(keys[title]) for title in titles[1:]]
        assert cells == [f"{short(of['middle'])}{spread(of['least'], of['greatest'])}" if of else "" for of in ratios]


def test_figures_of_the_readme_are_those_that_were_measured(peers):
    readme = " ".join(text_of(ROOT / "README.md").split())

    def faster(kind):
        return short(1 / peers[f"{kind}, database 5 ms away", "median"]["gunicorn"]["middle"])

    mix = {key: short(of["middle"]) for key, of in peers["mix, 16 conn.", "requests/s"].items()}
    crowds = [numbers for (load, measure), numbers in peers.items() if "1,000" in load and measure.startswith("failed")]

    def failed(key):
        return sum(numbers[key]["value"] for numbers in crowds if key in numbers)

    assert f"a creation is {faster('create')} times and a change {faster('patch')} times as fast" in readme
    assert f"{mix['gunicorn']} times the requests per second of FastAPI on gunicorn, {mix['granian']} times" in readme
    assert f"Fastify on Node is faster with 16: {mix['fastify']} times" in readme
    assert f"where FastAPI leaves {failed('fastapi'):,.0f}" in readme
    assert failed("gunicorn") == failed("granian") == 0


@pytest.fixture(scope="module")
def foreign():
    return runpy.run_path(str(ROOT / ".ci" / "pages.py"))["foreign"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.html", '<script src="https://cdn.example/x.js"></script>', id="script"),
        pytest.param("a.html", '<link rel="stylesheet" href="//fonts.example/x.css">', id="style"),
        pytest.param("a.html", '<link rel="preconnect" href="https://fonts.example">', id="preconnect"),
        pytest.param("a.html", '<img srcset="a.png 1x, https://cdn.example/b.png 2x">', id="image"),
        pytest.param("a.html", '<p style="background: url(https://cdn.example/b.png)">', id="inline-style"),
        pytest.param("a.html", '<pre class="mermaid">graph</pre>', id="library-on-demand"),
        pytest.param("a.css", '@import "https://fonts.example/x.css";', id="import"),
        pytest.param("a.css", "@font-face { src: url('//fonts.example/x.woff2') }", id="font"),
    ],
)
def test_pages_that_load_from_another_origin_are_found(foreign, tmp_path, name, content):
    (tmp_path / name).write_text(content)

    (line,) = foreign(tmp_path)
    assert line.startswith(f"{name}: ")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param('<a href="https://example.com">out</a>', id="link"),
        pytest.param('<link rel="canonical" href="https://example.com/">', id="canonical"),
        pytest.param('<script src="../assets/x.js"></script><img src="data:image/png;base64,AA==">', id="own"),
        pytest.param("<style>a { background: url(data:image/svg+xml;base64,AA==) }</style>", id="data"),
    ],
)
def test_pages_that_load_from_their_own_origin_pass(foreign, tmp_path, content):
    (tmp_path / "a.html").write_text(content)

    assert list(foreign(tmp_path)) == []


def test_every_dialect_has_a_row_in_the_table_and_a_note():
    page = section(ROOT / "docs" / "better-auth.md", "Front-ends written for another back-end")

    assert sorted(row[1] for row in rows(page)[1:]) == sorted(f"`{word}`" for word in config.DIALECTS)
    assert sorted(re.findall(r"^- `([a-z-]+)`:", page, re.MULTILINE)) == sorted(config.DIALECTS)
