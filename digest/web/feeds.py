"""Lists of papers as feeds: Atom (RFC 4287) and JSON Feed 1.1, with ids that stay the same."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

from starlette.requests import Request
from starlette.responses import Response

from digest.models import Paper
from digest.rendering.prose import one_line, web_url
from digest.web.caching import conditional
from digest.web.view import Web, paper_path

FRESH = 300  # seconds for which a reader's program need not ask again
TYPES = {"atom": "application/atom+xml", "json": "application/feed+json"}
AUTHORS = 1_000  # that are named; a collaboration can have more, and a page ends somewhere
_ATOM = "http://www.w3.org/2005/Atom"
_EVER = datetime(1970, 1, 1, tzinfo=UTC)
# XML 1.0, 2.2: these stand in no document, however they are written.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A list of papers, and the page that shows it."""

    title: str
    path: str  # of the page
    papers: Sequence[Paper]
    id: str = ""  # by which it is known for ever; its page's path where none is given
    private: bool = False  # nobody between may keep it


def answer(web: Web, request: Request, kind: str, feed: Feed) -> Response:
    """The feed as a response; 304 to who has it already."""
    base = web.site.base_url
    here = f"{base}{request.url.path}"
    if request.url.query:
        here += f"?{request.url.query}"
    make = atom if kind == "atom" else json_feed
    content = make(feed, base=base, here=here, public=web.site.public)
    response = Response(content, media_type=TYPES[kind])
    return conditional(request, response, seconds=FRESH, private=feed.private)


def atom(feed: Feed, *, base: str, here: str, public: bool) -> bytes:
    """The feed as Atom; where papers have `public` pages it leads there, else to their source."""
    root = ET.Element("feed", xmlns=_ATOM)
    _add(root, "title", feed.title)
    _add(root, "id", _id(base, feed.id or feed.path.strip("/") or "papers"))
    _add(root, "updated", _instant(max((_updated(paper) for paper in feed.papers), default=_EVER)))
    _add(root, "link", rel="self", type=TYPES["atom"], href=here)
    _add(root, "link", rel="alternate", type="text/html", href=base + feed.path)
    for paper in feed.papers:
        entry = ET.SubElement(root, "entry")
        _add(entry, "title", one_line(paper.title))
        _add(entry, "id", _id(base, f"paper/{paper.id}"))
        _add(entry, "updated", _instant(_updated(paper)))
        if paper.published_at:
            _add(entry, "published", _instant(paper.published_at))
        url = web_url(paper.url)
        if public:
            page = base + paper_path(paper.name)
            _add(entry, "link", rel="alternate", type="text/html", href=page)
            if url:
                _add(entry, "link", rel="related", href=url)
        else:  # RFC 4287, 4.1.2: without content an entry leads somewhere
            _add(entry, "link", rel="alternate", href=url or base + feed.path)
        for author in paper.authors[:AUTHORS]:
            _add(ET.SubElement(entry, "author"), "name", one_line(author) or "?")
        if not paper.authors:  # RFC 4287, 4.1.2: an entry has an author, or its feed has
            _add(ET.SubElement(entry, "author"), "name", one_line(paper.organisation) or "?")
        for category in paper.categories:
            _add(entry, "category", term=one_line(category))
        _add(entry, "summary", one_line(paper.summary or paper.abstract))
    whole: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return whole


def json_feed(feed: Feed, *, base: str, here: str, public: bool) -> bytes:
    """The feed as JSON Feed 1.1 (jsonfeed.org); `public` as for Atom."""
    items: list[dict[str, Any]] = [
        {
            "id": _id(base, f"paper/{paper.id}"),
            "url": base + paper_path(paper.name) if public else web_url(paper.url),
            "external_url": web_url(paper.url),
            "title": one_line(paper.title),
            "content_text": one_line(paper.abstract or paper.summary),
            "summary": one_line(paper.summary),
            "date_published": _instant(paper.published_at) if paper.published_at else "",
            "date_modified": _instant(_updated(paper)),
            "authors": [
                {"name": name} for author in paper.authors[:AUTHORS] if (name := one_line(author))
            ],
            "tags": [name for category in paper.categories if (name := one_line(category))],
        }
        for paper in feed.papers
    ]
    whole = {
        "version": "https://jsonfeed.org/version/1.1",
        "title": feed.title,
        "home_page_url": base + feed.path,
        "feed_url": here,
        # The one thing beside its id that an item has to have is what it says, be it nothing.
        "items": [
            {name: value for name, value in item.items() if value or name == "content_text"}
            for item in items
        ],
    }
    return json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace")


def _id(base: str, what: str) -> str:
    """A tag URI (RFC 4151): the same for ever, wherever the pages move to by path or port."""
    return f"tag:{urlsplit(base).hostname},2026:{what}"


def _updated(paper: Paper) -> datetime:
    return paper.listed_at or _EVER


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _add(parent: ET.Element, name: str, text: str = "", **attributes: str) -> None:
    cleaned = {key: _clean(value) for key, value in attributes.items()}
    ET.SubElement(parent, name, cleaned).text = _clean(text) or None


def _clean(text: str) -> str:
    return _NO_XML.sub("", text)
