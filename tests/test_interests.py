"""What readers type becomes a key, or a sentence that says why not."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from digest.interests import (
    LONGEST,
    SEARCH_LENGTH,
    SEARCH_TERMS,
    Refusal,
    name_key,
    read,
    read_search,
)
from digest.models import Interest, InterestKind
from digest.topics.language import parse
from digest.topics.normal import leaves, normal
from digest.topics.query import Name, Text

AUTHOR, LAB, SEED = InterestKind.AUTHOR, InterestKind.LAB, InterestKind.SEED
WORD, TOPIC = InterestKind.MUTED_WORD, InterestKind.MUTED_TOPIC


@pytest.mark.parametrize(
    ("kind", "typed", "key"),
    [
        pytest.param(AUTHOR, "  Ada   Lovelace ", "ada lovelace", id="an author"),
        pytest.param(AUTHOR, "Kurt GÖDEL", "kurt godel", id="accents and case do not count"),
        pytest.param(AUTHOR, "A. Lovelace", "a lovelace", id="an initial is another name"),
        pytest.param(AUTHOR, "Jones", "jones", id="a name has no plural"),
        pytest.param(LAB, "Fudan University", "fudan university", id="a lab"),
        pytest.param(SEED, "2605.00001v3", "arxiv 2605.00001", id="an arXiv id"),
        pytest.param(SEED, "arXiv:2605.00001", "arxiv 2605.00001", id="as arXiv writes it"),
        pytest.param(
            SEED, "https://arxiv.org/pdf/2605.00001v2", "arxiv 2605.00001", id="its PDF's address"
        ),
        pytest.param(
            SEED, "https://huggingface.co/papers/2605.00001", "arxiv 2605.00001", id="Hugging Face"
        ),
        pytest.param(SEED, "math.GT/0309136", "arxiv math/0309136", id="an old arXiv id"),
        pytest.param(SEED, "https://doi.org/10.1000/X.1", "doi 10.1000/x.1", id="a DOI's address"),
        pytest.param(WORD, "robots", "robots", id="a word"),
        pytest.param(WORD, "humanoid robots", '"humanoid robots"', id="words side by side"),
        pytest.param(WORD, '"humanoid robots"', '"humanoid robots"', id="in quotes"),
        pytest.param(WORD, "robot*", "robot*", id="with what follows"),
        pytest.param(WORD, "title:survey", "title:survey", id="in the title"),
        pytest.param(WORD, "cat:cs.RO", '"cat:cs.RO"', id="what is no subject is text"),
        pytest.param(WORD, "AND", '"AND"', id="an operator is a word"),
        pytest.param(TOPIC, "robots", "robots", id="a topic"),
    ],
)
def test_what_is_kept(kind: InterestKind, typed: str, key: str) -> None:
    found = read(kind, typed)
    assert isinstance(found, Interest)
    assert (found.kind, found.key) == (kind, key)
    if kind is not SEED:
        assert found.value == " ".join(typed.split())


@pytest.mark.parametrize(
    ("kind", "typed", "sentence"),
    [
        pytest.param(AUTHOR, " \n", "There is nothing here yet.", id="nothing"),
        pytest.param(
            AUTHOR,
            "x" * (LONGEST + 1),
            "This has 101 characters; the limit is 100.",
            id="too much",
        ),
        pytest.param(
            AUTHOR, "Ada\x00", "This contains characters that are not text.", id="no text"
        ),
        pytest.param(AUTHOR, "...", "There is no name in this.", id="no name"),
        pytest.param(
            SEED,
            "https://example.org/2605.00001",
            "This does not name a paper: give its arXiv id, its DOI or its address.",
            id="somebody's page",
        ),
        pytest.param(
            WORD,
            "?!",
            "A muted word is one word, or several side by side.",
            id="no word",
        ),
    ],
)
def test_what_is_refused(kind: InterestKind, typed: str, sentence: str) -> None:
    found = read(kind, typed)
    assert isinstance(found, Refusal)
    assert str(found) == sentence


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        pytest.param("agents  AND   tools", "agents tools", id="canonical"),
        pytest.param("  agents tools", "agents tools", id="the same"),
        pytest.param("Agents TOOLS", "agents tools", id="capitals"),
        pytest.param('agents -"NOT"', 'agents -"not"', id="capitals of operators"),
        pytest.param("author:Lovelace OR cat:cs.AI", "author:lovelace OR cat:cs.ai", id="fields"),
        pytest.param("agents OR", "Nothing follows this OR (at character 8).", id="no filter"),
        pytest.param("", "The filter is empty (at character 1).", id="nothing"),
        pytest.param(
            "a " * 31, f"This has 31 terms; the limit is {SEARCH_TERMS}.", id="many terms"
        ),
        pytest.param(
            f'"{"a " * 31}"',
            f"This has 31 terms; the limit is {SEARCH_TERMS}.",
            id="a phrase of many terms",
        ),
        pytest.param(
            "a" * 301,
            f"This has 301 characters; the limit is {SEARCH_LENGTH}.",
            id="many characters",
        ),
    ],
)
def test_searches(typed: str, found: str) -> None:
    assert str(read_search(typed)) == found


@given(st.sampled_from(InterestKind), st.text(max_size=150))
def test_any_text_is_kept_or_refused(kind: InterestKind, text: str) -> None:
    found = read(kind, text)
    if isinstance(found, Refusal):
        assert str(found)
        return
    assert found.key
    if kind is WORD:
        parse(found.key)
    again = read(kind, found.value)
    assert isinstance(again, Interest)
    assert again.key == found.key or kind is SEED


def _leaves(written: str) -> list[object]:
    """What a filter asks for, whatever its capitals."""
    return [
        (leaf.field, leaf.terms)
        if isinstance(leaf, Text)
        else (leaf.field, leaf.folded)
        if isinstance(leaf, Name)
        else leaf
        for leaf in leaves(normal(parse(written)))
    ]


@given(st.text(max_size=300) | st.text('aBß ŉİ"-:OR()*.+#cat', max_size=40))
@example('Title:MODELS OR cat:CS.AI -("Or" C++ .NET)')
def test_any_search_is_canonical_or_refused(text: str) -> None:
    found = read_search(text)
    if isinstance(found, str):
        assert read_search(found) == found or len(found) > SEARCH_LENGTH
        assert _leaves(found) == _leaves(text)
        assert read_search(text.replace(" ", "  ")) == found or len(text) > 150
    else:
        assert str(found)


@given(st.text(max_size=40))
def test_a_names_key_is_its_own_key(name: str) -> None:
    assert name_key(name_key(name)) == name_key(name)
