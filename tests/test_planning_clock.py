"""Days on which clocks play tricks, lived hour by hour: nothing twice, nothing lost."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from tests.desk import DAILY, Desk

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.mark.parametrize("set_back", [False, True], ids=["", "clock set back"])
@pytest.mark.parametrize(
    ("zone", "hour", "day"),
    [
        pytest.param("Europe/Berlin", 2, "2026-03-29", id="forward, north"),
        pytest.param("Europe/Berlin", 2, "2026-10-25", id="back, north"),
        pytest.param("Pacific/Auckland", 2, "2026-09-27", id="forward, south"),
        pytest.param("Pacific/Auckland", 2, "2026-04-05", id="back, south"),
        pytest.param("America/Sao_Paulo", 0, "2018-11-04", id="no midnight"),
        pytest.param("Pacific/Apia", 8, "2011-12-30", id="a day that was lost"),
    ],
)
def test_a_digest_for_each_date(
    desk: Desk, zone: str, hour: int, day: str, *, set_back: bool
) -> None:
    there, tricky = ZoneInfo(zone), date.fromisoformat(day)
    start = datetime(tricky.year, tricky.month, tricky.day, 12, tzinfo=there) - 2 * DAY
    desk.now = start.astimezone(UTC)
    ada = desk.subscribe("ada", wishes=replace(DAILY, zone=zone, hour=hour))
    end = desk.now + 4 * DAY
    papers = []
    for step in itertools.count():
        if step % 24 == 0:
            papers.append(desk.paper(f"Paper {step}", votes=9))
        desk.run()
        desk.end()
        if set_back and step % 24 == 12:
            for _ in range(2):  # an hour is lived a second time
                desk.now -= HOUR
                desk.run()
                desk.now += HOUR
        if desk.now >= end:
            break
        desk.now += HOUR
    rows = desk.digests(ada)
    days = (desk.now.astimezone(there).date() - start.date()).days
    dates = [start.date() + number * DAY for number in range(1, days + 1)]
    assert [row["slot"] for row in rows] == [
        one for one in dates if (zone, one) != ("Pacific/Apia", date(2011, 12, 30))
    ]
    for row, later in itertools.pairwise(rows):
        assert later["due_at"] - row["due_at"] >= 12 * HOUR
    had = [paper for row in rows for paper in row["paper_ids"]]
    assert sorted(had) == sorted(set(had)) == papers[: len(had)]
    assert desk.report().missing == 0
    assert desk.report().due == len(rows)
