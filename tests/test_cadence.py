"""Slots over DST, lost dates, outages and changed minds."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digest.cadence import APART, due_slots, local_instant, next_slot, slots
from digest.models import Frequency, Schedule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def at(zone: str, text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def schedule(
    since: datetime,
    zone: str = "Europe/Berlin",
    hour: int = 8,
    frequency: Frequency = Frequency.DAILY,
    weekday: int | None = None,
    *,
    active: bool = True,
) -> Schedule:
    return Schedule(
        since=since, zone=zone, hour=hour, frequency=frequency, weekday=weekday, active=active
    )


@pytest.mark.parametrize(
    ("day", "hour", "zone", "expected"),
    [
        pytest.param("2026-05-28", 8, "Europe/Berlin", "2026-05-28T06:00", id="summer"),
        pytest.param("2026-01-28", 8, "Europe/Berlin", "2026-01-28T07:00", id="winter"),
        pytest.param("2026-03-29", 2, "Europe/Berlin", "2026-03-29T01:00", id="hour in the gap"),
        pytest.param("2026-10-25", 2, "Europe/Berlin", "2026-10-25T00:00", id="hour shown twice"),
        pytest.param("2026-09-27", 2, "Pacific/Auckland", "2026-09-26T14:00", id="gap, south"),
        pytest.param("2026-04-05", 2, "Pacific/Auckland", "2026-04-04T13:00", id="twice, south"),
        pytest.param("2018-11-04", 0, "America/Sao_Paulo", "2018-11-04T03:00", id="no midnight"),
        pytest.param("2011-12-30", 8, "Pacific/Apia", None, id="Apia's lost day"),
        pytest.param("2011-12-31", 8, "Pacific/Apia", "2011-12-30T18:00", id="the day after it"),
        pytest.param("2026-10-04", 2, "Australia/Lord_Howe", "2026-10-03T15:30", id="half an hour"),
    ],
)
def test_the_local_hour(day: str, hour: int, zone: str, expected: str | None) -> None:
    found = local_instant(date.fromisoformat(day), hour, zone)
    assert found == (utc(expected) if expected else None)


def test_daily_weekdays_weekly() -> None:
    since = utc("2026-05-01T00:00")
    window = {"start": utc("2026-05-25T00:00"), "end": utc("2026-06-01T00:00")}
    daily = slots([schedule(since)], **window)
    assert [s.date.day for s in daily] == [25, 26, 27, 28, 29, 30, 31]
    weekdays = slots([schedule(since, frequency=Frequency.WEEKDAYS)], **window)
    assert [s.date.day for s in weekdays] == [25, 26, 27, 28, 29]
    weekly = slots([schedule(since, frequency=Frequency.WEEKLY, weekday=2)], **window)
    assert [s.date.day for s in weekly] == [27]


def test_a_new_subscriber_does_not_get_the_slot_before_they_came() -> None:
    history = [schedule(at("Europe/Berlin", "2026-05-28T08:01"))]
    first = next_slot(history, after=history[0].since - timedelta(days=1))
    assert first is not None
    assert first.date == date(2026, 5, 29)


def test_one_who_comes_at_the_very_hour_gets_it() -> None:
    history = [schedule(at("Europe/Berlin", "2026-05-28T08:00"))]
    first = next_slot(history, after=history[0].since - timedelta(days=1))
    assert first is not None
    assert first.date == date(2026, 5, 28)


def test_a_pause_has_no_slots_and_its_end_makes_none_up() -> None:
    history = [
        schedule(utc("2026-05-01T00:00")),
        schedule(utc("2026-05-10T00:00"), active=False),
        schedule(at("Europe/Berlin", "2026-05-20T09:00")),
    ]
    found = slots(history, start=utc("2026-05-08T12:00"), end=utc("2026-05-22T12:00"))
    assert [s.date.day for s in found] == [9, 21, 22]


def test_an_earlier_hour_chosen_after_it_keeps_todays_digest() -> None:
    change = at("Europe/Berlin", "2026-05-28T07:00")
    history = [schedule(utc("2026-05-01T00:00")), schedule(change, hour=6)]
    found = slots(history, start=change - timedelta(hours=1), end=change + timedelta(hours=30))
    assert [(s.date.day, s.due_at) for s in found] == [
        (28, change),
        (29, at("Europe/Berlin", "2026-05-29T06:00")),
    ]


def test_a_later_hour_chosen_after_the_digest_makes_no_second() -> None:
    change = at("Europe/Berlin", "2026-05-28T09:00")
    history = [schedule(utc("2026-05-01T00:00")), schedule(change, hour=18)]
    found = slots(history, start=utc("2026-05-28T00:00"), end=utc("2026-05-29T20:00"))
    assert [(s.date.day, s.schedule.hour) for s in found] == [(28, 8), (29, 18)]


def test_two_digests_are_twelve_hours_apart() -> None:
    change = at("Europe/Berlin", "2026-05-28T23:30")
    history = [schedule(utc("2026-05-01T00:00"), hour=23), schedule(change, hour=5)]
    found = slots(history, start=utc("2026-05-28T00:00"), end=utc("2026-05-30T12:00"))
    assert [s.due_at for s in found] == [
        at("Europe/Berlin", "2026-05-28T23:00"),
        at("Europe/Berlin", "2026-05-29T11:00"),
        at("Europe/Berlin", "2026-05-30T05:00"),
    ]


BASE = utc("2026-03-20T00:00")
_DAY = timedelta(days=1)


@st.composite
def histories(draw: st.DrawFn) -> list[Schedule]:
    zones = ["Pacific/Auckland", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "UTC"]
    minutes = draw(st.lists(st.integers(0, 60 * 24 * 20), min_size=1, max_size=6, unique=True))
    found = []
    for minute in sorted(minutes):
        frequency = draw(st.sampled_from(Frequency))
        found.append(
            schedule(
                BASE + timedelta(minutes=minute),
                draw(st.sampled_from(zones)),
                draw(st.integers(0, 23)),
                frequency,
                draw(st.integers(0, 6)) if frequency is Frequency.WEEKLY else None,
                active=draw(st.booleans()),
            )
        )
    return found


@settings(max_examples=150)
@given(histories(), st.integers(0, 60 * 24 * 22))
def test_any_history(history: list[Schedule], cut: int) -> None:
    end = BASE + timedelta(days=25)
    whole = slots(history, start=BASE, end=end)
    dates = [s.date for s in whole]
    assert len(dates) == len(set(dates))
    dues = [s.due_at for s in whole]
    assert dues == sorted(dues)
    assert all(b - a >= APART for a, b in itertools.pairwise(dues))
    for slot in whole:
        assert slot.schedule.active
        assert slot.due_at.astimezone(ZoneInfo(slot.schedule.zone)).date() == slot.date
    # Asking in two parts gives what asking at once gives: planning every minute misses nothing.
    middle = BASE + timedelta(minutes=cut)
    assert slots(history, start=BASE, end=middle) + slots(history, start=middle, end=end) == whole
    # A change touches nothing that was due before it.
    last = history[-1]
    before = [s for s in slots(history[:-1], start=BASE, end=end) if s.due_at <= last.since]
    assert before == [s for s in whole if s.schedule is not last]


@settings(max_examples=150)
@given(histories(), st.integers(0, 60 * 24 * 22), st.integers(0, 60 * 24 * 5))
def test_what_is_long_past_changes_no_slot(history: list[Schedule], since: int, ago: int) -> None:
    """Who has had the same schedules for some days gets what all others get who have them."""
    start, end = BASE + timedelta(minutes=since), BASE + timedelta(days=25)
    first = next((one for one in history[1:] if one.since > start - timedelta(days=9)), None)
    settled = history[history.index(first) - 1 :] if first else history[-1:]
    if settled[0].since < start - timedelta(days=9):
        settled[0] = replace(settled[0], since=start - timedelta(days=9, minutes=ago))
    found, expected = (slots(one, start=start, end=end) for one in (settled, history))
    assert [(slot.date, slot.due_at) for slot in found] == [
        (slot.date, slot.due_at) for slot in expected
    ]
    assert {id(slot.schedule) for slot in expected} <= {id(one) for one in history}
    following = next_slot(history, after=start)
    assert following == next(iter(slots(history, start=start, end=end + 15 * _DAY)), None)


def test_changing_at_every_moment_of_a_day_keeps_one_digest_a_date() -> None:
    """Auckland to Los Angeles and back, an hour between: each date once, none less than 12 h."""
    for minute in range(0, 60 * 24, 15):
        first = utc("2026-05-27T00:00") + timedelta(minutes=minute)
        history = [
            schedule(utc("2026-05-01T00:00"), "Pacific/Auckland"),
            schedule(first, "America/Los_Angeles"),
            schedule(first + timedelta(hours=1), "Pacific/Auckland"),
        ]
        found = slots(history, start=utc("2026-05-24T00:00"), end=utc("2026-05-31T00:00"))
        dates = [s.date for s in found]
        assert len(dates) == len(set(dates))
        assert date(2026, 5, 25) in dates
        assert date(2026, 5, 30) in dates
        assert all(b.due_at - a.due_at >= APART for a, b in itertools.pairwise(found))
        # Never a whole day without one: nobody is forgotten over a change of mind.
        assert all(b.due_at - a.due_at <= timedelta(hours=36) for a, b in itertools.pairwise(found))


def test_after_an_outage_only_the_latest_is_sent() -> None:
    history = [schedule(utc("2026-05-01T00:00"))]
    now = at("Europe/Berlin", "2026-05-28T10:00")
    found = due_slots(history, since=utc("2026-05-25T12:00"), now=now, catch_up=timedelta(hours=12))
    assert [(d.slot.date.day, d.missed) for d in found] == [(26, True), (27, True), (28, False)]
    late = due_slots(
        history,
        since=utc("2026-05-25T12:00"),
        now=at("Europe/Berlin", "2026-05-28T20:01"),
        catch_up=timedelta(hours=12),
    )
    assert [d.missed for d in late] == [True, True, True]
