"""The tree of a filter; `str` of it is a short way to write it, and parses to an equal tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from dataclasses import field as attribute
from typing import TypeAlias

TEXT_FIELDS = ("title", "abstract", "author", "org", "keyword")
NAME_FIELDS = ("cat", "source")
COUNT_FIELDS = ("upvotes", "comments", "stars")
FLAG_FIELDS = ("code",)
FIELDS = (*TEXT_FIELDS, *NAME_FIELDS, *COUNT_FIELDS, *FLAG_FIELDS)

OPERATORS = ("AND", "OR", "NOT")
SYMBOLS = {"&&": "AND", "&": "AND", "||": "OR", "|": "OR", "!": "NOT"}  # of other languages
QUOTES = '"“”„«»'
MINUS = "-–−"
BARE = re.compile(rf"[^\s(){QUOTES}]+")
FIELD = re.compile(r"([A-Za-z_]+):")


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Adjacent words, in one field or (field "") where an unfielded word looks."""

    field: str
    text: str  # as typed
    prefix: bool = False  # the last word may go on
    terms: tuple[str, ...] = attribute(compare=False, repr=False)

    def __str__(self) -> str:
        return _with_field(self.field, self.text, prefix=self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Name:
    """A category or a source; what stands under it counts too (cs: cs.LG)."""

    field: str
    text: str
    prefix: bool = False
    folded: str = attribute(compare=False, repr=False)

    def __str__(self) -> str:
        return _with_field(self.field, self.text, prefix=self.prefix)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A signal compared with a number; a paper without the signal does not match."""

    field: str
    sign: str  # >= <= > < =
    number: int

    def __str__(self) -> str:
        return f"{self.field}:{self.sign.removeprefix('=')}{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Whether the paper has something: code."""

    field: str
    wanted: bool

    def __str__(self) -> str:
        return f"{self.field}:{'yes' if self.wanted else 'no'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class And:
    parts: tuple[Query, ...]

    def __str__(self) -> str:
        return " ".join(f"({part})" if isinstance(part, Or) else str(part) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Or:
    parts: tuple[Query, ...]

    def __str__(self) -> str:
        return " OR ".join(str(part) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Not:
    part: Query

    def __str__(self) -> str:
        return f"-({self.part})" if isinstance(self.part, And | Or) else f"-{self.part}"


Query: TypeAlias = Text | Name | Count | Flag | And | Or | Not


def _with_field(name: str, text: str, *, prefix: bool) -> str:
    """A term as it is written: bare where that reads back as the same, else in quotes."""
    bare = prefix or (  # what goes on was written bare, be it OR*
        BARE.fullmatch(text)
        and not re.search(r"[*~^]", text)
        and (
            name
            or not (
                text[0] in MINUS
                or text[0] == "!"
                or text in SYMBOLS
                or text.upper() in OPERATORS
                or FIELD.match(text)
            )
        )
        and text not in OPERATORS
    )
    value = f"{text}{'*' if prefix else ''}" if bare else f'"{text}"'
    return f"{name}:{value}" if name else value
