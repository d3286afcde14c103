"""The readers' whole way in a real browser: with a script at a desk, without one on a phone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect

from digest import inbox
from digest.storage import subscribers
from digest.storage.database import open_database, reading
from digest.storage.migrating import upgrade
from digest.suppression import address_key
from digest.tokens import Purpose, sign
from tests.browsing import NEEDS_CHROMIUM, browser, watching
from tests.local_house import NOW, READER, LocalHouse, local_house

__all__ = ["browser"]

pytestmark = NEEDS_CHROMIUM
DESK: dict[str, Any] = {"viewport": ViewportSize(width=1200, height=900)}
PHONE: dict[str, Any] = {"viewport": ViewportSize(width=390, height=844), "has_touch": True}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHouse]:
    folder = tmp_path_factory.mktemp("house")
    url = f"sqlite:///{folder}/digest.db"
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    ticks = itertools.count()
    with local_house(folder, url, clock=lambda: NOW + timedelta(microseconds=next(ticks))) as found:
        yield found


def arrive(house: LocalHouse) -> None:
    """Let the mail that is due arrive, as a moment later it would."""

    def work() -> None:
        house.services.answer_requests()
        house.services.plan_due()
        with house.services.relays() as relays:
            house.services.postman(relays).deliver()

    with ThreadPoolExecutor(1) as pool:  # the browser's driver has a loop in this thread
        pool.submit(work).result()


def open_mail(house: LocalHouse, page: Page, address: str) -> Any:
    """The newest mail to somebody, in the inbox; its frame."""
    for key in inbox.keys(house.inbox):
        if inbox.read(house.inbox, key).summary.recipient == address:
            page.goto(f"{house.url}/inbox/{key}")
            return page.frame_locator("iframe")
    raise AssertionError(f"no mail to {address}")


def follow(page: Page, frame: Any, name: str) -> Page:
    """Press a link in a mail; the tab that it opens."""
    with page.context.expect_page() as opened:
        frame.get_by_role("link", name=name).first.click()
    return opened.value


@pytest.mark.parametrize("script", [True, False], ids=["desk with script", "phone without"])
def test_the_whole_way_of_a_reader(house: LocalHouse, browser: Browser, script: bool) -> None:
    address = f"reader-{script}@example.org".lower()
    options = DESK if script else PHONE
    with watching(browser, house, java_script_enabled=script, **options) as window:
        page = window.page
        page.goto(house.url)
        page.get_by_label("Email address").fill(address)
        page.get_by_role("button", name="Subscribe").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Check your inbox"
        page.get_by_label("Hour").select_option("7")
        page.get_by_role("button", name="Save").click()
        assert "Noted." in page.get_by_role("status").inner_text()

        arrive(house)
        page = follow(page, open_mail(house, page, address), "Yes, send it to me")
        assert page.get_by_label("Hour").input_value() == "7"
        page.get_by_label("Agents", exact=True).check()
        page.get_by_role("button", name="Yes, send me the digest").first.click()
        assert "You are in." in page.get_by_role("status").first.inner_text()

        arrive(house)
        mail = open_mail(house, page, address)
        said = follow(page, mail, "More like this")
        said.get_by_role("button", name="More like this").click()
        assert "papers like this one rank higher" in said.get_by_role("status").inner_text()

        page = follow(page, mail, "Your preferences")
        shown = page.frame_locator(".next iframe:visible").locator("h2.title")
        if script:
            expect(shown).not_to_have_count(0)  # there before anything was pressed
        page.get_by_label("Papers in one digest, at most").fill("2")
        if not script:
            page.get_by_role("button", name="Preview").first.click()
        expect(shown).to_have_count(2)
        if script:
            page.get_by_label("Papers like these").fill("not a paper")
            page.frame_locator(".next iframe:visible").get_by_text(
                "The form has mistakes"
            ).wait_for()  # and what is announced is true
            page.get_by_text("The preview is up to date. Nothing is saved yet.").wait_for()
            page.get_by_label("Papers like these").fill("")
            expect(shown).to_have_count(2)
        page.get_by_role("button", name="Save").first.click()
        assert "Saved." in page.get_by_role("status").first.inner_text()
        assert page.get_by_label("Papers in one digest, at most").input_value() == "2"
        assert page.get_by_text("More like", exact=True).is_visible()
        page.get_by_label("Pause until").fill("2026-06-10")
        page.get_by_role("button", name="Pause").click()
        page.get_by_role("button", name="Resume now").click()
        assert "Your digests have resumed." in page.get_by_role("status").first.inner_text()

        page.get_by_label("Search all papers").fill("agents")
        page.get_by_label("Search all papers").press("Enter")
        assert page.locator("mark").first.inner_text().lower().startswith("agent")
        page.get_by_label("Email address").fill(address)
        page.get_by_role("button", name="Mail me this search").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Check your inbox"
        arrive(house)
        page = follow(page, open_mail(house, page, address), "Your preferences")
        assert page.get_by_label("Searches").input_value() == "agents"

        page.get_by_role("link", name="Today").click()
        page.get_by_role("link", name="Lost your link?").click()
        page.get_by_label("Email address").fill(address)
        page.get_by_role("button", name="Mail me the link").click()
        arrive(house)
        page = follow(page, open_mail(house, page, address), "Your preferences")
        page.get_by_role("link", name="Unsubscribe").click()
        page.get_by_role("button", name="Unsubscribe").click()
        assert page.get_by_role("heading", level=1).inner_text() == "You are out"
        page.get_by_role("button", name="Undo").click()
        assert page.get_by_role("heading", level=1).inner_text() == "Welcome back"


# ------------------------------------------------------------------ every page, every scheme


def pages(house: LocalHouse) -> dict[str, str]:
    """A page of each kind, and each state that a link can show."""
    services = house.services
    with reading(services.engine) as connection:
        reader = subscribers.find(connection, address_key(READER))
    assert reader is not None

    def link(purpose: Purpose, subject: int = reader.id) -> str:
        return sign(purpose, subject, secrets=services.secrets, now=NOW)

    [mail] = [
        mail
        for key in inbox.keys(house.inbox)
        for mail in [inbox.read(house.inbox, key)]
        if mail.summary.recipient == READER
    ][-1:]
    words = mail.text.split()
    mine = {
        name: next(word for word in words if word.startswith(f"{house.url}/{name}/"))
        for name in ("me", "f", "v", "u")
    }
    [key] = [key for key in inbox.keys(house.inbox) if mail == inbox.read(house.inbox, key)][:1]
    return {
        "today": "/",
        "a month": "/month",
        "a day without papers": "/papers/2020-01-01",
        "a paper": "/p/1",
        "topics": "/topics",
        "a topic": "/topics/agents",
        "how to search": "/search",
        "found": "/search?q=agents",
        "not found": "/search?q=(quasar",
        "subscribe": "/subscribe",
        "lost link": "/me",
        "privacy": "/privacy",
        "no page": "/no/such/page",
        "a broken link": "/me/broken",
        "preferences": mine["me"].removeprefix(house.url),
        "just joined": mine["me"].removeprefix(house.url) + "?new=1",
        "an opinion": mine["f"].removeprefix(house.url),
        "muting": mine["f"].removeprefix(house.url) + "/mute",
        "in the browser": mine["v"].removeprefix(house.url),
        "the way out": mine["u"].removeprefix(house.url),
        "saved": f"/saved/{link(Purpose.SAVED)}",
        "chosen": f"/choose/{link(Purpose.CHOOSE, 1)}",
        "inbox": "/inbox/",
        "a mail": f"/inbox/{key}",
    }


STATES = ("today", "a paper", "found", "preferences", "an opinion", "subscribe")


def test_nothing_scrolls_sideways_or_shifts(house: LocalHouse, browser: Browser) -> None:
    """At 320 px, and at 1200 px with text twice as large; nothing moves once it is seen."""
    shift = """new Promise(done => {
        let sum = 0;
        new PerformanceObserver(list => list.getEntries().forEach(e => { sum += e.value; }))
            .observe({type: "layout-shift", buffered: true});
        setTimeout(() => done(sum), 100);
    })"""
    for width, zoom in ((320, 1), (640, 2)):
        size = ViewportSize(width=width, height=700)
        with watching(
            browser, house, refusals=True, viewport=size, device_scale_factor=zoom
        ) as window:
            found = pages(house)
            for name in STATES:
                window.page.goto(house.url + found[name])
                wide = window.page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, name
                assert window.page.evaluate(shift) == 0, name
                requests = [url for url in window.requests if "/static/" in url or name == "found"]
                assert len(requests) <= 5, name
                window.requests.clear()


def test_every_control_is_reached_by_keys_and_shows_it(house: LocalHouse, browser: Browser) -> None:
    with watching(browser, house, **DESK) as window:
        page = window.page
        page.goto(house.url + pages(house)["preferences"])
        controls = page.locator(
            "main :is(a[href], button, input, select, textarea):visible"
        ).count()
        seen: set[str] = set()
        for _ in range(controls + 30):
            page.keyboard.press("Tab")
            seen.add(
                page.evaluate(
                    """() => {
                        const at = document.activeElement, style = getComputedStyle(at);
                        const drawn = style.outlineStyle !== "none" && style.outlineWidth !== "0px";
                        return at.closest("main") ? `${drawn} ${at.name || at.textContent}` : "";
                    }"""
                )
            )
        names = {one.partition(" ")[2] for one in seen if one}
        assert {"hour", "zone", "topic", "authors", "max_papers", "until", "email"} <= names
        # A date's parts and a frame's content are focused inside of them, and drawn there.
        drawn = {one.partition(" ")[2] for one in seen if one.startswith("true")}
        assert {one for one in names - drawn if not one.startswith("preview")} == set()
