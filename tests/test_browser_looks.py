"""Every page and state as a person sees it: a part of the matrix that meets each of its sides.

English goes through everything; each other language through every kind of page, now at a desk and
now on a phone, in the light and in the dark in turn. `make matrix` looks at the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from playwright.sync_api import Browser

from digest import locales
from tests import matrix, tour
from tests.album import album
from tests.browsing import NEEDS_CHROMIUM, browser
from tests.local_house import LocalHouse
from tests.matrix import Look, Window, look_at
from tests.tour import Stop

__all__ = ["browser"]

pytestmark = [NEEDS_CHROMIUM, pytest.mark.long]
OTHERS = sorted(locales.available() - {"en"})
# Of each kind of page the state that says most.
KINDS = (
    *("today", "a month, page 2", "a day without papers", "a paper", "topics", "a topic"),
    *("how to search", "found", "suggestion", "subscribe", "privacy", "inbox", "mail as html"),
    *("no page", "no link", "bad address", "asked for a link", "bad address of a link"),
    *("confirm with mistakes", "confirmed", "preferences with mistakes"),
    *("preferences with opinions", "preview with mistakes", "less", "mute", "save, done"),
    *(
        "saved",
        "in the browser",
        "change, the other address",
        "export",
        "erase",
        "leave",
        "left, bad date",
    ),
    *("left, said why", "back", "mail to read 1", "mail to read 2"),
)
# What words can break, of axe's rules.
BY_WORDS = ("link-name", "button-name", "label", "document-title", "html-lang-valid", "valid-lang")
# States that others show, too.
ALIKE = (
    *("a week", "a month", "a day", "found by date", "preferences", "preferences?done=save"),
    *(
        "saved",
        "asked",
        "pause, bad date",
        "another address, bad",
        "error 400",
        "error 403",
        "error 405",
    ),
    *(
        "error 404",
        "error 410",
        "error 413",
        "refused, client",
        "back, pause",
        "back, weekly",
        "less, done",
        "more",
        "save",
    ),
    *("refused, domain", "refused, no mail", "refused, address", "change, this address"),
    *("address waiting", "address taken", "address over", "preferences of who left"),
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalHouse]:
    with tour.touring(tmp_path_factory.mktemp("looks")) as found:
        yield found


def looks_for(tag: str, number: int, name: str) -> Iterator[Look]:
    """How to look at the page of that number and name.

    What a language changes are sizes, which cost little to see; axe looks at each page in English,
    in the dark where pages differ, and by the rules on words in one other language.
    """
    yield Look(name="text twice as large", width=390, text=2, axe=False, least=0)
    if tag == "en":
        yield Look(name="desk, light", width=1280, rules=())
        yield Look(name="phone, dark", width=390, scheme="dark", axe=name in KINDS, least=44)
        yield Look(name="320 px", width=320, axe=False, least=0)
        return
    turn = number + OTHERS.index(tag)
    width, scheme = (1280, 390)[turn % 2], ("light", "dark")[turn // 2 % 2]
    yield Look(
        name=f"{width} px, {scheme}",
        width=width,
        scheme=scheme,
        rules=BY_WORDS,
        axe=turn % len(OTHERS) == 0,
        least=44 if width < 480 else 24,
    )


def wrong_with(window: Window, url: str, stop: Stop, looks: Iterator[Look]) -> Iterator[str]:
    window.complaints.clear()
    window.page.goto(url)
    for look in looks:
        look_at(window.page, look)
        yield from (
            f"{stop.name}, {look.name}: {one}"
            for one in matrix.judge(window.page, look, framed=stop.name.startswith(matrix.FRAMED))
        )
    yield from (f"{stop.name}: {one}" for one in window.complaints)


@pytest.mark.parametrize("tag", ["en", *OTHERS])
def test_nothing_is_wrong_with_any_page(house: LocalHouse, browser: Browser, tag: str) -> None:
    with ThreadPoolExecutor(1) as pool:  # the browser's driver has a loop in this thread
        stops = pool.submit(matrix.stops, house, tag).result()
    if tag == "en":
        stops = [stop for stop in stops if stop.name not in ALIKE]
    else:
        stops = [stop for stop in stops if stop.name in KINDS]
        assert {stop.name for stop in stops} == set(KINDS)
    with album(house, stops) as url, matrix.window(browser, tag) as window:
        assert [
            one
            for number, stop in enumerate(stops)
            for one in wrong_with(
                window, f"{url}/album/{number}", stop, looks_for(tag, number, stop.name)
            )
        ] == []
