"""Whether a list is the day's list: new, read before, yesterday's, or a piece of one.

A list that is yesterday's under today's date, for one category or for all, comes without an error;
so does one that ends early. Neither is taken for the day's, as nobody would learn of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Self

from digest.models import Health, Record
from digest.sources import calendar
from digest.sources.arxiv_xml import Announcement
from digest.sources.outcome import Problem

_SIZES_KEPT = 4  # of each weekday: Tuesday's list is twice as long as Friday's
_TOO_SMALL = 0.3  # of the smallest of those
_REPEATED = 0.8  # of a category's papers, which makes it a repetition
_FEWEST = 5  # papers of a list or a category that can be judged


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The last list that was whole; `keys` are ids with versions, `sizes` go by weekday."""

    day: date | None = None
    keys: frozenset[str] = frozenset()
    sizes: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None, categories: Iterable[str]) -> Self:
        """From a source's state; of other categories only the day can be compared."""
        if state is None:
            return cls()
        day = date.fromisoformat(state["day"])
        if state["categories"] != sorted(categories):
            return cls(day=day)
        return cls(day=day, keys=frozenset(state["keys"]), sizes=state["sizes"])

    def to_state(self, categories: Iterable[str]) -> dict[str, Any]:
        return {
            "day": self.day.isoformat() if self.day else None,
            "keys": sorted(self.keys),
            "sizes": dict(self.sizes),
            "categories": sorted(categories),
        }

    def followed_by(self, announcement: Announcement, *, due: date) -> Batch:
        """The batch after a good read; without a list, all until `due` is known."""
        if announcement.day is None:
            return Batch(day=due, keys=self.keys, sizes=self.sizes)
        sizes = self.sizes
        if announcement.day != self.day:
            weekday = str(announcement.day.weekday())
            newest = [*sizes.get(weekday, ()), len(announcement.records)][-_SIZES_KEPT:]
            sizes = {**sizes, weekday: newest}
        return Batch(day=announcement.day, keys=keys(announcement.records), sizes=sizes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What may be taken from a list. Without `usable`, nothing, and nothing is remembered."""

    records: tuple[Record, ...] = ()
    problems: tuple[Problem, ...] = ()
    usable: bool = True
    again: bool = False  # the list that was read before, perhaps with more
    health: Health = Health.OK  # when nothing else goes wrong

    @property
    def whole(self) -> bool:
        """Whether it is all that arXiv announced."""
        return self.usable and all(problem.health.good for problem in self.problems)


def keys(records: Iterable[Record]) -> frozenset[str]:
    return frozenset(map(key, records))


def key(record: Record) -> str:
    return f"{record.external_id}v{record.version or 1}"


def judge(
    announcement: Announcement, before: Batch, *, due: date, categories: Sequence[str]
) -> Verdict:
    """What to take from a list when that of `due` has to be there and `before` was the last."""
    day, records = announcement.day, announcement.records
    if day is None:
        return _judge_empty(announcement, before, due)
    if day < due or (before.day is not None and day < before.day):
        return _refused(
            Health.STALE,
            f"arXiv still shows the list of {day}; that of {max(due, before.day or due)} is due. "
            "Nothing of it is taken, and it is read again next time.",
        )
    if day == before.day:
        if len(records) < len(before.keys):
            return _refused(
                Health.HALF_FILLED,
                f"The list of {day} has {len(records)} papers and had {len(before.keys)}; "
                "what it had is kept.",
            )
        return Verdict(records=records, again=True)
    if len(records) >= _FEWEST and len(keys(records) & before.keys) > len(records) / 2:
        return _refused(
            Health.STALE,
            f"arXiv's list of {day} repeats that of {before.day}. "
            "Nothing of it is taken, and it is read again next time.",
        )
    problems: list[Problem] = []
    repeating = _repeating(records, before, categories)
    if repeating:
        problems.append(
            Problem(
                health=Health.HALF_FILLED,
                reason=f"In {', '.join(repeating)} arXiv repeats the list of {before.day}; the "
                "repeated papers are left out, and the list is read again next time.",
            )
        )
        records = tuple(record for record in records if key(record) not in before.keys)
    if len(records) < (least := _least(day, before)):
        problems.append(
            Problem(
                health=Health.HALF_FILLED,
                reason=f"The list of {day} has {len(records)} papers, where at least {least:.0f} "
                "are usual; they are taken, and the list is read again next time.",
            )
        )
    return Verdict(records=records, problems=tuple(problems))


def _judge_empty(announcement: Announcement, before: Batch, due: date) -> Verdict:
    """An empty list: right at weekends, at holidays and where hardly anything ever comes."""
    built_on = announcement.built_on or due
    if built_on < due:
        return _refused(
            Health.STALE,
            f"arXiv's list is empty and was built on {built_on}; that of {due} is due. "
            "It is read again next time.",
        )
    if not calendar.is_sure(built_on):
        return Verdict(health=Health.EMPTY_BY_CALENDAR)
    if before.day == built_on or min(_sizes(before), default=_FEWEST) >= _FEWEST:
        return _refused(
            Health.HALF_FILLED,
            f"arXiv's list of {built_on} is empty, although there is one on that day. "
            "It is read again next time.",
        )
    few = Problem(health=Health.OK, reason=f"arXiv announced nothing in these on {built_on}.")
    return Verdict(problems=(few,))


def _repeating(
    records: Iterable[Record], before: Batch, categories: Sequence[str]
) -> tuple[str, ...]:
    """The categories that show the list before under this one's date."""
    found = []
    for category in categories:
        here = [key(record) for record in records if category in record.categories]
        repeated = sum(name in before.keys for name in here)
        if len(here) >= _FEWEST and repeated > _REPEATED * len(here):
            found.append(category)
    return tuple(found)


def _least(day: date, before: Batch) -> float:
    """The fewest papers that are still a list of that weekday; 0 without a history."""
    return _TOO_SMALL * min(before.sizes.get(str(day.weekday())) or _sizes(before), default=0)


def _sizes(before: Batch) -> list[int]:
    return [size for sizes in before.sizes.values() for size in sizes]


def _refused(health: Health, reason: str) -> Verdict:
    return Verdict(problems=(Problem(health=health, reason=reason),), usable=False)
