"""The welcome: the first digest comes when somebody confirms, as the slot of that date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from digest.cadence import Due, due_slots, replaced, slots
from digest.models import Frequency, Health, Schedule, Slot, Status, Wishes
from digest.pipeline import accounts
from digest.storage import digests, schedules, standing
from digest.storage.database import reading, writing
from tests.desk import Desk
from tests.reception import Reception

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOON = datetime(2026, 5, 27, 12, tzinfo=UTC)  # a Wednesday


def schedule(since: datetime, **more: object) -> Schedule:
    values = {"zone": "UTC", "hour": 8, "frequency": Frequency.DAILY, "welcome": True, **more}
    return Schedule(since=since, **values)  # type: ignore[arg-type]


def days(history: list[Schedule], *, since: datetime, until: datetime) -> list[str]:
    return [
        f"{slot.date:%d} {slot.due_at:%dT%H}" for slot in slots(history, start=since, end=until)
    ]


WEEKLY = {"frequency": Frequency.WEEKLY, "weekday": 0}
FIRST_SLOTS = {
    "after the hour": (12, {}, ["27 27T12", "28 28T08", "29 29T08"]),
    "before the hour: the date has one": (6, {}, ["27 27T06", "28 28T08", "29 29T08"]),
    "at the hour": (8, {}, ["27 27T08", "28 28T08", "29 29T08"]),
    "late: no slot waits": (23, {}, ["27 27T23", "28 28T08", "29 29T08"]),
    "weekly, on another day": (12, WEEKLY, ["27 27T12"]),
    "where it is the next date": (23, {"zone": "Asia/Tokyo"}, ["28 27T23", "29 28T23"]),
}


@pytest.mark.parametrize(("hour", "more", "found"), FIRST_SLOTS.values(), ids=FIRST_SLOTS)
def test_the_first_slots(hour: int, more: dict[str, object], found: list[str]) -> None:
    began = NOON.replace(hour=hour)
    history = [schedule(began, **more)]
    assert days(history, since=began - DAY, until=NOON + 2 * DAY) == found
    assert days(history, since=began, until=NOON + 2 * DAY) == found[1:]
    plain = [schedule(began, **more, welcome=False)]
    later = NOON + 5 * DAY
    assert days(history, since=later, until=later + 9 * DAY) == days(
        plain, since=later, until=later + 9 * DAY
    )


def test_no_welcome_on_a_date_that_has_a_slot_or_soon_after_one() -> None:
    first = schedule(NOON - 9 * DAY, welcome=False)
    gone = schedule(NOON, active=False, welcome=False)
    back = [first, gone, schedule(NOON + HOUR)]
    assert days(back, since=NOON - DAY, until=NOON + 2 * DAY) == [
        "27 27T08",
        "28 28T08",
        "29 29T08",
    ]
    night = schedule(NOON - 9 * DAY, hour=23, welcome=False)
    soon = NOON.replace(hour=23) + 2 * HOUR  # 01:00 of the next date
    left = schedule(soon - HOUR, active=False, welcome=False)
    history = [night, left, schedule(soon, hour=23)]
    assert days(history, since=NOON, until=NOON + 2 * DAY) == ["27 27T23", "28 28T23"]


def test_a_change_after_a_welcome_never_makes_two_digests_within_twelve_hours() -> None:
    began = NOON.replace(hour=23)
    history = [schedule(began), schedule(began + HOUR, welcome=False)]
    assert days(history, since=NOON, until=NOON + 2 * DAY) == ["27 27T23", "28 28T11", "29 29T08"]


DUE = {
    "sent, and the next one skipped": (2, 3, [("27T23", "")], [("28T02", "welcome")]),
    "after six hours it is sent": (5, 6, [("27T23", "")], [("28T05", "welcome")]),
    "after more": (6, 7, [("27T23", "")], [("28T06", "")]),
    "both at once": (2, 0, [], [("27T23", ""), ("28T02", "welcome")]),
    "both at once, and later ones": (6, 0, [], [("27T23", "missed"), ("28T06", "")]),
}


@pytest.mark.parametrize(("hour", "gap", "first", "then"), DUE.values(), ids=DUE)
def test_a_slot_soon_after_it_is_skipped(
    hour: int, gap: int, first: list[tuple[str, str]], then: list[tuple[str, str]]
) -> None:
    began = NOON.replace(hour=23)
    history = [schedule(began, hour=hour)]
    seen = began - timedelta(seconds=1)
    if gap:
        assert said(due_slots(history, since=seen, now=began, catch_up=12 * HOUR)) == first
        seen = began
    now = began.replace(hour=0) + DAY + (hour + 0.5) * HOUR
    assert said(due_slots(history, since=seen, now=now, catch_up=12 * HOUR)) == then


def said(found: list[Due]) -> list[tuple[str, str]]:
    return [
        (f"{due.slot.due_at:%dT%H}", "missed" if due.missed else "welcome" if due.welcomed else "")
        for due in found
    ]


def test_a_welcome_that_came_too_late_costs_nobody_the_next_slot() -> None:
    """Nothing ran for a day: the last slot is sent, whatever was to be before it."""
    began = NOON.replace(hour=23)
    history = [schedule(began, hour=3)]
    seen, now = began - timedelta(seconds=1), began + 13 * HOUR
    found = due_slots(history, since=seen, now=now, catch_up=12 * HOUR)
    assert said(found) == [("27T23", "missed"), ("28T03", "")]


def test_whoever_confirms_gets_a_digest_at_once(each_desk: Desk) -> None:
    desk = each_desk
    desk.at("2026-05-27T23:30")
    desk.read(huggingface=Health.OK, arxiv=Health.OK)
    first = desk.paper("A paper", votes=100)
    usual = Wishes(zone="UTC", hour=3, frequency=Frequency.DAILY, max_papers=5)
    changes = {"welcome": True, "usual": usual}
    ada = Reception(desk.engine, desk.locks, now=desk.now, changes=changes).subscribe()
    assert (desk.report(1).due, desk.report(1).missing) == (1, 1)
    planned = desk.run()
    assert (planned.digests, dict(planned.skipped)) == (1, {})
    [welcome] = desk.digests(ada)
    assert (welcome["slot"].isoformat(), welcome["due_at"]) == ("2026-05-27", desk.now)
    assert welcome["paper_ids"] == [first]
    assert (desk.report(1).due, desk.report(1).missing) == (1, 0)
    desk.end()
    desk.at("2026-05-28T03:01")
    second = desk.paper("Another paper", votes=100)
    assert dict(desk.run().skipped) == {"welcome": 1}
    assert desk.last(ada) == ([], "welcome")
    desk.at("2026-05-29T03:00")
    desk.read(huggingface=Health.OK, arxiv=Health.OK)
    desk.run()
    assert desk.last(ada) == ([second], "")  # not the first once more
    assert (desk.report(3).due, desk.report(3).missing) == (3, 0)
    assert desk.report(3).due == sum(desk.report(3).states.values())
    assert desk.heal() == 0


REPLACED = {
    "soon": (6, {}, 8),
    "later that day": (0, {"hour": 23}, 23),
    "the hour is over": (12, {}, None),
    "at the hour": (8, {}, None),
    "not on that day": (6, WEEKLY, None),
    "on that day of the week": (6, {"frequency": Frequency.WEEKLY, "weekday": 2}, 8),
    "no welcome": (6, {"welcome": False}, None),
}


@pytest.mark.parametrize(("hour", "more", "found"), REPLACED.values(), ids=REPLACED)
def test_the_hour_that_a_welcome_replaces(
    hour: int, more: dict[str, object], found: int | None
) -> None:
    began = NOON.replace(hour=hour)
    own = schedule(began, **more)
    slot = Slot(date=began.date(), due_at=began, schedule=own)
    assert replaced(slot) == (None if found is None else NOON.replace(hour=found))
    # The slots after it are what their hour says, and replace nothing.
    for one in slots([own], start=began, end=began + 9 * DAY):
        assert replaced(one) is None


def test_why_nothing_came_at_the_hour_of_a_welcomes_own_date_is_kept(each_desk: Desk) -> None:
    desk = each_desk
    desk.at("2026-05-27T06:30")
    desk.read(huggingface=Health.OK, arxiv=Health.OK)
    desk.paper("A paper", votes=100)
    ada = Reception(desk.engine, desk.locks, now=desk.now, changes={"welcome": True}).subscribe()
    bob = desk.subscribe("bob")
    desk.run()
    desk.end()
    desk.at("2026-05-27T08:00")
    desk.run()

    def told(person: int) -> list[tuple[str, str, str]]:
        with reading(desk.engine) as connection:
            found = digests.slots_of(connection, person)
        return [(f"{one.due_at:%d %H:%M}", one.state, one.reason) for one in found]

    assert told(ada) == [("27 08:00", "skipped", "welcome"), ("27 06:30", "sent", "")]
    assert told(bob) == [("27 08:00", "planned", "")]
    # It is no slot of its own: a date has one, and the ledger adds up.
    assert (desk.report(1).due, desk.report(1).missing) == (2, 0)
    assert desk.report(1).due == sum(desk.report(1).states.values())
    desk.at("2026-05-28T08:00")
    desk.run()
    assert [one[0] for one in told(ada)] == ["28 08:00", "27 08:00", "27 06:30"]


def test_without_the_setting_the_first_slot_is_the_next(lite: Reception) -> None:
    person = lite.subscribe()
    with reading(lite.engine) as connection:
        [found] = schedules.histories(connection, [person])[person]
    assert not found.welcome


def test_an_undo_is_no_welcome(lite: Reception) -> None:
    lite.changes = {"welcome": True}
    person = lite.subscribe()
    lite.later(days=2)
    with writing(lite.engine) as connection:
        found = standing.locked(connection, person)
        assert found is not None
        standing.pause(connection, found, until=lite.now + DAY, now=lite.now)
    assert accounts.resume(lite.accounts, person)
    accounts.leave(lite.accounts, person)
    assert lite.status(person) is Status.UNSUBSCRIBED
    with reading(lite.engine) as connection:
        history = schedules.histories(connection, [person])[person]
    assert [one.welcome for one in history] == [True, *[False] * (len(history) - 1)]
