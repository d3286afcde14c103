"""Several mail servers, and the limits of each: judged by what the servers saw, in real time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select, update

from digest import schema
from digest.models import Limits, State
from digest.pipeline import ways
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Drawn, Exchanged
from digest.pipeline.sending import Delivered, Pass
from digest.storage import routes
from digest.storage.database import clock, open_database, reading, writing
from tests.databases import new_database
from tests.post_office import PostOffice, address_of
from tests.raw_sink import RawSink
from tests.sink import Sink
from tests.watching import Watching, got, wait_until

DAY = timedelta(days=1)
LIMITED = Limits(daily=12)


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    return PostOffice(engine, tmp_path)


@pytest.fixture
def other() -> Iterator[Sink]:
    """A second mail server."""
    with Sink() as server:
        yield server


def settle(office: PostOffice, **people: int) -> dict[str, list[str]]:
    """So many people with a digest that is due, by provider; the addresses of each."""
    office.move_in(sum(people.values()))
    table, found, first = schema.delivery, {}, 0
    for name, count in people.items():
        at = office.people[first : first + count]
        found[name] = [address_of(number) for number in range(first, first + count)]
        first += count
        office.plan(*at)
        with writing(office.engine) as connection:
            connection.execute(
                update(table).where(table.c.subscriber_id.in_(at)).values(provider=name)
            )
    return found


class Clocked(Watching):
    """A sink that notes when contents came, and how many connections were open at most."""

    def __init__(self) -> None:
        super().__init__(self.note)
        self.times: list[float] = []
        self.most = 0

    def note(self, step: str, recipients: list[str]) -> None:
        if step == ".":
            self.times.append(time.monotonic())
        self.most = max(self.most, sum(not one.is_closing() for one in self.transports))

    def densest(self, seconds: float) -> int:
        """The most contents in any window of that length."""
        return max(
            sum(start <= one < start + seconds for one in self.times) for start in self.times
        )


@pytest.fixture
def clocked() -> Iterator[Clocked]:
    with Clocked() as server:
        yield server


# ------------------------------------------------------------------ which relay


def test_the_second_is_used_while_the_first_is_down_and_no_longer(
    office: PostOffice, sink: Sink, other: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "BACK_OFF", (0.5, 0.5))
    settle(office, a=80)  # more than are claimed at once
    first, second = office.relay(sink.port), office.relay(other.port, priority=1)
    sink.on("CONNECT", "421 4.3.2 Down", close=True, times=1)
    other.on(".", delay=0.05)
    delivered = office.postman_of([first, second]).deliver()
    assert delivered.states == {State.SENT: 80}
    assert delivered.problem == ""
    # In the same pass, and back when the first works again.
    assert len(other.mails) > 0
    assert len(sink.mails) > 0
    assert got(sink) + got(other) == {address_of(number): 1 for number in range(80)}
    office.check()


@pytest.mark.parametrize("step", ["CONNECT", "MAIL", "RCPT", "."])
def test_a_few_rows_too_fail_over_in_the_same_pass(
    office: PostOffice, sink: Sink, other: Sink, step: Any
) -> None:
    settle(office, a=3)
    sink.on(step, "421 4.3.2 Down", close=True)
    relays = office.relay(sink.port), office.relay(other.port, priority=1)
    worker = office.postman_of(relays)
    worker.deliver()
    # The one that was under way waits a minute.
    assert len(other.mails) == 3 - (step != "CONNECT")
    office.now += timedelta(minutes=2)
    worker.deliver()
    assert got(other) == {address_of(number): 1 for number in range(3)}


def test_the_second_is_not_used_while_the_first_works(
    office: PostOffice, sink: Sink, other: Sink
) -> None:
    settle(office, a=40)
    office.postman_of([office.relay(sink.port), office.relay(other.port, priority=1)]).deliver()
    assert (len(sink.mails), other.connections) == (40, 0)


def test_equal_ones_share_the_work(office: PostOffice, sink: Sink, other: Sink) -> None:
    settle(office, a=200)
    for server in (sink, other):
        server.on(".", delay=0.005)
    delivered = office.postman_of([office.relay(sink.port), office.relay(other.port)]).deliver()
    assert delivered.states == {State.SENT: 200}
    assert min(len(sink.mails), len(other.mails)) > 50


# ------------------------------------------------------------------ connections and messages


def test_never_more_connections_than_allowed(office: PostOffice, clocked: Clocked) -> None:
    settle(office, a=30, b=30)
    clocked.on(".", delay=0.02)
    asked = office.people[0]
    for request in range(5):
        office.account_mail(asked, request=str(request))
    office.postman_of([office.relay(clocked.port, connections=3)]).deliver()
    assert len(clocked.mails) == 65
    assert clocked.most == 3


def test_never_more_connections_to_a_provider_than_allowed(office: PostOffice) -> None:
    people = settle(office, narrow=20, wide=20)
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def look(step: str, recipients: list[str]) -> None:
        if step in ("RCPT", "."):
            name = "narrow" if recipients[0] in people["narrow"] else "wide"
            under_way[name] += 1 if step == "RCPT" else -1
            most[name] = max(most[name], under_way[name])

    with Watching(look) as sink:
        sink.on("DATA", delay=0.02)
        relay = office.relay(sink.port, connections=4, providers={"narrow": Limits(connections=1)})
        assert office.postman_of([relay]).deliver().states == {State.SENT: 40}
    assert most["narrow"] == 1
    assert most["wide"] > 1


def test_a_connection_carries_so_many_messages(office: PostOffice, sink: Sink) -> None:
    settle(office, a=20)
    office.postman_of([office.relay(sink.port, server={"messages": 4})]).deliver()
    assert Counter(mail.connection for mail in sink.mails) == dict.fromkeys(range(1, 6), 4)


@pytest.mark.parametrize("kind", [Sink, RawSink], ids=["plain", "pipelined"])
def test_a_connection_carries_so_many_messages_to_a_provider(
    office: PostOffice, kind: type[Sink]
) -> None:
    people = settle(office, few=9, many=9)
    with kind() as sink:
        limits = {"few": Limits(messages=2), "*": Limits(messages=7)}
        office.postman_of([office.relay(sink.port, providers=limits)]).deliver()
        carried = Counter(
            (mail.connection, mail.recipients[0] in people["few"]) for mail in sink.mails
        )
        assert len(sink.mails) == 18
    assert max(count for (_, few), count in carried.items() if few) == 2
    assert max(count for (_, few), count in carried.items() if not few) <= 7
    assert sink.connections <= 6


# ------------------------------------------------------------------ rates


def test_never_faster_than_allowed(office: PostOffice, clocked: Clocked) -> None:
    settle(office, a=60)
    office.postman_of([office.relay(clocked.port, connections=8, limits={"rate": 20.0})]).deliver()
    assert len(clocked.mails) == 60
    assert 20 < clocked.densest(2) <= 40


def test_workers_share_a_rate_even_when_one_of_them_is_cut_off(
    postgres_url: str, tmp_path: Path, clocked: Clocked
) -> None:
    url = new_database(postgres_url)
    with ExitStack() as stack:
        offices = []
        for number in range(3):
            engine = open_database(url)
            stack.callback(engine.dispose)
            offices.append(PostOffice(engine, tmp_path / str(number)))
        office = offices[0]
        settle(office, a=80)
        workers = [
            one.postman_of([one.relay(clocked.port, connections=12, limits={"rate": 20.0})])
            for one in offices
        ]
        threads = [threading.Thread(target=worker.deliver) for worker in workers]
        for thread in threads:
            thread.start()
        wait_until(lambda: len(clocked.times) > 20)
        workers[2].halt()
        for thread in threads:
            thread.join()
        assert 20 < clocked.densest(2) <= 40
        assert max(got(clocked).values()) == 1
        assert set(office.states()) <= {State.SENT, State.UNKNOWN}
        office.check()


def test_a_throttled_provider_holds_back_no_other(office: PostOffice, clocked: Clocked) -> None:
    people = settle(office, throttled=500, free=20)
    relay = office.relay(clocked.port, connections=2, providers={"throttled": Limits(rate=2.0)})
    worker = office.postman_of([relay])
    thread = threading.Thread(target=worker.deliver)
    started = time.monotonic()
    thread.start()
    wait_until(lambda: set(people["free"]) <= set(got(clocked)) and len(clocked.mails) > 20)
    worker.stop()
    thread.join()
    assert len(clocked.mails) - 20 <= 2 * (time.monotonic() - started) + 2
    assert set(office.states()) == {State.SENT, State.PLANNED}
    office.check()


def test_a_rate_is_halved_by_a_deferral_and_recovers(office: PostOffice, sink: Sink) -> None:
    settle(office, a=3)
    sink.on("RCPT", "451 4.7.1 Slow down", recipient=address_of(1))
    relay = office.relay(sink.port, providers={"a": Limits(rate=400.0)})
    office.postman_of([relay]).deliver()
    table = schema.route
    mine = table.c.provider == "a"

    def rate() -> float | None:
        with reading(office.engine) as connection:
            found: float | None = connection.execute(select(table.c.rate).where(mine)).scalar_one()
        return found

    assert rate() == 200.0
    expected = [200.0, 250.0, 312.5, 390.625, None]
    for number, higher in enumerate(expected):
        office.account_mail(office.people[0], request=str(number))
        with writing(office.engine) as connection:
            connection.execute(
                update(schema.delivery).where(schema.delivery.c.priority == 0).values(provider="a")
            )
        office.postman_of([relay]).deliver()
        assert rate() == higher
        with writing(office.engine) as connection:  # a minute later
            changed_at = clock(connection) - timedelta(minutes=1)
            connection.execute(update(table).where(mine).values(rate_changed_at=changed_at))


def test_a_full_mailbox_slows_nobody(office: PostOffice, sink: Sink) -> None:
    settle(office, a=3)
    sink.on("RCPT", "452 4.2.2 Full", recipient=address_of(1))
    office.postman_of([office.relay(sink.port)]).deliver()
    with reading(office.engine) as connection:
        assert set(connection.execute(select(schema.route.c.rate)).scalars()) == {None}


# ------------------------------------------------------------------ daily caps


def a_day_later(office: PostOffice) -> None:
    """By the database's clock, which alone counts."""
    table = schema.route
    with writing(office.engine) as connection:
        for row in connection.execute(select(table.c.id, table.c.day)).all():
            if row.day is not None:
                connection.execute(
                    update(table).where(table.c.id == row.id).values(day=row.day - DAY)
                )


@pytest.mark.parametrize("whose", ["relay", "provider"])
def test_so_many_a_day_and_no_more(office: PostOffice, sink: Sink, whose: str) -> None:
    settle(office, a=30)
    office.account_mail(office.people[0])  # for another provider
    limits = {"limits": {"daily": 12}} if whose == "relay" else {"providers": {"a": LIMITED}}
    for day in range(1, 4):
        most = min(31, 12 * day + (whose == "provider"))
        for _ in range(2):  # each is a new one: what was spent is remembered
            delivered = office.postman_of(
                [office.relay(sink.port, connections=3, **limits)]
            ).deliver()
            assert len(sink.mails) == most
        assert delivered == Delivered()
        a_day_later(office)
    assert max(got(sink).values()) <= 2
    office.check()


def test_a_cap_that_is_reached_ends_the_pass_though_account_mail_waits(
    office: PostOffice, sink: Sink
) -> None:
    settle(office, a=1)
    office.postman_of([office.relay(sink.port, limits={"daily": 1})]).deliver()
    office.account_mail(office.people[0])
    office.postman_of([office.relay(sink.port, limits={"daily": 1})]).deliver()
    assert office.states() == {State.SENT: 1, State.PLANNED: 1}
    office.check()


# ------------------------------------------------------------------ troubles


class Slow(LocalBooks):
    """Books on a slow disk: each commit takes a while."""

    seconds = 0.12

    def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
        time.sleep(self.seconds)
        return super().draw(wanted, ahead)

    def exchange(self, *given: Any) -> Exchanged:
        time.sleep(self.seconds)
        return super().exchange(*given)


def test_a_slow_disk_stops_no_limited_relay(office: PostOffice, clocked: Clocked) -> None:
    settle(office, a=30)
    relay = office.relay(clocked.port, connections=4, limits={"rate": 10.0, "daily": 100})
    worker = office.postman_of([relay], keeping=Slow)
    assert worker.deliver(seconds=30).states == {State.SENT: 30}
    assert 6 < clocked.densest(2) <= 20
    assert clocked.connections < 10
    assert len(office.attempts()) == 30
    table = schema.route
    with reading(office.engine) as connection:
        assert set(connection.execute(select(table.c.drawn_today)).scalars()) == {0, 30}


def test_a_throttled_provider_leaves_the_connections_to_others(
    office: PostOffice, clocked: Clocked
) -> None:
    """Its rows get a connection when they may leave, and not before."""
    people = settle(office, throttled=200, free=400)
    relay = office.relay(clocked.port, connections=2, providers={"throttled": Limits(rate=4.0)})
    clocked.on(".", delay=0.005)
    slow = set(people["throttled"])
    worker = office.postman_of([relay])
    thread = threading.Thread(target=worker.deliver)
    thread.start()
    wait_until(lambda: len(set(got(clocked)) - slow) == 400, seconds=60)
    worker.stop()
    thread.join()
    assert clocked.times[-1] - clocked.times[0] < 30  # a free row for a throttled one: 100 s


def test_a_row_is_not_left_to_a_connection_that_ended(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is made for another worker by just that connection which was told of the row."""
    settle(office, a=8)
    sink.on(".", delay=8, times=1)  # the pass goes on as long as one answer is late
    armed, is_spare = threading.Event(), Pass._is_spare

    def ends_once(this: Pass, queue: ways.Queue) -> bool:
        if armed.is_set() and queue.waiting:
            armed.clear()
            return True
        return is_spare(this, queue)

    monkeypatch.setattr(Pass, "_is_spare", ends_once)
    relay = office.relay(sink.port, connections=4)
    thread = threading.Thread(target=office.postman_of([relay]).deliver)
    thread.start()
    # Who waits for the late answer has the next row at hand.
    wait_until(lambda: len(sink.mails) >= 6)
    time.sleep(0.5)
    before = len(sink.mails)
    armed.set()
    office.move_in(1)
    office.plan(office.people[-1])
    wait_until(lambda: len(sink.mails) > before, seconds=4)
    assert not armed.is_set()
    thread.join()
    office.check()


def test_a_wide_limit_costs_no_speed(office: PostOffice, sink: Sink) -> None:
    """A draw is for many messages, not for one."""
    settle(office, a=300)
    asked: Counter[str] = Counter()

    class Counting(LocalBooks):
        def draw(self, wanted: Mapping[int, int], ahead: float) -> dict[int, Drawn]:
            asked["draw"] += 1
            return super().draw(wanted, ahead)

    relay = office.relay(sink.port, connections=4, limits={"rate": 5000.0, "daily": 1_000_000})
    assert office.postman_of([relay], keeping=Counting).deliver().states == {State.SENT: 300}
    assert asked["draw"] < 150


@pytest.mark.parametrize("why", ["daily", "breaker"])
def test_the_second_takes_over_what_the_first_may_not_take(
    office: PostOffice, sink: Sink, other: Sink, why: str
) -> None:
    settle(office, a=15, b=15)
    limits = {"daily": 10} if why == "daily" else {}
    first = office.relay(sink.port, limits=limits, connections=2)
    second = office.relay(other.port, priority=1, connections=2)
    if why == "breaker":
        sink.on("RCPT", "550 5.7.1 Blocked")
    worker = office.postman_of([first, second])
    for _ in range(3):
        worker.deliver()
    assert office.states() == {State.SENT: 30}
    assert len(sink.mails) == (10 if why == "daily" else 0)
    assert set((got(sink) + got(other)).values()) == {1}


def test_who_is_in_trouble_is_tried_by_one_while_the_others_go_on(
    office: PostOffice, sink: Sink, other: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "BACK_OFF", (0.05, 0.05))
    settle(office, a=100)
    sink.on("CONNECT", "421 4.3.2 Down", close=True, times=4)
    sink.on("MAIL", delay=3, times=1)  # it hangs when it is tried again
    other.on(".", delay=0.05)
    first = office.relay(sink.port, connections=4)
    second = office.relay(other.port, priority=1, connections=4)
    thread = threading.Thread(target=office.postman_of([first, second]).deliver)
    thread.start()
    wait_until(lambda: any(line.startswith("MAIL") for line in sink.commands))
    before = len(other.mails)
    wait_until(lambda: len(sink.mails) > 0)
    assert len(other.mails) - before > 20
    thread.join()
    assert got(sink) + got(other) == {address_of(number): 1 for number in range(100)}


def test_a_provider_without_a_limit_has_its_rate_halved(office: PostOffice, sink: Sink) -> None:
    settle(office, a=1)
    office.postman(sink.port).deliver()
    table = schema.route
    with writing(office.engine) as connection:
        [route] = connection.execute(select(table.c.id).where(table.c.provider == "a")).scalars()
        connection.execute(
            insert(schema.attempt),
            [
                {
                    "delivery_id": 1000 + number,
                    "claim": 1,
                    "route_id": route,
                    "started_at": office.now + timedelta(milliseconds=number),
                    "outcome": "sent",
                    "text": "",
                }
                for number in range(3000)  # a thousand a second
            ],
        )
        routes.slow(connection, route, Limits())
        rate = connection.execute(select(table.c.rate).where(table.c.id == route)).scalar_one()
    assert rate == pytest.approx(500, rel=0.01)


def test_a_clock_that_is_set_back_stops_no_limited_way(office: PostOffice, sink: Sink) -> None:
    settle(office, a=10)
    limited = {"rate": 50.0, "daily": 6}
    table = schema.route
    office.postman_of([office.relay(sink.port, limits=limited)]).deliver()
    assert len(sink.mails) == 6
    with writing(office.engine) as connection:
        now = clock(connection)
        connection.execute(
            update(table)
            .where(table.c.provider == "")
            .values(next_at=now + timedelta(hours=1), day=(now + DAY).date())
        )
    # The day that had begun has not begun anew.
    office.postman_of([office.relay(sink.port, limits=limited)]).deliver()
    assert len(sink.mails) == 6
    office.postman_of([office.relay(sink.port, limits={"rate": 50.0})]).deliver()
    assert len(sink.mails) == 10


def test_the_last_allowances_of_a_day_that_expired_are_drawn_again(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine that stood still for a moment."""
    settle(office, a=10)
    draw = LocalBooks.draw
    drawn: list[dict[int, Drawn]] = []

    def late(books: LocalBooks, *given: Any) -> dict[int, Drawn]:
        drawn.append(draw(books, *given))
        if len(drawn) > 1:
            return drawn[-1]
        return {route: replace(one, until=one.since) for route, one in drawn[0].items()}

    monkeypatch.setattr(LocalBooks, "draw", late)
    office.postman_of([office.relay(sink.port, limits={"rate": 50.0, "daily": 6})]).deliver()
    assert len(sink.mails) == 6


def test_connections_that_were_not_allowed_are_tried_again(
    office: PostOffice, clocked: Clocked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "_GRUDGE", 0.5)
    settle(office, a=300)
    clocked.on(".", delay=0.02)
    clocked.on("CONNECT", "421 4.7.0 Too many", close=True, times=3)
    clocked.on("CONNECT", times=1)
    office.postman_of([office.relay(clocked.port, connections=4)]).deliver()
    assert len(clocked.mails) == 300
    assert clocked.most == 4


# ------------------------------------------------------------------ the end of a pass


def test_one_late_answer_does_not_hold_up_who_has_time(office: PostOffice, sink: Sink) -> None:
    settle(office, a=600)
    sink.on(".", delay=0.01)
    sink.on(".", delay=5, recipient=address_of(0))
    delivered = office.postman_of([office.relay(sink.port, connections=3)]).deliver(seconds=0.5)
    assert delivered.stopped
    assert delivered.states[State.SENT] > 200  # what half a second brings, several times over
    office.check()


def test_what_has_not_begun_is_not_waited_for(office: PostOffice, sink: Sink) -> None:
    settle(office, a=20)
    sink.on("MAIL", delay=30)
    worker = office.postman_of([office.relay(sink.port, connections=3)])
    thread = threading.Thread(target=worker.deliver)
    started = time.monotonic()
    thread.start()
    wait_until(lambda: any(line.startswith("MAIL") for line in sink.commands))
    worker.stop()
    thread.join()
    assert time.monotonic() - started < 20
    assert office.states() == {State.PLANNED: 20}
    office.check()


def test_claims_are_for_others_at_once_when_it_is_to_end(office: PostOffice, sink: Sink) -> None:
    settle(office, a=20)
    sink.on(".", delay=3)
    worker = office.postman_of([office.relay(sink.port, connections=2)])
    thread = threading.Thread(target=worker.deliver)
    thread.start()
    wait_until(lambda: len(sink.arrived) > 0)
    worker.stop()
    wait_until(lambda: office.states().keys() <= {State.PLANNED, State.SENDING}, seconds=2.5)
    thread.join()
    assert office.states().keys() == {State.PLANNED, State.SENT}
