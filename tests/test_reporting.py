"""The ledger adds up against a count that knows nothing of it (invariant 2)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select

from digest import schema
from digest.cadence import slots
from digest.models import Frequency, Health, State, Status, Wishes
from digest.pipeline.reporting import report
from digest.storage import schedules, standing, subscribers
from digest.storage.database import reading, writing
from tests.desk import DAILY, Desk

START = datetime(2026, 3, 20, tzinfo=UTC)  # the clocks change on the 29th and on 5 April
DAY = timedelta(days=1)
ZONES = ("Pacific/Auckland", "America/Los_Angeles", "Europe/Berlin", "Asia/Kolkata", "UTC")


@st.composite
def wishes(draw: st.DrawFn) -> Wishes:
    frequency = draw(st.sampled_from(Frequency))
    return Wishes(
        zone=draw(st.sampled_from(ZONES)),
        hour=draw(st.integers(0, 23)),
        frequency=frequency,
        weekday=draw(st.integers(0, 6)) if frequency is Frequency.WEEKLY else None,
        max_papers=3,
    )


# Minutes to wait, who acts, and what they do.
steps = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 29, 60, 60 * 7, 60 * 13, 60 * 24, 60 * 24 * 4]),
        st.integers(0, 2),
        st.one_of(st.sampled_from(["plan", "leave", "look", "pause", "come", "welcome"]), wishes()),
    ),
    max_size=14,
)


def empty(desk: Desk) -> None:
    desk.now = START
    tables = (schema.delivery, schema.digest, schema.schedule, schema.consent, schema.subscriber)
    with writing(desk.engine) as connection:
        for table in (*tables, schema.suppression):
            connection.execute(delete(table))


def stand(desk: Desk, person: int, what: str) -> None:
    """Leave, pause for three days, or come back, by a welcome or without one."""
    with writing(desk.engine) as connection:
        if what == "leave":
            subscribers.unsubscribe(connection, person, now=desk.now, detail="")
            return
        found = standing.locked(connection, person)
        assert found is not None
        subscribed = found.status in (Status.ACTIVE, Status.PAUSED)
        if what == "pause" and subscribed:
            standing.pause(connection, found, until=desk.now + 3 * DAY, now=desk.now)
        elif what == "come" and found.paused_until is not None and subscribed:
            since = min(found.paused_until, desk.now)
            standing.resume(connection, found, since=since)
        elif what != "pause" and not subscribed:
            standing.activate(
                connection,
                found,
                hashes=[f"p{person}"],
                confirmed_at=desk.now,
                now=desk.now,
                welcome=what == "welcome",
            )


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps, st.integers(1, 60 * 24 * 30))
def test_any_history_adds_up(
    desk: Desk, lived: list[tuple[int, int, str | Wishes]], minutes: int
) -> None:
    empty(desk)
    people: dict[int, int] = {}
    for wait, who, what in lived:
        desk.now += timedelta(minutes=wait)
        if what == "plan":
            desk.run()
        elif what in ("leave", "pause", "come", "welcome"):
            if who in people:
                stand(desk, people[who], str(what))
        elif what == "look":
            assert desk.report(40).missing >= 0
        elif isinstance(what, Wishes):
            if who in people:
                desk.change(people[who], what)
            else:
                people[who] = desk.subscribe(f"p{who}", wishes=what)
    desk.run()
    assert desk.heal() == 0
    with reading(desk.engine) as connection:
        histories = schedules.histories(connection, list(people.values()))
    for person in people.values():
        wanted = slots(histories[person], start=START - DAY, end=desk.now)
        found_rows = [(row["slot"], row["due_at"]) for row in desk.digests(person)]
        assert found_rows == [(slot.date, slot.due_at) for slot in wanted]
    for back, days in ((0, 40), (0, minutes / 1440), (minutes, 2)):
        found = report(
            desk.engine,
            (),
            now=desk.now - timedelta(minutes=back),
            span=timedelta(days=days),
        )
        assert found.missing == 0
        assert found.due == sum(found.states.values())


@pytest.mark.parametrize("changed", [False, True], ids=["steady", "changed its hour"])
def test_a_slot_without_a_row_is_missing(each_desk: Desk, changed: bool) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    desk.subscribe("bob")
    desk.now += timedelta(days=8)
    desk.run()
    if changed:
        desk.now += timedelta(minutes=1)
        desk.change(ada, Wishes(zone="UTC", hour=9, frequency=Frequency.DAILY, max_papers=3))
    assert (desk.report().due, desk.report().missing) == (16, 0)
    with writing(desk.engine) as connection:
        digests, deliveries = schema.digest, schema.delivery
        found = connection.execute(
            select(digests.c.id).where(digests.c.subscriber_id == ada).limit(1)
        ).scalar_one()
        connection.execute(delete(deliveries).where(deliveries.c.digest_id == found))
        connection.execute(delete(digests).where(digests.c.id == found))
    assert (desk.report().due, desk.report().missing) == (16, 1)


def test_due_before_planning_is_missing(each_desk: Desk) -> None:
    desk = each_desk
    desk.subscribe("ada")
    desk.at("2026-05-27T07:59")
    assert (desk.report().due, desk.report().missing) == (0, 0)
    desk.at("2026-05-27T08:00")
    assert (desk.report().due, desk.report().missing) == (1, 1)
    desk.run()
    assert (desk.report().due, desk.report().missing) == (1, 0)


def test_what_a_report_says(each_desk: Desk) -> None:
    desk = each_desk
    for name in ("ada", "bob", "cy"):
        desk.subscribe(name, wishes=DAILY)
    left = desk.subscribe("di")
    desk.paper("One", votes=9)
    desk.at("2026-05-27T07:30")
    desk.read(huggingface=Health.OK, arxiv=Health.FAILED)
    desk.at("2026-05-27T08:00")
    with writing(desk.engine) as connection:
        subscribers.unsubscribe(connection, left, now=desk.now, detail="")
    desk.run()
    found = desk.report()
    assert (found.due, found.waiting, found.missing) == (4, 3, 0)
    assert found.reasons == {(State.SKIPPED, "unsubscribed"): 1}
    assert [(read.source, read.health) for read in found.sources] == [
        ("huggingface", Health.OK),
        ("arxiv", Health.FAILED),
    ]
    assert sum(found.account_mail.values()) == 0
    desk.end(State.FAILED)
    found = desk.report()
    assert found.states[State.FAILED] == len(found.failures) == 3
    desk.now += timedelta(days=2)
    assert desk.report(1).states[State.FAILED] == 0


def test_planning_has_time_before_a_slot_is_overdue(desk: Desk) -> None:
    desk.at("2026-05-28T06:00")
    desk.subscribe("ada")
    desk.at("2026-05-28T08:01")
    report = desk.report()
    assert (report.missing, report.overdue) == (1, 0)
    desk.at("2026-05-28T08:05")
    assert desk.report().overdue == 1
    desk.run()
    assert desk.report().missing == 0
