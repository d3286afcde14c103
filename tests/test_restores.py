"""What a database that was put back does not know: closed, passed over, and who left taken out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, update

from digest import journal, schema
from digest.errors import InputError
from digest.models import Frequency, Newcomer, OptOut, State, Status, Wishes
from digest.pipeline.restoring import Means, Restored, restored
from digest.storage import erasing, gaps, ledger, optouts, schedules, subscribers, workers
from digest.storage.database import reading, writing
from digest.suppression import address_hashes, address_key
from tests.rows import Rows

BACKUP = datetime(2026, 5, 27, 3, tzinfo=UTC)
NOW = datetime(2026, 5, 28, 15, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LONG_AGO = BACKUP - 9 * DAY
SECRETS = (b"new" * 16, b"old" * 16)
WISHES = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=5, name="A Reader")
ADA = "Reader@example.org"  # as in the rows


def hashes_of(address: str, secrets: Sequence[bytes] = SECRETS) -> tuple[str, ...]:
    return address_hashes(address_key(address), secrets=secrets)


def left(at: datetime, kind: Status = Status.UNSUBSCRIBED, address: str = ADA) -> OptOut:
    return OptOut(at=at, kind=kind, hashes=hashes_of(address))


@dataclass
class Restoring:
    """A database as it was at BACKUP, and the data directory of a machine."""

    engine: Engine
    data_dir: Path
    journals: list[Path] = field(default_factory=list)

    @property
    def rows(self) -> Rows:
        return Rows(self.engine)

    def subscribe(self, address: str = ADA, *, secrets: Sequence[bytes] = SECRETS) -> int:
        newcomer = Newcomer(
            address=address,
            key=address_key(address),
            hashes=hashes_of(address, secrets),
            wishes=WISHES,
        )
        with writing(self.engine) as connection:
            subscribers.add_many(connection, [newcomer], now=LONG_AGO)
            found = subscribers.find(connection, newcomer.key)
        assert found is not None
        return found.id

    def delivery(
        self, person: int, state: State, *, due: datetime = BACKUP - HOUR, account: bool = False
    ) -> int:
        """A row of the ledger and what it delivers; who holds it died with the old database."""
        more: dict[str, Any] = {"subscriber_id": person}
        if state is State.UNKNOWN:
            more["reason"] = "crash"
        with writing(self.engine) as connection:
            if state in (State.CLAIMED, State.SENDING):
                more["worker_id"] = workers.enter(connection)
            if state is State.SENDING:
                more["started_at"] = due
        if not account:
            return self.rows.digest(due, state, **more)
        found = self.rows.account_mail(due, state, **more)
        with writing(self.engine) as connection:
            connection.execute(update(schema.account_mail).values(subscriber_id=person))
        return found

    def write(self, *entries: OptOut, name: str = journal.FILE) -> Path:
        """A journal with these entries."""
        for entry in entries:
            journal.append(self.data_dir / name, entry)
        return self.data_dir / name

    def settle(self, *, now: datetime = NOW) -> Restored:
        means = Means(data_dir=self.data_dir, catch_up=12 * HOUR, journals=self.journals)
        return restored(self.engine, means, backup_time=BACKUP, now=now)

    def row(self, delivery_id: int) -> Mapping[str, Any]:
        [found] = [row for row in self.rows.all(schema.delivery) if row["id"] == delivery_id]
        return found

    def status(self, person: int) -> Status:
        with reading(self.engine) as connection:
            return subscribers.get(connection, person).status

    def suppressed(self) -> dict[str, str]:
        return {row["address_hash"]: row["reason"] for row in self.rows.all(schema.suppression)}

    def everything(self) -> str:
        """All that the tables hold, as text."""
        return str([self.rows.all(table) for table in schema.metadata.sorted_tables]).lower()


@pytest.fixture
def restoring(engine: Engine, tmp_path: Path) -> Restoring:
    return Restoring(engine, tmp_path / "data")


# ------------------------------------------------------------------ what was open


@pytest.mark.parametrize("account", [False, True], ids=["digest", "account mail"])
@pytest.mark.parametrize(
    ("state", "after", "reason"),
    [
        (State.PLANNED, State.SKIPPED, "restored"),
        (State.CLAIMED, State.SKIPPED, "restored"),
        (State.DEFERRED, State.SKIPPED, "restored"),
        (State.SENDING, State.UNKNOWN, "restored"),
        (State.UNKNOWN, State.UNKNOWN, "restored"),  # it may have been sent again
        (State.SENT, State.SENT, ""),
        (State.FAILED, State.FAILED, ""),
    ],
)
def test_what_was_open_is_never_sent(
    restoring: Restoring, state: State, after: State, reason: str, account: bool
) -> None:
    delivery = restoring.delivery(restoring.subscribe(), state, account=account)
    done = restoring.settle()
    row = restoring.row(delivery)
    assert (row["state"], row["reason"], row["worker_id"]) == (after, reason, None)
    assert done.states == {
        State.SKIPPED: int(after is State.SKIPPED),
        State.UNKNOWN: int(after is State.UNKNOWN),
    }
    with reading(restoring.engine) as connection:
        attempts = connection.execute(select(schema.attempt.c.outcome)).scalars().all()
        assert workers.alive(connection) == []
    assert attempts == ([State.UNKNOWN] if state is State.SENDING else [])


@pytest.mark.parametrize("state", [State.SENDING, State.UNKNOWN])
def test_what_may_have_arrived_is_not_sent_again(restoring: Restoring, state: State) -> None:
    """Not even by the policy that sends unknown rows once more: that may have been done."""
    delivery = restoring.delivery(restoring.subscribe(), state, due=NOW - HOUR)
    restoring.settle()
    later = NOW + HOUR
    with writing(restoring.engine) as connection:
        assert ledger.resend_unknown(connection, before=later, now=later) == 0
    assert restoring.row(delivery)["state"] == State.UNKNOWN


def test_what_is_yet_to_come_waits(restoring: Restoring) -> None:
    person = restoring.subscribe()
    later = restoring.delivery(person, State.PLANNED, due=NOW + HOUR)
    old = restoring.delivery(person, State.UNKNOWN, due=BACKUP - 9 * DAY)
    restoring.settle()
    assert restoring.row(later)["state"] == State.PLANNED
    assert restoring.row(old)["reason"] == "crash"


def test_the_gap_begins_before_the_backup(restoring: Restoring) -> None:
    """A slot due just before the backup may have been planned, and sent, just after it."""
    done = restoring.settle()
    with reading(restoring.engine) as connection:
        [gap] = gaps.load(connection)
    assert (gap.start, gap.end) == (BACKUP - 12 * HOUR, NOW)
    assert (done.backup_time, done.end) == (BACKUP, NOW)


def test_said_twice_it_is_settled_once(restoring: Restoring) -> None:
    person = restoring.subscribe()
    assert not restoring.settle().again
    planned = restoring.delivery(person, State.PLANNED, due=NOW + HOUR)
    other = restoring.write(left(BACKUP + HOUR), name="other.journal")
    restoring.journals.append(other)
    done = restoring.settle(now=NOW + 2 * HOUR)
    assert done.again
    assert restoring.row(planned)["state"] == State.PLANNED
    assert restoring.status(person) is Status.UNSUBSCRIBED
    with reading(restoring.engine) as connection:
        assert len(gaps.load(connection)) == 1


def test_a_backup_of_tomorrow(restoring: Restoring) -> None:
    with pytest.raises(InputError, match="cannot have been made at 2026-05-27 03:00Z"):
        restoring.settle(now=BACKUP - HOUR)
    with reading(restoring.engine) as connection:
        assert gaps.load(connection) == []


# ------------------------------------------------------------------ who left

KINDS = (Status.UNSUBSCRIBED, Status.COMPLAINED, Status.ERASED)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [BACKUP - HOUR, BACKUP + HOUR], ids=["before", "after"])
def test_who_left_is_taken_out_again(restoring: Restoring, kind: Status, at: datetime) -> None:
    ada, bob = restoring.subscribe(), restoring.subscribe("bob@example.org")
    restoring.write(left(at, kind))
    assert restoring.settle().opt_outs == {kind: 1}
    assert (restoring.status(ada), restoring.status(bob)) == (kind, Status.ACTIVE)
    assert restoring.suppressed() == dict.fromkeys(hashes_of(ADA), kind)
    with reading(restoring.engine) as connection:
        assert schedules.histories(connection, [ada])[ada][-1].active is False
    assert sum(restoring.settle().opt_outs.values()) == 0


def test_whoever_came_back_stays(restoring: Restoring) -> None:
    ada = restoring.subscribe()
    restoring.write(left(LONG_AGO - HOUR), left(BACKUP + HOUR))
    with writing(restoring.engine) as connection:
        table = schema.subscriber
        connection.execute(update(table).values(confirmed_at=BACKUP + 2 * HOUR))
    assert restoring.settle().opt_outs == {}
    assert restoring.status(ada) is Status.ACTIVE
    assert restoring.suppressed() == {}


def test_whom_the_backup_does_not_know_is_suppressed(restoring: Restoring) -> None:
    restoring.write(left(BACKUP - HOUR, address="old@example.org"), left(BACKUP + HOUR))
    restoring.settle()
    assert restoring.suppressed() == dict.fromkeys(hashes_of(ADA), Status.UNSUBSCRIBED)


def test_who_had_left_already_is_erased_again(restoring: Restoring) -> None:
    ada = restoring.subscribe()
    with writing(restoring.engine) as connection:
        subscribers.unsubscribe(connection, ada, now=BACKUP - HOUR, detail="")
    restoring.write(left(BACKUP + HOUR, Status.ERASED))
    assert restoring.settle().opt_outs == {Status.ERASED: 1}
    assert restoring.status(ada) is Status.ERASED


def test_an_erasure_leaves_the_rows_and_no_trace_of_the_person(restoring: Restoring) -> None:
    ada, bob = restoring.subscribe(), restoring.subscribe("bob@example.org")
    states = [State.SENT, State.PLANNED, State.DEFERRED, State.UNKNOWN]
    rows = [
        restoring.delivery(ada, state, due=BACKUP - days * DAY)
        for days, state in enumerate(states, start=1)
    ]
    rows.append(restoring.delivery(ada, State.PLANNED, account=True))
    assert ADA.lower() in restoring.everything()
    with writing(restoring.engine) as connection:
        assert erasing.erase(connection, ada, now=NOW)
        assert not erasing.erase(connection, ada, now=NOW)
    assert ADA.lower() not in restoring.everything()
    assert restoring.everything().count(WISHES.name.lower()) == 1  # Bob's
    assert restoring.status(bob) is Status.ACTIVE
    assert [(restoring.row(row)["state"], restoring.row(row)["reason"]) for row in rows] == [
        (State.SENT, ""),
        (State.SKIPPED, "erased"),
        (State.SKIPPED, "erased"),
        (State.UNKNOWN, "crash"),
        (State.SKIPPED, "erased"),
    ]
    assert restoring.subscribe() not in (ada, bob)  # they may come back


def test_an_erasure_does_not_read_the_whole_ledger(restoring: Restoring) -> None:
    ada = restoring.subscribe()
    engine, plan = restoring.engine, list[str]()
    explain = "EXPLAIN QUERY PLAN" if engine.name == "sqlite" else "EXPLAIN"

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Connection, cursor: Any, text: str, values: Any, *_: object) -> None:
        if text.startswith("UPDATE"):
            plan.extend(str(row[-1]) for row in cursor.execute(f"{explain} {text}", values))

    with writing(engine) as connection:
        if engine.name == "postgresql":
            # Of small tables it would rather read all rows.
            connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        erasing.erase(connection, ada, now=NOW)
    assert plan
    assert not [step for step in plan if step.startswith("SCAN ") or "Seq Scan" in step]


def test_an_entry_names_an_address_by_every_secret(restoring: Restoring) -> None:
    """The key was changed, Ada came again, and left: the backup knows her by the old key."""
    ada = restoring.subscribe(secrets=SECRETS[1:])
    with writing(restoring.engine) as connection:
        found = optouts.entry(connection, ada, Status.UNSUBSCRIBED, secrets=SECRETS, now=NOW)
    assert set(found.hashes) == set(hashes_of(ADA))
    restoring.write(found)
    assert "example.org" not in (restoring.data_dir / journal.FILE).read_text()
    restoring.settle()
    assert restoring.status(ada) is Status.UNSUBSCRIBED


def test_many_entries(restoring: Restoring) -> None:
    """More than one batch, one of them Ada's."""
    ada = restoring.subscribe()
    entries = [left(BACKUP + HOUR, address=f"{n}@example.org") for n in range(600)]
    rows = [*entries[:300], left(BACKUP + HOUR), *entries[300:]]
    path = restoring.write(rows[0])
    with path.open("a") as file:
        for row in rows[1:]:
            line = {"at": row.at.isoformat(), "kind": row.kind, "hashes": row.hashes}
            file.write(f"{json.dumps(line)}\n")
    assert restoring.settle().opt_outs == {Status.UNSUBSCRIBED: 1}
    assert restoring.status(ada) is Status.UNSUBSCRIBED
    assert len(restoring.suppressed()) == 2 * 601


def test_a_journal_that_is_none_changes_nothing(restoring: Restoring, tmp_path: Path) -> None:
    waiting = restoring.delivery(restoring.subscribe(), State.PLANNED)
    path = tmp_path / "digest.csv"
    path.write_text("email,name\n")
    restoring.journals.append(path)
    with pytest.raises(InputError, match=r"digest\.csv, line 1"):
        restoring.settle()
    assert restoring.row(waiting)["state"] == State.PLANNED
    with reading(restoring.engine) as connection:
        assert gaps.load(connection) == []
