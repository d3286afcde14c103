"""Delivering: from frozen digests to a mail server that is slow, broken, or gone."""

from __future__ import annotations

import gc
import logging
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, delete, func, select, text, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from digest import schema
from digest.delivery import Server
from digest.errors import Busy, DeliveryError
from digest.models import Frequency, Message, State, Status, Wishes
from digest.pipeline import lease, sending
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Exchanged, Order
from digest.pipeline.deciding import decide
from digest.pipeline.sending import Delivered
from digest.pipeline.testing import send_test
from digest.rendering import Assembler
from digest.storage import contents, erasing, ledger, subscribers
from digest.storage.claims import Claim
from digest.storage.contents import Content
from digest.storage.database import reading, writing
from digest.storage.digests import names_of
from tests.house import KEY, make_house
from tests.post_office import DAY, HELD, NOW, SITE, PostOffice, address_of
from tests.replay import Replay
from tests.sink import Sink, Step
from tests.watching import Watching, got, wait_until

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "templates"
MINUTE = timedelta(minutes=1)
ADA = address_of(0)


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    found = PostOffice(engine, tmp_path)
    found.move_in(8)
    return found


# ------------------------------------------------------------------ what becomes of an error

STEPS = [timedelta(minutes=step) for step in (5, 15, 30)]


def decided(
    error: DeliveryError,
    *,
    attempts: int = 0,
    jitter: float = 0.0,
    time_left: timedelta = timedelta(hours=2),
    losses: int = 0,
    others_pass: bool = False,
) -> ledger.Result:
    claim = Claim(
        delivery_id=1,
        claim=1,
        provider="example.org",
        priority=1,
        attempts=attempts,
        losses=losses,
        give_up_at=NOW + time_left,
    )
    return decide(
        error,
        Order(claim=claim, content=Content({}, "", (), ()), route_id=1),
        seconds=0.1,
        retry=STEPS,
        jitter=jitter,
        others_pass=others_pass,
        now=NOW,
    )


@pytest.mark.parametrize(
    ("attempts", "jitter", "wait"),
    [(0, 0.0, 5.0), (0, 1.0, 5.5), (1, 0.0, 15.0), (2, 0.0, 30.0), (3, 0.0, 30.0), (9, 0.5, 31.5)],
)
def test_the_waits_between_attempts(attempts: int, jitter: float, wait: float) -> None:
    error = DeliveryError("4.2.1 Later", code=450)
    found = decided(error, attempts=attempts, jitter=jitter)
    assert (found.state, found.spent) == (State.DEFERRED, True)
    assert found.next_attempt_at == NOW + timedelta(minutes=wait)
    assert (found.code, found.enhanced, found.text) == (450, "4.2.1", "4.2.1 Later")


def test_a_wait_that_ends_too_late_is_the_end() -> None:
    late = decided(DeliveryError("4.2.1 Later", code=450), time_left=5 * MINUTE)
    assert (late.state, late.reason, late.spent) == (State.FAILED, "gave up", True)


@pytest.mark.parametrize(
    ("error", "attempts", "state", "reason", "spent"),
    [
        (DeliveryError("No", code=550, permanent=True), 0, State.FAILED, "refused", True),
        (DeliveryError("?", unknown=True), 0, State.UNKNOWN, "no answer", True),
        (DeliveryError("Bye", code=421, host=True), 0, State.PLANNED, "mail server", False),
        (DeliveryError("Bye", code=421, host=True), 2, State.DEFERRED, "mail server", False),
        (
            DeliveryError("No", code=535, host=True, permanent=True),
            0,
            State.PLANNED,
            "mail server",
            False,
        ),
    ],
)
def test_whose_fault_it_is(
    error: DeliveryError, attempts: int, state: State, reason: str, spent: bool
) -> None:
    found = decided(error, attempts=attempts)
    assert (found.state, found.reason, found.spent) == (state, reason, spent)


# ------------------------------------------------------------------ refused, deferred, sent


def test_twice_not_now_then_yes_is_one_mail_and_three_attempts(
    office: PostOffice, sink: Sink
) -> None:
    office.plan(office.people[0])
    sink.on("RCPT", f"451 4.7.1 <{ADA.upper()}> greylisted", times=2)
    postman = office.postman(sink.port)
    for _ in range(40):
        postman.deliver()
        office.check()
        office.now += MINUTE
    assert got(sink) == {ADA: 1}
    [row] = office.rows()
    assert (row["state"], row["attempts"], row["code"], row["reason"]) == ("sent", 3, 250, "")
    tried = office.attempts()
    assert [(one["outcome"], one["code"], one["enhanced"], one["text"]) for one in tried] == [
        ("deferred", 451, "4.7.1", "4.7.1 <recipient> greylisted"),
        ("deferred", 451, "4.7.1", "4.7.1 <recipient> greylisted"),
        ("sent", 250, "2.0.0", "2.0.0 Kept"),
    ]
    gaps = [tried[n + 1]["started_at"] - tried[n]["started_at"] for n in range(2)]
    assert [round(gap / MINUTE) for gap in gaps] in ([5, 15], [6, 15], [6, 16], [5, 16], [6, 17])
    with reading(office.engine) as connection:
        ways_taken = connection.execute(select(schema.route).where(schema.route.c.provider != ""))
        [way] = ways_taken.mappings()
    assert {one["route_id"] for one in tried} == {way["id"]}
    assert (way["relay"], way["provider"]) == (f"127.0.0.1:{sink.port}", "example.org")


def test_not_ever_is_final_with_the_servers_words(
    office: PostOffice, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    office.plan()
    sink.on("RCPT", f"550 5.1.1 <{ADA}>: no such user", recipient=ADA)
    assert office.postman(sink.port).deliver().states == {State.SENT: 7, State.FAILED: 1}
    assert got(sink) == {address_of(number): 1 for number in range(1, 8)}
    row = office.rows()[0]
    assert (row["state"], row["reason"], row["code"]) == ("failed", "refused", 550)
    assert row["text"] == "5.1.1 <recipient>: no such user"
    office.now += 2 * DAY
    assert office.postman(sink.port).deliver().states == {}
    ours = [record for record in caplog.records if record.name.startswith("digest")]
    assert len(ours) == 1
    assert not any("@example.org" in record.getMessage() for record in ours)


def test_the_wire_address_is_taken_out_of_the_words_too(office: PostOffice, sink: Sink) -> None:
    office.change(office.people[0], address="Ada@Bücher.Example")
    office.plan(office.people[0])
    sink.on("RCPT", "550 5.1.1 <ada@xn--bcher-kva.example> is gone")
    office.postman(sink.port).deliver()
    assert [row["text"] for row in office.rows()] == ["5.1.1 <recipient> is gone"]


def test_it_gives_up_in_time(office: PostOffice, sink: Sink) -> None:
    office.plan(office.people[0], give_up=timedelta(hours=1))
    sink.on("DATA", "452 4.2.2 Full")
    for _ in range(90):
        office.postman(sink.port).deliver()
        office.now += MINUTE
    [row] = office.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "gave up", 4)
    assert row["text"] == "4.2.2 Full"


def test_what_no_server_took_in_time_is_superseded(office: PostOffice, sink: Sink) -> None:
    office.plan(office.people[0], give_up=timedelta(hours=1))
    sink.on("CONNECT", "421 4.3.2 Down", close=True)
    office.postman(sink.port).deliver()
    office.now += timedelta(hours=1)
    assert office.postman(sink.port).deliver() == Delivered()
    [row] = office.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("skipped", "superseded", 0)


def test_the_attempt_is_on_disk_when_the_content_arrives(office: PostOffice) -> None:
    seen: dict[str, list[tuple[str, bool]]] = {}

    def look(step: str, recipients: list[str]) -> None:
        if step != ".":
            return
        with reading(office.engine) as connection:
            rows = schema.delivery
            found = connection.execute(
                select(rows.c.state, rows.c.started_at).where(rows.c.address == recipients[0])
            )
            seen[recipients[0]] = [(row.state, row.started_at is not None) for row in found]

    office.plan()
    with Watching(look) as sink:
        office.postman(sink.port, connections=3).deliver()
    assert seen == {address_of(number): [("sending", True)] for number in range(8)}


def test_a_lost_answer_is_unknown_and_never_sent_again(office: PostOffice, sink: Sink) -> None:
    office.plan()
    sink.on(".", recipient=ADA, close=True)
    assert office.postman(sink.port).deliver().states == {State.SENT: 7, State.UNKNOWN: 1}
    office.now += timedelta(hours=3)
    office.postman(sink.port).deliver()
    assert got(sink) == {address_of(number): 1 for number in range(8)}
    row = office.rows()[0]
    assert (row["state"], row["reason"], row["attempts"]) == ("unknown", "no answer", 1)
    office.check()


# ------------------------------------------------------------------ the server's own trouble


def test_the_servers_trouble_spends_nobodys_attempts(office: PostOffice, sink: Sink) -> None:
    office.plan()
    steps: tuple[Step, ...] = ("CONNECT", "EHLO", "MAIL", "RCPT", "DATA", ".")
    troubles = [(step, reply) for step in steps for reply in ("421 4.3.2 Closing", "")]
    troubles.remove((".", ""))  # that is a lost answer
    for number, (step, reply) in enumerate(troubles, start=1):
        sink.on(step, reply, close=True)
        delivered = office.postman(sink.port).deliver()
        assert delivered.states == {}, (step, reply)
        assert delivered.problem
        assert delivered.problem.startswith(reply)
        assert sink.connections == number  # the first trouble ends the pass
        office.check()
        sink.on(step)
        office.now += 2 * MINUTE
    assert {(row["state"], row["attempts"]) for row in office.rows()} == {("planned", 0)}
    assert sink.mails == []
    assert office.postman(sink.port).deliver().states == {State.SENT: 8}


def test_the_servers_trouble_is_told_without_the_address(
    office: PostOffice, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    office.plan(office.people[0])
    sink.on("RCPT", f"421 4.7.0 Too much for <{ADA}>")
    told = "421 4.7.0 Too much for <recipient>"
    assert office.postman(sink.port).deliver().problem == told
    with reading(office.engine) as connection:
        assert connection.execute(select(schema.run.c.error)).scalar_one() == told
    assert ADA not in " ".join(record.getMessage() for record in caplog.records)


def test_a_wrong_password_waits_for_the_right_one(office: PostOffice) -> None:
    office.plan()
    with Sink(login=("postbote", "s3cret")) as sink:
        wrong = office.postman(sink.port, server={"user": "postbote", "password": "wrong"})
        assert wrong.deliver().problem.startswith("535 ")
        assert office.states() == {State.PLANNED: 8}
        assert office.attempts() == []
        right = office.postman(sink.port, server={"user": "postbote", "password": "s3cret"})
        assert right.deliver().states == {State.SENT: 8}


def test_back_off_keeps_off_grows_and_ends(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    office.plan()
    sink.on("CONNECT", "421 4.3.2 Down", close=True, times=3)
    postman = office.postman(sink.port)
    assert postman.deliver().problem == "421 4.3.2 Down"
    assert postman.deliver().problem == "421 4.3.2 Down"
    assert sink.connections == 1  # within the wait nobody asks
    for _ in range(2):
        monkeypatch.setattr(postman._ways[0], "_not_before", 0.0)
        postman.deliver()
    waits = [line.split(" s: ")[0].rpartition(" ")[2] for line in caplog.messages if " s: " in line]
    assert waits == ["5", "10", "20"]
    monkeypatch.setattr(postman._ways[0], "_not_before", 0.0)
    sink.on("RCPT", "421 4.7.0 Enough", recipient=address_of(5), times=1)
    # One connection's end, while messages get through, is not the server's.
    assert postman.deliver() == Delivered(states={State.SENT: 7})
    sink.on("CONNECT", "421 4.3.2 Down again", close=True, times=1)
    office.now += 2 * MINUTE
    assert postman.deliver().problem == "421 4.3.2 Down again"
    waits = [line.split(" s: ")[0].rpartition(" ")[2] for line in caplog.messages if " s: " in line]
    assert waits[3:] == ["5"]  # it worked meanwhile, so the wait begins anew


def test_fewer_connections_than_wished_for_do_the_work(office: PostOffice, sink: Sink) -> None:
    office.plan()
    sink.on("CONNECT", "421 4.7.0 Too many connections", close=True, times=3)
    delivered = office.postman(sink.port, connections=4).deliver()
    assert delivered == Delivered(states={State.SENT: 8})
    assert sink.connections == 4


def test_when_no_connection_can_be_had_all_stop(office: PostOffice, sink: Sink) -> None:
    office.plan()
    sink.on("CONNECT", "421 4.7.0 Too many connections", close=True)
    delivered = office.postman(sink.port, connections=4).deliver()
    assert delivered.problem == "421 4.7.0 Too many connections"
    assert sink.connections == 4
    assert office.states() == {State.PLANNED: 8}
    assert {row["worker_id"] for row in office.rows()} == {None}


def test_a_server_that_closes_after_each_message_is_no_trouble(
    office: PostOffice, sink: Sink
) -> None:
    office.plan()
    sink.on(".", "250 2.0.0 Kept, and good bye", close=True)
    assert office.postman(sink.port, connections=2).deliver() == Delivered(states={State.SENT: 8})
    assert sink.connections == 8


def test_nothing_due_writes_nothing(office: PostOffice, sink: Sink) -> None:
    office.plan(due=NOW + DAY)
    postman = office.postman(sink.port)
    for _ in range(3):
        assert postman.deliver() == Delivered()
    with reading(office.engine) as connection:
        for table in (schema.worker, schema.run):
            assert connection.execute(select(table)).all() == []
    assert sink.connections == 0


# ------------------------------------------------------------------ who goes first, and who not


class Late(LocalBooks):
    """Results are stored after the next look for rows."""

    def exchange(self, *args: Any) -> Exchanged:
        time.sleep(0.3)
        return super().exchange(*args)


def test_a_pass_ends_with_its_last_answer(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sending, "_IDLE", 3600.0)  # nothing waits for the next look ...
    monkeypatch.setattr(lease, "BEAT", 3600.0)  # ... or heartbeat
    office.plan()
    postman = office.postman_of([office.relay(sink.port, connections=8)], keeping=Late)
    assert postman.deliver() == Delivered(states={State.SENT: 8})


def test_nothing_is_left_of_a_pass(office: PostOffice, sink: Sink) -> None:
    """It holds itself in cycles, and the collector was told to look seldom."""

    def passes() -> set[int]:
        return {id(one) for one in gc.get_objects() if isinstance(one, sending.Pass)}

    office.plan()
    gc.disable()
    try:
        others = passes()
        office.postman(sink.port, connections=4).deliver()
        assert passes() <= others
    finally:
        gc.enable()


def test_garbage_of_others_is_not_kept_where_pages_are_served(
    office: PostOffice, sink: Sink
) -> None:
    """The server of pages freezes what is there; each pass freezes what is there then."""

    class Page:
        """Something that holds itself."""

    def answer() -> weakref.ref[Page]:
        page = Page()
        page.itself = page  # type: ignore[attr-defined]
        return weakref.ref(page)

    office.plan()
    gc.freeze()
    try:
        left = answer()
        office.postman(sink.port).deliver()
        assert left() is None
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()


def test_account_mail_overtakes_a_long_run(office: PostOffice) -> None:
    office.move_in(192)
    office.plan()
    asked = threading.Event()

    def look(step: str, recipients: list[str]) -> None:
        if step == "." and len(sink.arrived) == 10 and not asked.is_set():
            asked.set()
            office.account_mail(office.people[-1])

    with Watching(look) as sink:
        assert office.postman(sink.port, connections=2).deliver().states == {State.SENT: 201}
        subjects = [b"Subject: Your confirm" in mail.content for mail in sink.mails]
    assert subjects.count(True) == 1
    assert 10 <= subjects.index(True) <= 50  # behind what was claimed already


def test_one_slow_answer_does_not_hold_back_what_falls_due_meanwhile(
    office: PostOffice, sink: Sink
) -> None:
    office.plan(office.people[0])
    sink.on(".", recipient=ADA, delay=60)
    postman = office.postman(sink.port, connections=2, server={"final_timeout": 4.0})
    delivery = threading.Thread(target=postman.deliver)
    delivery.start()
    wait_until(lambda: len(sink.arrived) == 1)
    office.account_mail(office.people[1])
    office.plan(office.people[2])
    wait_until(lambda: len(sink.arrived) == 3)
    assert office.rows()[0]["state"] == "sending"  # its answer is still waited for
    delivery.join()
    assert [mail.recipients for mail in sink.arrived] == [
        (ADA,),
        (address_of(1),),
        (address_of(2),),
    ]
    assert office.states() == {State.UNKNOWN: 1, State.SENT: 2}


BARS: dict[str, Callable[[PostOffice, int], None]] = {
    "unsubscribed": lambda office, who: office.change(who, status=Status.UNSUBSCRIBED),
    "paused": lambda office, who: office.change(who, paused_until=NOW + DAY),
    "complained": lambda office, who: office.suppress(who, "complained"),
    "address changed": lambda office, who: office.change(who, address="new@example.org"),
}


@pytest.mark.parametrize("reason", BARS)
@pytest.mark.parametrize("when", ["after planning", "after the claim"])
def test_who_wants_no_mail_gets_none(
    office: PostOffice, sink: Sink, reason: str, when: str
) -> None:
    office.plan()
    office.account_mail(office.people[0])
    bars = [lambda: BARS[reason](office, office.people[0])]

    class Composer(Assembler):
        def assemble(self, personal: Any, skeleton: Any, *parts: Any) -> Message:
            # A row is composed after its claim and before its last check.
            if personal["address"] == ADA and personal["unsubscribe_url"] and bars:
                bars.pop()()
            return super().assemble(personal, skeleton, *parts)

    if when == "after planning":
        bars.pop()()
    delivered = office.postman(sink.port, composer=Composer()).deliver()
    assert delivered.states == {State.SENT: 8, State.SKIPPED: 1}
    [skipped] = [row for row in office.rows() if row["state"] == State.SKIPPED]
    assert (skipped["address"], skipped["reason"]) == (ADA, reason)
    assert [
        b"Your confirm" in mail.content for mail in sink.mails if mail.recipients == (ADA,)
    ] == [True]
    office.check()


def test_leaving_by_the_link_is_kept(office: PostOffice, sink: Sink) -> None:
    office.plan()
    with writing(office.engine) as connection:
        subscribers.unsubscribe(connection, office.people[0], now=NOW, detail="by the link")
    office.postman(sink.port).deliver()
    assert ADA not in got(sink)


# ------------------------------------------------------------------ one bad thing stops only itself


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda c, t: c.execute(delete(t).where(t.c.kind == "card")), id="no card"),
        pytest.param(
            lambda c, t: c.execute(update(t).where(t.c.kind == "card").values(html=b"\xff")),
            id="no text",
        ),
    ],
)
def test_a_poison_digest_fails_alone(
    office: PostOffice, sink: Sink, break_it: Callable[..., object], caplog: Any
) -> None:
    office.plan()
    # Only the first names the part that breaks.
    with writing(office.engine) as connection:
        table, parts = schema.digest, schema.part
        good = connection.execute(select(parts).where(parts.c.kind == "card")).mappings().one()
        connection.execute(parts.insert().values({**good, "hash": "9" * 64, "kind": "safe"}))
        first = select(func.min(table.c.id)).scalar_subquery()
        safe = names_of([("9" * 64, True)])
        connection.execute(update(table).where(table.c.id > first).values(parts=safe))
        break_it(connection, parts)
    delivered = office.postman(sink.port, connections=2).deliver()
    assert delivered.states == {State.SENT: 7, State.FAILED: 1}
    row = office.rows()[0]
    assert (row["state"], row["reason"], row["attempts"]) == ("failed", "poison", 0)
    assert "log" in row["text"]
    assert office.attempts()[0]["delivery_id"] != row["id"]
    assert office.postman(sink.port).deliver() == Delivered()
    assert ADA not in caplog.text
    office.check()


def test_a_claim_whose_contents_cannot_be_read_is_not_lost(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.plan()
    locked = OperationalError("SELECT", {}, Exception("database is locked"))
    read, failures = contents.frozen, [locked]

    def frozen(connection: Connection, delivery_ids: Collection[int]) -> dict[int, Content]:
        if failures:
            raise failures.pop()
        return read(connection, delivery_ids)

    monkeypatch.setattr(contents, "frozen", frozen)
    delivered = office.postman(sink.port, connections=2).deliver()
    assert delivered == Delivered(states={State.SENT: 8})
    assert failures == []
    office.check()


def test_who_is_erased_while_a_claim_is_read_gets_nothing(
    office: PostOffice, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    office.plan()
    read, gone = contents.frozen, [office.people[0]]

    def frozen(connection: Connection, delivery_ids: Collection[int]) -> dict[int, Content]:
        while gone:
            with writing(office.engine) as other:
                assert erasing.erase(other, gone.pop(), now=NOW)
        with reading(office.engine) as later:
            return read(later, delivery_ids)

    monkeypatch.setattr(contents, "frozen", frozen)
    assert office.postman(sink.port, connections=2).deliver().states[State.SENT] == 7
    assert office.states() == {State.SENT: 7, State.SKIPPED: 1}
    assert {row["reason"] for row in office.rows() if row["state"] == "skipped"} == {"erased"}
    assert "Traceback" not in caplog.text
    office.check()


REFUSE = {
    "sqlite": """
        CREATE TRIGGER refuse BEFORE INSERT ON attempt
        WHEN NEW.delivery_id = 4 AND NEW.outcome = 'sent'
        BEGIN SELECT RAISE(ABORT, 'the disk is full'); END
    """,
    "postgresql": """
        CREATE FUNCTION refuse() RETURNS trigger AS $$ BEGIN
        IF NEW.delivery_id = 4 AND NEW.outcome = 'sent' THEN RAISE 'the disk is full'; END IF;
        RETURN NEW; END $$ LANGUAGE plpgsql;
        CREATE TRIGGER refuse BEFORE INSERT ON attempt FOR EACH ROW EXECUTE FUNCTION refuse()
    """,
}


def test_a_database_that_fails_is_no_poison_and_leaves_nothing_claimed(
    office: PostOffice, sink: Sink
) -> None:
    office.plan()
    with writing(office.engine) as connection:
        connection.execute(text(REFUSE[office.engine.name]))
    with pytest.raises(SQLAlchemyError, match="disk"):
        office.postman(sink.port, connections=2).deliver()
    # What arrived and could not be noted is unknown; nothing is left half done.
    states = office.states()
    assert not set(states) & {*HELD, State.FAILED}
    assert states[State.UNKNOWN] + states.get(State.SENT, 0) == len(sink.arrived)
    with writing(office.engine) as connection:
        on = " ON attempt" if office.engine.name == "postgresql" else ""
        connection.execute(text(f"DROP TRIGGER refuse{on}"))
    office.postman(sink.port).deliver()
    assert got(sink) == {address_of(number): 1 for number in range(8)}
    office.check()


# ------------------------------------------------------------------ stopping, dying, rivals


def test_stop_ends_after_what_is_under_way(office: PostOffice) -> None:
    office.move_in(32)
    office.plan()

    def look(step: str, recipients: list[str]) -> None:
        if step == "." and len(sink.arrived) == 9:
            postman.stop()

    with Watching(look) as sink:
        postman = office.postman(sink.port, connections=3)
        [(state, sent)] = postman.deliver().states.items()
        assert (state, len(sink.mails)) == (State.SENT, sent)
        assert 10 <= sent <= 15  # each connection has one under way, and the next one offered
        assert office.states() == {State.SENT: sent, State.PLANNED: 40 - sent}
        assert postman.deliver().states == {}
        office.check()
        assert office.postman(sink.port).deliver().states == {State.SENT: 40 - sent}


def test_of_three_at_once_nobody_sends_twice(office: PostOffice, sink: Sink) -> None:
    """PostgreSQL has room for them; of SQLite one process at a time delivers."""
    office.move_in(32)
    office.plan()
    sink.on(".", delay=0.1)
    ends: list[int | type[Busy]] = []

    def run() -> None:
        try:
            ends.append(office.postman(sink.port).deliver().states.get(State.SENT, 0))
        except Busy as error:
            ends.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got(sink) == {address_of(number): 1 for number in range(40)}
    if office.engine.name == "sqlite":
        assert sorted(map(str, ends)) == sorted(map(str, [Busy, Busy, 40]))
    else:
        assert sum(sent for sent in ends if isinstance(sent, int)) == 40
    office.check()


def test_others_may_write_meanwhile(office: PostOffice, sink: Sink) -> None:
    office.move_in(32)
    office.plan()
    done = threading.Event()
    written = 0

    def write() -> None:
        nonlocal written
        while not done.is_set():
            with writing(office.engine) as connection:
                connection.execute(update(schema.subscriber).values(max_papers=written % 9))
                written += 1
                time.sleep(0.002)  # a transaction of some length
            time.sleep(0.001)  # SQLite's lock is not fair: leave a gap

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert office.postman(sink.port, connections=4).deliver().states == {State.SENT: 40}
    finally:
        done.set()
        writer.join()
    assert written > 5


@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment_nothing_is_lost_and_nothing_sent_twice(
    office: PostOffice, database_url: str, sink: Sink, seed: int
) -> None:
    """Judged by what the sink received, by address and slot."""
    dice = random.Random(seed)
    office.move_in(100)
    office.plan()
    for person in office.people[::20]:
        office.account_mail(person, request=str(person))
    rows, connections, kills = len(office.rows()), 3, 0
    sink.on(".", delay=0.02)
    command = [sys.executable, "-m", "tests.post_office", database_url, str(sink.port)]
    while True:
        process = subprocess.Popen(
            [*command, str(office.folder), str(connections)], cwd=ROOT, stderr=subprocess.PIPE
        )
        target = len(sink.arrived) + dice.randint(3, 14)
        while len(sink.arrived) < target and process.poll() is None:
            time.sleep(0.002)
        time.sleep(dice.random() * 0.03)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (0, -signal.SIGKILL), errors.decode()
        if process.returncode == 0:
            break
        kills += 1
        office.check()

    def settled() -> bool:
        office.postman(sink.port).deliver()  # on PostgreSQL a lease must run out first
        return not set(office.states()) & set(HELD)

    wait_until(settled, seconds=60)
    states = office.states()
    assert kills >= 3
    assert set(states) <= {State.SENT, State.UNKNOWN}
    assert states.get(State.UNKNOWN, 0) <= kills * connections
    arrived = Counter(
        (mail.recipients[0], b"Your confirm" in mail.content) for mail in sink.arrived
    )
    assert max(arrived.values()) == 1
    for row in office.rows():
        key = (row["address"], row["account_mail_id"] is not None)
        assert arrived[key] == 1 or row["state"] == State.UNKNOWN, "lost"
    assert arrived.total() <= rows
    office.check()


# ------------------------------------------------------------------ frozen


def test_a_retry_is_the_same_mail_whatever_changed_meanwhile(
    tmp_path: Path, database_url: str, sink: Sink, replay: Replay
) -> None:
    house = make_house(tmp_path, database_url, sink, replay.url)
    house.now = datetime(2026, 5, 20, 9, tzinfo=UTC)
    replay.today(house.now.date())
    house.collect()
    house.topic("agents", "agents")
    house.now += timedelta(hours=1)
    wishes = Wishes(
        zone="UTC", hour=10, frequency=Frequency.DAILY, max_papers=8, name="Ada Lovelace"
    )
    house.subscribe(ADA, wishes, "agents")
    assert house.plan().digests == 1
    sink.on(".", "451 4.7.1 Later", times=1)
    house.deliver()
    house.services.engine.dispose()

    templates = tmp_path / "templates"
    shutil.copytree(TEMPLATES, templates)
    changed = 0
    for path in (templates / "email").rglob("*"):
        if path.is_file() and "</body>" in (text := path.read_text("utf-8")):
            path.write_text(text.replace("</body>", "<p>Another foot</p></body>"), "utf-8")
            changed += 1
    assert changed
    again = make_house(
        tmp_path,
        database_url,
        sink,
        replay.url,
        templates_dir=templates,
        secret_key=("7fWc2LqV9xTzB4nKd8RyGmH5sJpQ1uAe", KEY),
        site_name="Another Name",
        sender_address="other@example.org",
        reply_to="answers@example.org",
        postal_address="Another Street",
        base_url="https://elsewhere.example.org",
    )
    with writing(again.services.engine) as connection:
        connection.execute(
            update(schema.paper).values(
                title="Another title", summary="Another summary", signals={"upvotes": 9999}
            )
        )
        connection.execute(update(schema.subscriber).values(name="Another Ada", max_papers=1))
        connection.execute(update(schema.topic).values(name="Another Topic"))
    again.now = house.now + timedelta(minutes=20)
    again.plan()
    assert again.deliver().states == {State.SENT: 1}
    first, second = sink.arrived
    assert not first.accepted
    assert second.accepted
    assert first.sender == second.sender
    assert first.content == second.content
    assert b"Another" not in second.content
    again.services.engine.dispose()


def test_the_test_mail(sink: Sink) -> None:
    receipt = send_test(
        Server(host=sink.host, port=sink.port, tls="none"), ADA, site=SITE, locale="en", now=NOW
    )
    assert receipt.code == 250
    [mail] = sink.mails
    assert mail.recipients == (ADA,)
    assert b"List-Unsubscribe" not in mail.content
    assert b"Subject: Paper Digest: a test email\r\n" in mail.content
