"""Who gets which papers, and that the reasons are true of the numbers."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Frequency, Item, Paper, Reason
from digest.ranking import Candidate, merit, order, score
from digest.selection import OVERLAP, Shortlists, Window, choose, news, window
from tests.desk import RULES, WEIGHTS
from tests.test_ranking import matched

NOW = datetime(2026, 5, 28, 8, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YESTERDAY = Window(start=NOW - DAY, risers=NOW - RULES.lookback)


def candidate(number: int, *, age: float = 1.0, **more: Any) -> Candidate:
    """A candidate that became known `age` hours ago."""
    fresh_at = NOW - timedelta(hours=age)
    paper = Paper(
        id=number, title="", url="", fresh_at=fresh_at, listed_at=fresh_at, sources=("arxiv",)
    )
    values: dict[str, Any] = {
        "popularity": 0.5,
        "freshness": 1.0,
        "votes": 0,
        "gain": 0,
        "matches": {},
    }
    return Candidate(paper=paper, **{**values, **more})


def pick(candidates: list[Candidate], *topics: str, **more: Any) -> list[Item]:
    values: dict[str, Any] = {"had": (), "max_papers": 10, **more}
    best = Shortlists(candidates, rules=RULES, weights=WEIGHTS).best(frozenset(topics))
    return list(choose(news(best, window=YESTERDAY, rules=RULES), rules=RULES, **values))


@pytest.mark.parametrize(
    ("frequency", "last", "start", "risers"),
    [
        pytest.param(Frequency.DAILY, None, 3 * DAY, 3 * DAY, id="the first"),
        pytest.param(Frequency.DAILY, DAY, DAY + OVERLAP, 3 * DAY, id="yesterday's was sent"),
        pytest.param(
            Frequency.WEEKDAYS, 3 * DAY, 3 * DAY + OVERLAP, 3 * DAY + OVERLAP, id="Monday"
        ),
        pytest.param(Frequency.DAILY, 40 * DAY, 14 * DAY, 14 * DAY, id="away: the longest"),
        pytest.param(Frequency.WEEKLY, None, 7 * DAY, 7 * DAY, id="the first weekly"),
        pytest.param(Frequency.WEEKLY, DAY, 7 * DAY, 7 * DAY, id="daily before: its own window"),
        pytest.param(Frequency.WEEKLY, 9 * DAY, 9 * DAY + OVERLAP, 9 * DAY + OVERLAP, id="moved"),
        pytest.param(Frequency.DAILY, -HOUR, timedelta(), 3 * DAY, id="the clock was set back"),
    ],
)
def test_windows(
    frequency: Frequency, last: timedelta | None, start: timedelta, risers: timedelta
) -> None:
    found = window(frequency, None if last is None else NOW - last, rules=RULES, now=NOW)
    assert (NOW - found.start, NOW - found.risers) == (start, risers)


@pytest.mark.parametrize(
    ("one", "chosen"),
    [
        pytest.param(candidate(1), True, id="new"),
        pytest.param(candidate(1, age=24), False, id="known at the very start"),
        pytest.param(candidate(1, age=30), False, id="passed over before"),
        pytest.param(candidate(1, age=30, gain=9), False, id="rose a little"),
        pytest.param(candidate(1, age=30, gain=10), True, id="rose"),
        pytest.param(candidate(1, age=80, gain=500), False, id="rose too late"),
        pytest.param(candidate(1, popularity=0.29), False, id="not good enough"),
        pytest.param(candidate(1, popularity=0.3), True, id="just good enough"),
        pytest.param(candidate(1, freshness=0.01), True, id="age takes no merit away"),
        pytest.param(candidate(7), False, id="had before"),
        pytest.param(candidate(7, gain=50), False, id="had before, and rose"),
    ],
)
def test_who_is_chosen(one: Candidate, chosen: bool) -> None:
    assert bool(pick([one], had={7})) is chosen


REASONS = [
    pytest.param({}, [("source", "arxiv")], id="nothing else to say"),
    pytest.param({"votes": 5}, [("votes", 5, 0)], id="votes"),
    pytest.param({"votes": 163, "gain": 9}, [("votes", 163, 9)], id="votes, some new"),
    pytest.param({"votes": 163, "gain": 40}, [("rising", 40)], id="rising"),
    pytest.param({"votes": 9, "leads": True}, [("most_votes",), ("votes", 9, 0)], id="most votes"),
    pytest.param(
        {"matches": matched(rl=0.7, agents=0.7, vision=1.0), "votes": 2},
        [("topic", "agents", "rl"), ("votes", 2, 0)],
        id="only the topics followed, the strongest first",
    ),
    pytest.param({"matches": matched(vision=1.0)}, [("source", "arxiv")], id="another's topic"),
]


@pytest.mark.parametrize(("about", "expected"), REASONS)
def test_reasons(about: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    [item] = pick([candidate(1, popularity=0.9, **about)], "agents", "rl")
    assert item.reasons == tuple(Reason(kind=kind, args=tuple(args)) for kind, *args in expected)


def test_stronger_topics_come_first() -> None:
    [item] = pick([candidate(1, matches=matched(agents=0.5, rl=1.0))], "agents", "rl")
    assert item.reasons[0] == Reason(kind="topic", args=("rl", "agents"))


def test_the_best_are_cards_and_no_more_than_asked_for() -> None:
    many = [candidate(number, popularity=0.3 + number / 100) for number in range(20)]
    items = pick(many, max_papers=5)
    assert [item.paper_id for item in items] == [19, 18, 17, 16, 15]
    assert [item.card for item in items] == [True, True, True, False, False]


@given(
    st.lists(
        st.tuples(
            st.floats(0, 1), st.integers(0, 100), st.integers(0, 20), st.sampled_from([0.0, 0.5, 1])
        ),
        max_size=30,
    ),
    st.sets(st.integers(0, 30)),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_any_choice(
    drawn: list[tuple[float, int, int, float]],
    had: set[int],
    most: int,
    shuffled: random.Random,
) -> None:
    candidates = [
        candidate(number, age=age, popularity=popular, gain=gain, matches=matched(rl=strength))
        for number, (popular, age, gain, strength) in enumerate(drawn)
    ]
    items = pick(candidates, "rl", had=had, max_papers=most)
    again = list(candidates)
    shuffled.shuffle(again)
    assert pick(again, "rl", had=had, max_papers=most) == items
    assert len(items) <= most
    chosen = [item.paper_id for item in items]
    assert had.isdisjoint(chosen)
    assert [item.score for item in items] == sorted((item.score for item in items), reverse=True)
    for number, (_, age, gain, _) in enumerate(drawn):
        news = age < 24 or (age < 72 and gain >= RULES.rise)
        good = merit(candidates[number], ["rl"], weights=WEIGHTS) >= RULES.min_score
        if number in chosen:
            assert news
            assert good
        elif news and good and number not in had:
            assert len(items) == most  # there was no room


SLUGS = ("agents", "rl", "vision", "video")


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.2, 0.3, 0.7]),  # so that many have equal scores
            st.sampled_from([0.5, 1.0]),
            st.integers(0, 2),
            st.dictionaries(st.sampled_from(SLUGS), st.sampled_from([0.5, 0.7, 1.0])),
        ),
        max_size=40,
    ),
    st.lists(st.sets(st.sampled_from([*SLUGS, "nobody"])), min_size=1, max_size=6),
)
def test_a_shortlist_is_what_ranking_every_paper_gives(
    drawn: list[tuple[float, float, int, dict[str, float]]], readers: list[set[str]]
) -> None:
    """Whoever asked for which topics before."""
    candidates = [
        candidate(
            number, popularity=popular, freshness=fresh, votes=votes, matches=matched(**strengths)
        )
        for number, (popular, fresh, votes, strengths) in enumerate(drawn)
    ]
    shortlists = Shortlists(candidates, rules=RULES, weights=WEIGHTS)
    for topics in readers:
        expected = sorted(
            (order(one, score(one, topics, weights=WEIGHTS)), one)
            for one in candidates
            if merit(one, topics, weights=WEIGHTS) >= RULES.min_score
        )
        found = list(shortlists.best(frozenset(topics)))
        assert [(offer.order, offer.candidate) for offer in found] == expected
        for offer in found:
            [(kind, slugs)] = [(one.kind, set(one.args)) for one in offer.card.reasons[:1]]
            matches = topics & offer.candidate.matches.keys()
            assert (slugs == matches) if matches else kind != "topic"
