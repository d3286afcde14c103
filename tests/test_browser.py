"""The pages and the mail in a real browser: nothing breaks, nothing runs, nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from playwright.sync_api import Browser, ViewportSize

from digest import inbox
from digest.models import Record
from tests.browsing import NEEDS_CHROMIUM, Watched, browser, window
from tests.local_house import NOW, LocalHouse, local_house

pytestmark = NEEDS_CHROMIUM

__all__ = ["browser", "window"]

WIDTHS = (320, 390, 1200)  # px
PAGES = 8  # requests that a page may cost
RUN = "document.title='run'"  # what a script that got through would do
HOSTILE = (
    f'agent </a></h2><script>{RUN}</script><img src=x onerror="{RUN}">',
    f"agent \" autofocus onfocus='{RUN}' style='position:fixed",
    "agent \u202egnp.exe\u2066 \x00 @@unsubscribe_url@@ {{ 7 * 7 }} &lt;b&gt;",
    "agent " + "Unbreakable" * 25,
)


def hostile(number: int, title: str) -> Record:
    return Record(
        source="feed:own",
        external_id=str(number),
        title=title,
        url=f"javascript:{RUN}",
        listed_at=NOW - timedelta(hours=1),
        abstract=f"We show {title}.",
        authors=(title,),
        organisation=title,
        venue=title,
        categories=(title,),
        keywords=("agent",),
        links={"code": f"javascript:{RUN}", "pdf": f"https://papers.example.org/'\"><script>{RUN}"},
        signals={"upvotes": 9_999_999 - number},
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHouse]:
    folder = tmp_path_factory.mktemp("house")
    records = [hostile(number, title) for number, title in enumerate(HOSTILE)]
    with local_house(folder, f"sqlite:///{folder}/digest.db", records=records) as found:
        yield found


def paths(house: LocalHouse) -> list[str]:
    """A page of each kind."""
    [key] = inbox.keys(house.inbox)
    mail = inbox.read(house.inbox, key)
    tokens = [url.removeprefix(house.url) for url in mail.text.split() if url.startswith(house.url)]
    views = [f"/inbox/{key}?view={view}" for view in ("text", "source", "headers")]
    return [
        "/",
        "/papers/2026-05-27",
        "/inbox/",
        f"/inbox/{key}",
        f"/inbox/{key}?width=phone",
        *views,
        f"/inbox/{key}/html",
        *(path for path in tokens if path.startswith(("/u/", "/settings/"))),
    ]


def test_from_the_front_page_to_the_way_out(house: LocalHouse, window: Watched) -> None:
    page = window.page
    page.goto(house.url)
    page.get_by_role("link", name="Inbox", exact=True).click()
    page.locator(".mails a").click()
    mail = page.frame_locator("iframe")
    assert mail.get_by_role("heading", name="Paper Digest").is_visible()
    with window.context.expect_page() as opened:
        mail.get_by_role("link", name="Unsubscribe").click()
    way_out = opened.value
    for _ in range(2):  # the second time says the same
        way_out.get_by_role("button", name="Unsubscribe").click()
        assert way_out.get_by_role("heading", level=1).text_content() == "You are out"
        way_out.goto(way_out.url)
    way_out.close()
    page.get_by_role("link", name="Phone, 390 px").click()
    assert page.locator("iframe").bounding_box()["width"] == 392  # type: ignore[index]
    page.get_by_role("link", name="Text", exact=True).click()
    assert "Unsubscribe:" in page.locator("pre").inner_text()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_page_scrolls_sideways(house: LocalHouse, window: Watched, width: int) -> None:
    window.page.set_viewport_size(ViewportSize(width=width, height=844))
    for path in paths(house):
        window.requests.clear()
        window.page.goto(house.url + path)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert len(window.requests) <= PAGES, path


def test_hostile_words_stay_words(house: LocalHouse, window: Watched) -> None:
    page = window.page
    for path in paths(house):
        page.goto(house.url + path)
        assert page.title() != "run", path
        assert (
            page.locator("script:not([src^='/static/']), img, [onerror], [onfocus]").count() == 0
        ), path
        assert page.locator("a[href^='javascript']").count() == 0, path
    page.goto(house.url)
    assert "<script>" in page.locator("article h2").first.inner_text()
    [key] = inbox.keys(house.inbox)
    mail = inbox.read(house.inbox, key)
    assert "<script>" in mail.text
    assert "@@unsubscribe_url@@ {{ 7 * 7 }} &lt;b&gt;" in mail.text
    for body in (mail.html, mail.text, mail.summary.subject):
        assert not set("\x00\u202e\u2066") & set(body)
        assert "javascript:" not in body


def test_keyboard_and_dark(house: LocalHouse, browser: Browser) -> None:
    """The first Tab offers to skip the masthead; the dark really is dark, the mail's too."""
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(house.url)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    ground = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(ground) == "rgb(18, 18, 18)"
    [key] = inbox.keys(house.inbox)
    page.goto(f"{house.url}/inbox/{key}/html")
    assert page.evaluate(ground) == "rgb(18, 18, 18)"
    context.close()


def test_forced_colours_show_what_colours_said_and_nothing_moves(
    house: LocalHouse, browser: Browser
) -> None:
    with browser.new_context(forced_colors="active", reduced_motion="reduce") as context:
        page = context.new_page()
        page.goto(house.url)
        drawn = page.locator("button, input:not([type=hidden]):not([name=website])")
        edges = drawn.evaluate_all(
            "all => all.map(one => parseFloat(getComputedStyle(one).borderTopWidth))"
        )
        assert len(edges) >= 3
        assert min(edges) >= 1  # backgrounds are gone
        here, other = (
            page.locator(f"header nav a{which}").first.evaluate(
                "one => getComputedStyle(one).fontWeight"
            )
            for which in ("[aria-current]", ":not([aria-current])")
        )
        assert int(here) > int(other)
        moving = page.locator("body *").evaluate_all(
            """all => all.filter(one => {
                const style = getComputedStyle(one);
                return style.transitionDuration !== "0s" || style.animationName !== "none";
            }).length"""
        )
        assert moving == 0
