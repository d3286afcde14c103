"""The local inbox to look at: the list, and each mail as its reader would see it."""

from __future__ import annotations

import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from digest import inbox
from digest.errors import NotFound
from digest.web.view import MAIL_POLICY, Web

PAGE = 50  # mails
SHOWN = 200_000  # bytes of the source; a page, not a download
VIEWS = ("html", "text", "source", "headers")
WIDTHS = ("desktop", "phone")  # 700 and 390 px


def listing(web: Web, request: Request) -> Response:
    """All mails, newest first."""
    path = _path(web, request)
    count = len(inbox.keys(path))
    pages = max(1, -(-count // PAGE))
    written = request.query_params.get("page", "1")
    if written not in {str(page) for page in range(1, pages + 1)}:
        raise HTTPException(404)
    page = int(written)
    mails = inbox.messages(path, start=(page - 1) * PAGE, limit=PAGE)
    return web.page(request, "inbox.html", messages=mails, page=page, pages=pages)


def message(web: Web, request: Request) -> Response:
    """One mail; `?view=` and `?width=` say how."""
    path = _path(web, request)
    key, mail = _read(path, request)
    views = [view for view in VIEWS if getattr(mail, view)]
    view = request.query_params.get("view", views[0])
    width = request.query_params.get("width", WIDTHS[0])
    if view not in views or width not in WIDTHS:
        raise HTTPException(404)
    order = inbox.keys(path)
    place = order.index(key)
    return web.page(
        request,
        "mail.html",
        mail=mail,
        view=view,
        views=views,
        width=width,
        source=mail.source[:SHOWN].decode("utf-8", "replace"),
        cut=len(mail.source) > SHOWN,
        newer=order[place - 1] if place else None,
        older=order[place + 1] if place + 1 < len(order) else None,
    )


def document(web: Web, request: Request) -> Response:
    """A mail's HTML as it is, for the sandboxed frame; its links open in a new tab."""
    _, mail = _read(_path(web, request), request)
    if not mail.html:
        raise HTTPException(404)
    content = re.sub(
        r"<head[^>]*>", r'\g<0><base target="_blank">', mail.html, count=1, flags=re.IGNORECASE
    )
    return HTMLResponse(content, headers={"Content-Security-Policy": MAIL_POLICY})


def _path(web: Web, request: Request) -> Path:
    path = web.inbox_of(request)
    if path is None:
        raise HTTPException(404)
    return path


def _read(path: Path, request: Request) -> tuple[str, inbox.Mail]:
    key = request.path_params["key"]
    try:
        return key, inbox.read(path, key)
    except NotFound:
        raise HTTPException(404) from None
