"""A reader's whole way over HTTP, in one language: every page, and every state of it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select, update

from digest import inbox, locales, schema
from digest.models import Kind, Record
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade
from digest.web.view import load_assets, load_templates, paper_path
from tests import mails
from tests.local_house import NOW, LocalHouse, local_house
from tests.readers import Readers, to
from tests.web_site import SITE

WEB = mails.TEMPLATES / "web"
DONE = ("save", "pause", "resume", "renew", "renew_saved", "move", "export", "erase", "take_back")
MISTAKES = {
    "max_papers": "0", "min_score": "101", "hour": "25", "zone": "Moon", "detail": "x",
    "seeds": "zz", "words": "(", "authors": "-", "searches": "(", "locale": "xx",
}  # fmt: skip
VIEWS = ("html", "text", "source", "headers")
# Papers that are written otherwise than most are.
ODD = tuple(
    Record(
        source="feed:own",
        url=f"https://example.org/{values['external_id']}",
        listed_at=NOW - timedelta(hours=3),
        **values,
    )
    for values in (
        {
            "external_id": "long",
            "title": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamte: "
            + "Towards Very Long Titles " * 6,
            "abstract": "Agents write $\\mathcal{O}(n^{2}) < \\infty$ and never stop. " * 40,
            "authors": tuple(f"Maximiliane von Hohenlohe-Bartenstein {n}" for n in range(70)),
            "organisation": "Eidgenössische Forschungsanstalt für Wald, Schnee und Landschaft",
            "venue": "Transactions on Conferences with Very Long Names and Longer Subtitles",
            "comment": "24 pages, 16 figures, accepted for presentation, see the project page",
            "categories": ("cs.LG", "cs.AI", "cs.CL", "stat.ML", "math.OC"),
            "doi": "10.1000/1234567890.1234567890.1234567890",
            "links": {
                name: f"https://example.org/{name}"
                for name in ("pdf", "html", "huggingface", "alphaxiv", "code", "project")
            },
            "signals": {"upvotes": 1234567, "comments": 12345, "stars": 9876543},
        },
        {
            "external_id": "little",
            "title": "Agents",
            "kind": Kind.WITHDRAWN,
        },
        {
            "external_id": "japanese",
            "title": "大規模言語モデルに基づく自律エージェントの計画能力の評価" * 2,
            "abstract": "本論文では、エージェントの計画能力を評価する枠組みを提案する。" * 8,
            "authors": ("山田太郎", "鈴木花子"),
        },
        {
            "external_id": "hebrew",
            "title": "סוכנים לומדים: הערכה של Agents בשפה העברית (2026)",
            "abstract": "אנו מציגים שיטה חדשה להערכת agents בשפות שנכתבות מימין לשמאל. " * 6,
            "authors": ("דנה כהן", "Ada Lovelace"),
            "signals": {"upvotes": 3},
        },
    )
)  # fmt: skip
MANY = tuple(
    Record(
        source="feed:own",
        external_id=f"one of many {number}",
        title=f"One of Many, Number {number}",
        url=f"https://example.org/many/{number}",
        listed_at=NOW - timedelta(days=3),
    )
    for number in range(60)
)
# Pages that a way leads to seldom, or only another day: the template, and what it is given.
ALONE: list[tuple[str, str, dict[str, Any]]] = [
    ("no papers yet", "empty.html", {}),
    ("subscribed already", "confirmed.html", {}),
    *((f"error {code}", "error.html", {"code": code}) for code in (400, 403, 404, 405, 410, 413)),
    ("error 500", "error.html", {"code": 500}),
    *((f"back, {what}", "back.html", {"what": what}) for what in ("pause", "weekly", "undo")),
    *(
        (name, "bad_link.html", {"expired": expired, "anew": anew, "errors": {}})
        for name, expired, anew in (
            ("expired invitation", True, True),
            ("expired link", True, False),
            ("broken link", False, False),
        )
    ),
    ("erased", "erase.html", {"done": True}),
    *(
        (f"address {moved}", "changed.html", {"moved": moved})
        for moved in ("moved", "waiting", "taken", "over")
    ),
    *(
        (f"refused, {refusal}", "refused.html", {"refusal": refusal})
        for refusal in ("closed", "domain", "no mail", "network")
    ),
    ("plain preview", "plain.html", {"text": "A mail"}),
    ("no preview", "no_preview.html", {"errors": {}}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """One page as it was answered; `own` are words in it that no language translates."""

    name: str
    path: str
    headers: dict[str, str]
    body: str
    own: tuple[str, ...] = ()


@contextmanager
def touring(folder: Path) -> Iterator[LocalHouse]:
    """A house to walk through, with papers that are hard to lay out, and some to turn pages for."""
    folder.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{folder}/digest.db"
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    with local_house(folder, url, records=(*ODD, *MANY), account_mails_daily=20) as found:
        yield found


def alone(tag: str) -> Iterator[Stop]:
    """The pages of `ALONE`, rendered by themselves."""
    environment, assets = load_templates(WEB)[tag], load_assets(WEB / "static")
    site = replace(SITE, signup_domains=("example.org", "example.net"))
    for name, template, values in ALONE:
        body = environment.get_template(template).render(
            site=site, language=locales.language(tag), assets=assets, mails=3, **values
        )
        yield Stop(name=name, path="/", headers={}, body=body)


def tour(house: LocalHouse, tag: str, address: str) -> Iterator[Stop]:
    """Walk through the house as somebody new, whose browser speaks `tag`.

    It changes what is stored as it goes: each stop is the page as it was then.
    """
    with httpx.Client(headers={"Accept-Language": tag.replace("_", "-")}) as client:
        readers = Readers(house=house, client=client)
        for name, answer, own in _walk(readers, address):
            # In a frame, as mails are, no script runs; alone, a script is to look at it.
            policy = answer.headers["content-security-policy"].replace("sandbox", "")
            policy = policy.replace("allow-popups-to-escape-", "").replace("allow-popups", "")
            path = str(answer.url).removeprefix(house.url)
            yield Stop(
                name=name,
                path=path,
                headers={"content-security-policy": policy},
                body=answer.text,
                own=own,
            )


_Step = tuple[str, httpx.Response, tuple[str, ...]]


def _walk(readers: Readers, address: str) -> Iterator[_Step]:
    yield from _in_public(readers)
    me = yield from _joining(readers, address)
    yield from _tuning(readers, me)
    yield from _saying(readers, me)
    yield from _ending(readers, me, address)


def _in_public(readers: Readers) -> Iterator[_Step]:
    for name, path in {
        "today": "/",
        "a week": "/week",
        "a month": "/month",
        "a month, page 2": "/papers/2026-05?page=2",
        "a day": "/papers/2026-05-27",
        "a day without papers": "/papers/2020-01-01",
        "topics": "/topics",
        "a topic": "/topics/agents",
        "how to search": "/search",
        "found": "/search?q=agents",
        "found by date": "/search?q=agents&by=date",
        "found, page 2": "/search?q=many&page=2",
        "no filter": "/search?q=(agents",
        "suggestion": "/search?q=agnets",
        "nothing found": "/search?q=qqqqqq",
        "subscribe": "/subscribe",
        "lost link": "/me",
        "privacy": "/privacy",
        "inbox": "/inbox/",
        "no page": "/nowhere",
        "no link": "/u/nothing",
    }.items():
        yield name, readers.get(path), ("qqqqqq", "agnets", "many")
    [_, usual, *_] = re.findall(r'<a href="(/p/[^"]+)"', readers.get("/").text)
    yield "a paper", readers.get(usual), ()
    for paper in ODD:
        yield f"a paper: {paper.external_id}", _get_paper(readers, paper), ()
    key = inbox.keys(readers.house.inbox)[-1]
    mail = inbox.read(readers.house.inbox, key)
    words = (*(text for header in mail.headers for text in header), mail.summary.subject)
    for view in VIEWS:
        yield f"mail as {view}", readers.get(f"/inbox/{key}?view={view}"), words


def _get_paper(readers: Readers, paper: Record) -> httpx.Response:
    with reading(readers.house.services.engine) as connection:
        query = select(schema.record.c.paper_id).where(
            schema.record.c.external_id == paper.external_id
        )
        return readers.get(paper_path(str(connection.execute(query).scalar_one())))


def _joining(readers: Readers, address: str) -> Generator[_Step, None, str]:
    """The address of the preferences, in the end."""
    yield "bad address", readers.post("/subscribe", email="nobody"), ()
    asked = readers.post("/subscribe", email=address)
    yield "asked", asked, ()
    choose = re.findall(r"/choose/[\w-]+", asked.text)[0]
    wishes = {"frequency": "daily", "hour": "8", "zone": "UTC", "topic": ["agents"]}
    yield "chosen", readers.post(choose, **wishes), ()
    yield "asked for a link", readers.post("/me", email=f"lost-{address}"), ()
    yield "bad address of a link", readers.post("/me", email="nobody"), ()
    confirm = readers.link("confirm")
    yield "confirm", readers.get(confirm), ()
    yield "confirm with mistakes", readers.post(confirm, hour="25", zone="Moon", frequency="x"), ()
    done = readers.post(confirm, **wishes)
    yield "confirmed", readers.get(confirm), ()
    return readers.house.url + done.headers["location"].partition("?")[0]


def _tuning(readers: Readers, me: str) -> Iterator[_Step]:
    yield "preferences", readers.get(me), ()
    for query in ("new=1", *(f"done={what}" for what in DONE)):
        yield f"preferences?{query}", readers.get(f"{me}?{query}"), ()
    form = readers.form(me)
    bad = form | MISTAKES
    yield "preferences with mistakes", readers.post(me, **bad, what="save"), ("zz",)
    yield "preview with mistakes", readers.post(me, **bad, what="preview"), ("zz",)
    yield "preview in plain text", readers.post(me, **form, plain="yes", what="preview"), ()
    yield "preview", readers.post(me, **form | {"detail": "full"}, what="preview"), ()
    none = form | {"min_score": "100", "quiet_day": "skip"}
    yield "preview of nothing", readers.post(me, **none, what="preview"), ()
    yield "pause, bad date", readers.post(me, until="1999-01-01", what="pause"), ()
    yield "another address, bad", readers.post(me, email="x", what="move"), ()


def _saying(readers: Readers, me: str) -> Iterator[_Step]:
    house = readers.house
    house.services.plan_due()
    [mail, *_] = [one for one in readers.mailed() if "/f/" in one.text]
    opinion = re.findall(rf"{house.url}/f/[\w-]+/\d+", mail.text)[0]
    for action in ("more", "less", "save", "mute"):
        yield action, readers.get(f"{opinion}/{action}"), ()
        if action != "mute":
            yield f"{action}, done", readers.post(f"{opinion}/{action}", what=action), ()
    readers.post(f"{opinion}/mute", what="mute", topic="agents")
    yield "muted", readers.get(f"{opinion}/mute"), ()
    yield "preferences with opinions", readers.get(me), ()
    [saved, *_] = re.findall(r"/saved/[\w-]+", readers.get(me).text)
    yield "saved", readers.get(saved), ()
    view = re.findall(rf"{house.url}/v/[\w-]+", mail.text)[0]
    yield "in the browser", readers.get(view), (dict(mail.headers)["Subject"],)
    readers.post(f"{opinion}/save", what="not save")
    yield "nothing saved", readers.get(saved), ()


def _ending(readers: Readers, me: str, address: str) -> Iterator[_Step]:
    readers.post(me, email=f"other-{address}", what="move")
    for mail in readers.mailed():
        agree = readers.link("change", [mail])
        which = "this" if to(mail) == address else "the other"
        yield f"change, {which} address", readers.get(agree), ()
    for what in ("export", "erase"):
        readers.post(me, yes="yes", what=what)
        yield what, readers.get(readers.link(what)), ()
    [out, *_] = re.findall(r'href="(/u/[\w-]+)"', readers.get(me).text)
    yield "leave", readers.get(out), ()
    left = readers.post(out, confirm="yes")
    yield "left", left, ()
    [undo, *_] = re.findall(r"/undo/[\w-]+", left.text)
    yield "left, bad date", readers.post(undo, what="pause", until="1999-01-01"), ()
    yield "left, said why", readers.post(undo, what="say", why="other"), ()
    yield "preferences of who left", readers.get(me), ()
    yield "back", readers.post(undo, what="undo"), ()
    with writing(readers.house.services.engine) as connection:
        paused = update(schema.subscriber).values(status="paused", paused_until=None)
        connection.execute(paused.where(schema.subscriber.c.address == address))
    yield "paused", readers.get(me), ()
