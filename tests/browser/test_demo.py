"""The page at /demo: two devices of one user, driven as a visitor does."""

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from support import bearer, new_user
from wire.server import wait_until

AXE = Path(__file__).parents[2] / "clients" / "typescript" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture
def server(development: str) -> str:
    """Return the URL of a server that has the page."""
    return development


@pytest.fixture
def demo(page: Page, server: str) -> Iterator[Page]:
    """Return the page, open for a new user; afterwards its streams are closed."""
    token = bearer(new_user())["Authorization"].removeprefix("Bearer ")
    page.goto(f"{server}/demo#token={token}")
    for name in ("phone", "laptop"):
        expect(page.locator(f"#{name}")).to_have_attribute("data-state", "in-step")
    yield page
    page.goto(f"{server}/demo/assets/demo.svg")


def device(page: Page, name: str) -> Locator:
    return page.locator(f"#{name}")


def add(device: Locator, text: str) -> None:
    device.get_by_role("textbox", name="New task").fill(text)
    device.get_by_role("button", name="Add").click()


def set_online(device: Locator, *, online: bool) -> None:
    switch = device.get_by_role("switch")
    if (switch.get_attribute("aria-checked") == "true") != online:
        switch.click()


def edit(device: Locator, name: str, /, **fields: str) -> None:
    device.get_by_role("button", name=f"Edit “{name}”").click()
    for label, value in fields.items():
        field = device.locator(f".editor [name={label}]")
        if label == "priority":
            field.select_option(value)
        else:
            field.fill(value)
    device.get_by_role("button", name="Save").click()


def rows(device: Locator) -> list[str]:
    """Return what each row says, whether the device is shown or not."""
    script = """rows => rows.map((row) => {
      const parts = [...row.querySelectorAll(".title, .description, .chip")].map((part) => part.textContent);
      return parts.filter(Boolean).join(" ");
    })"""
    said: list[str] = device.locator(".tasks .text").evaluate_all(script)
    return said


def expect_equal(page: Page, *expected: str) -> None:
    """Wait until both devices show these tasks, have nothing to send, and are online."""
    for name in ("phone", "laptop"):
        expect(device(page, name)).to_have_attribute("data-state", "in-step")
        expect(device(page, name).locator(".tasks .title")).to_have_text(list(expected))
    wait_until(lambda: rows(device(page, "phone")) == rows(device(page, "laptop")), "equal")


def test_token_is_taken_out_of_the_address_and_survives_a_reload(demo: Page, server: str) -> None:
    assert demo.url == f"{server}/demo"

    demo.reload()

    expect(device(demo, "phone")).to_have_attribute("data-state", "in-step")


def test_page_without_a_token_asks_for_one(page: Page, server: str) -> None:
    page.goto(f"{server}/demo")
    page.get_by_role("textbox", name="Token").fill(bearer(new_user())["Authorization"].removeprefix("Bearer "))
    page.get_by_role("button", name="Open the list").click()

    expect(device(page, "phone")).to_have_attribute("data-state", "in-step")
    page.goto(f"{server}/demo/assets/demo.svg")


def test_task_of_one_device_is_on_the_other(demo: Page) -> None:
    phone, laptop = device(demo, "phone"), device(demo, "laptop")
    add(phone, "Buy oat milk #shopping !high 2999-03-01")
    expect_equal(demo, "Buy oat milk")
    assert rows(laptop) == ["Buy oat milk Mar 1, 2999 High #shopping"]

    laptop.get_by_role("checkbox", name="Complete “Buy oat milk”").check()
    expect(phone.get_by_role("checkbox")).to_be_checked()
    edit(phone, "Buy oat milk", title="Buy soy milk", description="Two litres", priority="low", tags="home, shop")
    expect_equal(demo, "Buy soy milk")
    assert rows(laptop) == ["Buy soy milk Two litres Mar 1, 2999 Low #home #shop"]


def test_devices_that_were_both_offline_are_equal_again(demo: Page) -> None:
    phone, laptop = device(demo, "phone"), device(demo, "laptop")
    add(phone, "Plan")
    expect_equal(demo, "Plan")
    for one in (phone, laptop):
        set_online(one, online=False)
    edit(phone, "Plan", title="Hike")
    edit(laptop, "Plan", title="Cinema", tags="friends")
    add(laptop, "New on the laptop")
    expect(phone.locator(".state")).to_have_text("1 change waiting")
    expect(laptop.locator(".state")).to_have_text("2 changes waiting")
    set_online(phone, online=True)
    expect(phone).to_have_attribute("data-state", "in-step")
    set_online(laptop, online=True)

    expect_equal(demo, "Hike", "New on the laptop")
    assert rows(phone)[0] == "Hike #friends"
    expect(laptop.locator(".toast")).to_contain_text("Kept “Hike”, dropped “Cinema”")
    laptop.get_by_role("button", name="Use mine").click()
    expect_equal(demo, "Cinema", "New on the laptop")


def test_deletion_is_undone_on_both_devices(demo: Page) -> None:
    phone = device(demo, "phone")
    add(phone, "a")
    expect_equal(demo, "a")
    phone.get_by_role("button", name="Delete “a”").click()
    expect_equal(demo)
    phone.get_by_role("button", name="Undo").click()

    expect_equal(demo, "a")


def test_keyboard_does_everything(demo: Page) -> None:
    keys = demo.keyboard
    for title in ("a", "b"):
        demo.locator("body").press("n")
        keys.type(title)
        keys.press("Enter")
        keys.press("Tab")
    expect_equal(demo, "a", "b")
    phone = device(demo, "phone")
    phone.get_by_role("checkbox").first.focus()
    keys.press("ArrowDown")
    keys.press("e")
    keys.type("c")
    keys.press("Enter")
    expect_equal(demo, "a", "c")
    keys.press("Delete")
    expect_equal(demo, "a")
    keys.press("u")
    expect_equal(demo, "a", "c")
    keys.press("o")
    expect(phone.get_by_role("switch")).to_have_text("Offline")
    keys.press("o")
    keys.press("/")
    keys.type("c")
    expect(phone.locator(".tasks .title")).to_have_text(["c"])
    keys.press("Escape")
    expect(phone.locator(".tasks .title")).to_have_text(["a", "c"])


def test_filters_and_tags_narrow_one_device(demo: Page) -> None:
    phone = device(demo, "phone")
    for text in ("Bread #shop", "Tap #home"):
        add(phone, text)
    expect_equal(demo, "Bread", "Tap")
    phone.get_by_role("checkbox", name="Complete “Tap”").check()
    phone.get_by_role("button", name="Done").click()
    expect(phone.locator(".tasks .title")).to_have_text(["Tap"])
    phone.get_by_role("button", name="All").click()
    phone.get_by_role("button", name="#shop").click()
    expect(phone.locator(".tasks .title")).to_have_text(["Bread"])
    expect(device(demo, "laptop").locator(".tasks .title")).to_have_count(2)


def test_tour_shows_a_conflict_and_an_undo(demo: Page) -> None:
    tour = demo.get_by_role("button", name="Show me in ten seconds")
    tour.click()
    expect(device(demo, "laptop").locator(".conflict")).to_contain_text("Kept “Hike on Saturday”", timeout=20_000)
    expect(tour).to_be_enabled(timeout=20_000)

    expect_equal(demo, "Hike on Saturday")


def test_calendar_address_and_line_for_an_assistant_are_good(demo: Page, server: str) -> None:
    demo.get_by_role("button", name="Get an address").click()
    expect(demo.locator("#calendar")).to_contain_text(f"{server}/calendar/")
    address = demo.locator("#calendar").inner_text()
    with urllib.request.urlopen(address) as response:
        assert response.status == 200
    line = demo.locator("#assistant").inner_text()
    pattern = rf'claude mcp add --transport http todo {re.escape(server)}/mcp --header "Authorization: Bearer [\w.-]+"'
    assert re.fullmatch(pattern, line)


def test_phone_width_shows_one_device_and_fits(demo: Page) -> None:
    demo.set_viewport_size({"width": 360, "height": 740})
    add(device(demo, "phone"), f"A long title {'that goes on ' * 10} #{'tag' * 10}")
    expect(device(demo, "laptop")).to_be_hidden()
    demo.get_by_role("button", name="Laptop").click()
    expect(device(demo, "laptop").locator(".tasks li")).to_have_count(1)
    expect(device(demo, "phone")).to_be_hidden()

    assert demo.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_accessible(demo: Page, scheme: str, width: int) -> None:
    demo.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    demo.set_viewport_size({"width": width, "height": 900})
    phone = device(demo, "phone")
    for text in ("Late !high #a 2020-01-01", "Later !medium #b 2999-01-01", "Low !low", "Done"):
        add(phone, text)
    phone.get_by_role("checkbox", name="Complete “Done”").check()
    expect_equal(demo, "Late", "Later", "Low", "Done")
    set_online(phone, online=False)
    phone.get_by_role("button", name="Delete “Low”").click()
    phone.get_by_role("button", name="Edit “Later”").click()
    demo.evaluate(AXE.read_text())
    found = demo.evaluate("async () => (await axe.run()).violations")

    assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
