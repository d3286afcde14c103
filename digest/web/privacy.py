"""What is kept of readers, why and how long, and who runs this: said from the settings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from digest.web.view import Web


def page(web: Web, request: Request) -> Response:
    """The page that every page leads to."""
    return web.page(request, "privacy.html")
