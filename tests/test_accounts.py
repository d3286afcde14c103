"""Accounts: who asks gets the mail that fits them, and no page tells who subscribes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, select, update

from digest import journal, schema
from digest.errors import AddressError, InputError, NotFound, TokenError, TokenExpired
from digest.models import Frequency, State, Status, Subscriber, Wishes
from digest.pipeline import accounts
from digest.pipeline.accounts import Instead, Left, Refusal, Why, mails
from digest.pipeline.accounts.asking import LOST_LINK, SUBSCRIBE, answer_to
from digest.storage import erasing, optouts, schedules, standing, subscribers
from digest.storage.database import reading, writing
from digest.tokens import Purpose, digest_subject, sign, verify
from tests.reception import ADA, BOB, CLIENT, SECRETS, Reception, statements

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
EVERYBODY = [None, *Status]
NAMES = [str(status or "nobody") for status in EVERYBODY]
GONE = [Status.UNSUBSCRIBED, Status.BOUNCED, Status.COMPLAINED, Status.ERASED]

# ------------------------------------------------------------------ asking

MAILED = {
    None: ("confirm", ""),
    Status.PENDING: ("confirm", "confirm"),
    Status.ACTIVE: ("preferences", "preferences"),
    Status.PAUSED: ("preferences", "preferences"),
    Status.UNSUBSCRIBED: ("confirm", ""),
    Status.BOUNCED: ("confirm", ""),
    Status.COMPLAINED: ("confirm", ""),
    Status.ERASED: ("confirm", ""),
}


@pytest.mark.parametrize("status", EVERYBODY, ids=NAMES)
def test_each_gets_the_mail_that_fits(reception: Reception, status: Status | None) -> None:
    asked, lost = MAILED[status]
    assert (answer_to(SUBSCRIBE, status), answer_to(LOST_LINK, status)) == (asked, lost)
    reception.put(status)
    barred = reception.barred()
    for ask, kind in ((reception.lose, lost), (reception.ask, asked)):
        before = len(reception.mails())
        assert ask() is None
        assert reception.answer() == 1
        assert reception.kinds()[before:] == ([(kind, ADA)] if kind else [])
        assert reception.answer() == 0
    mail = reception.mails()[-1]
    assert (mail["priority"], mail["state"]) == (0, State.PLANNED)
    assert reception.barred() == barred  # asking lifts nothing
    if asked == "confirm":
        assert reception.person().status in (Status.PENDING, *GONE[:3])
    else:
        assert reception.person().status is status


@pytest.mark.parametrize("ask", ["ask", "lose"])
def test_the_answer_is_the_same_work_for_everybody(reception: Reception, ask: str) -> None:
    """In each standing the same statements, the same tables, the same rows; the rest is later.

    So it is for who had their mails of the day.
    """
    for number, status in enumerate(EVERYBODY):
        reception.put(status, f"reader{number}@example.org")
    limits = accounts.Limits(account_mails_daily=3, signups_hourly=1000, confirmations_hourly=1000)
    reception.changes = {"limits": limits}
    for _ in range(3):
        reception.ask(f"reader{len(EVERYBODY)}@example.org")
    seen, grown, answers = [], [], []
    for number in range(len(EVERYBODY) + 1):
        before, found = reception.counts(), list[str]()
        statements(reception.engine, found)
        answers.append(getattr(reception, ask)(f"reader{number}@example.org"))
        executed = list(found)
        after = reception.counts()
        seen.append(executed)
        grown.append({name: after[name] - before[name] for name in after})
    assert answers == [None] * (len(EVERYBODY) + 1)
    assert all(one == seen[0] for one in seen)
    assert not any("FROM subscriber" in text or "FROM suppression" in text for text in seen[0])
    # The first of an address has its quota counted anew, whoever it is.
    assert {one["request"] for one in grown} == {1}
    assert {tuple(sorted(one)) for one in ({k for k, v in g.items() if v} for g in grown)} <= {
        ("request",),
        ("quota", "request"),
    }


def test_a_confirmation_has_nothing_in_it_that_a_stranger_typed(lite: Reception) -> None:
    wishes = Wishes(
        zone="UTC", hour=3, frequency=Frequency.DAILY, max_papers=3, name="Buy at evil.example"
    )
    lite.ask("Ada.Evil@Example.org", wishes=wishes, source="evil source", locale="xx-evil")
    lite.answer()
    [mail] = lite.mails()
    words = json.dumps(mail["personal"])
    assert "evil" not in words.lower().replace("ada.evil@example.org", "")
    assert mail["personal"]["name"] == ""
    assert mail["personal"]["url"].startswith("https://digest.example.org/confirm/")
    person = lite.person("ada.evil@example.org")
    assert (person.hour, person.name, person.locale) == (3, "", "en")


def test_no_mail_of_an_account_says_a_name(lite: Reception) -> None:
    """Nor that of somebody whom an import gave one, and who left and is asked anew."""
    person = lite.subscribe()
    with writing(lite.engine) as connection:
        connection.execute(update(schema.subscriber).values(name="Buy at evil.example"))
    for ask in (accounts.request_export, accounts.request_erasure):
        ask(lite.accounts, person)
    lite.lose()
    lite.answer()
    accounts.leave(lite.accounts, person)
    lite.ask()
    lite.answer()
    kinds = [kind for kind, _ in lite.kinds()]
    assert kinds == ["confirm", "export", "erase", "preferences", "confirm"]
    assert "evil" not in json.dumps([mail["personal"] for mail in lite.mails()])


def test_what_is_wished_on_the_page_holds_for_newcomers_alone(lite: Reception) -> None:
    lite.subscribe()
    other = Wishes(zone="UTC", hour=20, frequency=Frequency.WEEKLY, weekday=2, max_papers=9)
    lite.ask(wishes=other)
    lite.answer()
    assert lite.person().hour == 8
    lite.ask(BOB, wishes=other)
    lite.answer()
    assert (lite.person(BOB).hour, lite.person(BOB).frequency) == (20, Frequency.WEEKLY)
    with reading(lite.engine) as connection:  # nothing is due before they confirm
        assert schedules.histories(connection, [lite.person(BOB).id]) == {}


@pytest.mark.parametrize(
    ("changes", "address", "refusal"),
    [
        ({"signup": "closed"}, ADA, Refusal.CLOSED),
        ({"signup": "domains", "domains": frozenset({"example.net"})}, ADA, Refusal.DOMAIN),
        ({"signup": "domains", "domains": frozenset({"example.org"})}, "A@EXAMPLE.org", None),
        ({"signup": "domains", "domains": frozenset({"example.org"})}, "a@b.example.org", "domain"),
        ({"takes_mail": lambda domain: domain != "example.org"}, ADA, Refusal.NO_MAIL),
        (
            {"takes_mail": lambda domain: domain == "xn--bcher-kva.example"},
            "a@bücher.example",
            None,
        ),
    ],
    ids=["closed", "another domain", "that domain", "a subdomain", "no mail", "an IDN"],
)
def test_who_may_subscribe(
    lite: Reception, changes: dict[str, object], address: str, refusal: Refusal | None
) -> None:
    lite.subscribe(BOB)
    lite.changes = changes
    assert lite.ask(address) == refusal
    assert lite.counts()["request"] == (refusal is None)
    # Whoever subscribed keeps a way to their settings.
    assert lite.lose(BOB) is None


NASTY = {
    "empty": "",
    "no at": "ada",
    "no local part": "@example.org",
    "two ats": "a@b@example.org",
    "header injection": "ada@example.org\r\nBcc: bob@example.net",
    "a newline inside": "ada\n@example.org",
    "a NUL": "ada\0@example.org",
    "a comma": "ada@example.org,bob@example.net",
    "angle brackets": "<ada@example.org>",
    "a name": "Ada <ada@example.org>",
    "quoted": '"buy at evil.example"@example.org',
    "a comment": "ada(comment)@example.org",
    "an address literal": "ada@[192.0.2.1]",
    "a bare host": "ada@localhost",
    "a special domain": "ada@example.invalid",
    "dots": "ada..x@example.org",
    "a leading dot": ".ada@example.org",
    "a blank": "ada x@example.org",
    "a hyphen first": "ada@-example.org",
    "320 characters": "a" * 64 + "@" + "b" * 251 + ".org",
    "long local part": "a" * 65 + "@example.org",
    "a megabyte": "a" * 1_000_000,
    "direction override": "ada\u202e@example.org",
    "a lone surrogate": "ada\ud800@example.org",
    "a fullwidth at": "ada\uff20example.org",
    "a zero width space": "ada@exam\u200bple.org",
    "an emoji domain": "ada@\U0001f4a9.example",
    "a percent hack": "ada%example.net@",
    "an encoded word": "=?utf-8?q?ada?=@example.org",
    "320 characters in A-labels": "a@" + "ü" * 60 + "." + "ü" * 60 + "." + "ü" * 60 + ".example",
}


@pytest.mark.parametrize("address", NASTY.values(), ids=NASTY)
def test_nasty_addresses_are_refused(still: Reception, address: str) -> None:
    before = still.counts()
    for ask in (still.ask, still.lose):
        with pytest.raises(AddressError):
            ask(address)
    assert still.counts() == before


@pytest.mark.parametrize(
    ("address", "same"),
    [
        (" ada@example.org ", ADA),
        ("ADA@EXAMPLE.ORG", ADA),
        ("ada+papers@example.org", "ada+papers@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("用户@bücher.example", "用户@xn--bcher-kva.example"),
        ("o'neill@example.org", "o'neill@example.org"),
        ("a" * 64 + "@example.org", "A" * 64 + "@example.org"),
    ],
)
def test_what_is_an_address_is_taken(lite: Reception, address: str, same: str) -> None:
    lite.subscribe(address)
    lite.ask(same)
    lite.answer()
    assert [kind for kind, _ in lite.kinds()] == ["confirm", "preferences"]


def test_a_letter_that_counts_as_another_keeps_nobody_from_signing_up(
    reception: Reception,
) -> None:
    """A long s counts as an s, but its mailbox may be a stranger's."""
    reception.ask("\u017fam@example.org")
    reception.answer()
    theirs = reception.subject("confirm")
    reception.ask("Sam@example.org")
    reception.answer()
    reception.ask("sam@example.org")  # in case alone they do not differ
    reception.answer()
    assert [to for _, to in reception.kinds()] == ["", *["Sam@example.org"] * 2]
    with pytest.raises(TokenError):  # the stranger's link does not subscribe Sam
        reception.confirm(theirs)
    assert reception.confirm(reception.subject("confirm")).anew
    reception.ask("\u017fam@example.org")
    reception.answer()
    assert reception.kinds()[-1] == ("preferences", "Sam@example.org")


@pytest.mark.parametrize("reception", ["postgresql"], indirect=True)
@pytest.mark.parametrize("ask", ["ask", "lose"])
def test_who_is_erased_while_a_request_is_answered(
    reception: Reception, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite one transaction writes at a time; here they may be erased between two steps."""
    person = reception.subscribe()
    getattr(reception, ask)()
    find = subscribers.find

    def slowly(connection: Connection, key: str) -> Subscriber | None:
        found = find(connection, key)
        if found is not None and found.id == person:
            accounts.erase(reception.accounts, person)
        return found

    monkeypatch.setattr(subscribers, "find", slowly)
    assert reception.answer() == 1
    assert reception.status(person) is Status.ERASED
    mails = [(kind, to) for kind, to in reception.kinds() if to]
    assert mails == ([("confirm", ADA)] if ask == "ask" else [])
    assert ("ada@" in reception.everything()) is (ask == "ask")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    address=st.text(max_size=40) | st.from_regex(r"\A[^@\s]{1,9}@[a-z\x80-\uffff]{1,9}\.\w{2,4}")
)
def test_no_address_breaks_the_house(lite: Reception, address: str) -> None:
    """It is refused as an address, or a mail to it is stored: nothing else."""
    try:
        lite.ask(address)
    except AddressError:
        return
    assert lite.answer() == 1
    assert lite.counts()["request"] == 0


def test_a_mail_gives_way_to_the_next_of_its_kind_and_to_itself_never(lite: Reception) -> None:
    person = lite.subscribe()
    for _ in range(2):
        accounts.request_export(lite.accounts, person)
        accounts.request_erasure(lite.accounts, person)
    waiting = [State.SKIPPED, State.SKIPPED, State.PLANNED, State.PLANNED]
    assert [mail["state"] for mail in lite.mails()][1:] == waiting
    with writing(lite.engine) as connection:  # done twice it is done once
        for _ in range(2):
            mails.send(
                *(connection, lite.accounts, "export", "again"),
                to=ADA,
                person=lite.person(),
                locale="en",
                url="https://example.org",
                now=lite.now,
            )
    assert [mail["state"] for mail in lite.mails()][1:] == [
        *(State.SKIPPED, State.SKIPPED, State.SKIPPED, State.PLANNED, State.PLANNED)
    ]


def test_a_request_that_breaks_stops_none_of_the_others(
    reception: Reception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for address in (BOB, ADA):
        reception.ask(address)
    send = mails.send_confirmation

    def fragile(*args: object, **more: object) -> None:
        if more["person"].address == BOB:  # type: ignore[attr-defined]
            raise ZeroDivisionError
        send(*args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(mails, "send_confirmation", fragile)
    assert reception.answer() == 1
    assert reception.kinds() == [("confirm", ADA)]
    assert "example" not in caplog.text.replace("digest.example.org", "")
    monkeypatch.undo()
    assert reception.answer() == 0  # it waits
    reception.later(hours=1)
    assert reception.answer() == 1
    assert reception.kinds()[-1] == ("confirm", BOB)


# ------------------------------------------------------------------ confirming


def test_confirming_begins_with_the_next_slot_and_is_done_once(reception: Reception) -> None:
    reception.ask(topics=("agents",))
    reception.answer()
    asked = reception.subject("confirm")
    reception.later(days=3, hours=1)  # 13:00, after that day's hour
    first = reception.confirm(asked, text_version="v1", locale="en")
    assert first.anew
    person = reception.person()
    assert (person.status, person.confirmed_at) == (Status.ACTIVE, reception.now)
    with reading(reception.engine) as connection:
        [schedule] = schedules.histories(connection, [person.id])[person.id]
        table = schema.subscriber
        due = connection.execute(select(table.c.next_due_at)).scalar_one()
        evidence = [tuple(row)[3:6] for row in connection.execute(select(schema.consent)).all()]
    assert (schedule.since, schedule.active) == (reception.now, True)
    assert due == datetime(2026, 5, 31, 8, tzinfo=UTC)
    skeleton = reception.mails()[0]["skeleton"]
    assert evidence == [("asked", "front page", skeleton), ("confirmed", "page", "v1")]
    before = reception.everything()
    reception.later(days=1)
    other = Wishes(zone="UTC", hour=1, frequency=Frequency.DAILY, max_papers=1)
    again = reception.confirm(asked, wishes=other)
    assert (again.subscriber_id, again.anew) == (first.subscriber_id, False)
    assert reception.everything() == before


def test_clicks_at_once_confirm_once(reception: Reception) -> None:
    reception.ask()
    reception.answer()
    asked, together = reception.subject("confirm"), Barrier(4)

    def click(_: int) -> bool:
        together.wait()
        return reception.confirm(asked).anew

    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(click, range(4))) == [False, False, False, True]
    assert (reception.counts()["consent"], reception.counts()["schedule"]) == (2, 1)


@pytest.mark.parametrize("status", GONE, ids=str)
def test_only_confirming_brings_back_who_is_gone(reception: Reception, status: Status) -> None:
    person = reception.put(status)
    assert reception.barred() == {status}
    reception.ask()
    reception.answer()
    assert reception.barred() == {status}
    back = reception.confirm(reception.subject("confirm")).subscriber_id
    assert reception.barred() == set()
    assert reception.status(back) is Status.ACTIVE
    assert (back == person) is (status is not Status.ERASED)
    # What the journal knows of them is over.
    path = reception.data_dir / journal.FILE
    with writing(reception.engine) as connection:
        if path.exists():
            assert optouts.unknown(connection, journal.read(path)) == []


def test_a_suppression_by_an_old_key_is_lifted_too(lite: Reception) -> None:
    lite.changes = {"secrets": SECRETS[1:]}
    person = lite.put(Status.UNSUBSCRIBED)
    assert person is not None
    lite.changes = {}
    lite.ask()
    lite.answer()
    lite.confirm(lite.subject("confirm"))
    assert lite.counts()["suppression"] == 0
    accounts.leave(lite.accounts, person)  # and is written with the new one
    lite.changes = {"secrets": SECRETS[:1]}
    assert lite.barred() == {Status.UNSUBSCRIBED}


def test_a_link_from_before_they_left_does_not_bring_them_back(reception: Reception) -> None:
    person = reception.subscribe()
    asked = reception.subject("confirm")
    reception.later(minutes=1)
    accounts.leave(reception.accounts, person)
    for _ in range(2):
        with pytest.raises(TokenExpired):
            reception.confirm(asked)
    assert reception.status(person) is Status.UNSUBSCRIBED
    reception.ask()
    reception.answer()
    with pytest.raises(TokenExpired):
        reception.confirm(asked)  # though they were asked again
    assert reception.confirm(reception.subject("confirm")).anew


def test_confirming_what_is_not_there(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.leave(lite.accounts, person)
    with reading(lite.engine) as connection:
        table = schema.consent
        left = connection.execute(
            select(table.c.id).where(table.c.what == "unsubscribed")
        ).scalar_one()
    for subject in (999, left):
        with pytest.raises(TokenError):
            lite.confirm(subject)


def test_whoever_asks_after_an_erasure_is_not_erased_again_by_the_journal(
    reception: Reception,
) -> None:
    reception.put(Status.ERASED)
    reception.ask()
    reception.answer()
    entries = list(journal.read(reception.data_dir / journal.FILE))
    assert [entry.kind for entry in entries] == [Status.ERASED]
    with writing(reception.engine) as connection:
        assert optouts.unknown(connection, entries) == []
        assert optouts.replay(connection, entries, since=reception.now, now=reception.now) == {}
    assert reception.person().status is Status.PENDING
    assert reception.confirm(reception.subject("confirm")).anew


def test_who_never_confirms_is_forgotten(reception: Reception) -> None:
    reception.ask()
    reception.ask(BOB)
    reception.answer()
    kept = reception.subscribe("carol@example.com")
    reception.later(days=6)
    reception.ask(BOB)  # again, so that a new link works
    reception.answer()
    reception.later(days=1, minutes=1)
    with writing(reception.engine) as connection:
        values = {"domain": "example.org", "now": reception.now}
        connection.execute(
            insert(schema.domain).values(
                name=values["domain"], provider="mx", looked_up_at=reception.now
            )
        )

    def forget() -> int:
        return erasing.remove_unconfirmed(
            reception.engine, before=reception.now - 7 * DAY, now=reception.now
        )

    before = reception.counts()
    assert forget() == 1
    assert forget() == 0
    assert ADA not in reception.everything()
    assert reception.person(BOB).status is Status.PENDING
    assert reception.status(kept) is Status.ACTIVE
    after = reception.counts()
    assert after["delivery"] == before["delivery"]  # the counts stay
    assert after["account_mail"] == before["account_mail"]
    assert after["domain"] == 0
    reception.later(days=7)
    assert forget() == 1
    assert reception.status(kept) is Status.ACTIVE


# ------------------------------------------------------------------ leaving


def left(
    reception: Reception, person: int, *, secrets: Sequence[bytes] = SECRETS, **more: str
) -> tuple[Left, int]:
    done = accounts.leave(reception.accounts, person, **more)
    if done.undo is None:
        return done, 0
    return done, verify(done.undo, Purpose.UNDO, secrets=secrets, now=reception.now).subject


def test_leaving_can_be_undone_for_an_hour(reception: Reception) -> None:
    person = reception.subscribe()
    reception.later(hours=2)
    _, subject = left(reception, person)
    entries = list(journal.read(reception.data_dir / journal.FILE))
    assert reception.barred() == {Status.UNSUBSCRIBED}
    reception.later(minutes=59)
    for _ in range(2):
        assert accounts.undo(reception.accounts, subject)
        assert reception.status(person) is Status.ACTIVE
        assert reception.barred() == set()
    with writing(reception.engine) as connection:
        # The journal is not taken at its word: they came back.
        assert optouts.unknown(connection, entries) == []
        assert (
            optouts.replay(connection, entries, since=reception.now - DAY, now=reception.now) == {}
        )
        history = schedules.histories(connection, [person])[person]
    assert [one.active for one in history] == [True, False, True]
    assert reception.status(person) is Status.ACTIVE


def test_an_undo_holds_though_the_clock_was_set_back(lite: Reception) -> None:
    person = lite.subscribe()
    _, subject = left(lite, person)
    lite.later(minutes=-5)
    assert accounts.undo(lite.accounts, subject)
    with reading(lite.engine) as connection:
        assert optouts.unknown(connection, journal.read(lite.data_dir / journal.FILE)) == []


def test_what_cannot_be_undone(lite: Reception) -> None:
    person = lite.subscribe()
    done, subject = left(lite, person)
    again, same = left(lite, person)  # a double click: the same page
    assert (again.undo is not None, same) == (True, subject)
    lite.later(hours=1)
    assert left(lite, person)[0] == Left(undo=None)  # an hour from when they left
    assert done.undo is not None
    with pytest.raises(TokenExpired):
        verify(done.undo, Purpose.UNDO, secrets=SECRETS, now=lite.now)
    assert not accounts.undo(lite.accounts, subject)
    assert lite.status(person) is Status.UNSUBSCRIBED
    assert not accounts.undo(lite.accounts, 999)
    assert accounts.leave(lite.accounts, 999) == Left(undo=None)


@pytest.mark.parametrize("how", ["admin", "complaint", "bounce", "erasure", "late", "again"])
def test_only_ones_own_last_leaving_can_be_undone(lite: Reception, how: str) -> None:
    person = lite.subscribe()
    subject = 0
    if how in ("late", "again", "erasure"):
        _, subject = left(lite, person)
    if how == "admin":
        accounts.stop(lite.accounts, person, detail="by an admin")
    elif how == "erasure":
        accounts.erase(lite.accounts, person)
    elif how == "late":  # a complaint that came after it
        with writing(lite.engine) as connection:
            subscribers.unsubscribe(
                connection, person, now=lite.now, detail="", status=Status.COMPLAINED
            )
        assert lite.barred() == {Status.COMPLAINED}
    elif how == "again":
        assert accounts.undo(lite.accounts, subject)
        accounts.stop(lite.accounts, person, detail="by an admin")
    elif how != "erasure":
        status = Status.COMPLAINED if how == "complaint" else Status.BOUNCED
        with writing(lite.engine) as connection:
            subscribers.unsubscribe(connection, person, now=lite.now, detail="", status=status)
    before = lite.status(person)
    assert accounts.leave(lite.accounts, person) == Left(undo=None)
    with reading(lite.engine) as connection:
        found = connection.execute(select(schema.consent.c.id)).scalars().all()
    for consent in {*found, subject}:
        assert not accounts.undo(lite.accounts, consent)
    # Who bounced and leaves has left; all others stay what they were.
    assert lite.status(person) is (Status.UNSUBSCRIBED if how == "bounce" else before)
    assert before is not Status.ACTIVE


@pytest.mark.parametrize("weekly", [False, True])
def test_less_instead_of_leaving(reception: Reception, weekly: bool) -> None:
    person = reception.subscribe()
    _, subject = left(reception, person, detail="by one click")
    until = None if weekly else date(2026, 6, 3)
    instead = Instead(weekly=weekly, pause_until=until)
    for _ in range(2):
        assert accounts.undo(reception.accounts, subject, instead=instead)
    found = reception.person()
    if weekly:
        assert (found.status, found.frequency) == (Status.ACTIVE, Frequency.WEEKLY)
    else:
        assert found.status is Status.PAUSED
        assert found.paused_until == datetime(2026, 6, 3, tzinfo=UTC)
    assert reception.barred() == set()


def test_an_undo_to_a_pause_that_cannot_be_changes_nothing(lite: Reception) -> None:
    person = lite.subscribe()
    _, subject = left(lite, person)
    before = lite.everything()
    with pytest.raises(InputError):
        accounts.undo(lite.accounts, subject, instead=Instead(pause_until=date(2020, 1, 1)))
    assert lite.everything() == before


def test_who_leaves_in_a_pause_comes_back_to_it(lite: Reception) -> None:
    person = lite.put(Status.PAUSED)
    assert person is not None
    until = lite.person().paused_until
    _, subject = left(lite, person)
    assert lite.status(person) is Status.UNSUBSCRIBED
    assert accounts.undo(lite.accounts, subject)
    assert (lite.status(person), lite.person().paused_until) == (Status.PAUSED, until)


def test_why_somebody_leaves_is_kept_without_an_address(lite: Reception) -> None:
    person = lite.subscribe()
    _, subject = left(lite, person)
    comment = "Write  to\nme@elsewhere.example instead! " + "x" * 400
    assert accounts.explain(lite.accounts, subject, why=Why.TOO_MANY, comment=comment)
    with reading(lite.engine) as connection:
        table = schema.consent
        row = connection.execute(select(table).where(table.c.id == subject)).one()
    assert row.reason == "too many"
    assert row.comment.startswith("Write to <address> instead! xxx")
    assert len(row.comment) == 300
    lite.later(hours=1)
    assert not accounts.explain(lite.accounts, subject, why=Why.OTHER)


# ------------------------------------------------------------------ pauses


def due(reception: Reception, person: int) -> datetime | None:
    table = schema.subscriber
    with reading(reception.engine) as connection:
        found: datetime | None = connection.execute(
            select(table.c.next_due_at).where(table.c.id == person)
        ).scalar_one()
    return found


def resume(reception: Reception) -> bool:
    with writing(reception.engine) as connection:
        return standing.resume_due(connection, now=reception.now)


def test_a_pause_ends_by_itself_at_its_own_time(reception: Reception) -> None:
    person = reception.subscribe()
    reception.later(hours=1)
    accounts.pause(reception.accounts, person, date(2026, 6, 3))
    assert due(reception, person) is None
    reception.later(days=6, hours=10)
    resume(reception)
    assert reception.status(person) is Status.PAUSED
    reception.later(days=1)  # a day late: planning stood still
    assert not resume(reception)
    assert reception.status(person) is Status.ACTIVE
    assert due(reception, person) == datetime(2026, 6, 3, 8, tzinfo=UTC)
    with reading(reception.engine) as connection:
        history = schedules.histories(connection, [person])[person]
    assert [(one.since, one.active) for one in history][1:] == [
        (datetime(2026, 5, 27, 13, tzinfo=UTC), False),
        (datetime(2026, 6, 3, tzinfo=UTC), True),
    ]


def test_pauses_that_are_over_are_found_by_their_index(lite: Reception) -> None:
    found: list[str] = []
    statements(lite.engine, found)
    resume(lite)
    [query] = [text for text in found if "paused_until <=" in text]
    with reading(lite.engine) as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {query}", ("2026-05-27", 1, 0))
        assert "ix_subscriber_paused" in str(plan.all())


def test_many_pauses_end_in_steps(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "RESUMED", 2)
    for number in range(3):
        person = reception.subscribe(f"reader{number}@example.org")
        accounts.pause(reception.accounts, person, date(2026, 6, 3))
    reception.later(days=9)
    assert [resume(reception), resume(reception), resume(reception)] == [True, False, False]


def test_wishes_changed_in_a_pause_hold_after_it(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.pause(lite.accounts, person, date(2026, 6, 3))
    lite.later(days=1)
    wishes = Wishes(zone="UTC", hour=17, frequency=Frequency.DAILY, max_papers=5)
    with writing(lite.engine) as connection:
        subscribers.change(connection, person, wishes, now=lite.now)
    lite.later(days=7)
    resume(lite)
    assert due(lite, person) == datetime(2026, 6, 3, 17, tzinfo=UTC)


def test_a_pause_ends_by_hand(lite: Reception) -> None:
    person = lite.subscribe()
    assert not accounts.resume(lite.accounts, person)
    accounts.pause(lite.accounts, person, date(2026, 6, 3))
    lite.later(days=1)
    assert accounts.resume(lite.accounts, person)
    assert not accounts.resume(lite.accounts, person)
    assert due(lite, person) == datetime(2026, 5, 29, 8, tzinfo=UTC)


def test_the_day_of_a_pause_begins_where_they_are(lite: Reception) -> None:
    wishes = Wishes(zone="Pacific/Auckland", hour=8, frequency=Frequency.DAILY, max_papers=5)
    person = lite.subscribe(wishes=wishes)
    with pytest.raises(InputError):  # there it is that day already
        accounts.pause(lite.accounts, person, date(2026, 5, 28))
    end = accounts.pause(lite.accounts, person, date(2026, 5, 29))
    assert end == datetime(2026, 5, 28, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "until", [date(2026, 5, 27), date(2026, 5, 26), date(2027, 5, 29), date.max]
)
def test_a_pause_that_cannot_be(lite: Reception, until: date) -> None:
    person = lite.subscribe()
    with pytest.raises(InputError):
        accounts.pause(lite.accounts, person, until)
    assert lite.status(person) is Status.ACTIVE


@pytest.mark.parametrize("status", [Status.PENDING, *GONE], ids=str)
def test_who_is_not_subscribed_has_nothing_to_pause(lite: Reception, status: Status) -> None:
    person = lite.put(status)
    assert person is not None
    for call in (
        lambda: accounts.pause(lite.accounts, person, date(2026, 6, 3)),
        lambda: accounts.resume(lite.accounts, person),
        lambda: accounts.weekly(lite.accounts, person),
    ):
        with pytest.raises(NotFound):
            call()
    assert lite.status(person) is status


# ------------------------------------------------------------------ links


def test_new_links_end_the_old_ones_but_not_the_way_out(reception: Reception) -> None:
    person = reception.subscribe()

    def token(purpose: Purpose, generation: int = 0) -> str:
        return sign(purpose, person, secrets=SECRETS, now=reception.now, generation=generation)

    old, out = token(Purpose.PREFERENCES), token(Purpose.UNSUBSCRIBE)
    saved = accounts.saved_link(reception.accounts, person)
    feed = saved.rpartition("/")[2]
    assert accounts.opened(reception.accounts, old, Purpose.PREFERENCES).person.id == person
    accounts.request_export(reception.accounts, person)
    new = accounts.renew(reception.accounts, person).rpartition("/")[2]
    with pytest.raises(TokenExpired, match="replaced"):
        accounts.opened(reception.accounts, old, Purpose.PREFERENCES)
    with pytest.raises(TokenError):  # what was asked for with an old one is over
        accounts.opened(reception.accounts, reception.token("export"), Purpose.EXPORT)
    assert reception.mails()[-1]["state"] == State.SKIPPED
    assert accounts.opened(reception.accounts, new, Purpose.PREFERENCES).person.id == person
    assert verify(out, Purpose.UNSUBSCRIBE, secrets=SECRETS, now=reception.now).subject == person
    # The feed of what they saved is another link.
    assert accounts.saved_link(reception.accounts, person) == saved
    assert accounts.opened(reception.accounts, feed, Purpose.SAVED).person.id == person
    other = accounts.renew_saved_link(reception.accounts, person).rpartition("/")[2]
    with pytest.raises(TokenExpired):
        accounts.opened(reception.accounts, feed, Purpose.SAVED)
    assert accounts.opened(reception.accounts, other, Purpose.SAVED).person.id == person
    assert accounts.opened(reception.accounts, new, Purpose.PREFERENCES).person.id == person


def test_old_links_outlive_a_rotation_until_their_key_is_dropped(lite: Reception) -> None:
    lite.changes = {"secrets": SECRETS[1:]}
    person = lite.subscribe()
    digest = digest_subject(person, lite.now.date())
    accounts.request_change(lite.accounts, person, BOB)
    accounts.request_export(lite.accounts, person)
    accounts.request_erasure(lite.accounts, person)
    _, undo = left(lite, person, secrets=SECRETS[1:])
    subjects = {
        Purpose.PREFERENCES: person,
        Purpose.SAVED: person,
        Purpose.FEEDBACK: digest,
        Purpose.VIEW: digest,
        Purpose.CONFIRM: lite.subject("confirm"),
        Purpose.CHANGE: lite.subject("change-old"),
        Purpose.EXPORT: lite.subject("export"),
        Purpose.ERASE: lite.subject("erase"),
        Purpose.UNDO: undo,
    }
    assert {*subjects, Purpose.UNSUBSCRIBE, Purpose.CHOOSE} == {*Purpose}
    tokens = {
        purpose: sign(purpose, subject, secrets=SECRETS[1:], now=lite.now)
        for purpose, subject in subjects.items()
    }
    for secrets, opens in ((SECRETS[1:], True), (SECRETS, True), (SECRETS[:1], False)):
        lite.changes = {"secrets": secrets}
        for purpose, token in tokens.items():
            if opens:
                assert accounts.opened(lite.accounts, token, purpose).person.id == person
            else:
                with pytest.raises(TokenError):
                    accounts.opened(lite.accounts, token, purpose)
    lite.changes = {}
    fresh = accounts.settings_link(lite.accounts, lite.person(), now=lite.now).rpartition("/")[2]
    assert fresh != tokens[Purpose.PREFERENCES]  # the newest key signs
    lite.changes = {"secrets": SECRETS[:1]}
    assert accounts.opened(lite.accounts, fresh, Purpose.PREFERENCES).person.id == person


def test_generations_begin_anew_after_the_last(lite: Reception) -> None:
    person = lite.subscribe()
    with writing(lite.engine) as connection:
        connection.execute(update(schema.subscriber).values(generation=2**16 - 1))
    token = accounts.renew(lite.accounts, person).rpartition("/")[2]
    assert verify(token, Purpose.PREFERENCES, secrets=SECRETS, now=lite.now).generation == 0


@pytest.mark.parametrize("purpose", [Purpose.FEEDBACK, Purpose.VIEW])
def test_links_of_a_digest_are_its_readers(lite: Reception, purpose: Purpose) -> None:
    person = lite.subscribe()
    digest = digest_subject(person, lite.now.date())
    token = sign(purpose, digest, secrets=SECRETS, now=lite.now)
    found = accounts.opened(lite.accounts, token, purpose)
    assert (found.subject, found.person.id) == (digest, person)
    accounts.renew(lite.accounts, person)
    with pytest.raises(TokenExpired):
        accounts.opened(lite.accounts, token, purpose)
    with pytest.raises(TokenError):
        accounts.opened(lite.accounts, sign(purpose, 99, secrets=SECRETS, now=lite.now), purpose)


@pytest.mark.parametrize("purpose", [one for one in Purpose if one is not Purpose.UNSUBSCRIBE])
def test_opening_changes_nothing_and_tells_strangers_nothing(
    still: Reception, purpose: Purpose
) -> None:
    before = still.everything()
    token = sign(purpose, 10_000, secrets=SECRETS, now=still.now)
    with pytest.raises(TokenError):
        accounts.opened(still.accounts, token, purpose)
    foreign = sign(Purpose.UNSUBSCRIBE, 1, secrets=SECRETS, now=still.now)
    with pytest.raises(TokenError):
        accounts.opened(still.accounts, foreign, purpose)
    assert still.everything() == before


def test_nobody_asks_twice_in_one_place(reception: Reception) -> None:
    """CLIENT is counted by its network, and of it nothing but a hash is kept."""
    reception.changes = {
        "limits": accounts.Limits(
            account_mails_daily=3, signups_hourly=10, confirmations_hourly=200
        )
    }
    answers = [reception.ask() for _ in range(4)]
    assert answers == [None] * 4
    answers = [reception.ask(f"reader{n}@example.org") for n in range(7)]
    assert answers == [None] * 6 + [Refusal.NETWORK]
    assert str(CLIENT) not in reception.everything()
    assert "192.0.2" not in reception.everything()
    reception.later(hours=1)
    assert [reception.ask(BOB), reception.ask()] == [None, None]
    reception.answer()
    assert reception.kinds().count(("confirm", ADA)) == 3
    reception.later(days=1)
    assert reception.ask() is None
    reception.answer()
    assert reception.kinds().count(("confirm", ADA)) == 4
