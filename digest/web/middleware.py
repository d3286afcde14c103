"""What is true of every answer: its protective headers, and one line in the log."""

from __future__ import annotations

import logging
import re
import time
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " frame-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
# Not `no-referrer`: browsers then send `Origin: null` with our own forms.
PROTECTIVE = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
PRIVATE = {"Cache-Control": "no-store", "X-Robots-Tag": "noindex"}
# Their next part is a token.
TOKENS = "u|me|settings|confirm|undo|f|v|saved|change|export|erase|choose"
PRIVATE_PATH = re.compile(rf"/({TOKENS}|inbox|status\.json|metrics)(/|$)")
# Machines ask for these every few seconds: at the usual level they would be most of the log.
POLLED = ("/healthz", "/readyz", "/status.json", "/metrics")
# What follows these names is a token; elsewhere, whatever is long enough to be one.
SECRET = re.compile(rf"^/({TOKENS})/.+|[A-Za-z0-9_-]{{32,}}", re.DOTALL)

log = logging.getLogger(__name__)


def headers_for(path: str) -> dict[str, str]:
    """The headers of an answer at `path`, unless the handler sets its own."""
    return PROTECTIVE | (PRIVATE if PRIVATE_PATH.match(path) else {})


def redacted(path: str) -> str:
    """`path` for a log: tokens taken out, everything unprintable quoted."""
    shown = SECRET.sub(lambda found: f"/{found[1]}/<token>" if found[1] else "<token>", path)
    return quote(shown, safe="/<>.:@,=+~!$&'()*;-_")


class Edge:
    """Adds the headers and writes the access log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in headers_for(scope["path"]).items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        finally:
            path, spent = redacted(scope["path"]), (time.perf_counter() - began) * 1000
            log.log(
                logging.DEBUG if path in POLLED else logging.INFO,
                "%s %s %d in %.0f ms",
                scope["method"],
                path,
                status,
                spent,
                extra={"action": "web.request", "path": path, "status": status},
            )
