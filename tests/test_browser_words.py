"""The pages in a real browser with longer words, and with words from right to left."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from digest import inbox
from tests import pseudo
from tests.browsing import CHROMIUM, NEEDS_CHROMIUM
from tests.local_house import local_house

pytestmark = NEEDS_CHROMIUM
WIDTHS = (320, 1200)  # px


@pytest.mark.parametrize("tag", [pseudo.LONG, pseudo.MIRRORED])
def test_they_fit(tmp_path: Path, tag: str) -> None:
    folder = tmp_path / "house"
    folder.mkdir()
    with (
        pseudo.spoken(tmp_path / "languages"),
        local_house(folder, f"sqlite:///{folder}/digest.db") as house,
        sync_playwright() as play,  # after the house, which needs an event loop of its own
    ):
        [key] = inbox.keys(house.inbox)
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(locale=tag)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            for path in ("/", "/search", f"/inbox/{key}"):
                page.goto(house.url + path)
                assert page.locator("html").get_attribute("lang") == tag
                room = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                assert room <= 0, (path, width)
        browser.close()
