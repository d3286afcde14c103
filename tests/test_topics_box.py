"""Whatever is typed into the search box is read as something, and never an error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.topics.box import MAX_LENGTH, MAX_TERMS, Said, read
from digest.topics.language import parse
from digest.topics.normal import Leaf, leaves, normal
from digest.topics.query import Text

PLAIN, CUT = (Said.PLAIN,), (Said.CUT,)
LETTERS = [f"w{chr(97 + number // 26)}{chr(97 + number % 26)}" for number in range(100)]

READ = {
    "a word": ("agents", "agents", ()),
    "a filter": ('title:agents  -"large model"', 'title:agents -"large model"', ()),
    "nothing": ("", "", ()),
    "blanks": (" \n\t ", "", ()),
    "no words": ("?! ...", "", PLAIN),
    "an open quote": ('graph "neural net', "graph neural net", PLAIN),
    "an open parenthesis": ("graph (neural", "graph neural", PLAIN),
    "an unknown field": ("titel:graph", "titel graph", PLAIN),
    "a small operator": ("vision and language", 'vision "and" language', PLAIN),
    "operators alone": ("AND OR NOT", '"AND" "OR" "NOT"', PLAIN),
    "only what is left out": ("-graph", "graph", PLAIN),
    "a question": ("what is attention?", "what is attention?", ()),
    "plurals, once": ("(Graphs graph Graph", "Graphs", PLAIN),
    "an address": ("https://arxiv.org/abs/1706.03762", "https arxiv org abs 1706 03762", PLAIN),
    "SQL": ("'; DROP TABLE paper; --", "DROP TABLE paper", PLAIN),
    "FTS5": ('NEAR("one two", 10) ^x {title}: y*', "NEAR one two 10 x title y", PLAIN),
    "tsquery": ("a <-> b & !c | d:*A", "a b c d", PLAIN),
    "like": ("%_% 100%", "100", PLAIN),
    "a NUL": ("gra\0ph", "gra ph", ()),
    "a lone surrogate": ("graph \ud800", "graph", ()),
    "a star in front": ("*graph", "graph", PLAIN),
    "Chinese": ("(语言", "语 言", PLAIN),
    "languages": ("(C++ C# .NET", "C++ C# .NET", PLAIN),
    "too long": (" ".join(LETTERS[:99]), " ".join(LETTERS[:MAX_TERMS]), (*PLAIN, *CUT)),
    "a long filter": (f"graph {'x' * 280} {'y' * 20}", f"graph {'x' * 280}", CUT),
    "one endless word": ("x" * 10_000, "x" * 300, CUT),
    "too many words": (" ".join(LETTERS[:31]), " ".join(LETTERS[:30]), (*PLAIN, *CUT)),
    "as many as may be": (" ".join(LETTERS[:30]), " ".join(LETTERS[:30]), ()),
    "a fraction": ("(½ GPT-4o", "1 2 GPT 4o", PLAIN),
    "a stem that has another": ("(buses bus", "buses bus", PLAIN),
    "a phrase of too many": (f'"{" ".join(LETTERS[:31])}"', " ".join(LETTERS[:30]), (*PLAIN, *CUT)),
    "quotes": ('"' * 10_000, "", (*PLAIN, *CUT)),
    "parentheses": ("(" * 10_000 + "graph", "", (*PLAIN, *CUT)),
    "blanks without end": (" " * 100_000 + "graph", "", CUT),
}  # fmt: skip


@pytest.mark.parametrize(("text", "canonical", "said"), READ.values(), ids=READ.keys())
def test_the_box(text: str, canonical: str, said: tuple[Said, ...]) -> None:
    found = read(text)
    assert (found.canonical, found.said) == (canonical, said)
    assert not found.problem or Said.PLAIN in said


def test_the_reason_is_told() -> None:
    assert "never closed" in read("(graph").problem
    assert read("graph").problem == ""


@given(st.text(max_size=400) | st.text(st.sampled_from('ab ()"*:-ORNTD\0语'), max_size=400))
def test_any_text_is_read(text: str) -> None:
    found = read(text)
    assert len(found.text) <= MAX_LENGTH
    found.text.encode()
    if found.query is not None:
        again = parse(found.canonical)
        assert again == found.query
        every = list(leaves(normal(found.query)))
        assert list(map(_terms, leaves(normal(again)))) == list(map(_terms, every))
        assert sum(len(leaf.terms) if isinstance(leaf, Text) else 1 for leaf in every) <= MAX_TERMS
        # What was read is read the same way again.
        assert read(found.canonical).query == found.query or len(found.canonical) > MAX_LENGTH


def _terms(leaf: Leaf) -> tuple[str, ...]:
    return leaf.terms if isinstance(leaf, Text) else ()
