"""The page at /demo without a browser; tests/browser/test_demo.py has the rest."""

import importlib.util
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support import assert_problem, config_for

import todo
from todo.demo import views

POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'self'"
)


@pytest.mark.parametrize("path", ["/demo", "/demo/"])
def test_demo_is_a_page_that_loads_nothing_from_elsewhere(client: FlaskClient, path: str) -> None:
    response = client.get(path)

    assert response.status_code == 200
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Content-Security-Policy"] == POLICY
    assert re.findall(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", response.text) == []
    urls = re.findall(r'(?:src|href)="([^"]*)"', response.text)
    assert all(url.startswith("/") for url in urls)
    for url in urls:
        assert client.get(url).status_code == 200, url


def test_demo_behind_a_prefix_knows_it(client: FlaskClient) -> None:
    text = client.get("/demo", environ_overrides={"SCRIPT_NAME": "/behind"}).text

    assert 'data-root="/behind"' in text
    assert 'src="/behind/demo/assets/demo.js"' in text


@pytest.mark.parametrize("name", sorted(views.ASSETS))
def test_asset_is_revalidated(client: FlaskClient, name: str) -> None:
    response = client.get(f"/demo/assets/{name}")
    again = client.get(f"/demo/assets/{name}", headers={"If-None-Match": response.headers["ETag"]})

    assert response.data == (views.STATIC / name).read_bytes()
    assert response.headers["Cache-Control"] == "no-cache"
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["absent.js", "..%2Fviews.py", "views.py"])
def test_asset_outside_the_set_is_not_found(client: FlaskClient, name: str) -> None:
    assert_problem(client.get(f"/demo/assets/{name}"), 404)


@pytest.mark.parametrize("environment", ["production", "staging"])
def test_demo_in_production_is_not_found(database_url: str, environment: str) -> None:
    client = todo.create_app(config_for(database_url, ENVIRONMENT=environment)).test_client()

    for path in ("/demo", "/demo/assets/demo.js"):
        assert_problem(client.get(path), 404)


def test_image_has_no_demo_and_serves_without_it(
    database_url: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\n!todo\ntodo/demo\n" in (root / ".dockerignore").read_text()
    monkeypatch.setattr(todo, "find_spec", lambda name: None if name == "todo.demo" else importlib.util.find_spec(name))
    client = todo.create_app(config_for(database_url)).test_client()

    assert_problem(client.get("/demo"), 404)
    assert client.get("/health").status_code == 200
