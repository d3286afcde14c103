"""How a paper's words and names are written in a full-text index: a line a field, blanks between.

No tokenizer of a database decides what a word is: `digest.topics.words` did, and what is written
here has a blank exactly where it said that a word ends. A term is written as it is, for it holds
no white space and of ASCII only a-z, 0-9 and `+#.`; a name (cs.LG) letter by letter, so that one
name begins with another if and only if it does as written.
"""

from __future__ import annotations

import re

from digest.topics.match import Document

FIELDS = ("title", "abstract", "summary", "keyword", "org", "author", "names")
SIGNS = "+#._=|"  # beside letters and digits
BREAK = "|"  # between two keywords or authors: no term, so no phrase crosses it
# Characters of a term that are told apart; PostgreSQL takes 2,046 bytes, FTS5 32,768. Two longer
# ones may be different though they are written alike, so who asks for one has to look again.
LONGEST = 255
AUTHOR = "n/"  # before a term that stands for a name of a person: no term holds a slash

_ODD = re.compile(r"[^a-z0-9]")
_UNDER = re.compile(r"[.:]")
_WORDS = 4  # the first fields: those where an unfielded word looks


def spell(document: Document) -> str:
    """All that is found by full text, one line for each of FIELDS."""
    lines = [
        " ".join(word.term[:LONGEST] or BREAK for word in document.fields[field].words)
        for field in FIELDS[:-1]
    ]
    names = dict.fromkeys(
        spell_name(field, over)
        for field, found in document.names.items()
        for name in found
        for over in (*(name[: sign.start()] for sign in _UNDER.finditer(name)), name)
        if over
    )
    return "\n".join([*lines, " ".join(names)])


def spell_name(field: str, folded: str) -> str:
    """A category or source; a paper has its own, and those that they stand under (cs, cs.LG)."""
    written = _ODD.sub(lambda odd: f"_{ord(odd[0]):x}_", folded[:LONGEST])
    return f"{field}={written}"[:LONGEST]


def terms(spelled: str) -> set[str]:
    """The different terms of the text, and those of the authors with AUTHOR before them."""
    lines = spelled.split("\n")
    found = {term for line in lines[:_WORDS] for term in line.split(" ")}
    found.update(AUTHOR + term for term in lines[FIELDS.index("author")].split(" "))
    return found - {"", BREAK, AUTHOR, AUTHOR + BREAK}
