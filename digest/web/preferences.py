"""A reader's preferences, by the link in their mails: to look at, to try out, to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date

from sqlalchemy import Connection
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from digest import locales
from digest.errors import AddressError, InputError, NotFound
from digest.models import Action, Subscriber, Topic
from digest.pipeline import accounts
from digest.pipeline.accounts import Opened, Refusal
from digest.pipeline.planning import preview as draft_of
from digest.rendering import compose
from digest.storage import feedback, interests, subscribers, topics
from digest.storage.database import reading, writing
from digest.suppression import masked
from digest.tokens import Purpose, sign
from digest.web.forms import natural, refused, text
from digest.web.joining import LONGEST_ADDRESS
from digest.web.lists import PAGE, page_number
from digest.web.view import MAIL_POLICY, Web
from digest.web.wishes import Asked, read_all, stored, zones

TYPED = ("until", "email")  # what forms beside the great one ask for


def page(web: Web, request: Request) -> Response:
    """The form, as things stand; `?search=` offers one more search."""
    opened = web.opened(request, Purpose.PREFERENCES)
    with reading(web.engine) as connection:
        asked = stored(opened.person, interests.get(connection, opened.person.id))
        return _show(web, request, connection, opened.person, asked)


def save(web: Web, request: Request, form: FormData) -> Response:
    """Keep what the form says, or do what one of the other buttons says."""
    opened = web.opened(request, Purpose.PREFERENCES)
    what = text(form, "what") or "save"
    if what in ("save", "preview"):
        return _save(web, request, form, opened, keep=what == "save")
    if what == "renew":
        return _renew(web, opened.person)
    act = _ACTIONS.get(what)
    if act is None:
        raise HTTPException(400)
    try:
        errors = act(web, request, form, opened.person)
    except NotFound:
        return RedirectResponse(request.url.path, 303)  # they are not subscribed: it says so
    if errors:
        return _again(web, request, form, opened.person, errors)
    return RedirectResponse(f"{request.url.path}?done={what}", 303)


def _save(web: Web, request: Request, form: FormData, opened: Opened, *, keep: bool) -> Response:
    person = opened.person
    with reading(web.engine) as connection:
        known = topics.all_topics(connection)
        before = stored(person, interests.get(connection, person.id))
    asked = read_all(
        form,
        before,
        known=known,
        languages=locales.available(),
        language=web.language(request),
    )
    if not keep:
        return _preview(web, request, person, asked)
    if asked.errors:
        with reading(web.engine) as connection:
            return _show(web, request, connection, person, asked, status=422)
    with writing(web.engine) as connection:
        now = web.accounts.clock()
        accounts.known(connection, person.id)
        subscribers.change(connection, person.id, asked.wishes, now=now)
        subscribers.follow(connection, {person.id: asked.topics})
        interests.replace(connection, person.id, asked.interests, now=now)
    return RedirectResponse(f"{request.url.path}?done=save", 303)


def _preview(web: Web, request: Request, person: Subscriber, asked: Asked) -> Response:
    """The next digest by these wishes, as a document for a frame; nothing is kept."""
    response = _previewed(web, request, person, asked)
    response.headers["Content-Security-Policy"] = MAIL_POLICY
    return response


def _previewed(web: Web, request: Request, person: Subscriber, asked: Asked) -> Response:
    if asked.errors:
        return web.page(request, "no_preview.html", errors=asked.errors)
    draft = draft_of(
        web.engine,
        web.plan,
        person.id,
        now=web.accounts.clock(),
        wishes=asked.wishes,
        topics=asked.topics,
        interests=asked.interests,
    )
    if draft.skeleton is None or draft.personal is None:
        return web.page(request, "no_preview.html", errors={})
    cards = [(one.part, one.item.card) for one in draft.shown]
    html, plain = compose(draft.skeleton, cards, draft.personal)
    if asked.wishes.plain:
        return web.page(request, "plain.html", text=plain)
    return HTMLResponse(html)


def _again(
    web: Web, request: Request, form: FormData, person: Subscriber, errors: dict[str, str]
) -> Response:
    typed = {name: text(form, name, most=LONGEST_ADDRESS) for name in TYPED}
    with reading(web.engine) as connection:
        asked = stored(person, interests.get(connection, person.id))
        return _show(web, request, connection, person, asked, status=422, more=errors, typed=typed)


def _show(
    web: Web,
    request: Request,
    connection: Connection,
    person: Subscriber,
    asked: Asked,
    *,
    status: int = 200,
    more: dict[str, str] | None = None,
    typed: Mapping[str, str] | None = None,
) -> Response:
    now = web.accounts.clock()
    known: list[Topic] = topics.all_topics(connection)
    said = feedback.count(connection, person.id)
    pages = max(1, -(-said // PAGE))
    number = page_number(request, pages=pages)
    start = (number - 1) * PAGE
    return web.page(
        request,
        "preferences.html",
        status=status,
        person=person,
        address=masked(person.address),
        asked=asked,
        errors={**asked.errors, **(more or {})},
        typed=typed or dict.fromkeys(TYPED, ""),
        topics=known,
        zones=zones(),
        languages=sorted(locales.available()),
        given=feedback.given(connection, person.id, limit=PAGE, offset=start),
        opinions=said,
        start=start,
        page=number,
        pages=pages,
        saved=accounts.saved_link(web.accounts, person.id),
        way_out=sign(Purpose.UNSUBSCRIBE, person.id, secrets=web.accounts.secrets, now=now),
        done=request.query_params.get("done", ""),
        new="new" in request.query_params,
        search=request.query_params.get("search", "")[:300],
    )


# ------------------------------------------------------------------ the other buttons


def _pause(web: Web, request: Request, form: FormData, person: Subscriber) -> dict[str, str]:
    language = web.language(request)
    try:
        accounts.pause(web.accounts, person.id, date.fromisoformat(text(form, "until")))
    except (ValueError, InputError):
        return {"until": language.gettext("Choose a day within the next year.")}
    return {}


def _resume(web: Web, _request: Request, _form: FormData, person: Subscriber) -> dict[str, str]:
    accounts.resume(web.accounts, person.id)
    return {}


def _renew(web: Web, person: Subscriber) -> Response:
    link = accounts.renew(web.accounts, person.id)
    path = link.removeprefix(web.accounts.site.base_url)
    return RedirectResponse(f"{path}?done=renew", 303)


def _renew_saved(
    web: Web, _request: Request, _form: FormData, person: Subscriber
) -> dict[str, str]:
    accounts.renew_saved_link(web.accounts, person.id)
    return {}


def _move(web: Web, request: Request, form: FormData, person: Subscriber) -> dict[str, str]:
    try:
        refusal = accounts.request_change(
            web.accounts, person.id, text(form, "email", most=LONGEST_ADDRESS)
        )
    except AddressError as error:
        return {"email": refused(error, web.language(request))}
    language = web.language(request)
    if refusal is Refusal.DOMAIN:
        said = language.gettext("Only addresses at %(domains)s can subscribe.")
        return {"email": said % {"domains": language.listing(web.site.signup_domains)}}
    if refusal is Refusal.NO_MAIL:
        said = language.gettext("The part after the @-sign has no mail server. Check the spelling.")
        return {"email": said}
    if refusal is Refusal.BUSY:
        said = language.gettext("There were many requests in the last hour. Try again in an hour.")
        return {"email": said}
    return _limited(web, request, "email", refused=refusal is not None)


def _export(web: Web, request: Request, _form: FormData, person: Subscriber) -> dict[str, str]:
    refusal = accounts.request_export(web.accounts, person.id)
    return _limited(web, request, "export", refused=refusal is not None)


def _erase(web: Web, request: Request, _form: FormData, person: Subscriber) -> dict[str, str]:
    refusal = accounts.request_erasure(web.accounts, person.id)
    return _limited(web, request, "erase", refused=refusal is not None)


def _limited(web: Web, request: Request, field: str, *, refused: bool) -> dict[str, str]:
    if not refused:
        return {}
    sentence = web.language(request).gettext(
        "Several emails were sent to that address today already. Try again tomorrow."
    )
    return {field: sentence}


def _take_back(web: Web, _request: Request, form: FormData, person: Subscriber) -> dict[str, str]:
    paper_id = natural(text(form, "paper"))
    try:
        action = Action(text(form, "action"))
    except ValueError:
        raise HTTPException(400) from None
    if paper_id is None:
        raise HTTPException(400)
    with writing(web.engine) as connection:
        accounts.known(connection, person.id)
        feedback.take_back(connection, person.id, paper_id, action)
    return {}


_ACTIONS: Mapping[str, Callable[[Web, Request, FormData, Subscriber], dict[str, str]]] = {
    "pause": _pause,
    "resume": _resume,
    "renew_saved": _renew_saved,
    "move": _move,
    "export": _export,
    "erase": _erase,
    "take_back": _take_back,
}
