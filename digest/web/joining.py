"""Becoming a reader: the box, the mail's link, and the way back to one's preferences.

The answers to the box tell nobody who subscribes; see `digest.pipeline.accounts.asking`.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import randbits

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from digest.errors import AddressError
from digest.interests import read_search
from digest.models import Status, Topic
from digest.pipeline import accounts
from digest.pipeline.accounts import Refusal, settings_link
from digest.storage import subscribers, topics
from digest.storage.database import reading
from digest.tokens import Purpose, sign, verify
from digest.web.forms import refused, text
from digest.web.middleware import PRIVATE
from digest.web.view import Web
from digest.web.wishes import Asked, read_schedule, stored, zones

# What the page of the mail's link says; whoever confirms has read it.
TEXT_VERSION = "confirm 2026-11-29"
_TOO_FAST = ("0", "1")  # seconds for a person, but not for autofill
LONGEST_ADDRESS = 1_000  # characters; a longer one is no mistake of a person
STATUSES = {
    Refusal.CLOSED: 403,
    Refusal.DOMAIN: 403,
    Refusal.NO_MAIL: 422,
    Refusal.NETWORK: 429,
    Refusal.BUSY: 429,
}


def box(web: Web, request: Request) -> Response:
    """The box by itself."""
    return web.page(request, "subscribe.html", errors={}, address="")


def subscribe(web: Web, request: Request, form: FormData) -> Response:
    """Somebody gave an address: what follows comes by mail."""
    return _asked(web, request, form, lost=False)


def lost(web: Web, request: Request) -> Response:
    """The way back for who has no mail of ours at hand."""
    return web.page(request, "lost.html", errors={}, address="")


def lost_link(web: Web, request: Request, form: FormData) -> Response:
    """Somebody wants the link to their preferences."""
    return _asked(web, request, form, lost=True)


def _asked(web: Web, request: Request, form: FormData, *, lost: bool) -> Response:
    address = text(form, "email", most=LONGEST_ADDRESS)
    template = "lost.html" if lost else "subscribe.html"
    number, slug, search = randbits(63), text(form, "topic", most=60), text(form, "search")
    filter_ = read_search(search) if search else ""
    locale, client = web.language(request).tag, web.client(request)
    suspicious = text(form, "after", most=20) in _TOO_FAST
    try:
        if text(form, "website"):
            refusal = None  # a program, which learns nothing
        elif lost:
            refusal = accounts.lost_link(
                web.accounts,
                address,
                locale=locale,
                source="lost link",
                client=client,
                suspicious=suspicious,
            )
        else:
            refusal = accounts.ask(
                web.accounts,
                address,
                locale=locale,
                source=text(form, "source", most=40) or "box",
                client=client,
                suspicious=suspicious,
                topics=[slug] if slug else [],
                search=filter_ if isinstance(filter_, str) else "",
                number=number,
            )
    except AddressError as error:
        errors = {"email": refused(error, web.language(request))}
        return web.page(request, template, status=422, errors=errors, address=address)
    if refusal:
        status = STATUSES[refusal]
        return web.page(request, "refused.html", status=status, refusal=refusal)
    if lost:
        return web.page(request, "asked.html", lost=True)
    token = sign(Purpose.CHOOSE, number, secrets=web.accounts.secrets, now=web.accounts.clock())
    begun = Asked(wishes=web.accounts.usual, topics=[slug])
    response = _offer(web, request, token, begun)
    response.headers.update(PRIVATE)
    return response


def offer(web: Web, request: Request) -> Response:
    """What can be chosen while the mail is under way."""
    _number(web, request)
    token = request.path_params["token"]
    return _offer(web, request, token, Asked(wishes=web.accounts.usual, topics=()))


def choose(web: Web, request: Request, form: FormData) -> Response:
    """Keep what was chosen for who confirms; the answer is the same for everybody."""
    number, token = _number(web, request), request.path_params["token"]
    with reading(web.engine) as connection:
        known = topics.all_topics(connection)
    before = Asked(wishes=web.accounts.usual, topics=())
    asked = read_schedule(form, before, known=known, language=web.language(request))
    if asked.errors:
        return _offer(web, request, token, asked, status=422)
    topics_ = list(asked.topics)
    refusal = accounts.choose(web.accounts, number, wishes=asked.wishes, topics=topics_)
    if refusal:
        return web.page(request, "refused.html", status=STATUSES[refusal], refusal=refusal)
    return _offer(web, request, token, asked, kept=True)


def _is_open(web: Web, asked: Asked) -> bool:
    """Whether the browser may guess the zone: what somebody chose stays."""
    return asked.wishes.zone == web.accounts.usual.zone and not asked.errors


def _number(web: Web, request: Request) -> int:
    house, token = web.accounts, request.path_params["token"]
    return verify(token, Purpose.CHOOSE, secrets=house.secrets, now=house.clock()).subject


def _offer(
    web: Web, request: Request, token: str, asked: Asked, *, status: int = 200, kept: bool = False
) -> Response:
    with reading(web.engine) as connection:
        known = topics.all_topics(connection)
    return web.page(
        request,
        "asked.html",
        status=status,
        lost=False,
        token=token,
        asked=asked,
        errors=asked.errors,
        guess=_is_open(web, asked),
        kept=kept,
        topics=known,
        zones=zones(),
    )


def invitation(web: Web, request: Request) -> Response:
    """The page behind a confirmation mail: one button, and what can be chosen with it."""
    opened = web.opened(request, Purpose.CONFIRM)
    if opened.person.status in (Status.ACTIVE, Status.PAUSED):
        return web.page(request, "confirmed.html")
    with reading(web.engine) as connection:
        known = topics.all_topics(connection)
    return _invite(web, request, stored(opened.person), known)


def confirm(web: Web, request: Request, form: FormData) -> Response:
    """Somebody says yes; their preferences come next."""
    opened = web.opened(request, Purpose.CONFIRM)
    with reading(web.engine) as connection:
        known = topics.all_topics(connection)
    language = web.language(request)
    asked = read_schedule(form, stored(opened.person), known=known, language=language)
    if asked.errors:
        return _invite(web, request, asked, known, status=422)
    done = accounts.confirm(
        web.accounts,
        opened.subject,
        source="confirmation page",
        locale=language.tag,
        text_version=TEXT_VERSION,
        wishes=asked.wishes,
        topics=list(asked.topics),
    )
    if not done.anew:
        return web.page(request, "confirmed.html")
    with reading(web.engine) as connection:
        person = subscribers.get(connection, done.subscriber_id)
    link = settings_link(web.accounts, person, now=web.accounts.clock())
    path = link.removeprefix(web.accounts.site.base_url)
    return RedirectResponse(f"{path}?new=1", 303)


def _invite(
    web: Web, request: Request, asked: Asked, known: Sequence[Topic], *, status: int = 200
) -> Response:
    return web.page(
        request,
        "confirm.html",
        status=status,
        asked=asked,
        errors=asked.errors,
        guess=_is_open(web, asked),
        topics=known,
        zones=zones(),
    )
