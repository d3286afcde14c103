"""What a word is: the one definition that filters, highlights and a full-text index share.

- Case and accents do not count, nor do forms of one character: "Erdős" is "erdos", "M²" is "m2".
  No other mark that stands on a letter or digit ends a word either, such as a vowel of Hindi.
- A word is a run of letters, or digits with the letters behind them ("3D", "16x"). It ends at
  everything else, so "multi-agent" is the two adjacent words of "multi agent", and where a digit
  follows a letter: "GPT-4", "GPT 4" and "gpt4" are all `gpt` `4`, while "GPT-4o" is `gpt` `4o`.
- "C++", "C#" and ".NET" are words. A Chinese or Japanese character is a word.
- A possessive 's is no part of a word. Plurals are their singular, and nothing else is stemmed:
  the S-stemmer of Harman ("How effective is suffixing?", JASIS 42, 1991) with the -sses, -xes,
  -shes and -ches that it misses, and the irregular plurals of the field. What a stem looks like
  does not matter, only which words share one.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

_CJK = "\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_TOKEN = re.compile(
    rf"(?P<dotted>(?<![^\W_])\.net(?![^\W_]))"
    rf"|(?P<cjk>[{_CJK}])"
    rf"|(?P<sharp>(?<![^\W_])[a-z]\#(?!\w))"
    rf"|(?P<letters>[^\W\d_{_CJK}]+(?:\+\+(?![^\W\d_]|\+))?)(?:['’]s(?![^\W_]))?"
    rf"|(?P<digits>\d+[^\W\d_{_CJK}]*)"
)
# Letters that Unicode does not take apart.
_LETTERS = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
_IGNORED = frozenset("\u00ad\u200b\u200c\u200d\u2060\ufeff")

_IRREGULAR = {
    "analyses": "analysis",
    "axes": "axis",
    "corpora": "corpus",
    "criteria": "criterion",
    "crises": "crisis",
    "diagnoses": "diagnosis",
    "ellipses": "ellipsis",
    "hypotheses": "hypothesis",
    "indices": "index",
    "lenses": "lens",
    "matrices": "matrix",
    "optima": "optimum",
    "parentheses": "parenthesis",
    "phenomena": "phenomenon",
    "simplices": "simplex",
    "spectra": "spectrum",
    "syntheses": "synthesis",
    "theses": "thesis",
    "vertices": "vertex",
    "caches": "cache",
    "niches": "niche",
    "avalanches": "avalanche",
    "biases": "bias",
    "viruses": "virus",
    "corpuses": "corpus",
    "movies": "movie",
    "cookies": "cookie",
    "cpus": "cpu",
    "gpus": "gpu",
    "npus": "npu",
    "tpus": "tpu",
    "menus": "menu",
}
# Words that end as plurals do and are none, or mean something else without the s.
_SINGULAR = re.compile(
    r"bias|alias|atlas|canvas|pandas|lens|news|series|species|means|does|perhaps|always|whereas|"
    r"kubernetes|texas"
)
# Sciences end in -ics and have no plural; these are plurals.
_COUNTED = re.compile(
    r"(?:top|metr|heurist|characterist|crit|clin|log|fabr|antibiot|rel|mim|lyr)ics"
)


class Word(NamedTuple):
    """A word of a text: its stem, and where it stands in the text as given."""

    term: str
    start: int
    end: int


def words(text: str, *, stemmed: bool = True) -> tuple[Word, ...]:
    """The words of `text` in order; `stemmed=False` leaves plurals (names of people)."""
    folded, places = _fold(text)
    found: list[Word] = []
    for token in _TOKEN.finditer(folded):
        kind = str(token.lastgroup)
        start, end = token.span(kind)
        term = folded[start:end]
        if stemmed and kind == "letters":
            term = stem(term)
        if places is not None:
            start, end = places[start], max(places[end], places[end - 1] + 1)
        found.append(Word(term, start, end))
    return tuple(found)


@lru_cache(maxsize=65536)  # a day's papers have 20,000 different words, and each many times
def stem(term: str) -> str:
    """The singular of a folded word."""
    if len(term) <= 3 or not term.endswith(("s", "a")):
        return term
    if term in _IRREGULAR:
        return _IRREGULAR[term]
    if not term.endswith("s") or term.endswith(("ss", "us", "is")) or _SINGULAR.fullmatch(term):
        return term
    if term.endswith("ics") and not _COUNTED.fullmatch(term):
        return term
    if term.endswith("ies") and not term.endswith(("eies", "aies")) and len(term) > 4:
        return term[:-3] + "y"
    if term.endswith(("sses", "xes", "shes", "ches")):
        return term[:-2]
    return term[:-1]


def _fold(text: str) -> tuple[str, list[int] | None]:
    """`text` folded, and where each folded character comes from (None: from the same place)."""
    if text.isascii():
        return text.lower(), None
    folded: list[str] = []
    places: list[int] = []
    for place, char in enumerate(text):
        if char < "\x80":
            folded.append(char.lower())
            places.append(place)
            continue
        for part in _fold_char(char):
            folded.append(part)
            places.append(place)
    return "".join(folded), [*places, len(text)]


def _fold_char(char: str) -> str:
    if char in _IGNORED:
        return ""
    decomposed = unicodedata.normalize("NFKD", char.casefold())
    return "".join(
        part for part in decomposed.casefold() if unicodedata.category(part)[0] != "M"
    ).translate(_LETTERS)
