"""The documentation pages without a browser: their links, their policies and their assets."""

import hashlib
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support import assert_problem

from todo.http.pages import assets

PAGES = ["/docs", "/redoc"]
COMMON = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml; charset=utf-8",
}


class Links(HTMLParser):
    """The attributes of a page that make a browser load or run something."""

    def __init__(self, html: str):
        super().__init__()
        self.urls: list[str] = []
        self.inline: list[str] = []
        self._in_script = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self._in_script = tag == "script"
        self.urls += [value for name, value in attrs if name in ("src", "href", "data-openapi", "data-logo")]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.inline += [tag] if tag == "style" else []

    def handle_endtag(self, _tag):
        self._in_script = False

    def handle_data(self, data):
        if self._in_script:
            self.inline.append(data)


@pytest.mark.parametrize("path", [*PAGES, "/docs/", "/redoc/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_page_without_a_token_is_html(client: FlaskClient, path: str, method: str) -> None:
    response = client.open(path, method=method)

    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.text.startswith("<!doctype html>") == (method == "GET")


@pytest.mark.parametrize(
    ("path", "own"),
    [
        pytest.param("/docs", "style-src 'self'", id="swagger-ui"),
        pytest.param(
            "/redoc",
            "style-src 'self' 'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=' "
            "'sha256-QMIg+bpjm3JdElJ388KYke01izlUW0UoNOeKjpMxdgc='; worker-src blob:",
            id="redoc",
        ),
    ],
)
def test_page_policy_allows_only_what_the_page_needs(client: FlaskClient, path: str, own: str) -> None:
    assert client.get(path).headers["Content-Security-Policy"] == f"{COMMON}; {own}"


@pytest.mark.parametrize("path", PAGES)
def test_page_has_nothing_inline(client: FlaskClient, path: str) -> None:
    assert Links(client.get(path).text).inline == []


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("prefix", ["", "/behind/a-prefix"], ids=["root", "prefix"])
def test_page_links_to_assets_that_exist(client: FlaskClient, path: str, prefix: str) -> None:
    urls = Links(client.get(path, environ_overrides={"SCRIPT_NAME": prefix}).text).urls

    assert urls.count(f"{prefix}/openapi.json") == 2
    for url in set(urls):
        assert url.startswith(f"{prefix}/")
        assert client.get(url.removeprefix(prefix)).status_code == 200, url


@pytest.mark.parametrize("name", assets.ASSETS)
def test_asset_served_is_typed_and_revalidated(client: FlaskClient, name: str) -> None:
    response = client.get(f"/docs/assets/{name}")
    again = client.get(f"/docs/assets/{name}", headers={"If-None-Match": response.headers["ETag"]})

    assert response.status_code == 200
    assert response.content_length == len(response.data) > 0
    assert response.content_type == TYPES[Path(name).suffix]
    assert again.status_code == 304
    assert again.data == b""
    for headers in (response.headers, again.headers):
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("name", ["absent.js", "swagger-ui.css.map", "..%2Fpages.py", "__init__.py", "%00", "a/b"])
def test_asset_outside_the_table_is_not_found(client: FlaskClient, name: str) -> None:
    assert_problem(client.get(f"/docs/assets/{name}"), 404)


def test_every_asset_of_the_table_is_installed() -> None:
    for name in assets.ASSETS:
        assert assets.locate(name).stat().st_size > 0


@pytest.mark.parametrize(
    ("package", "message"),
    [
        pytest.param("no_such_package", "no_such_package, which is not installed", id="package"),
        pytest.param("flask_swagger_ui", "where the installed version of flask_swagger_ui has no file", id="file"),
    ],
)
def test_asset_missing_from_its_package_names_the_package(
    monkeypatch: pytest.MonkeyPatch, package: str, message: str
) -> None:
    monkeypatch.setitem(assets.ASSETS, "absent.js", (package, "absent.js"))

    with pytest.raises(assets.AssetMissing, match=message):
        assets.read("absent.js")


def test_redoc_vendored_is_the_published_file_and_has_its_licences() -> None:
    folder = assets.locate("redoc.standalone.js").parent
    digests = dict(reversed(line.split()) for line in (folder / "SHA256SUMS").read_text().splitlines())

    assert set(digests) == {"LICENSE", "redoc.standalone.js", "redoc.standalone.js.LICENSE.txt"}
    for name, digest in digests.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    version = re.search(r'Version: "([0-9.]+)"', (folder / "redoc.standalone.js.LICENSE.txt").read_text())[1]
    assert (folder / "README.md").read_text().startswith(f"# ReDoc {version}\n")


@pytest.mark.parametrize("prefix", ["", "/behind/a-prefix"], ids=["root", "prefix"])
def test_redoc_loads_its_logo_from_this_server(client: FlaskClient, prefix: str) -> None:
    remote = set(re.findall(rb"https://cdn\.[^\"']*", assets.read("redoc.standalone.js").body))
    script = assets.read("redoc.js").body
    page = client.get("/redoc", environ_overrides={"SCRIPT_NAME": prefix}).text

    # The whole of what the bundle would load from elsewhere is replaced by the page's own script.
    assert remote == {b"https://cdn.redoc.ly/redoc/logo-mini.svg"}
    assert all(url in script for url in remote)
    assert f'data-logo="{prefix}/docs/assets/redoc.svg"' in page


@pytest.mark.process
def test_pages_served_import_neither_flask_swagger_ui_nor_pydantic(root: Path) -> None:
    script = f"""
import sys
from config import Config
from todo import create_app
from todo.http.pages.assets import ASSETS
client = create_app(Config(better_auth_secret="{"s" * 32}", log_level="WARNING")).test_client()
for path in ["/docs", "/redoc", *(f"/docs/assets/{{name}}" for name in ASSETS)]:
    assert client.get(path).status_code == 200, path
unwanted = ("pydantic", "flask_swagger_ui")
print(sorted(name for name in sys.modules if name.partition(".")[0] in unwanted))
"""
    run = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)

    assert (run.stdout, run.returncode) == ("[]\n", 0), run.stderr
