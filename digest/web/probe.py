"""What a process says of itself to those who watch it: is it alive, is it ready, what it counts."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from digest.web.middleware import Edge
from digest.web.origin import from_here
from digest.web.questions import Seldom

READY_FRESH = 1.0  # seconds for which one answer serves all who ask whether it is ready
READY_PATIENCE = 2.0  # seconds for that answer: whoever checks health gives up after a few
SILENT = "The database does not answer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How the questions are answered; those of status and metrics end within seconds."""

    ready: Callable[[], Sequence[str]]  # what keeps it from its part, in sentences
    status: Callable[[], Mapping[str, Any]]
    metrics: Callable[[], bytes]  # in Prometheus' text format
    token: str = ""  # who brings it may see the counts; without one, this machine may


def routes(probe: Probe) -> list[Route]:
    """The addresses for monitoring."""
    ready = Seldom(probe.ready, fresh=READY_FRESH, share=0, patience=READY_PATIENCE)
    return [
        Route("/healthz", _alive),
        Route("/readyz", partial(_ready, ready)),
        Route("/status.json", partial(_status, probe)),
        Route("/metrics", partial(_metrics, probe)),
    ]


def probe_app(probe: Probe) -> Starlette:
    """These addresses alone, for a process without pages."""
    app = Starlette(routes=routes(probe), middleware=[Middleware(Edge)])
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


# None of them is run in Starlette's pool of threads: pages that wait for a database that hangs may
# have taken all of these.


async def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _ready(ready: Seldom[Sequence[str]], _request: Request) -> Response:
    try:
        problems = await ready.answer()
    except TimeoutError:
        problems = [SILENT]
    return PlainTextResponse("\n".join(problems) or "ok", 503 if problems else 200)


async def _status(probe: Probe, request: Request) -> Response:
    if refusal := _refusal(probe, request):
        return refusal
    try:
        status = await asyncio.to_thread(probe.status)
    except (SQLAlchemyError, TimeoutError):
        return PlainTextResponse(SILENT, 503)
    return Response(json.dumps(status, default=_plain), media_type="application/json")


async def _metrics(probe: Probe, request: Request) -> Response:
    if refusal := _refusal(probe, request):
        return refusal
    return Response(await asyncio.to_thread(probe.metrics), media_type=CONTENT_TYPE_LATEST)


def _refusal(probe: Probe, request: Request) -> Response | None:
    """What is said to one who may not see the counts; None to one who may."""
    if probe.token:
        given = request.headers.get("authorization", "")
        if hmac.compare_digest(given.encode("latin-1"), f"Bearer {probe.token}".encode()):
            return None
        return PlainTextResponse("Unauthorized", 401, {"WWW-Authenticate": "Bearer"})
    return None if from_here(request) else PlainTextResponse("Forbidden", 403)


def _plain(value: Any) -> Any:
    """What JSON does not know: our values, and times."""
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value.isoformat()
