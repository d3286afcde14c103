"""The application: which address leads to which function, and what is said when one fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from digest.errors import TokenError, TokenExpired
from digest.web import WebSite, links, mails, paper, papers, robots, search, topics
from digest.web.feeds import TYPES
from digest.web.middleware import Edge, headers_for
from digest.web.probe import Probe
from digest.web.probe import routes as probes
from digest.web.view import Asset, Web, load_assets, load_templates

MAX_BODY = 16 * 1024  # bytes; no form of ours is longer
FOR_EVER = "public, max-age=31536000, immutable"


def create_app(
    *,
    engine: Engine,
    templates: Path,
    site: WebSite,
    secrets: Sequence[bytes],
    clock: Callable[[], datetime],
    inbox: Path | None,
    unsubscribe: Callable[[int], object],
    probe: Probe,
) -> Starlette:
    """The pages as an ASGI application. Raises TemplateError.

    `templates` holds `web/`; `secrets` are newest first; `inbox` is local mode's Maildir, else
    None; `unsubscribe` takes a subscriber's id, known or not, any number of times; `probe`
    answers monitoring.
    """
    web = Web(
        engine=engine,
        site=site,
        secrets=secrets,
        clock=clock,
        inbox=inbox,
        unsubscribe=unsubscribe,
        environments=load_templates(templates / "web"),
        assets=load_assets(templates / "web" / "static"),
    )
    routes = [
        Route("/", partial(papers.newest, web, "day")),
        Route("/week", partial(papers.newest, web, "week")),
        Route("/month", partial(papers.newest, web, "month")),
        Route("/papers/{period}", partial(papers.of_period, web)),
        Route("/p/{name:path}", partial(paper.page, web)),
        Route("/search", partial(search.page, web)),
        Route("/topics", partial(topics.listing, web)),
        Route("/topics/{slug}", partial(topics.page, web)),
        *_feeds("", partial(papers.feed, web)),
        *_feeds("/search", partial(search.feed, web)),
        *_feeds("/topics/{slug}", partial(topics.feed, web)),
        Route("/robots.txt", partial(robots.rules, web)),
        Route("/sitemap.xml", partial(robots.index, web)),
        Route("/sitemap-{month}.xml", partial(robots.sitemap, web)),
        Route("/u/{token}", partial(links.way_out, web), methods=["GET", "POST"]),
        Route("/settings/{token}", partial(links.settings, web)),
        Route("/inbox", partial(mails.listing, web)),
        Route("/inbox/", partial(mails.listing, web)),
        Route("/inbox/{key}", partial(mails.message, web)),
        Route("/inbox/{key}/html", partial(mails.document, web)),
        *probes(probe),
        *(Route(asset.path, partial(_asset, asset)) for asset in web.assets.values()),
    ]
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Edge),
            Middleware(RequestBodyLimitMiddleware, max_body_size=MAX_BODY),
        ],
        exception_handlers={
            HTTPException: partial(_refused, web),
            TokenError: partial(_bad_link, web),
            Exception: partial(_failed, web),
        },
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


def _feeds(path: str, feed: Callable[[str, Request], Response]) -> list[Route]:
    return [Route(f"{path}/feed.{kind}", partial(feed, kind)) for kind in TYPES]


def _asset(asset: Asset, _request: Request) -> Response:
    return Response(asset.content, media_type=asset.media_type, headers={"Cache-Control": FOR_EVER})


def _refused(web: Web, request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = web.page(request, "error.html", status=error.status_code, code=error.status_code)
    response.headers.update(error.headers or {})
    return response


def _bad_link(web: Web, request: Request, error: Exception) -> Response:
    expired = isinstance(error, TokenExpired)
    return web.page(request, "bad_link.html", status=410 if expired else 404, expired=expired)


def _failed(web: Web, request: Request, _error: Exception) -> Response:
    # Made outside of the middleware. The server logs the error itself, with its trace.
    response = web.page(request, "error.html", status=500, code=500)
    response.headers.update(headers_for(request.url.path))
    return response
