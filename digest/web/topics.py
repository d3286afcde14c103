"""The topics that can be had by mail: all of them, and the papers of one."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from functools import lru_cache
from threading import Lock

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import NotFound, TopicSyntaxError
from digest.models import Topic
from digest.storage import topics
from digest.storage.database import reading
from digest.storage.search import Found, Order, count_since, search, state_since
from digest.topics.language import Query, parse
from digest.web.feeds import Feed, answer
from digest.web.lists import PAGE, cards, page_number
from digest.web.view import Web

DAYS = 7  # of which it is said how many papers a topic had


class Weekly:
    """How many papers of the last days each topic matches, by slug.

    That takes a statement for each topic: they are asked anew only when a topic, or one of these
    papers, is another, which is once in hours.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._of: object = None
        self._found: dict[str, int] = {}

    def of(self, connection: Connection, known: list[Topic], since: date) -> dict[str, int]:
        """Without a topic whose filter cannot be read."""
        now = (since, known, state_since(connection, since))
        with self._lock:
            if self._of != now:
                queries = {topic.slug: query_of(topic) for topic in known}
                self._found = {
                    slug: count_since(connection, query, since)
                    for slug, query in queries.items()
                    if query is not None
                }
                self._of = now
            return self._found


def listing(web: Web, weekly: Weekly, request: Request) -> Response:
    """All of them, by name, and how much each brings."""
    with reading(web.engine) as connection:
        found = topics.all_topics(connection)
        recent = weekly.of(connection, found, _since(web))
    return web.page(request, "topics.html", topics=found, recent=recent)


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
        except NotFound:
            raise HTTPException(404) from None
        query = query_of(topic)
        if query is None:
            return topic, Found(hits=(), count=0)
        return topic, search(
            connection, query, order=Order.DATE, start=start, limit=PAGE, since=_since(web)
        )


@lru_cache(maxsize=1024)
def query_of(topic: Topic) -> Query | None:
    """What a topic's filter says; None where it cannot be read."""
    try:
        return parse(topic.query)
    except TopicSyntaxError:
        return None  # planning tells of it


def _since(web: Web) -> date:
    """The first of the last days."""
    return web.accounts.clock().astimezone(UTC).date() - timedelta(days=DAYS - 1)
