"""The papers of a day, most voted first, with the days around it."""

from __future__ import annotations

from datetime import date

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.rendering.card import Entry, view
from digest.rendering.prose import plain
from digest.storage import days
from digest.storage.database import reading
from digest.web.view import Web

PAGE = 50  # papers; keeps a page well below 100 KB


def today(web: Web, request: Request) -> Response:
    """The newest day that has papers."""
    with reading(web.engine) as connection:
        day = days.latest_day(connection)
    if day is None:
        return web.page(request, "empty.html")
    return _show(web, request, day, front=True)


def of_day(web: Web, request: Request) -> Response:
    """The day that the path names as YYYY-MM-DD."""
    written = request.path_params["date"]
    try:
        day = date.fromisoformat(written)
    except ValueError:
        raise HTTPException(404) from None
    if day.isoformat() != written:  # a page has one address
        raise HTTPException(404)
    return _show(web, request, day, front=False)


def _show(web: Web, request: Request, day: date, *, front: bool) -> Response:
    with reading(web.engine) as connection:
        count = days.count_on(connection, day)
        pages = max(1, -(-count // PAGE))
        page = _page(request.query_params.get("page", "1"), pages=pages)
        start = (page - 1) * PAGE
        return web.page(
            request,
            "papers.html",
            status=200 if count else 404,
            day=day,
            front=front,
            papers=[
                (paper, view(Entry(paper=paper), language=web.language))
                for paper in days.papers_on(connection, day, start=start, limit=PAGE)
            ],
            plain=plain,
            start=start,
            count=count,
            page=page,
            pages=pages,
            previous=days.latest_day(connection, before=day),
            next=days.next_day(connection, day),
            days=days.recent_days(connection),
        )


def _page(written: str, *, pages: int) -> int:
    if not (written.isascii() and written.isdigit() and len(written) < 6):
        raise HTTPException(404)
    page = int(written)
    if not 1 <= page <= pages:
        raise HTTPException(404)
    return page
