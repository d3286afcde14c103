"""Report: does the ledger add up, how are the sources, who did not get a mail, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from digest.cadence import known_zone, slots
from digest.models import Frequency, Schedule, State
from digest.storage import digests, outcomes, sources, subscribers
from digest.storage.database import reading
from digest.storage.sources import Read

# The scheduler plans every few seconds, and a batch takes a while.
_PLANNING_TAKES = timedelta(minutes=5)
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
    sources: Sequence[Read]
    overdue: int  # of the missing, those that planning has had time for

    @property
    def waiting(self) -> int:
        return sum(self.states[state] for state in _WAITING)

    @property
    def missing(self) -> int:
        return self.due - sum(self.states.values())


def report(
    engine: Engine, source_names: Sequence[str], *, now: datetime, span: timedelta
) -> Report:
    """What is true of the slots due within `span` before `now`."""
    start, late = now - span, now - _PLANNING_TAKES
    with reading(engine) as connection:
        planned = outcomes.counts(connection, start=start, end=late)
        return Report(
            overdue=count_due(connection, start=start, end=late) - sum(planned.values()),
            start=start,
            end=now,
            due=count_due(connection, start=start, end=now),
            states=outcomes.counts(connection, start=start, end=now),
            reasons=outcomes.reasons(
                connection, start=start, end=now, states=(State.SKIPPED, State.FAILED)
            ),
            failures=outcomes.failures(connection, start=start, end=now),
            account_mail=outcomes.counts(connection, start=start, end=now, account=True),
            sources=sources.latest_reads(connection, source_names, now=now),
        )


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
        histories = subscribers.histories(connection, changed[part : part + 500])
        total += sum(len(slots(history, start=start, end=end)) for history in histories.values())
    return total
