"""Planning over real databases: nothing twice, nothing lost, and reasons that are true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from digest import schema
from digest.models import Frequency, Health, State
from digest.pipeline.planning import preview
from digest.pipeline.pool import why_nothing
from digest.storage import merges
from digest.storage.database import reading, writing
from digest.storage.sources import Read
from tests.desk import DAILY, Desk

WEEKLY = replace(DAILY, frequency=Frequency.WEEKLY, weekday=3)  # Thursday


def next_day(desk: Desk, days: int = 1) -> None:
    desk.now += timedelta(days=days)


# ------------------------------------------------------------------ nothing twice, nothing lost


@pytest.mark.parametrize(
    ("state", "hours", "again"),
    [
        (State.SENT, 24, False),
        (State.UNKNOWN, 24, False),
        (State.PLANNED, 48, False),
        (State.PLANNED, 24, True),  # its time is up when the next one is due
        (State.CLAIMED, 24, False),
        (State.SENDING, 24, False),
        (State.DEFERRED, 48, False),
        (State.DEFERRED, 24, True),
        (State.FAILED, 24, True),
        (State.SKIPPED, 24, True),
    ],
)
def test_a_paper_comes_again_only_if_its_digest_did_not_leave(
    each_desk: Desk, state: State, hours: int, again: bool
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    paper = desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada) == ([paper], "")
    desk.end(state)
    with writing(desk.engine) as connection:
        connection.execute(
            update(schema.delivery).values(give_up_at=desk.now + timedelta(hours=hours))
        )
    next_day(desk)
    late = desk.paper("Two", votes=9)
    desk.run()
    assert set(desk.last(ada)[0]) == ({paper, late} if again else {late})


def test_a_paper_stored_while_planning_is_neither_lost_nor_doubled(at_eight: Desk) -> None:
    desk, eight = at_eight, at_eight.now
    before = desk.paper("Before", votes=9)
    desk.run()
    # Stamped before the digest, but committed after it; and a clock that was set back.
    desk.now = eight - timedelta(seconds=5)
    slow = desk.paper("Slow", votes=9)
    desk.now = eight - timedelta(minutes=59)
    set_back = desk.paper("Set back", votes=9)
    desk.now = eight
    desk.run()
    [ada] = {row["subscriber_id"] for row in desk.all_digests()}
    assert desk.last(ada)[0] == [before]
    desk.end()
    next_day(desk)
    desk.run()
    assert set(desk.last(ada)[0]) == {slow, set_back}
    desk.end()
    next_day(desk)
    desk.run()
    assert desk.last(ada)[0] == []


def test_a_work_that_another_source_lists_much_later_is_not_sent_again(each_desk: Desk) -> None:
    """History has no end: what makes a paper new again may come after any number of weeks."""
    desk = each_desk
    ada = desk.subscribe("ada")
    paper = desk.paper("One", source="arxiv", arxiv_id="2605.00001")
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == [paper]
    desk.end()
    desk.at("2026-08-27T07:00")
    bob = desk.subscribe("bob")
    assert desk.paper("One, again", votes=9, arxiv_id="2605.00001") == paper
    desk.at("2026-08-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == []
    assert desk.last(bob)[0] == [paper]


@pytest.mark.parametrize("undone", [False, True], ids=["merged", "merged and undone"])
@pytest.mark.parametrize("kept_was_had", [False, True], ids=["had the merged", "had the kept"])
@pytest.mark.parametrize("weeks", [0, 12])
def test_a_merge_hides_both_for_ever(
    each_desk: Desk, undone: bool, kept_was_had: bool, weeks: int
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    had = desk.paper("One", votes=9)
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == [had]
    desk.end()
    next_day(desk, days=1 + 7 * weeks)
    other = desk.paper("One, by another title", votes=9)
    kept, merged = (had, other) if kept_was_had else (other, had)
    with writing(desk.engine) as connection:
        assert merges.merge(connection, kept, merged, reason="by hand", now=desk.now)
        # Storing makes a paper's content anew; so is done here by hand.
        connection.execute(
            update(schema.paper).where(schema.paper.c.id == kept).values(fresh_at=desk.now)
        )
        if undone:
            merges.undo_merge(connection, kept, now=desk.now)
            connection.execute(update(schema.paper).values(fresh_at=desk.now))
    bob = desk.subscribe("bob")
    next_day(desk)
    desk.run()
    assert desk.last(ada)[0] == []
    assert set(desk.last(bob)[0]) == ({had, other} if undone else {kept})


def test_a_paper_passed_over_comes_back_when_its_votes_rise(desk: Desk) -> None:
    ada = desk.subscribe("ada", wishes=replace(DAILY, max_papers=1))
    best = desk.paper("Best", votes=50)
    second, third = desk.paper("Second", votes=30), desk.paper("Third", votes=2)
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == [best]
    desk.end()
    desk.at("2026-05-28T07:30")
    desk.paper("Second", votes=33)
    desk.paper("Third", votes=40)
    desk.paper("Dull", votes=1)
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(ada)[0] == [third]
    [item] = desk.digests(ada)[-1]["items"]
    assert item["reasons"] == [["rising", 38]]
    assert second not in desk.last(ada)[0]


def test_late_papers_come_in_the_next_digest(at_eight: Desk) -> None:
    desk = at_eight
    desk.run()
    [row] = desk.all_digests()
    assert row["reason"] == "quiet"
    desk.at("2026-05-27T08:05")
    late = desk.paper("Late", votes=9)
    desk.run()
    assert len(desk.all_digests()) == 1
    desk.at("2026-05-28T08:00")
    desk.run()
    assert [digest["paper_ids"] for digest in desk.all_digests()][-1] == [late]


def test_a_first_read_seeds_without_mailing_what_is_old(desk: Desk) -> None:
    ada = desk.subscribe("ada")
    new = desk.paper("New", votes=9)
    desk.paper("Old", votes=900, listed_at=desk.now - timedelta(days=20))
    desk.at("2026-05-27T08:00")
    desk.run()
    assert desk.last(ada)[0] == [new]


def test_weekly_has_its_own_window_and_no_freshness(desk: Desk) -> None:
    ada = desk.subscribe("ada", wishes=WEEKLY)
    bob = desk.subscribe("bob", wishes=replace(DAILY, max_papers=50))
    desk.at("2026-05-22T09:00")
    friday, friday_dull = desk.paper("Friday", votes=50), desk.paper("Friday, dull", votes=1)
    desk.at("2026-05-28T07:00")
    thursday, dull = desk.paper("Thursday", votes=40), desk.paper("Thursday, dull", votes=2)
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(ada)[0] == [friday, thursday]
    # Of two days each has one above and one below the middle; only the new ones are Bob's.
    assert set(desk.last(bob)[0]) == {thursday}
    assert {friday_dull, dull}.isdisjoint(desk.last(ada)[0])
    scores = {item["paper_id"]: item["score"] for item in desk.digests(ada)[-1]["items"]}
    assert scores[friday] == scores[thursday] == 0.75


# ------------------------------------------------------------------ reasons are true


def test_most_votes_means_of_all_that_the_day_had(desk: Desk) -> None:
    """Also of papers that are no candidates here: too old for the window, or had."""
    desk.at("2026-05-24T07:00")
    desk.paper("Great", votes=200)
    desk.at("2026-05-24T20:00")
    good, _ = desk.paper("Good", votes=100), desk.paper("Dull", votes=1)
    desk.at("2026-05-25T07:00")
    monday, tied = desk.paper("Monday", votes=30), desk.paper("Tied", votes=30)
    desk.at("2026-05-26T07:00")
    tuesday = desk.paper("Tuesday", votes=30)
    desk.at("2026-05-27T07:30")
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    desk.run()
    reasons = {item["paper_id"]: item["reasons"] for item in desk.digests(ada)[-1]["items"]}
    assert reasons == {
        good: [["votes", 100, 0]],
        monday: [["votes", 30, 0]],
        tied: [["votes", 30, 0]],
        tuesday: [["most_votes"], ["votes", 30, 0]],
    }


def test_who_else_is_due_changes_nobodys_digest(desk: Desk) -> None:
    """Scores compare whole days, not what lies in somebody's window."""
    for day in range(10, 27):
        for hour, counts in (("07", (1, 40)), ("20", (10, 90))):
            desk.at(f"2026-05-{day}T{hour}:00")
            for votes in counts:
                desk.paper(f"{day} {votes}", votes=votes)
    desk.at("2026-05-27T07:30")
    ada = desk.subscribe("ada", wishes=replace(DAILY, max_papers=50))
    desk.subscribe("bob", wishes=replace(WEEKLY, weekday=2))
    desk.at("2026-05-27T08:00")
    with reading(desk.engine):
        alone = preview(desk.engine, desk.plan, ada, now=desk.now).choice
    desk.run()
    assert len(alone.items) == 8
    assert [item["paper_id"] for item in desk.digests(ada)[-1]["items"]] == [
        item.paper_id for item in alone.items
    ]
    assert [item["score"] for item in desk.digests(ada)[-1]["items"]] == [
        round(item.score, 6) for item in alone.items
    ]


def test_the_marker_marks_what_the_followed_topics_matched(desk: Desk) -> None:
    desk.topic("agents", "agents")
    desk.topic("tools", "tools")
    desk.paper("Agents with tools and graphs", votes=9)
    ada = desk.subscribe("ada", "agents")
    bob = desk.subscribe("bob", "tools")
    cy = desk.subscribe("cy", "agents", "tools")
    di = desk.subscribe("di")
    desk.at("2026-05-27T08:00")
    marked = {}
    for person in (ada, bob, cy, di):
        draft = preview(desk.engine, desk.plan, person, now=desk.now)
        html = draft.cards[0].html.decode()
        marked[person] = {word for word in ("Agents", "tools", "graphs") if f">{word}</" in html}
    assert marked == {ada: {"Agents"}, bob: {"tools"}, cy: {"Agents", "tools"}, di: set()}
    desk.run()
    parts = {desk.digests(person)[-1]["parts"].split("|")[0] for person in (ada, bob, cy, di)}
    assert len(parts) == 4


def read(source: str, health: Health, at: str) -> Read:
    started_at = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return Read(
        source=source,
        started_at=started_at,
        seconds=1,
        health=health,
        reason="",
        fetched=0,
        new=0,
        changed=0,
        unchanged=0,
    )


OK, SAME, EMPTY, FAILED = Health.OK, Health.UNCHANGED, Health.EMPTY_BY_CALENDAR, Health.FAILED


@pytest.mark.parametrize(
    ("now", "reads", "new", "reason"),
    [
        pytest.param("2026-05-27T08:00", [OK, OK], 0, "quiet", id="nothing came"),
        pytest.param("2026-05-27T08:00", [OK, OK], 7, "quiet", id="nothing good enough came"),
        pytest.param("2026-05-27T08:00", [FAILED, OK], 0, "quiet", id="one failed"),
        pytest.param("2026-05-27T08:00", [FAILED, Health.STALE], 0, "sources", id="all are down"),
        pytest.param(
            "2026-05-27T08:00", [Health.REFUSED, Health.HALF_FILLED], 3, "sources", id="-"
        ),
        pytest.param("2026-05-27T08:00", [], 0, "sources", id="never read"),
        pytest.param("2026-05-29T08:00", [OK, OK], 0, "sources", id="read two days ago"),
        pytest.param("2026-05-30T07:00", [EMPTY, EMPTY], 0, "weekend", id="Saturday"),
        pytest.param("2026-05-30T07:00", [EMPTY, SAME], 0, "weekend", id="Friday's list again"),
        pytest.param("2026-05-30T07:00", [FAILED, EMPTY], 0, "weekend", id="Saturday, one failed"),
        pytest.param("2026-05-30T07:00", [FAILED, FAILED], 0, "sources", id="Saturday, both"),
        pytest.param("2026-05-30T07:00", [EMPTY, EMPTY], 4, "quiet", id="Saturday, papers left"),
        pytest.param("2026-05-31T19:00", [EMPTY, EMPTY], 0, "weekend", id="Monday in Auckland"),
        pytest.param("2026-06-01T03:30", [OK, EMPTY], 0, "weekend", id="Monday morning in Kolkata"),
        pytest.param("2026-06-01T03:00", [OK, EMPTY], 0, "weekend", id="Sunday in Los Angeles"),
        pytest.param("2026-06-19T08:00", [EMPTY, EMPTY], 0, "holiday", id="a holiday"),
        pytest.param("2026-06-19T19:00", [OK, EMPTY], 0, "holiday", id="Saturday in Auckland"),
        pytest.param("2026-06-19T08:00", [FAILED, EMPTY], 0, "sources", id="a holiday, one failed"),
    ],
)
def test_why_nothing(now: str, reads: list[Health], new: int, reason: str) -> None:
    at = "2026-05-27T06:15" if "two days" in now or now == "2026-05-29T08:00" else now
    found = [read(str(number), health, at) for number, health in enumerate(reads)]
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert why_nothing(found, new=new, now=moment) == reason


def test_papers_that_are_there_are_sent_though_all_sources_are_down(at_eight: Desk) -> None:
    """A digest does not wait for a source, and what one said before its failure still holds."""
    desk = at_eight
    paper = desk.paper("One", votes=9)
    desk.read(huggingface=FAILED, arxiv=FAILED)
    desk.run()
    assert [row["paper_ids"] for row in desk.all_digests()] == [[paper]]


def test_what_could_not_be_sent_was_not_had(desk: Desk) -> None:
    """The mail server was away for a day: the next digest has what the lost one held."""
    person = desk.subscribe("ada")
    first = desk.paper("The first of them", votes=9)
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(person) == ([first], "")
    second = desk.paper("The second of them", votes=9)
    desk.at("2026-05-29T08:00")
    desk.run()
    papers, _ = desk.last(person)
    assert sorted(papers) == [first, second]


def test_an_address_of_no_use_stops_nobody_else(desk: Desk) -> None:
    broken, good = desk.subscribe("broken"), desk.subscribe("good")
    with writing(desk.engine) as connection:
        connection.execute(
            update(schema.subscriber).where(schema.subscriber.c.id == broken).values(address="")
        )
    paper = desk.paper("A paper for whoever can be written to", votes=9)
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(good) == ([paper], "")
    assert desk.last(broken) == ([], "error")
