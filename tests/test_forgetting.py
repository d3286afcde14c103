"""Housekeeping: what is old goes, what is needed stays, and nobody waits for it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import Connection, event, update

from digest import schema
from digest.models import Part, State
from digest.storage import digests, forgetting, gaps, outcomes
from digest.storage.database import reading, writing
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


@pytest.mark.parametrize(
    "state", [State.PLANNED, State.CLAIMED, State.SENDING, State.DEFERRED], ids=str
)
def test_an_old_digest_that_is_still_to_be_sent_stays_whole(rows: Rows, state: State) -> None:
    skeleton = rows.part(created_at=ANCIENT)
    rows.digest(ANCIENT, skeleton=skeleton)
    waiting = rows.digest(ANCIENT, state, skeleton=skeleton)
    before = rows.all(schema.digest)[1], rows.all(schema.delivery)[1]
    assert tidy(rows) == {"digests": 1}
    assert (rows.all(schema.digest)[1], rows.all(schema.delivery)[1]) == before
    with writing(rows.engine) as connection:
        ended = {"state": State.FAILED, "ended_at": NOW}
        connection.execute(
            update(schema.delivery).where(schema.delivery.c.id == waiting).values(ended)
        )
    assert tidy(rows) == {"digests": 1, "parts": 1}


def test_a_card_that_is_named_again_is_not_forgotten(rows: Rows) -> None:
    """A card is found by its content: one of long ago may be that of a new digest."""
    part = Part(hash="a" * 64, kind="card", html=b"", text=b"")
    gone = Part(hash="b" * 64, kind="card", html=b"", text=b"")
    with writing(rows.engine) as connection:
        digests.add_parts(connection, [part, gone], now=ANCIENT)
        digests.add_parts(connection, [part], now=NOW)
    assert tidy(rows) == {"parts": 1}
    assert [(row["hash"], row["created_at"]) for row in rows.all(schema.part)] == [("a" * 64, NOW)]


def test_a_part_is_renewed_once_a_day(rows: Rows) -> None:
    part = Part(hash="a" * 64, kind="card", html=b"", text=b"")

    def named(at: datetime) -> datetime:
        with writing(rows.engine) as connection:
            digests.add_parts(connection, [part], now=at)
        found: datetime = rows.all(schema.part)[0]["created_at"]
        return found

    assert named(NOW) == NOW
    assert named(NOW + 23 * HOUR) == NOW
    assert named(NOW + 25 * HOUR) == NOW + 25 * HOUR
    assert named(NOW) == NOW + 25 * HOUR


def test_planners_who_renew_the_same_parts_do_not_wait_for_each_other_for_ever(rows: Rows) -> None:
    parts = [Part(hash=f"{n:064}", kind="card", html=b"", text=b"") for n in range(300)]
    with writing(rows.engine) as connection:
        digests.add_parts(connection, parts, now=ANCIENT)

    def name(some: list[Part]) -> None:
        with writing(rows.engine) as connection:
            digests.add_parts(connection, some, now=NOW)

    with ThreadPoolExecutor() as threads:
        list(threads.map(name, [parts, parts[::-1], parts[100:], parts[:200]]))
    assert {row["created_at"] for row in rows.all(schema.part)} == {NOW}


def test_ids_that_go_on_from_far_ahead_are_no_steps(rows: Rows) -> None:
    rows.digest(ANCIENT, skeleton=rows.part(created_at=ANCIENT))
    with writing(rows.engine) as connection:
        gaps.skip_ids(connection, now=ANCIENT + HOUR)
    rows.digest(ANCIENT + 2 * DAY, skeleton=rows.part(created_at=ANCIENT))
    assert tidy(rows) == {"digests": 2, "parts": 2}


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
