"""arXiv's announcement calendar: which day's list is due, and when it was announced.

A list has the date of its mailing, Monday to Friday, in New York. It is announced at 20:00 of the
evening before (Sunday to Thursday), carries what was submitted until 14:00 of the last weekday
before, and reaches RSS at midnight: https://info.arxiv.org/help/availability.html
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

NEW_YORK = ZoneInfo("America/New_York")

_ONE_DAY = timedelta(days=1)
_SUBMIT_UNTIL = time(14)
_ANNOUNCED = time(20)
_LATE = timedelta(hours=2)  # what RSS may take after midnight before we call it late

# Published for the year; later years are known by their weekends alone, and a holiday then shows
# as a half-filled list until its year is added.
_DEFERRED = frozenset(
    date(2026, month, day)
    for month, day in (
        (1, 1), (1, 19), (6, 19), (7, 3), (9, 7), (11, 26), (12, 25), (12, 29), (12, 31),
    )
)  # fmt: skip


def is_list_day(day: date) -> bool:
    """Whether a list of `day` may exist at all."""
    return day.weekday() < 5


def is_sure(day: date) -> bool:
    """Whether a list of `day` must exist.

    arXiv names the day that it defers, not whether it means the evening's announcement (the list
    of the next day) or that day's list, so neither is demanded and both are welcome.
    """
    return is_list_day(day) and day not in _DEFERRED and _list_day_before(day) not in _DEFERRED


def latest_due(now: datetime) -> date:
    """The newest list that must be there at `now`."""
    day = (now - _LATE).astimezone(NEW_YORK).date()
    while not is_sure(day):
        day -= _ONE_DAY
    return day


def announced_at(day: date) -> datetime:
    """When the list of `day` was announced, in UTC."""
    return datetime.combine(day - _ONE_DAY, _ANNOUNCED, NEW_YORK).astimezone(UTC)


def list_days(after: date, before: date) -> tuple[date, ...]:
    """The days strictly between two dates that may have a list, oldest first."""
    between = (after + n * _ONE_DAY for n in range(1, (before - after).days))
    return tuple(day for day in between if is_list_day(day))


def submissions(day: date) -> tuple[datetime, datetime]:
    """From when until when, in UTC, what the list of `day` carries was submitted."""
    end = _list_day_before(day)
    start = _list_day_before(end)
    return (
        datetime.combine(start, _SUBMIT_UNTIL, NEW_YORK).astimezone(UTC),
        datetime.combine(end, _SUBMIT_UNTIL, NEW_YORK).astimezone(UTC),
    )


def list_of(submitted_at: datetime) -> date:
    """The list in which something submitted at that instant appears, unless it was held back."""
    local = submitted_at.astimezone(NEW_YORK)
    day = local.date() if local.time() < _SUBMIT_UNTIL else local.date() + _ONE_DAY
    while not is_list_day(day):
        day += _ONE_DAY
    day += _ONE_DAY
    while not is_list_day(day):
        day += _ONE_DAY
    return day


def _list_day_before(day: date) -> date:
    day -= _ONE_DAY
    while not is_list_day(day):
        day -= _ONE_DAY
    return day
