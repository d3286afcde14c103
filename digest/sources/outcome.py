"""How a read ended, for the health row: refusals remembered, the worst problem named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from digest.errors import SourceError
from digest.models import Fetch, Health

_WORST_FIRST = (
    Health.FAILED,
    Health.REFUSED,
    Health.STALE,
    Health.HALF_FILLED,
    Health.EMPTY_BY_CALENDAR,
    Health.UNCHANGED,
    Health.OK,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that went wrong in a read, as a sentence."""

    health: Health
    reason: str


def told_to_wait(source: str, state: Mapping[str, Any]) -> Fetch | None:
    """The Fetch that asks nothing, while the source's last refusal is in force (real time)."""
    until = state.get("not_before")
    if until is None or datetime.fromisoformat(until) <= datetime.now(UTC):
        return None
    reason = f"Not asked: it told us to wait, and is asked again after {_clock_time(until)}."
    return Fetch(source=source, health=Health.REFUSED, reason=reason)


def problem(error: SourceError, *, otherwise: Health = Health.FAILED) -> Problem:
    """The problem that `error` is; a refusal is told from a failure."""
    health = Health.REFUSED if error.refused else otherwise
    return Problem(health=health, reason=f"{error}.")


def waiting(state: Mapping[str, Any], error: SourceError | None = None) -> dict[str, Any]:
    """`state` with the time before which the source is not asked again, or without one."""
    kept = {key: value for key, value in state.items() if key != "not_before"}
    if error is not None and error.retry_at is not None:
        kept["not_before"] = error.retry_at.isoformat()
    return kept


def sum_up(problems: Sequence[Problem], *, otherwise: Health = Health.OK) -> tuple[Health, str]:
    """The worst health and every reason once; `otherwise` when nothing is worse."""
    worst = min((p.health for p in problems), key=_WORST_FIRST.index, default=otherwise)
    health = min(worst, otherwise, key=_WORST_FIRST.index)
    return health, " ".join(dict.fromkeys(p.reason for p in problems))


def _clock_time(iso: str) -> str:
    return f"{datetime.fromisoformat(iso).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
