"""The readers' ways by keyboard alone: where the focus goes, that it is seen, what is announced."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect

from digest import inbox
from tests.browsing import NEEDS_CHROMIUM, browser, watching
from tests.local_house import READER, LocalHouse
from tests.test_browser_readers import DESK, arrive, house, pages

__all__ = ["browser", "house"]

pytestmark = NEEDS_CHROMIUM
FOCUSED = "document.activeElement"


@pytest.fixture
def page(browser: Browser, house: LocalHouse) -> Iterator[Page]:
    with watching(browser, house, refusals=True, **DESK) as window:
        yield window.page
        # Pages that say no are told of on the console.
        window.complaints[:] = [one for one in window.complaints if "status of 422" not in one]


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until that has the focus, and shows it."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if page.evaluate(f"at => {FOCUSED}.matches(at)", selector):
            drawn = page.evaluate(f"getComputedStyle({FOCUSED}).outlineStyle")
            assert drawn != "none", selector
            return
    raise AssertionError(f"no Tab leads to {selector}")


def link_in_mail(house: LocalHouse, address: str, name: str) -> str:
    for key in inbox.keys(house.inbox):
        mail = inbox.read(house.inbox, key)
        if mail.summary.recipient == address:
            return next(word for word in mail.text.split() if f"/{name}/" in word)
    raise AssertionError(f"no mail to {address}")


def heading(page: Page) -> str:
    return page.get_by_role("heading", level=1).inner_text()


def test_joining_and_leaving(house: LocalHouse, page: Page) -> None:
    address = "keys@example.org"
    page.goto(house.url)
    tab_to(page, "#join")
    page.keyboard.type(address)
    page.keyboard.press("Enter")
    page.wait_for_url("**/subscribe")
    assert heading(page) == "Check your inbox"
    arrive(house)
    page.goto(link_in_mail(house, address, "confirm"))
    tab_to(page, "main button")
    page.keyboard.press("Enter")
    page.wait_for_url("**?new=1")
    assert page.evaluate(f"{FOCUSED}.textContent").startswith("You are in.")
    tab_to(page, "a[href^='/u/']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/u/*")
    tab_to(page, "main button")
    page.keyboard.press("Space")
    page.get_by_role("heading", name="You are out").wait_for()
    tab_to(page, "button[value=undo]")
    page.keyboard.press("Space")
    page.get_by_role("heading", name="Welcome back").wait_for()


def test_an_opinion(house: LocalHouse, page: Page) -> None:
    opinion = link_in_mail(house, READER, "f")
    page.goto(opinion)
    tab_to(page, "main button")
    page.keyboard.press("Enter")
    page.get_by_role("status").wait_for()
    assert page.evaluate(f"{FOCUSED}.getAttribute('role')") == "status"
    tab_to(page, "main button")  # the next one takes it back
    page.keyboard.press("Enter")
    page.get_by_text("Undone.").wait_for()


@pytest.mark.parametrize("path", ["/subscribe", "/me"])
def test_a_mistake_in_the_one_field_has_the_focus(house: LocalHouse, page: Page, path: str) -> None:
    page.goto(house.url + path)
    page.locator(f"form[action='{path}']").evaluate("form => form.noValidate = true")
    tab_to(page, "#email")
    page.keyboard.type("nobody")
    page.keyboard.press("Enter")
    page.locator("[aria-invalid=true]").wait_for()
    assert page.evaluate(f"{FOCUSED}.id") == "email"
    told = page.evaluate(
        f"document.getElementById({FOCUSED}.getAttribute('aria-describedby')).textContent"
    )
    assert "@-sign" in told


def test_mistakes_have_the_focus_and_lead_to_their_fields(house: LocalHouse, page: Page) -> None:
    page.goto(house.url + pages(house)["preferences"])
    page.locator("form.wishes").evaluate(
        """form => {
            form.noValidate = true;
            form.querySelector("[name=frequency]:checked").value = "never";
            form.querySelector("[name=hour] :checked").value = "25";
            form.querySelector("[name=detail]:checked").value = "none";
            form.querySelector("[name=words]").value = "(";
        }"""
    )
    tab_to(page, "button[value=save]")
    page.keyboard.press("Enter")
    page.locator(".errors").wait_for()
    assert page.evaluate(f"{FOCUSED}.className") == "errors"
    told = page.locator(".errors a").all_inner_texts()
    assert [words.partition(":")[0] for words in told] == [
        *("Hour", "How often", "Each paper with", "Muted words"),
    ]
    for name in ("hour", "frequency", "detail", "words"):
        page.locator(".errors").focus()
        tab_to(page, f".errors a[href='#{name}']")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Shift+Tab")  # where a link led is where the next Tab starts
        assert page.evaluate(f"{FOCUSED}.name") == name
        described = page.evaluate(
            f"""(() => {{
                const field = {FOCUSED}.closest("[aria-describedby]");
                return field.getAttribute("aria-describedby").split(" ")
                    .map(id => document.getElementById(id).textContent);
            }})()"""
        )
        assert all(described), name
        assert page.evaluate(f"{FOCUSED}.closest('[aria-invalid=true]') !== null"), name


def test_what_was_saved_is_said_first(house: LocalHouse, page: Page) -> None:
    page.goto(house.url + pages(house)["preferences"])
    tab_to(page, "button[value=save]")
    page.keyboard.press("Enter")
    page.wait_for_url("**?done=save")
    assert (
        page.evaluate(f"{FOCUSED}.textContent") == "Saved. It takes effect with your next digest."
    )


def test_the_preview_is_announced_each_time_and_leaves_the_focus(
    house: LocalHouse, page: Page
) -> None:
    page.goto(house.url + pages(house)["preferences"])
    said: Any = page.locator("#previewed")
    assert said.get_attribute("role") == "status"  # polite: it waits for a pause
    page.get_by_text(said.get_attribute("data-done")).wait_for()  # the first comes by itself
    tab_to(page, "#max_papers")
    told = [
        said.evaluate(
            """one => {
            new MutationObserver(() => { one.dataset.said = 1 + +(one.dataset.said || 0); })
                .observe(one, {childList: true});
            return one.textContent;
        }"""
        )
    ]
    for times, number in enumerate("34", start=1):
        page.keyboard.press("Control+A")
        page.keyboard.type(number)
        page.locator(f"#previewed[data-said='{times}']").wait_for()
        told.append(said.evaluate("one => one.textContent"))
        assert page.evaluate(f"{FOCUSED}.id") == "max_papers"
    assert all(one != other for one, other in pairwise(told))


def test_previews_are_no_steps_back_and_what_is_unsaved_is_asked_about(
    house: LocalHouse, browser: Browser
) -> None:
    with watching(browser, house, **DESK) as window:
        page, asked = window.page, list[str]()
        page.goto(f"{house.url}/privacy")
        page.goto(house.url + pages(house)["preferences"])
        steps = page.evaluate("history.length")
        shown = page.frame_locator(".next iframe:visible").locator("h2.title")
        tab_to(page, "#max_papers")
        for number in "34":
            page.keyboard.press("Control+A")
            page.keyboard.type(number)
            expect(shown).to_have_count(int(number))
        assert page.evaluate("history.length") == steps

        def leave(dialog: Dialog) -> None:
            asked.append(dialog.type)
            dialog.accept()

        page.on("dialog", leave)
        page.go_back()
        assert (page.url, asked) == (f"{house.url}/privacy", ["beforeunload"])
        window.complaints.remove("dialog: ")


def test_what_a_button_does_is_not_done_again_after_a_pause_in_typing(
    house: LocalHouse, page: Page
) -> None:
    page.goto(house.url + pages(house)["preferences"])
    page.evaluate("setTimeout = later => { window.later = later; }")
    page.evaluate("clearTimeout = () => { window.later = null; }")
    page.get_by_label("Papers in one digest, at most").fill("4")
    assert page.evaluate("Boolean(window.later)")
    page.get_by_role("button", name="Preview").first.click()
    assert not page.evaluate("Boolean(window.later)")
    page.get_by_role("button", name="Save").first.click()
    page.wait_for_url("**?done=save")  # and nobody is asked whether to leave
