"""Days, weeks and months as pages have them: `2026-05-28`, `2026-W22`, `2026-05`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

FIRST_YEAR, LAST_YEAR = 1900, 2999
_SHAPE = re.compile(
    r"(?P<year>\d{4})-(?:W(?P<week>\d\d)|(?P<month>\d\d)(?:-(?P<day>\d\d))?)", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """A day, a week of ISO 8601 or a month."""

    kind: str  # day | week | month
    first: date
    end: date  # the day after its last

    @property
    def name(self) -> str:
        """How it is written in an address."""
        if self.kind == "week":
            year, week, _ = self.first.isocalendar()
            return f"{year}-W{week:02}"
        return self.first.isoformat()[:7] if self.kind == "month" else self.first.isoformat()


def parse(written: str) -> Period | None:
    """The period that `written` names; None where it names none, or in another way."""
    found = _SHAPE.fullmatch(written)
    if found is None or not FIRST_YEAR <= int(found["year"]) <= LAST_YEAR:
        return None
    year = int(found["year"])
    try:
        if found["week"]:
            return containing(date.fromisocalendar(year, int(found["week"]), 1), "week")
        day = date(year, int(found["month"]), int(found["day"] or 1))
    except ValueError:
        return None
    return containing(day, "day" if found["day"] else "month")


def containing(day: date, kind: str) -> Period:
    """The period of that kind in which `day` lies."""
    if kind == "week":
        first = day - timedelta(days=day.weekday())
        return Period(kind=kind, first=first, end=first + timedelta(days=7))
    if kind == "month":
        first = day.replace(day=1)
        return Period(kind=kind, first=first, end=(first + timedelta(days=31)).replace(day=1))
    return Period(kind=kind, first=day, end=day + timedelta(days=1))
