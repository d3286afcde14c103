"""A whole house for tests: real services over a real database, the replay and a recording sink."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from digest.models import Newcomer, Wishes
from digest.pipeline.delivering import Postman
from digest.pipeline.planning import Planned
from digest.pipeline.processes import Crew
from digest.pipeline.sending import Delivered
from digest.services import Services, build
from digest.settings import Settings
from digest.storage import subscribers, topics
from digest.storage.database import writing
from digest.storage.sources import Read
from tests.replay import Replay
from tests.sink import Sink

KEY = "kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0"


@dataclass
class House:
    """Services whose clock a test sets, and what their mail server received."""

    settings: Settings
    sink: Sink
    services: Services = field(init=False)
    now: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.services = build(self.settings, clock=lambda: self.now)

    def collect(self) -> list[Read]:
        return self.services.collect()

    def plan(self) -> Planned:
        return self.services.plan_due()

    def deliver(self) -> Delivered:
        return self.postman().deliver()

    def postman(self) -> Postman | Crew:
        with self.services.relays() as relays:
            return self.services.postman(relays)

    def topic(self, slug: str, query: str) -> None:
        with writing(self.services.engine) as connection:
            topics.add(connection, slug.title(), query, slug=slug, now=self.now)

    def subscribe(self, address: str, wishes: Wishes, *slugs: str) -> Newcomer:
        newcomer = self.services.newcomer(address, wishes, slugs)
        with writing(self.services.engine) as connection:
            subscribers.add_many(connection, [newcomer], now=self.now)
        return newcomer

    def mails(self, address: str) -> list[EmailMessage]:
        """What arrived for an address, in order."""
        return [
            email.message_from_bytes(mail.content, policy=email.policy.default)
            for mail in self.sink.mails
            if mail.recipients == (address,)
        ]


def make_house(tmp_path: Path, database_url: str, sink: Sink, url: str, **more: Any) -> House:
    """A house that reads its sources at `url` and sends to `sink`."""
    values: dict[str, Any] = {
        "base_url": "https://digest.example.org",
        "data_dir": tmp_path / "data",
        "database_url": database_url,
        "allow_unsafe_database": True,  # the tests' own
        "secret_key": (KEY,),
        "smtp_host": sink.host,
        "smtp_port": sink.port,
        "smtp_tls": "none",
        "sender_address": "digest@example.org",
        "postal_address": "Example Lab, 1 Example Street, 12345 Example Town",
        "hf_url": url,
        "arxiv_url": url,
        "arxiv_rss_url": url,
        "arxiv_interval": 0.0,
        "fetch_timeout": 10.0,
        **more,
    }
    return House(settings=Settings(**values), sink=sink)


@pytest.fixture
def house(tmp_path: Path, database_url: str, sink: Sink, replay: Replay) -> Iterator[House]:
    found = make_house(tmp_path, database_url, sink, replay.url)
    yield found
    found.services.engine.dispose()


def half_hours(start: datetime, end: datetime) -> Iterator[datetime]:
    """Every half hour from start until end."""
    while start < end:
        yield start
        start += timedelta(minutes=30)
