"""What a reader said lifts, lowers and keeps away papers, by the numbers that the docs give."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.interests import read
from digest.models import Interest, InterestKind, Interests, Paper, Reason
from digest.ranking import lifted, merit, order, score
from digest.selection import SEARCHES_ALONE, Shortlists, choose, for_one, news
from digest.taste import (
    ALIKE,
    FOLLOWED,
    LIKENESS,
    NOTHING_SAID,
    SAME_SUBJECT,
    TWIN,
    Example,
    Judgement,
    Lift,
    Shelf,
    judge,
)
from digest.topics.language import parse
from tests.desk import RULES, WEIGHTS
from tests.test_ranking import matched
from tests.test_selection import YESTERDAY, candidate

FOLDING = "protein folding with diffusion on graphs"
GAMES = "game theory of auctions and markets"


def paper(number: int, title: str = "Nothing", **more: Any) -> Paper:
    return Paper(id=number, title=title, url="", **more)


def interests(**typed: str) -> tuple[Interest, ...]:
    kept = [read(InterestKind(kind), text) for kind, text in typed.items()]
    return tuple(one for one in kept if isinstance(one, Interest))


SHELF = [
    paper(1, authors=("Ada Lovelace", "Kurt Gödel"), organisation="hkust-nlp"),
    paper(2, "Robots that read", abstract="Humanoid robots read slowly.", organisation="NVIDIA"),
    paper(3, FOLDING, keywords=("folding",), authors=("A. Lovelace",)),
    paper(4, "Diffusion on graphs for protein design", summary="A survey of graphs."),
    paper(5, GAMES),
]
TOPICS = {"robots": {2}, "graphs": {3, 4}}


def said(**more: Any) -> Judgement:
    shelf = Shelf(SHELF)
    one = Interests(**more)
    queries = {text: parse(text) for text in one.searches}
    queries |= {i.key: parse(i.key) for i in one.kept if i.kind is InterestKind.MUTED_WORD}
    examples: dict[str | int, Example] = {
        other.id: shelf.example(other, same={other.id}) for other in SHELF
    }
    examples["arxiv 2605.00001"] = shelf.example(paper(99, FOLDING), same=set())
    return judge(one, shelf, examples=examples, queries=queries, topics=TOPICS)


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        pytest.param({"author": "ada LOVELACE"}, {1: [("author", "ada LOVELACE")]}, id="an author"),
        pytest.param({"author": "Lovelace"}, {}, id="not by the last name alone"),
        pytest.param({"author": "Kurt Godel"}, {1: [("author", "Kurt Godel")]}, id="no accents"),
        pytest.param({"lab": "nvidia"}, {2: [("lab", "nvidia")]}, id="a lab"),
        pytest.param({"lab": "HKUST"}, {1: [("lab", "HKUST")]}, id="a word of the lab's name"),
        pytest.param({"lab": "HK"}, {}, id="no part of a word"),
        pytest.param(
            {"author": "Ada Lovelace", "lab": "hkust nlp"},
            {1: [("author", "Ada Lovelace"), ("lab", "hkust nlp")]},
            id="both lift once",
        ),
    ],
)
def test_who_is_followed_lifts(
    typed: dict[str, str], found: dict[int, list[tuple[str, ...]]]
) -> None:
    judged = said(kept=interests(**typed))
    assert judged.lifts == {
        paper_id: Lift(FOLLOWED, (), tuple(Reason(kind, tuple(args)) for kind, *args in reasons))
        for paper_id, reasons in found.items()
    }
    assert not judged.out


def test_what_is_like_a_liked_paper_is_lifted_by_how_much() -> None:
    lifts = said(more=(3,)).lifts
    near = Shelf(SHELF).example(SHELF[2], same={3}).alike
    assert set(lifts) == {3, 4}
    assert near[3] == 1
    assert lifts[4].by == pytest.approx(LIKENESS * near[4])
    assert lifts[4].reasons == (Reason("like", (FOLDING, "more")),)
    assert lifts[3].by == pytest.approx(LIKENESS)
    assert lifts[3].reasons == (Reason("seed"),)


def test_a_seed_that_is_no_candidate_lifts_its_like() -> None:
    lifts = said(kept=interests(seed="2605.00001")).lifts
    assert lifts[3].by >= lifts[4].by > 0
    assert lifts[3].reasons == (Reason("like", (FOLDING, "seed")),)


def test_a_seed_that_is_not_stored_yet_does_nothing() -> None:
    assert said(kept=interests(seed="2605.99999")) == Judgement({}, set())


def test_what_is_like_a_disliked_paper_is_lowered_and_it_is_out() -> None:
    judged = said(less=(3,))
    near = Shelf(SHELF).example(SHELF[2], same={3}).alike
    assert judged.out == {3}
    assert judged.lifts == {4: Lift(-LIKENESS * near[4])}


def test_a_near_twin_of_a_disliked_paper_is_out() -> None:
    twins = [*SHELF, paper(6, FOLDING, keywords=("folding",))]
    shelf = Shelf(twins)
    example = shelf.example(twins[2], same={3})
    judged = judge(Interests(less=(3,)), shelf, examples={3: example}, queries={}, topics={})
    assert judged.out == {3, 6}


def test_likes_and_dislikes_add_up() -> None:
    judged = said(more=(3,), less=(5,), kept=interests(author="A. Lovelace"))
    assert judged.out == {5}
    assert judged.lifts[3].by == pytest.approx(FOLLOWED + LIKENESS)
    assert said(more=(4,), less=(4,)).out == {4}


@pytest.mark.parametrize(
    ("typed", "out"),
    [
        pytest.param({"muted_word": "robot"}, {2}, id="a word, in any number"),
        pytest.param({"muted_word": "humanoid robots"}, {2}, id="a phrase"),
        pytest.param({"muted_word": "robots humanoid"}, set(), id="not in another order"),
        pytest.param({"muted_word": "prot*"}, {3, 4}, id="with what follows"),
        pytest.param({"muted_word": "survey"}, {4}, id="in the summary"),
        pytest.param({"muted_word": "title:graphs"}, {3, 4}, id="in the title"),
        pytest.param({"muted_word": "lovelace"}, set(), id="a name is no subject"),
        pytest.param({"muted_topic": "graphs"}, {3, 4}, id="a topic"),
        pytest.param({"muted_topic": "gone"}, set(), id="a topic that was removed"),
    ],
)
def test_what_is_muted_is_out(typed: dict[str, str], out: set[int]) -> None:
    assert said(kept=interests(**typed)) == Judgement({}, out)


def test_out_outweighs_all() -> None:
    judged = said(kept=interests(author="Ada Lovelace", muted_word="nothing"))
    assert judged == Judgement({}, {1})


def test_searches_match_as_topics_do() -> None:
    judged = said(searches=("robots", "author:lovelace", "abstract:robots OR graphs"))
    assert judged.searches
    assert judged.lifts[2] == Lift(
        0.0, (1.0, 0.7), (Reason("search", ("robots", "abstract:robots OR graphs")),)
    )
    assert judged.lifts[1].strengths == (1.0,)
    assert set(judged.lifts) == {1, 2, 3, 4}


@given(st.sampled_from([*SHELF, paper(9, "Folding robots of graphs")]))
def test_likeness_is_between_none_and_all(one: Paper) -> None:
    alike = Shelf(SHELF).example(one, same=set()).alike
    assert all(ALIKE / SAME_SUBJECT <= value <= 1 for value in alike.values())


def test_likeness_is_a_cosine_that_was_reckoned_by_hand() -> None:
    """Of 3 papers; "a" stands in all: ln(4/3), "b" in two: ln 2, the others in one: ln 4."""
    shelf = Shelf([paper(1, "a b"), paper(2, "a b c"), paper(3, "a " + "d e f g h i j k")])
    example = shelf.example(paper(9, "a b"), same=())
    a, b, one = math.log(4 / 3), math.log(2), math.log(4)
    both = a * a + b * b
    cosine = both / math.sqrt(both) / math.sqrt(both + one * one)
    assert example.alike[1] == 1
    assert example.alike[2] == 1
    assert cosine > SAME_SUBJECT
    far = a * a / math.sqrt(both) / math.sqrt(a * a + 8 * one * one)
    assert far < ALIKE
    assert 3 not in example.alike
    assert example.twins == {1}
    assert cosine < TWIN


QUERIES = st.sampled_from(
    [
        *("robots", "folding", "graphs design", "robots OR folding", "-robots graphs", "prot*"),
        *("author:lovelace", "org:nvidia", "title:graphs -design", '"on graphs"', "cat:cs.AI"),
        *("--graphs", "robots OR cat:cs.AI", "(robots OR graphs) (folding OR design)", "nowhere"),
    ]
)


@given(QUERIES)
def test_the_words_that_must_be_there_hide_no_match(written: str) -> None:
    from digest.topics.match import index, match

    query = parse(written)
    hits = {one.id: match(query, index(one)) for one in SHELF}
    wanted = {paper_id: hit.strength for paper_id, hit in hits.items() if hit}
    assert Shelf(SHELF).matching(written, query) == wanted


# ------------------------------------------------------------------ the order


SLUGS = ("rl", "agents", "vision")
CANDIDATES = st.lists(
    st.tuples(
        st.floats(0, 1),
        st.floats(0.01, 1),
        st.dictionaries(st.sampled_from(SLUGS), st.sampled_from([0.5, 0.7, 1.0])),
    ),
    max_size=25,
)
FOLLOWS = st.frozensets(st.sampled_from(SLUGS))
LIFTS = st.dictionaries(
    st.integers(0, 24),
    st.builds(
        Lift,
        st.floats(-1, 1),
        st.lists(st.sampled_from([0.5, 0.7, 1.0]), max_size=2).map(tuple),
        st.just(()),
    ),
    max_size=8,
)


@given(CANDIDATES, FOLLOWS)
def test_who_says_nothing_is_offered_what_all_are(
    drawn: list[tuple[float, float, dict[str, float]]], topics: frozenset[str]
) -> None:
    lists = shortlists(drawn)
    usual = list(news(lists.best(topics), window=YESTERDAY, rules=RULES))
    changed = lists.lifted(topics, NOTHING_SAID)
    mine = for_one(usual, changed, judgement=NOTHING_SAID, min_score=None)
    assert list(mine) == usual


@given(
    CANDIDATES,
    FOLLOWS,
    LIFTS,
    st.frozensets(st.integers(0, 24), max_size=5),
    st.none() | st.floats(0.3, 1),
)
def test_the_order_is_that_of_scoring_all_anew(
    drawn: list[tuple[float, float, dict[str, float]]],
    topics: frozenset[str],
    lifts: dict[int, Lift],
    out: frozenset[int],
    least: float | None,
) -> None:
    lists = shortlists(drawn)
    lifts = {paper_id: lift for paper_id, lift in lifts.items() if paper_id not in out}
    judgement = Judgement(lifts, out, any(lift.strengths for lift in lifts.values()))
    followed = topics or (SEARCHES_ALONE if judgement.searches else topics)
    usual = news(lists.best(followed), window=YESTERDAY, rules=RULES)
    changed = news(lists.lifted(followed, judgement), window=YESTERDAY, rules=RULES)
    offers = for_one(usual, changed, judgement=judgement, min_score=least)
    found = choose(offers, had=(), max_papers=50, rules=RULES)
    plain = []
    for one in candidates(drawn):
        by, own, _ = lifts.get(one.paper.id, Lift())
        worth = lifted(merit(one, followed, weights=WEIGHTS, own=own), by)
        if one.paper.id not in out and worth >= max(RULES.min_score, least or 0.0):
            value = lifted(score(one, followed, weights=WEIGHTS, own=own), by)
            plain.append((order(one, value), one.paper.id, value))
    assert [(item.paper_id, item.score) for item in found] == [
        (paper_id, value) for _, paper_id, value in sorted(plain)
    ]


def candidates(drawn: list[tuple[float, float, dict[str, float]]]) -> list[Any]:
    return [
        candidate(number, popularity=popular, freshness=fresh, matches=matched(**matches))
        for number, (popular, fresh, matches) in enumerate(drawn)
    ]


def shortlists(drawn: list[tuple[float, float, dict[str, float]]]) -> Shortlists:
    return Shortlists(candidates(drawn), rules=RULES, weights=WEIGHTS)
