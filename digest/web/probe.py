"""What a process says of itself to those who watch it: is it alive, is it ready, what it counts."""

from __future__ import annotations

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How the questions are answered."""

    ready: Callable[[], Sequence[str]]  # what keeps it from its part, in sentences
    status: Callable[[], Mapping[str, Any]]
    metrics: Callable[[], bytes]  # in Prometheus' text format
    token: str = ""  # who brings it may see the counts; without one, this machine may


def routes(probe: Probe) -> list[Route]:
    """The addresses for monitoring."""
    return [
        Route("/healthz", _alive),
        Route("/readyz", partial(_ready, probe)),
        Route("/status.json", partial(_status, probe)),
        Route("/metrics", partial(_metrics, probe)),
    ]


def probe_app(probe: Probe) -> Starlette:
    """These addresses alone, for a process without pages."""
    app = Starlette(routes=routes(probe), middleware=[Middleware(Edge)])
    app.router.redirect_slashes = False  # it would redirect to whatever Host says
    return app


def _alive(_request: Request) -> Response:
    return PlainTextResponse("ok")


def _ready(probe: Probe, _request: Request) -> Response:
    problems = probe.ready()
    return PlainTextResponse("\n".join(problems) or "ok", 503 if problems else 200)


def _status(probe: Probe, request: Request) -> Response:
    if refusal := _refusal(probe, request):
        return refusal
    try:
        status = probe.status()
    except SQLAlchemyError:
        return PlainTextResponse("The database does not answer.", 503)
    return Response(json.dumps(status, default=_plain), media_type="application/json")


def _metrics(probe: Probe, request: Request) -> Response:
    if refusal := _refusal(probe, request):
        return refusal
    return Response(probe.metrics(), media_type=CONTENT_TYPE_LATEST)


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
