"""Housekeeping: what is old goes, what is needed stays, and nobody waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, event

from digest import schema
from digest.models import State
from digest.storage import forgetting, outcomes
from digest.storage.database import reading
from digest.storage.forgetting import forget
from tests.rows import DAY, HOUR, NOW, Rows

OLD = NOW - 100 * DAY  # older than attempts are kept
ANCIENT = NOW - 500 * DAY  # older than digests are kept


def tidy(rows: Rows) -> dict[str, int]:
    """Forget as the service does every night; what there was to forget."""
    found = forget(rows.engine, before=NOW - 90 * DAY, digests_before=NOW - 400 * DAY)
    return {name: number for name, number in found.items() if number}


def ledger(rows: Rows) -> dict[State, int]:
    with reading(rows.engine) as connection:
        return outcomes.counts(connection, start=ANCIENT - DAY, end=NOW)


def test_what_is_old_goes_and_the_rest_stays(rows: Rows) -> None:
    worker = {"host": "h", "pid": 1, "started_at": OLD, "heartbeat_at": OLD}
    bounce = {"subscriber_id": 1, "route_id": 1, "attempt_id": 1, "kind": "5.1.1"}
    alert = {"kind": "late", "subject": "", "text": "", "since": OLD}
    for number, at in enumerate((OLD, NOW), 1):
        rows.attempt(number, at)
        rows.read("arxiv", at)
        rows.add(schema.run, stage="plan", started_at=at, seconds=1, counts={}, error="")
        rows.add(schema.worker, **worker, stopped_at=at)
        rows.add(schema.bounce, **bounce, delivery_id=number, at=at, verdict="withdrawn")
        rows.add(schema.alert, **alert, told_at=at, ended_at=at)
        rows.add(schema.domain, name=f"{number}.example", provider="mx", looked_up_at=at)
    # Not over yet, however old.
    rows.add(schema.worker, **worker)
    rows.add(schema.bounce, **bounce, delivery_id=3, at=OLD, verdict="")
    rows.add(schema.alert, **alert, told_at=OLD)
    rows.add(schema.alert, **alert | {"subject": "untold"}, ended_at=OLD)
    kinds = ("attempts", "reads", "runs", "workers", "bounces", "alerts", "domains")
    assert tidy(rows) == dict.fromkeys(kinds, 1)
    assert tidy(rows) == {}
    kept = {table.name: rows.count(table) for table in (schema.worker, schema.bounce, schema.alert)}
    assert kept == {"worker": 2, "bounce": 2, "alert": 3}


def test_an_old_digest_leaves_its_papers_and_its_end(rows: Rows) -> None:
    reader = rows.subscriber()
    for due_at in (ANCIENT, NOW - HOUR):
        skeleton = rows.part(created_at=due_at)
        card = {"part": rows.part(created_at=due_at, kind="card"), "card": True, "paper_id": 1}
        rows.digest(due_at, subscriber_id=reader, skeleton=skeleton, items=[card])
    before = rows.all(schema.digest)
    counts = ledger(rows)
    assert tidy(rows) == {"digests": 1, "parts": 2}
    old, new = rows.all(schema.digest)
    assert new == before[1]
    assert old == {**before[0], "items": [], "personal": {}, "skeleton": None, "parts": ""}
    assert [(row["address"], row["text"]) for row in rows.all(schema.delivery)] == [
        ("", ""),
        ("reader@example.org", "250 taken"),
    ]
    assert ledger(rows) == counts
    assert tidy(rows) == {}


def test_a_part_stays_as_long_as_anything_names_it(rows: Rows) -> None:
    of_digest, of_mail = (rows.part(created_at=ANCIENT) for _ in range(2))
    named_again = rows.part(created_at=NOW - DAY, kind="card")
    rows.digest(NOW - HOUR, skeleton=of_digest)
    rows.account_mail(NOW - HOUR, skeleton=of_mail)
    rows.part(created_at=ANCIENT)
    rows.part(created_at=ANCIENT, kind="card")
    assert tidy(rows) == {"parts": 2}
    assert [row["hash"] for row in rows.all(schema.part)] == [of_digest, of_mail, named_again]


def test_account_mail_goes_with_its_delivery_once_it_ended(rows: Rows) -> None:
    rows.account_mail(ANCIENT)
    waiting = rows.account_mail(ANCIENT, State.PLANNED)
    recent = rows.account_mail(OLD)
    assert tidy(rows) == {"account mails": 1, "parts": 1}
    assert [row["id"] for row in rows.all(schema.delivery)] == [waiting, recent]
    assert rows.count(schema.account_mail) == 2


def test_it_goes_in_small_steps(rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgetting, "BATCH", 2)
    skeleton = rows.part(created_at=ANCIENT)
    for number in range(5):
        rows.attempt(number, OLD)
        rows.digest(ANCIENT, skeleton=skeleton)
        rows.account_mail(ANCIENT)
    rows.attempt(5, NOW)
    touched: list[int] = []

    @event.listens_for(rows.engine, "after_cursor_execute")
    def note(_c: Connection, cursor: Any, text: str, *_: object) -> None:
        if text.startswith(("UPDATE", "DELETE")):
            touched.append(cursor.rowcount)

    found = tidy(rows)
    assert found == {"attempts": 5, "digests": 5, "account mails": 5, "parts": 6}
    assert max(touched) <= 2
    assert rows.count(schema.attempt) == 1
