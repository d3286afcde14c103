"""The application: which address leads to which function, and what is said when one fails."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from digest.errors import TokenError, TokenExpired
from digest.pipeline.accounts import Accounts
from digest.pipeline.drafting import Plan
from digest.web import (
    WebSite,
    digests,
    joining,
    leaving,
    mails,
    opinions,
    paper,
    papers,
    preferences,
    privacy,
    robots,
    search,
    tickets,
    topics,
)
from digest.web.feeds import TYPES
from digest.web.forms import posted
from digest.web.middleware import Edge, headers_for
from digest.web.probe import Probe
from digest.web.probe import routes as probes
from digest.web.view import Asset, Web, bad_link, load_assets, load_templates

Page = Callable[[Web, Request], Response]
Action = Callable[[Web, Request, FormData], Response]
MAX_BODY = 64 * 1024  # bytes; no form of ours is longer
FOR_EVER = "public, max-age=31536000, immutable"


def create_app(
    *, accounts: Accounts, plan: Plan, templates: Path, site: WebSite, probe: Probe
) -> Starlette:
    """The pages as an ASGI application. Raises TemplateError.

    `plan` is how previews are made; `templates` holds `web/`; `probe` answers monitoring.
    """
    web = Web(
        accounts=accounts,
        plan=plan,
        site=site,
        environments=load_templates(templates / "web"),
        assets=load_assets(templates / "web" / "static"),
    )
    routes = [
        *(_public(web) if site.public else [Route("/", partial(joining.box, web))]),
        Route("/robots.txt", partial(robots.rules, web)),
        _form("/subscribe", web, joining.box, joining.subscribe),
        _form("/choose/{token}", web, joining.offer, joining.choose),
        _form("/confirm/{token}", web, joining.invitation, joining.confirm),
        _form("/me", web, joining.lost, joining.lost_link),
        Route("/u/{token}", partial(leaving.way_out, web), methods=["GET", "POST"]),
        _form("/undo/{token}", web, leaving.offer, leaving.undo),
        _form("/me/{token}", web, preferences.page, preferences.save),
        _form("/settings/{token}", web, preferences.page, preferences.save),
        _form("/f/{token}/{item}", web, opinions.page, opinions.give),
        _form("/f/{token}/{item}/{action}", web, opinions.page, opinions.give),
        Route("/v/{token}", partial(digests.page, web)),
        Route("/v/{token}/mail", partial(digests.document, web)),
        Route("/saved/{token}", partial(opinions.saved, web)),
        *_feeds("/saved/{token}", partial(opinions.feed, web)),
        _form("/change/{token}", web, tickets.change_page, tickets.change),
        _form("/export/{token}", web, tickets.export_page, tickets.export),
        _form("/erase/{token}", web, tickets.erase_page, tickets.erase),
        Route("/privacy", partial(privacy.page, web)),
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
            ClientDisconnect: _gone,
            Exception: partial(_failed, web),
        },
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


def _public(web: Web) -> list[Route]:
    """What everybody may read."""
    return [
        Route("/", partial(papers.newest, web, "day")),
        Route("/week", partial(papers.newest, web, "week")),
        Route("/month", partial(papers.newest, web, "month")),
        Route("/papers", partial(papers.chosen, web)),
        Route("/papers/{period}", partial(papers.of_period, web)),
        Route("/p/{name:path}", partial(paper.page, web)),
        Route("/search", partial(search.page, web)),
        Route("/topics", partial(topics.listing, web, topics.Weekly())),
        Route("/topics/{slug}", partial(topics.page, web)),
        *_feeds("", partial(papers.feed, web)),
        *_feeds("/search", partial(search.feed, web)),
        *_feeds("/topics/{slug}", partial(topics.feed, web)),
        Route("/sitemap.xml", partial(robots.index, web)),
        Route("/sitemap-{month}.xml", partial(robots.sitemap, web)),
    ]


def _form(path: str, web: Web, show: Page, act: Action) -> Route:
    """A page with a form: GET shows it, POST acts and shows what became of it."""

    async def answer(request: Request) -> Response:
        if request.method != "POST":
            return await run_in_threadpool(show, web, request)
        form = await posted(request, base_url=web.site.base_url)
        return await run_in_threadpool(act, web, request, form)

    return Route(path, answer, methods=["GET", "POST"])


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
    return bad_link(web, request, expired=expired)


def _gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # for the log: who sent half a form hears nothing


def _failed(web: Web, request: Request, _error: Exception) -> Response:
    # Made outside of the middleware. The server logs the error itself, with its trace.
    response = web.page(request, "error.html", status=500, code=500)
    response.headers.update(headers_for(request.url.path))
    return response
