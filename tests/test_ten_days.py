"""The main job over ten recorded days: every slot once, at its hour, no paper twice."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select

from digest import schema
from digest.models import Frequency, Health, State, Wishes
from digest.pipeline.planning import preview
from digest.storage import subscribers
from digest.storage.database import reading, writing
from digest.storage.digests import slots_of
from tests.house import House, half_hours, make_house
from tests.replay import Replay
from tests.sink import Sink

pytestmark = pytest.mark.long

START = datetime(2026, 5, 18, 0, tzinfo=UTC)  # a Monday
DAYS = 10  # to Wednesday the week after, a weekend in between

# address, zone, hour, frequency, weekday, topics
PEOPLE = (
    ("auckland@example.org", "Pacific/Auckland", 7, Frequency.DAILY, None, ("agents",)),
    ("auckland.work@example.org", "Pacific/Auckland", 8, Frequency.WEEKDAYS, None, ()),
    ("kolkata@example.org", "Asia/Kolkata", 9, Frequency.DAILY, None, ("reasoning",)),
    ("berlin@example.org", "Europe/Berlin", 8, Frequency.DAILY, None, ("agents", "reasoning")),
    ("berlin.week@example.org", "Europe/Berlin", 8, Frequency.WEEKLY, 4, ("agents",)),
    ("new.york@example.org", "America/New_York", 6, Frequency.WEEKDAYS, None, ("agents",)),
    ("los.angeles@example.org", "America/Los_Angeles", 7, Frequency.DAILY, None, ()),
    ("los.angeles.week@example.org", "America/Los_Angeles", 20, Frequency.WEEKLY, 1, ()),
)


def move_in(house: House) -> None:
    house.now = START
    house.topic("agents", 'agents OR "tool use"')
    house.topic("reasoning", 'title:reasoning OR keyword:reasoning OR "chain of thought"')
    for address, zone, hour, frequency, weekday, topics in PEOPLE:
        wishes = Wishes(zone=zone, hour=hour, frequency=frequency, weekday=weekday, max_papers=8)
        house.subscribe(address, wishes, *topics)


def moments(start: datetime, end: datetime) -> Iterator[datetime]:
    """Every hour, and the half hours around the one at which Kolkata has its full hour."""
    return (now for now in half_hours(start, end) if now.minute == 0 or now.hour in (2, 3))


def live(house: House, replay: Replay, *, until: datetime) -> None:
    """At each moment plan and deliver; twice a day read the sources."""
    for now in moments(house.now, until):
        house.now = now
        if (now.hour, now.minute) in ((1, 0), (13, 0)):
            replay.today(now.date())
            house.collect()
        house.plan()
        house.deliver()
    house.now = until


def digests(house: House) -> list[dict[str, Any]]:
    rows = schema.digest.join(
        schema.delivery, schema.delivery.c.digest_id == schema.digest.c.id
    ).join(schema.subscriber, schema.subscriber.c.id == schema.digest.c.subscriber_id)
    with reading(house.services.engine) as connection:
        return [
            dict(row)
            for row in connection.execute(
                select(
                    schema.subscriber.c.address,
                    schema.digest.c.slot,
                    schema.digest.c.due_at,
                    schema.digest.c.paper_ids,
                    schema.delivery.c.state,
                    schema.delivery.c.reason,
                )
                .select_from(rows)
                .order_by(schema.digest.c.due_at)
            ).mappings()
        ]


def wanted_slots(
    zone: str, hour: int, frequency: Frequency, weekday: int | None
) -> Iterator[tuple[date, datetime]]:
    """What the calendar says, worked out here without the code under test."""
    day = START.date() - timedelta(days=1)
    while day <= START.date() + timedelta(days=DAYS + 1):
        due = datetime(day.year, day.month, day.day, hour, tzinfo=ZoneInfo(zone)).astimezone(UTC)
        wanted = {
            Frequency.DAILY: True,
            Frequency.WEEKDAYS: day.weekday() < 5,
            Frequency.WEEKLY: day.weekday() == weekday,
        }[frequency]
        if wanted and START <= due < START + timedelta(days=DAYS):
            yield day, due
        day += timedelta(days=1)


def assert_ledger_adds_up(house: House, *, days: int = DAYS + 1) -> None:
    report = house.services.report(timedelta(days=days))
    assert report.missing == 0
    assert report.due == sum(report.states.values())


def assert_no_paper_twice(house: House) -> None:
    had: Counter[tuple[str, int]] = Counter()
    for row in digests(house):
        had.update((row["address"], paper_id) for paper_id in row["paper_ids"])
    assert had
    assert max(had.values()) == 1


def test_ten_recorded_days(house: House, replay: Replay) -> None:
    move_in(house)
    live(house, replay, until=START + timedelta(days=DAYS))
    rows = digests(house)
    for address, zone, hour, frequency, weekday, _ in PEOPLE:
        found = [(row["slot"], row["due_at"]) for row in rows if row["address"] == address]
        assert found == list(wanted_slots(zone, hour, frequency, weekday)), address
    sent = [row for row in rows if row["state"] == State.SENT]
    skipped = [row for row in rows if row["state"] != State.SENT]
    # Everything that was not sent says why, and it is the weekend.
    assert {(row["state"], row["reason"]) for row in skipped} <= {
        (State.SKIPPED, "weekend"),
        (State.SKIPPED, "quiet"),
    }
    assert "weekend" in {row["reason"] for row in skipped}
    assert all(row["due_at"].weekday() >= 5 or row["due_at"].weekday() == 0 for row in skipped)
    # Each digest arrived exactly once, dated at its hour, with a subject of its own.
    assert len(house.sink.mails) == len(sent)
    for address, zone, hour, *_ in PEOPLE:
        mails = house.mails(address)
        assert len(mails) == sum(row["address"] == address for row in sent)
        assert len({mail["Message-ID"] for mail in mails}) == len(mails)
        assert len({mail["Subject"] for mail in mails}) == len(mails)
        for mail in mails:
            local = mail["Date"].datetime.astimezone(ZoneInfo(zone))
            assert (local.hour, local.minute) == (hour, 0)
    assert_no_paper_twice(house)
    assert_ledger_adds_up(house)


def test_changing_the_mind_at_any_moment_of_the_day(
    tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay
) -> None:
    """Auckland to Los Angeles and back, hour and frequency too: one digest a date for everybody."""
    house = make_house(tmp_path, sqlite_url, sink, replay.url)
    house.now = START
    home = Wishes(zone="Pacific/Auckland", hour=8, frequency=Frequency.DAILY, max_papers=3)
    away = Wishes(zone="America/Los_Angeles", hour=8, frequency=Frequency.DAILY, max_papers=3)
    early = Wishes(zone="Pacific/Auckland", hour=5, frequency=Frequency.DAILY, max_papers=3)
    weekly = Wishes(
        zone="Pacific/Auckland", hour=8, frequency=Frequency.WEEKLY, weekday=3, max_papers=3
    )
    changes: dict[datetime, list[tuple[str, Wishes]]] = {}
    for hour in range(0, 24, 2):
        moment = START + timedelta(days=1, hours=hour)
        for kind, wishes in (("zone", away), ("hour", early), ("week", weekly)):
            name = f"{kind}{hour}"
            house.subscribe(f"{name}@example.org", home)
            changes.setdefault(moment, []).append((name, wishes))
            changes.setdefault(moment + timedelta(hours=30), []).append((name, home))
    for now in moments(START, START + timedelta(days=5)):
        house.now = now
        if (now.hour, now.minute) == (1, 0):
            replay.today(now.date())
            house.collect()
        for name, wishes in changes.get(now, []):
            key = f"{name}@example.org"
            with writing(house.services.engine) as connection:
                person = subscribers.find(connection, key)
                assert person is not None
                subscribers.change(connection, person.id, wishes, now=now)
        house.plan()
        house.deliver()
    rows = digests(house)
    for address in {row["address"] for row in rows}:
        mine = [row for row in rows if row["address"] == address]
        dates = [row["slot"] for row in mine]
        assert len(dates) == len(set(dates))
        dues = [row["due_at"] for row in mine]
        gaps = [b - a for a, b in pairwise(dues)]
        assert min(gaps) >= timedelta(hours=12), address
        if not address.startswith("week"):
            # Crossing the date line twice may lose a date, never two.
            assert max(gaps) <= timedelta(hours=48), address
    assert_no_paper_twice(house)
    assert_ledger_adds_up(house)


FAULTS: tuple[tuple[int, list[dict[str, Any]], str, set[Health]], ...] = (
    # day, faults, the source they hit, what its health may say
    (
        0,
        [
            {
                "match": "/api/daily_papers",
                "times": 99,
                "status": 429,
                "headers": {"Retry-After": "2"},
            }
        ],
        "huggingface",
        {Health.REFUSED},
    ),
    (1, [{"match": "/rss", "times": 99, "status": 503}], "arxiv", {Health.FAILED, Health.REFUSED}),
    (
        2,
        [{"match": "/api/daily_papers", "times": 99, "kind": "hang"}],
        "huggingface",
        {Health.FAILED},
    ),
    (3, [{"match": "/rss", "times": 99, "kind": "reset"}], "arxiv", {Health.FAILED}),
    (
        4,
        [{"match": "/api/daily_papers", "times": 99, "kind": "truncate"}],
        "huggingface",
        {Health.FAILED},
    ),
    (
        7,
        [{"match": "/api/daily_papers", "times": 99, "kind": "garbage"}],
        "huggingface",
        {Health.FAILED},
    ),
    (8, [{"match": "/rss", "times": 99, "kind": "stale"}], "arxiv", {Health.STALE}),
)


def test_ten_days_of_faults(tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay) -> None:
    """Whatever one source does, the digest goes out with the rest, and health says so."""
    house = make_house(
        tmp_path, sqlite_url, sink, replay.url, fetch_timeout=0.5, arxiv_interval=0.2
    )
    move_in(house)
    by_day = {day: (faults, source, wanted) for day, faults, source, wanted in FAULTS}
    for day in range(DAYS):
        midnight = START + timedelta(days=day)
        house.now = midnight + timedelta(hours=1)
        replay.today(midnight.date())
        faults, broken, wanted = by_day.get(day, ([], "", set()))
        replay.faults(json.loads(json.dumps(faults)))
        reads = {read.source: read for read in house.collect()}
        replay.faults([])
        for name, read in reads.items():
            if name == broken:
                assert read.health in wanted, (day, read)
                assert read.reason
                if read.health is Health.REFUSED:
                    time.sleep(2.1)  # it is not asked before its Retry-After, in real time
            else:
                assert read.health.good, (day, read)
        for now in moments(midnight, midnight + timedelta(days=1)):
            house.now = now
            house.plan()
            house.deliver()
    rows = digests(house)
    weekdays = [row for row in rows if row["due_at"].weekday() < 5]
    sent = [row for row in weekdays if row["state"] == State.SENT]
    assert len(sent) > 0.75 * len(weekdays)
    assert_no_paper_twice(house)
    assert_ledger_adds_up(house)
    # arXiv asked for a rest between two requests: kept, over all its hosts, faults or not.
    asked = [
        entry["at"] for entry in replay.log() if entry["path"].startswith(("/rss", "/api/query"))
    ]
    gaps = [b - a for a, b in pairwise(asked)]
    assert min(gaps) >= 0.18


def test_a_list_that_shrank_takes_nothing_away(
    tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay, shared_data: Path
) -> None:
    """Half of a list, an hour after the whole: health says so, and the digest has the whole."""
    house = make_house(tmp_path, sqlite_url, sink, replay.url)
    day = START.date()
    house.now = START
    wishes = Wishes(zone="UTC", hour=6, frequency=Frequency.DAILY, max_papers=50)
    house.subscribe("ada@example.org", wishes)
    replay.today(day)
    house.now = START + timedelta(hours=1)
    assert all(read.health.good for read in house.collect())
    house.now = START + timedelta(hours=5, minutes=30)
    before = preview_of(house)
    whole = json.loads((shared_data / "hf" / "daily" / f"{day}.json").read_text("utf-8"))
    body = json.dumps(whole[: len(whole) // 2])
    # The newest day is asked for first.
    replay.faults([{"match": "/api/daily_papers", "times": 1, "status": 200, "body": body}])
    reads = {read.source: read for read in house.collect()}
    assert reads["huggingface"].health is Health.HALF_FILLED
    assert f"has {len(whole) // 2} papers and had {len(whole)}" in reads["huggingface"].reason
    assert reads["arxiv"].health.good
    assert preview_of(house) == before
    house.now = START + timedelta(hours=6)
    house.plan()
    house.deliver()
    [row] = digests(house)
    assert (row["state"], row["paper_ids"]) == (State.SENT, before)
    assert len(hugging_face_papers(house, day) & set(before)) > 0
    assert len(hugging_face_papers(house, day)) == len(whole)


def preview_of(house: House) -> list[int]:
    with reading(house.services.engine) as connection:
        person = subscribers.find(connection, "ada@example.org")
    assert person is not None
    draft = preview(house.services.engine, house.services.plan, person.id, now=house.now)
    return [item.paper_id for item in draft.choice.items]


def hugging_face_papers(house: House, day: date) -> set[int]:
    table = schema.record
    with reading(house.services.engine) as connection:
        return set(
            connection.execute(
                select(table.c.paper_id).where(
                    table.c.source == "huggingface",
                    table.c.listed_at >= datetime(day.year, day.month, day.day, tzinfo=UTC),
                )
            ).scalars()
        )


def test_when_all_sources_are_down_the_slot_says_so(
    tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay
) -> None:
    house = make_house(tmp_path, sqlite_url, sink, replay.url)
    move_in(house)
    replay.today(START.date())
    replay.faults(
        [
            {"match": "/api/daily_papers", "times": 99, "status": 404},
            {"match": "/rss", "times": 99, "status": 404},
        ]
    )
    house.now = START + timedelta(hours=1)
    assert not any(read.health.good for read in house.collect())
    house.now = START + timedelta(hours=6)
    house.plan()
    house.deliver()
    assert {row["reason"] for row in digests(house)} == {"sources"}
    assert house.sink.mails == []
    # The next day brings what was missed: nothing was lost with the skipped slot.
    replay.faults([])
    house.now = START + timedelta(days=1, hours=1)
    replay.today(house.now.date())
    house.collect()
    house.now = START + timedelta(days=1, hours=6)
    house.plan()
    house.deliver()
    assert len(house.mails("berlin@example.org")) == 1


def test_after_an_outage_only_the_latest_slot_is_sent(
    tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay
) -> None:
    house = make_house(tmp_path, sqlite_url, sink, replay.url)
    move_in(house)
    live(house, replay, until=START + timedelta(days=1))
    house.now = START + timedelta(days=3, hours=9)
    replay.today(house.now.date())
    house.collect()
    house.plan()
    house.deliver()
    with reading(house.services.engine) as connection:
        person = subscribers.find(connection, "berlin@example.org")
        assert person is not None
        found = slots_of(connection, person.id)
    assert [(slot.date.day, slot.state, slot.reason) for slot in found] == [
        (21, State.SENT, ""),
        (20, State.SKIPPED, "outage"),
        (19, State.SKIPPED, "outage"),
        (18, State.SENT, ""),
    ]
    assert_ledger_adds_up(house)


@pytest.mark.parametrize("moment", ["before planning", "before sending"])
def test_who_left_gets_nothing_more(
    tmp_path: Path, sqlite_url: str, sink: Sink, replay: Replay, moment: str
) -> None:
    house = make_house(tmp_path, sqlite_url, sink, replay.url)
    move_in(house)
    replay.today(START.date())
    house.now = START + timedelta(hours=1)
    house.collect()
    with reading(house.services.engine) as connection:
        person = subscribers.find(connection, "berlin@example.org")
    assert person is not None
    house.now = START + timedelta(hours=6)
    if moment == "before sending":
        house.plan()
    house.services.unsubscribe(person.id)
    house.plan()
    house.deliver()
    assert house.mails("berlin@example.org") == []
    with reading(house.services.engine) as connection:
        [slot] = slots_of(connection, person.id)
    assert (slot.state, slot.reason) == (State.SKIPPED, "unsubscribed")
    assert_ledger_adds_up(house)
