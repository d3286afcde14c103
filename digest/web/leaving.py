"""The way out: one button, or a mail program's one click; and an hour to take it back."""

from __future__ import annotations

from datetime import date

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import InputError
from digest.pipeline import accounts
from digest.pipeline.accounts import Instead, Why
from digest.pipeline.accounts.leaving import BY_LINK, BY_ONE_CLICK
from digest.tokens import Purpose, verify
from digest.web.forms import fields, is_ours, text
from digest.web.view import Web, bad_link


async def way_out(web: Web, request: Request) -> Response:
    """GET: the page with the button, the same for everybody. POST: unsubscribe.

    A mail program's one click (RFC 8058) comes from anywhere, without cookies, in either form
    encoding, and is answered without a redirect, whoever is meant. The button's form has a field
    of its own and must be ours.
    """
    house = web.accounts
    token = request.path_params["token"]
    claim = verify(token, Purpose.UNSUBSCRIBE, secrets=house.secrets, now=house.clock())
    if request.method != "POST":
        return await run_in_threadpool(web.page, request, "unsubscribe.html")
    form = await fields(request, most=20)
    one_click = form.get("List-Unsubscribe") == "One-Click"
    if not one_click:
        if form.get("confirm") != "yes":
            raise HTTPException(400)
        if not is_ours(request, base_url=web.site.base_url):
            raise HTTPException(403)
    detail = BY_ONE_CLICK if one_click else BY_LINK
    return await run_in_threadpool(_left, web, request, claim.subject, detail)


def _left(web: Web, request: Request, subscriber_id: int, detail: str) -> Response:
    left = accounts.leave(web.accounts, subscriber_id, detail=detail)
    return web.page(request, "left.html", undo=left.undo, errors={}, said=False)


def offer(web: Web, request: Request) -> Response:
    """What can still be done, for who opens that page again."""
    web.opened(request, Purpose.UNDO)
    token = request.path_params["token"]
    return web.page(request, "left.html", undo=token, errors={}, said=False)


def undo(web: Web, request: Request, form: FormData) -> Response:
    """Take it back, pause or have it weekly instead; or say why."""
    opened = web.opened(request, Purpose.UNDO)
    what, token = text(form, "what"), request.path_params["token"]
    if what == "say":
        try:
            why = Why(text(form, "why") or Why.OTHER)
        except ValueError:
            raise HTTPException(400) from None
        said = accounts.explain(
            web.accounts, opened.subject, why=why, comment=text(form, "comment", most=2_000)
        )
        return web.page(request, "left.html", undo=token, errors={}, said=said)
    try:
        back = accounts.undo(web.accounts, opened.subject, instead=_instead(what, form))
    except (InputError, ValueError):
        errors = {"until": web.language(request).gettext("Choose a day within the next year.")}
        return web.page(request, "left.html", status=422, undo=token, errors=errors, said=False)
    if not back:
        return bad_link(web, request, expired=True)
    return web.page(request, "back.html", what=what)


def _instead(what: str, form: FormData) -> Instead | None:
    """ValueError for a date that is none."""
    if what == "undo":
        return None
    if what == "weekly":
        return Instead(weekly=True)
    if what == "pause":
        return Instead(pause_until=date.fromisoformat(text(form, "until")))
    raise HTTPException(400)
