"""The papers of a day, a week or a month, most voted first; and of the newest day as a feed."""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from digest.models import Paper
from digest.storage import listings
from digest.storage import topics as all_topics
from digest.storage.database import reading
from digest.web import periods
from digest.web.feeds import Feed, answer
from digest.web.lists import PAGE, cards, page_number
from digest.web.periods import Period
from digest.web.view import Web

BEST = 5  # papers of the week, beside the list


def newest(web: Web, kind: str, request: Request) -> Response:
    """The day, week or month in which the newest papers are."""
    with reading(web.engine) as connection:
        day = listings.latest_day(connection)
        if day is None:
            return web.page(request, "empty.html")
        return _show(web, request, connection, periods.containing(day, kind), front=True)


def of_period(web: Web, request: Request) -> Response:
    """The day, week or month that the path names."""
    period = periods.parse(request.path_params["period"])
    if period is None:
        raise HTTPException(404)
    with reading(web.engine) as connection:
        return _show(web, request, connection, period, front=False)


def chosen(web: Web, request: Request) -> Response:
    """To the day, week or month that was chosen; 404 for what is none, the newest for nothing."""
    written = request.query_params.get("on", "").strip()
    if not written:
        return newest(web, "day", request)
    period = periods.parse(written)
    if period is None:
        raise HTTPException(404)
    return RedirectResponse(f"/papers/{period.name}", 303)


def feed(web: Web, kind: str, request: Request) -> Response:
    """The papers of the newest day, as Atom or JSON."""
    with reading(web.engine) as connection:
        day = listings.latest_day(connection)
        found: list[Paper] = []
        if day is not None:
            period = periods.containing(day, "day")
            found = listings.papers_listed(connection, period.first, period.end, limit=PAGE)
    return answer(web, request, kind, Feed(title=web.site.name, path="/", papers=found))


def _show(
    web: Web, request: Request, connection: Connection, period: Period, *, front: bool
) -> Response:
    count, before, after = listings.around(connection, period.first, period.end)
    pages = max(1, -(-count // PAGE))
    page = page_number(request, pages=pages)
    start = (page - 1) * PAGE
    found = listings.papers_listed(connection, period.first, period.end, start=start, limit=PAGE)
    return web.page(
        request,
        "papers.html",
        status=200 if count else 404,
        period=period,
        front=front,
        papers=cards(web, request, found),
        start=start,
        count=count,
        page=page,
        pages=pages,
        previous=_period(before, period.kind),
        next=_period(after, period.kind),
        nearest=_nearest(period, before, after),
        days=listings.recent_days(connection),
        topics=all_topics.all_topics(connection),
        best=_best(connection, period),
    )


def _best(connection: Connection, period: Period) -> list[Paper]:
    """What most people voted for in the week around a day."""
    if period.kind != "day":
        return []
    week = periods.containing(period.first, "week")
    found = listings.papers_listed(connection, week.first, week.end, limit=BEST)
    return [paper for paper in found if paper.signals.get("upvotes", 0) > 0]


def _nearest(period: Period, before: date | None, after: date | None) -> Period | None:
    """Of those that have papers, the one before `period` or after it; in doubt the newer one."""
    if before and after:
        earlier = (period.first - before) < (after - period.end + timedelta(days=1))
        return _period(before if earlier else after, period.kind)
    return _period(before or after, period.kind)


def _period(day: date | None, kind: str) -> Period | None:
    return periods.containing(day, kind) if day else None
