"""Unknown and failed mail in the operator's hands: sent again once, settled, or left with a why."""

from __future__ import annotations

import email
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, Table, select, update

from digest import schema
from digest.models import State, Status
from digest.storage import resolving
from digest.storage.database import reading, writing
from digest.storage.resolving import Attempt, Delivery, Moved
from tests.post_office import DAY, NOW, POLICY, PostOffice, address_of
from tests.sink import Sink

MINUTE = timedelta(minutes=1)
WAIT = 11 * MINUTE  # after which no answer comes any more


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    found = PostOffice(engine, tmp_path)
    found.move_in(3)
    return found


def lose(office: PostOffice, sink: Sink, *people: int) -> list[int]:
    """Mail to these, or to all, whose answer is lost, long enough ago; the deliveries' ids."""
    office.plan(*people)
    sink.on(".", close=True, times=len(people or office.people))
    office.postman(sink.port).deliver()
    assert office.states() == {State.UNKNOWN: len(people or office.people)}
    office.now += 2 * WAIT
    return ids(office)


def refuse(office: PostOffice, sink: Sink, *people: int, **more: Any) -> list[int]:
    """Mail that the server refused for good; the deliveries' ids."""
    before = ids(office)
    office.plan(*people, **more)
    sink.on("RCPT", "550 5.7.1 not today", times=len(people))
    office.postman(sink.port).deliver()
    office.now += 2 * WAIT
    return [one for one in ids(office) if one not in before]


def ids(office: PostOffice) -> list[int]:
    return [row["id"] for row in office.rows()]


def resend(office: PostOffice, *delivery_ids: int) -> Moved:
    with writing(office.engine) as connection:
        return resolving.resend(
            connection,
            delivery_ids,
            answered_by=office.now - WAIT,
            give_up_at=office.now + DAY,
            now=office.now,
        )


def settle(office: PostOffice, *delivery_ids: int, state: State = State.SENT) -> Moved:
    with writing(office.engine) as connection:
        return resolving.settle(connection, delivery_ids, state=state, now=office.now)


def alter(office: PostOffice, table: Table, **values: Any) -> None:
    with writing(office.engine) as connection:
        connection.execute(update(table).values(values))


def find(office: PostOffice, delivery_id: int) -> Delivery | None:
    with reading(office.engine) as connection:
        return resolving.find(connection, delivery_id)


def attempts_of(office: PostOffice, delivery_id: int) -> list[Attempt]:
    with reading(office.engine) as connection:
        return resolving.attempts_of(connection, delivery_id)


# ------------------------------------------------------------------ sending again


def test_unknown_mail_is_sent_again_as_it_was(office: PostOffice, sink: Sink) -> None:
    first, second, third = lose(office, sink)
    assert office.postman(sink.port).deliver().states == {}  # not by itself
    office.now += 2 * DAY  # its time was over
    assert resend(office, second, first) == Moved(moved=[first, second])
    office.check()
    assert office.postman(sink.port).deliver().states == {State.SENT: 2}
    office.check()
    assert [row["state"] for row in office.rows()] == ["sent", "sent", "unknown"]
    by_person: dict[str, list[bytes]] = {}
    for mail in sink.arrived:
        by_person.setdefault(mail.recipients[0], []).append(mail.content)
    assert [len(contents) for contents in by_person.values()] == [2, 2, 1]
    for once, *again in by_person.values():
        assert email.message_from_bytes(once)["Message-ID"]
        assert again in ([], [once])
    assert [one.outcome for one in attempts_of(office, first)] == [State.UNKNOWN, State.SENT]
    assert resend(office, third).moved == [third]


def test_failed_mail_is_sent_again(office: PostOffice, sink: Sink) -> None:
    [failed] = refuse(office, sink, office.people[0])
    assert resend(office, failed).moved == [failed]
    row = office.rows()[0]
    assert (row["state"], row["reason"], row["give_up_at"]) == (
        "deferred",
        "resend",
        office.now + DAY,
    )
    assert office.postman(sink.port).deliver().states == {State.SENT: 1}


def test_account_mail_is_sent_again(office: PostOffice, sink: Sink) -> None:
    office.account_mail(office.people[0])
    sink.on(".", close=True, times=1)
    office.postman(sink.port).deliver()
    office.now += 2 * WAIT
    [lost] = ids(office)
    assert resend(office, lost).moved == [lost]
    assert office.postman(sink.port).deliver().states == {State.SENT: 1}


@pytest.mark.parametrize("change", [{"status": Status.UNSUBSCRIBED}, {"address": "b@example.org"}])
def test_who_left_meanwhile_gets_nothing(
    change: Mapping[str, Any], office: PostOffice, sink: Sink
) -> None:
    ada = office.people[0]
    [lost] = lose(office, sink, ada)
    office.change(ada, **change)
    assert resend(office, lost).moved == [lost]
    assert office.postman(sink.port).deliver().states == {State.SKIPPED: 1}
    assert len(sink.arrived) == 1


LEFT: dict[str, tuple[Callable[[PostOffice], object], str]] = {
    "its digest was emptied": (
        lambda office: alter(office, schema.digest, skeleton=None, personal={}),
        "what it held was forgotten or erased",
    ),
    "its person was erased": (
        lambda office: alter(office, schema.delivery, address=""),
        "what it held was forgotten or erased",
    ),
    "its answer may come": (
        lambda office: alter(office, schema.delivery, ended_at=office.now - WAIT + MINUTE),
        "its answer may still come",
    ),
    "it is sent": (
        lambda office: settle(office, *ids(office)),
        "it is sent, neither unknown nor failed",
    ),
}


@pytest.mark.parametrize(("change", "words"), LEFT.values(), ids=LEFT)
def test_what_cannot_be_sent_again(
    change: Callable[[PostOffice], object], words: str, office: PostOffice, sink: Sink
) -> None:
    [lost] = lose(office, sink, office.people[0])
    change(office)
    before = office.rows()
    found = resend(office, lost, 4711)
    assert not found.moved
    assert found.left[lost].startswith(words)
    assert found.left[4711].startswith("it is not there")
    assert office.rows() == before


def test_what_a_worker_is_moving_is_left_alone(office: PostOffice, sink: Sink) -> None:
    if office.engine.dialect.name == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    first, second = lose(office, sink, *office.people[:2])
    with writing(office.engine) as connection:
        table = schema.delivery
        connection.execute(select(table).where(table.c.id == first).with_for_update())
        found = resend(office, first, second)
    assert found == Moved(moved=[second], left={first: "it is not there, or just being moved"})


# ------------------------------------------------------------------ no paper twice (invariant 5)


def test_papers_of_a_failed_digest_that_came_again_are_not_repeated(
    office: PostOffice, sink: Sink
) -> None:
    ada, bob, _ = office.people
    hers, his = refuse(office, sink, ada, bob)
    office.now = NOW + DAY
    office.plan(ada, due=NOW + DAY)  # holds what failed yesterday
    found = resend(office, hers, his)
    assert found == Moved(
        moved=[his], left={hers: "another digest since then may hold the same papers"}
    )


def test_of_two_failed_digests_the_later_one_is_sent(office: PostOffice, sink: Sink) -> None:
    [monday] = refuse(office, sink, office.people[0])
    office.now = NOW + DAY
    [tuesday] = refuse(office, sink, office.people[0], due=NOW + DAY)
    assert resend(office, monday, tuesday).moved == [tuesday]
    assert resend(office, monday).left.keys() == {monday}


def test_an_earlier_digest_that_was_sent_after_all_counts_too(
    office: PostOffice, sink: Sink
) -> None:
    [monday] = refuse(office, sink, office.people[0])
    office.now = NOW + DAY
    [tuesday] = refuse(office, sink, office.people[0], due=NOW + DAY)
    alter(office, schema.digest, planned_at=NOW + DAY)
    with writing(office.engine) as connection:  # sent again on Monday night, but not in time
        connection.execute(
            update(schema.delivery)
            .where(schema.delivery.c.id == monday)
            .values(state=State.SENT, ended_at=office.now)
        )
    assert resend(office, tuesday).left.keys() == {tuesday}


def test_what_was_sent_before_is_no_hindrance(office: PostOffice, sink: Sink) -> None:
    office.plan(office.people[0])
    office.postman(sink.port).deliver()
    office.now = NOW + DAY
    [tuesday] = refuse(office, sink, office.people[0], due=NOW + DAY)
    assert resend(office, tuesday).moved == [tuesday]


# ------------------------------------------------------------------ settling


@pytest.mark.parametrize("state", [State.SENT, State.FAILED])
def test_unknown_mail_is_settled(state: State, office: PostOffice, sink: Sink) -> None:
    first, second, third = lose(office, sink)
    assert settle(office, first, third, state=state) == Moved(moved=[first, third])
    rows = office.rows()
    assert [row["state"] for row in rows] == [state, "unknown", state]
    assert (rows[0]["reason"], rows[0]["ended_at"]) == ("settled", office.now)
    found = settle(office, first, second, state=state)
    assert found == Moved(moved=[second], left={first: f"it is {state}, not unknown"})
    with reading(office.engine) as connection:
        assert resolving.unknown(connection) == []
    # What was tried stays as it was.
    assert [one.outcome for one in attempts_of(office, first)] == [State.UNKNOWN]


# ------------------------------------------------------------------ looking


def test_what_is_in_trouble_is_listed_newest_first(office: PostOffice, sink: Sink) -> None:
    ada, bob, cy = office.people
    [lost] = lose(office, sink, ada)
    [failed] = refuse(office, sink, bob, due=NOW + MINUTE)
    office.plan(cy, due=NOW + 2 * MINUTE)
    sink.on("RCPT", "451 4.7.1 later", times=1)
    office.postman(sink.port).deliver()
    deferred = ids(office)[-1]

    def listed(*states: State, **more: Any) -> list[int]:
        values = {"due_after": NOW - DAY, "limit": 100, **more}
        with reading(office.engine) as connection:
            return [one.id for one in resolving.troubled(connection, states, **values)]

    assert listed(State.UNKNOWN, State.FAILED, State.DEFERRED) == [deferred, failed, lost]
    assert listed(State.FAILED) == [failed]
    assert listed(State.DEFERRED, State.UNKNOWN, limit=1) == [deferred]
    assert listed(State.UNKNOWN, State.FAILED, due_after=NOW) == [failed]


def test_a_delivery_is_shown_with_its_attempts(office: PostOffice, sink: Sink) -> None:
    ada = office.people[0]
    office.plan(ada)
    sink.on("RCPT", f"451 4.7.1 <{address_of(0)}> later", times=1)
    office.postman(sink.port).deliver()
    office.now += POLICY.retry[0] + MINUTE
    office.postman(sink.port).deliver()
    [row] = office.rows()
    found = find(office, row["id"])
    assert found is not None
    assert (found.kind, found.subscriber_id, found.slot) == ("digest", ada, NOW.date())
    assert (found.state, found.address, found.attempts) == (State.SENT, address_of(0), 2)
    relay = f"127.0.0.1:{sink.port}"
    first, second = attempts_of(office, row["id"])
    assert (first.outcome, first.relay, first.provider) == (State.DEFERRED, relay, "example.org")
    assert (first.code, first.enhanced, first.text) == (451, "4.7.1", "4.7.1 <recipient> later")
    assert second.outcome is State.SENT
    assert second.started_at > first.started_at
    assert find(office, 4711) is None
    assert attempts_of(office, 4711) == []
    mail = find(office, office.account_mail(ada))
    assert mail is not None
    assert (mail.kind, mail.slot, mail.state) == ("confirm", None, State.PLANNED)
