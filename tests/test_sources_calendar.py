"""arXiv's announcement calendar, on its own table and over a year."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.sources import calendar

# New York is at UTC-4 on these days: midnight is 04:00 UTC, and the list is late after 06:00.
DUE = {
    "Friday morning": ("2026-05-29T07:00", "2026-05-29"),
    "Friday, not late yet": ("2026-05-29T05:00", "2026-05-28"),
    "Saturday": ("2026-05-30T12:00", "2026-05-29"),
    "Sunday evening": ("2026-05-31T23:00", "2026-05-29"),
    "Monday after the rebuild": ("2026-06-01T06:00", "2026-06-01"),
    "winter, an hour later": ("2026-02-03T06:30", "2026-02-02"),
    "Labor Day and the day after are not demanded": ("2026-09-08T12:00", "2026-09-04"),
    "after Labor Day": ("2026-09-09T12:00", "2026-09-09"),
    "Thanksgiving": ("2026-11-27T12:00", "2026-11-25"),
    "between the holidays": ("2026-12-30T20:00", "2026-12-24"),
    "a holiday of a year that we do not know": ("2027-07-05T12:00", "2027-07-05"),
}


@pytest.mark.parametrize(("now", "due"), DUE.values(), ids=DUE)
def test_the_latest_list_that_must_be_there(now: str, due: str) -> None:
    at = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert calendar.latest_due(at) == date.fromisoformat(due)


# https://info.arxiv.org/help/availability.html, in New York's time; May 2026 is at UTC-4.
SUBMITTED = {
    "Monday 14:00 begins Wednesday's": ("2026-05-25T18:00", "2026-05-27"),
    "Tuesday 13:59": ("2026-05-26T17:59", "2026-05-27"),
    "Tuesday 14:00": ("2026-05-26T18:00", "2026-05-28"),
    "Thursday 14:00 waits for Monday": ("2026-05-28T18:00", "2026-06-01"),
    "Friday 13:59": ("2026-05-29T17:59", "2026-06-01"),
    "Friday 14:00 is Tuesday's": ("2026-05-29T18:00", "2026-06-02"),
    "Sunday": ("2026-05-31T12:00", "2026-06-02"),
    "Monday 13:59": ("2026-06-01T17:59", "2026-06-02"),
}


@pytest.mark.parametrize(("at", "day"), SUBMITTED.values(), ids=SUBMITTED)
def test_the_list_that_a_submission_is_in(at: str, day: str) -> None:
    found = calendar.list_of(datetime.fromisoformat(at).replace(tzinfo=UTC))
    assert found == date.fromisoformat(day)


@given(st.integers(0, 3 * 366 * 24 * 60))
def test_a_submission_lies_in_its_lists_window_and_before_its_announcement(minutes: int) -> None:
    at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    day = calendar.list_of(at)
    start, end = calendar.submissions(day)
    assert start <= at < end < calendar.announced_at(day)


def test_the_windows_meet_without_a_gap() -> None:
    days = calendar.list_days(date(2025, 12, 31), date(2027, 1, 1))
    assert all(day.weekday() < 5 for day in days)
    windows = [calendar.submissions(day) for day in days]
    assert all(a[1] == b[0] for a, b in pairwise(windows))


def test_announced_the_evening_before_in_new_york() -> None:
    assert calendar.announced_at(date(2026, 6, 1)) == datetime(2026, 6, 1, 0, tzinfo=UTC)
    assert calendar.announced_at(date(2026, 2, 3)) == datetime(2026, 2, 3, 1, tzinfo=UTC)


def test_days_between_leave_out_both_ends_and_weekends() -> None:
    assert calendar.list_days(date(2026, 5, 28), date(2026, 6, 2)) == (
        date(2026, 5, 29),
        date(2026, 6, 1),
    )
    assert calendar.list_days(date(2026, 5, 28), date(2026, 5, 29)) == ()


def test_a_due_list_is_never_in_the_future() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for hour in range(0, 365 * 24, 5):
        now = start + timedelta(hours=hour)
        assert calendar.announced_at(calendar.latest_due(now)) < now
