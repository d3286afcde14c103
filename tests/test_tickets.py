"""Tickets: no forwarded mail moves, takes or erases an account; a fresh one does, once."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from digest import inbox, journal, schema
from digest.errors import AddressError, TokenError, TokenExpired
from digest.models import Detail, Frequency, QuietDay, State, Status, Wishes
from digest.pipeline import accounts
from digest.pipeline.accounts import Limits, Moved, Refusal
from digest.storage import erasing, outcomes, routes, standing, subscribers
from digest.storage.database import reading, writing
from digest.storage.erasing import LEDGER
from digest.storage.forgetting import forget_asking
from digest.tokens import Purpose, verify
from tests.reception import ADA, BOB, SECRETS, Reception
from tests.rows import Rows

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FEW = Limits(account_mails_daily=3, signups_hourly=99, confirmations_hourly=99)

# ------------------------------------------------------------------ another address


def use(reception: Reception, kind: str) -> Moved:
    return accounts.change(reception.accounts, reception.subject(kind))


@pytest.mark.parametrize("order", [("change-old", "change-new"), ("change-new", "change-old")])
def test_both_addresses_must_agree(reception: Reception, order: tuple[str, str]) -> None:
    person = reception.subscribe()
    old_link = accounts.settings_link(reception.accounts, reception.person(), now=reception.now)
    assert accounts.request_change(reception.accounts, person, BOB) is None
    assert reception.kinds()[-2:] == [("change-old", ADA), ("change-new", BOB)]
    for kind, outcome in zip(order, (Moved.WAITING, Moved.MOVED), strict=True):
        assert reception.person().address == ADA
        assert use(reception, kind) is outcome
        if outcome is Moved.WAITING:  # a double click is still one side
            assert use(reception, kind) is outcome
    assert [use(reception, kind) for kind in order] == [Moved.MOVED] * 2
    found = reception.person(BOB)
    assert (found.id, found.status) == (person, Status.ACTIVE)
    with pytest.raises(TokenExpired):  # whoever reads the old mailbox has no say any more
        accounts.opened(reception.accounts, old_link.rpartition("/")[2], Purpose.PREFERENCES)
    assert reception.ask() is None  # and the old address is anybody's again
    reception.answer()
    assert reception.kinds()[-1] == ("confirm", ADA)


def test_a_mail_to_the_new_address_says_nothing_of_the_old_one(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.request_change(lite.accounts, person, "Bob.Evil@Example.net")
    old, new = lite.mails()[-2:]
    assert old["personal"]["new_address"] == "B…@Example.net"
    assert "new_address" not in new["personal"]
    words = json.dumps(new["personal"])
    assert "ada" not in words
    assert "evil" not in words.lower().replace("bob.evil@example.net", "")
    for mail in (old, new):
        assert mail["give_up_at"] == lite.now + HOUR  # a link that is over helps nobody


def test_a_change_ends_with_its_hour(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.request_change(lite.accounts, person, BOB)
    token = lite.token("change-new")
    lite.later(hours=1)
    with pytest.raises(TokenExpired):
        accounts.opened(lite.accounts, token, Purpose.CHANGE)


def test_a_used_change_does_not_come_again(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.request_change(lite.accounts, person, BOB)
    first = [lite.subject(kind) for kind in ("change-old", "change-new")]
    for ticket in first:
        accounts.change(lite.accounts, ticket)
    accounts.request_change(lite.accounts, person, "carol@example.com")
    for kind in ("change-old", "change-new"):
        use(lite, kind)
    assert [accounts.change(lite.accounts, ticket) for ticket in first] == [Moved.MOVED] * 2
    assert lite.person("carol@example.com").id == person


@pytest.mark.parametrize("status", [*Status], ids=str)
def test_an_address_that_somebody_has(reception: Reception, status: Status) -> None:
    """It is said to who reads both mailboxes alone; one who never confirmed makes way."""
    other = reception.put(status, BOB)
    person = reception.subscribe()
    assert accounts.request_change(reception.accounts, person, BOB) is None
    assert reception.kinds()[-2:] == [("change-old", ADA), ("change-new", BOB)]
    assert use(reception, "change-old") is Moved.WAITING
    free = status in (Status.PENDING, Status.ERASED)
    outcome = Moved.MOVED if free else Moved.TAKEN
    assert [use(reception, "change-new"), use(reception, "change-old")] == [outcome] * 2
    assert reception.person(BOB).id == (person if free else other)
    assert reception.person(BOB if free else ADA).status is Status.ACTIVE
    assert reception.barred(BOB) == (set() if free else reception.barred(BOB))


def test_what_ends_a_change_that_waits(lite: Reception) -> None:
    person = lite.subscribe()
    accounts.request_change(lite.accounts, person, BOB)
    use(lite, "change-old")
    accounts.leave(lite.accounts, person)
    assert use(lite, "change-new") is Moved.OVER
    assert lite.person().address == ADA


def test_what_waits_for_the_old_address_does_not_go_there(reception: Reception) -> None:
    person = reception.subscribe()
    reception.lose()
    reception.answer()
    accounts.request_export(reception.accounts, person)
    accounts.request_change(reception.accounts, person, BOB)
    for kind in ("change-old", "change-new"):
        use(reception, kind)
    assert {mail["state"] for mail in reception.mails()} == {State.SKIPPED}
    with pytest.raises(TokenError):
        accounts.export(reception.accounts, reception.subject("export"))


@pytest.mark.parametrize("address", ["", "x", "a\r\nBcc: b@example.org", "a@b@c", "a" * 400])
def test_a_new_address_that_is_none(still: Reception, address: str) -> None:
    with pytest.raises(AddressError):
        accounts.request_change(still.accounts, 1, address)


MOVES = {
    "to a domain that may": ({"signup": "domains", "domains": {"example.net"}}, None),
    "to one that may not": ({"signup": "domains", "domains": {"example.org"}}, Refusal.DOMAIN),
    "while nobody may subscribe": ({"signup": "closed"}, None),
    "to one that takes no mail": ({"takes_mail": lambda _: False}, Refusal.NO_MAIL),
}


@pytest.mark.parametrize(("changes", "refusal"), MOVES.values(), ids=MOVES)
def test_a_digest_moves_where_one_may_subscribe(
    lite: Reception, changes: dict[str, object], refusal: Refusal | None
) -> None:
    person = lite.subscribe()
    lite.changes = changes
    assert accounts.request_change(lite.accounts, person, BOB) is refusal
    assert lite.counts()["ticket"] == (0 if refusal else 2)


def test_each_side_of_a_change_is_a_mail_of_the_day(lite: Reception) -> None:
    person = lite.subscribe()
    lite.changes = {"limits": FEW}
    asked = [accounts.request_change(lite.accounts, person, BOB) for _ in range(3)]
    assert asked == [None, None, Refusal.ADDRESS]  # one was to confirm
    assert [lite.ask(BOB), lite.ask(BOB)] == [None, None]
    lite.answer()
    # The third, for what is refused counts nothing.
    assert [to for _, to in lite.kinds()].count(BOB) == 3


def test_a_link_does_not_have_the_dns_asked_without_limit(lite: Reception) -> None:
    person = lite.subscribe()
    asked: list[str] = []

    def takes_mail(domain: str) -> bool:
        asked.append(domain)
        return False

    lite.changes = {"takes_mail": takes_mail}
    answers = [
        accounts.request_change(lite.accounts, person, f"a@{n}.example.net") for n in range(25)
    ]
    assert answers == [Refusal.NO_MAIL] * 20 + [Refusal.BUSY] * 5
    assert len(asked) == 20


# ------------------------------------------------------------------ an export


def held(reception: Reception) -> None:
    """Let a digest be sent to everybody, with attempts and server texts."""
    rows, table = Rows(reception.engine), schema.subscriber
    with reading(reception.engine) as connection:
        people = list(connection.execute(select(table.c.id).order_by(table.c.id)).scalars())
    for number, person in enumerate(people, start=1):
        delivery = rows.digest(
            reception.now,
            subscriber_id=person,
            skeleton=rows.part(),
            items=[{"paper_id": 1, "score": 1.0, "card": True, "reasons": [["topic", "agents"]]}],
            text=f"250 queued for reader{number}",
            provider="example.org",
        )
        attempt = rows.attempt(delivery, reception.now)
        with writing(reception.engine) as connection:
            words = f"550 no mailbox ada {number}"
            attempts = schema.attempt
            connection.execute(update(attempts).where(attempts.c.id == attempt).values(text=words))


def test_an_export_holds_everything_and_nobody_else(reception: Reception) -> None:
    person = reception.subscribe()
    reception.subscribe(BOB)
    accounts.leave(reception.accounts, person)
    held(reception)
    assert accounts.request_export(reception.accounts, person) is None
    ticket = reception.subject("export")
    found = accounts.export(reception.accounts, ticket)
    assert found is not None
    text = json.dumps(found)
    assert BOB not in text
    [row] = found["subscriber"]
    assert (row["address"], row["zone"], row["status"]) == (ADA, "UTC", "unsubscribed")
    [digest] = found["digest"]
    assert digest["items"][0]["reasons"] == [["topic", "agents"]]
    assert [one["text"] for one in found["attempt"]] == ["550 no mailbox ada 1"]
    assert {one["what"] for one in found["consent"]} == {"asked", "confirmed", "unsubscribed"}
    assert [one["kind"] for one in found["account_mail"]] == ["confirm", "export"]
    assert len(found["delivery"]) == 3
    assert [one["reason"] for one in found["suppression"]] == ["unsubscribed"]
    named = {table.name for table in schema.metadata.sorted_tables if "subscriber_id" in table.c}
    assert named <= found.keys()
    before = reception.everything()
    assert accounts.export(reception.accounts, ticket) is None  # once
    assert reception.everything() == before
    assert accounts.opened(reception.accounts, reception.token("export"), Purpose.EXPORT).used


# ------------------------------------------------------------------ an erasure

KEPT = {"part", "subscriber", "suppression", "house", "quota", *LEDGER, "attempt", "ticket"}


def ledger(reception: Reception) -> list[object]:
    """What the ledger counts."""
    with reading(reception.engine) as connection:
        start, end = reception.now - 9 * DAY, reception.now + DAY
        return [
            outcomes.counts(connection, start=start, end=end, account=account)
            for account in (False, True)
        ]


def test_an_erasure_leaves_the_hash_and_the_counts(reception: Reception) -> None:
    person = reception.subscribe("ada@ada-lovelace.example")
    kept = reception.subscribe(BOB)
    held(reception)
    rows = Rows(reception.engine)
    for name in ("ada-lovelace.example", "example.net"):
        rows.add(schema.domain, name=name, provider=name, looked_up_at=reception.now)
    topic = rows.add(schema.topic, slug="a", name="A", query="a", created_at=reception.now)
    for one in (person, kept):
        rows.add(schema.follow, subscriber_id=one, topic_id=topic)
    reception.lose("Ada@Ada-Lovelace.example")  # a request that waits
    bobs = reception.person(BOB)
    assert accounts.request_erasure(reception.accounts, person) is None
    ticket, token = reception.subject("erase"), reception.token("erase")
    counts, before = ledger(reception), reception.counts()
    accounts.erase_by(reception.accounts, ticket)
    after = reception.everything()
    for trace in ("ada-lovelace", "queued for reader1", "no mailbox ada 1", "ada@"):
        assert trace not in after
    assert "queued for reader2" in after
    assert reception.person(BOB) == bobs
    assert reception.barred("ada@ada-lovelace.example") == {Status.ERASED}
    waited = 2  # mails: they are skipped, and are counted as such
    [digests, mails] = ledger(reception)
    assert digests == counts[0]
    assert sum(mails.values()) == sum(counts[1].values())  # type: ignore[attr-defined]
    assert mails[State.SKIPPED] == waited  # type: ignore[index]
    changed = {name for name, count in reception.counts().items() if count != before[name]}
    assert changed == {"consent", "domain", "follow", "request", "suppression"}
    # Used again it says so again, and does nothing.
    again = reception.everything()
    accounts.erase_by(reception.accounts, ticket)
    assert reception.everything() == again
    assert accounts.opened(reception.accounts, token, Purpose.ERASE).used
    assert [one.kind for one in journal.read(reception.data_dir / journal.FILE)] == [Status.ERASED]
    # By their own double opt-in they come back, as somebody else.
    assert reception.subscribe("ada@ada-lovelace.example") not in (person, kept)


def test_nothing_about_an_erased_person_stays_in_their_rows(lite: Reception) -> None:
    """Every table that names a subscriber is emptied of them, but for the ledger's."""
    person = lite.subscribe(locale="en")
    held(lite)
    accounts.erase(lite.accounts, person)
    for table in schema.metadata.sorted_tables:
        if "subscriber_id" in table.c and table.name not in LEDGER:
            assert lite.counts()[table.name] == 0, table.name
    with reading(lite.engine) as connection:
        [digest] = connection.execute(select(schema.digest)).mappings()
        [row] = connection.execute(select(schema.subscriber)).mappings()
        deliveries = list(connection.execute(select(schema.delivery)).mappings())
    assert (digest["items"], digest["paper_ids"], digest["personal"]) == ([], [], {})
    assert (row["address"], row["name"], row["address_key"]) == ("", "", f"erased {person}")
    assert (row["address_hash"], row["frequency"]) == (f"erased {person}", Frequency.DAILY)
    assert {(one["address"], one["text"], one["provider"]) for one in deliveries} == {("", "", "")}


def test_of_who_is_erased_no_wish_stays(lite: Reception) -> None:
    usual = Wishes(
        name="Ada",
        zone="Asia/Tokyo",
        hour=7,
        frequency=Frequency.WEEKLY,
        weekday=3,
        max_papers=9,
        locale="de",
        min_score=0.7,
        detail=Detail.FULL,
        quiet_day=QuietDay.SEND,
        plain=True,
    )
    person = lite.subscribe(wishes=usual, locale="de")
    with writing(lite.engine) as connection:
        subscribers.change(connection, person, usual, now=lite.now)
    assert asdict(standing.wishes_of(lite.person())) == asdict(usual)
    accounts.erase(lite.accounts, person)
    with reading(lite.engine) as connection:
        [row] = connection.execute(select(schema.subscriber)).mappings()
    plain = Wishes(zone="UTC", hour=0, frequency=Frequency.DAILY, max_papers=1)
    wishes = asdict(plain)
    assert {name: row[name] for name in wishes} == wishes
    assert {row["address"], row["address_key"], row["address_hash"]} == {"", f"erased {person}"}
    # A column that comes later must be thought of here.
    others = {"id", "status", "created_at", "confirmed_at", "paused_until", "next_due_at"}
    others |= {"generation", "saved_generation", "address", "address_key", "address_hash"}
    assert set(row) == {*wishes, *others}


RECEIVERS = {
    "a domain of their own": ("ada@lovelace.example", None, None, True),
    "others live there": ("ada@lovelace.example", None, "bob@lovelace.example", False),
    "a host of their own": ("ada@post.lovelace.example", "lovelace.example", None, True),
    "others' mail is taken there": (
        *("ada@lovelace.example", "hosting.example", "bob@example.net", False),
    ),
    "a large provider": ("ada@lovelace.example", "google", None, False),
}


@pytest.mark.parametrize(
    ("address", "receiver", "other", "goes"), RECEIVERS.values(), ids=RECEIVERS
)
def test_who_receives_nobody_elses_mail_is_forgotten(
    reception: Reception, address: str, receiver: str | None, other: str | None, goes: bool
) -> None:
    rows, person = Rows(reception.engine), reception.subscribe(address)
    name = receiver or address.rpartition("@")[2]
    if receiver:
        for one in filter(None, (address, other)):
            domain = one.rpartition("@")[2]
            rows.add(schema.domain, name=domain, provider=receiver, looked_up_at=reception.now)
    if other:
        reception.subscribe(other)
    for relay in ("one", "two"):
        with writing(reception.engine) as connection:
            [route] = routes.find(connection, relay, [name]).values()
            stopped = {"state": "open", "reason": f"550 {name} says no", "kind": "blocked"}
            table = schema.route
            connection.execute(update(table).where(table.c.id == route.id).values(stopped))
        way, words = f"{relay} to {name}", f"Mail by {relay} to {name} is stopped"
        rows.add(schema.alert, kind="breaker", subject=way, text=words, since=reception.now)
    accounts.erase(reception.accounts, person)
    with reading(reception.engine) as connection:
        found = connection.execute(select(schema.route).order_by(schema.route.c.id)).all()
    assert len(found) == 2  # whoever delivers knows the rows, and finds them
    assert [row.state for row in found] == ["closed" if goes else "open"] * 2
    assert reception.counts()["alert"] == (0 if goes else 2)
    after = reception.everything()
    assert (name in after) is not goes
    assert ("lovelace" in after) is (name == "lovelace.example" and not goes)
    assert "ada@" not in after


def test_an_erasure_forgets_that_others_wanted_to_move_there(reception: Reception) -> None:
    person, other = reception.subscribe(), reception.subscribe(BOB)
    accounts.request_change(reception.accounts, other, "ADA@example.org")
    use(reception, "change-old")
    accounts.erase(reception.accounts, person)
    after = reception.everything()
    assert "ada@" not in after
    assert "a…@" not in after
    for kind in ("change-old", "change-new"):
        assert [one["personal"] for one in reception.mails() if one["kind"] == kind] == [{}]
    assert reception.person(BOB).status is Status.ACTIVE


def test_an_address_that_was_never_moved_to_is_forgotten(reception: Reception) -> None:
    person = reception.subscribe()
    accounts.request_change(reception.accounts, person, BOB)
    use(reception, "change-old")
    reception.later(days=6)

    def forget() -> int:
        before = reception.now - 7 * DAY
        forget_asking(reception.engine, before=reception.now - 2 * DAY)
        return erasing.forget_offers(reception.engine, before=before, now=reception.now)

    assert forget() == 0
    assert BOB in reception.everything()
    reception.later(days=2)
    assert [forget(), forget()] == [1, 0]
    assert BOB not in reception.everything()
    assert reception.person().address == ADA


@pytest.mark.parametrize("status", [Status.ACTIVE, *Status], ids=str)
def test_who_may_ask_for_an_erasure(lite: Reception, status: Status) -> None:
    person = lite.put(status)
    assert person is not None
    for ask in (accounts.request_erasure, accounts.request_export):
        if status in (Status.PENDING, Status.ERASED):
            with pytest.raises(TokenError):
                ask(lite.accounts, person)
        else:
            assert ask(lite.accounts, person) is None
    assert lite.status(person) is status


def test_the_local_inbox_forgets_too(lite: Reception, tmp_path: Path) -> None:
    box = tmp_path / "inbox"
    person = lite.subscribe()
    lite.changes = {"inbox": box}
    accounts.erase(lite.accounts, person)  # before there is one
    person = lite.subscribe()
    with inbox.Inbox(box) as server:
        for recipient in ("ADA@Example.org", BOB, "ada@old.example", "carol@example.com"):
            mail(server.port, recipient)
    assert len(inbox.keys(box)) == 4
    lite.subscribe(BOB)
    old = lite.subscribe("ada@old.example")
    for address in (BOB, "new@example.org"):  # what another has is theirs
        accounts.request_change(lite.accounts, old, address)
        for kind in ("change-old", "change-new"):
            use(lite, kind)
    accounts.erase(lite.accounts, old)  # who moved
    accounts.erase(lite.accounts, person)
    left = [one.recipient for one in inbox.messages(box)]
    assert sorted(left) == [BOB, "carol@example.com"]


def mail(port: int, recipient: str) -> None:
    import smtplib

    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@example.org", [recipient], "Subject: x\r\n\r\nx\r\n")


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("purpose", [Purpose.CHANGE, Purpose.EXPORT, Purpose.ERASE])
def test_a_ticket_of_another_purpose_or_none(lite: Reception, purpose: Purpose) -> None:
    person = lite.subscribe()
    accounts.request_change(lite.accounts, person, BOB)
    accounts.request_export(lite.accounts, person)
    accounts.request_erasure(lite.accounts, person)
    tickets = {
        Purpose.CHANGE: lite.subject("change-old"),
        Purpose.EXPORT: lite.subject("export"),
        Purpose.ERASE: lite.subject("erase"),
    }
    use_it = {
        Purpose.CHANGE: accounts.change,
        Purpose.EXPORT: accounts.export,
        Purpose.ERASE: accounts.erase_by,
    }[purpose]
    before = lite.everything()
    for ticket in {*tickets.values(), 999} - {tickets[purpose]}:
        with pytest.raises(TokenError):
            use_it(lite.accounts, ticket)
    assert lite.everything() == before
    for kind, one in (("export", Purpose.EXPORT), ("erase", Purpose.ERASE)):
        if one is not purpose:
            with pytest.raises(TokenError):
                verify(lite.token(kind), purpose, secrets=SECRETS, now=lite.now)


def test_mails_of_a_day_are_limited_for_all_of_them(lite: Reception) -> None:
    person = lite.subscribe()
    lite.changes = {"limits": FEW}
    asked = [
        accounts.request_export(lite.accounts, person),
        accounts.request_erasure(lite.accounts, person),
        accounts.request_export(lite.accounts, person),
    ]
    assert asked == [None, None, Refusal.ADDRESS]
    assert lite.counts()["ticket"] == 2
    assert lite.lose() is None  # a stranger's, who learns nothing by it
    before = len(lite.mails())
    lite.answer()
    assert len(lite.mails()) == before


def test_a_key_that_was_changed_still_opens(lite: Reception) -> None:
    lite.changes = {"secrets": SECRETS[1:]}
    person = lite.subscribe()
    accounts.request_export(lite.accounts, person)
    token = lite.token("export")
    lite.changes = {}
    subject = accounts.opened(lite.accounts, token, Purpose.EXPORT).subject
    assert accounts.export(lite.accounts, subject) is not None


def test_what_a_digest_holds_is_read_whatever_was_inserted(lite: Reception) -> None:
    """A paper that is gone, and one that is there."""
    person = lite.subscribe()
    held(lite)
    with writing(lite.engine) as connection:
        lists = ("authors", "keywords", "categories", "sources")
        connection.execute(
            insert(schema.paper).values(
                id=1,
                **dict.fromkeys(("abstract", "summary", "organisation", "venue", "comment"), ""),
                **{name: [] for name in lists},
                title="T",
                url="https://example.org/1",
                links={},
                signals={},
                listed_at=lite.now,
                first_seen_at=lite.now,
                withdrawn=False,
            )
        )
    accounts.request_export(lite.accounts, person)
    found = accounts.export(lite.accounts, lite.subject("export"))
    assert found is not None
    assert found["paper"] == [{"id": 1, "title": "T", "url": "https://example.org/1"}]
