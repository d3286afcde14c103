"""A desk to plan at: a database with papers that a test invents, and the real planner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest
from sqlalchemy import Engine, RowMapping, select, update

from digest import schema
from digest.models import (
    Fetch,
    Frequency,
    Health,
    Newcomer,
    Part,
    Record,
    Site,
    State,
    Subscriber,
    Wishes,
)
from digest.pipeline.drafting import Plan
from digest.pipeline.planning import Planned, heal, plan
from digest.pipeline.reporting import Report, report
from digest.ranking import Weights
from digest.rendering import Entry, Renderer
from digest.selection import Rules
from digest.storage import papers, sources, subscribers, topics
from digest.storage.database import open_database, reading, writing
from digest.storage.papers import Stored

SITE = Site(
    name="Paper Digest",
    base_url="https://digest.example.org",
    sender_address="digest@example.org",
    list_id="digest.example.org",
)
RULES = Rules(
    min_score=0.3,
    cards=3,
    lookback=timedelta(hours=72),
    weekly=timedelta(days=7),
    longest=timedelta(days=14),
    rise=10,
)
WEIGHTS = Weights(trend=1.0, topic=1.0, half_life=timedelta(hours=36))
TEMPLATES = Path(__file__).resolve().parents[1] / "templates"
DAILY = Wishes(zone="UTC", hour=8, frequency=Frequency.DAILY, max_papers=5)


class FragileRenderer(Renderer):
    """A renderer that fails where a test says so."""

    bad_title = ""
    bad_person = 0

    def cards(self, entries: Any, *, locale: str) -> list[Part]:
        entries = list[Entry](entries)
        if self.bad_title and any(self.bad_title in entry.paper.title for entry in entries):
            raise ValueError("a bad paper")
        return super().cards(entries, locale=locale)

    def personal(self, *args: Any, subscriber: Subscriber, **values: Any) -> dict[str, str]:
        if subscriber.id == self.bad_person:
            raise ValueError("a bad person")
        return super().personal(*args, subscriber=subscriber, **values)


@dataclass
class Desk:
    engine: Engine
    locks: Path
    now: datetime = datetime(2026, 5, 27, 6, tzinfo=UTC)  # a Wednesday
    renderer: FragileRenderer = field(default_factory=lambda: FragileRenderer(TEMPLATES, SITE))

    @property
    def plan(self) -> Plan:
        return Plan(
            renderer=self.renderer,
            rules=RULES,
            weights=WEIGHTS,
            catch_up=timedelta(hours=12),
            give_up=timedelta(hours=24),
            site=SITE,
            sources=("huggingface", "arxiv"),
            links=lambda subscriber, slot, now: {
                "unsubscribe_url": f"{SITE.base_url}/u/{subscriber.id}",
                "preferences_url": f"{SITE.base_url}/me/{subscriber.id}",
                "view_url": f"{SITE.base_url}/v/{subscriber.id}_{slot}",
                "feedback": f"{subscriber.id}_{slot}",
            },
        )

    def at(self, text: str) -> datetime:
        """Move the clock to `2026-05-28T08:00` (UTC)."""
        self.now = datetime.fromisoformat(text).replace(tzinfo=UTC)
        return self.now

    def paper(
        self,
        title: str,
        *,
        votes: int | None = None,
        source: str = "huggingface",
        listed_at: datetime | None = None,
        **more: Any,
    ) -> int:
        """Store what a source says of a work now; the paper's id."""
        record = Record(
            source=source,
            external_id=title,
            title=title,
            url=f"https://example.org/{title.replace(' ', '-')}",
            abstract="A text about nothing in particular.",
            listed_at=listed_at or self.now,
            signals={} if votes is None else {"upvotes": votes},
            **more,
        )
        fetch = Fetch(source=source, health=Health.OK, records=(record,))
        with writing(self.engine) as connection:
            papers.store(connection, fetch, now=self.now, oldest=self.now - RULES.longest)
            table = schema.record
            found: int = connection.execute(
                select(table.c.paper_id).where(
                    table.c.source == source, table.c.external_id == title
                )
            ).scalar_one()
        return found

    def read(self, **health: Health) -> None:
        """Note how a read of each source went, now."""
        with writing(self.engine) as connection:
            for source, value in health.items():
                fetch = Fetch(source=source, health=value)
                sources.remember(connection, fetch, Stored(), started_at=self.now, seconds=1)

    def topic(self, slug: str, query: str) -> None:
        with writing(self.engine) as connection:
            topics.add(connection, slug.title(), query, slug=slug, now=self.now)

    def subscribe(self, name: str, *slugs: str, wishes: Wishes = DAILY) -> int:
        newcomer = Newcomer(
            address=f"{name}@example.org",
            key=f"{name}@example.org",
            hashes=(name,),
            wishes=wishes,
            topics=slugs,
        )
        with writing(self.engine) as connection:
            subscribers.add_many(connection, [newcomer], now=self.now)
            person = subscribers.find(connection, newcomer.key)
        assert person is not None
        return person.id

    def change(self, subscriber_id: int, wishes: Wishes) -> None:
        with writing(self.engine) as connection:
            subscribers.change(connection, subscriber_id, wishes, now=self.now)

    def run(self) -> Planned:
        return plan(self.engine, self.plan, locks=self.locks, now=self.now)

    def heal(self) -> int:
        return heal(self.engine)

    def report(self, days: float = 30) -> Report:
        return report(self.engine, self.plan.sources, now=self.now, span=timedelta(days=days))

    def end(self, state: State = State.SENT) -> None:
        """What is planned has this end."""
        table = schema.delivery
        with writing(self.engine) as connection:
            connection.execute(
                update(table).where(table.c.state == State.PLANNED).values(state=state)
            )

    def digests(self, subscriber_id: int) -> list[RowMapping]:
        """Somebody's digests with their deliveries, oldest first."""
        digests, deliveries = schema.digest, schema.delivery
        with reading(self.engine) as connection:
            return list(
                connection.execute(
                    select(digests, deliveries.c.state, deliveries.c.give_up_at)
                    .join(deliveries, deliveries.c.digest_id == digests.c.id)
                    .where(digests.c.subscriber_id == subscriber_id)
                    .order_by(digests.c.due_at)
                ).mappings()
            )

    def all_digests(self) -> list[RowMapping]:
        with reading(self.engine) as connection:
            return list(connection.execute(select(schema.digest)).mappings())

    def last(self, subscriber_id: int) -> tuple[list[int], str]:
        """The papers of somebody's last digest, best first, and why there are none."""
        row = self.digests(subscriber_id)[-1]
        return row["paper_ids"], row["reason"]


@pytest.fixture
def desk(tables: Path, tmp_path: Path) -> Iterator[Desk]:
    """A desk on SQLite."""
    engine = open_database(f"sqlite:///{copyfile(tables, tmp_path / 'digest.db')}")
    yield Desk(engine, tmp_path / "locks")
    engine.dispose()


@pytest.fixture
def each_desk(engine: Engine, tmp_path: Path) -> Desk:
    """A desk on SQLite, and one on PostgreSQL, for what lies in the statements."""
    return Desk(engine, tmp_path / "locks")


@pytest.fixture
def at_eight(desk: Desk) -> Desk:
    """Wednesday: Ada came at six, it is eight."""
    desk.subscribe("ada")
    desk.read(huggingface=Health.OK, arxiv=Health.OK)
    desk.at("2026-05-27T08:00")
    return desk
