"""Looking changes nothing: mail scanners, prefetchers and crawlers follow every link there is.

And on none of the pages that they meet is a hostile paper more than text.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import httpx

from digest import inbox
from digest.pipeline import accounts
from digest.storage import subscribers
from digest.storage.database import reading
from tests import inert, mails
from tests.local_house import NOW, READER, LocalHouse, local_house
from tests.web_site import dump

PAGE = 100_000  # bytes: what a page may weigh


def links(page: httpx.Response) -> set[str]:
    """Where an HTML page leads to, or takes its parts from; fragments cut."""
    if not page.headers.get("content-type", "").startswith("text/html"):
        return set()
    found = mails.document(page.text).iterlinks()
    return {urldefrag(urljoin(str(page.url), link)).url for _, _, link, _ in found}


def links_of_mails(house: LocalHouse) -> set[str]:
    """Every link in every part of the mails: bodies, text and headers."""
    return {
        link
        for key in inbox.keys(house.inbox)
        for mail in [inbox.read(house.inbox, key)]
        for text in (mail.html, mail.text, *(value for _, value in mail.headers))
        for link in re.findall(r"https?://[^\s\"'<>]+", text)
    }


def everything(house: LocalHouse) -> object:
    """All tables, and the inbox with its file names, which hold what was read."""
    files = sorted(house.inbox.rglob("*"))
    kept = [(path.name, path.read_bytes()) for path in files if path.is_file()]
    return dump(house.services.engine), kept


def every_kind_of_mail(house: LocalHouse) -> None:
    """Let a mail of each kind arrive: all that people can ask for."""
    services = house.services
    client = ip_address("192.0.2.7")
    with reading(services.engine) as connection:
        ada = subscribers.find(connection, READER)
    assert ada is not None
    for address in (READER, "new@example.org"):
        asked = accounts.ask(services.accounts, address, locale="en", source="test", client=client)
        assert asked is None
    assert accounts.request_change(services.accounts, ada.id, "other@example.org") is None
    assert accounts.request_export(services.accounts, ada.id) is None
    services.answer_requests()
    # An address gets only so many mails a day.
    tomorrow = replace(services, clock=lambda: NOW + timedelta(days=1))
    with services.relays() as relays:
        services.postman(relays).deliver()
        assert accounts.request_erasure(tomorrow.accounts, ada.id) is None
        tomorrow.postman(relays).deliver()
    assert len(inbox.keys(house.inbox)) == 7


def test_get_and_head_change_nothing(tmp_path: Path, database_url: str) -> None:
    with (
        local_house(tmp_path, database_url, records=inert.HOSTILE) as house,
        httpx.Client() as client,
    ):
        every_kind_of_mail(house)
        for key in inbox.keys(house.inbox):
            inert.check_page(inbox.read(house.inbox, key).html)
        assert sum("evil" in inbox.read(house.inbox, k).text for k in inbox.keys(house.inbox)) == 1
        before = everything(house)
        seen: set[str] = set()
        shown = {f"{house.url}/inbox/{key}" for key in inbox.keys(house.inbox)}
        level = {f"{house.url}/", f"{house.url}/inbox/", *shown, *links_of_mails(house)}
        for depth in range(2):  # those in the mails, and those on the pages that these open
            following: set[str] = set()
            for url in sorted(level - seen):
                if not url.startswith(house.url):
                    continue
                seen.add(url)
                for _ in range(2):
                    page = client.get(url)
                    head = client.head(url)
                    assert (page.status_code, head.status_code) == (200, 200), url
                    assert not head.content
                assert len(page.content) <= PAGE, url
                inert.check(page)
                if depth == 0:
                    following |= links(page)
            level = following
        assert everything(house) == before
    paths = {url.removeprefix(house.url).split("?")[0] for url in seen}
    kinds = {re.sub(r"^(/\w*).*$", r"\1", path) for path in paths}
    tokens = {"/u", "/me", "/f", "/v", "/confirm", "/change", "/export", "/erase", "/saved"}
    pages = {"/papers", "/week", "/month", "/p", "/topics", "/search", "/subscribe", "/privacy"}
    assert kinds == {"", "/", "/feed", "/inbox", "/static", *tokens, *pages}
    assert sum(path.endswith("/html") for path in paths) == 7


def test_what_a_post_changes_would_have_been_seen(tmp_path: Path, sqlite_url: str) -> None:
    with local_house(tmp_path, sqlite_url) as house:
        before = everything(house)
        [way_out] = {link for link in links_of_mails(house) if "/u/" in link}
        httpx.post(way_out, data={"List-Unsubscribe": "One-Click"}).raise_for_status()
        assert everything(house) != before
