"""Taste: what a reader said of papers, and which candidates it lifts, lowers or keeps away.

    lift = 0.5, if an author or a lab is followed
         + 0.4 * the likeness to the nearest seed paper or paper that they want more like
         - 0.4 * the likeness to the nearest paper that they want less like

    score, merit = what they are without, plus the lift, within 0..1

likeness (0..1) is four times the cosine of the two papers' TF-IDF vectors, at most 1; a cosine
below 0.1 is none. A vector has the 100 heaviest of the words (as topics know them) in title,
abstract and keywords:

    weight = (1 + ln(times in the paper)) * ln((1 + candidates) / max(1, candidates with the word))

Of the papers of one recorded week a hundredth has a cosine of 0.1 with a given one, and the nearest
has 0.13 on average, at most 0.24: two abstracts share few words even when they are of one subject.

Personal searches are topics that one person follows: the strength of their match is in the topic's
part of the score. Kept away are papers that hold a muted word or match a muted topic, those they
want less like, and such as are nearly the same (a cosine of 0.9).

It is a plain rule, to be replaced by what learns; it knows a reader only by what they said.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

from digest.interests import name_key
from digest.models import InterestKind, Interests, Paper, Reason
from digest.topics.match import Document, index, strength
from digest.topics.query import And, Not, Or, Query, Text
from digest.topics.words import Word

FOLLOWED = 0.5
LIKENESS = 0.4
ALIKE, SAME_SUBJECT = 0.1, 0.25  # cosines: of a likeness that counts, and of all that there is
TWIN = 0.9  # the same paper, in other words
TERMS = 100
NEAREST = 10  # of those like an example, looked at one by one; the others gain less
MOST = 100  # opinions of a kind that count: the newest
_SUBJECT = ("title", "abstract", "keyword")
# The reasons that are one person's: cards say them in a place of its own, for all share the rest.
PERSONAL = frozenset({"author", "lab", "seed", "like", "search"})


class Lift(NamedTuple):
    """What one candidate gains for one person, and why."""

    by: float = 0.0
    strengths: tuple[float, ...] = ()  # of the personal searches that match
    reasons: tuple[Reason, ...] = ()


NO_LIFT = Lift()


class Example(NamedTuple):
    """A paper that somebody named, beside the candidates: itself, and those like it."""

    title: str
    same: Collection[int]
    alike: Mapping[int, float]  # how like it, 0..1; without those that are not
    twins: Collection[int] = ()  # nearly the same, and itself
    nearest: Collection[int] = ()  # some of those alike
    others: float = 1.0  # how like it any but these is at most


NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Judgement:
    """What one person's interests do to the candidates, to be asked for one paper after another.

    A reader sees a dozen papers, and likeness alone may change hundreds.
    """

    def __init__(
        self,
        *,
        followed: Mapping[int, Sequence[Reason]] = NOTHING,
        liked: Sequence[tuple[Example, str]] = (),
        disliked: Sequence[Example] = (),
        searched: Mapping[str, Mapping[int, float]] = NOTHING,
        out: Set[int] = frozenset(),
    ) -> None:
        """`followed` has the reasons, `searched` how strongly papers match each search.

        Of the liked examples that are as near the first is the one that is named.
        """
        self._followed, self._liked, self._disliked = followed, liked, disliked
        self._likes = [example.alike for example, _ in liked]
        self._dislikes = [example.alike for example in disliked]
        self._searched, self.out = searched, out
        self.searches = bool(searched)  # who follows any follows something

    @cached_property
    def apart(self) -> Set[int]:
        """The papers that may gain more than `most`: to be looked at one by one."""
        near = (example.nearest for example, _ in self._liked)
        return set[int]().union(self._followed, self.strengths, *near) - self.out

    @cached_property
    def most(self) -> float:
        """What any paper but those gains at most."""
        return LIKENESS * max([example.others for example, _ in self._liked], default=0.0)

    @property
    def alike(self) -> set[int]:
        """The papers that gain by likeness."""
        return set[int]().union(*self._likes) - self.out

    @cached_property
    def strengths(self) -> Mapping[int, tuple[float, ...]]:
        """How strongly papers match their searches, each that it matches."""
        found: dict[int, tuple[float, ...]] = {}
        for matching in self._searched.values():
            for paper_id, how in matching.items():
                found[paper_id] = (*found.get(paper_id, ()), how)
        return found

    def changes(self, paper_id: int) -> bool:
        """Whether it is another paper to them than to all, if only for its reasons."""
        alike = (*self._likes, *self._dislikes)
        return (
            paper_id in self._followed
            or paper_id in self.strengths
            or any(paper_id in papers for papers in alike)
        )

    def gain(self, paper_id: int) -> float:
        """What its score gains for them; negative where it loses."""
        liked = disliked = 0.0
        for alike in self._likes:
            if paper_id in alike and alike[paper_id] > liked:
                liked = alike[paper_id]
        for alike in self._dislikes:
            if paper_id in alike and alike[paper_id] > disliked:
                disliked = alike[paper_id]
        by = FOLLOWED if paper_id in self._followed else 0.0
        return by + LIKENESS * (liked - disliked)

    def lift(self, paper_id: int) -> Lift:
        """What it gains, and why."""
        reasons = list(self._followed.get(paper_id, ()))
        likeness = 0.0
        for example, how in self._liked:
            if example.alike.get(paper_id, 0.0) > likeness:
                likeness, nearest = example.alike[paper_id], (example, how)
        if likeness:
            example, how = nearest
            itself = paper_id in example.same
            reasons.append(Reason("seed") if itself else Reason("like", (example.title, how)))
        if searched := tuple(text for text, found in self._searched.items() if paper_id in found):
            reasons.append(Reason("search", searched))
        return Lift(self.gain(paper_id), self.strengths.get(paper_id, ()), tuple(reasons))


Vector = Mapping[str, float]  # of length 1


class Shelf:
    """The candidates, to be found by what readers may say of them; each answer is made once."""

    def __init__(self, papers: Iterable[Paper]) -> None:
        self._papers = {paper.id: paper for paper in papers}
        self._matching: dict[str, Mapping[int, float]] = {}
        self._labs: dict[str, frozenset[int]] = {}

    def forget(self) -> None:
        """Make each answer to what a reader said anew, when it is asked for again."""
        self._matching.clear()
        self._labs.clear()

    def held(self) -> int:
        """How many papers the remembered answers have in all."""
        return sum(map(len, self._matching.values())) + sum(map(len, self._labs.values()))

    def by_author(self, key: str) -> Collection[int]:
        """Those that have an author of that `name_key`: the whole name, as the source writes it."""
        return self._authors.get(key, ())

    @cached_property
    def _authors(self) -> Mapping[str, set[int]]:
        found: dict[str, set[int]] = defaultdict(set)
        for paper_id, paper in self._papers.items():
            for author in paper.authors:
                found[name_key(author)].add(paper_id)
        return found

    def by_lab(self, key: str) -> Collection[int]:
        """Those whose organisation has these words side by side."""
        if key not in self._labs:
            self._labs[key] = frozenset().union(
                *(found for name, found in self._organisations.items() if f" {key} " in name)
            )
        return self._labs[key]

    @cached_property
    def _organisations(self) -> Mapping[str, set[int]]:
        found: dict[str, set[int]] = defaultdict(set)
        for paper_id, paper in self._papers.items():
            if paper.organisation:
                found[f" {name_key(paper.organisation)} "].add(paper_id)
        return found

    def matching(self, written: str, query: Query) -> Mapping[int, float]:
        """Those that match the filter, and how strongly; `written` is its text."""
        if written not in self._matching:
            documents, places = self._documents, _possible(query, self._holding)
            self._matching[written] = {
                paper_id: found
                for paper_id in (documents if places is None else sorted(places))
                if (found := strength(query, documents[paper_id]))
            }
        return self._matching[written]

    @cached_property
    def _documents(self) -> Mapping[int, Document]:
        known = _Words()
        return {paper_id: _lean(index(paper), known) for paper_id, paper in self._papers.items()}

    @cached_property
    def _holding(self) -> Mapping[str, list[int]]:
        """In which papers each word stands, whatever the field."""
        found: dict[str, list[int]] = defaultdict(list)
        for paper_id, document in self._documents.items():
            fields = (field.places for field in document.fields.values())
            for term in set[str]().union(*fields):
                found[term].append(paper_id)
        return found

    def example(self, paper: Paper, *, same: Collection[int]) -> Example:
        """A paper, candidate or not, as an example; `same` are the candidates that it is."""
        known = self._papers.get(paper.id) == paper
        vector = self._vectors[paper.id] if known else self._vector(_terms(index(paper)))
        cosines = [0.0] * len(self._papers)
        for term, weight in vector.items():
            places, others = self._postings.get(term, ((), ()))
            for place, other in zip(places, others, strict=True):
                cosines[place] += weight * other
        alike = {
            paper_id: cosine
            for paper_id, cosine in zip(self._papers, cosines, strict=True)
            if cosine >= ALIKE
        }
        near = {paper_id: min(1.0, cosine / SAME_SUBJECT) for paper_id, cosine in alike.items()}
        twins = {paper_id for paper_id, cosine in alike.items() if cosine >= TWIN}
        near |= dict.fromkeys(same, 1.0)
        order = sorted(near, key=near.__getitem__, reverse=True)
        return Example(
            paper.title,
            same,
            near,
            twins.union(same),
            frozenset(order[:NEAREST]),
            near[order[NEAREST]] if len(order) > NEAREST else 0.0,
        )

    @cached_property
    def _postings(self) -> Mapping[str, tuple[array[int], array[float]]]:
        """For each word the places, among the papers, of those that hold it, and its weights.

        Arrays, for they are gone through from end to end for each example.
        """
        found: dict[str, tuple[array[int], array[float]]] = defaultdict(
            lambda: (array("l"), array("d"))
        )
        for place, vector in enumerate(self._vectors.values()):
            for term, weight in vector.items():
                places, weights = found[term]
                places.append(place)
                weights.append(weight)
        return found

    @cached_property
    def _vectors(self) -> Mapping[int, Vector]:
        return {
            paper_id: self._vector(_terms(document))
            for paper_id, document in self._documents.items()
        }

    @cached_property
    def _rarity(self) -> Mapping[str, float]:
        frequencies: dict[str, int] = defaultdict(int)
        for document in self._documents.values():
            for term in _terms(document):
                frequencies[term] += 1
        most = 1 + len(self._papers)
        return {term: math.log(most / many) for term, many in frequencies.items()}

    def _vector(self, terms: Mapping[str, int]) -> Vector:
        unseen = math.log(1 + len(self._papers))
        weights = {
            term: (1 + math.log(times)) * self._rarity.get(term, unseen)
            for term, times in terms.items()
        }
        heaviest = sorted(weights, key=lambda term: (-weights[term], term))[:TERMS]
        length = math.sqrt(sum(weights[term] ** 2 for term in heaviest))
        return {term: weights[term] / length for term in heaviest} if length else {}


class _Words(dict[str, Word]):
    """A word for each term, wherever it stands."""

    def __missing__(self, term: str) -> Word:
        self[term] = Word(term, 0, 0)
        return self[term]


def _lean(document: Document, known: Mapping[str, Word]) -> Document:
    """The same, but equal words are one: where in the text they stand would take 35 kB a paper."""
    fields = {
        name: replace(field, words=tuple([known[word.term] for word in field.words]))
        for name, field in document.fields.items()
    }
    return replace(document, fields=fields)


def _terms(document: Document) -> Mapping[str, int]:
    """How often each word stands in what a paper is about."""
    found: dict[str, int] = defaultdict(int)
    for name in _SUBJECT:
        for term, places in document.fields[name].places.items():
            if term:  # what stands between two keywords is none
                found[term] += len(places)
    return found


def _possible(query: Query, holding: Mapping[str, Collection[int]]) -> set[int] | None:
    """The papers that hold the words without which nothing matches; None: any paper may match."""
    match query:
        case Text():
            terms = query.terms[:-1] if query.prefix else query.terms
            return set.intersection(*(set(holding.get(t, ())) for t in terms)) if terms else None
        case And():
            known = [
                part for part in (_possible(p, holding) for p in query.parts) if part is not None
            ]
            return set.intersection(*known) if known else None
        case Or():
            found = [_possible(part, holding) for part in query.parts]
            known = [part for part in found if part is not None]
            return set().union(*known) if len(known) == len(found) else None
        case Not(part=Not(part=inner)):
            return _possible(inner, holding)
        case _:
            return None


def judge(
    interests: Interests,
    shelf: Shelf,
    *,
    examples: Mapping[str | int, Example],
    queries: Mapping[str, Query],
    topics: Mapping[str, Collection[int]],
) -> Judgement:
    """What somebody's interests do to the candidates.

    `examples` are the seed papers by their key and the others by id, `queries` the filters of
    searches and muted words by their text, `topics` which candidates match each topic, by slug.
    What is not in them has no effect: a paper that is not stored yet, a topic that was removed.
    """
    disliked = [examples[paper] for paper in interests.less[:MOST] if paper in examples]
    out = _muted(interests, shelf, queries=queries, topics=topics)
    for example in disliked:
        out.update(example.twins)
    return Judgement(
        followed=_followed(interests, shelf),
        liked=list(_liked(interests, examples)),
        disliked=disliked,
        searched={
            query: shelf.matching(query, queries[query])
            for query in interests.searches
            if query in queries
        },
        out=out,
    )


def _followed(interests: Interests, shelf: Shelf) -> Mapping[int, Sequence[Reason]]:
    """Which candidates are of somebody followed, and who that is."""
    named: dict[int, list[Reason]] = defaultdict(list)
    for kind, find in (
        (InterestKind.AUTHOR, shelf.by_author),
        (InterestKind.LAB, shelf.by_lab),
    ):
        names: dict[int, list[str]] = defaultdict(list)
        for interest in interests.kept:
            if interest.kind is kind:
                for paper_id in find(interest.key):
                    names[paper_id].append(interest.value)
        for paper_id, found in names.items():
            named[paper_id].append(Reason(str(kind), tuple(found)))
    return named


def _liked(
    interests: Interests, examples: Mapping[str | int, Example]
) -> Iterable[tuple[Example, str]]:
    """The papers that somebody wants more like, the latest first, then their seeds."""
    for paper in interests.more[:MOST]:
        if paper in examples:
            yield examples[paper], "more"
    for interest in interests.kept:
        if interest.kind is InterestKind.SEED and interest.key in examples:
            yield examples[interest.key], "seed"


def _muted(
    interests: Interests,
    shelf: Shelf,
    *,
    queries: Mapping[str, Query],
    topics: Mapping[str, Collection[int]],
) -> set[int]:
    out = set[int]()
    for interest in interests.kept:
        if interest.kind is InterestKind.MUTED_WORD and interest.key in queries:
            out.update(shelf.matching(interest.key, queries[interest.key]))
        elif interest.kind is InterestKind.MUTED_TOPIC:
            out.update(topics.get(interest.key, ()))
    return out
