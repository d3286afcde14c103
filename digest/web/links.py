"""What the links in a mail lead to: the way out, and what is set. Only a POST changes anything."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import NotFound, TokenError, TokenExpired
from digest.models import Status
from digest.storage import subscribers
from digest.storage import topics as all_topics
from digest.storage.database import reading
from digest.suppression import masked
from digest.tokens import Purpose, sign
from digest.web.forms import is_ours
from digest.web.view import Web


async def way_out(web: Web, request: Request) -> Response:
    """GET: the page with the button, the same for everybody. POST: unsubscribe.

    A mail program's one click (RFC 8058) comes from anywhere, without cookies, in either form
    encoding, and is answered without a redirect, whoever is meant. The button's form has a field
    of its own and must be ours.
    """
    subscriber_id = web.subject(request, Purpose.UNSUBSCRIBE)
    if request.method != "POST":
        return await run_in_threadpool(web.page, request, "unsubscribe.html")
    form = await request.form(max_files=0, max_fields=20)
    if form.get("List-Unsubscribe") != "One-Click":
        if form.get("confirm") != "yes":
            raise HTTPException(400)
        if not is_ours(request, base_url=web.site.base_url):
            raise HTTPException(403)
    return await run_in_threadpool(_left, web, request, subscriber_id)


def _left(web: Web, request: Request, subscriber_id: int) -> Response:
    web.unsubscribe(subscriber_id)
    return web.page(request, "left.html")


def settings(web: Web, request: Request) -> Response:
    """What is set for a subscriber, in words."""
    claim = web.claim(request, Purpose.PREFERENCES)
    subscriber_id = claim.subject
    with reading(web.engine) as connection:
        try:
            subscriber = subscribers.get(connection, subscriber_id)
        except NotFound as error:
            raise TokenError("This link's subscriber is not here.") from error
        topics = all_topics.followed_by(connection, subscriber_id)
    if subscriber.status is Status.ERASED:
        raise TokenError("This link's subscriber is erased.")
    if subscriber.generation != claim.generation:
        raise TokenExpired("This link was replaced by newer ones.")
    return web.page(
        request,
        "settings.html",
        subscriber=subscriber,
        address=masked(subscriber.address),
        topics=topics,
        way_out=sign(Purpose.UNSUBSCRIBE, subscriber_id, secrets=web.secrets, now=web.clock()),
    )
