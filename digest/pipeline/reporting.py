"""Report: does the ledger add up, what waits and why, who got no mail, how are the sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from digest.cadence import known_zone, slots
from digest.models import Frequency, Schedule, State
from digest.storage import alerts, digests, outcomes, queue, schedules, sources
from digest.storage.alerts import Alert
from digest.storage.database import reading
from digest.storage.outcomes import Breaker, Queue, Worker
from digest.storage.sources import Read

# The scheduler plans every few seconds, and a batch takes a while.
PLANNING_TAKES = timedelta(minutes=5)
_WAITING = (State.PLANNED, State.CLAIMED, State.SENDING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The state of the house for the slots due in (start, end].

    due = sent + failed + skipped + unknown + deferred + waiting + missing (invariant 2); `due` is
    counted from the subscribers' schedules, `missing` is what the ledger has no row for.
    """

    start: datetime
    end: datetime
    due: int
    states: Mapping[State, int]
    reasons: Mapping[tuple[State, str], int]
    failures: Sequence[Mapping[str, Any]]
    account_mail: Mapping[State, int]
    overdue: int  # of the missing, those that planning has had time for
    unresolved: int  # deliveries that are unknown, whenever they were due
    queues: Sequence[Queue]  # what waits for each receiving provider, the longest first
    breakers: Sequence[Breaker]
    workers: Sequence[Worker]  # that deliver now
    serving: int | None  # processes that take jobs; None where there are no jobs
    alerts: Sequence[Alert]
    sources: Sequence[Read]
    good_at: Mapping[str, datetime | None]  # when each source was last read well

    @property
    def waiting(self) -> int:
        return sum(self.states[state] for state in _WAITING)

    @property
    def missing(self) -> int:
        return self.due - sum(self.states.values())


def report(
    engine: Engine, source_names: Sequence[str], *, now: datetime, span: timedelta
) -> Report:
    """What is true of the slots due within `span` before `now`, and of the house."""
    start = now - span
    with reading(engine) as connection:
        return Report(
            start=start,
            end=now,
            due=count_due(connection, start=start, end=now),
            states=outcomes.counts(connection, start=start, end=now),
            reasons=outcomes.reasons(
                connection, start=start, end=now, states=(State.SKIPPED, State.FAILED)
            ),
            failures=outcomes.failures(connection, start=start, end=now),
            account_mail=outcomes.counts(connection, start=start, end=now, account=True),
            overdue=without_row(connection, start=start, end=now - PLANNING_TAKES),
            unresolved=outcomes.unknown(connection),
            queues=outcomes.queues(connection, now=now),
            breakers=outcomes.breakers(connection),
            workers=outcomes.workers(connection),
            serving=queue.serving(connection),
            alerts=alerts.current(connection),
            sources=sources.latest_reads(connection, source_names, now=now),
            good_at={name: sources.memory(connection, name).good_at for name in source_names},
        )


def summary(report: Report) -> dict[str, Any]:
    """The report as programs get it: by plain names, ready for JSON but for times and values."""
    return {
        "start": report.start,
        "end": report.end,
        "due": report.due,
        "missing": report.missing,
        "overdue": report.overdue,
        "waiting": report.waiting,
        **{str(state): count for state, count in report.states.items()},
        "reasons": {f"{state}: {why}": count for (state, why), count in report.reasons.items()},
        "failures": report.failures,
        "account_mail": {str(state): count for state, count in report.account_mail.items()},
        "unresolved": report.unresolved,
        "queues": report.queues,
        "breakers": report.breakers,
        "workers": report.workers,
        "serving": report.serving,
        "alerts": report.alerts,
        "sources": report.sources,
        "good_at": report.good_at,
    }


def without_row(connection: Connection, *, start: datetime, end: datetime) -> int:
    """How many slots due in (start, end] planning has left without a row."""
    due = count_due(connection, start=start, end=end)
    return due - outcomes.frozen(connection, start=start, end=end)


def count_due(connection: Connection, *, start: datetime, end: datetime) -> int:
    """How many slots are due in (start, end], from subscribers and cadence alone."""
    steady, changed = digests.due_by_schedule(connection, start=start, end=end)
    total = 0
    for row, people in steady:
        schedule = Schedule(
            since=start - timedelta(days=3),
            zone=known_zone(row["zone"]),
            hour=row["hour"],
            frequency=Frequency(row["frequency"]),
            weekday=row["weekday"],
        )
        total += people * len(slots([schedule], start=start, end=end))
    for part in range(0, len(changed), 500):
        histories = schedules.histories(connection, changed[part : part + 500])
        total += sum(len(slots(history, start=start, end=end)) for history in histories.values())
    return total
