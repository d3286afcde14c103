"""What a reader says of a paper in their mail, and the papers that they saved."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import Connection
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from digest.errors import NotFound
from digest.models import Action, Interest, InterestKind, Paper, Topic
from digest.pipeline import accounts
from digest.pipeline.accounts import Opened
from digest.storage import feedback, interests, listings, papers, shown
from digest.storage import topics as all_topics
from digest.storage.database import reading, writing
from digest.tokens import Purpose, digest_of
from digest.web.feeds import Feed, answer
from digest.web.forms import natural, text
from digest.web.lists import PAGE, cards, page_number
from digest.web.view import Web

MUTE = "mute"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meant:
    """The paper that a link of a mail is about, and the topics for which it was chosen."""

    opened: Opened
    digest_id: int
    paper: Paper
    topics: tuple[Topic, ...]


def page(web: Web, request: Request) -> Response:
    """What will happen, with one button, and the other actions beside it."""
    with reading(web.engine) as connection:
        meant = _meant(web, request, connection)
        return _show(web, request, connection, meant, chosen=_chosen(request), done="")


def give(web: Web, request: Request, form: FormData) -> Response:
    """Note it, or take it back; the same page again says so."""
    what = text(form, "what")
    now = web.accounts.clock()
    with reading(web.engine) as connection:
        meant = _meant(web, request, connection)
    person_id = meant.opened.person.id
    back = what.startswith("not ")
    name = what.removeprefix("not ")
    with writing(web.engine) as connection:
        accounts.known(connection, person_id)
        if name == MUTE:
            slug = text(form, "topic")
            if slug not in {topic.slug for topic in meant.topics}:
                raise HTTPException(400)
            kind = InterestKind.MUTED_TOPIC
            if back:
                interests.remove(connection, person_id, kind, slug)
            else:
                interest = Interest(kind=kind, value=slug, key=slug)
                if interests.add(connection, person_id, interest, now=now):
                    raise HTTPException(409)
        else:
            action = _action(name)
            if back:
                feedback.take_back(connection, person_id, meant.paper.id, action)
            else:
                feedback.give(
                    connection,
                    person_id,
                    meant.paper.id,
                    action,
                    digest_id=meant.digest_id,
                    now=now,
                )
    with reading(web.engine) as connection:
        return _show(web, request, connection, meant, chosen=name, done=what)


def _show(
    web: Web, request: Request, connection: Connection, meant: Meant, *, chosen: str, done: str
) -> Response:
    person = meant.opened.person
    muted = {
        one.value
        for one in interests.get(connection, person.id).kept
        if one.kind is InterestKind.MUTED_TOPIC
    }
    return web.page(
        request,
        "opinion.html",
        paper=meant.paper,
        topics=meant.topics,
        muted=muted,
        said=feedback.said(connection, person.id, meant.paper.id),
        chosen=chosen,
        done=done,
    )


def _meant(web: Web, request: Request, connection: Connection) -> Meant:
    opened = web.opened(request, Purpose.FEEDBACK)
    _, slot = digest_of(opened.subject)
    found = shown.load(connection, opened.person.id, slot)
    place = natural(request.path_params["item"])
    if found is None or place is None or not 1 <= place <= len(found.items):
        raise HTTPException(410 if found and not found.items else 404)
    item = found.items[place - 1]
    try:
        paper = papers.get(connection, item.paper_id)
    except NotFound:
        raise HTTPException(404) from None
    named = {str(slug) for reason in item.reasons if reason.kind == "topic" for slug in reason.args}
    topics = tuple(one for one in all_topics.all_topics(connection) if one.slug in named)
    return Meant(opened=opened, digest_id=found.id, paper=paper, topics=topics)


def _chosen(request: Request) -> str:
    name = str(request.path_params.get("action", Action.MORE))
    if name == MUTE:
        return name
    return _action(name, unknown=404)


def _action(name: str, *, unknown: int = 400) -> Action:
    try:
        return Action(name)
    except ValueError:
        raise HTTPException(unknown) from None


# ------------------------------------------------------------------ saved papers


def saved(web: Web, request: Request) -> Response:
    """The list of them, the newest first."""
    opened = web.opened(request, Purpose.SAVED)
    with reading(web.engine) as connection:
        count = feedback.count(connection, opened.person.id, Action.SAVE)
        pages = max(1, -(-count // PAGE))
        page = page_number(request, pages=pages)
        start = (page - 1) * PAGE
        found = _saved(connection, opened.person.id, start=start)
    return web.page(
        request,
        "saved.html",
        papers=cards(web, request, found),
        token=request.path_params["token"],
        start=start,
        count=count,
        page=page,
        pages=pages,
    )


def feed(web: Web, kind: str, request: Request) -> Response:
    """The newest of them as a feed."""
    opened = web.opened(request, Purpose.SAVED)
    with reading(web.engine) as connection:
        found = _saved(connection, opened.person.id, start=0)
    title = f"{web.language(request).gettext('Saved papers')} · {web.site.name}"
    # One for each address, but not the address, for whoever has that may read on.
    mark = sha256(request.path_params["token"].encode()).hexdigest()[:16]
    whole = Feed(
        title=title,
        path=request.url.path.rpartition("/")[0],
        papers=found,
        id=f"saved/{mark}",
        private=True,
    )
    return answer(web, request, kind, whole)


def _saved(connection: Connection, subscriber_id: int, *, start: int) -> list[Paper]:
    given = feedback.given(connection, subscriber_id, Action.SAVE, limit=PAGE, offset=start)
    return listings.by_id(connection, [one.paper_id for one in given])
