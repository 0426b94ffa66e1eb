"""The application in examples/next-better-auth: from an account to completed tasks, offline, and on two devices."""

import uuid

from playwright.sync_api import Locator, Page, expect
from wire.server import query

PASSWORD = "correct horse battery staple"


def enter(page: Page, email: str, button: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name=button).click()
    expect(page.get_by_role("status")).to_have_text("In step", timeout=60_000)


def sign_up(page: Page) -> str:
    """Sign up, and return the e-mail address of the new user."""
    email = f"{uuid.uuid4().hex}@example.com"
    enter(page, email, "Sign up")
    return email


def add(page: Page, title: str) -> None:
    page.get_by_label("New task").fill(title)
    page.get_by_role("button", name="Add").click()


def task(page: Page, title: str) -> Locator:
    return page.get_by_role("checkbox", name=title)


def stored(url: str, title: str) -> list[tuple[bool]]:
    """Return whether each task with this title in the table is completed."""
    return query(url, "SELECT completed FROM tasks WHERE title = %s", title)


def test_user_signs_up_completes_a_task_and_finds_it_after_signing_in_again(open_browser, database_url):
    page = open_browser()
    email = sign_up(page)
    title = f"Buy oat milk {email}"
    add(page, title)
    task(page, title).check()
    expect(page.get_by_role("status")).to_have_text("In step")
    expect(page.locator("li.pending")).to_have_count(0)
    assert stored(database_url, title) == [(True,)]

    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("E-mail")).to_be_visible()
    enter(page, email, "Sign in")

    expect(task(page, title)).to_be_checked()


def test_two_browsers_of_a_user_are_in_step_without_being_asked(open_browser):
    phone = open_browser()
    sign_up(phone)
    laptop = open_browser(phone)

    add(phone, "Call the bank")
    task(laptop, "Call the bank").check()
    expect(task(phone, "Call the bank")).to_be_checked()
    phone.get_by_role("button", name="Delete Call the bank").click()
    expect(task(laptop, "Call the bank")).to_have_count(0)
    phone.get_by_role("button", name="Undo").click()
    expect(task(laptop, "Call the bank")).to_be_checked()


def test_edits_made_offline_survive_a_closed_page_and_arrive_once(open_browser, database_url):
    phone = open_browser()
    title = f"Water the plants {sign_up(phone)}"
    add(phone, "Read")
    laptop = open_browser(phone)
    expect(task(laptop, "Read")).to_be_visible()

    phone.context.set_offline(True)
    expect(phone.get_by_role("status")).to_contain_text("Offline")
    task(phone, "Read").check()
    add(phone, title)
    task(phone, title).check()
    expect(phone.get_by_role("status")).to_have_text("Offline, 3 not sent yet")
    expect(phone.locator("li.pending")).to_have_count(2)
    assert stored(database_url, title) == []
    another = phone.context.new_page()
    phone.close()
    another.context.set_offline(False)
    another.goto("/")

    expect(task(another, title)).to_be_checked()
    expect(task(laptop, title)).to_be_checked()
    expect(task(laptop, "Read")).to_be_checked()
    expect(another.get_by_role("status")).to_have_text("In step")
    assert stored(database_url, title) == [(True,)]
