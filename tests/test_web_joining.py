"""Subscribing over HTTP, with the mails between: the box, what is chosen, limits, who may."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from lxml import html
from sqlalchemy import delete

from digest import schema
from digest.models import Status
from digest.pipeline.accounts.limits import SUSPICIOUS
from digest.storage import interests, quotas
from digest.storage.database import reading, writing
from digest.tokens import Purpose, sign, verify
from digest.web import joining
from digest.web.app import create_app
from digest.web.server import WebServer, listen
from tests.local_house import NOW
from tests.readers import Readers, all_readers, header, numbers, readers, to
from tests.web_site import PROBE, SITE, TEMPLATES, words

__all__ = ["all_readers", "readers"]


def test_the_evidence_names_the_words_that_were_read() -> None:
    """Who changes the page's words renames them: what is stored tells of the old ones."""
    source = (TEMPLATES / "web" / "confirm.html").read_text(encoding="utf-8")
    said = re.findall(r"{% trans.*?%}(.*?){% endtrans %}", source)
    assert len(said) == 5
    known = {"confirm 2026-11-29": "17bfdc02d882"}
    assert known == {joining.TEXT_VERSION: sha256("\n".join(said).encode()).hexdigest()[:12]}


def test_from_the_box_to_the_first_digest(readers: Readers) -> None:
    page = html.fromstring(readers.get("/").text)
    box: Any = page.cssselect("form[action='/subscribe']")[0]
    assert {name for name, _ in box.form_values()} <= {"email", "source", "website", "after"}
    asked = readers.post("/subscribe", email="New.Reader@example.org", source="front page")
    assert "Check your inbox" in words(asked)
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
        unknown = readers.post(path, email=f"nobody{next(numbers)}@example.org")
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
    address = f"late{next(numbers)}@example.org"
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
    new = f"chooser{next(numbers)}@example.org"
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
        assert "It takes effect when you confirm" in words(kept)
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
    addresses = [f"{name}{next(numbers)}@example.org" for name in ("topical", "searching")]
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
    address = f"robot{next(numbers)}@example.org"
    human = f"human{next(numbers)}@example.org"
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
            address = f"fast{next(numbers)}@example.org"
            answer = readers.post(path, email=address, after=after)
            said.add((path, answer.status_code, re.sub(r"/choose/[\w-]{40}", "", answer.text)))
    assert len(said) == 2
    assert counted() - before == 4
    assert len(readers.mailed()) == 6


def test_an_address_is_sent_three_mails_a_day(readers: Readers) -> None:
    address = f"often{next(numbers)}@example.org"
    said = set()
    for mails in (1, 1, 1, 0):
        answer = readers.post("/subscribe", email=address)
        said.add((answer.status_code, re.sub(r"/choose/[\w-]{40}", "", answer.text)))
        assert len(readers.mailed()) == mails
    assert [code for code, _ in said] == [200]  # and the same page


def test_clicks_in_a_row_send_one_mail(readers: Readers) -> None:
    person, link = readers.join()
    address = f"hasty{next(numbers)}@example.org"
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
            data={"email": f"many{next(numbers)}@example.org"},
            headers={"X-Forwarded-For": client},
        ).status_code

    codes = [ask(f"203.0.113.{number}") for number in range(11)]
    assert codes == [200] * 10 + [429]
    assert ask("203.0.114.1") == 200
    readers.mailed()


WHO_MAY = {
    "nobody": ("closed", "a@example.org", 403, "Subscriptions are closed"),
    "these domains": ("domains", "a@example.org", 200, "Check your inbox"),
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
        assert ("Get trending papers" in words(there.get("/"))) == (signup != "closed")
        # Whoever is in keeps their way, and goes no other one out.
        path = link.removeprefix(readers.house.url)
        assert there.post("/me", email=person.address).status_code == 200
        moved = there.post(path, what="move", email=address)
        may = code == 200 or signup == "closed"
        assert moved.status_code == (303 if may else 422)
        assert may or said in words(moved)
        if "mail server" in said:  # the DNS is not asked for ever
            tries = [there.post(path, what="move", email=address) for _ in range(20)]
            assert {answer.status_code for answer in tries} == {422}
            assert "There were many requests" in words(tries[-1])
        there.client.close()
    readers.mailed()
