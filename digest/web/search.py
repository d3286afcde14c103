"""Search over all papers: a page of what was found, and the same search as a feed."""

from __future__ import annotations

from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import NotFound
from digest.interests import Refusal, read_search
from digest.papers.identity import named_in
from digest.storage.database import reading
from digest.storage.listings import by_key
from digest.storage.search import Found, Hit, Order, search
from digest.storage.suggestions import suggest
from digest.topics.box import Said, read
from digest.web.feeds import Feed, answer
from digest.web.lists import PAGE, cards, page_number
from digest.web.view import Web

FEW = 3  # results, with which somebody may have mistyped


def page(web: Web, request: Request) -> Response:
    """What the box's text finds, read as a filter or else as plain words; never an error.

    Text that names a paper, by its arXiv id, its DOI or the address of its page, finds that paper.
    """
    asked = read(request.query_params.get("q", ""))
    order = _order(request)
    found, named, meant = Found(hits=(), count=0), None, None
    if asked.query is not None:
        with reading(web.engine) as connection:
            number = page_number(request)
            named = _named(connection, asked.text)
            if named is not None:
                found = Found(hits=(named,), count=1)
            else:
                found = search(
                    connection, asked.query, order=order, start=(number - 1) * PAGE, limit=PAGE
                )
            if found.count <= FEW and named is None:
                meant = suggest(connection, asked.query, found=found.count)
    pages = max(1, -(-found.count // PAGE))
    number = page_number(request, pages=pages)
    language, mailed = web.language(request), read_search(asked.canonical)
    return web.page(
        request,
        "search.html",
        asked=asked,
        refusal=mailed.said(language.gettext) if isinstance(mailed, Refusal) else "",
        named=named is not None,
        plain_words=Said.PLAIN in asked.said and named is None,
        cut=Said.CUT in asked.said and named is None,
        found=found,
        meant=meant,
        papers=cards(web, request, found.hits),
        order=order,
        page=number,
        pages=pages,
        start=(number - 1) * PAGE,
        address=lambda **more: _address("/search", asked.text, order, **more),
        feed=lambda kind: _address(f"/search/feed.{kind}", asked.text, Order.RELEVANCE),
    )


def feed(web: Web, kind: str, request: Request) -> Response:
    """The newest papers that are found."""
    asked = read(request.query_params.get("q", ""))
    if asked.query is None:
        raise HTTPException(404)
    with reading(web.engine) as connection:
        found = search(connection, asked.query, order=Order.DATE, limit=PAGE)
    path = _address("/search", asked.text, Order.RELEVANCE)
    whole = Feed(title=f"{asked.text} · {web.site.name}", path=path, papers=found.papers)
    return answer(web, request, kind, whole)


def _named(connection: Connection, text: str) -> Hit | None:
    key = named_in(text)
    if key is None:
        return None
    try:
        return Hit(paper=by_key(connection, *key), marks=())
    except NotFound:
        return None


def _order(request: Request) -> Order:
    try:
        return Order(request.query_params.get("by", Order.RELEVANCE))
    except ValueError:
        raise HTTPException(404) from None


def _address(path: str, text: str, order: Order, **more: object) -> str:
    values: dict[str, object] = {"q": text}
    if order is not Order.RELEVANCE:
        values["by"] = order
    return f"{path}?{urlencode({**values, **more})}"
