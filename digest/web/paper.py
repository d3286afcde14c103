"""One paper: all that is known of it, with its votes over time."""

from __future__ import annotations

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from digest.errors import NotFound
from digest.models import Paper, Topic
from digest.papers.bibtex import bibtex
from digest.papers.identity import parse_arxiv_id
from digest.rendering.card import Entry, every_link, organisation, view
from digest.rendering.prose import one_line, shorten, web_url
from digest.storage import listings, papers
from digest.storage import topics as all_topics
from digest.storage.database import reading
from digest.storage.similar import similar
from digest.topics.match import Document, index, strength
from digest.web import chart
from digest.web.feeds import AUTHORS
from digest.web.forms import natural
from digest.web.periods import containing
from digest.web.topics import query_of
from digest.web.view import Web, paper_path

ABSTRACT = 20_000  # characters, which only a broken source has
CARD = 300  # characters of a social card's description
ALIKE = 5  # papers like it, beside it
BIB = ".bib"


def page(web: Web, request: Request) -> Response:
    """The paper that the path names by arXiv id or our own number; `.bib` after it is BibTeX.

    Another name of the same paper, one with a version or that of a merged one, leads there for
    ever.
    """
    name = request.path_params["name"]
    wanted = name.removesuffix(BIB)
    with reading(web.engine) as connection:
        paper = _find(connection, wanted)
        path = paper_path(paper.name) + (BIB if wanted != name else "")
        if path != f"/p/{name}":
            return RedirectResponse(path, 301)
        if wanted != name:
            return Response(bibtex(paper), media_type="application/x-bibtex")
        readings = listings.votes_over_time(connection, paper.id)
        alike = similar(connection, paper.id, limit=ALIKE)
        indexed = index(paper)
        matching = [one for one in all_topics.all_topics(connection) if _is_in(one, indexed)]
    language = web.language(request)
    day = paper.listed_at.date() if paper.listed_at else None
    return web.page(
        request,
        "paper.html",
        paper=paper,
        view=view(Entry(paper=paper), language=language),
        by_daily="huggingface" in paper.sources and not web.site.sample,
        authors=[one_line(author) for author in paper.authors[:AUTHORS]],
        more_authors=max(0, len(paper.authors) - AUTHORS),
        about=[
            one_line(text)
            for text in (organisation(paper.organisation), paper.venue, paper.comment)
            if text
        ],
        categories=[one_line(name) for name in paper.categories],
        abstract=shorten(one_line(paper.abstract), ABSTRACT),
        summary=one_line(paper.summary),
        description=shorten(one_line(paper.summary or paper.abstract), CARD),
        links=every_link(paper, language=language),
        picture=_picture(paper),
        topics=matching,
        alike=alike,
        chart=chart.line(readings),
        bibtex=bibtex(paper),
        listed=containing(day, "day") if day else None,
    )


def _find(connection: Connection, name: str) -> Paper:
    try:
        if (number := natural(name)) and name[0] != "0":
            return papers.get(connection, number)
        if found := parse_arxiv_id(name):
            return listings.by_key(connection, "arxiv", found[0])
    except NotFound:
        pass
    raise HTTPException(404)


def _picture(paper: Paper) -> str:
    """What a social card may show: crawlers of other sites fetch it, never who reads the page."""
    address = web_url(paper.links.get("thumbnail", ""))
    return address if address.startswith("https://") else ""


def _is_in(topic: Topic, document: Document) -> bool:
    query = query_of(topic)
    return query is not None and strength(query, document) is not None
