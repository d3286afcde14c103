"""What is written in an index, and filters in normal form."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from digest.errors import TopicSyntaxError
from digest.models import Paper
from digest.topics.language import parse
from digest.topics.match import index, match
from digest.topics.normal import asked, in_title, leaves, loosened, normal
from digest.topics.query import And, Not, Or, Query, Text
from digest.topics.spelling import FIELDS, LONGEST, SIGNS, spell, spell_name, terms
from digest.topics.words import words
from tests.test_topics_language import QUERIES

PAPER = Paper(
    id=1,
    title="C++ agents, 语言",
    url="",
    abstract="Erdős' graphs",
    summary="",
    keywords=("graph theory", "agent"),
    authors=("Ada Agents",),
    organisation="Lab",
    categories=("cs.LG", "a'b"),
    sources=("feed:lab",),
)


def test_a_paper_is_written() -> None:
    lines = dict(zip(FIELDS, spell(index(PAPER)).split("\n"), strict=True))
    assert lines == {
        "title": "c++ agent 语 言",
        "abstract": "erdo graph",
        "summary": "",
        "keyword": "graph theory | agent",
        "org": "lab",
        "author": "ada agents",
        "names": "cat=cs cat=cs_2e_lg cat=a_27_b source=feed source=feed_3a_lab",
    }
    expected = {"c++", "agent", "语", "言", "erdo", "graph", "theory", "n/ada", "n/agents"}
    assert terms(spell(index(PAPER))) == expected
    assert terms(spell(index(Paper(id=1, title="", url="")))) == set()


@given(st.text())
def test_a_term_is_one_word_of_any_tokenizer(text: str) -> None:
    for word in words(text):
        assert word.term
        ascii_part = "".join(char for char in word.term if char.isascii())
        assert re.fullmatch(rf"[a-z0-9{re.escape(SIGNS)}]*", ascii_part)
        assert not set(ascii_part) & set("_=|~/")
        word.term.encode()


NAMES = st.text(max_size=8).map(str.casefold) | st.text("a.:_2e'", max_size=8)


@given(NAMES, NAMES)
def test_names_begin_with_one_another_as_written(one: str, other: str) -> None:
    first, second = spell_name("cat", one), spell_name("cat", other)
    assert first.isascii()
    assert not re.search(r"[\s\"'\\]", first)
    if max(len(first), len(second)) < LONGEST:
        assert (first == second) == (one == other)
        assert second.startswith(first) == other.startswith(one)


SHELF = [
    PAPER,
    replace(PAPER, title="Other", categories=("math.AG",), signals={"upvotes": 50}),
    Paper(id=3, title="agents 01 ab", url="", abstract="ab ß AB", links={"code": "x"}),
    Paper(id=4, title="", url="", signals={"upvotes": 3}),
]


@given(QUERIES)
def test_normal_form_means_the_same(query: str) -> None:
    try:
        tree = parse(query)
    except TopicSyntaxError:
        assume(False)
    found = normal(tree)
    loose = loosened(found, lambda leaf: isinstance(leaf, Text) and len(leaf.terms) > 1)
    assert _is_normal(found)
    for paper in SHELF:
        document = index(paper)
        assert bool(match(found, document)) == bool(match(tree, document))
        if match(tree, document) and loose is not None:
            assert match(loose, document)
    everything = len(list(leaves(found)))
    assert everything == sum(len(list(leaves(found, negated=one))) for one in (True, False))


def _is_normal(query: Query) -> bool:
    match query:
        case And() | Or():
            return all(_is_normal(part) and type(part) is not type(query) for part in query.parts)
        case Not():
            return not isinstance(query.part, And | Or | Not)
        case _:
            return True


ASKED = {
    "words": ("a -b cat:cs (c OR upvotes:>5)", "a c", "title:a title:c"),
    "fields stay": ('abstract:a OR "b c"', 'abstract:a OR "b c"', 'abstract:a OR title:"b c"'),
    "nothing": ("cat:cs OR code:yes", None, None),
    "twice not": ("-(-a b)", "a", "title:a"),
}


@pytest.mark.parametrize(("query", "words_", "titled"), ASKED.values(), ids=ASKED.keys())
def test_what_is_asked_for(query: str, words_: str | None, titled: str | None) -> None:
    found = asked(normal(parse(query) if query[0] != "-" else Not(part=_inner(query))))
    assert (found and str(found)) == words_
    assert (found and str(in_title(found))) == titled


def _inner(query: str) -> Query:
    return And(parts=(Not(part=parse("a")), parse("b")))
