"""The language of filters: from the text that an admin writes to its tree.

query  = every ("OR" every)*
every  = one (["AND"] one)*            words side by side must all be there
one    = ("NOT" | "-") one | "(" query ")" | [field ":"] (word ["*"] | "phrase")
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from digest.errors import N_, TopicSyntaxError
from digest.topics.query import (
    BARE,
    COUNT_FIELDS,
    FIELD,
    FIELDS,
    FLAG_FIELDS,
    MINUS,
    NAME_FIELDS,
    OPERATORS,
    QUOTES,
    SYMBOLS,
    And,
    Count,
    Flag,
    Name,
    Not,
    Or,
    Query,
    Text,
)
from digest.topics.words import words

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_TERMS", "Query", "parse"]

MAX_LENGTH = 2_000  # characters
MAX_DEPTH = 32  # parentheses and NOTs inside one another
MAX_TERMS = 200

_COUNT = re.compile(r"(>=|<=|≥|≤|>|<|=)?(\d{1,9})")
_SIGNS = {"≥": ">=", "≤": "<=", "": "="}
_FLAGS = {"yes": True, "no": False}


def parse(query: str) -> Query:
    """The tree of `query`; TopicSyntaxError says what is wrong and at which character."""
    if len(query) > MAX_LENGTH:
        raise TopicSyntaxError(
            N_("A filter has at most %(most)s characters, this one has %(length)s"),
            query=f"{query[:60]}…",
            position=60,
            most=f"{MAX_LENGTH:,}",
            length=f"{len(query):,}",
        )
    parser = _Parser(query)
    tree = parser.parse()
    if not _selects(tree):
        parser.fail(
            N_("Each alternative needs something to look for; this only says what to leave out"), 0
        )
    return tree


def _selects(query: Query, *, negated: bool = False) -> bool:
    """Whether every match holds something that was asked for."""
    if isinstance(query, Not):
        return _selects(query.part, negated=not negated)
    if isinstance(query, And | Or):
        found = (_selects(part, negated=negated) for part in query.parts)
        # Not (a and b) is not a, or not b.
        return any(found) if isinstance(query, And) is not negated else all(found)
    return not negated


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str  # ( ) AND OR NOT term
    text: str
    position: int
    field: str = ""
    quoted: bool = False


class _Parser:
    """One reading of one query, from left to right."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = list(self._read())
        self._next = 0
        self._depth = 0

    def fail(self, sentence: str, position: int, **values: str | int) -> NoReturn:
        raise TopicSyntaxError(sentence, query=self._query, position=position, **values)

    def parse(self) -> Query:
        if not self._tokens:
            self.fail(N_("The filter is empty"), 0)
        terms = [token for token in self._tokens if token.kind == "term"]
        if len(terms) > MAX_TERMS:
            self.fail(
                N_("A filter has at most %(most)s terms"),
                terms[MAX_TERMS].position,
                most=MAX_TERMS,
            )
        tree = self._any()
        if token := self._peek():
            self.fail(N_("This ) closes nothing"), token.position)
        return tree

    # -------------------------------------------------------------- tokens to tree

    def _peek(self, *kinds: str) -> _Token | None:
        if self._next == len(self._tokens):
            return None
        token = self._tokens[self._next]
        return token if not kinds or token.kind in kinds else None

    def _take(self, *kinds: str) -> _Token | None:
        token = self._peek(*kinds)
        self._next += token is not None
        return token

    def _any(self) -> Query:
        parts = [self._all()]
        while self._take("OR"):
            parts.append(self._all())
        flat = [
            inner for part in parts for inner in (part.parts if isinstance(part, Or) else [part])
        ]
        return Or(parts=tuple(flat)) if len(flat) > 1 else flat[0]

    def _all(self) -> Query:
        parts = [self._one()]
        while self._take("AND") or self._peek("term", "(", "NOT"):
            parts.append(self._one())
        flat = [
            inner for part in parts for inner in (part.parts if isinstance(part, And) else [part])
        ]
        return And(parts=tuple(flat)) if len(flat) > 1 else flat[0]

    def _one(self) -> Query:
        token = self._take("term", "(", "NOT")
        if token is None:
            self._fail_dangling()
        if token.kind == "term":
            return self._leaf(token)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self.fail(
                N_("Parentheses and NOTs go at most %(most)s deep"), token.position, most=MAX_DEPTH
            )
        if token.kind == "NOT":
            tree: Query = Not(part=self._one())
        else:
            tree = self._any()
            if not self._take(")"):
                self.fail(N_("This ( is never closed"), token.position)
        self._depth -= 1
        return tree

    def _fail_dangling(self) -> NoReturn:
        here = self._peek()
        before = self._tokens[self._next - 1] if self._next else None
        if before and before.kind == "(" and here and here.kind == ")":
            self.fail(N_("There is nothing between these parentheses"), before.position)
        if before and before.kind in ("AND", "OR", "NOT"):
            self.fail(N_("Nothing follows this %(word)s"), before.position, word=before.text)
        if here and here.kind == ")":
            self.fail(N_("This ) closes nothing"), here.position)
        if here:
            self.fail(N_("Nothing stands before this %(word)s"), here.position, word=here.text)
        self.fail(N_("This ( is never closed"), before.position if before else 0)

    def _leaf(self, token: _Token) -> Query:
        if token.field in COUNT_FIELDS:
            found = _COUNT.fullmatch(token.text)
            if not found:
                self.fail(
                    N_("%(field)s: takes a number such as %(field)s:>=10"),
                    token.position,
                    field=token.field,
                )
            sign = found[1] or ""
            return Count(field=token.field, sign=_SIGNS.get(sign, sign), number=int(found[2]))
        if token.field in FLAG_FIELDS:
            if token.text.lower() not in _FLAGS:
                self.fail(N_("%(field)s: takes yes or no"), token.position, field=token.field)
            return Flag(field=token.field, wanted=_FLAGS[token.text.lower()])
        text, prefix = token.text, False
        if not token.quoted:
            text, prefix = self._unstarred(token)
        if token.field in NAME_FIELDS:
            if not text:
                self.fail(N_("%(field)s: needs a name after it"), token.position, field=token.field)
            return Name(field=token.field, text=text, prefix=prefix, folded=text.casefold())
        found_words = words(text, stemmed=token.field != "author")
        terms = tuple(word.term for word in found_words)
        if not terms:
            self.fail(N_("There is no word in %(text)s"), token.position, text=token.text)
        if prefix:
            last = words(text, stemmed=False)[-1]
            if last.end != len(text) or len(last.term) < 2:
                self.fail(N_("A * needs at least two letters before it"), token.position)
            terms = (*terms[:-1], last.term)
        return Text(field=token.field, text=text, prefix=prefix, terms=terms)

    def _unstarred(self, token: _Token) -> tuple[str, bool]:
        text = token.text.removesuffix("*")
        if "*" in text:
            self.fail(
                N_("A * stands only at the end of a word, for whatever follows"), token.position
            )
        if found := re.search(r"[~^]", text):
            self.fail(
                N_('%(sign)s has no meaning here; in "quotes" it is plain text'),
                token.position,
                sign=found[0],
            )
        return text, text != token.text

    # -------------------------------------------------------------- text to tokens

    def _read(self) -> Iterator[_Token]:
        at = 0
        while at < len(self._query):
            char = self._query[at]
            if char.isspace():
                at += 1
            elif char in "()":
                yield _Token(kind=char, text=char, position=at)
                at += 1
            elif char in MINUS:
                if not self._query[at + 1 : at + 2].strip():
                    self.fail(N_("Write -word, without a space, to leave a word out"), at)
                yield _Token(kind="NOT", text=char, position=at)
                at += 1
            else:
                token, at = self._read_term(at)
                yield token

    def _read_term(self, at: int) -> tuple[_Token, int]:
        if self._query[at] in QUOTES:
            return self._read_quoted(at, "")
        found = BARE.match(self._query, at)
        assert found is not None  # neither blank, parenthesis nor quote
        text = found[0]
        if text in OPERATORS:
            return _Token(kind=text, text=text, position=at), found.end()
        if text.upper() in OPERATORS:
            self.fail(
                N_('Write %(capitals)s in capitals, or "%(word)s" in quotes for the word'),
                at,
                capitals=text.upper(),
                word=text,
            )
        if text in SYMBOLS or text[0] == "!":
            self.fail(
                N_("Write %(word)s instead of %(sign)s"),
                at,
                word=SYMBOLS.get(text, "NOT"),
                sign=text,
            )
        named = FIELD.match(text)
        if not named:
            return _Token(kind="term", text=text, position=at), found.end()
        name = named[1].lower()
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.5)
            if near:
                self.fail(
                    N_(
                        "%(name)s: is not a field; did you mean %(near)s: ?"
                        ' Put it in "quotes" to look for it'
                    ),
                    at,
                    name=named[1],
                    near=near[0],
                )
            self.fail(
                N_(
                    "%(name)s: is not a field; there are %(fields)s."
                    ' Put it in "quotes" to look for it'
                ),
                at,
                name=named[1],
                fields=", ".join(FIELDS),
            )
        return self._read_value(at + named.end(), name, at)

    def _read_value(self, at: int, name: str, start: int) -> tuple[_Token, int]:
        while self._query[at : at + 1].isspace():
            at += 1
        if self._query[at : at + 1] == "(":
            self.fail(
                N_("Write %(name)s: before each word instead of before parentheses"),
                start,
                name=name,
            )
        if self._query[at : at + 1] and self._query[at] in QUOTES:
            return self._read_quoted(at, name)
        found = BARE.match(self._query, at)
        if not found or found[0] in OPERATORS:
            self.fail(N_("Nothing follows %(name)s:"), start, name=name)
        return _Token(kind="term", text=found[0], position=at, field=name), found.end()

    def _read_quoted(self, at: int, name: str) -> tuple[_Token, int]:
        end = next((i for i in range(at + 1, len(self._query)) if self._query[i] in QUOTES), None)
        if end is None:
            self.fail(N_("This quote is never closed"), at)
        text = " ".join(self._query[at + 1 : end].split())
        token = _Token(kind="term", text=text, position=at, field=name, quoted=True)
        return token, end + 1
