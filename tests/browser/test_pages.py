"""The pages in a browser."""

import json
import urllib.request
from typing import Any

from playwright.sync_api import Page, expect
from support import bearer, claims, sign


def openapi(server: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{server}/openapi.json") as response:
        document: dict[str, Any] = json.load(response)
    return document


def summaries(server: str) -> list[str]:
    return [
        operation["summary"]
        for methods in openapi(server)["paths"].values()
        for method, operation in methods.items()
        if method != "parameters"
    ]


def test_swagger_ui_opened_lists_every_operation(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")

    expect(page).to_have_title("todo: try the API")
    operations = page.locator(".opblock")
    expect(operations).to_have_count(len(summaries(server)))
    for summary in summaries(server):
        expect(operations.filter(has_text=summary)).to_be_visible()
    expect(page.locator(".topbar, .download-url-wrapper")).to_have_count(0)


def test_swagger_ui_opened_with_trailing_slash_works_too(page: Page, server: str) -> None:
    page.goto(f"{server}/docs/")

    expect(page.locator(".opblock").first).to_be_visible()


def test_swagger_ui_deep_link_opens_the_operation(page: Page, server: str) -> None:
    page.goto(f"{server}/docs")
    page.locator("#operations-tasks-createTask .opblock-summary-control").click()
    expect(page.locator(".opblock-post .opblock-body")).to_be_visible()
    assert "#/" in page.url

    page.reload()

    expect(page.locator(".opblock-post .opblock-body")).to_be_visible()


def test_swagger_ui_authorized_creates_a_task(page: Page, server: str, user: str) -> None:
    page.goto(f"{server}/docs")
    authorize(page, sign(claims(user)))
    expect(page.locator(".auth-wrapper .authorize.locked")).to_be_visible()

    post = page.locator("#operations-tasks-createTask")
    post.locator(".opblock-summary-control").click()
    post.get_by_placeholder("user_id").fill("me")
    post.locator("textarea.body-param__text").fill('{"title": "Made in a browser"}')
    post.get_by_role("button", name="Execute").click()

    row = post.locator(".live-responses-table .response")
    expect(row.locator(".response-col_status")).to_contain_text("201")
    expect(row.locator(".response-col_description")).to_contain_text("Made in a browser")
    expect(post.get_by_text("Request duration")).to_be_visible()
    call = urllib.request.Request(f"{server}/api/me/tasks", headers=bearer(user))
    with urllib.request.urlopen(call) as response:
        assert [task["title"] for task in json.load(response)] == ["Made in a browser"]


def test_swagger_ui_reloaded_is_still_authorized(page: Page, server: str, user: str) -> None:
    page.goto(f"{server}/docs")
    authorize(page, sign(claims(user)))

    page.reload()

    expect(page.locator(".auth-wrapper .authorize.locked")).to_be_visible()


def authorize(page: Page, token: str) -> None:
    page.locator(".auth-wrapper .authorize").click()
    dialog = page.locator(".dialog-ux")
    dialog.locator("input").fill(token)
    dialog.get_by_role("button", name="Apply credentials").click()
    dialog.get_by_role("button", name="Close").last.click()


def test_redoc_opened_shows_every_operation(page: Page, server: str) -> None:
    page.goto(f"{server}/redoc")

    expect(page).to_have_title("todo: API reference")
    for summary in summaries(server):
        expect(page.get_by_role("heading", name=summary)).to_be_visible()


def test_redoc_searched_finds_the_operation(page: Page, server: str) -> None:
    page.goto(f"{server}/redoc")
    search = page.get_by_role("textbox")
    search.fill("reopen")

    results = page.locator("[data-role='search:results'] [role=menuitem]")
    expect(results.first).to_contain_text("Complete a task, or reopen it")
    results.first.click()

    expect(page.get_by_role("heading", name="Complete a task, or reopen it")).to_be_in_viewport()


def test_redoc_shows_its_logo_from_this_server(page: Page, server: str) -> None:
    page.goto(f"{server}/redoc")

    logo = page.get_by_alt_text("redocly logo")
    expect(logo).to_be_visible()
    assert logo.evaluate("image => image.src") == f"{server}/docs/assets/redoc.svg"
