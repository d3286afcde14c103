"""Account mail as it arrives: through the ledger, by a real mail server, in both its bodies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_address
from pathlib import Path

import pytest
from sqlalchemy import select

from digest import locales, schema
from digest.errors import TokenExpired
from digest.models import State, Status
from digest.pipeline import accounts
from digest.pipeline.accounts import Moved
from digest.storage import subscribers
from digest.storage.database import reading, writing
from digest.tokens import Purpose
from tests.desk import DAILY, Desk
from tests.house import House, make_house
from tests.sink import Sink
from tests.test_locales import add

ADA, BOB = "ada@example.org", "bob@example.net"
CLIENT = ip_address("192.0.2.7")


@pytest.fixture
def office(tmp_path: Path, database_url: str, sink: Sink) -> Iterator[House]:
    found = make_house(tmp_path, database_url, sink, "http://127.0.0.1:1", mx_lookups=False)
    found.now = datetime(2026, 5, 27, 7, tzinfo=UTC)
    yield found
    found.services.engine.dispose()


def ask(office: House, address: str = ADA, *, locale: str = "en") -> None:
    """Subscribe on a page; the mail is delivered."""
    refusal = accounts.ask(
        office.services.accounts, address, locale=locale, source="page", client=CLIENT
    )
    assert refusal is None
    assert office.services.answer_requests() == 1
    office.deliver()


def newest(office: House, address: str = ADA) -> EmailMessage:
    return office.mails(address)[-1]


def body(mail: EmailMessage, kind: str) -> str:
    part = mail.get_body((kind,))
    assert part is not None
    found: str = part.get_content()
    return found


def token(mail: EmailMessage, path: str) -> str:
    """The one link of its kind, which both bodies have."""
    pattern = rf"https://digest\.example\.org/{path}/([A-Za-z0-9_-]{{40}})"
    in_text = re.findall(pattern, body(mail, "plain"))
    assert in_text == re.findall(pattern, body(mail, "html"))
    [found] = in_text
    return str(found)


def subject(office: House, mail: EmailMessage, purpose: Purpose, path: str) -> int:
    return accounts.opened(office.services.accounts, token(mail, path), purpose).subject


def confirm(office: House, address: str = ADA) -> int:
    asked = subject(office, newest(office, address), Purpose.CONFIRM, "confirm")
    done = accounts.confirm(office.services.accounts, asked, source="page")
    return done.subscriber_id


def test_from_the_page_to_the_digest_and_out(office: House) -> None:
    """Everything by what arrives: confirm, welcome, settings, leave, asked anew."""
    desk = Desk(office.services.engine, office.services.locks, now=office.now)
    desk.paper("A paper", votes=100)
    ask(office)
    mail = newest(office)
    assert mail["subject"] == "Confirm your subscription"
    person = confirm(office)
    office.plan()
    office.deliver()
    digest = newest(office)
    assert digest["subject"] == "A paper"
    assert digest["list-unsubscribe"]
    wishes = token(digest, "me")
    found = accounts.opened(office.services.accounts, wishes, Purpose.PREFERENCES)
    assert found.person.id == person
    office.services.unsubscribe(person)
    ask(office)
    assert newest(office)["subject"] == "Confirm your subscription"
    assert confirm(office) == person
    assert [mail["subject"] for mail in office.mails(ADA)] == [
        "Confirm your subscription",
        "A paper",
        "Confirm your subscription",
    ]


def test_a_digest_that_waits_is_skipped_and_the_mail_that_was_asked_for_goes(
    office: House,
) -> None:
    """Invariant 8: who left gets no digest; asked anew they get the question (and that alone)."""
    desk = Desk(office.services.engine, office.services.locks, now=office.now)
    for address in (ADA, BOB):
        office.subscribe(address, DAILY)
    desk.paper("A paper", votes=100)
    office.now += timedelta(hours=1)
    assert office.plan().digests == 2
    with reading(office.services.engine) as connection:
        person = subscribers.find(connection, ADA)
    assert person is not None
    office.services.unsubscribe(person.id)
    ask(office)
    assert [mail["subject"] for mail in office.mails(ADA)] == ["Confirm your subscription"]
    assert [mail["subject"] for mail in office.mails(BOB)] == ["A paper"]
    table = schema.delivery
    with reading(office.services.engine) as connection:
        rows = connection.execute(
            select(table.c.state, table.c.reason).where(table.c.subscriber_id == person.id)
        ).all()
    assert sorted(map(tuple, rows)) == [("sent", ""), ("skipped", "unsubscribed")]


@pytest.mark.parametrize("status", [Status.PENDING, Status.BOUNCED, Status.COMPLAINED], ids=str)
def test_whoever_is_not_written_to_can_be_asked(office: House, status: Status) -> None:
    office.subscribe(ADA, DAILY)
    with writing(office.services.engine) as connection:
        person = subscribers.find(connection, ADA)
        assert person is not None
        if status is Status.PENDING:
            connection.execute(schema.subscriber.update().values(status=status))
        else:
            subscribers.unsubscribe(connection, person.id, now=office.now, detail="", status=status)
    ask(office)
    assert newest(office)["subject"] == "Confirm your subscription"


def test_every_mail_is_well_made_and_carries_its_own_link(office: House) -> None:
    """Text and HTML, no way to unsubscribe from what comes once, nobody's name."""
    settings = office.services.accounts
    ask(office)
    person = confirm(office)
    ask(office)
    old = token(newest(office), "me")
    assert accounts.opened(settings, old, Purpose.PREFERENCES).person.id == person
    office.now += timedelta(days=1)
    accounts.request_change(settings, person, BOB)
    office.deliver()
    assert "b…@example.net" in " ".join(body(newest(office), "plain").split())
    for address, outcome in ((ADA, Moved.WAITING), (BOB, Moved.MOVED)):
        ticket = subject(office, newest(office, address), Purpose.CHANGE, "change")
        assert accounts.change(settings, ticket) is outcome
    with pytest.raises(TokenExpired):
        accounts.opened(settings, old, Purpose.PREFERENCES)
    accounts.request_export(settings, person)
    accounts.request_erasure(settings, person)
    office.deliver()
    by_subject = {str(mail["subject"]): mail for mail in office.mails(BOB)}
    export, erase = by_subject["What we hold about you"], by_subject["Erase your data?"]
    held = accounts.export(settings, subject(office, export, Purpose.EXPORT, "export"))
    assert held is not None
    assert held["subscriber"][0]["address"] == BOB
    accounts.erase_by(settings, subject(office, erase, Purpose.ERASE, "erase"))
    mails = [*office.mails(ADA), *office.mails(BOB)]
    assert len(mails) == 6
    for mail in mails:
        assert mail["auto-submitted"] == "auto-generated"
        assert not [name for name in mail if name.lower().startswith("list-")]
        assert str(mail["to"]) in (ADA, f"<{ADA}>", BOB, f"<{BOB}>")
        assert mail.get_content_type() == "multipart/alternative"
        assert "@@" not in body(mail, "plain") + body(mail, "html")
        assert len(body(mail, "html")) < 8_000
        assert all(
            len(line) <= 76 for line in body(mail, "plain").splitlines() if "://" not in line
        )


def test_new_links_are_in_the_next_digest(office: House) -> None:
    desk = Desk(office.services.engine, office.services.locks, now=office.now)
    desk.paper("A paper", votes=100)
    office.subscribe(ADA, DAILY)
    with reading(office.services.engine) as connection:
        person = subscribers.find(connection, ADA)
    assert person is not None
    accounts.renew(office.services.accounts, person.id)
    office.now += timedelta(hours=1)
    office.plan()
    office.deliver()
    found = token(newest(office), "me")
    accounts.opened(office.services.accounts, found, Purpose.PREFERENCES)
    accounts.renew(office.services.accounts, person.id)
    with pytest.raises(TokenExpired):
        accounts.opened(office.services.accounts, found, Purpose.PREFERENCES)


def test_a_mail_speaks_the_language_of_the_page(
    tmp_path: Path, sqlite_url: str, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "locales"
    add(folder, "de", {"Confirm your subscription": "Bitte bestätigen"})
    monkeypatch.setattr(locales, "FOLDER", folder)
    for cached in (locales.language, locales.catalogue):
        cached.cache_clear()
    try:
        office = make_house(tmp_path, sqlite_url, sink, "http://127.0.0.1:1", mx_lookups=False)
        office.now = datetime(2026, 5, 27, 7, tzinfo=UTC)
        ask(office, locale="de")
        ask(office, BOB, locale="xx")
        mail = newest(office)
        assert mail["subject"] == "Bitte bestätigen"
        assert 'lang="de"' in body(mail, "html")
        assert newest(office, BOB)["subject"] == "Confirm your subscription"
        with reading(office.services.engine) as connection:
            person = subscribers.find(connection, ADA)
        assert person is not None
        assert person.locale == "de"
        office.services.engine.dispose()
    finally:
        monkeypatch.undo()
        for cached in (locales.language, locales.catalogue):
            cached.cache_clear()


def test_account_mail_is_counted_apart_from_digests(office: House) -> None:
    accounts.ask(office.services.accounts, ADA, locale="en", source="page", client=CLIENT)
    office.services.answer_requests()
    report = office.services.report(timedelta(days=1))
    assert report.account_mail[State.PLANNED] == 1
    assert report.due == sum(report.states.values()) == 0
    office.deliver()
    assert office.services.report(timedelta(days=1)).account_mail[State.SENT] == 1


def test_housekeeping_forgets_who_never_confirmed(office: House) -> None:
    ask(office)
    office.now += timedelta(days=8)
    done = office.services.clean_up()
    assert (done["unconfirmed"], done["quotas"]) == (1, 3)
    with reading(office.services.engine) as connection:
        assert connection.execute(select(schema.subscriber)).all() == []
        [delivery] = connection.execute(select(schema.delivery)).mappings()
    assert (delivery["state"], delivery["address"], delivery["subscriber_id"]) == ("sent", "", None)
