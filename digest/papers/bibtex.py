"""A paper as BibTeX, for a list of references."""

from __future__ import annotations

import re
import unicodedata

from digest.models import Paper

AUTHORS = 100  # a list of references ends before the list of a collaboration does

# What TeX would take for a command. A brace or backslash of a title is text too, and BibTeX counts
# the braces behind backslashes as it does all others: one alone would swallow the rest of the file.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{char: f"\\{char}" for char in "$&#_%"},
}
_UNSEEN = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
_SMALL = frozenset({"a", "an", "and", "are", "do", "for", "from", "in", "is", "of", "on", "the"})


def bibtex(paper: Paper) -> str:
    """One entry: `@article` of a journal, else `@misc`; fields without a value are left out.

    Names stay as the source writes them: where a family name begins is not known.
    """
    year = str(paper.published_at.year) if paper.published_at else ""
    fields = {
        "title": f"{{{_text(paper.title)}}}",  # in braces of its own: its capitals stay
        "author": " and ".join(_authors(paper)),
        "year": year,
        "journal": "" if paper.arxiv_id else _text(paper.venue),
        "eprint": paper.arxiv_id or "",
        "archiveprefix": "arXiv" if paper.arxiv_id else "",
        "primaryclass": _text(paper.categories[0]) if paper.arxiv_id and paper.categories else "",
        "doi": _address(paper.doi or ""),
        "url": _address(paper.url),
    }
    rows = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    kind = "article" if fields["journal"] else "misc"
    return f"@{kind}{{{_key(paper, year)},\n" + ",\n".join(rows) + "\n}\n"


def _key(paper: Paper, year: str) -> str:
    """`lovelace2026engines`: the first author's last word, the year, the title's first word."""
    family = _letters(paper.authors[0]).split()[-1:] if paper.authors else []
    title = [word for word in _letters(paper.title).split() if word not in _SMALL]
    return "".join([*(family or ["paper"]), year, *title[:1]])[:60]


def _letters(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", " ", plain.lower()).strip()


def _authors(paper: Paper) -> list[str]:
    named = [_name(author) for author in paper.authors if author.strip()]
    return [*named[:AUTHORS], "others"] if len(named) > AUTHORS else named


def _name(author: str) -> str:
    name = _text(author)
    # A comma or an "and" would make it another name, or two, and "others" nobody's.
    whole = "," in name or " and " in f" {name.lower()} " or name.lower() == "others"
    return f"{{{name}}}" if whole else name


def _text(text: str) -> str:
    shown = "".join(char if char.isprintable() else " " for char in _UNSEEN.sub("", text))
    return "".join(_SPECIAL.get(char, char) for char in " ".join(shown.split()))


def _address(text: str) -> str:
    """A DOI or URL: taken as it stands, so that what would end the field is quoted."""
    shown = "".join(char for char in _UNSEEN.sub("", text) if char.isprintable() and char != " ")
    return shown.replace("\\", "%5C").replace("{", "%7B").replace("}", "%7D")
