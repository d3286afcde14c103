"""A digest in the browser as it was sent, without a link that is its reader's alone."""

from __future__ import annotations

import re
from typing import Any

import lxml.html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from digest.rendering import compose
from digest.storage import shown
from digest.storage.database import reading
from digest.storage.shown import Shown
from digest.tokens import SHAPE, Purpose, digest_of
from digest.web.middleware import TOKENS
from digest.web.view import MAIL_POLICY, Web

# Of these the page keeps nothing: they lead to the reader's own pages. Whatever the host: the
# house may have had another name when the digest was made.
PERSONAL = re.compile(rf"/({TOKENS})/{SHAPE.pattern}")


def page(web: Web, request: Request) -> Response:
    """The digest in a frame, under our own head, to be passed on."""
    found = _found(web, request)
    return web.page(
        request,
        "digest.html",
        subject=found.personal["subject"],
        token=request.path_params["token"],
    )


def document(web: Web, request: Request) -> Response:
    """The frozen papers, order, reasons and counts, without a personal link."""
    found = _found(web, request)
    assert found.skeleton is not None
    # Why somebody gets it, and from when on, is theirs to tell.
    html, _ = compose(found.skeleton, found.cards, {**found.personal, "why": ""})
    return HTMLResponse(
        _impersonal(html),
        headers={"Content-Security-Policy": MAIL_POLICY},
    )


def _found(web: Web, request: Request) -> Shown:
    opened = web.opened(request, Purpose.VIEW)
    _, slot = digest_of(opened.subject)
    with reading(web.engine) as connection:
        found = shown.load(connection, opened.person.id, slot)
    if found is None or found.skeleton is None or not found.personal:
        raise HTTPException(410)
    return found


def _impersonal(html: str) -> str:
    """The document without the links that are one reader's; its others open in a new tab."""
    root: Any = lxml.html.document_fromstring(html)
    for link in root.xpath("//a[@href]"):
        if PERSONAL.search(str(link.get("href"))):
            link.drop_tree()
    root.head.insert(0, root.makeelement("base", target="_blank"))
    for empty in root.xpath("//p[contains(concat(' ', @class, ' '), ' acts ')]"):
        empty.drop_tree()
    whole: str = lxml.html.tostring(root, encoding="unicode", doctype="<!DOCTYPE html>")
    return whole
