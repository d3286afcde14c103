"""Draw every page, state and mail, in every language and way of looking, into build/matrix/.

    python -m tests.matrix [language ...] [--only PATTERN]

Beside the pictures and their index.html it prints what axe-core has against any of them, what
scrolls sideways, what is too small to press, and what the browser's console complains of.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from digest import inbox, locales
from tests import pseudo, tour
from tests.album import album
from tests.browsing import CHROMIUM
from tests.local_house import READER, LocalHouse
from tests.looking import COLOURS, SIZES, enlarge, sideways, small, violations
from tests.tour import Stop

BUILD = Path(__file__).resolve().parents[1] / "build" / "matrix"
MADE = (pseudo.LONG, pseudo.MIRRORED)
WIDELY = ("en", *MADE)  # languages in which the rarer ways of looking are drawn, too


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A way of looking at a page; `rules` are what axe has not seen of it by the looks before."""

    name: str
    width: int
    scheme: str = "light"
    forced: bool = False
    text: int = 1  # times as large
    rules: tuple[str, ...] = COLOURS
    least: int = 24  # px, of what is pressed
    rare: bool = False
    axe: bool = True


LOOKS = (
    Look(name="desk light", width=1280, rules=()),
    Look(name="desk dark", width=1280, scheme="dark", least=0),
    Look(name="phone light", width=390, rules=(*COLOURS, *SIZES), least=44),
    Look(name="phone dark", width=390, scheme="dark", least=0),
    Look(name="320 px", width=320, rules=SIZES, least=0, rare=True),
    Look(name="text twice as large", width=1280, text=2, rules=SIZES, least=0, rare=True),
    Look(name="phone, text twice as large", width=390, text=2, rules=SIZES, least=0, rare=True),
    Look(name="forced colours", width=1280, forced=True, axe=False, least=0, rare=True),
    Look(
        name="forced colours, dark",
        width=390,
        forced=True,
        scheme="dark",
        axe=False,
        least=0,
        rare=True,
    ),
)
# What stands in a frame of ours, or in a mail program; and what axe asks of whole pages only.
FRAMED = ("mail to", "preview", "plain preview", "no preview")
NOT_IN_FRAMES = ("landmark", "region", "page-has-heading-one")
FORCED = tuple(look for look in LOOKS if look.forced)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A page, another whose colours are forced (Chromium forgets them badly), their complaints."""

    page: Page
    forced: Page
    complaints: list[str]


@contextmanager
def window(browser: Browser, tag: str) -> Iterator[Window]:
    """Windows that speak that language."""
    locale, complaints = tag.replace("_", "-"), list[str]()
    found = Window(
        page=browser.new_page(locale=locale),
        forced=browser.new_page(locale=locale, forced_colors="active"),
        complaints=complaints,
    )
    for page in (found.page, found.forced):
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"script: {error}"))
    yield found
    found.page.close()
    found.forced.close()


def stops(house: LocalHouse, tag: str) -> list[Stop]:
    """Everything that there is to look at in one language."""
    found = [
        *(one for one in tour.tour(house, tag, f"new-{tag}@example.org")),
        *tour.alone(tag),
        *_mails(house, tag),
    ]
    alike = {f"preferences?done={what}" for what in tour.DONE[1:]}
    return [one for one in found if one.name not in alike]


def _mails(house: LocalHouse, tag: str) -> Iterator[Stop]:
    """One mail of each subject, and its text; but for the digest of the beginning."""
    seen = set[str]()
    for key in reversed(inbox.keys(house.inbox)):
        mail = inbox.read(house.inbox, key)
        if mail.summary.recipient != READER and mail.summary.subject not in seen:
            seen.add(mail.summary.subject)
            yield Stop(name=f"mail to read {len(seen)}", path="/", headers={}, body=mail.html)
            asked = {"Accept-Language": tag.replace("_", "-")}
            text = httpx.get(f"{house.url}/inbox/{key}?view=text", headers=asked)
            yield Stop(name=f"text of mail {len(seen)}", path="/", headers={}, body=text.text)


def look_at(page: Page, look: Look) -> None:
    """Set the browser up for it."""
    page.set_viewport_size(ViewportSize(width=look.width, height=900))
    page.emulate_media(color_scheme=look.scheme)  # type: ignore[arg-type]
    enlarge(page, look.text)


def judge(page: Page, look: Look, *, framed: bool) -> Iterator[str]:
    """What is wrong with the page, looked at so."""
    if look.axe:
        found = violations(page, look.rules)
        yield from (one for one in found if not (framed and one.startswith(NOT_IN_FRAMES)))
    yield from (f"scrolls sideways: {one}" for one in sideways(page))
    yield from (f"too small: {one}" for one in small(page, look.least))


def draw(
    window: Window, url: str, stop: Stop, *, folder: Path, rare: bool
) -> Iterator[tuple[Look, Path | None, list[str]]]:
    """Look at one page in each way: the way, the picture, and what is wrong with it."""
    complaints = window.complaints
    for look in LOOKS:
        if look.forced and not rare:
            continue
        page = window.forced if look.forced else window.page
        if look in (LOOKS[0], FORCED[0]):
            complaints.clear()
            _open(page, url, stop)
        look_at(page, look)
        wrong = [*judge(page, look, framed=stop.name.startswith(FRAMED)), *complaints]
        complaints.clear()
        path = None
        if rare or not look.rare or wrong:
            path = folder / f"{stop.name} - {look.name}.png".replace("/", "_").replace("?", "_")
            page.screenshot(path=path, full_page=True)
        yield look, path, wrong


def _open(page: Page, url: str, stop: Stop) -> None:
    page.goto(url)
    if stop.name == "preferences":  # as it is with a script, once something was typed
        page.locator("[name=max_papers]").fill("3")
        said = page.locator("#previewed")
        said.filter(has_text=said.get_attribute("data-done") or "").wait_for()


@contextmanager
def speaking(tags: Sequence[str], folder: Path) -> Iterator[None]:
    """The made languages are only there for themselves."""
    with ExitStack() as stack:
        if set(tags) & set(MADE):
            stack.enter_context(pseudo.spoken(folder))
        yield


def draw_language(tag: str, only: str, tell: Callable[..., None]) -> Iterator[str]:
    """Draw all of one language; the index's lines."""
    folder = BUILD / tag
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="digest-matrix-")))
        stack.enter_context(speaking([tag], home / "languages"))
        house = stack.enter_context(tour.touring(home / "house"))
        found = stops(house, tag)
        url = stack.enter_context(album(house, found))
        play = stack.enter_context(sync_playwright())
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        windows = stack.enter_context(window(browser, tag))
        for number, stop in enumerate(found):
            if not re.search(only, stop.name):
                continue
            cells = ""
            for look, path, wrong in draw(
                windows, f"{url}/album/{number}", stop, folder=folder, rare=tag in WIDELY
            ):
                for one in wrong:
                    tell(f"{tag}, {stop.name}, {look.name}: {' '.join(one.split())}")
                if path is not None:
                    cells += _cell(path, look.name, bad=bool(wrong))
            yield f"<h2>{escape(tag)}: {escape(stop.name)}</h2><div>{cells}</div>"


def _cell(path: Path, name: str, *, bad: bool) -> str:
    there = quote(str(path.relative_to(BUILD)))
    kind = ' class="bad"' if bad else ""
    return f'<a href="{there}"{kind}><img src="{there}" alt="" loading="lazy">{escape(name)}</a>'


HEAD = """<!doctype html><meta charset="utf-8"><title>The matrix</title><style>
body { font: 14px sans-serif; margin: 20px } div { display: flex; gap: 12px; overflow-x: auto }
a { flex: 0 0 300px; color: #333 } a.bad { color: #c00; font-weight: bold }
img { display: block; width: 300px; height: 420px; object-fit: cover; object-position: top;
border: 1px solid #999 }</style>"""


def main(given: Sequence[str]) -> int:
    """How many things are wrong, at most 1."""
    everything = [*sorted(locales.available()), *MADE]
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("language", nargs="*", choices=[*everything, []], default=[])
    parser.add_argument("--only", default="", help="pages with such a name (a regular expression)")
    asked: Any = parser.parse_args(given)
    if CHROMIUM is None:
        sys.exit("There is no chromium on this machine.")
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    BUILD.mkdir(parents=True, exist_ok=True)
    with (BUILD / "index.html").open("w", encoding="utf-8") as index:
        index.write(HEAD)
        for tag in asked.language or everything:
            for line in draw_language(tag, asked.only, tell):
                index.write(line)
    sys.stdout.write(f"{len(told)} wrong; {BUILD}/index.html shows everything\n")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
