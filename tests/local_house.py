"""Local mode as a person meets it: sample papers, one digest in the inbox, the pages on a port."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from digest.models import Fetch, Frequency, Health, Record, Wishes
from digest.sample import TOPICS, SampleSource
from digest.services import Services, build, with_sources
from digest.settings import Settings
from digest.sources import Source
from digest.storage import subscribers, topics
from digest.storage.database import writing
from digest.web.build import build as web
from digest.web.server import WebServer, listen
from tests.house import KEY

NOW = datetime(2026, 5, 28, 12, tzinfo=UTC)  # a Thursday
READER = "ada@example.org"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnSource:
    """A source that says what a test wants to be said."""

    name: str
    records: tuple[Record, ...]

    async def fetch(self, client: object, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        return Fetch(source=self.name, health=Health.OK, records=self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalHouse:
    url: str
    services: Services

    @property
    def inbox(self) -> Path:
        assert self.services.inbox is not None
        return self.services.inbox


@contextmanager
def local_house(
    folder: Path,
    database_url: str,
    *,
    records: Sequence[Record] = (),
    clock: Callable[[], datetime] = lambda: NOW,
    **more: Any,
) -> Iterator[LocalHouse]:
    """Collect the sample and `records`, deliver one reader's digest, and serve the pages.

    `more` are settings.
    """
    listener = listen("127.0.0.1", 0)
    settings = Settings(
        base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
        data_dir=folder / "data",
        database_url=database_url,
        allow_unsafe_database=True,  # the tests' own
        secret_key=(KEY,),
        tagline="The morning's papers, ranked for you",
        postal_address="Example Lab, 1 Example Street, 12345 Example Town",
        imprint_url="https://lab.example.org/imprint",
        lookback_hours=168,
        **more,
    )
    sources: list[Source] = [
        SampleSource(name="huggingface", kind="huggingface"),
        SampleSource(name="arxiv", kind="arxiv"),
        OwnSource(name="feed:own", records=tuple(records)),
    ]
    services = with_sources(build(settings, clock=clock), sources, sample=True)
    wishes = Wishes(zone="Europe/Berlin", hour=8, frequency=Frequency.DAILY, max_papers=12)
    with writing(services.engine) as connection:
        for slug, name, query in TOPICS:
            topics.add(connection, name, query, slug=slug, now=NOW)
        newcomer = services.newcomer(READER, wishes, ("agents", "reasoning"))
        subscribers.add_many(connection, [newcomer], now=NOW - timedelta(days=1))
    replace(services, clock=lambda: NOW - timedelta(hours=12)).collect()  # so that votes grow
    services.collect()
    services.plan_due()
    with services.relays() as relays:
        services.postman(relays).deliver()
    try:
        with WebServer(web(services), listener):
            yield LocalHouse(url=settings.base_url, services=services)
    finally:
        services.engine.dispose()
