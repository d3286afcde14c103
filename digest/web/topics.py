"""The topics that can be had by mail: all of them, and the papers of one."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import NotFound, TopicSyntaxError
from digest.models import Topic
from digest.storage import topics
from digest.storage.database import reading
from digest.storage.search import Found, Order, search
from digest.topics.language import parse
from digest.web.feeds import Feed, answer
from digest.web.lists import PAGE, cards, page_number
from digest.web.view import Web

log = logging.getLogger(__name__)


def listing(web: Web, request: Request) -> Response:
    """All of them, by name."""
    with reading(web.engine) as connection:
        found = topics.all_topics(connection)
    return web.page(request, "topics.html", topics=found)


def page(web: Web, request: Request) -> Response:
    """The newest papers that a topic matches."""
    number = page_number(request)
    topic, found = _found(web, request, start=(number - 1) * PAGE)
    pages = max(1, -(-found.count // PAGE))
    return web.page(
        request,
        "topic.html",
        topic=topic,
        found=found,
        papers=cards(web, request, found.hits),
        page=page_number(request, pages=pages),
        pages=pages,
        start=(number - 1) * PAGE,
    )


def feed(web: Web, kind: str, request: Request) -> Response:
    """The same as a feed."""
    topic, found = _found(web, request, start=0)
    whole = Feed(
        title=f"{topic.name} · {web.site.name}",
        path=f"/topics/{topic.slug}",
        papers=found.papers,
    )
    return answer(web, request, kind, whole)


def _found(web: Web, request: Request, *, start: int) -> tuple[Topic, Found]:
    with reading(web.engine) as connection:
        try:
            topic = topics.get(connection, request.path_params["slug"])
            query = parse(topic.query)
        except NotFound:
            raise HTTPException(404) from None
        except TopicSyntaxError:
            return topic, Found(hits=(), count=0)  # planning tells of it
        return topic, search(connection, query, order=Order.DATE, start=start, limit=PAGE)
