"""Planning in batches, by several planners at once, and after a restore."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select

from digest import schema
from digest.errors import Busy
from digest.models import Frequency, State
from digest.pipeline import planning, pool
from digest.pipeline.planning import plan
from digest.storage import gaps, schedules
from digest.storage.batches import planner
from digest.storage.database import reading, writing
from digest.storage.gaps import Gap
from tests.desk import DAILY, Desk

SLUGS = ("agents", "graphs", "vision")


def move_in(desk: Desk, count: int) -> list[int]:
    """People who follow different topics, get different numbers of papers, and are due at eight."""
    for slug in SLUGS:
        desk.topic(slug, slug)
        for number in range(3):
            desk.paper(f"{slug} {number}", votes=20 - number)
    people = [
        desk.subscribe(
            f"p{number}",
            *(slug for place, slug in enumerate(SLUGS) if number >> place & 1),
            wishes=replace(DAILY, max_papers=1 + number % 5),
        )
        for number in range(count)
    ]
    desk.at("2026-05-27T08:00")
    return people


def all_parts_are_there(desk: Desk) -> bool:
    table = schema.part
    with reading(desk.engine) as connection:
        stored = set(connection.execute(select(table.c.hash)).scalars())
    named = {part for row in desk.all_digests() for part in row["parts"].replace("|", " ").split()}
    return bool(named) and named <= stored


def test_who_shares_a_batch_changes_nobodys_digest(
    each_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither does what is forgotten between two batches and made anew."""
    desk = each_desk
    people = move_in(desk, 20)
    alone = {
        person: planning.preview(desk.engine, desk.plan, person, now=desk.now) for person in people
    }
    monkeypatch.setattr(planning, "BATCH", 3)
    for name in ("MOST_SHOWN", "MOST_OFFERS", "MOST_WINDOWS"):
        monkeypatch.setattr(pool, name, 5)
    assert desk.run().digests == 20
    assert all_parts_are_there(desk)
    for person in people:
        [row] = desk.digests(person)
        items = alone[person].choice.items
        assert row["paper_ids"] == [item.paper_id for item in items] != []
        assert row["parts"].replace("|", " ").split() == [part.hash for part in alone[person].cards]


def test_a_job_plans_so_many_and_tells_whether_more_are_due(each_desk: Desk) -> None:
    desk = each_desk
    people = move_in(desk, 5)
    found = [
        plan(desk.engine, desk.plan, locks=desk.locks, now=desk.now, limit=2) for _ in range(3)
    ]
    assert [(one.digests, one.more) for one in found] == [(2, True), (2, True), (1, False)]
    assert all(len(desk.digests(person)) == 1 for person in people)
    assert desk.report().missing == 0


def test_planners_share_the_work(each_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On PostgreSQL; on SQLite one plans and the others are told so."""
    desk = each_desk
    people = move_in(desk, 60)
    monkeypatch.setattr(planning, "BATCH", 4)
    together, made, busy = threading.Barrier(3), list[int](), list[Busy]()

    def run() -> None:
        together.wait()
        try:
            made.append(desk.run().digests)
        except Busy as error:
            busy.append(error)

    planners = [threading.Thread(target=run) for _ in range(3)]
    for one in planners:
        one.start()
    for one in planners:
        one.join()
    assert sum(made) == 60
    assert all(len(desk.digests(person)) == 1 for person in people)
    assert all_parts_are_there(desk)
    assert desk.engine.name == "sqlite" or not busy


def test_whom_another_plans_for_is_left_out(each_desk: Desk) -> None:
    desk = each_desk
    people = move_in(desk, 5)
    if desk.engine.name == "sqlite":
        with planner(desk.engine, desk.locks), pytest.raises(Busy):
            desk.run()
        return
    with writing(desk.engine) as other:
        theirs = schedules.due(other, now=desk.now, limit=2)
        assert desk.run().digests == 3
        assert {person for person in people if not desk.digests(person)} == set(theirs)
    assert desk.run().digests == 2


def test_the_provider_is_stored(desk: Desk) -> None:
    move_in(desk, 1)
    asked = replace(desk.plan, provider=lambda address: f"who has {address.partition('@')[2]}")
    plan(desk.engine, asked, locks=desk.locks, now=desk.now)
    with reading(desk.engine) as connection:
        [found] = connection.execute(select(schema.delivery.c.provider)).scalars()
    assert found == "who has example.org"


def test_a_change_of_papers_wanted_between_weekly_and_daily(desk: Desk) -> None:
    """One who looks further back than the others has not forgotten what they had."""
    ada = desk.subscribe("ada", wishes=replace(DAILY, frequency=Frequency.WEEKLY, weekday=2))
    bob = desk.subscribe("bob")
    first = desk.paper("First", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    desk.end()
    assert desk.last(ada)[0] == desk.last(bob)[0] == [first]
    desk.change(ada, DAILY)
    desk.change(bob, replace(DAILY, frequency=Frequency.WEEKLY, weekday=2))
    desk.at("2026-06-03T07:00")
    second = desk.paper("Second", votes=9)
    # Known since long, listed again.
    desk.paper("First", votes=9, source="arxiv")
    desk.at("2026-06-03T08:00")
    desk.run()
    assert second in desk.last(ada)[0]
    assert second in desk.last(bob)[0]
    assert first not in [*desk.last(ada)[0], *desk.last(bob)[0]]


# ------------------------------------------------------------------ after a restore


def test_a_gap_has_no_digests_and_its_papers_are_nobodys(each_desk: Desk) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    desk.run()
    desk.at("2026-05-29T09:00")
    # From the 27th, 20:00 on nobody knows what was sent; it was put back on the 29th.
    with writing(desk.engine) as connection:
        gaps.add(connection, Gap(start=desk.now - timedelta(hours=37), end=desk.now))
    lost = desk.paper("In the gap", votes=9)
    bob = desk.subscribe("bob")
    desk.at("2026-05-29T09:01")
    new = desk.paper("After it", votes=9)
    desk.run()
    assert [row["reason"] for row in desk.digests(ada)][1:] == ["restored", "restored"]
    desk.at("2026-05-30T08:00")
    desk.run()
    assert desk.last(ada)[0] == desk.last(bob)[0] == [new]
    assert lost not in desk.last(bob)[0]
    with reading(desk.engine) as connection:
        states = Counter(connection.execute(select(schema.delivery.c.state)).scalars())
    assert states == {State.SKIPPED: 3, State.PLANNED: 2}
    assert desk.report().missing == 0
