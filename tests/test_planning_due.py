"""Who is planned for and when, and that one bad thing stops nobody else."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, update

from digest import schema
from digest.cadence import known_zone
from digest.errors import TemplateError
from digest.models import State, Status
from digest.storage import schedules, topics
from digest.storage.database import open_database, writing
from tests.databases import new_database
from tests.desk import DAILY, Desk


def test_a_bad_paper_is_left_out(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    people = [desk.subscribe(f"p{number}") for number in range(8)]
    bad = desk.paper("Bad", votes=99)
    good = [desk.paper(f"Good {number}", votes=9 - number) for number in range(3)]
    desk.renderer.bad_title = "Bad"
    desk.at("2026-05-27T08:00")
    assert desk.run().digests == 8
    assert all(desk.last(person)[0] == good[:2] for person in people)
    assert f"Paper {bad} cannot be shown" in caplog.text
    # Mended, it comes: nobody had it.
    desk.end()
    desk.renderer.bad_title = ""
    desk.at("2026-05-27T23:00")
    desk.paper("Bad", votes=120)
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(people[0])[0] == [bad]


@pytest.mark.parametrize("others", [0, 8])
def test_a_bad_person_stops_nobody(
    desk: Desk, caplog: pytest.LogCaptureFixture, others: int
) -> None:
    people = [desk.subscribe(f"p{number}") for number in range(others)]
    ada = desk.subscribe("ada")
    paper = desk.paper("One", votes=9)
    desk.renderer.bad_person = ada
    desk.at("2026-05-27T08:00")
    planned = desk.run()
    assert (planned.digests, planned.skipped) == (others, {"error": 1})
    assert desk.last(ada) == ([], "error")
    assert all(desk.last(person) == ([paper], "") for person in people)
    assert [record.levelno for record in caplog.records if record.exc_info] == [logging.ERROR]
    assert desk.report().missing == 0


def test_a_fault_of_ours_stores_nothing_and_is_raised(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All wait until it is mended, and nobody's digest is thrown away."""
    for number in range(6):
        desk.subscribe(f"p{number}")
        desk.paper(f"Paper {number}", votes=9)
    desk.at("2026-05-27T08:00")
    with monkeypatch.context() as patch:
        patch.setattr(desk.renderer, "bad_title", "Paper")
        with pytest.raises(ValueError, match="a bad paper"):
            desk.run()
    with monkeypatch.context() as patch:

        def broken(*_: object, **__: object) -> None:
            raise TemplateError("subject.txt is broken")

        patch.setattr(desk.renderer, "personal", broken)
        with pytest.raises(TemplateError):
            desk.run()
    assert desk.all_digests() == []
    assert desk.run().digests == 6


def test_a_topic_that_no_longer_parses_stops_nobody(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    desk.topic("agents", "agents")
    desk.topic("broken", "graphs")
    ada = desk.subscribe("ada", "agents", "broken")
    bob = desk.subscribe("bob", "broken")
    paper = desk.paper("Agents on graphs", votes=9)
    with writing(desk.engine) as connection:
        table = schema.topic
        connection.execute(update(table).where(table.c.slug == "broken").values(query="graphs AND"))
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == desk.last(bob)[0] == [paper]
    assert desk.digests(ada)[-1]["items"][0]["reasons"][0] == ["topic", "agents"]
    assert "The filter of topic broken cannot be read" in caplog.text


def test_a_topic_that_is_removed_stops_nobody(desk: Desk) -> None:
    desk.topic("agents", "agents")
    ada = desk.subscribe("ada", "agents")
    desk.paper("Agents", votes=9)
    with writing(desk.engine) as connection:
        topics.remove(connection, "agents")
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.digests(ada)[-1]["items"][0]["reasons"] == [["most_votes"], ["votes", 9, 0]]


@pytest.mark.parametrize("locale", ["xx", "", "xx_XX.UTF-8", "../en"])
def test_an_unknown_locale_is_english(desk: Desk, locale: str) -> None:
    ada = desk.subscribe("ada", wishes=replace(DAILY, locale=locale))
    paper = desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == [paper]
    assert desk.digests(ada)[-1]["personal"]["locale"] == "en"


def test_a_zone_that_vanished_is_utc_until_it_is_changed(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    known_zone.cache_clear()  # it complains once
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob")
    for table, column in (
        (schema.subscriber, schema.subscriber.c.id),
        (schema.schedule, schema.schedule.c.subscriber_id),
    ):
        with writing(desk.engine) as connection:
            connection.execute(update(table).where(column == ada).values(zone="Mars/Olympus"))
    paper = desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == desk.last(bob)[0] == [paper]
    assert "'Mars/Olympus' is no time zone" in caplog.text
    assert (desk.report().due, desk.report().missing) == (2, 0)
    desk.at("2026-06-02T12:00")
    desk.run()
    assert (desk.report(1).due, desk.report(1).missing) == (2, 0)
    desk.change(ada, replace(DAILY, zone="Europe/Berlin"))
    desk.at("2026-06-03T07:00")
    desk.run()
    assert desk.digests(ada)[-1]["due_at"] == datetime(2026, 6, 3, 6, tzinfo=UTC)
    assert desk.report().missing == 0


def test_nothing_at_all(desk: Desk) -> None:
    assert desk.run().digests == 0
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada) == ([], "sources")
    assert desk.digests(ada)[0]["state"] == State.SKIPPED


# ------------------------------------------------------------------ who is due


def test_a_new_subscriber_does_not_get_the_slot_that_passed(desk: Desk) -> None:
    desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    desk.at("2026-05-27T08:01")
    ada = desk.subscribe("ada")
    desk.at("2026-05-28T07:59")
    desk.run()
    assert desk.digests(ada) == []
    desk.at("2026-05-28T08:00")
    desk.run()
    assert [row["slot"].day for row in desk.digests(ada)] == [28]


@pytest.mark.parametrize("days", [2, 20])
def test_after_an_outage(each_desk: Desk, days: int) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    desk.paper("Before", votes=9)
    desk.run()
    desk.end()
    desk.now += timedelta(days=days, hours=5)
    paper = desk.paper("After", votes=9)
    desk.run()
    rows = desk.digests(ada)
    assert [row["reason"] for row in rows] == ["", *["outage"] * (days - 1), ""]
    assert rows[-1]["paper_ids"] == [paper]
    assert (desk.report().due, desk.report().missing) == (days + 1, 0)


def test_a_clock_set_back_plans_nothing_twice(at_eight: Desk) -> None:
    desk = at_eight
    desk.paper("One", votes=9)
    assert desk.run().digests == 1
    desk.at("2026-05-27T07:00")
    assert desk.run().digests == 0
    [row] = desk.all_digests()
    # A change of mind in the hour that is lived twice, too.
    ada = row["subscriber_id"]
    desk.change(ada, replace(DAILY, hour=9))
    desk.change(ada, replace(DAILY, hour=10))
    for now in ("2026-05-27T08:00", "2026-05-27T09:00", "2026-05-27T10:00", "2026-05-27T11:00"):
        desk.at(now)
        desk.run()
    assert len(desk.all_digests()) == 1
    assert desk.report().missing == 0
    desk.at("2026-05-28T10:00")
    desk.run()
    assert len(desk.all_digests()) == 2


@pytest.mark.parametrize("hint", [None, "2026-07-01T08:00", "2026-05-27T06:30"])
def test_a_wrong_hint_heals(
    each_desk: Desk, caplog: pytest.LogCaptureFixture, hint: str | None
) -> None:
    desk = each_desk
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob")
    desk.paper("One", votes=9)
    table = schema.subscriber
    with writing(desk.engine) as connection:
        wrong = hint and datetime.fromisoformat(hint).replace(tzinfo=UTC)
        connection.execute(update(table).where(table.c.id == ada).values(next_due_at=wrong))
    desk.at("2026-05-27T07:00")
    desk.run()
    assert desk.digests(ada) == []
    desk.at("2026-05-27T08:00")
    if hint and hint < "2026-05-28":
        assert desk.heal() == 0  # planning has set it right already
    else:
        desk.run()
        assert (desk.digests(ada), desk.report().missing) == ([], 1)
        assert desk.heal() == 1
        assert "would have been passed over" in caplog.text
    desk.run()
    assert desk.last(ada)[0] == desk.last(bob)[0] != []
    assert desk.report().missing == 0


def test_healing_beside_planning_finds_nothing_wrong(
    postgres_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    desk = Desk(open_database(new_database(postgres_url)), tmp_path)
    desk.subscribe("ada")
    desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    look, planner = schedules.planned_until, threading.Thread(target=desk.run)

    def planned_until(*args: Any) -> dict[int, datetime]:
        found = look(*args)
        if planner.ident is None:  # what healing has seen is old when the planner is done
            planner.start()
            planner.join(5)
        return found

    monkeypatch.setattr(schedules, "planned_until", planned_until)
    assert desk.heal() == 0
    planner.join()
    desk.engine.dispose()
    assert "passed over" not in caplog.text


def test_one_who_has_no_schedule_stops_nobody(desk: Desk) -> None:
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob")
    desk.paper("One", votes=9)
    with writing(desk.engine) as connection:
        table = schema.schedule
        connection.execute(delete(table).where(table.c.subscriber_id == ada))
    desk.at("2026-05-27T08:00")
    assert desk.run().digests == 1
    assert (desk.digests(ada), len(desk.digests(bob))) == ([], 1)


@pytest.mark.parametrize("days", [1, 40])
def test_a_pause(each_desk: Desk, days: int) -> None:
    """No slots while it lasts; afterwards they go on, however long it was."""
    desk = each_desk
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    desk.run()
    desk.at("2026-05-27T12:00")
    _set_active(desk, ada, active=False)
    desk.now += timedelta(days=days)
    desk.run()
    _set_active(desk, ada, active=True)
    desk.now += timedelta(days=1)
    desk.paper("One", votes=9)
    desk.run()
    rows = desk.digests(ada)
    assert [row["slot"] for row in rows] == [
        date(2026, 5, 27),
        desk.now.date(),
    ]
    assert desk.report(90).missing == 0


def _set_active(desk: Desk, subscriber_id: int, *, active: bool) -> None:
    """As a pause does it: the status, and a schedule that says so."""
    people, table = schema.subscriber, schema.schedule
    with writing(desk.engine) as connection:
        status = Status.ACTIVE if active else Status.PAUSED
        connection.execute(update(people).where(people.c.id == subscriber_id).values(status=status))
        [last] = schedules.histories(connection, [subscriber_id])[subscriber_id][-1:]
        connection.execute(
            update(table)
            .where(table.c.subscriber_id == subscriber_id, table.c.until.is_(None))
            .values(until=desk.now)
        )
        connection.execute(
            insert(table).values(
                subscriber_id=subscriber_id,
                since=desk.now,
                zone=last.zone,
                hour=last.hour,
                frequency=last.frequency,
                weekday=last.weekday,
                active=active,
            )
        )
        schedules.refresh_due(connection, schedules.planned_until(connection, [subscriber_id]))
