"""Matching papers with filters: against cases, and against a brute-force reading of the logic."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.errors import TopicSyntaxError
from digest.models import Mark, Paper
from digest.topics.language import parse
from digest.topics.match import index, match

PAPER = Paper(
    id=1,
    title="GPT-4 Agents: Planning with Large Language Models",
    url="https://example.org/1",
    abstract="We study multi-agent systems. Erdős numbers help; language of models matters.",
    summary="A study of agents that plan.",
    authors=("Ada Lovelace", "Yann LeCun", "Ronald Williams"),
    organisation="Example Research Lab",
    keywords=("reinforcement learning", "tool use"),
    categories=("cs.AI", "cs.LG", "math.CO"),
    sources=("arxiv", "feed:lab"),
    links={"code": "https://example.org/code"},
    signals={"upvotes": 10, "stars": 0},
)
DOCUMENT = index(PAPER)

MATCHES = {
    "word": ("agents", True),
    "singular": ("agent", True),
    "case and accent": ("ERDOS", True),
    "not there": ("diffusion", False),
    "version": ("gpt4", True),
    "other version": ("gpt-3", False),
    "all": ("agents erdos", True),
    "not all": ("agents diffusion", False),
    "or": ("diffusion OR agents", True),
    "not": ("agents -diffusion", True),
    "not though": ("agents -erdos", False),
    "phrase": ('"large language model"', True),
    "phrase out of order": ('"language large"', False),
    "phrase with a gap": ('"language models matters"', False),
    "phrase across fields": ('"models we"', False),
    "hyphen is adjacency": ('"multi agent"', True),
    "hyphenated": ("large-language", True),
    "prefix": ("plan*", True),
    "prefix of nothing": ("planet*", False),
    "prefix in a phrase": ("multi-ag*", True),
    "title": ("title:planning", True),
    "not in the title": ("title:erdos", False),
    "abstract": ("abstract:erdos", True),
    "keyword": ("learning", True),
    "keyword field": ('keyword:"reinforcement learning"', True),
    "phrase across keywords": ('keyword:"learning tool"', False),
    "author": ("author:lecun", True),
    "author's full name": ('author:"yann lecun"', True),
    "phrase across authors": ('author:"lovelace yann"', False),
    "author's name is no plural": ("author:william", False),
    "an author is no subject": ("lecun", False),
    "organisation": ("org:research", True),
    "organisation is no subject": ("research", False),
    "category": ("cat:cs.LG", True),
    "category in small": ("cat:cs.lg", True),
    "archive": ("cat:cs", True),
    "archive with a star": ("cat:cs.*", True),
    "part of an archive": ("cat:c", False),
    "part of an archive, star": ("cat:c*", True),
    "other category": ("cat:stat.ML", False),
    "source": ("source:arxiv", True),
    "any feed": ("source:feed", True),
    "one feed": ("source:feed:lab", True),
    "other source": ("source:huggingface", False),
    "at least": ("upvotes:>=10", True),
    "more": ("upvotes:>10", False),
    "exactly": ("upvotes:10", True),
    "less": ("upvotes:<11", True),
    "at most": ("upvotes:<=9", False),
    "none yet": ("stars:0", True),
    "no such number": ("comments:<5", False),
    "not such a number": ("agents -comments:>=5", True),
    "code": ("code:yes", True),
    "no code": ("code:no", False),
    "nested": ("(diffusion OR (planning -title:robot*)) cat:cs", True),
}


@pytest.mark.parametrize(("query", "expected"), MATCHES.values(), ids=MATCHES.keys())
def test_match(query: str, expected: bool) -> None:
    assert (match(parse(query), DOCUMENT) is not None) is expected


def _marked(query: str, paper: Paper = PAPER) -> list[tuple[str, str]]:
    found = match(parse(query), index(paper))
    assert found is not None
    return [(mark.field, getattr(paper, mark.field)[mark.start : mark.end]) for mark in found.marks]


MARKS = {
    "word": ("agents", [("title", "Agents"), ("abstract", "agent"), ("summary", "agents")]),
    "phrase is one run": ('"large language models"', [("title", "Large Language Models")]),
    "version is one run": ("gpt4", [("title", "GPT-4")]),
    "field": ("title:planning", [("title", "Planning")]),
    "prefix": ("plan*", [("title", "Planning"), ("summary", "plan")]),
    "negated": ("gpt4 -diffusion", [("title", "GPT-4")]),
    "failed alternative": ("(erdos -agents) OR gpt4", [("title", "GPT-4")]),
    "negated twice": ("gpt4 --erdos", [("title", "GPT-4"), ("abstract", "Erdős")]),
    "overlapping": (
        '"large language" "language models"',
        [("title", "Large Language Models")],
    ),
    "inside": ('language "large language"',
               [("title", "Large Language"), ("abstract", "language")]),
    "side by side": ("large language", [("title", "Large"), ("title", "Language"),
                                        ("abstract", "language")]),
    "keyword": ("reinforcement", []),
    "no words": ("cat:cs", []),
}  # fmt: skip


@pytest.mark.parametrize(("query", "expected"), MARKS.values(), ids=MARKS.keys())
def test_marks_are_what_matched(query: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(_marked(query)) == sorted(expected)


def test_marks_are_in_order() -> None:
    found = match(parse("agents"), DOCUMENT)
    assert found is not None
    assert found.marks == (
        Mark(field="title", start=6, end=12),
        Mark(field="abstract", start=15, end=20),
        Mark(field="summary", start=11, end=17),
    )


STRENGTHS = {
    "title": ("planning", 1.0),
    "keyword": ("reinforcement", 1.0),
    "author": ("author:lecun", 1.0),
    "abstract": ("erdos", 0.7),
    "organisation": ("org:example", 0.7),
    "no words": ("cat:cs upvotes:>=1", 0.5),
    "one of two": ("erdos planning", 1.0),
    "title only negated": ("erdos -title:diffusion", 0.7),
}


@pytest.mark.parametrize(("query", "expected"), STRENGTHS.values(), ids=STRENGTHS.keys())
def test_strength(query: str, expected: float) -> None:
    found = match(parse(query), DOCUMENT)
    assert found is not None
    assert found.strength == expected


# ------------------------------------------------------------------ logic against brute force

Reading = tuple[str, Callable[[frozenset[str]], bool]]
LETTERS = ("ant", "bee", "cat", "dog")


def _word(name: str) -> Reading:
    return name, lambda present: name in present


def _both(one: Reading, other: Reading) -> Reading:
    return f"({one[0]}) AND ({other[0]})", lambda present: one[1](present) and other[1](present)


def _either(one: Reading, other: Reading) -> Reading:
    return f"({one[0]}) OR ({other[0]})", lambda present: one[1](present) or other[1](present)


def _not(one: Reading) -> Reading:
    return f"NOT ({one[0]})", lambda present: not one[1](present)


READINGS: st.SearchStrategy[Reading] = st.recursive(
    st.sampled_from(LETTERS).map(_word),
    lambda inner: st.one_of(
        st.builds(_both, inner, inner), st.builds(_either, inner, inner), st.builds(_not, inner)
    ),
    max_leaves=10,
)


@given(READINGS)
def test_logic_is_that_of_every_possible_paper(reading: Reading) -> None:
    text, holds = reading
    try:
        query = parse(text)
    except TopicSyntaxError as refused:
        if "leave out" in refused.message:
            return
        raise
    assert not holds(frozenset())  # what is accepted asks for something
    for number in range(2 ** len(LETTERS)):
        present = frozenset(name for place, name in enumerate(LETTERS) if number >> place & 1)
        paper = Paper(id=1, title=" ".join(sorted(present)), url="https://example.org/1")
        found = match(query, index(paper))
        assert (found is not None) is holds(present)
        if found:
            assert {paper.title[mark.start : mark.end] for mark in found.marks} <= present


@given(st.lists(st.sampled_from(["ant", "bees", "Cat-dog"]), max_size=8), st.integers(1, 3))
def test_phrases_are_runs_of_words(title: list[str], length: int) -> None:
    paper = Paper(id=1, title=" ".join(title), url="https://example.org/1")
    plain = paper.title.lower().replace("-", " ").replace("bees", "bee").split()
    for start in range(max(0, len(plain) - length + 1)):
        phrase = plain[start : start + length]
        found = match(parse(f'"{" ".join(phrase)}"'), index(paper))
        assert found is not None
        runs = sum(plain[at : at + length] == phrase for at in range(len(plain)))
        assert 1 <= len(found.marks) <= runs


def test_a_day_of_papers_is_matched_quickly() -> None:
    abstract = "We propose a new multi-agent framework for planning with language models. " * 18
    papers = [
        Paper(
            id=number,
            title=f"Paper {number} on agents",
            url="https://example.org",
            abstract=abstract,
        )
        for number in range(500)
    ]
    queries = [
        parse(f'(agent* OR "language model {number}" OR diffusion) planning -robot cat:cs OR '
              f'title:"paper {number}" upvotes:>=3')
        for number in range(50)
    ]  # fmt: skip
    documents = [index(paper) for paper in papers]
    started = time.process_time()
    for query in queries:
        for document in documents:
            match(query, document)
    assert time.process_time() - started < 5
