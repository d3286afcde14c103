"""Cleaning of titles, abstracts and names, and the claim sentence."""

from __future__ import annotations

import json
import re
import time
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pylatexenc.latex2text import get_default_latex_context_db

from digest.papers.text import claim, clean_abstract, clean_name, clean_title, sentences
from digest.papers.withdrawal import is_withdrawn

TITLES = {
    "superscript": (r"FG$^2$: Fine-Grained Localization", "FG²: Fine-Grained Localization"),
    "letter raised": ("GSBAK$^K$: $top$-$K$ Attack", "GSBAKᴷ: top-K Attack"),
    "font": (r"Di$\mathtt{[M]}$O: Distilling", "Di[M]O: Distilling"),
    "subscript": (r"the $\ell_1$ norm of MoS$_2$", "the ℓ₁ norm of MoS₂"),
    "degree": (r"360$^\circ$ Horizons", "360° Horizons"),
    "sign before a digit": (r"Super-Resolution ($\times$4)", "Super-Resolution (×4)"),
    "command in text": (r"1\textpertenthousand Sampling", "1‱ Sampling"),
    "words in math": (r"$\textit{New News}$: Fine-tuning", "New News: Fine-tuning"),
    "blanks in math": (r"$\textit{near} $, $ \textit{far} $", "near, far"),
    "function": (r"Radial: $O(n\log n)$ Attention", "Radial: O(n log n) Attention"),
    "relation": (r"Memorization $\neq$ Understanding", "Memorization ≠ Understanding"),
    "relation inside": (r"EFX; $n \ge 3$ Agents", "EFX; n ≥ 3 Agents"),
    "raised text": (r"DESIGN-R\textsuperscript{\textregistered}", "DESIGN-R®"),
    "lowered decimal": (r"KAN for PM$_{2.5}$", "KAN for PM2.5"),
    "lowered word": (r"$MV_{Hybrid}$: Spatial", "MV_Hybrid: Spatial"),
    "nested": (r"Codes over $\frac{\mathbb{F}_{p^m}[u]}{\langle u^t \rangle}$",
               "Codes over 𝔽_(pᵐ)[u]/⟨uᵗ⟩"),
    "parentheses as delimiters": (r"\(X\)-evolve", "X-evolve"),
    "thin space": (r"Call\,Recording", "Call Recording"),
    "braces of BibTeX": (r"Allo{SR}$^2$", "AlloSR²"),
    "author's own command": (r"\ECUAS{n}: A family", "ECUASn: A family"),
    "escaped dollar": (r"with \$100 Budget", "with $100 Budget"),
    "price": ("Wan-I2V with $500 Training Cost", "Wan-I2V with $500 Training Cost"),
    "prices": ("from $5 to $10, and 20$-$30%", "from $5 to $10, and 20-30%"),
    "escaped ampersand": (r"Experience \& Acceptability", "Experience & Acceptability"),
    "wrapped": ("Ice\n  Hockey\tPuck", "Ice Hockey Puck"),
    "entities": ("R&amp;D &lt;b&gt; &#8211; caf&eacute;", "R&D <b> – café"),
    "escaped twice": ("R&amp;amp;D", "R&D"),
    "no entity": ("AT&T & B&W; x&y", "AT&T & B&W; x&y"),
    "composed": ("Erdo\u030bs", "Erdős"),
    "controls and bidi": ("a\x00b\u202ec\u2066d\x07\ufeff\ue000\ud800", "abcd"),
    "dashes": ("Math? -- Blahut--Arimoto --flag", "Math? – Blahut–Arimoto --flag"),
    "quotes": ("the ``best'' way", "the “best” way"),
    "plain signs": ("100% of $5 and 50% & A_B", "100% of $5 and 50% & A_B"),
    "languages": ("C++, C# and {x} ~ y^2", "C++, C# and {x} ~ y^2"),
    "path": (r"C:\new files", r"C:\new files"),
    "empty": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "clean"), TITLES.values(), ids=TITLES.keys())
def test_a_title_is_plain_text(raw: str, clean: str) -> None:
    assert clean_title(raw) == clean


MALFORMED = (
    r"\frac{1", "\\", "{{{", "a } b", r"$x^", r"\begin{array}{\mathbb", r"\end{x}", "$$", r"\'",
    r"\href{a}", r"\input{/etc/passwd}", r"\sqrt", "{" * 3000, r"\textbf{" * 2000, r"$x_{" * 500,
)  # fmt: skip


@pytest.mark.parametrize("raw", MALFORMED, ids=lambda raw: raw[:12])
def test_malformed_tex_is_no_error(raw: str) -> None:
    cleaned = clean_title(raw)
    assert len(cleaned) <= len(raw)


def test_the_day_and_files_stay_out() -> None:
    assert clean_title(r"Made \today{} by \input{secret}") == "Made by secret"


TOKENS = st.sampled_from(
    [
        *("$", "\\", "{", "}", "^", "_", "\\frac", "\\'", "\\mathbb", "\\(", "\\)", "\\$", "\\\\"),
        *("\\begin{array}", "\\end{array}", "\\unknown", "\\text", "&amp;", "&lt;", "&", "%", "~"),
        *(" ", "\n", "a", "B", "5", "é", "e\u0301", "λ", "--", "``", "''", "\u202e", "\x00", "C++"),
    ]
)


@given(st.one_of(st.text(), st.lists(TOKENS, max_size=14).map("".join)))
def test_cleaning_what_is_clean_changes_nothing(raw: str) -> None:
    clean = clean_title(raw)
    assert clean_title(clean) == clean
    assert clean == " ".join(clean.split())
    assert clean.isprintable() or not any(unicodedata.category(char) == "Cc" for char in clean)
    clean.encode()  # no lone surrogate


def test_recorded_titles_lose_their_tex(shared_data: Path) -> None:
    titles = [entry["title"] for entry in _json(shared_data / "arxiv" / "odd_titles.json")]
    assert len(titles) == 458
    known = get_default_latex_context_db()
    started = time.process_time()
    cleaned = [clean_title(title) for title in titles]
    assert (time.process_time() - started) / len(titles) < 0.005
    for raw, clean in zip(titles, cleaned, strict=True):
        assert not re.search(r"\$[^$]*\$", clean), raw
        commands = re.findall(r"\\([A-Za-z]+|.)", clean)
        assert not [name for name in commands if known.get_macro_spec(name) is not None], raw
        assert clean_title(clean) == clean


def test_abstracts_and_names_are_cleaned_alike() -> None:
    raw = "We show~\\cite{x}\n  that $p < 0.05$ at 5% of \\emph{all} sites (\\eg, Theorem~3)."
    assert clean_abstract(raw) == ("We show that p < 0.05 at 5% of all sites (e.g., Theorem 3).")


NAMES = {
    "accent": (r"Paulo Andr\'e", "Paulo André"),
    "braced accent": (r"Hannah K{\"o}pcke", "Hannah Köpcke"),
    "double acute": (r"Paul Erd\H{o}s", "Paul Erdős"),
    "letter": (r"S{\o}ren \L ukasz", "Søren Łukasz"),
    "braces": ("{van} Gogh", "van Gogh"),
    "comma left over": (" Ada  Lovelace,", "Ada Lovelace"),
}


@pytest.mark.parametrize(("raw", "clean"), NAMES.values(), ids=NAMES.keys())
def test_a_name_is_readable(raw: str, clean: str) -> None:
    assert clean_name(raw) == clean


SPLITS = {
    "plain": ("One is. Two are! Three?", ("One is.", "Two are!", "Three?")),
    "et al.": ("Smith et al. Showed it. We do.", ("Smith et al. Showed it.", "We do.")),
    "e.g.": ("Models, e.g. Llama, fail. OK.", ("Models, e.g. Llama, fail.", "OK.")),
    "vs. and Fig.": ("A vs. B in Fig. 3 wins. So.", ("A vs. B in Fig. 3 wins.", "So.")),
    "decimals": ("It gains 0.5 points. 3.5 times.", ("It gains 0.5 points.", "3.5 times.")),
    "initial": ("J. Smith and K. Lee agree. Yes.", ("J. Smith and K. Lee agree.", "Yes.")),
    "letter at the end": ("We add vitamin C. We test.", ("We add vitamin C.", "We test.")),
    "country": ("In the U.S. Army it fails. The U.S. This works.",
                ("In the U.S. Army it fails.", "The U.S.", "This works.")),
    "quoted": ('He said "no." Then left.', ('He said "no."', "Then left.")),
    "bracket": ("It ends (so.) (Then more.) Done.", ("It ends (so.)", "(Then more.)", "Done.")),
    "site": ("See example.org for more. End.", ("See example.org for more.", "End.")),
    "no end": ("no full stop", ("no full stop",)),
    "empty": ("", ()),
}  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SPLITS.values(), ids=SPLITS.keys())
def test_sentences_end_where_a_reader_says(text: str, expected: tuple[str, ...]) -> None:
    assert sentences(text) == expected


CLAIMS = {
    "propose": ("Models fail. We propose X. It works.", "We propose X."),
    "with adverb": ("A. B is. To this end, we then introduce Y, a Z.",
                    "To this end, we then introduce Y, a Z."),
    "this paper": ("Models fail. This paper is about them.", "This paper is about them."),
    "in this work": ("Models fail. In this work, X is done.", "In this work, X is done."),
    "passive": ("Models fail. A new method is proposed.", "A new method is proposed."),
    "none": ("Models fail. They always did.", "Models fail."),
    "not a claim": ("Today we are lost. Models fail.", "Today we are lost."),
    "long": ("Foo. We show " + "very " * 200 + "much.", "We show " + "very " * 200 + "much."),
    "empty": ("", ""),
}  # fmt: skip


@pytest.mark.parametrize(("abstract", "expected"), CLAIMS.values(), ids=CLAIMS.keys())
def test_the_claim_says_what_the_work_does(abstract: str, expected: str) -> None:
    assert claim(abstract) == expected


@given(st.text())
def test_sentences_are_slices_in_order(text: str) -> None:
    place = 0
    for sentence in sentences(text):
        place = text.index(sentence, place) + len(sentence)
    assert claim(text) in text


@pytest.mark.parametrize("text", [".", "!", "a", "We ", "A. ", "a! We ", '."', ". (", "e.g. "])
def test_an_endless_text_takes_no_time(text: str) -> None:
    """With time that grows as the square of the length this would take minutes."""
    whole = text * (100_000 // len(text)) + "! We"
    assert claim(whole) in whole
    assert not is_withdrawn(comment=whole, abstract=whole)
    assert is_withdrawn(comment=f"{whole}. Withdrawn by the authors", abstract="")


def _json(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return found
