"""What crawlers are told: where they may look, and which pages there are (sitemaps.org)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from xml.etree import ElementTree as ET

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from digest.storage import listings
from digest.storage.database import reading
from digest.web import periods
from digest.web.caching import conditional
from digest.web.middleware import TOKENS
from digest.web.view import Web, paper_path

FRESH = 3600  # seconds
MOST = 49_000  # of one sitemap's papers: it may name 50,000 pages
CLOSED = (*(f"/{name}/" for name in TOKENS.split("|")), "/inbox", "/search")
_SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"


def rules(web: Web, _request: Request) -> Response:
    """robots.txt (RFC 9309)."""
    closed = "".join(f"Disallow: {path}\n" for path in CLOSED)
    said = f"{closed}\nSitemap: {web.site.base_url}/sitemap.xml\n"
    return PlainTextResponse(
        f"User-agent: *\n{said if web.site.public else 'Disallow: /'}\n",
        headers={"Cache-Control": f"public, max-age={FRESH}"},
    )


def index(web: Web, request: Request) -> Response:
    """The sitemaps, one for each month that has papers."""
    with reading(web.engine) as connection:
        months = listings.months(connection)
    base = web.site.base_url
    return _answer(
        request,
        "sitemapindex",
        "sitemap",
        ((f"{base}/sitemap-{month.isoformat()[:7]}.xml", last) for month, last in months),
    )


def sitemap(web: Web, request: Request) -> Response:
    """A month's days and papers."""
    month = periods.parse(request.path_params["month"])
    if month is None or month.kind != "month":
        raise HTTPException(404)
    with reading(web.engine) as connection:
        papers = listings.names_listed(connection, month.first, month.end, limit=MOST)
    if not papers:
        raise HTTPException(404)
    days = [month.first + timedelta(days=day) for day in range((month.end - month.first).days)]
    listed = {day for _, day in papers}
    base = web.site.base_url
    pages = [(f"{base}/papers/{day.isoformat()}", day) for day in days if day in listed]
    pages += [(base + paper_path(name), day) for name, day in papers]
    return _answer(request, "urlset", "url", pages)


def _answer(request: Request, whole: str, one: str, places: Iterable[tuple[str, date]]) -> Response:
    root = ET.Element(whole, xmlns=_SITEMAP)
    for address, changed in places:
        place = ET.SubElement(root, one)
        ET.SubElement(place, "loc").text = address
        ET.SubElement(place, "lastmod").text = changed.isoformat()
    content: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return conditional(request, Response(content, media_type="application/xml"), seconds=FRESH)
