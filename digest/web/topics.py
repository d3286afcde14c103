"""The topics that can be had by mail."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from digest.storage import topics
from digest.storage.database import reading
from digest.web.view import Web


def listing(web: Web, request: Request) -> Response:
    """All of them, by name."""
    with reading(web.engine) as connection:
        found = topics.all_topics(connection)
    return web.page(request, "topics.html", topics=found)
