"""What stands in the ledger, as it is counted for people and machines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, update

from digest import schema
from digest.models import State
from digest.storage import outcomes
from digest.storage.database import clock, reading, writing
from digest.storage.outcomes import Late, Queue
from tests.rows import DAY, HOUR, MINUTE, NOW, Rows


def test_digests_count_by_their_hour_and_account_mail_by_its_making(rows: Rows) -> None:
    for due_at in (NOW - DAY, NOW - DAY + MINUTE, NOW, NOW + MINUTE):
        rows.digest(due_at, State.SKIPPED, reason="quiet")
        rows.account_mail(due_at, State.FAILED)
    # An account mail's delivery may be put off; it still belongs to the day it was asked for.
    with writing(rows.engine) as connection:
        connection.execute(update(schema.delivery).values(due_at=NOW + 3 * DAY))
    with reading(rows.engine) as connection:
        digests = outcomes.counts(connection, start=NOW - DAY, end=NOW)
        mails = outcomes.counts(connection, start=NOW - DAY, end=NOW, account=True)
        why = outcomes.reasons(
            connection, start=NOW - DAY, end=NOW, states=(State.SKIPPED, State.FAILED)
        )
        assert outcomes.frozen(connection, start=NOW - DAY, end=NOW) == 2
    assert digests == {**dict.fromkeys(State, 0), State.SKIPPED: 2}
    assert mails == {**dict.fromkeys(State, 0), State.FAILED: 2}
    assert why == {(State.SKIPPED, "quiet"): 2}


def test_failures_are_the_bad_ones_of_the_span(rows: Rows) -> None:
    for state in State:
        rows.digest(NOW - HOUR, state, text=str(state))
    rows.digest(NOW - 2 * DAY, State.UNKNOWN)
    with reading(rows.engine) as connection:
        found = outcomes.failures(connection, start=NOW - DAY, end=NOW)
        assert outcomes.unknown(connection) == 2
    assert [row["text"] for row in found] == [State.FAILED, State.UNKNOWN]


def test_queues_tell_what_waits_from_what_could_go(rows: Rows) -> None:
    for minutes in (5, 9, -30):
        rows.digest(NOW - minutes * MINUTE, State.PLANNED, provider="one.example")
    rows.digest(NOW - HOUR, State.DEFERRED, provider="two.example", next_attempt_at=NOW + HOUR)
    for state in set(State) - {State.PLANNED, State.DEFERRED}:
        rows.digest(NOW - HOUR, state, provider="one.example")
    with reading(rows.engine) as connection:
        found = outcomes.queues(connection, now=NOW)
    assert found == [
        Queue(provider="one.example", rows=3, due=2, since=NOW - 9 * MINUTE),
        Queue(provider="two.example", rows=1, due=0, since=None),
    ]


def test_late_is_what_is_not_out(rows: Rows) -> None:
    yesterday = NOW - DAY
    rows.digest(yesterday, State.PLANNED)
    rows.digest(NOW - HOUR, State.PLANNED)
    rows.digest(NOW - HOUR, State.DEFERRED)  # given back by a breaker: nothing was tried
    rows.digest(NOW - HOUR, State.DEFERRED, attempts=1, next_attempt_at=NOW + HOUR)
    rows.digest(NOW - HOUR, State.CLAIMED, worker_id=1)
    rows.digest(NOW - HOUR, State.SENDING, worker_id=1)
    for state in State:
        rows.digest(NOW - HOUR + MINUTE, state)
    for state in (State.SENT, State.FAILED, State.UNKNOWN, State.SKIPPED):
        rows.digest(NOW - HOUR, state)
    rows.account_mail(NOW - HOUR, State.PLANNED)
    with reading(rows.engine) as connection:
        found = outcomes.late(connection, due_before=NOW - HOUR)
    assert found == [
        Late(slot=yesterday.date(), number=1, tried=0),
        Late(slot=NOW.date(), number=5, tried=1),
    ]


def test_breakers_are_the_routes_that_are_not_closed(rows: Rows) -> None:
    rows.route("one.example")
    rows.route("two.example", state="open", reason="5.7.1 blocked")
    rows.route("", state="probing", reason="5.7.1 blocked")
    with reading(rows.engine) as connection:
        found = outcomes.breakers(connection)
    assert [(breaker.provider, breaker.state) for breaker in found] == [
        ("", "probing"),
        ("two.example", "open"),
    ]
    assert found[1].reason == "5.7.1 blocked"
    assert (found[1].opened_at, found[1].probe_at) == (NOW - HOUR, NOW + 5 * MINUTE)


def test_workers_show_their_silence_by_the_databases_clock(rows: Rows) -> None:
    with reading(rows.engine) as connection:
        now = clock(connection)
    for pid, silent in ((1, 40), (2, 0)):
        beat = now - timedelta(seconds=silent)
        rows.add(schema.worker, host="h", pid=pid, started_at=now - HOUR, heartbeat_at=beat)
    rows.add(schema.worker, host="h", pid=3, started_at=now, heartbeat_at=now, stopped_at=now)
    with reading(rows.engine) as connection:
        silence = {worker.pid: worker.silent for worker in outcomes.workers(connection)}
    assert silence.keys() == {1, 2}
    assert 40 <= silence[1] == pytest.approx(40, abs=20)
    assert silence[2] < silence[1]


QUESTIONS: dict[str, Callable[[Connection], object]] = {
    "failures": lambda c: outcomes.failures(c, start=NOW - DAY, end=NOW),
    "unknown": outcomes.unknown,
    "queues": lambda c: outcomes.queues(c, now=NOW),
    "late": lambda c: outcomes.late(c, due_before=NOW),
    "counts": lambda c: outcomes.counts(c, start=NOW - DAY, end=NOW),
    "frozen": lambda c: outcomes.frozen(c, start=NOW - DAY, end=NOW),
}


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_no_question_reads_the_whole_ledger(
    rows: Rows, question: Callable[[Connection], object]
) -> None:
    explain = "EXPLAIN QUERY PLAN" if rows.engine.name == "sqlite" else "EXPLAIN"
    plan: list[str] = []

    @event.listens_for(rows.engine, "before_cursor_execute")
    def note(_c: Connection, cursor: Any, text: str, values: Any, *_: object) -> None:
        if text.startswith("SELECT"):
            plan.extend(str(row[-1]) for row in cursor.execute(f"{explain} {text}", values))

    with reading(rows.engine) as connection:
        if rows.engine.name == "postgresql":
            # Of a small table it would rather read all rows.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        question(connection)
    assert plan
    assert not {"SCAN delivery", "SCAN digest"} & set(plan)
    assert not [step for step in plan if "Seq Scan" in step]
