"""A reception for tests: the accounts of a house over a real database, and a clock."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, func, select

from digest import schema
from digest.models import Frequency, Status, Subscriber, Wishes
from digest.pipeline import accounts
from digest.pipeline.accounts import Accounts, Confirmed, Limits, Refusal, confirm
from digest.pipeline.accounts.base import hashes_of
from digest.rendering import Renderer
from digest.storage import standing, subscribers
from digest.storage.database import open_database, reading, writing
from digest.suppression import address_key
from digest.tokens import Purpose, verify
from tests.databases import new_database
from tests.desk import SITE, TEMPLATES

ADA = "ada@example.org"
BOB = "bob@example.net"
CLIENT = ip_address("192.0.2.7")
SECRETS = (b"new" * 16, b"old" * 16)
MANY = Limits(account_mails_daily=1000, signups_hourly=1000, confirmations_hourly=1000)
PURPOSES = {
    "confirm": Purpose.CONFIRM,
    "preferences": Purpose.PREFERENCES,
    "change-old": Purpose.CHANGE,
    "change-new": Purpose.CHANGE,
    "export": Purpose.EXPORT,
    "erase": Purpose.ERASE,
}


@cache
def renderer() -> Renderer:
    return Renderer(TEMPLATES, SITE)


@dataclass
class Reception:
    engine: Engine
    data_dir: Path
    now: datetime = datetime(2026, 5, 27, 12, tzinfo=UTC)  # a Wednesday
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def accounts(self) -> Accounts:
        values: dict[str, Any] = {
            "engine": self.engine,
            "secrets": SECRETS,
            "renderer": renderer(),
            "site": SITE,
            "clock": lambda: self.now,
            "data_dir": self.data_dir,
            "provider": lambda address: address.rpartition("@")[2],
            "usual": Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=5),
            "limits": MANY,
            **self.changes,
        }
        return Accounts(**values)

    def later(self, **time: float) -> None:
        self.now += timedelta(**time)

    def ask(self, address: str = ADA, **more: Any) -> Refusal | None:
        """Subscribe on a page; nothing is answered yet."""
        usual = {"locale": "en", "source": "front page", "client": CLIENT}
        return accounts.ask(self.accounts, address, **{**usual, **more})

    def lose(self, address: str = ADA, **more: Any) -> Refusal | None:
        usual = {"locale": "en", "source": "lost link", "client": CLIENT}
        return accounts.lost_link(self.accounts, address, **{**usual, **more})

    def answer(self) -> int:
        return accounts.answer(self.accounts)

    def confirm(self, subject: int, **more: Any) -> Confirmed:
        return confirm(self.accounts, subject, source="page", **more)

    def subscribe(self, address: str = ADA, **more: Any) -> int:
        """Ask and confirm, as a person does; their id."""
        assert self.ask(address, **more) is None
        self.answer()
        return self.confirm(self.subject("confirm")).subscriber_id

    def put(self, status: Status | None, address: str = ADA) -> int | None:
        """Bring somebody into that standing, in the way in which it is come by."""
        if status is None:
            return None
        if status is Status.PENDING:
            self.ask(address)
            self.answer()
            return self.person(address).id
        person = self.subscribe(address)
        if status is Status.PAUSED:
            accounts.pause(self.accounts, person, self.now.date() + timedelta(days=9))
        elif status is Status.ERASED:
            accounts.erase(self.accounts, person)
        elif status is not Status.ACTIVE:
            with writing(self.engine) as connection:
                subscribers.unsubscribe(connection, person, now=self.now, detail="", status=status)
        self.later(minutes=1)
        return person

    def person(self, address: str = ADA) -> Subscriber:
        with reading(self.engine) as connection:
            found = subscribers.find(connection, address_key(address))
        assert found is not None
        return found

    def status(self, subscriber_id: int) -> Status:
        with reading(self.engine) as connection:
            return subscribers.get(connection, subscriber_id).status

    def barred(self, address: str = ADA) -> set[str]:
        with reading(self.engine) as connection:
            return standing.barred_for(connection, hashes_of(self.accounts, address))

    def mails(self) -> list[Mapping[str, Any]]:
        """The account mails with their deliveries, in order."""
        mails, deliveries = schema.account_mail, schema.delivery
        with reading(self.engine) as connection:
            rows = connection.execute(
                select(mails.c.kind, mails.c.personal, mails.c.skeleton, deliveries.c.address)
                .add_columns(deliveries.c.priority, deliveries.c.state, deliveries.c.give_up_at)
                .join(deliveries, deliveries.c.account_mail_id == mails.c.id)
                .order_by(mails.c.id)
            )
            return [dict(row) for row in rows.mappings()]

    def kinds(self) -> list[tuple[str, str]]:
        return [(mail["kind"], mail["address"]) for mail in self.mails()]

    def token(self, kind: str) -> str:
        """The token in the newest mail of that kind."""
        url: str = [mail for mail in self.mails() if mail["kind"] == kind][-1]["personal"]["url"]
        return url.rpartition("/")[2]

    def subject(self, kind: str) -> int:
        token = self.token(kind)
        return verify(token, PURPOSES[kind], secrets=SECRETS, now=self.now).subject

    def counts(self) -> dict[str, int]:
        """How many rows each table has."""
        with reading(self.engine) as connection:
            return {
                table.name: connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in schema.metadata.sorted_tables
            }

    def everything(self) -> str:
        """All that the tables hold, as text."""
        with reading(self.engine) as connection:
            tables = schema.metadata.sorted_tables
            return str([connection.execute(select(table)).all() for table in tables]).lower()


def statements(engine: Engine, found: list[str]) -> None:
    """Note the statements that are executed from here on."""

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Connection, _cursor: Any, text: str, *_: object) -> None:
        found.append(text)


@pytest.fixture(params=["sqlite", "postgresql"])
def reception(request: pytest.FixtureRequest, tables: Path, tmp_path: Path) -> Iterator[Reception]:
    """A reception on each of the databases."""
    if request.param == "sqlite":
        yield from _lite(tables, tmp_path)
        return
    engine = open_database(new_database(request.getfixturevalue("postgres_url")))
    yield Reception(engine, tmp_path / "data")
    engine.dispose()


@pytest.fixture
def lite(tables: Path, tmp_path: Path) -> Iterator[Reception]:
    """A reception on SQLite alone, for what no database decides."""
    yield from _lite(tables, tmp_path)


@pytest.fixture(scope="module")
def still(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reception]:
    """One for many tests, in which nothing changes."""
    yield from _lite(tables, tmp_path_factory.mktemp("still"))


def _lite(tables: Path, folder: Path) -> Iterator[Reception]:
    shutil.copy(tables, folder / "digest.db")
    engine = open_database(f"sqlite:///{folder}/digest.db")
    yield Reception(engine, folder / "data")
    engine.dispose()
