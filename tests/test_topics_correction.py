"""Words that were meant, and how many edits lie between two words."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.topics.correction import as_names, corrected, distance, in_short, meant
from digest.topics.language import parse

DISTANCES = {
    "equal": ("model", "model", 0),
    "changed": ("model", "modal", 1),
    "added": ("model", "models", 1),
    "left out": ("model", "mdel", 1),
    "exchanged": ("model", "mdoel", 1),
    "exchanged at the end": ("model", "modle", 1),
    "no letter twice": ("ca", "abc", 3),
    "two": ("transformer", "trnsfromer", 2),
    "three": ("kitten", "sitting", 3),
    "nothing alike": ("abc", "xyz", 3),
    "empty": ("", "ab", 2),
}


@pytest.mark.parametrize(("one", "other", "edits"), DISTANCES.values(), ids=DISTANCES.keys())
def test_distance(one: str, other: str, edits: int) -> None:
    for most in range(4):
        assert distance(one, other, most=most) == min(edits, most + 1)
        assert distance(other, one, most=most) == min(edits, most + 1)


WORDS = st.text("abc", max_size=6)


@given(WORDS, WORDS)
def test_distance_is_the_plain_one(one: str, other: str) -> None:
    assert distance(one, other, most=9) == _plain(one, other)
    assert distance(one, other, most=2) == min(3, _plain(one, other))


def _plain(one: str, other: str) -> int:
    """By the definition."""
    if not one or not other:
        return len(one) + len(other)
    costs = [
        _plain(one[:-1], other) + 1,
        _plain(one, other[:-1]) + 1,
        _plain(one[:-1], other[:-1]) + (one[-1] != other[-1]),
    ]
    if one[-2:] == other[-2:][::-1] and len(one) > 1 and len(other) > 1:
        costs.append(_plain(one[:-2], other[:-2]) + 1)
    return min(costs)


MEANT = {
    "near": ("agnet", 0, {"agent": 9}, "agent"),
    "the more frequent": ("modle", 0, {"mode": 5, "model": 500}, "model"),
    "the nearer": ("graphe", 0, {"graph": 50, "grapple": 90}, "graph"),
    "frequent enough": ("langugae", 0, {"langugage": 3, "language": 900}, "language"),
    "frequent, and farther": ("lagnuge", 0, {"lagnuage": 3, "language": 900}, "language"),
    "near before frequent": ("quesrt", 0, {"quest": 9, "query": 600}, "quest"),
    "the first of equals": ("abcdx", 0, {"abcdz": 5, "abcdy": 5}, "abcdy"),
    "short: one edit": ("modxx", 0, {"model": 900}, None),
    "too short": ("llm", 0, {"llms": 900}, None),
    "a number": ("2o19", 0, {"2019": 900}, None),
    "rare itself": ("modle", 0, {"model": 2}, None),
    "known": ("modes", 3, {"model": 900}, None),
    "hardly known": ("modle", 1, {"model": 900}, "model"),
    "hardly known, two edits": ("modlle", 1, {"model": 9000}, None),
    "hardly known, the other not much more": ("modle", 1, {"model": 20}, None),
    "the word itself": ("model", 2, {"model": 2, "modal": 900}, "modal"),
}  # fmt: skip


@pytest.mark.parametrize(("word", "papers", "known", "found"), MEANT.values(), ids=MEANT.keys())
def test_what_was_meant(
    word: str, papers: int, known: Mapping[str, int], found: str | None
) -> None:
    assert meant(word, papers, known.items()) == found


CORRECTED = {
    "a word": ("modles x", {("", "modle"): "model"}, "models x"),
    "no such plural": ("modles", {("", "modle"): "analysis"}, "analysis"),
    "in a phrase": ('"a modle of"', {("", "modle"): "model"}, '"a model of"'),
    "in its field alone": ("title:modle modle", {("title", "modle"): "model"}, "title:model modle"),
    "hyphens stay": ("multi-agnet", {("", "agnet"): "agent"}, "multi-agent"),
    "not what is left out": ("modle -modle", {("", "modle"): "model"}, "model -modle"),
    "a name has no plural": ("author:jnoes", {("author", "jnoes"): "jone"}, "author:jone"),
    "an operator": ("annd", {("", "annd"): "and"}, '"and"'),
    "in alternatives": ("(a OR modle) cat:cs", {("", "modle"): "model"}, "(a OR model) cat:cs"),
}


@pytest.mark.parametrize(("query", "better", "found"), CORRECTED.values(), ids=CORRECTED.keys())
def test_corrected(query: str, better: Mapping[tuple[str, str], str], found: str) -> None:
    assert str(corrected(parse(query), better)) == found
    parse(found)


NAMES = {
    "a name": ("Ada Lovelace", ['author:"Ada Lovelace"', "author:Ada author:Lovelace"]),
    "one word": ("Lovelace", ["author:Lovelace"]),
    "in quotes": ('"Ada Lovelace"', ['author:"Ada Lovelace"', "author:Ada author:Lovelace"]),
    "with a hyphen": ("Li-Wei", ['author:"Li Wei"', "author:Li author:Wei"]),
    "an operator": ('Ada "AND"', ['author:"Ada AND"', 'author:Ada author:"AND"']),
    "papers by": (
        "papers by Bo Li",
        ['author:"Bo Li"', "author:Bo author:Li", 'author:"papers by Bo Li"',
         "author:papers author:by author:Bo author:Li"],
    ),
    "by nobody": ("by", ["author:by"]),
    "too long": ("a b c d e f", []),
    "a filter": ("Ada -Lovelace", []),
    "an alternative": ("Ada OR Bo", []),
    "a field": ("title:Ada Bo", []),
    "a beginning": ("Ada Love*", []),
}  # fmt: skip


@pytest.mark.parametrize(("query", "names"), NAMES.values(), ids=NAMES.keys())
def test_words_as_names(query: str, names: list[str]) -> None:
    assert list(map(str, as_names(parse(query)))) == names


SHORT = {
    "a question": ("what is RLHF?", "RLHF?"),
    "papers about": ("recent papers about GPT-4o agents", "GPT-4o agents"),
    "small words alone": ('"to" be', None),
    "no small word": ("large models", None),
    "a phrase of small words": ('"how to" plan', "plan"),
    "a filter": ("what is -RLHF", None),
}


@pytest.mark.parametrize(("query", "short"), SHORT.values(), ids=SHORT.keys())
def test_words_without_the_small_ones(query: str, short: str | None) -> None:
    found = in_short(parse(query))
    assert (str(found) if found else None) == short
