"""Subscribers and topics as the databases keep them."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, update

from digest import schema
from digest.errors import AlreadyExists, NotFound
from digest.models import Frequency, Newcomer, Schedule, Status, Subscriber
from digest.storage import erasing, schedules, standing, subscribers, topics
from digest.storage.database import reading, writing
from digest.storage.subscribers import Answer
from tests.desk import DAILY, Desk

NOW = datetime(2026, 5, 27, 6, tzinfo=UTC)
EIGHT = NOW + timedelta(hours=2)
DAY = timedelta(days=1)


def newcomer(name: str, *slugs: str, hashes: tuple[str, ...] = ()) -> Newcomer:
    return Newcomer(
        address=f"{name.title()}@Example.org",
        key=f"{name}@example.org",
        hashes=hashes or (name,),
        wishes=DAILY,
        topics=slugs,
    )


def add(engine: Engine, *newcomers: Newcomer, now: datetime = NOW) -> list[Answer]:
    with writing(engine) as connection:
        return subscribers.add_many(connection, newcomers, now=now)


def find(engine: Engine, name: str) -> Subscriber:
    with reading(engine) as connection:
        found = subscribers.find(connection, f"{name}@example.org")
    assert found is not None
    return found


def hint(engine: Engine, subscriber_id: int) -> datetime | None:
    table = schema.subscriber
    with reading(engine) as connection:
        found: datetime | None = connection.execute(
            select(table.c.next_due_at).where(table.c.id == subscriber_id)
        ).scalar_one()
        return found


def history(engine: Engine, subscriber_id: int) -> list[Schedule]:
    with reading(engine) as connection:
        return schedules.histories(connection, [subscriber_id])[subscriber_id]


def test_adding(engine: Engine) -> None:
    with writing(engine) as connection:
        topics.add(connection, "Agents", "agents", now=NOW)
    assert add(engine, newcomer("ada", "agents", "removed meanwhile"), newcomer("bob")) == [
        Answer.ADDED,
        Answer.ADDED,
    ]
    # Twice in one batch, and once more later.
    assert add(engine, newcomer("cy"), newcomer("cy"), newcomer("ada")) == [
        Answer.ADDED,
        Answer.THERE,
        Answer.THERE,
    ]
    ada = find(engine, "ada")
    assert (ada.address, ada.topics, ada.status) == ("Ada@Example.org", ("agents",), Status.ACTIVE)
    assert hint(engine, ada.id) == EIGHT
    with reading(engine) as connection:
        everyone = [one.address for one in subscribers.everyone(connection, batch=2)]
        assert schedules.active_ids(connection, after=0, limit=9) == [
            one.id for one in subscribers.everyone(connection)
        ]
        assert subscribers.find(connection, "nobody@example.org") is None
        with pytest.raises(NotFound):
            subscribers.get(connection, 999)
    assert everyone == ["Ada@Example.org", "Bob@Example.org", "Cy@Example.org"]


def test_who_was_asked_is_not_added_by_anybody_else(engine: Engine) -> None:
    with writing(engine) as connection:
        standing.add_pending(connection, newcomer("ada"), now=NOW)
    assert add(engine, newcomer("ada"), newcomer("bob"), newcomer("bob")) == [
        Answer.ASKED,
        Answer.ADDED,
        Answer.THERE,
    ]
    assert find(engine, "ada").status is Status.PENDING


def test_who_left_does_not_come_back_by_an_import(engine: Engine) -> None:
    add(engine, newcomer("ada", hashes=("new key", "old key")))
    ada = find(engine, "ada")
    for expected in (True, False):
        with writing(engine) as connection:
            assert (
                subscribers.unsubscribe(connection, ada.id, now=NOW + DAY / 24, detail="")
                is expected
            )
    assert find(engine, "ada").status is Status.UNSUBSCRIBED
    assert hint(engine, ada.id) is None
    # The hash that was stored is known under a newer secret too.
    assert add(engine, newcomer("ada2", hashes=("newest key", "new key"))) == [Answer.BARRED]
    assert add(engine, newcomer("bob"), newcomer("ada", hashes=("new key",))) == [
        Answer.ADDED,
        Answer.BARRED,
    ]


def test_an_erased_person_wishes_nothing(engine: Engine) -> None:
    add(engine, newcomer("ada"))
    ada = find(engine, "ada")
    with writing(engine) as connection:
        erasing.erase(connection, ada.id, now=NOW)
    with writing(engine) as connection, pytest.raises(NotFound):
        subscribers.change(connection, ada.id, replace(DAILY, name="Ada"), now=NOW)
    with reading(engine) as connection:
        assert subscribers.get(connection, ada.id).name == ""


def test_a_change_of_wishes(engine: Engine) -> None:
    add(engine, newcomer("ada"))
    ada = find(engine, "ada")
    later = NOW + timedelta(hours=1)
    with writing(engine) as connection:
        subscribers.change(connection, ada.id, replace(DAILY, max_papers=9), now=later)
    assert len(history(engine, ada.id)) == 1  # the schedule is as it was
    weekly = replace(DAILY, frequency=Frequency.WEEKLY, weekday=4, zone="Europe/Berlin", hour=9)
    with writing(engine) as connection:
        subscribers.change(connection, ada.id, weekly, now=later)
        subscribers.change(connection, ada.id, replace(weekly, hour=10), now=later)
    assert [(one.since, one.hour) for one in history(engine, ada.id)] == [(NOW, 8), (later, 10)]
    assert hint(engine, ada.id) == datetime(2026, 5, 29, 8, tzinfo=UTC)
    assert find(engine, "ada").max_papers == DAILY.max_papers


def test_a_change_while_the_clock_was_set_back_leaves_one_schedule_in_force(
    engine: Engine,
) -> None:
    add(engine, newcomer("ada"))
    ada = find(engine, "ada")
    for minutes, hour in ((60, 9), (30, 10), (45, 11)):
        with writing(engine) as connection:
            now = NOW + timedelta(minutes=minutes)
            subscribers.change(connection, ada.id, replace(DAILY, hour=hour), now=now)
    assert [one.hour for one in history(engine, ada.id)] == [8, 10, 11]
    table = schema.schedule
    with reading(engine) as connection:
        spans = connection.execute(
            select(table.c.since, table.c.until).order_by(table.c.since)
        ).all()
    assert [until for _, until in spans] == [*(since for since, _ in spans[1:]), None]


@pytest.mark.parametrize("days", [1, 15, 400])
def test_the_hint_is_found_however_long_ago_the_last_slot_was(engine: Engine, days: int) -> None:
    """After a pause the first slot lies beyond any horizon that is counted from the last one."""
    add(engine, newcomer("ada"))
    ada = find(engine, "ada")
    with writing(engine) as connection:
        subscribers.reschedule(connection, ada.id, DAILY, active=False, since=NOW + DAY / 2)
    assert hint(engine, ada.id) == EIGHT
    with writing(engine) as connection:
        back = NOW + DAY / 2 + days * DAY
        subscribers.reschedule(connection, ada.id, DAILY, active=True, since=back)
        planned = {ada.id: EIGHT}
        schedules.refresh_due(connection, planned)
    assert hint(engine, ada.id) == EIGHT + (days + 1) * DAY


def test_refreshing_hints_tells_how_many_were_wrong(engine: Engine) -> None:
    add(engine, newcomer("ada"), newcomer("bob"))
    ids = [find(engine, name).id for name in ("ada", "bob")]
    with writing(engine) as connection:
        table = schema.subscriber
        connection.execute(update(table).where(table.c.id == ids[0]).values(next_due_at=None))
        planned = schedules.planned_until(connection, ids)
        assert schedules.refresh_due(connection, planned) == 1
        assert schedules.refresh_due(connection, planned) == 0
        assert schedules.refresh_due(connection, {}) == 0
        assert schedules.due(connection, now=EIGHT, limit=9) == ids
        assert schedules.due(connection, now=EIGHT - DAY, limit=9) == []
        assert schedules.due(connection, now=EIGHT, limit=1) == ids[:1]


def test_a_change_that_commits_while_hints_are_refreshed_is_not_overwritten(
    each_desk: Desk,
) -> None:
    """The planner and a reader who moves their hour, at the same time."""
    desk = each_desk
    ada = desk.subscribe("ada")
    began, go_on = threading.Event(), threading.Event()

    def reader() -> None:
        with writing(desk.engine) as connection:
            subscribers.change(connection, ada, replace(DAILY, hour=7), now=NOW)
            began.set()
            assert go_on.wait(20)

    def planner() -> None:
        with writing(desk.engine) as connection:
            schedules.refresh_due(connection, {ada: EIGHT})

    one, other = threading.Thread(target=reader), threading.Thread(target=planner)
    one.start()
    assert began.wait(20)
    other.start()
    other.join(0.3)  # it waits; had it read the old schedule, it would overwrite the new hint
    go_on.set()
    one.join()
    other.join()
    assert hint(desk.engine, ada) == NOW + DAY + timedelta(hours=1)


def test_topics(engine: Engine) -> None:
    with writing(engine) as connection:
        made = topics.add(connection, "World models", "world*", now=NOW)
        assert made.slug == "world-models"
        topics.add(connection, "agents", "agents", now=NOW)
        with pytest.raises(AlreadyExists, match="world-models"):
            topics.add(connection, "World  Models", "x", now=NOW)
        assert [topic.slug for topic in topics.all_topics(connection)] == ["agents", "world-models"]
        subscribers.add_many(connection, [newcomer("ada", "agents"), newcomer("bob")], now=NOW)
        with pytest.raises(NotFound, match="agents, world-models"):
            topics.get(connection, "nothing")
        assert topics.remove(connection, "agents") == 1
    assert find(engine, "ada").topics == ()


@pytest.mark.parametrize(
    ("name", "slug"),
    [("World models", "world-models"), ("Erdős graphs!", "erdos-graphs"), ("强化学习", "topic")],
)
def test_slugs(name: str, slug: str) -> None:
    assert topics.slug_of(name) == slug


def test_of_two_with_one_address_the_first_stands(engine: Engine) -> None:
    first, second = newcomer("ada"), newcomer("ada")
    second = replace(second, wishes=replace(second.wishes, name="Second", hour=3))
    assert add(engine, first, second) == [Answer.ADDED, Answer.THERE]
    assert (find(engine, "ada").name, find(engine, "ada").hour) == ("", first.wishes.hour)
