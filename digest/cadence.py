"""When a digest is due: from a subscriber's schedules, through every trick that clocks play.

The rules (invariants 1 and 10):

- A slot is a local date. One date has at most one slot, whatever the frequency and however often
  the zone, hour or frequency changed.
- The slot is due when the local clock first shows the hour. An hour that the clock skips is due at
  the first instant after the gap, one that it shows twice at the first, and a date that the zone
  skips (Apia, 2011-12-30) has no slot.
- A schedule that starts after today's hour has no slot today: a new subscriber does not get the
  digest that left before they came. Only where the schedule before it would still have come
  today does the date keep its slot, due at once: a change costs nobody their digest.
- Two digests are at least 12 h apart. A slot that would come sooner waits; when it would wait into
  the next local date, it is dropped.
- After an outage only the latest missed slot is sent, and only within the catch-up window.
- A schedule may begin with a welcome: it is the slot of that date, due at once, unless the date had
  its slot or one was due less than 12 h ago. By it alone no slot waits; one that is due within 6 h
  after it is stored as `skipped (welcome)`. Where that date's own hour is still to come, the date
  has had its slot by then: the welcome's row says which hour it replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from digest.errors import ScheduleError
from digest.models import Frequency, Schedule, Slot

log = logging.getLogger(__name__)

APART = timedelta(hours=12)
WELCOME = timedelta(hours=6)  # after a welcome, until a slot is sent again
_DAY = timedelta(days=1)
# No local date is more than this far from the UTC instant at its noon (zones span -12..+14 h).
_REACH = timedelta(days=2)
_Found = tuple[int, date, datetime]  # a slot: whose schedule (an index), date, instant
# Schedules as plain tuples, which are compared much faster.
_Recent = tuple[tuple[datetime, str, int, Frequency, int | None, bool, bool], ...]


def local_instant(day: date, hour: int, zone: str) -> datetime | None:
    """The first instant (UTC) at which `zone` shows `hour` or later on `day`; None if it has none.

    PEP 495: fold=0 of a time in a gap is read with the offset before the gap, and so lies after
    it by what was skipped; the first instant after the gap is where the offsets change.
    """
    info = ZoneInfo(zone)
    local = datetime.combine(day, time(hour), info)
    instant = local.astimezone(UTC)
    shown = instant.astimezone(info)
    if shown.replace(tzinfo=None) != local.replace(tzinfo=None):
        instant = _gap_end(instant, info)
        shown = instant.astimezone(info)
    return instant if shown.date() == day else None


def _gap_end(after: datetime, info: ZoneInfo) -> datetime:
    """The instant of the forward change just before `after`, to the second."""
    high, low = after, after - 2 * _DAY
    offset = high.astimezone(info).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if middle.astimezone(info).utcoffset() == offset:
            high = middle
        else:
            low = middle
    return high.replace(microsecond=0)


def _has_slot(schedule: Schedule, day: date) -> bool:
    match schedule.frequency:
        case Frequency.DAILY:
            return True
        case Frequency.WEEKDAYS:
            return day.weekday() < 5
        case Frequency.WEEKLY:
            return day.weekday() == schedule.weekday


def _regular(schedule: Schedule, day: date) -> datetime | None:
    if not schedule.active or not _has_slot(schedule, day):
        return None
    return local_instant(day, schedule.hour, schedule.zone)


def slots(history: Sequence[Schedule], *, start: datetime, end: datetime) -> list[Slot]:
    """All slots due in the half-open interval (start, end], in the order in which they are due.

    `history` holds the subscriber's schedules in order of `since`; each ends where the next begins.
    """
    skipped, recent = _recent(history, start)
    return [
        Slot(date=day, due_at=due, schedule=history[skipped + index])
        for index, day, due in _slots(recent, start, end)
    ]


def next_slot(history: Sequence[Schedule], *, after: datetime) -> Slot | None:
    """The first slot due after the given instant, if the schedule goes on as it is.

    A fortnight is enough, counted from the last change: a weekly slot may fall on a date that its
    zone skips, but not two.
    """
    skipped, recent = _recent(history, after)
    found = _next_slot(recent, after)
    if found is None:
        return None
    index, day, due = found
    return Slot(date=day, due_at=due, schedule=history[skipped + index])


# Thousands are due at one instant, by a few dozen schedules.
@lru_cache(maxsize=4096)
def _slots(recent: _Recent, start: datetime, end: datetime) -> tuple[_Found, ...]:
    found = _walk(_schedules(recent), start, end)
    return tuple(one for one in found if start < one[2] <= end)


@lru_cache(maxsize=4096)
def _next_slot(recent: _Recent, after: datetime) -> _Found | None:
    history = _schedules(recent)
    begin = max([after, *(schedule.since for schedule in history[-1:])])
    coming = _walk(history, after, begin + timedelta(days=15))
    return next((one for one in coming if one[2] > after), None)


def _recent(history: Sequence[Schedule], start: datetime) -> tuple[int, _Recent]:
    """What the slots after `start` depend on, and how many schedules of the past it leaves out.

    It is equal for all who have not changed anything for some days: since when they have the
    schedule that is in force when the walk begins does not matter, for no day that the walk looks
    at has its hour two days before that.
    """
    settled = _calm_start(history, start) - _REACH
    skipped = max(len(history) - 1, 0)
    while skipped > 0 and history[skipped].since > settled:
        skipped -= 1
    return skipped, tuple(
        (
            max(one.since, settled),
            one.zone,
            one.hour,
            one.frequency,
            one.weekday,
            one.active,
            one.welcome and one.since > settled,
        )
        for one in history[skipped:]
    )


def _schedules(recent: _Recent) -> list[Schedule]:
    return [
        Schedule(
            since=since,
            zone=zone,
            hour=hour,
            frequency=frequency,
            weekday=weekday,
            active=active,
            welcome=welcome,
        )
        for since, zone, hour, frequency, weekday, active, welcome in recent
    ]


def _calm_start(history: Sequence[Schedule], start: datetime) -> datetime:
    """An instant at or before `start` from which the walk needs to know nothing of the past.

    Two days without a change are enough: slots are then a day apart, and the 12 h rule is idle.
    """
    begin = start - _REACH
    for schedule in reversed(history):
        if schedule.since > begin:
            begin = min(begin, schedule.since - _REACH)
    return begin


def _walk(history: Sequence[Schedule], start: datetime, end: datetime) -> Iterator[_Found]:
    begin = _calm_start(history, start)
    last_due: datetime | None = None
    dates: set[date] = set()
    for index, schedule in enumerate(history):
        until = history[index + 1].since if index + 1 < len(history) else None
        if (until is not None and until <= begin) or schedule.since > end:
            continue
        if not schedule.active:
            continue
        info = ZoneInfo(schedule.zone)
        opens = max(schedule.since, begin)
        day = opens.astimezone(info).date()
        closes = end if until is None else min(end, until)
        welcomed = schedule.welcome and opens == schedule.since and day not in dates
        if welcomed and (last_due is None or schedule.since >= last_due + APART):
            dates.add(day)
            last_due, calm = schedule.since, None
            yield index, day, schedule.since
        else:
            calm = last_due
        while day <= closes.astimezone(info).date():
            due = _due(history, index, day, calm)
            if due is not None and day not in dates:
                # A slot at the very instant of a change was due before it.
                in_force = schedule.since <= due and (until is None or due <= until)
                if in_force and due <= end:
                    dates.add(day)
                    last_due = calm = due
                    yield index, day, due
            day += _DAY


def _due(
    history: Sequence[Schedule], index: int, day: date, last_due: datetime | None
) -> datetime | None:
    schedule = history[index]
    due = _regular(schedule, day)
    if due is None:
        return None
    if due < schedule.since:
        # The hour has passed; keep the date's slot only if the schedule before still owed it.
        before = _regular(history[index - 1], day) if index else None
        if before is None or before <= schedule.since:
            return None
        due = schedule.since
    if last_due is not None and due < last_due + APART:
        due = last_due + APART
        if due.astimezone(ZoneInfo(schedule.zone)).date() != day:
            return None
    return due


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A slot that is due, and whether it is only stored: as `skipped (outage)`, or `(welcome)`."""

    slot: Slot
    missed: bool
    welcomed: bool = False  # a welcome came just before it


def due_slots(
    history: Sequence[Schedule], *, since: datetime, now: datetime, catch_up: timedelta
) -> list[Due]:
    """What to plan at `now`, given that everything due up to `since` has its row.

    Only the latest slot is sent, and only if it was due less than `catch_up` ago. One soon after a
    welcome is not, unless that came too late to be sent itself.
    """
    found = slots(history, start=since, end=now)
    oldest = now - catch_up
    welcomed = [
        _is_welcomed(history, slot)
        and (slot.schedule.since <= since or slot.schedule.since >= oldest)
        for slot in found
    ]
    latest = [slot for slot, skip in zip(found, welcomed, strict=True) if not skip][-1:]
    return [
        Due(
            slot=slot,
            missed=not skip and (slot not in latest or slot.due_at < oldest),
            welcomed=skip,
        )
        for slot, skip in zip(found, welcomed, strict=True)
    ]


def _is_welcomed(history: Sequence[Schedule], slot: Slot) -> bool:
    """Whether a welcome, of which the slot's schedule is the one, came just before it."""
    began = slot.schedule.since
    if not slot.schedule.welcome or not began < slot.due_at <= began + WELCOME:
        return False
    first = slots(history, start=began - timedelta(microseconds=1), end=began)
    return bool(first) and first[-1].schedule is slot.schedule


def replaced(slot: Slot) -> datetime | None:
    """The hour of its own that the date of a welcome still had, and at which nothing comes."""
    schedule = slot.schedule
    if not schedule.welcome or slot.due_at != schedule.since:
        return None
    due = _regular(schedule, slot.date)
    return due if due is not None and due > slot.due_at else None


DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def parse_frequency(text: str, *, weekday: int) -> tuple[Frequency, int | None]:
    """`daily`, `weekdays`, `weekly` (on `weekday`) or `weekly friday`; ScheduleError."""
    name, _, day = text.strip().lower().replace(":", " ").partition(" ")
    if name not in tuple(Frequency) or (day and name != Frequency.WEEKLY):
        raise ScheduleError(f"{text!r} is no frequency: write daily, weekdays, or weekly friday.")
    frequency = Frequency(name)
    if frequency is not Frequency.WEEKLY:
        return frequency, None
    if not day.strip():
        return frequency, weekday
    found = [number for number, known in enumerate(DAYS) if known.startswith(day.strip())]
    if len(found) != 1:
        raise ScheduleError(f"{day.strip()!r} is no day of the week: write monday .. sunday.")
    return frequency, found[0]


def spell_frequency(frequency: Frequency, weekday: int | None) -> str:
    """A frequency as `parse_frequency` reads it."""
    return str(frequency) if weekday is None else f"{frequency} {DAYS[weekday]}"


@cache
def known_zone(name: str) -> str:
    """The name of a stored zone, or UTC where this machine's tables no longer have it."""
    try:
        return check_zone(name)
    except ScheduleError as error:
        log.error(
            "%s Its digests are due by UTC until it is changed.", error, extra={"action": "zone"}
        )
        return "UTC"


def check_zone(name: str) -> str:
    """The name of a time zone that exists; ScheduleError."""
    try:
        return ZoneInfo(name).key
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = get_close_matches(name, available_timezones(), n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else " Write it as in Europe/Berlin."
        raise ScheduleError(f"{name!r} is no time zone.{hint}") from None
