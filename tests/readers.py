"""A house, and somebody who browses it and reads the mails that come."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parseaddr
from typing import Any

import httpx
import pytest
from lxml import html
from sqlalchemy import delete

from digest import inbox, schema
from digest.models import Subscriber
from digest.storage import subscribers
from digest.storage.database import open_database, reading, writing
from digest.storage.migrating import upgrade
from digest.suppression import address_key
from digest.tokens import Purpose, sign
from tests.local_house import NOW, READER, LocalHouse, local_house

numbers = itertools.count(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """A house, and somebody who browses it; each browser comes from a network of its own."""

    house: LocalHouse
    client: httpx.Client = field(default_factory=httpx.Client)

    def get(self, url: str) -> httpx.Response:
        return self.client.get(self._full(url))

    def post(self, url: str, **data: Any) -> httpx.Response:
        number = next(numbers)
        network = f"198.{18 + number // 250}.{number % 250}.7"
        return self.client.post(
            self._full(url), data=data or {"yes": "yes"}, headers={"X-Forwarded-For": network}
        )

    def _full(self, url: str) -> str:
        return url if url.startswith("http") else self.house.url + url

    def mailed(self) -> list[inbox.Mail]:
        """What arrives now that what was asked is answered, the newest first."""
        before = set(inbox.keys(self.house.inbox))
        self.house.services.answer_requests()
        with self.house.services.relays() as relays:
            self.house.services.postman(relays).deliver()
        new = [key for key in inbox.keys(self.house.inbox) if key not in before]
        return [inbox.read(self.house.inbox, key) for key in new]

    def link(self, path: str, mails: list[inbox.Mail] | None = None) -> str:
        """The one link of that kind in the mails that came."""
        found = {
            link
            for mail in (self.mailed() if mails is None else mails)
            for link in re.findall(rf"{self.house.url}/{path}/[\w-]+", mail.text)
        }
        [link] = found
        return str(link)

    def join(self, address: str = "") -> tuple[Subscriber, str]:
        """Somebody new, and the link to their preferences."""
        address = address or f"reader{next(numbers)}@example.org"
        assert self.post("/subscribe", email=address).status_code == 200
        done = self.post(self.link("confirm"), frequency="daily", hour="8", zone="UTC")
        assert done.status_code == 303
        return self.person(address), self.house.url + done.headers["location"].partition("?")[0]

    def person(self, address: str) -> Subscriber:
        with reading(self.house.services.engine) as connection:
            found = subscribers.find(connection, address_key(address))
        assert found is not None
        return found

    def way_out(self, person: Subscriber) -> str:
        secrets = self.house.services.secrets
        return "/u/" + sign(Purpose.UNSUBSCRIBE, person.id, secrets=secrets, now=NOW)

    def form(self, url: str) -> dict[str, list[str]]:
        """What the large form at that address would send as it is."""
        page = html.fromstring(self.get(url).text)
        form: Any = page.cssselect("form.wishes")[0]
        found: dict[str, list[str]] = {}
        for name, value in form.form_values():
            found.setdefault(name, []).append(value.removeprefix("\n"))  # as browsers do
        return found


def header(mail: inbox.Mail, name: str) -> str:
    return dict(mail.headers)[name]


def to(mail: inbox.Mail) -> str:
    return parseaddr(header(mail, "To"))[1]


@pytest.fixture
def readers(all_readers: Readers) -> Readers:
    """The same house for all tests, with no mail under way, and nothing said of papers."""
    all_readers.mailed()
    with writing(all_readers.house.services.engine) as connection:
        for table in (schema.feedback, schema.interest):
            connection.execute(delete(table))
    return all_readers


@pytest.fixture(scope="module")
def all_readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    folder = tmp_path_factory.mktemp("readers")
    url = f"sqlite:///{folder}/digest.db"
    engine = open_database(url)
    upgrade(engine)
    engine.dispose()
    # Each look at the clock is later than the one before, as it is outside of tests.
    ticks = itertools.count()
    with local_house(folder, url, clock=lambda: NOW + timedelta(microseconds=next(ticks))) as house:
        found = Readers(house=house)
        yield found
        found.client.close()


@pytest.fixture
def digest(readers: Readers) -> inbox.Mail:
    """The digest that the house's first reader got."""
    [mail] = [
        mail
        for key in inbox.keys(readers.house.inbox)
        for mail in [inbox.read(readers.house.inbox, key)]
        if to(mail) == READER and "/f/" in mail.text
    ]
    return mail
