"""A real browser, watched: whatever its console, its scripts or its requests complain of fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.local_house import LocalHouse

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as play:
        found = play.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield found
        found.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A browser window, and all that must not happen in it."""

    context: BrowserContext
    page: Page
    complaints: list[str]
    requests: list[str]


@contextmanager
def watching(
    browser: Browser, house: LocalHouse, *, refusals: bool = False, **options: Any
) -> Iterator[Watched]:
    """Console messages (violated policies among them), script errors and dialogs fail the test."""
    context = browser.new_context(**options)
    complaints: list[str] = []
    requests: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
    if not refusals:  # else pages that say what is wrong are looked at
        context.on(
            "response", lambda answer: complaints.extend([answer.url] * (answer.status >= 400))
        )
    context.on("request", lambda request: requests.append(request.url))
    yield Watched(
        context=context, page=context.new_page(), complaints=complaints, requests=requests
    )
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(house.url)] == []


@pytest.fixture
def window(browser: Browser, house: LocalHouse) -> Iterator[Watched]:
    """A window that nothing may go wrong in; each test's module has a `house`."""
    with watching(browser, house) as found:
        yield found
