"""Text that is cleaned, cut into runs, shortened and wrapped."""

from __future__ import annotations

import textwrap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from digest.models import Mark
from digest.rendering.prose import glued, one_line, plain, runs, shorten, unwrapped, web_url, wrap

MARKS = st.lists(
    st.builds(
        Mark,
        field=st.just("title"),
        start=st.integers(-5, 40),
        end=st.integers(-5, 40),
    ),
    max_size=4,
)


@given(text=st.text(max_size=30), marks=MARKS)
def test_runs_joined_are_the_cleaned_text(text: str, marks: list[Mark]) -> None:
    pieces = runs(text, marks)
    assert plain(pieces) == one_line(text)
    assert all(piece for piece, _ in pieces)


@given(text=st.text("ab ", max_size=30), marks=MARKS)
def test_exactly_the_marked_characters_are_marked(text: str, marks: list[Mark]) -> None:
    inside = {at for mark in marks for at in range(max(0, mark.start), min(len(text), mark.end))}
    expected = "".join(text[at] for at in sorted(inside))
    found = "".join(piece for piece, marked in runs(text, marks) if marked)
    assert found.replace(" ", "") == expected.replace(" ", "")


@given(text=st.text(max_size=60), limit=st.integers(2, 50))
def test_shortened_text_is_a_beginning(text: str, limit: int) -> None:
    made = shorten(text, limit)
    assert len(made) <= limit
    assert made == text or (made.endswith("…") and text.startswith(made[:-1]))


@pytest.mark.parametrize(
    ("text", "limit", "short"),
    [
        ("just fits", 9, "just fits"),
        ("cut at a word", 9, "cut…"),
        ("Lost in the Middle of the Road", 24, "Lost in the Middle…"),
        ("One Title · Another Title", 13, "One Title…"),
        ("no dash — here", 11, "no dash…"),
        ("an end and of the, for — a long title", 24, "an end…"),
        ("a sand of the Sahara, and more", 12, "a sand…"),
        ("日本語の題名はとても長い", 6, "日本語の題…"),
        ("abcde\u0301fgh", 6, "abcd…"),  # the accent is not torn off
        ("ab\U0001f468\u200d\U0001f469\u200d\U0001f467 xyz", 6, "ab…"),  # nor a family
    ],
)
def test_shorten(text: str, limit: int, short: str) -> None:
    assert shorten(text, limit) == short


@given(
    text=st.text("ab \u00a0-é", max_size=120) | st.text(st.characters(max_codepoint=0x2FF)),
    width=st.integers(2, 80),
)
def test_lines_end_where_the_standard_library_ends_them(text: str, width: int) -> None:
    clean = glued(one_line(text))
    assert wrap(clean, width) == textwrap.fill(
        clean, width, break_long_words=False, break_on_hyphens=False
    )


@given(text=st.text("ab,、。（）ー論文\u00a0", max_size=120), width=st.integers(8, 40))
def test_signs_without_blanks_are_wrapped(text: str, width: int) -> None:
    clean = text.strip("\u00a0")  # and one_line would make a blank of it, where lines may end
    lines = wrap(clean, width).split("\n")
    assert "".join(lines).replace(" ", "") == clean.replace(" ", "")
    for line in lines[1:]:
        assert not line.startswith(tuple("、。）ー\u00a0"))
    for line in lines[:-1]:
        assert not line.endswith(tuple("（\u00a0"))


@pytest.mark.parametrize(
    ("width", "lines"),
    [
        (16, "論文を三本お届け|します。新着は五|百本でした。"),
        (22, "句点は次の行に残らな|い。"),
        (6, "括弧|（かっ|こ）で"),
        (10, "Agents を |12\u00a0本"),
        (12, "见 |https://example.org/a/long/path |。"),
    ],
)
def test_where_signs_are_wrapped(width: int, lines: str) -> None:
    text = lines.replace(" |", " ").replace("|", "")
    assert wrap(text, width).split("\n") == lines.replace(" |", "|").split("|")


def test_the_end_of_a_line_is_no_blank_between_signs() -> None:
    assert unwrapped("論文\n三本 and\nmore") == "論文三本 and\nmore"


@pytest.mark.parametrize(
    ("text", "together"),
    [
        ("Eight papers, out of 587 new ones.", "Eight papers, out of 587_new_ones."),
        ("You subscribed on 3 March 2026.", "You subscribed on 3_March_2026."),
        ("Watermarks in Large Language Models", "Watermarks in Large Language_Models"),
        ("Characterisation of Superconductors", "Characterisation of_Superconductors"),
        ("On Hyperparameter Superconductivity", "On Hyperparameter Superconductivity"),
        ("Alone", "Alone"),
        ("", ""),
    ],
)
def test_what_stays_together(text: str, together: str) -> None:
    assert glued(text).replace("\u00a0", "_") == together


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://example.org/a?b=c&d=e", True),
        ("http://[::1]:8000/", True),
        ("javascript:alert(1)", False),
        ("JAVASCRIPT:alert(1)", False),
        ("data:text/html,hello", False),
        ("//example.org/", False),
        ("/relative", False),
        ("https://", False),
        ("https://[", False),
        ("https://example.org/\nx", False),
        ("https://example.org/a b", False),
        ('https://example.org/"><b>', False),
        ("https://example.org/" + "x" * 3000, False),
        ("", False),
    ],
)
def test_only_links_that_lead_away_pass(url: str, kept: bool) -> None:
    assert web_url(url) == (url if kept else "")
