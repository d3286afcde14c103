"""Interests, searches and feedback as they are stored: once, bounded, and gone when erased."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, func, select

from digest import schema
from digest.interests import MOST, SEARCHES, Refusal
from digest.models import Action, Interest, InterestKind, Interests, Status
from digest.storage import erasing, feedback, interests, merges, subscribers
from digest.storage.database import writing
from tests.desk import Desk

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture
def two(each_desk: Desk) -> tuple[int, int]:
    return each_desk.subscribe("ada"), each_desk.subscribe("bob")


@pytest.fixture
def connection(each_desk: Desk, two: tuple[int, int]) -> Iterator[Connection]:
    for number in range(3):
        each_desk.paper(f"Paper {number}")
    with writing(each_desk.engine) as open_one:
        yield open_one


def author(name: str) -> Interest:
    return Interest(kind=InterestKind.AUTHOR, value=name, key=name.lower())


def count(connection: Connection) -> dict[str, int]:
    return {
        table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
        for table in (schema.interest, schema.search, schema.search_follow, schema.feedback)
    }


def test_interests_are_kept_once_in_order_and_removed(
    connection: Connection, two: tuple[int, int]
) -> None:
    ada, bob = two
    for hours, name in enumerate(("Grace", "Ada", "Grace", "GRACE")):
        assert interests.add(connection, ada, author(name), now=NOW + hours * HOUR) is None
    lab = Interest(kind=InterestKind.LAB, value="Ada", key="ada")
    interests.add(connection, ada, lab, now=NOW + 9 * HOUR)
    assert interests.get(connection, ada).kept == (author("Grace"), author("Ada"), lab)
    assert interests.get(connection, bob) == Interests()
    for _ in range(2):
        interests.remove(connection, ada, InterestKind.AUTHOR, "ada")
    assert interests.get(connection, ada).kept == (author("Grace"), lab)


def test_there_are_only_so_many_of_a_kind(connection: Connection, two: tuple[int, int]) -> None:
    ada, bob = two
    for number in range(MOST):
        assert interests.add(connection, ada, author(f"n{number}"), now=NOW) is None
    refused = interests.add(connection, ada, author("one more"), now=NOW)
    assert str(refused) == "That would be more than 100; remove one first."
    assert interests.add(connection, ada, author("n0"), now=NOW) is None
    assert interests.add(connection, bob, author("one more"), now=NOW) is None
    topic = Interest(kind=InterestKind.MUTED_TOPIC, value="rl", key="rl")
    assert interests.add(connection, ada, topic, now=NOW) is None
    assert len(interests.get(connection, ada).kept) == MOST + 1


def test_equal_searches_are_one_row_that_goes_with_its_last_follower(
    connection: Connection, two: tuple[int, int]
) -> None:
    for person in (*two, *two):
        assert interests.follow_search(connection, person, "robots", now=NOW) is None
    assert count(connection) == {**NONE, "search": 1, "search_follow": 2}
    assert interests.searches(connection, two[0]) == ["robots"]
    for _ in range(2):
        interests.unfollow_search(connection, two[0], "robots")
    assert interests.searches(connection, two[0]) == []
    assert interests.searches(connection, two[1]) == ["robots"]
    interests.unfollow_search(connection, two[1], "robots")
    interests.unfollow_search(connection, two[1], "nobody's")
    assert count(connection) == NONE


NONE = {"interest": 0, "search": 0, "search_follow": 0, "feedback": 0}


def test_there_are_only_so_many_searches(connection: Connection, two: tuple[int, int]) -> None:
    for number in range(SEARCHES):
        assert interests.follow_search(connection, two[0], f"w{number}", now=NOW) is None
    refused = interests.follow_search(connection, two[0], "another", now=NOW)
    assert isinstance(refused, Refusal)
    assert str(refused) == "That would be more than 20; remove one first."
    assert interests.follow_search(connection, two[0], "w0", now=NOW) is None
    assert interests.searches(connection, two[0]) == [f"w{number}" for number in range(20)]


def test_feedback_is_given_and_taken_back_once(
    connection: Connection, two: tuple[int, int]
) -> None:
    ada, bob = two
    give = feedback.give
    assert give(connection, ada, 1, Action.MORE, digest_id=7, now=NOW)
    assert not give(connection, ada, 1, Action.MORE, digest_id=8, now=NOW + HOUR)
    assert give(connection, ada, 1, Action.SAVE, now=NOW)
    assert give(connection, bob, 1, Action.LESS, now=NOW)
    [saved, more] = sorted(feedback.given(connection, ada), key=lambda one: one.action)[::-1]
    assert (more.paper_id, more.title, more.action, more.given_at, more.digest_id) == (
        *(1, "Paper 0", Action.MORE, NOW, 7),
    )
    assert saved.digest_id is None
    # Less is the opposite of more; saving is neither.
    assert give(connection, ada, 1, Action.LESS, now=NOW)
    assert feedback.said(connection, ada, 1) == {Action.LESS, Action.SAVE}
    assert feedback.take_back(connection, ada, 1, Action.LESS)
    assert not feedback.take_back(connection, ada, 1, Action.LESS)
    assert feedback.said(connection, ada, 1) == {Action.SAVE}
    assert feedback.said(connection, bob, 1) == {Action.LESS}


def test_feedback_is_listed_the_newest_first(connection: Connection, two: tuple[int, int]) -> None:
    for hours, paper_id in enumerate((2, 3, 1)):
        feedback.give(connection, two[0], paper_id, Action.SAVE, now=NOW + hours * HOUR)
        feedback.give(connection, two[0], paper_id, Action.MORE, now=NOW + hours * HOUR)
    saved = feedback.given(connection, two[0], Action.SAVE)
    assert [one.paper_id for one in saved] == [1, 3, 2]
    assert {one.action for one in saved} == {Action.SAVE}
    page = feedback.given(connection, two[0], Action.SAVE, limit=1, offset=1)
    assert [one.paper_id for one in page] == [3]
    assert feedback.count(connection, two[0], Action.SAVE) == 3
    assert (feedback.count(connection, two[0]), feedback.count(connection, two[1])) == (6, 0)
    assert interests.get(connection, two[0]) == Interests(more=(1, 3, 2))


@pytest.mark.parametrize("undone", [False, True])
def test_papers_that_were_ever_one_have_one_opinion(
    connection: Connection, two: tuple[int, int], undone: bool
) -> None:
    ada = two[0]
    feedback.give(connection, ada, 1, Action.MORE, now=NOW)
    feedback.give(connection, ada, 2, Action.MORE, now=NOW + HOUR)
    assert merges.merge(connection, 1, 2, reason="by hand", now=NOW)
    assert [one.paper_id for one in feedback.given(connection, ada)] == [1]
    if undone:
        merges.undo_merge(connection, 1, now=NOW)
    assert not feedback.give(connection, ada, 2, Action.MORE, now=NOW + 2 * HOUR)
    assert feedback.said(connection, ada, 1) == feedback.said(connection, ada, 2) == {Action.MORE}
    assert feedback.take_back(connection, ada, 2, Action.MORE)
    assert not feedback.said(connection, ada, 1)


def test_an_erasure_takes_all_of_it(connection: Connection, two: tuple[int, int]) -> None:
    for person in two:
        interests.add(connection, person, author("Ada"), now=NOW)
        interests.follow_search(connection, person, "robots", now=NOW)
        feedback.give(connection, person, 1, Action.SAVE, now=NOW)
    interests.follow_search(connection, two[0], "mine alone", now=NOW)
    subscribers.unsubscribe(connection, two[0], now=NOW, detail="", status=Status.UNSUBSCRIBED)
    assert erasing.erase(connection, two[0], now=NOW)
    assert count(connection) == dict.fromkeys(NONE, 1)
    assert interests.get(connection, two[0]) == Interests()
    assert interests.searches(connection, two[1]) == ["robots"]
