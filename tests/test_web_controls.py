"""Each control of the preference page, pressed on the page: the next digest is as the page said.

What the rule does in all its cases is in test_wishes.py; here the whole way is gone, from the form
over what is stored and frozen to the mail, and the preview beside the form must have said the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parseaddr
from typing import Any

import httpx
import pytest
from lxml import html
from sqlalchemy import RowMapping, select

from digest import inbox, schema
from digest.models import Frequency, Record, Wishes
from digest.pipeline.accounts import settings_link
from digest.storage import subscribers
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade
from tests.local_house import NOW, LocalHouse, local_house
from tests.web_site import words

DAILY = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=12)
FRIDAY = datetime(2026, 5, 29, 8, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
SEED = Record(
    source="feed:own",
    external_id="seed",
    title="Lingering language agents reflect after the task",
    url="https://arxiv.org/abs/2601.04321",
    arxiv_id="2601.04321",
    abstract="Language agents that spend idle time lingering, reflection and memory after a task.",
    keywords=("language agents", "reflection", "memory"),
    listed_at=NOW - timedelta(days=100),
)
# Of the sample, in the order in which they come to who wishes nothing; Sobremesa is about agents.
FIRST, SECOND, SOBREMESA = "Half a Bit More", "Show Your Scratch Paper", "Sobremesa"
LAST = "Early Exit without Early Regret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Got:
    """What somebody was previewed, and got: their first digest, and when all of them were due."""

    preview: str
    page: str  # their preferences, afterwards
    digests: list[RowMapping]
    mail: inbox.Mail | None
    names: Mapping[int, str]

    @property
    def titles(self) -> list[str]:
        return [self.names[item["paper_id"]] for item in self.digests[0]["items"]]

    def place(self, title: str) -> int:
        """Where a paper stands, 0 for the first; 99 where it does not."""
        found = [number for number, name in enumerate(self.titles) if name.startswith(title)]
        return found[0] if found else 99

    def reasons(self, title: str) -> list[str]:
        return [reason[0] for reason in self.digests[0]["items"][self.place(title)]["reasons"]]

    @property
    def due(self) -> list[str]:
        return [f"{row['due_at']:%a %H:%M}" for row in self.digests]


def rises(title: str, reason: str) -> Callable[[Got, Got], bool]:
    return lambda got, usual: got.place(title) < usual.place(title) and reason in got.reasons(title)


def goes(title: str) -> Callable[[Got, Got], bool]:
    return lambda got, usual: usual.place(title) < 99 and got.place(title) == 99


def comes(*due: str) -> Callable[[Got, Got], bool]:
    return lambda got, _: got.due[: len(due)] == list(due)


def _full(got: Got, usual: Got) -> bool:
    assert got.mail is not None
    assert usual.mail is not None
    return got.titles[:3] == usual.titles[:3] and len(got.mail.text) > 1.3 * len(usual.mail.text)


def _plain(got: Got, usual: Got) -> bool:
    assert got.mail is not None
    return got.titles == usual.titles and not got.mail.html and bool(got.mail.text)


def _german(got: Got, usual: Got) -> bool:
    assert got.mail is not None
    said = 'lang="de"' in got.mail.html and "Abbestellen:" in got.mail.text
    return got.titles == usual.titles and said and '<html lang="de"' in got.page


CONTROLS: dict[str, tuple[dict[str, Any], Callable[[Got, Got], bool]]] = {
    "topic": ({"topic": ["agents"]}, rises("Whose Turn Is It", "topic")),
    "searches": ({"searches": "Sobremesa"}, rises(SOBREMESA, "search")),
    "authors": ({"authors": "Inés Larrañeta"}, rises(SOBREMESA, "author")),
    "labs": ({"labs": "university of the western isthmus"}, rises(SOBREMESA, "lab")),
    "seeds": ({"seeds": "https://arxiv.org/abs/2601.04321v2"}, rises(SOBREMESA, "like")),
    "words": ({"words": "quantization"}, goes(FIRST)),
    "muted": ({"muted": ["efficient-inference"]}, goes(FIRST)),
    "max_papers": (
        {"max_papers": "2"},
        lambda got, usual: got.titles == usual.titles[:2],
    ),
    "min_score": (
        {"min_score": "60"},
        lambda got, usual: (
            all(goes(one)(got, usual) for one in (SOBREMESA, LAST))
            and got.titles[:6] == usual.titles[:6]
        ),
    ),
    "detail": ({"detail": "full"}, _full),
    "quiet_day": (
        {"min_score": "100", "quiet_day": "send"},
        lambda got, usual: got.titles == usual.titles[:3],
    ),
    "quiet_day, nothing": (
        {"min_score": "100", "quiet_day": "skip"},
        lambda got, _: not got.titles and got.digests[0]["reason"] == "quiet" and got.mail is None,
    ),
    "plain": ({"plain": "yes"}, _plain),
    "locale": ({"locale": "de"}, _german),
    "frequency": (
        {"frequency": "weekdays"},
        comes("Fri 08:00", "Mon 08:00", "Tue 08:00", "Wed 08:00", "Thu 08:00", "Fri 08:00"),
    ),
    "weekday": ({"frequency": "weekly", "weekday": "2"}, comes("Wed 08:00")),
    "hour": ({"hour": "18"}, comes("Fri 18:00", "Sat 18:00", "Sun 18:00")),
    # Today's is due at once, for its hour is over there; then it comes by Tokyo's clock.
    "zone": ({"zone": "Asia/Tokyo"}, comes("Fri 07:59", "Fri 23:00", "Sat 23:00")),
    "until": ({"until": "2026-06-03", "what": "pause"}, comes("Wed 08:00", "Thu 08:00")),
}
LATER = {"hour", "zone", "until", "weekday"}  # what these wish does not come that morning
USUAL = "usual"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """All of them, of one house on one morning."""

    got: Mapping[str, Got]
    fields: set[str]  # of the page's forms


@pytest.fixture(scope="module")
def pressed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pressed]:
    folder, now = tmp_path_factory.mktemp("controls"), [NOW]
    url = f"sqlite:///{folder}/digest.db"
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    with (
        local_house(folder, url, records=[SEED], clock=lambda: now[0]) as house,
        httpx.Client() as client,
    ):
        yield _press(house, client, now)


def _press(house: LocalHouse, client: httpx.Client, now: list[datetime]) -> Pressed:
    services, controls = house.services, {USUAL: ({}, None), **CONTROLS}
    addresses = {name: f"reader{number}@example.org" for number, name in enumerate(controls)}
    with writing(services.engine) as connection:
        newcomers = [services.newcomer(address, DAILY) for address in addresses.values()]
        subscribers.add_many(connection, newcomers, now=NOW)
        people = {one.address: one for one in subscribers.everyone(connection)}
    now[0] = FRIDAY - MINUTE
    links, previews, fields = {}, {}, set[str]()
    for name, (wanted, _) in controls.items():
        person = people[addresses[name]]
        links[name] = settings_link(services.accounts, person, now=now[0])
        page = html.fromstring(client.get(links[name]).text)
        fields |= {str(one.get("name")) for one in page.cssselect("main [name]:not(button)")}
        previews[name], answer = _save(client, links[name], page, wanted)
        assert answer.status_code == 303, name
    now[0] = FRIDAY + MINUTE
    services.plan_due()
    with services.relays() as relays:
        services.postman(relays).deliver()
    mails = {
        parseaddr(dict(mail.headers)["To"])[1]: mail
        for key in inbox.keys(house.inbox)
        for mail in [inbox.read(house.inbox, key)]
    }
    now[0] = FRIDAY + 8 * DAY
    services.plan_due()
    with reading(services.engine) as connection:
        rows = connection.execute(select(schema.digest).order_by(schema.digest.c.due_at)).mappings()
        digests = list(rows)
        names = dict(connection.execute(select(schema.paper.c.id, schema.paper.c.title)).all())
    got = {
        name: Got(
            preview=previews[name],
            page=client.get(links[name]).text,
            digests=[row for row in digests if row["subscriber_id"] == people[address].id],
            mail=mails.get(address),
            names=names,
        )
        for name, address in addresses.items()
    }
    return Pressed(got=got, fields=fields)


def _save(
    client: httpx.Client, link: str, page: Any, wanted: dict[str, Any]
) -> tuple[str, httpx.Response]:
    """What a preview shows, and the answer to saving."""
    form: dict[str, Any] = {}
    for name, value in page.cssselect("form.wishes")[0].form_values():
        form.setdefault(name, []).append(value.removeprefix("\n"))  # as browsers do
    sent = {**form, "what": "save", **wanted}
    preview = client.post(link, data={**form, **wanted, "what": "preview"})
    assert preview.status_code == 200
    return preview.text, client.post(link, data=sent)


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_does_what_the_page_says(pressed: Pressed, name: str) -> None:
    got, usual = pressed.got[name], pressed.got[USUAL]
    assert CONTROLS[name][1](got, usual), (got.due, got.titles, usual.titles)


@pytest.mark.parametrize("name", [USUAL, *(one for one in CONTROLS if one not in LATER)])
def test_the_preview_is_the_digest_that_comes(pressed: Pressed, name: str) -> None:
    got, usual = pressed.got[name], pressed.got[USUAL]
    shown = words(html.fromstring(got.preview).cssselect("body")[0])
    assert ("there would be no digest" in shown) is (not got.titles)
    places = {title: shown.rfind(title) for title in {*got.titles, *usual.titles}}
    assert [places[title] for title in got.titles] == sorted(places[t] for t in got.titles)
    assert {title for title, place in places.items() if place >= 0} == set(got.titles)


def test_every_control_of_the_page_is_tried(pressed: Pressed) -> None:
    """A new one must be added here; what concerns the account and not the digest is elsewhere."""
    elsewhere = {"email", "preview"}  # a new address, and the frame
    assert pressed.fields - elsewhere == {name.partition(",")[0] for name in CONTROLS}


def test_who_wishes_nothing_gets_the_best_every_day(pressed: Pressed) -> None:
    usual = pressed.got[USUAL]
    assert [usual.place(title) for title in (FIRST, SECOND)] == [0, 1]
    assert usual.due[:3] == ["Fri 08:00", "Sat 08:00", "Sun 08:00"]
    assert len(usual.titles) == 12
