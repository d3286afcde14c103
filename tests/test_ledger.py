"""The ledger's moves: which are possible, who may make them, and that it always adds up."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, insert, select, update

from digest import schema
from digest.models import State, Status
from digest.storage import digests, ledger, runs
from digest.storage.database import reading, writing
from digest.storage.ledger import Claim, Result
from tests.post_office import DAY, HELD, NOW, WAITING, PostOffice, assert_sound, rows

MINUTE = timedelta(minutes=1)


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    found = PostOffice(engine, tmp_path)
    found.move_in(3)
    return found


def work(office: PostOffice) -> int:
    with writing(office.engine) as connection:
        return ledger.start_worker(connection, now=office.now)


def claim(office: PostOffice, worker_id: int, limit: int = 100) -> list[Claim]:
    with writing(office.engine) as connection:
        return ledger.claim(connection, worker_id, now=office.now, limit=limit)


def begin(office: PostOffice, held: Claim) -> State | None:
    with writing(office.engine) as connection:
        return ledger.begin(connection, held, relay="mail:25", now=office.now)


def finish(office: PostOffice, held: Claim, result: Result) -> bool:
    with writing(office.engine) as connection:
        return ledger.finish(connection, held, result, now=office.now)


def result(state: State, **more: Any) -> Result:
    if state in (State.PLANNED, State.DEFERRED):
        more = {"next_attempt_at": NOW + 5 * MINUTE, **more}
    return Result(state=state, seconds=0.5, reason="" if state is State.SENT else "why", **more)


# ------------------------------------------------------------------ the table of moves

OUTCOMES = (State.SENT, State.FAILED, State.UNKNOWN, State.DEFERRED, State.PLANNED)
OPERATIONS: dict[str, Callable[[Connection, Claim], object]] = {
    "claim": lambda c, held: ledger.claim(c, held.worker_id, now=NOW, limit=1),
    "expire": lambda c, held: ledger.expire(c, now=NOW + DAY),
    "give back": ledger.give_back,
    "stop": lambda c, held: ledger.stop_worker(c, held.worker_id, now=NOW),
    "recover": lambda c, held: ledger.recover(c, now=NOW),
    "spoil": lambda c, held: ledger.spoil(c, held, now=NOW),
    "begin": lambda c, held: ledger.begin(c, held, relay="mail:25", now=NOW),
}


def _finishing(state: State) -> Callable[[Connection, Claim], object]:
    return lambda c, held: ledger.finish(c, held, result(state), now=NOW)


OPERATIONS |= {str(state): _finishing(state) for state in OUTCOMES}
MOVES = {
    ("planned", "claim"): "claimed",
    ("planned", "expire"): "skipped",
    ("deferred", "claim"): "claimed",
    ("deferred", "expire"): "failed",
    ("claimed", "begin"): "sending",
    ("claimed", "give back"): "planned",
    ("claimed", "stop"): "planned",
    ("claimed", "recover"): "planned",
    ("claimed", "spoil"): "failed",
    ("sending", "recover"): "unknown",
    **{("sending", str(state)): str(state) for state in OUTCOMES},
    # A late answer, after somebody took over, wins over "nobody knows".
    ("unknown", "sent"): "sent",
    ("unknown", "failed"): "failed",
}


def bring(office: PostOffice, state: State) -> Claim:
    """One digest in that state, by the moves that lead there; the claim under which it came."""
    office.plan(office.people[0], reason="quiet" if state is State.SKIPPED else "")
    worker_id = work(office)
    if state in (State.PLANNED, State.SKIPPED):
        [row] = office.rows()
        return Claim(
            delivery_id=row["id"],
            claim=0,
            worker_id=worker_id,
            attempts=0,
            give_up_at=row["give_up_at"],
        )
    [held] = claim(office, worker_id)
    if state is not State.CLAIMED:
        assert begin(office, held) is State.SENDING
        if state is not State.SENDING:
            assert finish(office, held, result(state, next_attempt_at=NOW))
    return held


def test_every_move_that_is_possible_and_no_other(office: PostOffice) -> None:
    for state in State:
        held = bring(office, state)
        before = office.rows()[0]
        assert before["state"] == state
        office.check()
        for name, operation in OPERATIONS.items():
            with office.engine.connect().execution_options(digest_write=True) as connection:
                transaction = connection.begin()
                operation(connection, held)
                [after] = rows(connection)
                expected = MOVES.get((state, name), state)
                assert after["state"] == expected, (state, name)
                assert_sound(connection)
                if expected == state:
                    assert after == before, (state, name)
                transaction.rollback()
        # Who holds another claim, or is another worker, moves nothing that is held.
        for other in (
            {"claim": held.claim - 1},
            {"claim": held.claim + 1},
            {"worker_id": work(office)},
        ):
            stranger = Claim(**{name: getattr(held, name) for name in Claim.__slots__} | other)
            for name in ("give back", "spoil", "begin", *map(str, OUTCOMES)):
                late = state is State.UNKNOWN and "worker_id" in other
                if late:  # an unknown row has no worker any more; its claim says whose it was
                    continue
                with writing(office.engine) as connection:
                    OPERATIONS[name](connection, stranger)
                assert office.rows() == [before], (state, name, other)
        empty(office)


def empty(office: PostOffice) -> None:
    with writing(office.engine) as connection:
        for table in (schema.attempt, schema.delivery, schema.digest):
            connection.execute(table.delete())


# ------------------------------------------------------------------ single moves


def test_what_is_claimed_is_due_in_time_and_in_order(office: PostOffice) -> None:
    first, second, third = office.people
    office.plan(first, due=NOW - MINUTE)
    office.plan(second, due=NOW - 2 * MINUTE)
    office.plan(third, due=NOW + MINUTE)  # not yet
    office.plan(third, due=NOW - DAY)  # no more: its time is up this very instant
    asked = office.account_mail(third)
    worker_id = work(office)
    by_id = {row["id"]: row for row in office.rows()}
    found = []
    for _ in range(5):
        found += claim(office, worker_id, limit=1)
    assert [by_id[held.delivery_id]["subscriber_id"] for held in found] == [third, second, first]
    assert found[0].delivery_id == asked
    with reading(office.engine) as connection:
        assert not ledger.is_due(connection, now=office.now)
        assert ledger.is_due(connection, now=office.now + MINUTE)
        assert not ledger.is_due(connection, now=office.now + 2 * DAY)
    office.check()


def test_claims_at_the_same_time_never_share_a_row(office: PostOffice) -> None:
    office.move_in(60)
    office.plan()
    taken: list[Claim] = []

    def take() -> None:
        worker_id = work(office)
        while found := claim(office, worker_id, limit=7):
            assert len(found) <= 7
            taken.extend(found)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len({held.delivery_id for held in taken}) == 63
    assert office.states() == {State.CLAIMED: 63}
    office.check()


def test_an_expired_row_says_whether_anything_was_tried(office: PostOffice) -> None:
    office.plan()
    worker_id = work(office)
    tried, host, _ = claim(office, worker_id)
    begin(office, tried)
    finish(office, tried, result(State.DEFERRED))
    begin(office, host)
    finish(office, host, result(State.PLANNED, spent=False))
    with writing(office.engine) as connection:
        ledger.stop_worker(connection, worker_id, now=NOW)
        assert ledger.expire(connection, now=NOW + DAY - MINUTE) == 0
        assert ledger.expire(connection, now=NOW + DAY) == 3
    assert [(row["state"], row["reason"]) for row in office.rows()] == [
        ("failed", "gave up"),
        ("skipped", "superseded"),
        ("skipped", "superseded"),
    ]
    office.check()


def test_what_was_tried_goes_back_to_where_it_was(office: PostOffice) -> None:
    held = bring(office, State.DEFERRED)
    [again] = claim(office, held.worker_id)
    assert (again.claim, again.attempts) == (held.claim + 1, 1)
    with writing(office.engine) as connection:
        ledger.give_back(connection, again)
    assert office.states() == {State.DEFERRED: 1}


def test_a_late_answer_is_charged_once(office: PostOffice) -> None:
    office.plan(office.people[0])
    [held] = claim(office, work(office))
    begin(office, held)
    with writing(office.engine) as connection:
        assert ledger.recover(connection, now=NOW) == 1
    assert [row["text"] for row in office.attempts()] == [
        "The process ended before the answer came."
    ]
    assert not finish(office, held, result(State.DEFERRED))
    assert finish(office, held, result(State.SENT, text="2.0.0 Kept"))
    [row] = office.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("sent", "", 1)
    assert [(row["outcome"], row["text"]) for row in office.attempts()] == [("sent", "2.0.0 Kept")]
    assert not finish(office, held, result(State.FAILED))
    office.check()


def _forget(office: PostOffice, who: int) -> None:
    table = schema.delivery
    with writing(office.engine) as connection:
        connection.execute(update(table).where(table.c.subscriber_id == who).values(address=""))


def _becoming(status: Status) -> Callable[[PostOffice, int], None]:
    return lambda office, who: office.change(who, status=status)


BARS: dict[str, Callable[[PostOffice, int], None]] = {
    **{str(status): _becoming(status) for status in Status if status is not Status.ACTIVE},
    "paused until tomorrow": lambda office, who: office.change(who, paused_until=NOW + DAY),
    "address changed": lambda office, who: office.change(who, address="new@example.org"),
    "suppressed": lambda office, who: office.suppress(who, "complained"),
    "erased in the ledger": _forget,
}
REASONS = {"paused until tomorrow": "paused", "suppressed": "complained"}
REASONS["erased in the ledger"] = "address changed"


@pytest.mark.parametrize("when", ["before the claim", "after the claim"])
def test_the_right_to_be_left_alone_is_checked_last(office: PostOffice, when: str) -> None:
    office.move_in(len(BARS) + 1)
    office.plan()
    worker_id = work(office)
    held = [] if when == "before the claim" else claim(office, worker_id)
    for bar, person in zip(BARS.values(), office.people, strict=False):
        bar(office, person)
    office.change(office.people[-1], paused_until=NOW - MINUTE)  # that is over
    held = held or claim(office, worker_id)
    got = [begin(office, one) for one in held]
    by_person = {row["subscriber_id"]: row for row in office.rows()}
    for name, person in zip(BARS, office.people, strict=False):
        row = by_person[person]
        assert (row["state"], row["reason"]) == ("skipped", REASONS.get(name, name)), name
    free = [by_person[person]["state"] for person in office.people[len(BARS) :]]
    assert set(free) == {"sending"}
    assert got.count(State.SENDING) == len(free)
    assert len(office.attempts()) == len(free)
    office.check()


@pytest.mark.parametrize("bar", sorted(BARS.keys() - {"erased in the ledger"}))
def test_no_bar_holds_back_what_was_asked_for(office: PostOffice, bar: str) -> None:
    office.account_mail(office.people[0])
    BARS[bar](office, office.people[0])
    [held] = claim(office, work(office))
    assert begin(office, held) is State.SENDING


def test_a_row_that_is_no_longer_ours_is_not_begun(office: PostOffice) -> None:
    held = bring(office, State.CLAIMED)
    with writing(office.engine) as connection:
        ledger.recover(connection, now=NOW)
    assert begin(office, held) is None
    assert office.attempts() == []
    assert office.states() == {State.PLANNED: 1}


def test_a_slot_is_frozen_once(office: PostOffice) -> None:
    office.plan()
    before = office.rows()
    office.plan(reason="quiet")
    office.plan(due=NOW + timedelta(hours=2))  # the same date at another hour
    assert office.rows() == before
    with reading(office.engine) as connection:
        found = digests.content(connection, before[0]["id"])
        assert found.personal["lead"] == f"For {before[0]['address']}"
        slots = digests.slots_of(connection, office.people[0])
    assert [(slot.date, slot.due_at, slot.state) for slot in slots] == [
        (NOW.date(), NOW, State.PLANNED)
    ]


def test_housekeeping_forgets_history_but_no_delivery(office: PostOffice) -> None:
    for number in range(3):
        office.now = NOW + number * DAY
        office.plan(office.people[0], due=office.now)
        worker_id = work(office)
        [held] = claim(office, worker_id)
        begin(office, held)
        finish(office, held, result(State.SENT))
        with writing(office.engine) as connection:
            ledger.stop_worker(connection, worker_id, now=office.now)
            connection.execute(
                insert(schema.run).values(
                    stage="deliver", started_at=office.now, seconds=1, counts={}, error=""
                )
            )
    with writing(office.engine) as connection:
        counts = runs.forget(connection, before=NOW + DAY)
    assert (counts["attempts"], counts["workers"], counts["runs"]) == (1, 1, 1)
    assert office.states() == {State.SENT: 3}
    assert len(office.attempts()) == 2
    with reading(office.engine) as connection:
        had = digests.pasts(connection, office.people, since=NOW - DAY)
    assert had[office.people[0]].paper_ids == {1}
    assert had[office.people[1]].paper_ids == frozenset()


# ------------------------------------------------------------------ anything, in any order


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk_always_adds_up(office: PostOffice, seed: int) -> None:
    """Workers claim, begin, answer, die and are succeeded while people come, go and fall silent."""
    dice = random.Random(seed)
    days, requests = count(), count()
    held: list[tuple[Claim, bool]] = []  # and whether it is begun
    lost: list[Claim] = []  # begun by workers that died; their answers may come late
    ended: dict[int, str] = {}
    begun: dict[int, list[bool]] = {}  # for each delivery, whether each begun attempt may have sent
    worker_id = work(office)

    def plan() -> None:
        reason = dice.choice(["", "", "", "quiet"])
        office.plan(
            *dice.sample(office.people, dice.randint(1, 3)),
            due=NOW + next(days) * DAY - timedelta(days=5),
            give_up=timedelta(days=dice.randint(1, 9)),
            reason=reason,
        )

    def ask() -> None:
        office.account_mail(dice.choice(office.people), request=str(next(requests)))

    def take() -> None:
        held.extend((one, False) for one in claim(office, worker_id, dice.randint(1, 3)))

    def step() -> None:
        if not held:
            return
        one, started = held.pop(dice.randrange(len(held)))
        if not started:
            kind = dice.choice(["begin"] * 5 + ["spoil", "give back"])
            if kind == "begin":
                if begin(office, one) is State.SENDING:
                    held.append((one, True))
            else:
                with writing(office.engine) as connection:
                    OPERATIONS[kind](connection, one)
            return
        state = dice.choice((State.SENT, *OUTCOMES))
        moment = office.now + dice.randint(0, 10) * MINUTE
        spent = state is not State.PLANNED or one.attempts > 0
        if state is State.PLANNED and one.attempts:
            state = State.DEFERRED  # as the pipeline decides
        more = {"next_attempt_at": moment} if state in (State.PLANNED, State.DEFERRED) else {}
        assert finish(office, one, result(state, spent=spent, **more))
        begun.setdefault(one.delivery_id, []).append(state in (State.SENT, State.UNKNOWN))

    def crash() -> None:
        nonlocal worker_id
        for one, started in held:
            if started:
                lost.append(one)
                begun.setdefault(one.delivery_id, []).append(True)
        held.clear()
        with writing(office.engine) as connection:
            ledger.recover(connection, now=office.now)
        worker_id = work(office)

    def answer_late() -> None:
        for one in lost:
            state = dice.choice([State.SENT, State.FAILED, State.DEFERRED])
            if finish(office, one, result(state)):
                ended[one.delivery_id] = state
        lost.clear()

    def expire() -> None:
        with writing(office.engine) as connection:
            ledger.expire(connection, now=office.now)

    def pass_time() -> None:
        office.now += timedelta(hours=dice.randint(1, 20))

    def bar() -> None:
        relent()
        name = dice.choice(["paused until tomorrow", "unsubscribed", "suppressed"])
        BARS[name](office, dice.choice(office.people))

    def relent() -> None:
        with writing(office.engine) as connection:
            connection.execute(schema.suppression.delete())
        for person in office.people:
            office.change(person, status=Status.ACTIVE, paused_until=None)

    acts = [plan, ask, take, step, crash, answer_late, expire, pass_time, bar, relent]
    for _ in range(150):
        act = dice.choices(acts, weights=[3, 2, 6, 14, 1, 1, 1, 2, 1, 2])[0]
        act()
        office.check()
        for row in office.rows():
            state = State(row["state"])
            if row["id"] in ended:
                assert state == ended[row["id"]], (act.__name__, row)
            elif state not in WAITING:
                ended[row["id"]] = state
    assert max(sum(may) for may in begun.values()) == 1  # nobody may have got the same mail twice
    assert len(set(ended.values())) >= 3, "the walk saw too little"
    crash()
    assert not set(office.states()) & set(HELD)
    office.check()


def test_reasons_and_failures_are_told_with_the_servers_words(office: PostOffice) -> None:
    office.plan()
    first, second, _ = claim(office, work(office))
    begin(office, first)
    finish(office, first, result(State.FAILED, code=550, enhanced="5.1.1", text="5.1.1 Gone"))
    begin(office, second)
    finish(office, second, result(State.UNKNOWN, text="lost"))
    with reading(office.engine) as connection:
        start, states = NOW - MINUTE, (State.FAILED, State.UNKNOWN)
        why = outcomes.reasons(connection, start=start, end=NOW, states=states)
        told = outcomes.failures(connection, start=start, end=NOW)
        table = schema.attempt
        kept = connection.execute(
            select(
                table.c.code, table.c.enhanced, table.c.text, table.c.seconds, table.c.relay
            ).where(table.c.outcome == State.FAILED)
        ).one()
        assert outcomes.failures(connection, start=NOW, end=NOW + DAY) == []
    assert why == {(State.FAILED, "why"): 1, (State.UNKNOWN, "why"): 1}
    assert [(row["state"], row["code"], row["text"]) for row in told] == [
        ("failed", 550, "5.1.1 Gone"),
        ("unknown", None, "lost"),
    ]
    assert tuple(kept) == (550, "5.1.1", "5.1.1 Gone", 0.5, "mail:25")
