"""The ledger's moves: which are possible, who may make them, and that it always adds up."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text, update

from digest import schema
from digest.models import State, Status
from digest.storage import claims, digests, ledger, outcomes, routes, workers
from digest.storage.claims import Claim
from digest.storage.database import clock, reading, writing
from digest.storage.history import last_planned
from digest.storage.ledger import Beginning, Result
from tests.post_office import DAY, HELD, NOW, WAITING, PostOffice, assert_sound, rows

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
HERE = "example.org"  # everybody's receiving provider


@pytest.fixture
def office(engine: Engine, tmp_path: Path) -> PostOffice:
    found = PostOffice(engine, tmp_path)
    found.move_in(3)
    return found


@dataclass(frozen=True, slots=True)
class Held:
    """A claimed row, by whom, and the way it is to take."""

    claim: Claim
    worker_id: int
    route_id: int

    @property
    def delivery_id(self) -> int:
        return self.claim.delivery_id

    def result(self, state: State, **more: Any) -> Result:
        """How its attempt ended."""
        if state in (State.PLANNED, State.DEFERRED):
            more = {"next_attempt_at": NOW + 5 * MINUTE, **more}
        return Result(
            delivery_id=self.delivery_id,
            claim=self.claim.claim,
            route_id=self.route_id,
            state=state,
            started_at=NOW,
            seconds=0.5,
            reason="" if state is State.SENT else "why",
            **more,
        )


def work(office: PostOffice) -> int:
    with writing(office.engine) as connection:
        return workers.enter(connection)


def claim(office: PostOffice, worker_id: int, limit: int = 100, **quotas: int) -> list[Held]:
    """Account mail first, then of each provider."""
    with writing(office.engine) as connection:
        route_id = routes.find(connection, "mail:25", [HERE])[HERE].id
        found = claims.claim_account_mail(
            connection, worker_id, now=office.now, limit=limit, stopped=()
        )
        left = quotas or {HERE: limit - len(found)}
        found += claims.claim(connection, worker_id, left, now=office.now)
    return [Held(one, worker_id, route_id) for one in found]


def _begin(connection: Connection, *held: Held, now: Any = NOW) -> set[int]:
    beginnings = [
        Beginning(delivery_id=one.delivery_id, claim=one.claim.claim, route_id=one.route_id)
        for one in held
    ]
    return ledger.begin(connection, held[0].worker_id, beginnings, now=now)


def begin(office: PostOffice, *held: Held) -> set[int]:
    with writing(office.engine) as connection:
        return _begin(connection, *held, now=office.now)


def finish(office: PostOffice, held: Held, result: Result) -> bool:
    with writing(office.engine) as connection:
        return bool(ledger.finish(connection, held.worker_id, [result], now=office.now))


def die(office: PostOffice, worker_id: int) -> int:
    """The worker is gone, and another takes over; how many rows are unknown."""
    with writing(office.engine) as connection:
        return workers.rescue(connection, [worker_id], now=office.now)


# ------------------------------------------------------------------ the table of moves

OUTCOMES = (State.SENT, State.FAILED, State.UNKNOWN, State.DEFERRED, State.PLANNED)
OPERATIONS: dict[str, Callable[[Connection, Held], object]] = {
    "claim": lambda c, held: claims.claim(c, held.worker_id, {HERE: 1}, now=NOW),
    "expire": lambda c, held: ledger.expire(c, now=NOW + DAY),
    "give back": lambda c, held: workers.give_back(c, held.worker_id, [held.delivery_id]),
    "rescue": lambda c, held: workers.rescue(c, [held.worker_id], now=NOW),
    "leave": lambda c, held: workers.leave(c, held.worker_id, now=NOW),
    "claim account mail": lambda c, held: claims.claim_account_mail(
        c, held.worker_id, now=NOW, limit=1, stopped=()
    ),
    "resend": lambda c, held: ledger.resend_unknown(c, before=NOW, now=NOW),
    "begin": _begin,
}


def _finishing(state: State, **more: Any) -> Callable[[Connection, Held], object]:
    return lambda c, held: ledger.finish(c, held.worker_id, [held.result(state, **more)], now=NOW)


ENDINGS = {str(state): _finishing(state) for state in OUTCOMES}
ENDINGS["spoiled"] = _finishing(State.FAILED, tried=False, spent=False)
OPERATIONS |= ENDINGS
MOVES = {
    ("planned", "claim"): "claimed",
    ("planned", "expire"): "skipped",
    ("deferred", "claim"): "claimed",
    ("deferred", "expire"): "failed",
    ("claimed", "begin"): "sending",
    ("claimed", "give back"): "planned",
    ("claimed", "rescue"): "planned",
    ("claimed", "leave"): "planned",
    ("claimed", "spoiled"): "failed",
    ("sending", "rescue"): "unknown",
    ("sending", "leave"): "unknown",
    ("sending", "spoiled"): "failed",
    # Refused before the content was asked for, an attempt ends that had not begun.
    **{("claimed", str(state)): str(state) for state in OUTCOMES},
    **{("sending", str(state)): str(state) for state in OUTCOMES},
    # A late answer, after somebody took over, wins over "nobody knows".
    ("unknown", "sent"): "sent",
    ("unknown", "failed"): "failed",
    ("unknown", "spoiled"): "failed",
    ("unknown", "resend"): "deferred",
}


def bring(office: PostOffice, state: State) -> Held:
    """One digest in that state, by the moves that lead there; the claim under which it came."""
    office.plan(office.people[0], reason="quiet" if state is State.SKIPPED else "")
    worker_id = work(office)
    if state is State.SKIPPED:
        [row] = office.rows()
        nobodys = Claim(
            delivery_id=row["id"],
            claim=0,
            provider=HERE,
            priority=1,
            attempts=0,
            losses=0,
            give_up_at=row["give_up_at"],
        )
        return Held(nobodys, worker_id, route_id=1)
    [held] = claim(office, worker_id)
    if state is State.PLANNED:
        with writing(office.engine) as connection:
            workers.give_back(connection, worker_id, [held.delivery_id])
        return held
    if state is not State.CLAIMED:
        assert begin(office, held) == {held.delivery_id}
        if state is not State.SENDING:
            more = (
                {}
                if state in (State.SENT, State.FAILED, State.UNKNOWN)
                else {"next_attempt_at": NOW}
            )
            assert finish(office, held, held.result(state, **more))
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
            replace(held, claim=held.claim._replace(claim=held.claim.claim - 1)),
            replace(held, claim=held.claim._replace(claim=held.claim.claim + 1)),
            replace(held, worker_id=work(office)),
        ):
            if state is State.UNKNOWN and other.worker_id != held.worker_id:
                continue  # it has no worker any more; its claim says whose it was
            for name in ("give back", "leave", "rescue", "begin", *ENDINGS):
                if name in ("give back", "leave", "rescue") and other.worker_id == held.worker_id:
                    continue  # who holds a row holds it under one claim
                with writing(office.engine) as connection:
                    OPERATIONS[name](connection, other)
                assert office.rows() == [before], (state, name, other)
        empty(office)


def empty(office: PostOffice) -> None:
    with writing(office.engine) as connection:
        for table in (schema.attempt, schema.delivery, schema.digest):
            connection.execute(table.delete())


# ------------------------------------------------------------------ claims


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
        assert claims.providers(connection, now=office.now + MINUTE) == [HERE]
        assert claims.is_any(connection, now=office.now + MINUTE)
    with writing(office.engine) as connection:
        ledger.expire(connection, now=office.now)
    with reading(office.engine) as connection:
        assert claims.providers(connection, now=office.now) == []
        assert not claims.is_any(connection, now=office.now)
        assert claims.is_any(connection, now=office.now + MINUTE)
    office.check()


def test_of_each_provider_so_many_as_may_be(office: PostOffice) -> None:
    office.move_in(27)
    office.plan()
    table = schema.delivery
    with writing(office.engine) as connection:
        for number, row in enumerate(rows(connection)):
            connection.execute(
                update(table).where(table.c.id == row["id"]).values(provider=f"p{number % 3}")
            )
    worker_id = work(office)
    with reading(office.engine) as connection:
        assert claims.providers(connection, now=NOW) == ["p0", "p1", "p2"]
    found = claim(office, worker_id, p0=3, p1=100, p2=0, p3=5)
    assert [held.claim.provider for held in found] == ["p0"] * 3 + ["p1"] * 10
    with reading(office.engine) as connection:
        assert claims.providers(connection, now=NOW) == ["p0", "p2"]


def test_no_account_mail_is_claimed_for_those_who_are_stopped(office: PostOffice) -> None:
    office.account_mail(office.people[0])
    worker_id = work(office)
    with writing(office.engine) as connection:
        found = claims.claim_account_mail(
            connection, worker_id, now=NOW, limit=9, stopped=["x.example", HERE]
        )
        assert found == []
        found = claims.claim_account_mail(
            connection, worker_id, now=NOW, limit=9, stopped=["x.example"]
        )
        assert len(found) == 1


def test_claims_at_the_same_time_never_share_a_row(office: PostOffice) -> None:
    office.move_in(60)
    office.plan()
    taken: list[Held] = []

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


# ------------------------------------------------------------------ other moves


def test_an_expired_row_says_whether_anything_was_tried(office: PostOffice) -> None:
    office.plan()
    worker_id = work(office)
    tried, host, _ = claim(office, worker_id)
    begin(office, tried, host)
    finish(office, tried, tried.result(State.DEFERRED))
    finish(office, host, host.result(State.PLANNED, spent=False))
    with writing(office.engine) as connection:
        assert workers.leave(connection, worker_id, now=NOW) == 0
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
    assert (again.claim.claim, again.claim.attempts) == (held.claim.claim + 1, 1)
    with writing(office.engine) as connection:
        workers.give_back(connection, held.worker_id, [again.delivery_id])
    assert office.states() == {State.DEFERRED: 1}


def test_what_was_begun_is_not_given_back(office: PostOffice) -> None:
    held = bring(office, State.SENDING)
    with writing(office.engine) as connection:
        workers.give_back(connection, held.worker_id, [held.delivery_id])
    assert office.states() == {State.SENDING: 1}


def test_a_lease_that_ran_out_is_taken_away(office: PostOffice) -> None:
    slow, quick = work(office), work(office)
    with writing(office.engine) as connection:
        connection.execute(update(schema.worker).values(heartbeat_at=clock(connection) - HOUR))
        assert workers.beat(connection, quick)
        assert workers.overdue(connection, lease=2 * HOUR) == []
        assert workers.overdue(connection, lease=HOUR / 2) == [slow]
        workers.rescue(connection, [slow], now=NOW)
        assert workers.overdue(connection, lease=HOUR / 2) == []
        assert workers.alive(connection) == [quick]
        assert not workers.beat(connection, slow)


def test_what_the_dead_held_is_settled_once_however_many_settle_it(office: PostOffice) -> None:
    office.move_in(3)
    office.plan()
    dead, other = work(office), work(office)
    [tried] = claim(office, dead, limit=1)
    finish(office, tried, tried.result(State.DEFERRED, next_attempt_at=NOW))
    mine, others = claim(office, dead, limit=4), claim(office, other)
    flying = sorted(
        (one for one in mine if not one.claim.attempts), key=lambda one: one.delivery_id
    )
    begin(office, *flying[:2])
    begin(office, others[0])
    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(lambda _: die(office, dead), range(4))) == 2
    found = {row["id"]: (row["state"], row["reason"], row["worker_id"]) for row in office.rows()}
    assert [found[one.delivery_id] for one in flying] == [
        ("unknown", "crash", None),
        ("unknown", "crash", None),
        *[("planned", "", None)] * (len(flying) - 2),
    ]
    assert len(flying) > 2
    assert {found[one.delivery_id][2] for one in others} == {other}
    assert found[others[0].delivery_id][0] == "sending"
    lost = [row for row in office.attempts() if row["outcome"] == State.UNKNOWN]
    assert sorted(row["delivery_id"] for row in lost) == [one.delivery_id for one in flying[:2]]
    assert {(row["worker_id"], row["route_id"], row["started_at"]) for row in lost} == {
        (dead, flying[0].route_id, NOW)
    }
    office.check()


def test_a_late_answer_is_charged_once(office: PostOffice) -> None:
    held = bring(office, State.SENDING)
    assert die(office, held.worker_id) == 1
    assert [row["text"] for row in office.attempts()] == [
        "The process ended before the answer came."
    ]
    assert not finish(office, held, held.result(State.DEFERRED))
    assert finish(office, held, held.result(State.SENT, text="2.0.0 Kept"))
    [row] = office.rows()
    assert (row["state"], row["reason"], row["attempts"]) == ("sent", "", 1)
    assert [(row["outcome"], row["text"]) for row in office.attempts()] == [("sent", "2.0.0 Kept")]
    assert not finish(office, held, held.result(State.FAILED))
    office.check()


def test_what_could_not_be_put_together_was_no_attempt(office: PostOffice) -> None:
    held = bring(office, State.CLAIMED)
    assert finish(office, held, held.result(State.FAILED, tried=False, spent=False))
    assert [(row["state"], row["attempts"]) for row in office.rows()] == [("failed", 0)]
    assert office.attempts() == []


def test_a_result_is_stored_once_however_often_it_is_told(office: PostOffice) -> None:
    """As when the database goes away in the moment of a commit."""
    held = bring(office, State.SENDING)
    for _ in range(2):
        assert finish(office, held, held.result(State.DEFERRED, next_attempt_at=NOW))
    assert [row["attempts"] for row in office.rows()] == [1]
    [again] = claim(office, held.worker_id)
    for _ in range(2):
        assert begin(office, again) == {again.delivery_id}
    assert not finish(office, held, held.result(State.DEFERRED))
    assert len(office.attempts()) == 1
    office.check()


def test_a_row_in_flight_at_three_deaths_is_set_aside(office: PostOffice) -> None:
    office.plan(office.people[0])
    for number in range(1, workers.CRASHES + 1):
        [held] = claim(office, work(office))
        begin(office, held)
        assert die(office, held.worker_id) == 1
        [row] = office.rows()
        assert (row["crashes"], row["attempts"]) == (number, number)
        if number < workers.CRASHES:
            assert (row["state"], row["reason"]) == (State.UNKNOWN, "crash")
            with writing(office.engine) as connection:
                assert ledger.resend_unknown(connection, before=NOW, now=NOW) == 1
    assert (row["state"], row["reason"]) == (State.FAILED, "poison")
    office.check()


def test_what_is_unknown_waits_before_it_is_sent_again(office: PostOffice) -> None:
    bring(office, State.UNKNOWN)
    for before, now, expected in (
        (NOW - MINUTE, NOW + MINUTE, 0),  # its answer may still come
        (NOW, NOW + DAY, 0),  # its time is over
        (NOW, NOW + MINUTE, 1),
    ):
        with writing(office.engine) as connection:
            assert ledger.is_unknown(connection, before=before, now=now) == bool(expected)
            assert ledger.resend_unknown(connection, before=before, now=now) == expected
    [row] = office.rows()
    assert (row["state"], row["reason"], row["next_attempt_at"]) == (
        State.DEFERRED,
        "resend",
        NOW + MINUTE,
    )


# ------------------------------------------------------------------ the last check


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
    begun = begin(office, *held)
    by_person = {row["subscriber_id"]: row for row in office.rows()}
    for name, person in zip(BARS, office.people, strict=False):
        row = by_person[person]
        assert (row["state"], row["reason"]) == ("skipped", REASONS.get(name, name)), name
    free = [by_person[person] for person in office.people[len(BARS) :]]
    assert {row["state"] for row in free} == {"sending"}
    assert begun == {row["id"] for row in free}
    assert office.attempts() == []
    office.check()


@pytest.mark.parametrize("bar", sorted(BARS.keys() - {"erased in the ledger"}))
def test_no_bar_holds_back_what_was_asked_for(office: PostOffice, bar: str) -> None:
    office.account_mail(office.people[0])
    BARS[bar](office, office.people[0])
    [held] = claim(office, work(office))
    assert begin(office, held) == {held.delivery_id}


def test_a_row_that_is_no_longer_ours_is_not_begun(office: PostOffice) -> None:
    held = bring(office, State.CLAIMED)
    die(office, held.worker_id)
    assert begin(office, held) == set()
    assert office.attempts() == []
    assert office.states() == {State.PLANNED: 1}


def test_given_rows_are_found_by_their_keys(office: PostOffice) -> None:
    """And by no partial index, which holds all rows that are open, or held."""
    if office.engine.name != "postgresql":
        pytest.skip("SQLite has no statistics to be misled by")
    plans = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "jsonb_array_elements" in statement and "UPDATE delivery" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            plans.append("\n".join(line for (line,) in cursor.fetchall()))

    held = bring(office, State.CLAIMED)
    beginning = Beginning(held.delivery_id, held.claim.claim, held.route_id)
    result = held.result(State.SENT)
    event.listen(office.engine, "before_cursor_execute", explain)
    with writing(office.engine) as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        ledger.exchange_all(connection, held.worker_id, [result], [beginning], now=NOW)
        ledger.begin(connection, held.worker_id, [beginning], now=NOW)
        ledger.finish(connection, held.worker_id, [result], now=NOW)
    event.remove(office.engine, "before_cursor_execute", explain)
    assert len(plans) == 3
    for plan in plans:
        assert "pk_delivery" in plan
        assert "ix_delivery" not in plan


def test_a_last_digest_is_found_by_its_person(office: PostOffice) -> None:
    """Joined, all deliveries were read for each of the people while there were few."""
    if office.engine.name != "postgresql":
        pytest.skip("SQLite looks up each of the people")
    office.plan()
    plans = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        cursor.execute(f"EXPLAIN {statement}", parameters)
        plans.append("\n".join(line for (line,) in cursor.fetchall()))

    event.listen(office.engine, "before_cursor_execute", explain)
    with reading(office.engine) as connection:
        last = last_planned(connection, office.people)
    event.remove(office.engine, "before_cursor_execute", explain)
    assert set(last.values()) == {NOW}
    [plan] = plans
    assert "Nested Loop" not in plan
    assert "Join" not in plan


def test_a_slot_is_frozen_once(office: PostOffice) -> None:
    office.plan()
    before = office.rows()
    office.plan(reason="quiet")
    office.plan(due=NOW + timedelta(hours=2))  # the same date at another hour
    assert office.rows() == before
    first = office.people[0]
    with reading(office.engine) as connection:
        found = connection.execute(
            select(schema.digest.c.personal).where(schema.digest.c.subscriber_id == first)
        ).scalar_one()
        assert found["lead"] == f"For {before[0]['address']}"
        slots = digests.slots_of(connection, first)
    assert [(slot.date, slot.due_at, slot.state) for slot in slots] == [
        (NOW.date(), NOW, State.PLANNED)
    ]


# ------------------------------------------------------------------ anything, in any order


@pytest.mark.parametrize("seed", range(3))
def test_a_random_walk_always_adds_up(office: PostOffice, seed: int) -> None:
    """Two workers claim, begin, answer, die and are succeeded; people come, go and fall silent."""
    dice = random.Random(seed)
    days, requests = count(), count()
    held: list[tuple[Held, bool]] = []  # and whether it is begun
    lost: list[Held] = []  # begun by workers that died; their answers may come late
    ended: dict[int, str] = {}
    begun: dict[int, list[bool]] = {}  # for each delivery, whether each begun attempt may have sent
    crew = [work(office), work(office)]

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
        held.extend((one, False) for one in claim(office, dice.choice(crew), dice.randint(1, 3)))

    def step() -> None:
        if not held:
            return
        one, started = held.pop(dice.randrange(len(held)))
        if not started:
            kind = dice.choice(["begin"] * 5 + ["refused", "give back"])
            if kind == "begin":
                if begin(office, one):
                    held.append((one, True))
            elif kind == "refused":
                assert finish(office, one, one.result(State.FAILED))
            else:
                with writing(office.engine) as connection:
                    OPERATIONS[kind](connection, one)
            return
        state = dice.choice((State.SENT, *OUTCOMES))
        moment = office.now + dice.randint(0, 10) * MINUTE
        spent = state is not State.PLANNED or one.claim.attempts > 0
        if state is State.PLANNED and one.claim.attempts:
            state = State.DEFERRED  # as the pipeline decides
        more = {"next_attempt_at": moment} if state in (State.PLANNED, State.DEFERRED) else {}
        assert finish(office, one, one.result(state, spent=spent, **more))
        begun.setdefault(one.delivery_id, []).append(state in (State.SENT, State.UNKNOWN))

    def crash() -> None:
        dead = crew.pop(dice.randrange(len(crew)))
        flying = [one for one, started in held if started and one.worker_id == dead]
        lost.extend(flying)
        for one in flying:
            begun.setdefault(one.delivery_id, []).append(True)
        held[:] = [(one, started) for one, started in held if one.worker_id != dead]
        assert die(office, dead) == len(flying)
        crew.append(work(office))

    def answer_late() -> None:
        for one in lost:
            state = dice.choice([State.SENT, State.FAILED, State.DEFERRED])
            if finish(office, one, one.result(state)):
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
    for worker_id in crew:
        die(office, worker_id)
    assert not set(office.states()) & set(HELD)
    office.check()


def test_reasons_and_failures_are_told_with_the_servers_words(office: PostOffice) -> None:
    office.plan()
    first, second, _ = claim(office, work(office))
    begin(office, first, second)
    refused = first.result(State.FAILED, code=550, enhanced="5.1.1", text="5.1.1 Gone")
    finish(office, first, refused)
    finish(office, second, second.result(State.UNKNOWN, text="lost"))
    with reading(office.engine) as connection:
        start, states = NOW - MINUTE, (State.FAILED, State.UNKNOWN)
        why = outcomes.reasons(connection, start=start, end=NOW, states=states)
        told = outcomes.failures(connection, start=start, end=NOW)
        assert outcomes.failures(connection, start=NOW, end=NOW + DAY) == []
    assert why == {(State.FAILED, "why"): 1, (State.UNKNOWN, "why"): 1}
    assert [(row["state"], row["code"], row["text"]) for row in told] == [
        ("failed", 550, "5.1.1 Gone"),
        ("unknown", None, "lost"),
    ]
    kept = next(row for row in office.attempts() if row["outcome"] == State.FAILED)
    assert {name: kept[name] for name in ("code", "enhanced", "text", "seconds", "route_id")} == {
        "code": 550,
        "enhanced": "5.1.1",
        "text": "5.1.1 Gone",
        "seconds": 0.5,
        "route_id": first.route_id,
    }


@pytest.mark.parametrize("reason", [ledger.RESEND, ledger.POISON])
def test_a_late_yes_is_believed_though_the_row_was_moved_on(
    office: PostOffice, reason: str
) -> None:
    held = bring(office, State.UNKNOWN)
    state = State.DEFERRED if reason == ledger.RESEND else State.FAILED
    table = schema.delivery
    ended_at = None if reason == ledger.RESEND else NOW
    with writing(office.engine) as connection:
        connection.execute(
            update(table)
            .where(table.c.id == held.delivery_id)
            .values(state=state, reason=reason, ended_at=ended_at)
        )
    assert not finish(office, held, held.result(State.UNKNOWN))
    assert finish(office, held, held.result(State.SENT))
    assert [(row["state"], row["attempts"]) for row in office.rows()] == [(State.SENT, 1)]
    office.check()


def test_a_bar_that_is_gone_in_that_moment_leaves_the_row_waiting(
    office: PostOffice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the statement that moves and the one that asks why not; others may write then."""
    office.plan(*office.people[:2])
    worker = work(office)
    held = claim(office, worker)
    office.change(office.people[0], paused_until=NOW + timedelta(days=1))
    standing = ledger._standing

    def unpaused(connection: Connection, *given: Any) -> set[int]:
        connection.execute(update(schema.subscriber).values(paused_until=None))
        return standing(connection, *given)

    monkeypatch.setattr(ledger, "_standing", unpaused)
    assert len(begin(office, *held)) == 1
    assert office.states() == {State.PLANNED: 1, State.SENDING: 1}
    office.check()
