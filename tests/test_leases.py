"""Workers side by side: leases that are lost, databases that go away, and work that is shared."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text, update
from sqlalchemy.exc import OperationalError

from digest import schema
from digest.errors import LeaseLost
from digest.models import Limits, State
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Claimed, Drawn, Exchanged, Relay, Standing
from digest.pipeline.delivering import Postman
from digest.storage import house
from digest.storage.database import clock, open_database, writing
from tests.databases import new_database
from tests.post_office import DAY, NOW, POLICY, PostOffice, address_of
from tests.sink import Sink
from tests.watching import Watching, got, wait_until


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    return PostOffice(engine, tmp_path)


@pytest.fixture
def shared(postgres_url: str, tmp_path: Path) -> Iterator[PostOffice]:
    """One that several workers may share: SQLite has one that delivers."""
    engine = open_database(new_database(postgres_url))
    yield PostOffice(engine, tmp_path)
    engine.dispose()


def settle(office: PostOffice, people: int, *, provider: str = "example.org") -> None:
    first = len(office.people)
    office.move_in(people)
    office.plan(*office.people[first:])
    table = schema.delivery
    with writing(office.engine) as connection:
        connection.execute(
            update(table)
            .where(table.c.subscriber_id.in_(office.people[first:]))
            .values(provider=provider)
        )


class Working:
    """A postman at work in a thread of its own."""

    def __init__(self, postman: Postman) -> None:
        self.postman = postman
        self.error: LeaseLost | None = None
        self._thread = threading.Thread(target=self._deliver)
        self._thread.start()

    def _deliver(self) -> None:
        try:
            self.postman.deliver()
        except LeaseLost as error:
            self.error = error

    def join(self) -> None:
        self._thread.join()


# ------------------------------------------------------------------ leases


class Halting(LocalBooks):
    """Of a process that stands still once contents may leave, until it is told to go on."""

    begun = 0  # contents that may leave: one, or two at once

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.go_on = threading.Event()

    def exchange(self, *given: Any) -> Exchanged:
        if self.begun:
            self.go_on.wait()
        done = super().exchange(*given)
        self.begun = self.begun or len(done.begun)
        return done


def test_who_was_taken_for_dead_stops_and_its_late_answers_count(
    shared: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digest.pipeline.lease.BEAT", 3600.0)
    settle(shared, 40)
    relay = shared.relay(sink.port, connections=2)
    books = Halting(shared.engine, [relay], POLICY, clock=lambda: shared.now)
    halted = Working(shared.postman_of([relay], books=books))
    try:
        wait_until(lambda: len(sink.arrived) == books.begun > 0)
        with writing(shared.engine) as connection:
            connection.execute(update(schema.worker).values(heartbeat_at=NOW - DAY))
        with Sink() as elsewhere:
            successor = shared.postman(elsewhere.port)
            assert successor.deliver().states == {State.SENT: 40 - books.begun}
            arrived = got(elsewhere)
        unknown = [row["reason"] for row in shared.rows() if row["state"] == State.UNKNOWN]
        assert unknown == ["crash"] * books.begun
    finally:
        books.go_on.set()
        halted.join()
    assert halted.error is not None
    assert shared.states() == {State.SENT: 40}
    assert got(sink) + arrived == {address_of(number): 1 for number in range(40)}
    assert len(sink.arrived) == books.begun
    shared.check()


def test_what_a_dead_worker_claims_is_not_lost(shared: PostOffice, sink: Sink) -> None:
    """Between being taken for dead and knowing it."""
    settle(shared, 5)
    relay = shared.relay(sink.port)
    books = LocalBooks(shared.engine, [relay], POLICY, clock=lambda: shared.now)
    standing = books.enter()
    with writing(shared.engine) as connection:
        connection.execute(update(schema.worker).values(stopped_at=NOW))
    for work in (lambda: books.claim(relay.name, 5, {}, standing), books.beat):
        with pytest.raises(LeaseLost):
            work()
    assert shared.states() == {State.PLANNED: 5}
    table = schema.delivery
    with writing(shared.engine) as connection:  # as if it had claimed in that very moment
        connection.execute(update(table).values(state=State.CLAIMED, worker_id=books._worker_id))
    books.leave({}, "")
    assert shared.states() == {State.PLANNED: 5}


def test_connections_are_shared_with_whoever_comes(shared: PostOffice, sink: Sink) -> None:
    settle(shared, 400)
    sink.on(".", delay=0.02)

    def open_now() -> int:
        return sum(not transport.is_closing() for transport in sink.transports)

    def both_at_work() -> bool:
        assert open_now() <= 2
        return len({one["worker_id"] for one in shared.attempts()}) == 2

    first = Working(shared.postman(sink.port, connections=2))
    wait_until(lambda: open_now() == 2)
    second = Working(shared.postman(sink.port, connections=2))
    wait_until(both_at_work)  # the first has heard of it, and made room
    third = shared.postman(sink.port, connections=2)
    assert third.deliver().states == {}  # there is no connection for a third
    for one in (first, second):
        one.postman.stop()
    for one in (first, second):
        one.join()
    assert max(got(sink).values()) == 1
    shared.check()


# ------------------------------------------------------------------ a database that goes away


def test_results_wait_for_a_database_that_is_away(shared: PostOffice) -> None:
    settle(shared, 120)
    name = shared.engine.url.database
    admin = open_database(str(shared.engine.url.set(database="postgres").render_as_string(False)))
    gone = threading.Event()

    def look(step: str, recipients: list[str]) -> None:
        if step == "." and len(sink.arrived) == 40:
            gone.set()

    with Watching(look) as sink:
        sink.on(".", delay=0.01)
        worker = Working(shared.postman(sink.port, connections=4))
        assert gone.wait(20)
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
            ends = text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"
            )
            connection.execute(ends, {"name": name})
            # What the connections carry arrives, and no content leaves before that is noted.
            carried = len(sink.arrived)
            threading.Event().wait(2)
            assert len(sink.arrived) <= carried + 4
            connection.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
        worker.join()
        assert got(sink) == {address_of(number): 1 for number in range(120)}
    admin.dispose()
    assert shared.states() == {State.SENT: 120}
    assert len(shared.attempts()) == 120
    shared.check()


# ------------------------------------------------------------------ who comes when


def test_a_long_list_does_not_hold_back_what_falls_due_meanwhile(office: PostOffice) -> None:
    settle(office, 250, provider="long.example")
    office.move_in(1)
    late = address_of(250)

    def look(step: str, recipients: list[str]) -> None:
        if step == "." and len(sink.arrived) == 10 and len(office.rows()) == 250:
            office.plan(office.people[-1])

    with Watching(look) as sink:
        sink.on(".", delay=0.01)
        office.postman(sink.port).deliver()
        order = [mail.recipients[0] for mail in sink.mails]
    assert order.index(late) < 220


class Counting(LocalBooks):
    """Books that count how often they are asked."""

    asked: Counter[str]

    def claim(self, relay: str, room: int, held: Mapping[str, int], standing: Standing) -> Claimed:
        self.asked["claim"] += 1
        return super().claim(relay, room, held, standing)

    def exchange(self, *given: Any) -> Any:
        self.asked["exchange"] += 1
        return super().exchange(*given)

    def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
        self.asked["draw"] += 1
        return super().draw(wanted, ahead)


def counting(office: PostOffice, *relays: Relay) -> tuple[Counter[str], Postman]:
    books = Counting(
        office.engine, relays, POLICY, clock=lambda: office.now, locks=office.folder / "locks"
    )
    books.asked = Counter()
    return books.asked, office.postman_of(relays, books=books)


def _stopped(office: PostOffice, sink: Sink) -> Relay:
    sink.on("RCPT", "550 5.7.1 Blocked")
    office.postman(sink.port).deliver()
    return office.relay(sink.port)


IDLE: dict[str, tuple[Callable[[PostOffice, Sink], Relay], int]] = {
    "stopped": (_stopped, 4),
    "capped": (lambda office, sink: office.relay(sink.port, limits={"daily": 1}), 8),
    "slow": (lambda office, sink: office.relay(sink.port, connections=8, limits={"rate": 2.0}), 30),
    "narrow": (
        lambda office, sink: office.relay(
            sink.port, connections=8, providers={"*": Limits(connections=1)}
        ),
        60,
    ),
}


@pytest.mark.parametrize("why", IDLE)
def test_who_has_to_wait_does_not_ask_all_the_time(
    office: PostOffice, sink: Sink, why: str
) -> None:
    settle(office, 60)
    make, most = IDLE[why]
    relay = make(office, sink)
    sink.on(".", delay=0.1)
    asked, postman = counting(office, relay)
    postman.deliver(seconds=2)
    assert asked["claim"] <= most
    assert asked["exchange"] <= 120
    assert asked["draw"] <= 25
    office.check()


def test_a_failure_while_allowances_are_drawn_ends_the_pass(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(office, 5)
    _, postman = counting(office, office.relay(sink.port, limits={"rate": 50.0}))

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Counting, "draw", fail)
    with pytest.raises(ZeroDivisionError):
        postman.deliver()
    assert office.states() == {State.PLANNED: 5}
    office.check()


def test_a_failure_while_rows_are_claimed_loses_no_answer(office: PostOffice) -> None:
    """What is under way when the pass fails ends, and is noted."""
    settle(office, 80)
    with Sink() as sink:
        sink.on(".", delay=0.05)
        _, postman = counting(office, office.relay(sink.port, connections=4))
        claim = Counting.claim

        def fail(self: Counting, *given: Any) -> Claimed:
            if len(sink.arrived) > 4:
                raise ZeroDivisionError
            return claim(self, *given)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Counting, "claim", fail)
            with pytest.raises(ZeroDivisionError):
                postman.deliver()
        assert len(sink.arrived) > 4
        assert office.states() == {
            State.SENT: len(sink.arrived),
            State.PLANNED: 80 - len(sink.arrived),
        }
    office.check()


# ------------------------------------------------------------------ when it cannot be written


def test_who_cannot_note_the_mark_goes_on(
    office: PostOffice,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A data directory that is full is a matter for the operator, and stops no mail."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("digest.pipeline.lease.BEAT", 0.05)
    monkeypatch.setattr(house, "remember", full)
    settle(office, 20)
    sink.on(".", delay=0.1)
    relay = office.relay(sink.port)
    books = LocalBooks(
        office.engine,
        [relay],
        POLICY,
        clock=lambda: office.now,
        locks=office.folder / "locks",
        data_dir=office.folder,
    )
    assert office.postman_of([relay], books=books).deliver().states == {State.SENT: 20}
    assert "mark could not be noted" in caplog.text


def test_a_heart_that_cannot_beat_ends_the_pass(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digest.pipeline.lease.BEAT", 0.05)
    settle(office, 200)
    sink.on(".", delay=0.05)
    _, worker = counting(office, office.relay(sink.port))

    def fail(_: object) -> Standing:
        raise ZeroDivisionError

    monkeypatch.setattr(Counting, "beat", fail)
    with pytest.raises(ZeroDivisionError):
        worker.deliver()
    assert len(sink.mails) < 50
    office.check()


def test_whose_heartbeat_is_overdue_leaves_the_relay_alone(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("digest.pipeline.lease.BEAT", 0.05)
    monkeypatch.setattr("digest.pipeline.lease._FRESH", 0.3)
    settle(office, 100)
    sink.on(".", delay=0.02)
    _, worker = counting(office, office.relay(sink.port, connections=2))
    beat, since = Counting.beat, time.monotonic()

    def late(books: Counting) -> Standing:
        if 0.5 < time.monotonic() - since < 3:
            raise OperationalError("", {}, Exception("away"))
        return beat(books)

    monkeypatch.setattr(Counting, "beat", late)
    assert worker.deliver().states == {State.SENT: 100}
    assert sink.connections < 10
    assert got(sink) == {address_of(number): 1 for number in range(100)}


def test_a_newcomer_waits_until_room_was_made(shared: PostOffice, sink: Sink) -> None:
    relay = shared.relay(sink.port, connections=4)

    def books() -> LocalBooks:
        return LocalBooks(shared.engine, [relay], POLICY, clock=lambda: shared.now)

    old, new = books(), books()
    assert old.enter().share(4) == 4
    assert new.enter().share(4) == 0
    assert new.beat().share(4) == 0
    assert old.beat().share(4) == 2
    assert new.beat().share(4) == 2
    with writing(shared.engine) as connection:  # the old one has died, which nobody knows yet
        before = clock(connection) - timedelta(seconds=5)
        connection.execute(update(schema.worker).values(heartbeat_at=before))
    assert books().enter().share(4) == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_lock_that_is_held_for_long_costs_no_answer(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(office, 12)
    sink.on(".", delay=0.2)
    exchange = LocalBooks.exchange
    left = 4

    def locked(books: LocalBooks, results: Any, *given: Any) -> Any:
        nonlocal left
        if results and left:
            left -= 1
            raise OperationalError("", {}, sqlite3.OperationalError("database is locked"))
        return exchange(books, results, *given)

    monkeypatch.setattr(LocalBooks, "exchange", locked)
    assert office.postman(sink.port, connections=12).deliver().states == {State.SENT: 12}


def test_one_answer_that_cannot_be_stored_costs_no_other(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(office, 12)
    sink.on(".", delay=0.3)
    exchange = LocalBooks.exchange
    first = min(row["id"] for row in office.rows())

    def refusing(books: LocalBooks, results: Any, *given: Any) -> Any:
        if any(one.delivery_id == first for one in results):
            raise ZeroDivisionError
        return exchange(books, results, *given)

    monkeypatch.setattr(LocalBooks, "exchange", refusing)
    with pytest.raises(ZeroDivisionError):
        office.postman(sink.port, connections=12).deliver()
    states = office.states()
    assert states.pop(State.UNKNOWN) == 1
    assert states[State.SENT] == len(sink.mails) - 1
