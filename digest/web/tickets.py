"""Pages behind links that are mailed for one use: a change of address, an export, an erasure."""

from __future__ import annotations

import json

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import TokenExpired
from digest.pipeline import accounts
from digest.suppression import masked
from digest.tokens import Purpose
from digest.web.view import Web


def change_page(web: Web, request: Request) -> Response:
    """Whether the digest is to go to another address."""
    opened = web.opened(request, Purpose.CHANGE)
    return web.page(request, "change.html", address=masked(opened.person.address))


def change(web: Web, request: Request, _form: FormData) -> Response:
    """One of the two addresses agrees."""
    opened = web.opened(request, Purpose.CHANGE)
    moved = accounts.change(web.accounts, opened.subject)
    return web.page(request, "changed.html", moved=moved)


def export_page(web: Web, request: Request) -> Response:
    """A button that hands out what is held."""
    web.opened(request, Purpose.EXPORT)
    return web.page(request, "export.html")


def export(web: Web, request: Request, _form: FormData) -> Response:
    """All that is held about somebody, as a file."""
    opened = web.opened(request, Purpose.EXPORT)
    held = accounts.export(web.accounts, opened.subject)
    if held is None:
        raise TokenExpired("This link was used.")
    content = json.dumps(held, ensure_ascii=False, indent=2, default=str)
    return Response(
        content.encode("utf-8", "replace"),
        media_type="application/json",
        headers={"Content-Disposition": 'attachment; filename="paper-digest.json"'},
    )


def erase_page(web: Web, request: Request) -> Response:
    """What is about to be forgotten, and a button."""
    opened = web.opened(request, Purpose.ERASE)
    return web.page(request, "erase.html", done=opened.used)


def erase(web: Web, request: Request, _form: FormData) -> Response:
    """Forget somebody."""
    opened = web.opened(request, Purpose.ERASE)
    accounts.erase_by(web.accounts, opened.subject)
    return web.page(request, "erase.html", done=True)
