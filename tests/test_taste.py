"""What a reader said lifts, lowers and keeps away papers, by the numbers that the docs give."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Set
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.interests import read
from digest.models import Interest, InterestKind, Interests, Paper, Reason
from digest.ranking import lifted, merit, order, score
from digest.selection import SEARCHES_ALONE, Shortlists, choose, is_new, news
from digest.taste import (
    ALIKE,
    FOLLOWED,
    LIKENESS,
    NEAREST,
    PERSONAL,
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


class Said(NamedTuple):
    """All that a judgement says, paper after paper."""

    lifts: Mapping[int, Lift]
    out: Set[int]
    searches: bool = False


def told(judgement: Judgement, papers: Collection[int]) -> Said:
    lifts = {
        one: judgement.lift(one)
        for one in papers
        if judgement.changes(one) and one not in judgement.out
    }
    return Said(lifts, judgement.out, judgement.searches)


def said(**more: Any) -> Said:
    shelf = Shelf(SHELF)
    one = Interests(**more)
    queries = {text: parse(text) for text in one.searches}
    queries |= {i.key: parse(i.key) for i in one.kept if i.kind is InterestKind.MUTED_WORD}
    named: dict[str | int, Example] = {
        other.id: shelf.example(other, same={other.id}) for other in SHELF
    }
    named["arxiv 2605.00001"] = shelf.example(paper(99, FOLDING), same=set())
    judgement = judge(one, shelf, examples=named, queries=queries, topics=TOPICS)
    return told(judgement, [paper.id for paper in SHELF])


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
    assert said(kept=interests(seed="2605.99999")) == Said({}, set())


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
    assert said(kept=interests(**typed)) == Said({}, out)


def test_out_outweighs_all() -> None:
    judged = said(kept=interests(author="Ada Lovelace", muted_word="nothing"))
    assert judged == Said({}, {1})


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
        st.sampled_from([1.0, 1.0, 1.0, 30.0]),
        st.floats(0, 1),
        st.floats(0.01, 1),
        st.dictionaries(st.sampled_from(SLUGS), st.sampled_from([0.5, 0.7, 1.0])),
    ),
    max_size=25,
)
FOLLOWS = st.frozensets(st.sampled_from(SLUGS))
NUMBERS = st.integers(0, 24)
ALIKES = st.dictionaries(NUMBERS, st.sampled_from([0.4, 0.41, 0.6, 0.85, 1.0]), max_size=15)


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """Whatever part of those alike stands apart as the nearest."""
    alike = draw(ALIKES)
    order = sorted(alike, key=alike.__getitem__, reverse=True)
    many = draw(st.integers(0, 4))
    return Example(
        title=draw(st.sampled_from("AB")),
        same=draw(st.frozensets(st.sampled_from(order), max_size=1)) if order else (),
        alike=alike,
        nearest=frozenset(order[:many]),
        others=max((alike[one] for one in order[many:]), default=0.0),
    )


class Opinions(NamedTuple):
    followed: Mapping[int, tuple[Reason, ...]]
    liked: list[tuple[Example, str]]
    disliked: list[Example]
    searched: Mapping[str, Mapping[int, float]]
    out: frozenset[int]

    @property
    def judgement(self) -> Judgement:
        return Judgement(**self._asdict())

    def plain(self, paper_id: int) -> Lift:
        """The rule of docs/ranking.md, told as it stands there."""
        followed = self.followed.get(paper_id, ())
        nearest = max([one.alike.get(paper_id, 0.0) for one, _ in self.liked], default=0.0)
        less = max([one.alike.get(paper_id, 0.0) for one in self.disliked], default=0.0)
        found = [text for text, papers in self.searched.items() if paper_id in papers]
        reasons = list(followed)
        for one, how in self.liked:
            if nearest and one.alike.get(paper_id) == nearest:
                itself = paper_id in one.same
                reasons.append(Reason("seed") if itself else Reason("like", (one.title, how)))
                break
        if found:
            reasons.append(Reason("search", tuple(found)))
        by = (FOLLOWED if followed else 0.0) + LIKENESS * (nearest - less)
        return Lift(by, tuple(self.searched[text][paper_id] for text in found), tuple(reasons))


OPINIONS = st.builds(
    Opinions,
    st.dictionaries(NUMBERS, st.just((Reason("author", ("Ada",)),)), max_size=3),
    st.lists(st.tuples(examples(), st.sampled_from(["more", "seed"])), max_size=3),
    st.lists(examples(), max_size=2),
    st.dictionaries(
        st.sampled_from(["robots", "graphs"]),
        st.dictionaries(NUMBERS, st.sampled_from([0.5, 0.7, 1.0]), max_size=6),
    ),
    st.frozensets(NUMBERS, max_size=5),
)


@given(CANDIDATES, FOLLOWS)
def test_who_says_nothing_is_offered_what_all_are(
    drawn: list[tuple[float, float, float, dict[str, float]]], topics: frozenset[str]
) -> None:
    lists = shortlists(drawn)
    usual = list(news(lists.best(topics), window=YESTERDAY, rules=RULES))
    mine = lists.for_one(usual, topics, Judgement(), window=YESTERDAY)
    assert list(mine) == usual


@given(CANDIDATES, FOLLOWS, OPINIONS, st.none() | st.floats(0.3, 1))
def test_the_order_is_that_of_scoring_all_anew(
    drawn: list[tuple[float, float, float, dict[str, float]]],
    topics: frozenset[str],
    opinions: Opinions,
    least: float | None,
) -> None:
    lists, judgement = shortlists(drawn), opinions.judgement
    followed = topics or (SEARCHES_ALONE if judgement.searches else topics)
    usual = news(lists.best(followed), window=YESTERDAY, rules=RULES)
    mine = lists.for_one(usual, followed, judgement, window=YESTERDAY, min_score=least)
    found = choose(mine, had=(), max_papers=50, rules=RULES)
    plain = []
    for one in candidates(drawn):
        by, own, why = opinions.plain(one.paper.id)
        worth = lifted(merit(one, followed, weights=WEIGHTS, own=own), by)
        kept = one.paper.id not in opinions.out and is_new(one, window=YESTERDAY, rules=RULES)
        if kept and worth >= max(RULES.min_score, least or 0.0):
            value = lifted(score(one, followed, weights=WEIGHTS, own=own), by)
            plain.append((order(one, value), one.paper.id, value, why))
    assert [
        (item.paper_id, item.score, tuple(one for one in item.reasons if one.kind in PERSONAL))
        for item in found
    ] == [(paper_id, value, why) for _, paper_id, value, why in sorted(plain)]


def test_what_only_likeness_makes_good_enough_comes_last_and_once() -> None:
    lists = Shortlists(
        [candidate(number, popularity=popular) for number, popular in enumerate((0.2, 0.9, 0.3))],
        rules=RULES,
        weights=WEIGHTS,
    )
    example = Example("A", (), {0: 0.5}, others=0.5)
    judgement = Judgement(liked=[(example, "more")])
    usual = lists.best(frozenset())
    mine = lists.for_one(usual, frozenset(), judgement, window=YESTERDAY)
    assert [offer.card.paper_id for offer in mine] == [1, 0, 2]


@given(OPINIONS, NUMBERS)
def test_what_changes_nothing_gains_nothing(opinions: Opinions, paper_id: int) -> None:
    judgement = opinions.judgement
    assert judgement.lift(paper_id) == opinions.plain(paper_id)
    assert judgement.changes(paper_id) or judgement.lift(paper_id) == Lift()
    if paper_id not in judgement.apart | judgement.out:
        assert judgement.gain(paper_id) <= judgement.most


def test_only_the_nearest_are_looked_at_one_by_one() -> None:
    words = [*FOLDING.split(), *GAMES.split(), "robots"]
    like = [paper(n, " ".join(words[: 2 + n % 7]), keywords=(f"a{n}",)) for n in range(90)]
    example = Shelf([*like, *SHELF[1:]]).example(paper(99, " ".join(words)), same=())
    rest = example.alike.keys() - example.nearest
    assert len(example.nearest) == NEAREST < len(example.alike)
    assert example.others == max(example.alike[one] for one in rest)
    assert min(example.alike[one] for one in example.nearest) >= example.others


def candidates(drawn: list[tuple[float, float, float, dict[str, float]]]) -> list[Any]:
    return [
        candidate(number, age=age, popularity=popular, freshness=fresh, matches=matched(**matches))
        for number, (age, popular, fresh, matches) in enumerate(drawn)
    ]


def shortlists(drawn: list[tuple[float, float, float, dict[str, float]]]) -> Shortlists:
    return Shortlists(candidates(drawn), rules=RULES, weights=WEIGHTS)
