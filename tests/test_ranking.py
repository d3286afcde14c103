"""The formula as it is written down is what is computed, and its order is total."""

from __future__ import annotations

import math
import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Mark, Paper, Signal
from digest.ranking import (
    NEUTRAL,
    Candidate,
    Weights,
    assess,
    freshness,
    merit,
    order,
    popularity,
    score,
    topic_score,
)
from digest.topics.match import Match

NOW = datetime(2026, 5, 28, 8, tzinfo=UTC)
DAY = date(2026, 5, 28)
WEIGHTS = Weights(trend=1.0, topic=1.0, half_life=timedelta(hours=36))


def signal(value: int, name: str = "upvotes", *, gain: int = 0, **more: Any) -> Signal:
    return Signal(
        **{"source": "huggingface", "day": DAY, "name": name, "value": value, "gain": gain, **more}
    )


def candidate(number: int = 1, **more: Any) -> Candidate:
    paper = Paper(id=number, title="", url="", listed_at=more.pop("listed_at", NOW))
    values: dict[str, Any] = {
        "popularity": 0.5,
        "freshness": 1.0,
        "votes": 0,
        "gain": 0,
        "matches": {},
    }
    return Candidate(paper=paper, **{**values, **more})


def matched(**strengths: float) -> dict[str, Match]:
    mark = Mark(field="title", start=0, end=1)
    return {slug: Match(marks=(mark,), strength=value) for slug, value in strengths.items()}


# Worked by hand: four papers of one day in one list, raw = ln(1+votes) + ln(1+comments)/2
# + ln(1+stars)/2 + ln(1+gain).
#   1: 100 votes                       4.615
#   2: 20 votes, 9 comments, 99 stars  3.045 + 1.151 + 2.303 = 6.499
#   3: 20 votes, 30 gained             3.045 + 3.434 = 6.479
#   4: none                            0
# in order 4 1 3 2, mid-ranks (place - 1/2) / 4 = .125 .375 .625 .875
DAY_OF_FOUR = {
    1: [signal(100)],
    2: [signal(20), signal(9, "comments"), signal(99, "stars")],
    3: [signal(20, gain=30)],
    4: [signal(0)],
}


def test_popularity_as_worked_by_hand() -> None:
    assert popularity(DAY_OF_FOUR) == {1: 0.375, 2: 0.875, 3: 0.625, 4: 0.125}


@pytest.mark.parametrize(
    ("signals", "expected"),
    [
        pytest.param({1: [signal(7)]}, {1: 0.5}, id="alone: the middle"),
        pytest.param({1: [signal(7)], 2: [signal(7)]}, {1: 0.5, 2: 0.5}, id="equal: the middle"),
        pytest.param({1: [signal(0)], 2: [signal(0)]}, {1: NEUTRAL, 2: NEUTRAL}, id="no votes yet"),
        pytest.param({1: []}, {1: NEUTRAL}, id="nothing known"),
        pytest.param(
            {1: [signal(0, "", source="arxiv")], 2: [signal(5)], 3: [signal(9)]},
            {1: NEUTRAL, 2: 0.25, 3: 0.75},
            id="a source that counts nothing is neutral",
        ),
        pytest.param(
            {1: [signal(0, "", source="arxiv"), signal(5)], 2: [signal(9)]},
            {1: 0.25, 2: 0.75},
            id="in two sources: what the counting one says",
        ),
        pytest.param(
            {1: [signal(5), signal(5, source="feed:a")], 2: [signal(9)]},
            {1: 0.5, 2: 0.75},
            id="in two that count: the better",
        ),
        pytest.param({1: [signal(-5, gain=-9)], 2: [signal(1)]}, {1: 0.25, 2: 0.75}, id="negative"),
        pytest.param({1: [signal(9, "downloads")]}, {1: NEUTRAL}, id="a count that has no weight"),
    ],
)
def test_popularity(signals: dict[int, list[Signal]], expected: dict[int, float]) -> None:
    assert popularity(signals) == expected


def test_a_source_with_huge_votes_drowns_no_other() -> None:
    small = {number: [signal(number, source="feed:lab")] for number in range(1, 11)}
    huge = {number: [signal(number * 100_000)] for number in range(11, 21)}
    both = popularity({**small, **huge})
    assert {number: both[number] for number in small} == popularity(small)
    assert max(both[number] for number in small) == max(both[number] for number in huge)


def test_days_do_not_drown_one_another_either() -> None:
    yesterday = DAY - timedelta(days=1)
    found = popularity({1: [signal(3)], 2: [signal(300, day=yesterday)]})
    assert found == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize(
    ("hours", "expected"), [(0, 1.0), (36, 0.5), (72, 0.25), (-5, 1.0)], ids=str
)
def test_freshness(hours: int, expected: float) -> None:
    paper = Paper(id=1, title="", url="", listed_at=NOW - timedelta(hours=hours))
    assert freshness(paper, now=NOW, half_life=timedelta(hours=36)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("strengths", "expected"),
    [([], 0.0), ([0.5], 0.5), ([0.5, 0.7], 0.8), ([1.0, 1.0], 1.0), ([0.7, 0.7, 0.5], 0.9)],
)
def test_topic_score(strengths: list[float], expected: float) -> None:
    assert topic_score(strengths) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("weights", "followed", "score_", "merit_"),
    [
        pytest.param((1, 1), ["agents"], (0.8 * 0.5 + 0.7) / 2, (0.8 + 0.7) / 2, id="one topic"),
        pytest.param((3, 1), ["agents"], (3 * 0.4 + 0.7) / 4, (3 * 0.8 + 0.7) / 4, id="weights"),
        pytest.param((1, 1), ["agents", "rl"], (0.4 + 0.8) / 2, (0.8 + 0.8) / 2, id="two topics"),
        pytest.param((1, 1), ["vision"], 0.4 / 2, 0.8 / 2, id="another topic"),
        pytest.param((1, 1), [], 0.4, 0.8, id="none"),
        pytest.param((0, 1), ["agents"], 0.7, 0.7, id="topics alone"),
        pytest.param((1, 0), ["agents"], 0.4, 0.8, id="trend alone"),
    ],
)
def test_the_blend(
    weights: tuple[float, float], followed: list[str], score_: float, merit_: float
) -> None:
    given_weights = Weights(trend=weights[0], topic=weights[1], half_life=timedelta(hours=36))
    one = candidate(popularity=0.8, freshness=0.5, matches=matched(agents=0.7, rl=0.7))
    assert score(one, followed, weights=given_weights) == pytest.approx(score_)
    assert merit(one, followed, weights=given_weights) == pytest.approx(merit_)


def test_assess_takes_the_best_count_and_its_own_gain() -> None:
    papers = [Paper(id=1, title="", url="", listed_at=NOW - timedelta(hours=36))]
    signals = {1: [signal(5, gain=5), signal(40, gain=2, source="feed:a")], 2: [signal(900)]}
    [daily] = assess(papers, signals, matches={}, leaders=[2], weights=WEIGHTS, now=NOW, fresh=True)
    assert (daily.votes, daily.gain, daily.leads) == (40, 2, False)
    # Compared with paper 2, which is no candidate itself.
    assert daily.popularity == popularity(signals)[1] == 0.5
    assert daily.freshness == pytest.approx(0.5)
    [weekly] = assess(
        papers, signals, matches={}, leaders=[1], weights=WEIGHTS, now=NOW, fresh=False
    )
    assert (weekly.freshness, weekly.leads) == (1.0, True)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.25, 0.5]), st.integers(0, 2), st.integers(0, 2), st.booleans()
        ),
        max_size=30,
    ),
    st.randoms(use_true_random=False),
)
def test_the_order_is_total(
    drawn: list[tuple[float, int, int, bool]], shuffled: random.Random
) -> None:
    candidates = [
        candidate(
            number,
            popularity=popular,
            votes=votes,
            listed_at=NOW - timedelta(hours=age),
            matches=matched(agents=0.7) if on_topic else {},
        )
        for number, (popular, votes, age, on_topic) in enumerate(drawn)
    ]

    def ranked(found: list[Candidate]) -> list[Candidate]:
        return sorted(found, key=lambda one: order(one, score(one, ["agents"], weights=WEIGHTS)))

    again = list(candidates)
    shuffled.shuffle(again)
    assert ranked(again) == ranked(candidates)
    keys = [
        (-value, -one.votes, -(one.paper.listed_at or NOW).timestamp(), one.paper.id)
        for one in ranked(candidates)
        for value in [score(one, ["agents"], weights=WEIGHTS)]
    ]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


@given(
    st.dictionaries(
        st.integers(1, 30),
        st.lists(
            st.builds(
                signal,
                st.integers(0, 10**6),
                st.sampled_from(["upvotes", "comments", "stars", ""]),
                gain=st.integers(-5, 100),
                source=st.sampled_from(["huggingface", "arxiv", "feed:a"]),
            ),
            max_size=3,
        ),
    ),
    st.randoms(use_true_random=False),
)
def test_popularity_depends_on_no_order(
    signals: dict[int, list[Signal]], shuffled: random.Random
) -> None:
    found = popularity(signals)
    assert all(0 < value < 1 for value in found.values())
    keys = list(signals)
    shuffled.shuffle(keys)
    assert popularity({key: signals[key] for key in keys}) == found


def test_more_of_everything_is_never_less_popular() -> None:
    counts = [(votes, gain) for votes in (0, 3, 50) for gain in (0, 3, 30)]
    signals = {number: [signal(v, gain=g)] for number, (v, g) in enumerate(counts)}
    found = popularity(signals)
    for a, (votes, gain) in enumerate(counts):
        for b, (more_votes, more_gain) in enumerate(counts):
            if more_votes >= votes and more_gain >= gain:
                assert found[b] >= found[a]
    assert math.isclose(sum(found.values()) / len(found), 0.5)
