"""The circuit breaker: a fault that hits many different recipients is ours, and stops what it must.

Judged by the ledger and by what the mail server received, with the business clock moved.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, select, update

from digest import schema
from digest.models import State, Status
from digest.pipeline.bookkeeping import LocalBooks
from digest.storage import bounces
from digest.storage.breaker import PROBE_LASTS
from digest.storage.database import open_database, reading, writing
from digest.storage.routes import Breaker
from tests.databases import new_database
from tests.post_office import DAY, NOW, POLICY, PostOffice, address_of
from tests.sink import Sink
from tests.watching import got

pytestmark = pytest.mark.long

MINUTE = timedelta(minutes=1)
NOBODY = "550 5.1.1 No such user"
BLOCKED = "550 5.7.1 Blocked"
MANY = 120


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    return PostOffice(engine, tmp_path)


def settle(office: PostOffice, *providers: str, people: int = MANY, start: int = 0) -> None:
    """So many people with a digest that is due, in turn at each of the receiving providers."""
    office.move_in(people)
    for number, provider in enumerate(providers):
        at = office.people[start:][number :: len(providers)]
        table = schema.delivery
        office.plan(*at)
        with writing(office.engine) as connection:
            connection.execute(
                update(table).where(table.c.subscriber_id.in_(at)).values(provider=provider)
            )


def ways(office: PostOffice) -> dict[str, Mapping[str, Any]]:
    """The routes by provider."""
    with reading(office.engine) as connection:
        rows = connection.execute(select(schema.route)).mappings()
        return {row["provider"]: dict(row) for row in rows}


def stopped(office: PostOffice) -> set[str]:
    return {name for name, way in ways(office).items() if way["state"] != Breaker.CLOSED}


def suppressed(office: PostOffice) -> set[str]:
    """The addresses that are suppressed, whose subscribers are `bounced`."""
    people, barred = schema.subscriber, schema.suppression
    with reading(office.engine) as connection:
        rows = connection.execute(
            select(people.c.address).join(barred, barred.c.address_hash == people.c.address_hash)
        )
        found = set(rows.scalars())
        bounced = connection.execute(
            select(people.c.address).where(people.c.status == Status.BOUNCED)
        )
        assert set(bounced.scalars()) == found
    return found


def charged(office: PostOffice) -> list[Mapping[str, Any]]:
    """The rows that wait or failed, and of which an attempt was spent."""
    return [row for row in office.rows() if row["attempts"] and row["state"] != State.SENT]


EVERYBODY = {address_of(number): 1 for number in range(MANY)}
SOME = [f"p{number}.example" for number in range(30)]


@pytest.mark.parametrize("connections", [1, 40], ids=["one connection", "40 connections"])
@pytest.mark.parametrize("providers", [["example.org"], SOME], ids=["one provider", "many"])
@pytest.mark.parametrize("refusal", [NOBODY, "451 4.3.0 Try later", "550 No"])
def test_a_relay_that_refuses_everybody_harms_nobody(
    office: PostOffice, sink: Sink, refusal: str, providers: Sequence[str], connections: int
) -> None:
    settle(office, *providers)
    sink.on("RCPT", refusal)
    postman = office.postman(sink.port, connections=connections)
    postman.deliver()
    office.check()
    where = "" if len(providers) > 1 else providers[0]
    assert where in stopped(office)
    assert (office.states().keys() <= {State.DEFERRED, State.PLANNED}, charged(office)) == (
        True,
        [],
    )
    asked = sink.commands.count("DATA")
    # Each probe is one message, and the waits between them grow.
    probed = []
    for minute in range(1, 60 if connections == 1 else 23):
        office.now += MINUTE
        before = len(recipients(sink))
        postman.deliver()
        office.check()
        probed += [minute] * (len(recipients(sink)) - before)
    assert probed[:3] == [1, 6, 21]
    assert (sink.mails, sink.commands.count("DATA"), charged(office)) == ([], asked, [])
    assert (suppressed(office), State.FAILED in office.states()) == (set(), False)
    # It works again: everybody gets one mail, though some providers may need a try of their own.
    sink.on("RCPT")
    forget_rates(office)
    for _ in range(6):
        office.now += 61 * MINUTE
        office.postman(sink.port, connections=connections).deliver()
    assert office.states() == {State.SENT: MANY}
    assert got(sink) == EVERYBODY
    assert stopped(office) == set()
    office.check()


def forget_rates(office: PostOffice) -> None:
    """Rates that were lowered recover in real time; no test has so much of it."""
    with writing(office.engine) as connection:
        connection.execute(update(schema.route).values(rate=None, rate_changed_at=None))


def recipients(sink: Sink) -> list[str]:
    """Who was named to the mail server, in turn."""
    return [line.partition("<")[2][:-1] for line in sink.commands if line.startswith("RCPT")]


# ------------------------------------------------------------------ bad addresses


@pytest.mark.parametrize("where", ["spread", "first"])
def test_of_a_list_with_dead_addresses_only_these_are_suppressed(
    office: PostOffice, sink: Sink, where: str
) -> None:
    settle(office, "example.org")
    dead = {address_of(n) for n in (range(3, MANY, 10) if where == "spread" else range(12))}
    for address in dead:
        sink.on("RCPT", NOBODY, recipient=address)
    postman = office.postman(sink.port, connections=8)
    office.now += MINUTE
    for _ in range(3):
        postman.deliver()
        assert suppressed(office) <= dead
        office.now += 2 * MINUTE
    assert got(sink) == {address: 1 for address in EVERYBODY if address not in dead}
    failed = {row["address"] for row in office.rows() if row["state"] == State.FAILED}
    assert failed == dead
    # The last ones are believed when the relay has gone on delivering.
    assert len(suppressed(office)) >= (6 if where == "spread" else 0)
    office.now = NOW + DAY
    office.plan(due=office.now)
    postman.deliver()
    postman.deliver()
    assert suppressed(office) == dead
    assert got(sink) == {address: 2 for address in EVERYBODY if address not in dead}
    office.check()


def test_an_address_is_not_believed_to_be_bad_before_the_relay_has_gone_on(
    office: PostOffice, sink: Sink
) -> None:
    settle(office, "example.org", people=60)
    for number in range(52, 60):  # fewer than would stop anything
        sink.on("RCPT", NOBODY, recipient=address_of(number), times=1)
    postman = office.postman(sink.port)
    postman.deliver()
    assert office.states() == {State.SENT: 52, State.FAILED: 8}
    assert suppressed(office) == set()
    office.change(office.people[59], address="moved@example.org")
    office.now = NOW + DAY
    office.plan(*office.people[:12], due=office.now)
    postman.deliver()
    # It went on, so they were bad; but for the one that has another address now.
    assert suppressed(office) == {address_of(number) for number in range(52, 59)}


def test_the_few_of_a_small_house_are_believed_in_time(office: PostOffice, sink: Sink) -> None:
    settle(office, "example.org", people=3)
    sink.on("RCPT", NOBODY, recipient=address_of(0))
    for day in range(5):
        assert suppressed(office) == set()
        office.now = NOW + day * DAY
        office.plan(due=office.now)
        office.postman(sink.port).deliver()
    assert len(sink.mails) == 10
    assert suppressed(office) == {address_of(0)}


# ------------------------------------------------------------------ one provider, or several


@pytest.mark.parametrize("refusal", [BLOCKED, "451 4.7.650 Slow down"])
def test_one_provider_is_stopped_while_another_flows(
    office: PostOffice, sink: Sink, refusal: str
) -> None:
    settle(office, "blocked.example", "flows.example")
    for number in range(0, MANY, 2):
        sink.on("RCPT", refusal, recipient=address_of(number))
    # One refusal of the same kind elsewhere is that recipient's own affair.
    sink.on("RCPT", refusal, recipient=address_of(1))
    office.postman(sink.port, connections=4).deliver()
    assert stopped(office) == {"blocked.example"}
    assert got(sink) == {address_of(number): 1 for number in range(3, MANY, 2)}
    assert [row["address"] for row in charged(office)] == [address_of(1)]
    assert len(set(recipients(sink))) < 60 + 10 + 3 * 4 + 4
    assert suppressed(office) == set()
    office.check()


def test_a_relay_is_stopped_when_several_providers_refuse(office: PostOffice, sink: Sink) -> None:
    settle(office, "a.example", "b.example", "c.example")
    sink.on("RCPT", BLOCKED)
    postman = office.postman(sink.port, connections=2)
    postman.deliver()
    way = ways(office)[""]
    assert (way["state"], way["kind"], way["opened_at"]) == (Breaker.OPEN, "5.7.1", NOW)
    assert charged(office) == []
    # The next tries are made at different providers, those not stopped themselves.
    table = schema.route
    with writing(office.engine) as connection:
        connection.execute(
            update(table)
            .where(table.c.provider == "a.example")
            .values(state=Breaker.OPEN, probe_at=NOW + DAY)
        )
    rows = {row["address"]: row["provider"] for row in office.rows()}
    before = len(recipients(sink))
    for minutes in (1, 5, 15):
        office.now += minutes * MINUTE
        postman.deliver()
    tried = [rows[address] for address in recipients(sink)[before:]]
    assert tried == ["b.example", "c.example", "b.example"]


def test_reasons_hold_no_address(office: PostOffice, sink: Sink, caplog: Any) -> None:
    settle(office, "example.org", people=10)
    for number in range(10):
        words = f"550 5.7.1 <{address_of(number).upper()}>: go away, {address_of(number)}"
        sink.on("RCPT", words, recipient=address_of(number))
    office.postman(sink.port).deliver()
    assert ways(office)["example.org"]["reason"] == (
        "10 of the last 10 recipients were refused with 5.7.1:"
        " 5.7.1 <recipient>: go away, <recipient>"
    )
    assert [record.action for record in caplog.records if record.levelname == "ERROR"] == [
        "breaker"
    ]
    assert "reader" not in caplog.text.lower()


def test_a_row_that_was_charged_before_gets_back_only_what_this_refusal_cost(
    office: PostOffice, sink: Sink
) -> None:
    settle(office, "example.org", people=20)
    sink.on(".", "452 4.2.2 Full", times=1)
    postman = office.postman(sink.port)
    postman.deliver()
    [row] = charged(office)
    sink.on("RCPT", BLOCKED)
    office.now = NOW + DAY - timedelta(hours=1)
    office.plan(due=office.now)
    postman.deliver()
    assert stopped(office) == {"example.org"}
    assert [(one["id"], one["attempts"]) for one in charged(office)] == [(row["id"], 1)]


# ------------------------------------------------------------------ probes


def books(office: PostOffice, sink: Sink) -> LocalBooks:
    """A worker's books."""
    return LocalBooks(
        office.engine,
        [office.relay(sink.port)],
        POLICY,
        clock=lambda: office.now,
        locks=office.folder / "locks",
    )


def open_breaker(office: PostOffice, sink: Sink) -> None:
    """At example.org, whose 20 people wait."""
    settle(office, "example.org", people=20)
    sink.on("RCPT", BLOCKED)
    office.postman(sink.port).deliver()
    assert stopped(office) == {"example.org"}
    sink.on("RCPT")


def test_who_dies_while_probing_does_not_stop_the_way_for_ever(
    office: PostOffice, sink: Sink
) -> None:
    open_breaker(office, sink)
    office.now += MINUTE
    dead = books(office, sink)
    standing = dead.enter()
    [order] = dead.claim(f"{sink.host}:{sink.port}", 10, {}, standing).orders
    assert order.alone
    dead._held.close()  # the lock that falls with its process
    table = schema.worker
    with writing(office.engine) as connection:
        connection.execute(update(table).values(heartbeat_at=NOW - DAY))
    postman = office.postman(sink.port)
    office.now += PROBE_LASTS - MINUTE
    postman.deliver()
    assert sink.mails == []
    office.now += MINUTE
    postman.deliver()
    assert len(sink.mails) == 20
    assert stopped(office) == set()
    office.check()


def test_a_probe_that_did_not_leave_is_made_by_another(office: PostOffice, sink: Sink) -> None:
    open_breaker(office, sink)
    for person in office.people[:19]:
        office.change(person, status=Status.UNSUBSCRIBED)
    office.now += MINUTE
    office.postman(sink.port).deliver()
    assert office.states() == {State.SKIPPED: 19, State.SENT: 1}


def test_a_probe_whose_answer_is_lost_proves_nothing(office: PostOffice, sink: Sink) -> None:
    open_breaker(office, sink)
    sink.on(".", close=True)
    office.now += MINUTE
    office.postman(sink.port).deliver()
    assert stopped(office) == {"example.org"}
    assert office.states()[State.UNKNOWN] == 1


def test_workers_share_what_they_know(office: PostOffice, sink: Sink) -> None:
    """Who did not see the refusals asks no more, and one probe is for all of them."""
    open_breaker(office, sink)
    asked = len(recipients(sink))
    others = [office.postman(sink.port) for _ in range(3)]
    for other in others:
        other.deliver()
    assert len(recipients(sink)) == asked
    sink.on("RCPT", BLOCKED)
    office.now += MINUTE
    for other in others:
        other.deliver()
    assert len(recipients(sink)) == asked + 1


def test_two_at_once_make_one_probe(postgres_url: str, tmp_path: Path, sink: Sink) -> None:
    engine = open_database(new_database(postgres_url))
    office = PostOffice(engine, tmp_path)
    open_breaker(office, sink)
    asked = len(recipients(sink))
    sink.on("RCPT", BLOCKED, delay=0.2)
    office.now += MINUTE
    threads = [threading.Thread(target=office.postman(sink.port).deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(recipients(sink)) == asked + 1
    engine.dispose()


# ------------------------------------------------------------------ one bad message


@pytest.mark.parametrize("step", ["RCPT", "."])
def test_a_message_on_which_the_server_breaks_off_is_charged_alone(
    office: PostOffice, sink: Sink, step: Any
) -> None:
    """`421` to one message again and again, whether it comes first or among others."""
    settle(office, "example.org", people=20)
    sink.on(step, "421 4.3.2 Closing", recipient=address_of(4), close=True)
    postman = office.postman(sink.port)
    for number in range(3):
        assert charged(office) == []
        assert postman.deliver().problem == ""
        office.now += MINUTE
        office.account_mail(office.people[0], request=str(number))
    [row] = charged(office)
    assert (row["address"], row["state"]) == (address_of(4), State.DEFERRED)
    assert (row["attempts"], row["losses"]) == (1, 3)
    assert stopped(office) == set()
    assert len(sink.mails) == 19 + 2
    office.check()


# ------------------------------------------------------------------ several workers, and time


def test_several_workers_at_a_relay_that_refuses_everybody(
    postgres_url: str, tmp_path: Path, sink: Sink
) -> None:
    """Each has refusals at hand when another one stops the way."""
    url = new_database(postgres_url)
    engines = [open_database(url) for _ in range(3)]
    offices = [PostOffice(one, tmp_path / str(place)) for place, one in enumerate(engines)]
    settle(offices[0], "example.org", people=150)
    sink.on("RCPT", NOBODY)
    postmen = [one.postman(sink.port, connections=24) for one in offices]
    threads = [threading.Thread(target=one.deliver) for one in postmen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert offices[0].states().keys() <= {State.DEFERRED, State.PLANNED}
    assert charged(offices[0]) == []
    with reading(engines[0]) as connection:
        verdicts = set(connection.execute(select(schema.bounce.c.verdict)).scalars())
    assert verdicts <= {"withdrawn"}
    for one in engines:
        one.dispose()


def test_all_dead_addresses_are_judged_in_one_pass(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounces, "_AT_ONCE", 3)  # in one transaction
    settle(office, "example.org")
    dead = {address_of(number) for number in range(0, 80, 8)}
    for address in dead:
        sink.on("RCPT", NOBODY, recipient=address)
    office.postman(sink.port).deliver()
    assert suppressed(office) == dead


def test_nobody_is_suppressed_by_a_provider_that_refuses_all_it_gets(
    office: PostOffice, sink: Sink
) -> None:
    """Nine are too few to stop it, though the relay is well; the tenth shows what they were."""
    office.move_in(60)
    sink.on("RCPT", NOBODY)
    for number in range(20, 60):
        sink.on("RCPT", recipient=address_of(number))
    bad, rest = office.people[:9], office.people[20:]
    plan_at(office, "bad.example", *bad)
    plan_at(office, "good.example", *rest)
    office.postman(sink.port).deliver()
    office.now += MINUTE
    office.postman(sink.port).deliver()
    assert office.states() == {State.SENT: 40, State.FAILED: 9}
    assert suppressed(office) == set()
    plan_at(office, "bad.example", *office.people[9:12])
    office.postman(sink.port).deliver()
    assert stopped(office) == {"bad.example"}
    office.now += 4 * DAY
    plan_at(office, "good.example", *rest)
    office.postman(sink.port).deliver()
    assert suppressed(office) == set()


def test_a_few_dead_ones_are_all_that_a_provider_has(office: PostOffice, sink: Sink) -> None:
    office.move_in(40)
    dead, rest = office.people[:3], office.people[3:]
    for number in range(3):
        sink.on("RCPT", NOBODY, recipient=address_of(number))
    plan_at(office, "gone.example", *dead)
    plan_at(office, "good.example", *rest)
    office.postman(sink.port).deliver()
    assert suppressed(office) == set()
    office.now += 4 * DAY
    plan_at(office, "good.example", *rest)
    office.postman(sink.port).deliver()
    assert suppressed(office) == {address_of(number) for number in range(3)}


def plan_at(office: PostOffice, provider: str, *people: int) -> None:
    """A digest that is due now for each, at that provider."""
    table = schema.delivery
    office.plan(*people, due=office.now)
    with writing(office.engine) as connection:
        connection.execute(
            update(table).where(table.c.subscriber_id.in_(people)).values(provider=provider)
        )


@pytest.mark.parametrize("step", ["MAIL", "DATA", "."])
def test_an_address_is_bad_only_by_the_word_on_the_address(
    office: PostOffice, sink: Sink, step: Any
) -> None:
    settle(office, "example.org", people=60)
    sink.on(step, NOBODY, times=3)
    for _ in range(2):
        office.postman(sink.port).deliver()
        office.now += DAY
        office.plan(due=office.now)
    assert len(sink.mails) > 50
    assert suppressed(office) == set()


def test_a_failed_digest_does_not_come_back_beside_a_later_one(
    office: PostOffice, sink: Sink
) -> None:
    """By then planning may have given its papers to another (invariant 5)."""
    settle(office, "example.org", people=20)
    others = office.people[1:]
    table = schema.delivery
    with writing(office.engine) as connection:
        connection.execute(
            update(table)
            .where(table.c.subscriber_id.in_(others))
            .values(next_attempt_at=NOW + timedelta(hours=18))
        )
    sink.on("RCPT", BLOCKED)
    postman = office.postman(sink.port)
    postman.deliver()
    assert office.rows()[0]["state"] == State.FAILED
    office.now = NOW + timedelta(hours=18)
    plan_at(office, "example.org", office.people[0])
    postman.deliver()
    assert stopped(office) == {"example.org"}
    first, *_, last = [row for row in office.rows() if row["subscriber_id"] == office.people[0]]
    assert first["state"] == State.FAILED
    assert last["state"] in (State.DEFERRED, State.PLANNED)


def test_who_takes_only_what_it_has_seen_before_gets_going(office: PostOffice, sink: Sink) -> None:
    """Greylisting: a try with somebody new each time would never succeed."""
    settle(office, "example.org", people=20)
    for number in range(20):
        sink.on("RCPT", "450 4.7.1 Greylisted", recipient=address_of(number), times=1)
    for _ in range(30):
        office.postman(sink.port).deliver()
        forget_rates(office)
        office.now += 20 * MINUTE
    assert office.states() == {State.SENT: 20}


def test_the_books_lay_down_the_right_to_try(office: PostOffice, sink: Sink) -> None:
    open_breaker(office, sink)
    office.now += MINUTE
    mine = books(office, sink)
    [order] = mine.claim(f"{sink.host}:{sink.port}", 10, {}, mine.enter()).orders
    assert order.alone
    mine.leave({}, "")
    office.postman(sink.port).deliver()
    assert len(sink.mails) == 20
