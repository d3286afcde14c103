"""The readers' flows over HTTP, with the mails between: join, tune, say, leave, be forgotten."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import parseaddr
from pathlib import Path
from typing import Any

import feedparser
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import html
from sqlalchemy import delete, select
from starlette.requests import Request

from digest import inbox, schema
from digest.locales import language
from digest.models import Action, InterestKind, Status, Subscriber
from digest.pipeline.accounts import Opened, erase
from digest.pipeline.accounts.base import PATHS
from digest.pipeline.accounts.limits import SUSPICIOUS
from digest.storage import feedback, interests, quotas, subscribers
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade
from digest.suppression import address_hashes, address_key
from digest.tokens import Purpose, sign, verify
from digest.web.app import create_app
from digest.web.digests import _impersonal
from digest.web.server import WebServer, listen
from digest.web.view import Web, load_assets, load_templates
from tests.local_house import NOW, READER, LocalHouse, local_house
from tests.web_site import PROBE, SITE, TEMPLATES, dump, words

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """A house, and somebody who browses it; each browser comes from a network of its own."""

    house: LocalHouse
    client: httpx.Client = field(default_factory=httpx.Client)

    def get(self, url: str) -> httpx.Response:
        return self.client.get(self._full(url))

    def post(self, url: str, **data: Any) -> httpx.Response:
        number = next(_numbers)
        network = f"198.{18 + number // 250}.{number % 250}.7"
        return self.client.post(
            self._full(url), data=data or {"yes": "yes"}, headers={"X-Forwarded-For": network}
        )

    def _full(self, url: str) -> str:
        return url if url.startswith("http") else self.house.url + url

    def mailed(self) -> list[inbox.Mail]:
        """What arrives now that what was asked is answered, the newest first."""
        before = set(inbox.keys(self.house.inbox))
        self.house.services.answer_requests()
        with self.house.services.relays() as relays:
            self.house.services.postman(relays).deliver()
        new = [key for key in inbox.keys(self.house.inbox) if key not in before]
        return [inbox.read(self.house.inbox, key) for key in new]

    def link(self, path: str, mails: list[inbox.Mail] | None = None) -> str:
        """The one link of that kind in the mails that came."""
        found = {
            link
            for mail in (self.mailed() if mails is None else mails)
            for link in re.findall(rf"{self.house.url}/{path}/[\w-]+", mail.text)
        }
        [link] = found
        return str(link)

    def join(self, address: str = "") -> tuple[Subscriber, str]:
        """Somebody new, and the link to their preferences."""
        address = address or f"reader{next(_numbers)}@example.org"
        assert self.post("/subscribe", email=address).status_code == 200
        done = self.post(self.link("confirm"), frequency="daily", hour="8", zone="UTC")
        assert done.status_code == 303
        return self.person(address), self.house.url + done.headers["location"].partition("?")[0]

    def person(self, address: str) -> Subscriber:
        with reading(self.house.services.engine) as connection:
            found = subscribers.find(connection, address_key(address))
        assert found is not None
        return found

    def way_out(self, person: Subscriber) -> str:
        secrets = self.house.services.secrets
        return "/u/" + sign(Purpose.UNSUBSCRIBE, person.id, secrets=secrets, now=NOW)

    def form(self, url: str) -> dict[str, list[str]]:
        """What the large form at that address would send as it is."""
        page = html.fromstring(self.get(url).text)
        form: Any = page.cssselect("form.wishes")[0]
        found: dict[str, list[str]] = {}
        for name, value in form.form_values():
            found.setdefault(name, []).append(value.removeprefix("\n"))  # as browsers do
        return found


def header(mail: inbox.Mail, name: str) -> str:
    return dict(mail.headers)[name]


def to(mail: inbox.Mail) -> str:
    return parseaddr(header(mail, "To"))[1]


@pytest.fixture
def readers(all_readers: Readers) -> Readers:
    """The same house for all tests, with no mail under way, and nothing said of papers."""
    all_readers.mailed()
    with writing(all_readers.house.services.engine) as connection:
        for table in (schema.feedback, schema.interest):
            connection.execute(delete(table))
    return all_readers


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    folder = tmp_path_factory.mktemp("readers")
    url = f"sqlite:///{folder}/digest.db"
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    # Each look at the clock is later than the one before, as it is outside of tests.
    ticks = itertools.count()
    with local_house(folder, url, clock=lambda: NOW + timedelta(microseconds=next(ticks))) as house:
        found = Readers(house=house)
        yield found
        found.client.close()


# ------------------------------------------------------------------ joining


def test_from_the_box_to_the_first_digest(readers: Readers) -> None:
    page = html.fromstring(readers.get("/").text)
    box: Any = page.cssselect("form[action='/subscribe']")[0]
    assert {name for name, _ in box.form_values()} <= {"email", "source", "website", "after"}
    asked = readers.post("/subscribe", email="New.Reader@example.org", source="front page")
    assert "Look into your inbox" in words(asked)
    mails = readers.mailed()
    [mail] = mails
    assert "New.Reader" not in mail.text
    link = readers.link("confirm", mails)
    page = html.fromstring(readers.get(link).text)
    assert len(page.cssselect("form button")) >= 1
    for one in (html.fromstring(asked.text), page):  # by the browser's guess, else the default
        assert one.cssselect("#zone[data-zone] option[selected]")[0].get("value") == "UTC"
        assert len(one.cssselect("[name=topic], #hour, #zone, [name=frequency]")) > 5
    done = readers.post(
        link, frequency="weekly", weekday="4", hour="18", zone="Asia/Tokyo", topic=["agents"]
    )
    assert done.status_code == 303
    assert done.headers["location"].startswith("/me/")
    assert "You are in." in words(readers.get(done.headers["location"]))
    person = readers.person("new.reader@example.org")
    assert (person.status, person.hour, person.zone) == (Status.ACTIVE, 18, "Asia/Tokyo")
    assert (person.frequency, person.weekday, person.topics) == ("weekly", 4, ("agents",))
    readers.house.services.plan_due()
    came = [to(mail) for mail in readers.mailed()]  # others have theirs to come
    assert came.count("New.Reader@example.org") == 1
    again = readers.post(link)
    assert (again.status_code, "You are subscribed" in words(again)) == (200, True)
    assert "You are subscribed" in words(readers.get(link))


def test_the_answer_tells_nobody_who_subscribes(readers: Readers) -> None:
    person, _ = readers.join()
    for path in ("/subscribe", "/me"):
        known = readers.post(path, email=person.address)
        unknown = readers.post(path, email=f"nobody{next(_numbers)}@example.org")
        said = [re.sub(r"/choose/[\w-]{40}", "", one.text) for one in (known, unknown)]
        assert (known.status_code, said[0]) == (unknown.status_code, said[1])
    kinds = sorted(header(mail, "Subject") for mail in readers.mailed())
    assert len(kinds) == 2  # the link to whom it is known, one invitation, nothing to lost


def test_a_lost_link_is_mailed(readers: Readers) -> None:
    person, _ = readers.join()
    readers.post("/me", email=person.address.upper())
    assert "Your preferences" in words(readers.get(readers.link("me")))


def test_an_expired_link_offers_a_new_one(readers: Readers) -> None:
    person, _ = readers.join()
    address = f"late{next(_numbers)}@example.org"
    readers.post("/subscribe", email=address)
    link = readers.link("confirm")
    secrets = readers.house.services.secrets
    subject = verify(link.rpartition("/")[2], Purpose.CONFIRM, secrets=secrets, now=NOW).subject
    old = sign(Purpose.CONFIRM, subject, secrets=secrets, now=NOW - timedelta(days=8))
    lost = sign(Purpose.PREFERENCES, person.id, secrets=secrets, now=NOW - timedelta(days=366))
    for path, owner, kind in (("confirm", address, "confirm"), ("me", person.address, "me")):
        page = readers.get(f"/{path}/{old if path == 'confirm' else lost}")
        assert page.status_code == 410
        [form] = html.fromstring(page.text).cssselect("main form")
        answer = readers.post(str(form.get("action")), email=owner, source="expired link")
        assert answer.status_code == 200
        assert readers.get(readers.link(kind)).status_code == 200
    assert readers.post(f"/confirm/{old}").status_code == 410
    assert not html.fromstring(readers.get("/confirm/x").text).cssselect("main form")


def test_a_page_takes_twenty_choices(readers: Readers) -> None:
    asked = html.fromstring(readers.post("/subscribe", email="often.chosen@example.org").text)
    [form] = asked.cssselect("form[action^='/choose/']")
    path = str(form.get("action"))
    codes = [readers.post(path, hour=str(number)).status_code for number in range(21)]
    assert codes == [200] * 20 + [429]
    readers.mailed()
    assert readers.person("often.chosen@example.org").hour == 19  # the last that was taken


def test_what_is_chosen_meanwhile_holds_for_who_is_new(readers: Readers) -> None:
    old, _ = readers.join()
    new = f"chooser{next(_numbers)}@example.org"
    for address in (old.address, new):
        asked = html.fromstring(readers.post("/subscribe", email=address).text)
        [form] = asked.cssselect("form[action^='/choose/']")
        path = str(form.get("action"))
        assert readers.get(path).status_code == 200
        wrong = readers.post(path, hour="25", zone="Asia/Tokyo")
        assert wrong.status_code == 422
        assert not html.fromstring(wrong.text).cssselect("#zone[data-zone]")
        wanted = {"hour": "17", "zone": "Asia/Tokyo", "frequency": "weekdays", "topic": "agents"}
        kept = readers.post(path, **wanted)
        assert "It holds once you have confirmed" in words(kept)
    mails = readers.mailed()
    pending = readers.person(new)
    assert (pending.status, pending.hour, pending.topics) == (Status.PENDING, 17, ("agents",))
    assert readers.person(old.address) == old
    link = readers.link("confirm", mails)
    page = html.fromstring(readers.get(link).text)
    assert page.cssselect("#hour option[selected]")[0].get("value") == "17"
    # The browser's guess is for who chose no zone.
    assert page.cssselect("#zone option[selected]")[0].get("value") == "Asia/Tokyo"
    assert not page.cssselect("#zone[data-zone]")
    readers.post(path, hour="3")
    assert readers.post(link).status_code == 303
    readers.post(path, hour="4")  # too late: they confirmed
    readers.mailed()
    assert readers.person(new).hour == 17


def test_a_topic_and_a_search_can_be_had_by_mail(readers: Readers) -> None:
    addresses = [f"{name}{next(_numbers)}@example.org" for name in ("topical", "searching")]
    for path, address in zip(("/topics/agents", "/search?q=robot*"), addresses, strict=True):
        page = html.fromstring(readers.get(path).text)
        form: Any = page.cssselect("form[action='/subscribe']")[0]
        fields = {name: value for name, value in form.form_values() if name != "website"}
        asked = readers.post("/subscribe", **{**fields, "email": address})
        assert asked.status_code == 200
    mails = {to(mail): mail for mail in readers.mailed()}
    topical, searching = (readers.person(address) for address in addresses)
    assert topical.topics == ("agents",)
    with reading(readers.house.services.engine) as connection:
        assert interests.get(connection, searching.id).searches == ("robot*",)
    assert "robot" not in mails[addresses[1]].text
    old, _ = readers.join()
    readers.post("/subscribe", email=old.address, search="robot*")
    [mail] = readers.mailed()
    [link] = re.findall(rf"{readers.house.url}/me/\S+", mail.text)
    shown = html.fromstring(readers.get(link).text)
    assert words(shown.cssselect("textarea#searches")[0]).strip() == "robot*"
    with reading(readers.house.services.engine) as connection:
        assert not interests.get(connection, old.id).searches


@pytest.mark.parametrize(
    "address",
    [
        *("", "nobody", "a@b", "a@@example.org", "a b@example.org", "<a@example.org>"),
        *("a@example.org\r\nBcc: b@example.org", f"{'a' * 320}@example.org", "a@[127.0.0.1]"),
        *("a@example.org, b@example.org", "\u202ea@example.org", "a@exa\x00mple.org"),
        *("a@-example.org", ".a@example.org"),
    ],
)
def test_an_address_that_is_none_is_said_beside_its_field(readers: Readers, address: str) -> None:
    for path in ("/subscribe", "/me"):
        answer = readers.post(path, email=address)
        assert answer.status_code == 422
        page = html.fromstring(answer.text)
        [box] = page.cssselect("#email")
        assert box.get("aria-invalid") == "true"
        assert page.cssselect(f"#{str(box.get('aria-describedby')).strip()}")
    assert not readers.mailed()


def test_international_addresses_get_their_mail(readers: Readers) -> None:
    assert readers.post("/subscribe", email="jörg@bücher.example.org").status_code == 200
    [mail] = readers.mailed()
    assert "confirm" in mail.text


def test_a_program_that_fills_in_everything_learns_nothing(readers: Readers) -> None:
    address = f"robot{next(_numbers)}@example.org"
    human = f"human{next(_numbers)}@example.org"
    usual = readers.post("/subscribe", email=human)
    trapped = readers.post("/subscribe", email=address, website="https://spam.example.com")
    said = [re.sub(r"/choose/[\w-]{40}", "", one.text) for one in (usual, trapped)]
    assert said[0] == said[1]
    assert readers.post("/me", email=address, website="x").status_code == 200
    assert [to(mail) for mail in readers.mailed()] == [human]


def test_who_is_fast_is_counted_and_gets_the_same(readers: Readers) -> None:
    def counted() -> int:
        with reading(readers.house.services.engine) as connection:
            return quotas.most(connection, SUSPICIOUS, window=quotas.DAY, now=NOW)

    before, said = counted(), set()
    for path in ("/subscribe", "/me"):
        for after in ("0", "1", "2", "3600", "", "x"):
            address = f"fast{next(_numbers)}@example.org"
            answer = readers.post(path, email=address, after=after)
            said.add((path, answer.status_code, re.sub(r"/choose/[\w-]{40}", "", answer.text)))
    assert len(said) == 2
    assert counted() - before == 4
    assert len(readers.mailed()) == 6


def test_an_address_is_sent_three_mails_a_day(readers: Readers) -> None:
    address = f"often{next(_numbers)}@example.org"
    for mails in (1, 1, 1, 0):
        assert readers.post("/subscribe", email=address).status_code == (200 if mails else 429)
        assert len(readers.mailed()) == mails


def test_clicks_in_a_row_send_one_mail(readers: Readers) -> None:
    person, link = readers.join()
    address = f"hasty{next(_numbers)}@example.org"
    asked = [readers.post("/subscribe", email=address).text for _ in range(2)]
    [mail] = readers.mailed()
    [form] = html.fromstring(asked[0]).cssselect("form[action^='/choose/']")
    readers.post(str(form.get("action")), hour="5")  # on either page
    for what in ("export", "erase"):
        assert [readers.post(link, what=what).status_code for _ in range(2)] == [303, 303]
        [sent] = readers.mailed()
        assert to(sent) == person.address
        with writing(readers.house.services.engine) as connection:
            connection.execute(delete(schema.quota).where(schema.quota.c.kind == "address"))
    assert readers.post(readers.link("confirm", [mail])).status_code == 303
    assert readers.person(address).hour == 5


def test_a_network_may_ask_ten_times_an_hour(readers: Readers) -> None:
    def ask(client: str) -> int:
        return readers.client.post(
            f"{readers.house.url}/subscribe",
            data={"email": f"many{next(_numbers)}@example.org"},
            headers={"X-Forwarded-For": client},
        ).status_code

    codes = [ask(f"203.0.113.{number}") for number in range(11)]
    assert codes == [200] * 10 + [429]
    assert ask("203.0.114.1") == 200
    readers.mailed()


WHO_MAY = {
    "nobody": ("closed", "a@example.org", 403, "Nobody can subscribe here"),
    "these domains": ("domains", "a@example.org", 200, "Look into your inbox"),
    "not others": ("domains", "a@example.net", 403, "addresses at example.org can"),
    "nor below": ("domains", "a@b.example.org", 403, "addresses at example.org can"),
    "who can get mail": ("open", "a@nowhere.example", 422, "has no mail server"),
}


@pytest.mark.parametrize(("signup", "address", "code", "said"), WHO_MAY.values(), ids=WHO_MAY)
def test_who_may_subscribe(
    readers: Readers, signup: str, address: str, code: int, said: str
) -> None:
    person, link = readers.join()
    services, domains = readers.house.services, {"example.org"}
    house = replace(
        services.accounts,
        signup=signup,
        domains=frozenset(domains),
        takes_mail=lambda domain: domain != "nowhere.example",
    )
    site = replace(SITE, signup=signup, signup_domains=tuple(domains))
    app = create_app(
        accounts=house, plan=services.plan, templates=TEMPLATES, site=site, probe=PROBE
    )
    with WebServer(app, listen("127.0.0.1", 0)) as server:
        there = Readers(house=replace(readers.house, url=f"http://127.0.0.1:{server.port}"))
        answer = there.post("/subscribe", email=address)
        assert (answer.status_code, said in words(answer)) == (code, True)
        boxes = [
            html.fromstring(there.get(url).text).cssselect("form[action='/subscribe']")
            for url in ("/", "/subscribe")
        ]
        assert [bool(box) for box in boxes] == [signup != "closed"] * 2
        # Whoever is in keeps their way, and goes no other one out.
        path = link.removeprefix(readers.house.url)
        assert there.post("/me", email=person.address).status_code == 200
        moved = there.post(path, what="move", email=address)
        may = code == 200 or signup == "closed"
        assert moved.status_code == (303 if may else 422)
        assert may or said in words(moved)
        there.client.close()
    readers.mailed()


# ------------------------------------------------------------------ preferences


def test_every_preference_is_kept_and_shown_again(readers: Readers) -> None:
    person, link = readers.join()
    wanted = {
        **readers.form(link),
        "frequency": "weekdays",
        "hour": "18",
        "zone": "Asia/Tokyo",
        "topic": ["agents", "reasoning"],
        "searches": "world models\r\n\r\nMODELS world\r\nWorld  Models",
        "authors": "Ada Lovelace\nGrace Hopper",
        "labs": "Analytical Engines",
        "seeds": "https://arxiv.org/abs/2605.01234v2",
        "words": "benchmark",
        "muted": ["evaluation"],
        "max_papers": "5",
        "min_score": "40",
        "detail": "full",
        "quiet_day": "send",
        "plain": "yes",
        "locale": "en",
    }
    done = readers.post(link, **wanted, what="save")
    assert not html.fromstring(done.text or "<p>").cssselect(".errors"), words(done)
    assert (done.status_code, "done=save" in done.headers["location"]) == (303, True)
    assert "Saved." in words(readers.get(done.headers["location"]))
    after = readers.person(person.address)
    assert (after.frequency, after.hour, after.zone) == ("weekdays", 18, "Asia/Tokyo")
    assert after.topics == ("agents", "reasoning")
    assert (after.max_papers, after.min_score, after.detail) == (5, 0.4, "full")
    assert (after.quiet_day, after.plain) == ("send", True)
    with reading(readers.house.services.engine) as connection:
        found = interests.get(connection, person.id)
    kept = {(one.kind, one.key) for one in found.kept}
    assert kept == {
        (InterestKind.AUTHOR, "ada lovelace"),
        (InterestKind.AUTHOR, "grace hopper"),
        (InterestKind.LAB, "analytical engines"),
        (InterestKind.SEED, "arxiv 2605.01234"),
        (InterestKind.MUTED_WORD, "benchmark"),
        (InterestKind.MUTED_TOPIC, "evaluation"),
    }
    assert set(found.searches) == {"world models", "models world"}
    again = readers.form(link)
    assert again["authors"] == ["Ada Lovelace\nGrace Hopper"]
    emptied = {**again, "authors": "", "searches": "", "muted": []}
    assert readers.post(link, **emptied, what="save").status_code == 303
    with reading(readers.house.services.engine) as connection:
        found = interests.get(connection, person.id)
    assert not found.searches
    assert {one.kind for one in found.kept} == {
        InterestKind.LAB,
        InterestKind.SEED,
        InterestKind.MUTED_WORD,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("zone", "Mars/Olympus"),
        ("hour", "24"),
        ("hour", "-1"),
        ("hour", "²"),
        ("frequency", "hourly"),
        ("weekday", "7"),
        ("max_papers", "0"),
        ("max_papers", ""),
        ("min_score", "101"),
        ("detail", "all"),
        ("quiet_day", "maybe"),
        ("locale", "xx"),
        ("searches", "(unclosed"),
        ("searches", "\n".join(f"word{number}" for number in range(21))),
        ("searches", "word " * 40),
        ("authors", "!!!"),
        ("authors", "x" * 101),
        ("labs", "\n".join(f"Lab {number}" for number in range(101))),
        ("seeds", "not a paper"),
        ("words", "!!!"),
    ],
)
def test_a_mistake_is_said_beside_its_field_and_nothing_is_kept(
    readers: Readers, name: str, value: str
) -> None:
    link = LINKS.setdefault(id(readers), readers.join()[1])
    wanted = {**readers.form(link), name: value}
    before = dump(readers.house.services.engine)
    answer = readers.post(link, **wanted, what="save")
    assert answer.status_code == 422
    page = html.fromstring(answer.text)
    [said] = page.cssselect(f"#{name}-error")
    assert words(said)
    assert page.cssselect(f".errors a[href='#{name}']")
    assert dump(readers.house.services.engine) == before
    shown = readers.post(link, **wanted, what="preview")
    assert words(said).split(":")[-1].strip() in words(shown)


LINKS: dict[int, str] = {}


def test_a_preview_shows_the_form_and_keeps_nothing(readers: Readers) -> None:
    _, link = readers.join()
    before = dump(readers.house.services.engine)
    wanted = readers.form(link)
    usual = readers.post(link, **wanted, what="preview")
    few = readers.post(link, **{**wanted, "max_papers": "1"}, what="preview")
    plain = readers.post(link, **{**wanted, "plain": "yes"}, what="preview")
    nothing = readers.post(link, **{**wanted, "min_score": "100"}, what="preview")
    assert dump(readers.house.services.engine) == before
    titles = [len(html.fromstring(one.text).cssselect("h2.title")) for one in (usual, few)]
    assert (titles[0] > 1, titles[1]) == (True, 1)
    assert "there would be no digest" in words(nothing)
    assert html.fromstring(plain.text).cssselect("pre")
    for one in (usual, few, plain, nothing):
        policy = one.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "script-src" not in policy
        assert "frame-ancestors 'self'" in policy


def test_pausing_and_going_on(readers: Readers) -> None:
    person, link = readers.join()
    for until in ("", "soon", "2026-05-28", "2036-01-01"):
        assert readers.post(link, what="pause", until=until).status_code == 422
    assert readers.post(link, what="pause", until="2026-06-10").status_code == 303
    assert readers.person(person.address).status is Status.PAUSED
    assert "Paused until" in words(readers.get(link))
    assert readers.post(link, what="resume").status_code == 303
    assert readers.person(person.address).status is Status.ACTIVE
    readers.post(readers.way_out(person), confirm="yes")
    for what in ("pause", "resume"):  # nothing is said to be done that was not
        done = readers.post(link, what=what, until="2026-06-10")
        assert "At present no digests" in words(readers.get(done.headers["location"]))
        assert "Paused." not in words(readers.get(done.headers["location"]))
    assert readers.person(person.address).status is Status.UNSUBSCRIBED


@pytest.mark.parametrize("what", ["save", "take_back"])
def test_who_is_erased_while_they_press_a_button_stays_erased(
    readers: Readers, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, link = readers.join()
    form = readers.form(link)
    opened = Web.opened

    def slowly(web: Web, request: Request, purpose: Purpose) -> Opened:
        found = opened(web, request, purpose)
        erase(web.accounts, person.id)
        return found

    monkeypatch.setattr(Web, "opened", slowly)
    fields = {"authors": "Ada Lovelace", "zone": "Asia/Tokyo", "paper": "1", "action": "more"}
    assert readers.post(link, **form | fields, what=what).status_code == 404
    monkeypatch.undo()
    tables = dump(readers.house.services.engine)
    [row] = [row for row in tables["subscriber"] if row[0] == person.id]
    assert "Asia/Tokyo" not in row
    assert "Ada Lovelace" not in str(tables["interest"])


def test_new_links_end_the_old_ones_but_not_the_way_out(readers: Readers) -> None:
    person, link = readers.join()
    done = readers.post(link, what="renew")
    assert readers.get(link).status_code == 410
    assert readers.get(done.headers["location"]).status_code == 200
    way_out = sign(Purpose.UNSUBSCRIBE, person.id, secrets=readers.house.services.secrets, now=NOW)
    assert readers.get(f"/u/{way_out}").status_code == 200


def test_an_address_changes_when_both_agree(readers: Readers) -> None:
    person, link = readers.join()
    new = f"moved{next(_numbers)}@example.net"
    assert readers.post(link, what="move", email="nobody").status_code == 422
    assert readers.post(link, what="move", email=new).status_code == 303
    mails = readers.mailed()
    assert sorted(to(mail) for mail in mails) == sorted([person.address, new])
    links = [readers.link("change", [mail]) for mail in mails]
    assert "One more button" in words(readers.post(links[0]))
    assert readers.person(person.address).id == person.id
    assert "has a new address" in words(readers.post(links[1]))
    assert readers.person(new).id == person.id
    assert "has a new address" in words(readers.post(links[0]))  # again says the same


def test_what_is_held_is_handed_out_once(readers: Readers) -> None:
    person, link = readers.join()
    assert readers.post(link, what="export").status_code == 303
    ticket = readers.link("export")
    assert readers.get(ticket).status_code == 200
    held = readers.post(ticket)
    assert held.headers["content-disposition"].startswith("attachment")
    assert person.address in held.text
    json.loads(held.content)
    assert readers.post(ticket).status_code == 410


def test_who_is_forgotten_is_in_no_table(readers: Readers) -> None:
    person, link = readers.join("Lone.Wolf@den.wolfsburrow.example")
    for what in ("save", "preview"):  # all that can be said
        wanted = {"searches": "wolfish words", "authors": "Wolf Wolfson", "labs": "Wolf Lab"}
        wanted |= {"words": "wolfram", "seeds": "2605.07777", "zone": "Arctic/Longyearbyen"}
        assert readers.post(link, **readers.form(link) | wanted, what=what).status_code < 400
    readers.house.services.plan_due()
    assert person.address in {to(mail) for mail in readers.mailed()}
    with reading(readers.house.services.engine) as connection:
        query = select(schema.digest.c.paper_ids).where(
            schema.digest.c.subscriber_id == person.id, schema.digest.c.reason == ""
        )
        [read] = connection.execute(query).scalars()
    with writing(readers.house.services.engine) as connection:
        feedback.give(connection, person.id, read[0], Action.MORE, now=NOW)
    readers.post("/me", email=person.address)
    readers.mailed()
    readers.post("/subscribe", email=person.address)  # not answered yet
    assert readers.post(link, what="move", email="wolf@wolfsburrow.example").status_code == 422
    with writing(readers.house.services.engine) as connection:  # enough for today; so tomorrow
        connection.execute(delete(schema.quota))
    assert readers.post(link, what="move", email="wolf@wolfsburrow.example").status_code == 303
    assert readers.post(link, what="erase").status_code == 303
    ticket = readers.link("erase")
    assert readers.get(ticket).status_code == 200
    secrets = readers.house.services.secrets
    key = address_key(person.address)
    assert "wolf" in str(dump(readers.house.services.engine)).lower()
    assert "You are forgotten" in words(readers.post(ticket))
    tables = dump(readers.house.services.engine)
    held = str(tables).lower()
    for trace in ("wolf", "2605.07777", "longyearbyen"):
        # In the schedule and the ledger an hour and a zone stay, which name nobody.
        found = [name for name, rows in tables.items() if trace in str(rows).lower()]
        assert found == (["schedule"] if trace == "longyearbyen" else []), trace
    [hash_] = [one for one in address_hashes(key, secrets=secrets) if one in held]
    assert [name for name, rows in tables.items() if hash_ in str(rows)] == ["suppression"]
    assert not [row for row in tables["feedback"] if row[0] == person.id]
    folder = readers.house.services.settings.data_dir
    for file in filter(Path.is_file, folder.rglob("*")):  # the inbox, the journal
        assert b"wolf" not in file.read_bytes().lower(), file
    assert "You are forgotten" in words(readers.post(ticket))
    assert readers.get(link).status_code == 404
    assert readers.post("/subscribe", email=person.address).status_code == 200
    assert readers.post(readers.link("confirm")).status_code == 303


# ------------------------------------------------------------------ leaving


def test_leaving_and_coming_back_within_the_hour(readers: Readers) -> None:
    person, link = readers.join()
    page = html.fromstring(readers.get(link).text)
    [way_out] = [str(a.get("href")) for a in page.cssselect("main a[href^='/u/']")]
    left = readers.post(way_out, confirm="yes")
    [undo] = {str(form.get("action")) for form in html.fromstring(left.text).cssselect("main form")}
    assert readers.person(person.address).status is Status.UNSUBSCRIBED
    assert "kept without your address" in words(
        readers.post(undo, what="say", why="too many", comment="ask me@example.org")
    )
    assert readers.post(undo, what="say", why="nonsense").status_code == 400
    assert readers.post(undo, what="dance").status_code == 400
    assert readers.post(undo, what="pause", until="yesterday").status_code == 422
    assert "once a week" in words(readers.post(undo, what="weekly"))
    after = readers.person(person.address)
    assert (after.status, after.frequency) == (Status.ACTIVE, "weekly")
    assert "You are back" in words(readers.post(undo, what="undo"))
    assert readers.get(undo).status_code == 200


# ------------------------------------------------------------------ from the mail


@pytest.fixture
def digest(readers: Readers) -> inbox.Mail:
    """The digest that the house's first reader got."""
    [mail] = [
        mail
        for key in inbox.keys(readers.house.inbox)
        for mail in [inbox.read(readers.house.inbox, key)]
        if to(mail) == READER and "/f/" in mail.text
    ]
    return mail


def test_opinions_are_given_and_taken_back(readers: Readers, digest: inbox.Mail) -> None:
    person = readers.person(READER)
    links = sorted(set(re.findall(rf"{readers.house.url}(/f/[\w-]+/1/\w+)", digest.html)))
    assert {link.rpartition("/")[2] for link in links} >= {"more", "less", "save"}
    assert all(len(link) <= 90 for link in links)
    more = next(link for link in links if link.endswith("/more"))
    before = dump(readers.house.services.engine)
    assert "rise in your next digests" in words(readers.get(more))
    assert dump(readers.house.services.engine) == before
    assert "From the next digest on" in words(readers.post(more, what="more"))
    assert "From the next digest on" in words(readers.post(more, what="more"))
    with reading(readers.house.services.engine) as connection:
        [given] = feedback.given(connection, person.id)
    assert given.action == "more"
    readers.post(more, what="save")
    readers.post(more, what="less")  # instead of more
    with reading(readers.house.services.engine) as connection:
        assert {one.action for one in feedback.given(connection, person.id)} == {"less", "save"}
    assert "Taken back." in words(readers.post(more, what="not less"))
    for data in ({"what": "love"}, {}, {"what": "mute", "topic": "none"}):
        assert readers.post(more, **data).status_code == 400
    for bad in ("/999", "/0", "/1/love", "/x", "/-1", "/٣", "/" + "9" * 5_000):
        assert readers.get(more.rpartition("/1/")[0] + bad).status_code == 404


def test_a_topic_is_muted_by_its_papers_link(readers: Readers, digest: inbox.Mail) -> None:
    person = readers.person(READER)
    mute = min(re.findall(rf"{readers.house.url}(/f/[\w-]+/\d+/mute)", digest.html))
    page = html.fromstring(readers.get(mute).text)
    slug = str(page.cssselect("input[name=topic]")[0].get("value"))
    assert "stays out" in words(readers.post(mute, what="mute", topic=slug))

    def muted() -> set[str]:
        with reading(readers.house.services.engine) as connection:
            kept = interests.get(connection, person.id).kept
        return {one.value for one in kept if one.kind is InterestKind.MUTED_TOPIC}

    assert muted() == {slug}
    assert "is muted" in words(readers.get(mute))
    readers.post(mute, what="not mute", topic=slug)
    assert muted() == set()


def test_saved_papers_are_a_list_and_a_feed(readers: Readers, digest: inbox.Mail) -> None:
    [link] = set(re.findall(rf"{readers.house.url}/me/[\w-]+", digest.text))
    more = re.findall(rf"{readers.house.url}(/f/[\w-]+/2)/more", digest.html)[0]
    readers.post(f"{more}/save", what="save")
    page = html.fromstring(readers.get(link).text)
    [saved] = [str(a.get("href")) for a in page.cssselect("a[href*='/saved/']")]
    shown = html.fromstring(readers.get(saved).text)
    titles = [words(node) for node in shown.cssselect("article h2")]
    assert titles
    feed = readers.get(f"{saved}/feed.atom")
    assert feed.headers["cache-control"] == "no-store"
    assert [entry.title for entry in feedparser.parse(feed.content).entries] == titles
    assert readers.post(link, what="renew_saved").status_code == 303
    assert readers.get(saved).status_code == 410
    assert readers.get(f"{saved}/feed.json").status_code == 410


def test_the_digest_in_the_browser_can_be_passed_on(readers: Readers, digest: inbox.Mail) -> None:
    [view] = set(re.findall(rf"{readers.house.url}/v/[\w-]+", digest.text))
    page = readers.get(view)
    assert header(digest, "Subject") in words(page)
    assert html.fromstring(page.text).cssselect("form[action='/subscribe']")
    document = readers.get(f"{view}/mail")
    for text in (digest.html, document.text):
        assert "Forwarded to you? Subscribe" in words(html.fromstring(text))
    plain = " ".join(digest.text.split())
    assert f"Forwarded to you? Subscribe: {readers.house.url}/ " in plain
    sent, shown = (html.fromstring(text) for text in (digest.html, document.text))
    assert [words(node) for node in shown.cssselect("h2.title")] == [
        words(node) for node in sent.cssselect("h2.title")
    ]
    hrefs = [str(link.get("href")) for link in shown.cssselect("a")]
    assert not [link for link in hrefs if re.search(r"/(f|me|u|v|settings)/", link)]
    assert READER not in document.text
    assert "sandbox" in document.headers["content-security-policy"]


def test_no_link_of_ones_own_is_passed_on_whatever_the_house_was_called(
    readers: Readers, digest: inbox.Mail
) -> None:
    for name in ("", "https://old.example.org", "http://[::1]:8000/papers"):
        shown = _impersonal(digest.html.replace(readers.house.url, name or readers.house.url))
        hrefs = [str(link.get("href")) for link in html.fromstring(shown).cssselect("a")]
        assert hrefs
        assert not [link for link in hrefs if re.search(r"/\w+/[\w-]{40}", link)]


# ------------------------------------------------------------------ whatever is sent


def test_forms_from_other_sites_are_refused(readers: Readers, digest: inbox.Mail) -> None:
    person, link = readers.join()
    [undone] = {
        str(form.get("action"))
        for form in html.fromstring(
            readers.post(
                "/u/"
                + sign(
                    Purpose.UNSUBSCRIBE, person.id, secrets=readers.house.services.secrets, now=NOW
                ),
                confirm="yes",
            ).text
        ).cssselect("main form")
    }
    paths = [
        "/subscribe",
        "/me",
        link.removeprefix(readers.house.url),
        undone,
        re.findall(rf"{readers.house.url}(/f/[\w-]+/1)/more", digest.html)[0],
    ]
    before = dump(readers.house.services.engine)
    for path in paths:
        for headers in (
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
        ):
            answer = readers.client.post(
                readers.house.url + path, data={"what": "undo"}, headers=headers
            )
            assert answer.status_code == 403, path
        for body in (b"{}", b""):
            answer = readers.client.post(
                readers.house.url + path, content=body, headers={"Content-Type": "text/plain"}
            )
            assert answer.status_code == 400, path
    assert dump(readers.house.services.engine) == before


TOKENS = (
    "u",
    "me",
    "settings",
    "confirm",
    "undo",
    "f",
    "v",
    "saved",
    "change",
    "export",
    "erase",
    "choose",
)


@pytest.mark.parametrize("path", TOKENS)
def test_a_token_of_another_purpose_opens_nothing(readers: Readers, path: str) -> None:
    person = readers.person(READER)
    end = "/1" if path == "f" else ""
    own = {"u": Purpose.UNSUBSCRIBE, "settings": Purpose.PREFERENCES, "me": Purpose.PREFERENCES}
    own |= {"f": Purpose.FEEDBACK, "v": Purpose.VIEW}
    for purpose in Purpose:
        if purpose == own.get(path, path):
            continue
        token = sign(purpose, person.id, secrets=readers.house.services.secrets, now=NOW)
        assert readers.get(f"/{path}/{token}{end}").status_code == 404
    for token in ("x", "A" * 40, "é", "A" * 5_000, "%00"):
        assert readers.get(f"/{path}/{token}{end}").status_code == 404
    stale = sign(
        own.get(path) or Purpose(path),
        person.id,
        secrets=readers.house.services.secrets,
        now=NOW - timedelta(days=400),
    )
    if path not in ("u", "saved"):
        assert readers.get(f"/{path}/{stale}{end}").status_code == 410


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(
    path=st.sampled_from(
        ["/", "/week", "/papers/{}", "/p/{}", "/topics/{}", "/topics/{}/feed.atom", "/search",
         "/search/feed.json", "/sitemap-{}.xml", "/subscribe", "/me", "/privacy",
         *(f"/{name}/{{}}" for name in TOKENS)]
    ),
    part=st.text(max_size=60),
    query=st.dictionaries(
        st.sampled_from(["q", "page", "by", "lang", "search", "done"]), st.text()
    ),
    form=st.dictionaries(
        st.sampled_from(["email", "what", "website", "source", "until", "zone", "hour"]), st.text()
    ),
    method=st.sampled_from(["GET", "HEAD", "POST", "PUT", "DELETE"]),
    language=st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)  # fmt: skip
def test_nothing_that_is_sent_breaks_a_page(  # noqa: PLR0917
    readers: Readers,
    path: str,
    part: str,
    query: dict[str, str],
    form: dict[str, str],
    method: str,
    language: str,
) -> None:
    def clean(text: str) -> str:
        return text.encode("utf-8", "replace").decode()

    quoted = httpx.URL(readers.house.url).join(path.format(httpx.QueryParams({"": clean(part)})))
    answer = readers.client.request(
        method,
        quoted,
        params={name: clean(value) for name, value in query.items()},
        data={name: clean(value) for name, value in form.items()},
        headers={"Accept-Language": language.strip()},
    )
    assert answer.status_code < 500


def test_no_token_is_in_the_log(
    readers: Readers,
    digest: inbox.Mail,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("DEBUG")
    person, link = readers.join()
    urls = {link, *re.findall(rf"{readers.house.url}/(?:f|v|u|me)/[\w/-]+", digest.html)}
    secrets = readers.house.services.secrets
    for purpose, path in PATHS.items():
        urls.add(f"{readers.house.url}/{path}/{sign(purpose, person.id, secrets=secrets, now=NOW)}")
    for url in sorted(urls):
        readers.get(url)
        readers.get(f"{url}?q={url}")
        readers.client.get(readers.house.url, headers={"Referer": url})
        readers.post(url, what="nothing")
    # A fault of ours is told with its trace, and without the link.
    with monkeypatch.context() as broken:
        broken.setattr(Web, "page", lambda *_, **__: 1 / 0)
        assert readers.get(link).status_code == 500
    assert "ZeroDivisionError" in caplog.text
    said = "\n".join(
        f"{record.getMessage()} {record.__dict__}"
        for record in caplog.records
        if record.name.startswith(("digest", "uvicorn"))
    )
    assert "/me/<token>" in said
    for url in urls:
        token = url.removeprefix(readers.house.url).split("/")[2]
        assert token not in said


def test_who_runs_it_says_what_is_kept(readers: Readers) -> None:
    said = words(readers.get("/privacy"))
    assert "how it looked for 400 days" in said
    assert "90 days" in said
    # By the settings, whatever they are.
    site = replace(
        SITE,
        privacy_contact="dpo@lab.example",
        imprint_url="https://lab.example/who",
        retention_days=33,
        digest_retention_days=1234,
    )
    folder = TEMPLATES / "web"
    template = load_templates(folder)["en"].get_template("privacy.html")
    assets = load_assets(folder / "static")
    page = html.fromstring(
        template.render(site=site, language=language("en"), assets=assets, mails=None)
    )
    assert "for 1,234 days" in words(page)
    assert "33 days" in words(page)
    links = {str(link.get("href")) for link in page.cssselect("main a")}
    assert links == {"/me", "https://lab.example/who", "mailto:dpo@lab.example"}


def test_every_page_leads_to_the_lost_link_and_to_what_is_kept(readers: Readers) -> None:
    person, link = readers.join()
    way_out = readers.way_out(person)
    urls = ["/", "/week", "/topics", "/search?q=agents", "/subscribe", "/me", "/privacy"]
    for url in (*urls, link, way_out, "/u/x", "/confirm/x", "/nowhere"):
        page = html.fromstring(readers.get(url).text)
        assert page.cssselect("footer a[href='/me']"), url
        assert page.cssselect("footer a[href='/privacy']"), url


def test_evidence_of_consent_is_kept(readers: Readers) -> None:
    person, _ = readers.join()
    table = schema.consent
    with reading(readers.house.services.engine) as connection:
        rows = connection.execute(
            select(table.c.what, table.c.source, table.c.text_version, table.c.locale)
            .where(table.c.subscriber_id == person.id)
            .order_by(table.c.id)
        ).all()
    assert [row.what for row in rows] == ["asked", "confirmed"]
    assert rows[1].source == "confirmation page"
    assert rows[1].text_version.startswith("confirm")


def test_pages_are_small(readers: Readers) -> None:
    _, link = readers.join()
    for url in ("/", "/month", "/subscribe", "/privacy", link):
        assert len(readers.get(url).content) < 100_000


def test_the_folder_of_templates_has_one_file_of_markup() -> None:
    """Only reviewed code may say that a text is HTML already; at present none does."""
    root = Path(__file__).resolve().parents[1]
    files = [
        *(root / "templates" / "web").rglob("*.html"),
        *(root / "digest" / "web").rglob("*.py"),
    ]
    said = [
        path.name
        for path in files
        if re.search(r"\|\s*safe\b|\bMarkup\b", path.read_text(encoding="utf-8"))
    ]
    assert said == []
