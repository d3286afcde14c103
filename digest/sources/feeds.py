"""Any RSS, Atom or RDF feed of papers or posts: feedparser on the bytes that we fetched.

Blogs and journals: dates are missing, years only or in the future, links are relative, text is
HTML, and a guid is whatever the author's software made of it.
"""

from __future__ import annotations

import calendar
import hashlib
import html
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import feedparser
import nh3

from digest.errors import BrokenAnswer, SourceError
from digest.models import Fetch, Health, Record
from digest.papers.identity import parse_arxiv_id, parse_doi
from digest.papers.text import clean_name, clean_title
from digest.sources import outcome
from digest.sources.bodies import excerpt, storable
from digest.sources.http import MEGABYTE, Answer, Client
from digest.sources.links import arxiv_links, web_link

T = TypeVar("T")

_LIMIT = 5 * MEGABYTE
_LONGEST_ABSTRACT = 4000  # characters; some feeds carry whole articles
_MOST_KEYWORDS = 20
_UNKNOWN_AGE = timedelta(days=30)

_END = re.compile(rb"</(?:[\w.-]+:)?(?:rss|feed|rdf)\s*>", re.IGNORECASE)
_BLOCK = re.compile(
    r"<(?=/?(?:p|div|br|hr|li|ul|ol|dl|dt|dd|h[1-6]|tr|td|th|table|blockquote|pre|figure|"
    r"figcaption|section|article|header|footer)\b)",
    re.IGNORECASE,
)
_YEAR = re.compile(r"\s*\d{4}\s*")
_ADDRESS = re.compile(r"\S+@\S+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entries:
    """A feed's entries, in the feed's order; `undated` are the ids without a day."""

    records: tuple[Record, ...]
    undated: frozenset[str] = frozenset()
    bad: int = 0  # entries without a title or a link


@dataclass(frozen=True, slots=True)
class Feed:
    """The feed at `url`. State: its validators, how many entries, when undated ones were seen."""

    slug: str
    url: str

    @property
    def name(self) -> str:
        return f"feed:{self.slug}"

    async def fetch(self, client: Client, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        if refusal := outcome.told_to_wait(self.name, state):
            return refusal
        conditions = {"If-None-Match": "etag", "If-Modified-Since": "modified"}
        headers = {name: state[key] for name, key in conditions.items() if state.get(key)}
        try:
            answer, entries = await client.get(
                self.url,
                lambda answer: (answer, self._parse(answer, now)),
                headers=headers,
                lane=self.name,
                limit=_LIMIT,
            )
        except SourceError as error:
            found = outcome.problem(error)
            return Fetch(
                source=self.name,
                health=found.health,
                reason=found.reason,
                state=outcome.waiting(state, error),
            )
        if entries is None:
            return Fetch(source=self.name, health=Health.UNCHANGED, state=outcome.waiting(state))
        size = len(entries.records)
        if not size and state.get("size"):
            return Fetch(
                source=self.name,
                health=Health.HALF_FILLED,
                reason=f"The feed is empty and had {state['size']} entries; they are kept.",
            )
        seen = _first_seen(entries, now=now, seen=state.get("seen"))
        bad = f"{entries.bad} entries have no title or no web link; they are left out."
        return Fetch(
            source=self.name,
            health=Health.OK,
            reason=bad if entries.bad else "" if size else "The feed has no entries.",
            records=tuple(
                replace(record, listed_at=datetime.fromisoformat(seen[record.external_id]))
                if record.external_id in seen
                else record
                for record in entries.records
            ),
            state={
                "etag": _validator(answer, "ETag"),
                "modified": _validator(answer, "Last-Modified"),
                "size": size,
                "seen": seen,
            },
        )

    def _parse(self, answer: Answer, now: datetime) -> Entries | None:
        if answer.status == 304:
            return None
        return parse_feed(
            answer.body,
            slug=self.slug,
            url=answer.url,
            content_type=answer.headers.get("Content-Type", ""),
            now=now,
        )


def parse_feed(
    body: bytes, *, slug: str, url: str, now: datetime, content_type: str = ""
) -> Entries:
    """The entries of a feed found at `url`; no date is later than `now`.

    Malformed XML is forgiven as long as the feed has its end. Raises BrokenAnswer for a feed that
    is cut off and for what is no feed, SourceError for one without a usable entry.
    """
    if not body.strip():
        raise BrokenAnswer("it is no feed but an empty answer")
    if body.startswith(b"\x1f\x8b"):
        raise BrokenAnswer("it is compressed without saying so")
    try:
        # A stream, as feedparser would take bytes for the name of a file.
        parsed = feedparser.parse(
            io.BytesIO(body),
            response_headers={"content-type": content_type, "content-location": url},
            sanitize_html=False,
            resolve_relative_uris=False,
        )
    except Exception as error:
        # Damaged encodings and references end in any error there: ValueError, KeyError, ...
        raise BrokenAnswer(f"it cannot be read as a feed ({type(error).__name__})") from error
    if not parsed.version and not parsed.entries:
        raise BrokenAnswer(f'it is no feed ("{excerpt(body, 60)}")')
    # feedparser makes a short feed of one that is cut off; NULs are those of UTF-16.
    if not _END.search(body.replace(b"\0", b"")[-4096:]):
        raise BrokenAnswer("the feed is cut off")
    ids = Counter(_guid(entry) for entry in parsed.entries)
    records: dict[str, Record] = {}
    undated: set[str] = set()
    bad = 0
    for entry in parsed.entries:
        title, link = _plain(entry, "title"), _link(entry, url)
        if not title or not link:
            bad += 1
            continue
        guid = _guid(entry)
        # Some software gives one guid to every entry.
        name = _short(guid if guid and ids[guid] == 1 else link)
        published_at, is_day = _published(entry, now)
        if not is_day:
            undated.add(name)
        abstract = _plain(entry, "summary") or _plain(next(iter(entry.get("content", ())), {}))
        arxiv_id = _first(parse_arxiv_id, (link, guid, _string(entry, "dc_identifier")))
        records.setdefault(
            name,
            Record(
                source=f"feed:{slug}",
                external_id=name,
                title=title,
                url=link,
                listed_at=published_at if published_at and is_day else now,
                abstract=_shortened(abstract),
                authors=_authors(entry),
                published_at=published_at,
                arxiv_id=arxiv_id[0] if arxiv_id else None,
                version=arxiv_id[1] if arxiv_id else None,
                doi=_first(
                    parse_doi,
                    (_string(entry, "prism_doi"), _string(entry, "dc_identifier"), link, guid),
                ),
                venue=_plain(entry, "prism_publicationname") or _plain(parsed.feed, "title"),
                keywords=_keywords(entry),
                links=arxiv_links(arxiv_id[0]) if arxiv_id else {},
                raw=_raw(entry),
            ),
        )
    if bad and not records:
        raise SourceError(f"none of its {bad} entries has a title and a web link")
    return Entries(records=tuple(records.values()), undated=frozenset(undated), bad=bad)


def plain_text(markup: str) -> str:
    """HTML as text: no tags, no scripts, a blank where a block ended."""
    return html.unescape(nh3.clean(_BLOCK.sub(" <", markup), tags=set()))


def _first_seen(
    entries: Entries, *, now: datetime, seen: Mapping[str, str] | None
) -> dict[str, str]:
    """When each undated entry was listed: when we first saw it, as nothing else is known.

    Those of the first read are of unknown age and must not all be new: they count as listed in
    the year that they name, or a month ago.
    """
    times = dict(seen or {})
    undated = [record for record in entries.records if record.external_id in entries.undated]
    for record in undated:
        age_unknown = record.published_at or now - _UNKNOWN_AGE
        times.setdefault(record.external_id, (age_unknown if seen is None else now).isoformat())
    return {record.external_id: times[record.external_id] for record in undated}


def _published(entry: Mapping[str, Any], now: datetime) -> tuple[datetime | None, bool]:
    """When the entry says that it appeared, not after `now`; and whether it names a day."""
    for name in ("published", "updated", "created"):
        key = f"{name}_parsed"
        # Asked for a missing `updated`, feedparser answers with `published` and a warning.
        if key in entry and (parsed := entry[key]):
            try:
                at = datetime.fromtimestamp(calendar.timegm(parsed), UTC)
            except (ValueError, OverflowError, OSError):
                continue
            return min(at, now), not _YEAR.fullmatch(_string(entry, name))
    return None, False


def _link(entry: Mapping[str, Any], base: str) -> str:
    """The entry's own page; redirecting services say where they lead."""
    original = [value for name, value in entry.items() if name.endswith("_origlink")]
    alternates = [
        link.get("href") for link in entry.get("links", ()) if link.get("rel") == "alternate"
    ]
    for candidate in (*original, entry.get("link"), *alternates, _guid(entry)):
        if candidate and (link := web_link(candidate, base=base)):
            return link
    return ""


def _guid(entry: Mapping[str, Any]) -> str:
    return storable(_string(entry, "id")).strip()


def _short(name: str) -> str:
    """The name, or the hash of an endless one: a database's index has its limit."""
    return name if len(name) <= 1000 else hashlib.sha256(name.encode()).hexdigest()


def _authors(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Each author once; several names in one element are told from "Family, Given"."""
    names: list[str] = []
    for author in entry.get("authors", ()):
        name = _ADDRESS.sub("", _string(author, "name")).strip(" ()")
        parts = [part.strip() for part in re.split(r"[;,]|\band\b|&", name) if part.strip()]
        several = all(" " in part for part in parts)
        names += parts if several else [name]
    cleaned = (clean_name(plain_text(name)) for name in names)
    return tuple(dict.fromkeys(name for name in cleaned if name))


def _keywords(entry: Mapping[str, Any]) -> tuple[str, ...]:
    terms = (_plain(tag, "term") for tag in entry.get("tags", ()))
    return tuple(dict.fromkeys(term for term in terms if term))[:_MOST_KEYWORDS]


def _plain(value: Mapping[str, Any], key: str = "value") -> str:
    """A field as one line of clean text, whether it came as text or as HTML."""
    text = storable(_string(value, key))
    kind = value.get(f"{key}_detail", value).get("type", "text/html")
    return clean_title(text if kind == "text/plain" else plain_text(text))


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST_ABSTRACT:
        return text
    return text[:_LONGEST_ABSTRACT].rpartition(" ")[0] + " …"


def _raw(entry: Mapping[str, Any]) -> str:
    names = ("id", "title", "link", "published", "updated", "summary", "author")
    return json.dumps({name: entry[name] for name in names if name in entry}, default=str)


def _string(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""


def _first(parse: Callable[[str], T | None], texts: Iterable[str]) -> T | None:
    return next((found for text in texts if (found := parse(text)) is not None), None)


def _validator(answer: Answer, name: str) -> str:
    """A header to send back as it came; what cannot be sent is not kept."""
    value = answer.headers.get(name, "")
    return value if value.isascii() and value.isprintable() else ""
