"""arXiv's two XML answers as records: the day's list (RSS or Atom) and the query API's Atom.

The list says what was announced and how; the API knows comment, journal reference, primary
category and the true date of submission, but not what was announced.
"""

from __future__ import annotations

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

from lxml import etree

from digest.errors import BrokenAnswer, SourceError
from digest.models import Kind, Record
from digest.papers.identity import parse_arxiv_id, parse_doi
from digest.papers.text import clean_abstract, clean_name, clean_title
from digest.papers.withdrawal import is_withdrawn
from digest.sources import calendar
from digest.sources.bodies import load_xml
from digest.sources.links import arxiv_links

SOURCE = "arxiv"

_ATOM = "{http://www.w3.org/2005/Atom}"
_ARXIV = "{http://arxiv.org/schemas/atom}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_OPENSEARCH = "{http://a9.com/-/spec/opensearch/1.1/}"
_KINDS = {
    "new": Kind.NEW,
    "cross": Kind.CROSS,
    "replace": Kind.REPLACE,
    "replace-cross": Kind.REPLACE,
}
_OAI = "oai:arXiv.org:"
_CATEGORY = re.compile(r"[a-z-]+(?:\.[A-Za-z-]+)?")  # not those of ACM or MSC, which authors add
_PREFIX = re.compile(r"\s*arXiv:\S+\s+Announce Type:\s*\S+\s+Abstract:\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A day's list; `day` and `built_on` are dates in New York."""

    records: tuple[Record, ...]
    day: date | None  # the newest date of its items; None without items
    built_on: date | None
    bad: int = 0  # items that are no papers


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of the query API's answer."""

    records: tuple[Record, ...]
    total: int  # in the whole result
    bad: int = 0


def parse_rss(body: bytes) -> Announcement:
    """A day's list, each paper once. Raises SourceError when arXiv says that it has none to give.

    Either form is read: `/rss/` and `/atom/` carry the same under other names.
    """
    root = load_xml(body)
    if root.tag not in ("rss", f"{_ATOM}feed"):
        raise BrokenAnswer(f"a document <{etree.QName(root).localname}> came, not a list")
    channel = root.find("channel")
    if channel is None:
        channel = root
    title = _text(channel, "title", f"{_ATOM}title")
    if "feed error" in title.lower():
        raise SourceError(f'it says "{title[:200]}". Is each category spelt as arXiv spells it?')
    items = [*channel.findall("item"), *channel.findall(f"{_ATOM}entry")]
    found = [listed for listed in map(_announced, items) if listed is not None]
    if items and not found:
        raise BrokenAnswer(f"none of its {len(items)} items is a paper")
    return Announcement(
        records=tuple({record.external_id: record for _, record in reversed(found)}.values())[::-1],
        day=max((day for day, _ in found), default=None),
        built_on=_date(_text(channel, "lastBuildDate", f"{_ATOM}updated")),
        bad=len(items) - len(found),
    )


def parse_atom(body: bytes) -> Page:
    """A page of results. Raises SourceError for an error that comes as an entry, status 200."""
    root = load_xml(body)
    if root.tag != f"{_ATOM}feed":
        raise BrokenAnswer(f"a document <{etree.QName(root).localname}> came, not a result")
    entries = root.findall(f"{_ATOM}entry")
    for entry in entries:
        if "/api/errors" in _text(entry, f"{_ATOM}id"):
            raise SourceError(f'arXiv says "{_text(entry, f"{_ATOM}summary")[:200]}"')
    found = [_queried(entry) for entry in entries]
    records = tuple(record for record in found if record is not None)
    total = _text(root, f"{_OPENSEARCH}totalResults")
    return Page(
        records=records,
        total=int(total) if total.isdecimal() else len(records),
        bad=len(found) - len(records),
    )


def _announced(item: etree._Element) -> tuple[date, Record] | None:
    """An item's paper and the date of its list."""
    name = parse_arxiv_id(_text(item, "guid", f"{_ATOM}id").removeprefix(_OAI))
    title = clean_title(_text(item, "title", f"{_ATOM}title"))
    kind = _KINDS.get(_text(item, f"{_ARXIV}announce_type"))
    day = _date(_text(item, "pubDate", f"{_ATOM}published"))
    if name is None or not title or kind is None or day is None:
        return None
    arxiv_id, version = name
    abstract = _PREFIX.sub("", _text(item, "description", f"{_ATOM}summary"), count=1)
    return day, _record(
        item,
        arxiv_id=arxiv_id,
        version=version,
        title=title,
        listed_at=calendar.announced_at(day),
        kind=kind,
        abstract=abstract,
        # Names are joined by commas and have none themselves.
        authors=_text(item, f"{_DC}creator").split(","),
        doi=_text(item, f"{_ARXIV}DOI", f"{_ARXIV}doi"),
        venue=_text(item, f"{_ARXIV}journal_reference", f"{_ARXIV}journal_ref"),
        categories=[node.text or "" for node in item.findall("category")] or _terms(item),
    )


def _queried(entry: etree._Element) -> Record | None:
    name = parse_arxiv_id(_text(entry, f"{_ATOM}id"))
    title = clean_title(_text(entry, f"{_ATOM}title"))
    published_at = _instant(_text(entry, f"{_ATOM}published"))
    if name is None or not title or published_at is None:
        return None
    arxiv_id, version = name
    primary = entry.find(f"{_ARXIV}primary_category")
    first = [primary.get("term", "")] if primary is not None else []
    return _record(
        entry,
        arxiv_id=arxiv_id,
        version=version,
        title=title,
        listed_at=published_at,
        kind=Kind.NEW,
        abstract=_text(entry, f"{_ATOM}summary"),
        authors=[_text(author, f"{_ATOM}name") for author in entry.findall(f"{_ATOM}author")],
        doi=_text(entry, f"{_ARXIV}doi"),
        venue=_text(entry, f"{_ARXIV}journal_ref"),
        categories=[*first, *_terms(entry)],
        comment=_text(entry, f"{_ARXIV}comment"),
        published_at=published_at,
    )


def _record(
    node: etree._Element,
    *,
    arxiv_id: str,
    version: int | None,
    title: str,
    listed_at: datetime,
    kind: Kind,
    abstract: str,
    authors: list[str],
    doi: str,
    venue: str,
    categories: list[str],
    comment: str = "",
    published_at: datetime | None = None,
) -> Record:
    abstract, comment = clean_abstract(abstract), clean_title(comment)
    if is_withdrawn(comment=comment, abstract=abstract):
        kind = Kind.WITHDRAWN
    links = arxiv_links(arxiv_id)
    return Record(
        source=SOURCE,
        external_id=arxiv_id,
        title=title,
        url=links["abs"],
        listed_at=listed_at,
        kind=kind,
        abstract=abstract,
        authors=tuple(name for name in map(clean_name, authors) if name),
        published_at=published_at,
        arxiv_id=arxiv_id,
        doi=parse_doi(doi),
        version=version,
        venue=clean_title(venue),
        comment=comment,
        categories=tuple(dict.fromkeys(filter(_CATEGORY.fullmatch, categories))),
        links=links,
        raw=etree.tostring(node, encoding="unicode", with_tail=False),
    )


def _terms(node: etree._Element) -> list[str]:
    return [category.get("term", "") for category in node.findall(f"{_ATOM}category")]


def _text(node: etree._Element, *names: str) -> str:
    """The text of the first of these children that is there."""
    for name in names:
        found = node.findtext(name)
        if found is not None:
            return found.strip()
    return ""


def _date(text: str) -> date | None:
    """The date in New York, which is how arXiv names a list."""
    found = _instant(text)
    return found.astimezone(calendar.NEW_YORK).date() if found else None


def _instant(text: str) -> datetime | None:
    """An RSS or Atom date, as UTC."""
    for parse in (datetime.fromisoformat, email.utils.parsedate_to_datetime):
        try:
            found = parse(text)
            return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
        except (ValueError, OverflowError):
            continue
    return None
