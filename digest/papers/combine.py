"""One paper's content out of all that its sources said, whatever the order they spoke in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from digest.models import Kind, Paper, Record
from digest.papers.identity import identifiers
from digest.papers.withdrawal import is_withdrawn

# Who is believed first: arXiv is where the work is, Hugging Face knows it by arXiv's id.
_TRUST = {"arxiv": 0, "huggingface": 1}
_ANNOUNCED = (Kind.NEW, Kind.CROSS)

# What a paper holds of what its sources say. Only a broken or hostile one says more; all that is
# made of a paper (index, matches, cards, pages, feeds) takes its time by these. arXiv's abstracts
# have at most 1,920 characters, and the longest list of authors that is known 5,154 names.
LONGEST = 20_000  # characters of a text
LONGEST_LINE = 2_000  # of a title, an organisation, a venue or a comment
LONGEST_NAMES = 250_000  # of all authors
LONGEST_LIST = 20_000  # of all keywords, or categories


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenRecord:
    """A stored record: what a source said, and since when we know it."""

    id: int
    record: Record
    first_seen_at: datetime
    fresh: bool  # False: too old when first read, or only a replacement


def combine(records: Sequence[SeenRecord], paper_id: int = 0) -> Paper:
    """The content of the paper that all `records` are about; at least one record.

    Each text is the first one that is not empty, arXiv's before others'; an abstract that no
    arXiv record has is the longest one. Links, keywords and categories are united, a signal is its
    maximum over the sources. What is endless is cut.
    """
    if not records:
        raise ValueError("a paper has at least one record")
    seen = sorted(records, key=_rank)
    every = [one.record for one in seen]
    keys = [key for record in every for key in identifiers(record)]
    arxiv_id = next((value for kind, value in keys if kind == "arxiv"), None)
    authoritative = [record for record in every if record.source == "arxiv"]
    announced = [record for record in every if record.kind in _ANNOUNCED] or every
    authors = next((record.authors for record in authoritative if record.authors), ()) or max(
        (record.authors for record in every), key=len
    )
    return Paper(
        id=paper_id,
        title=_cut(_first(record.title for record in every), LONGEST_LINE),
        url=f"https://arxiv.org/abs/{arxiv_id}" if arxiv_id else every[0].url,
        abstract=_cut(
            _first(record.abstract for record in authoritative)
            or max((record.abstract for record in every), key=len),
            LONGEST,
        ),
        summary=_cut(_first(record.summary for record in every), LONGEST),
        authors=_fitting(authors, LONGEST_NAMES),
        organisation=_cut(_first(record.organisation for record in every), LONGEST_LINE),
        venue=_cut(_first(record.venue for record in every), LONGEST_LINE),
        comment=_cut(_first(record.comment for record in every), LONGEST_LINE),
        keywords=_fitting(
            _distinct(word for record in every for word in record.keywords), LONGEST_LIST
        ),
        categories=_fitting(
            _distinct(name for record in every for name in record.categories), LONGEST_LIST
        ),
        sources=tuple(dict.fromkeys(record.source for record in every)),
        links=_links(every, arxiv_id),
        signals=_signals(every),
        arxiv_id=arxiv_id,
        doi=next((value for kind, value in keys if kind == "doi"), None),
        published_at=min(
            (record.published_at for record in every if record.published_at), default=None
        ),
        listed_at=max(record.listed_at for record in announced),
        first_seen_at=min(one.first_seen_at for one in seen),
        fresh_at=max(
            (one.first_seen_at for one in seen if one.fresh and one.record.kind in _ANNOUNCED),
            default=None,
        ),
        withdrawn=any(_withdrawn(record) for record in every),
    )


def renew(old: Record, new: Record, *, whole: bool = True) -> Record:
    """What a source says now, with what it said before where it has turned empty.

    An answer that is not `whole`, or of an older version, only fills what was empty. The first
    announcement's kind and day stay, unless the work was withdrawn; so does an arXiv id.
    """
    older = bool(old.version and new.version and new.version < old.version)
    better, other = (old, new) if older or not whole else (new, old)
    filled = {
        name: getattr(other, name)
        for name in Record.__dataclass_fields__
        if not getattr(better, name)
    }
    kept = {
        "kind": better.kind if better.kind is Kind.WITHDRAWN else old.kind,
        "listed_at": old.listed_at,
        "arxiv_id": old.arxiv_id or new.arxiv_id,
        "links": {**other.links, **better.links},
        "signals": {**other.signals, **better.signals},
    }
    return replace(better, **{**filled, **kept})


def _rank(seen: SeenRecord) -> tuple[int, int, float, str, str, int]:
    record = seen.record
    return (
        _TRUST.get(record.source, len(_TRUST)),
        -(record.version or 0),
        -record.listed_at.timestamp(),
        record.source,
        record.external_id,
        seen.id,
    )


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")


def _cut(text: str, most: int) -> str:
    """The text, or its beginning up to the end of a word."""
    if len(text) <= most:
        return text
    return text[: most + 1].rpartition(" ")[0] or text[:most]


def _fitting(names: Iterable[str], most: int) -> tuple[str, ...]:
    """The first names that have at most so many characters in all; a longer one is left out."""
    found: list[str] = []
    for name in names:
        if len(name) <= most:
            most -= len(name) + 1
            found.append(name)
    return tuple(found)


def _distinct(words: Iterable[str]) -> Iterator[str]:
    """`words` without repetitions, which may differ in case."""
    known: set[str] = set()
    for word in words:
        if word.casefold() not in known:
            known.add(word.casefold())
            yield word


def _links(records: Sequence[Record], arxiv_id: str | None) -> dict[str, str]:
    links: dict[str, str] = {}
    if arxiv_id:
        links["pdf"] = f"https://arxiv.org/pdf/{arxiv_id}"
        links["html"] = f"https://arxiv.org/html/{arxiv_id}"
        if any(record.source == "huggingface" for record in records):
            links["huggingface"] = f"https://huggingface.co/papers/{arxiv_id}"
    for record in records:
        for name, address in record.links.items():
            links.setdefault(name, address)
    return dict(sorted(links.items()))


def _signals(records: Sequence[Record]) -> dict[str, int]:
    signals: dict[str, int] = {}
    for record in records:
        for name, value in record.signals.items():
            signals[name] = max(value, signals.get(name, value))
    return dict(sorted(signals.items()))


def _withdrawn(record: Record) -> bool:
    if record.kind is Kind.WITHDRAWN:
        return True
    from_arxiv = any(kind == "arxiv" for kind, _ in identifiers(record))
    return from_arxiv and is_withdrawn(comment=record.comment, abstract=record.abstract)
