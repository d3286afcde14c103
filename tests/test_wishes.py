"""Every control of a reader's preferences changes the frozen digest as its page says."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, select

from digest import schema, taste
from digest.interests import read, read_search
from digest.models import (
    Action,
    Detail,
    Frequency,
    Health,
    Interest,
    InterestKind,
    Interests,
    QuietDay,
    Wishes,
)
from digest.pipeline.planning import preview
from digest.rendering import assemble
from digest.storage import contents, erasing, feedback, interests, merges, subscribers
from digest.storage.database import reading, writing
from digest.topics.query import Query
from tests import mails
from tests.desk import DAILY, Desk

FOLDING = ("protein", "folding", "diffusion", "graph", "ligand", "pocket", "docking", "enzyme")
ALIKE = (*FOLDING[:-1], "antibody")


def keep(desk: Desk, person: int, kind: str, text: str) -> None:
    found = read(InterestKind(kind), text)
    assert isinstance(found, Interest)
    with writing(desk.engine) as connection:
        assert interests.add(connection, person, found, now=desk.now) is None


def drop(desk: Desk, person: int, kind: str, text: str) -> None:
    found = read(InterestKind(kind), text)
    assert isinstance(found, Interest)
    with writing(desk.engine) as connection:
        interests.remove(connection, person, found.kind, found.key)


def search(desk: Desk, person: int, text: str) -> None:
    query = read_search(text)
    assert isinstance(query, str)
    with writing(desk.engine) as connection:
        assert interests.follow_search(connection, person, query, now=desk.now) is None


def say(desk: Desk, person: int, paper: int, action: Action) -> None:
    with writing(desk.engine) as connection:
        feedback.give(connection, person, paper, action, now=desk.now)


def plan_at_eight(desk: Desk) -> None:
    desk.at("2026-05-27T08:00")
    desk.run()


def items(desk: Desk, person: int) -> dict[int, dict[str, Any]]:
    return {item["paper_id"]: item for item in desk.digests(person)[-1]["items"]}


def reasons(desk: Desk, person: int, paper: int) -> list[list[Any]]:
    found: list[list[Any]] = items(desk, person)[paper]["reasons"]
    return found


def mail(desk: Desk, person: int) -> Any:
    """The mail of somebody's last digest, put together from what is frozen."""
    row = desk.digests(person)[-1]
    cards, _, lines = row["parts"].partition("|")
    named = [(one, True) for one in cards.split()] + [(one, False) for one in lines.split()]
    with reading(desk.engine) as connection:
        hashes = {row["skeleton"], *(one for one, _ in named)}
        parts = {one.hash: one for one in contents.parts(connection, hashes)}
    made = assemble(row["personal"], parts[row["skeleton"]], [(parts[n], c) for n, c in named])
    return mails.parsed(made)


def bodies(message: Any) -> tuple[str, str]:
    """HTML and text; what is not there is empty."""
    found = [message.get_body((kind,)) for kind in ("html", "plain")]
    html, text = (part.get_content() if part else "" for part in found)
    return html, text


@pytest.fixture
def papers(each_desk: Desk) -> list[int]:
    """Four of a day, the best first; the last one does not reach the minimum of 0.3."""
    desk = each_desk
    desk.topic("robots", "robots")
    return [
        desk.paper("A market of auctions", votes=40, authors=("Grace Hopper",)),
        desk.paper("Robots that read", votes=30, keywords=ALIKE),
        desk.paper("Slow reading", votes=20, organisation="Fudan University"),
        desk.paper(
            "Robots of the deep sea", votes=10, authors=("Ada Lovelace",), organisation="NVIDIA"
        ),
    ]


# ------------------------------------------------------------------ wishes


def test_the_minimum_score(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    # None is the house's, 0.3.
    counts = {None: 3, 0.0: 4, 0.1: 4, 0.6: 2, 1.0: 0}
    people = {
        least: desk.subscribe(f"reader{least}", wishes=replace(DAILY, min_score=least))
        for least in counts
    }
    plan_at_eight(desk)
    found = {least: desk.last(person)[0] for least, person in people.items()}
    assert found == {least: papers[:count] for least, count in counts.items()}


@pytest.mark.parametrize("frequency", [Frequency.DAILY, Frequency.WEEKLY])
def test_a_quiet_day(each_desk: Desk, frequency: Frequency) -> None:
    desk = each_desk
    desk.read(huggingface=Health.OK)
    wishes = replace(DAILY, frequency=frequency, weekday=2, min_score=1.0)
    ada = desk.subscribe("ada", wishes=replace(wishes, quiet_day=QuietDay.SEND))
    bob = desk.subscribe("bob", wishes=wishes)
    eve = desk.subscribe("eve", wishes=replace(wishes, quiet_day=QuietDay.SEND, max_papers=2))
    papers = [desk.paper(f"Paper {number}", votes=50 - number) for number in range(5)]
    plan_at_eight(desk)
    assert desk.last(ada) == (papers[:3], "")
    assert desk.last(bob) == ([], "quiet")
    assert desk.last(eve) == (papers[:2], "")


def test_a_day_without_anything_new_is_skipped_whatever_is_wished(at_eight: Desk) -> None:
    ada = at_eight.subscribe("zoe", wishes=replace(DAILY, quiet_day=QuietDay.SEND, hour=9))
    at_eight.at("2026-05-27T09:00")
    at_eight.run()
    assert at_eight.last(ada) == ([], "quiet")


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_quiet_day_keeps_what_is_muted_away(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada = desk.subscribe("ada", wishes=replace(DAILY, min_score=1.0, quiet_day=QuietDay.SEND))
    keep(desk, ada, "muted_word", "robot")
    plan_at_eight(desk)
    assert desk.last(ada)[0] == [papers[0], papers[2]]


def test_summaries_or_whole_abstracts(each_desk: Desk) -> None:
    desk = each_desk
    ada = desk.subscribe("ada", "nothing", wishes=replace(DAILY, detail=Detail.FULL))
    bob = desk.subscribe("bob")
    desk.topic("nothing", "nothing")
    with writing(desk.engine) as connection:
        subscribers.follow(connection, {ada: ["nothing"]})
    paper = desk.paper("One", votes=9, summary="In short.")
    plan_at_eight(desk)
    assert desk.last(ada)[0] == desk.last(bob)[0] == [paper]
    html, text = bodies(mail(desk, ada))
    assert "A text about nothing in particular." in text
    assert ">nothing</strong> in particular." in html
    assert "In short." not in html + text
    for body in bodies(mail(desk, bob)):
        assert "In short." in body
        assert "in particular" not in body


def test_plain_text_alone(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada = desk.subscribe("ada", wishes=replace(DAILY, plain=True))
    bob = desk.subscribe("bob")
    plan_at_eight(desk)
    assert desk.last(ada) == desk.last(bob)
    made = mail(desk, ada)
    assert made.get_content_type() == "text/plain"
    assert not made.is_multipart()
    assert mail(desk, bob).get_content_type() == "multipart/alternative"
    html, text = bodies(made)
    assert not html
    for name in ("unsubscribe_url", "preferences_url", "view_url", "feedback"):
        ours, theirs = (desk.digests(person)[-1]["personal"][name] for person in (ada, bob))
        assert ours in text
        text = text.replace(ours, theirs)
    assert text == bodies(mail(desk, bob))[1]


# ------------------------------------------------------------------ what is followed


def test_who_is_followed_comes_first(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    bob = desk.subscribe("bob")
    named = {"author": "ada lovelace", "lab": "Nvidia"}
    people = {kind: desk.subscribe(kind) for kind in named}
    for kind, name in named.items():
        keep(desk, people[kind], kind, name)
    plan_at_eight(desk)
    assert desk.last(bob)[0] == papers[:3]
    for kind, name in named.items():
        # Its 0.125 and 0.5 are less than the first one's 0.875 and more than the second's 0.625,
        # of which age takes its part.
        assert desk.last(people[kind])[0] == [papers[0], papers[3], papers[1], papers[2]]
        assert reasons(desk, people[kind], papers[3]) == [[kind, name], ["votes", 10, 0]]
        said = f"Because you follow {name}"
        html, text = bodies(mail(desk, people[kind]))
        assert html.count(said) == text.count(said) == 1
        assert said not in "".join(bodies(mail(desk, bob)))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_cards_are_shared_whatever_is_followed(each_desk: Desk, papers: list[int]) -> None:
    """A card is made for each paper and topic, not for each person; reasons come in their place."""
    desk = each_desk
    people = [desk.subscribe(name) for name in ("ada", "bob", "eve")]
    for person, name in zip(people, ("Ada Lovelace", "Ada Lovelace", "NVIDIA"), strict=True):
        keep(desk, person, "lab" if name == "NVIDIA" else "author", name)
    search(desk, people[1], "deep sea")
    plan_at_eight(desk)
    hashes = set()
    for person in people:
        row = desk.digests(person)[-1]
        cards = row["parts"].partition("|")[0].split()
        hashes.add(cards[row["paper_ids"].index(papers[3])])
    assert len(hashes) == 1
    said = [" ".join(bodies(mail(desk, person))[1].split()) for person in people]
    assert ["Because you follow Ada Lovelace" in text for text in said] == [True, True, False]
    assert ["your search: deep sea" in text for text in said] == [False, True, False]


@pytest.mark.parametrize(
    ("typed", "stored"),
    [("2605.00001v2", True), ("https://arxiv.org/abs/2605.00001", False)],
    ids=["stored before", "stored later"],
)
def test_seed_papers(each_desk: Desk, papers: list[int], typed: str, stored: bool) -> None:
    desk = each_desk
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob")
    if not stored:
        keep(desk, ada, "seed", typed)
    # Much too old to be mailed.
    desk.paper(
        "Seed",
        source="arxiv",
        arxiv_id="2605.00001",
        keywords=FOLDING,
        listed_at=desk.now - timedelta(days=300),
    )
    if stored:
        keep(desk, ada, "seed", typed)
    plan_at_eight(desk)
    assert desk.last(ada)[0] == [papers[1], papers[0], papers[2]]
    assert desk.last(bob)[0] == papers[:3]
    assert reasons(desk, ada, papers[1])[0] == ["like", "Seed", "seed"]
    assert "Like ‘Seed’, a paper you named" in bodies(mail(desk, ada))[1]


def test_personal_searches(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob", "robots")
    search(desk, ada, "robots AND sea")
    plan_at_eight(desk)
    # As a topic: 0.5 * (0.125 + 1), while the others have half of their popularity.
    assert desk.last(ada)[0] == [papers[3], papers[0], papers[1]]
    assert items(desk, ada)[papers[3]]["score"] == pytest.approx(0.5 * (0.962 * 0.125 + 1), 0.001)
    assert reasons(desk, ada, papers[3]) == [["search", "robots sea"], ["votes", 10, 0]]
    assert desk.last(bob)[0][:2] == [papers[1], papers[3]]
    html, text = bodies(mail(desk, ada))
    assert "Your search: robots sea" in text
    assert 'class="mark"' not in html


# ------------------------------------------------------------------ what is muted


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_equal_searches_of_many_are_matched_once(
    each_desk: Desk, papers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for: list[str] = []
    possible = taste._possible

    def note(query: Query, holding: Mapping[str, set[int]]) -> set[int] | None:
        looked_for.append(str(query))
        return possible(query, holding)

    monkeypatch.setattr(taste, "_possible", note)
    for number, typed in enumerate(("robots", "Robots", " ROBOTS ", "sea")):
        search(each_desk, each_desk.subscribe(f"reader{number}", wishes=DAILY), typed)
    each_desk.at("2026-05-27T08:00")
    assert each_desk.run().digests == 4
    assert sorted(looked_for) == ["robots", "sea"]
    with reading(each_desk.engine) as connection:
        stored = connection.execute(select(schema.search.c.query)).scalars()
        assert sorted(stored) == ["robots", "sea"]


def test_muted_words(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada, bob = desk.subscribe("ada", "robots"), desk.subscribe("bob")
    keep(desk, ada, "muted_word", "robot")
    keep(desk, bob, "muted_word", "robots that")
    plan_at_eight(desk)
    assert desk.last(ada)[0] == [papers[0]]
    assert desk.last(bob)[0] == [papers[0], papers[2]]


def test_muted_topics(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada, bob = desk.subscribe("ada"), desk.subscribe("bob", "robots")
    keep(desk, ada, "muted_topic", "robots")
    keep(desk, bob, "muted_topic", "robots")  # followed and muted: it is muted
    plan_at_eight(desk)
    assert desk.last(ada)[0] == [papers[0], papers[2]]
    assert set(desk.last(bob)[0]) <= {papers[0], papers[2]}


# ------------------------------------------------------------------ what was said from the mail


def test_more_and_less_like_a_paper_count_from_the_next_digest_and_can_be_taken_back(
    each_desk: Desk,
) -> None:
    desk = each_desk
    ada, bob, eve = (desk.subscribe(name) for name in ("ada", "bob", "eve"))
    first = desk.paper("Folds", votes=9, keywords=FOLDING)
    plan_at_eight(desk)
    desk.end()
    for person, action in ((ada, Action.MORE), (bob, Action.LESS), (eve, Action.SAVE)):
        assert desk.last(person)[0] == [first]
        say(desk, person, first, action)
    desk.at("2026-05-28T06:00")
    best = desk.paper("Best", votes=30)
    like = desk.paper("Like it", votes=20, keywords=ALIKE)
    rest = desk.paper("Rest", votes=15)
    least, *_ = (desk.paper(f"Least of {votes}", votes=votes) for votes in (10, 9, 8))
    desk.at("2026-05-28T08:00")
    desk.run()
    assert desk.last(ada)[0][:3] == [like, best, rest]
    assert desk.last(bob)[0] == [best, rest, least, like]
    assert desk.last(eve)[0][:3] == [best, like, rest]
    assert reasons(desk, ada, like)[0] == ["like", "Folds", "more"]
    assert "Like ‘Folds’, which you asked for more of" in bodies(mail(desk, ada))[1]
    with writing(desk.engine) as connection:
        assert feedback.take_back(connection, bob, first, Action.LESS)
    desk.end()
    desk.at("2026-05-29T08:00")
    again = desk.paper("Like it again", votes=20, keywords=ALIKE)
    other = desk.paper("Other", votes=19)
    for votes in (6, 5, 4, 3):
        desk.paper(f"Dull, of {votes}", votes=votes)
    say(desk, eve, first, Action.LESS)
    desk.run()
    assert desk.last(bob)[0][:2] == [again, other]
    assert desk.last(eve)[0][0] == other
    assert again not in desk.last(eve)[0][:2]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_less_like_a_paper_that_is_still_to_come_keeps_it_away(
    each_desk: Desk, papers: list[int]
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    say(desk, ada, papers[0], Action.LESS)
    plan_at_eight(desk)
    assert papers[0] not in desk.last(ada)[0]


@pytest.mark.parametrize("undone", [False, True], ids=["merged", "merged and undone"])
def test_merged_papers_stand_for_one_another(
    each_desk: Desk, papers: list[int], undone: bool
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    say(desk, ada, papers[1], Action.LESS)
    with writing(desk.engine) as connection:
        assert merges.merge(connection, papers[0], papers[1], reason="by hand", now=desk.now)
        if undone:
            merges.undo_merge(connection, papers[0], now=desk.now)
    plan_at_eight(desk)
    assert not {papers[0], papers[1]} & set(desk.last(ada)[0])
    assert desk.last(ada)[0][0] == papers[2]


# ------------------------------------------------------------------ a pass, a preview, a batch


def test_a_preview_of_what_is_not_stored_is_what_storing_it_gives(
    each_desk: Desk, papers: list[int]
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    desk.at("2026-05-27T08:00")
    before = _dump(desk)
    name = read(InterestKind.AUTHOR, "Ada Lovelace")
    word = read(InterestKind.MUTED_WORD, "slow")
    assert isinstance(name, Interest)
    assert isinstance(word, Interest)
    wishes = replace(DAILY, max_papers=2, detail=Detail.FULL, plain=True, min_score=0.5)
    wanted = Interests(kept=(name, word), searches=("robots",), less=(papers[0],))
    found = preview(
        desk.engine,
        desk.plan,
        ada,
        now=desk.now,
        wishes=wishes,
        topics=["robots"],
        interests=wanted,
    )
    plain = preview(desk.engine, desk.plan, ada, now=desk.now)
    assert _dump(desk) == before
    assert [item.paper_id for item in plain.choice.items] == papers[:3]
    desk.change(ada, wishes)
    with writing(desk.engine) as connection:
        subscribers.follow(connection, {ada: ["robots"]})
    keep(desk, ada, "author", "Ada Lovelace")
    keep(desk, ada, "muted_word", "slow")
    search(desk, ada, "robots")
    say(desk, ada, papers[0], Action.LESS)
    desk.run()
    row = desk.digests(ada)[-1]
    assert (
        [item.paper_id for item in found.choice.items]
        == row["paper_ids"]
        == [*(papers[3], papers[1])]
    )
    assert [json.loads(one.row) for one in found.shown] == row["items"]
    stored = preview(desk.engine, desk.plan, ada, now=desk.now)
    assert found.personal is not None
    assert found.personal["boundary"] == ""
    for name_of in ("subject", "notes", "lead"):
        assert found.personal[name_of] == row["personal"][name_of]
    assert stored.choice.items == ()  # they had them


def test_a_preview_with_another_hour_is_of_that_hours_slot(desk: Desk) -> None:
    ada = desk.subscribe("ada")
    wishes = replace(DAILY, hour=20, zone="Europe/Berlin")
    found = preview(desk.engine, desk.plan, ada, now=desk.now, wishes=wishes)
    assert (found.slot.due_at.hour, found.slot.schedule.zone) == (18, "Europe/Berlin")


def _dump(desk: Desk) -> dict[str, list[Any]]:
    with reading(desk.engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all()))
            for table in schema.metadata.sorted_tables
        }


@pytest.fixture
def statements(each_desk: Desk) -> Iterator[list[str]]:
    """All that is asked of the database."""
    asked: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        asked.append(statement)

    event.listen(each_desk.engine, "before_cursor_execute", note)
    yield asked
    event.remove(each_desk.engine, "before_cursor_execute", note)


def test_interests_of_many_take_as_many_statements_as_of_few(
    each_desk: Desk, papers: list[int], statements: list[str]
) -> None:
    desk = each_desk
    counts = []
    for hour, many in ((8, 2), (9, 12)):
        wishes = replace(DAILY, hour=hour)
        for number in range(many):
            person = desk.subscribe(f"reader{hour}.{number}", wishes=wishes)
            keep(desk, person, "author", f"Name {number}")
            keep(desk, person, "seed", f"2605.{number:05}")
            search(desk, person, f"word{number}")
            say(desk, person, papers[number % 4], Action.MORE)
        desk.at(f"2026-05-27T{hour:02}:00")
        statements.clear()
        assert desk.run().digests == many
        counts.append(len(statements))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_search_that_can_no_longer_be_read_stops_nobody(
    each_desk: Desk, papers: list[int]
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    with writing(desk.engine) as connection:
        interests.follow_search(connection, ada, "robots AND (", now=desk.now)
    keep(desk, ada, "muted_word", "slow")
    plan_at_eight(desk)
    assert desk.last(ada)[0] == papers[:2]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_says_nothing_gets_the_same_beside_who_does(each_desk: Desk, papers: list[int]) -> None:
    desk = each_desk
    ada = desk.subscribe("ada", "robots")
    alone = preview(desk.engine, desk.plan, ada, now=desk.at("2026-05-27T08:00"))
    bob = desk.subscribe("bob", "robots")
    keep(desk, bob, "muted_topic", "robots")
    search(desk, bob, "slow OR market")
    desk.run()
    row = desk.digests(ada)[-1]
    assert row["items"] == [json.loads(one.row) for one in alone.shown]
    assert "notes" not in row["personal"]


def test_an_erasure_takes_the_reasons_of_what_was_sent_too(
    each_desk: Desk, papers: list[int]
) -> None:
    desk = each_desk
    ada = desk.subscribe("ada")
    keep(desk, ada, "author", "Ada Lovelace")
    plan_at_eight(desk)
    assert "Ada Lovelace" in repr(desk.digests(ada))
    with writing(desk.engine) as connection:
        assert erasing.erase(connection, ada, now=desk.now)
    assert "Ada Lovelace" not in repr(desk.digests(ada))


WISHES = Wishes(
    zone="UTC",
    hour=8,
    frequency=Frequency.DAILY,
    max_papers=5,
    min_score=0.25,
    detail=Detail.FULL,
    quiet_day=QuietDay.SEND,
    plain=True,
)


def test_wishes_come_back_as_they_went(each_desk: Desk) -> None:
    desk = each_desk
    ada = desk.subscribe("ada", wishes=WISHES)
    bob = desk.subscribe("bob")
    desk.change(bob, WISHES)

    with reading(desk.engine) as connection:
        for person in (ada, bob):
            found = subscribers.get(connection, person)
            assert (found.min_score, found.detail, found.quiet_day, found.plain) == (
                *(0.25, Detail.FULL, QuietDay.SEND, True),
            )
