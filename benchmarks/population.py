"""A house of any size full of invented papers and readers, for what a recorded day is too small.

All digests are due at the last full hour of the real clock, for PostgreSQL tells the time itself.
Readers are made inside the database, by a statement for each table.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    String,
    Table,
    case,
    cast,
    func,
    literal,
    select,
    true,
)

from benchmarks.interests import add_interests
from digest import schema
from digest.models import Fetch, Frequency, Health, Record, Status
from digest.services import Services, build
from digest.settings import Settings
from digest.storage import papers as shelf
from digest.storage import sources, topics
from digest.storage.database import insert_ignoring, writing
from digest.storage.papers import Stored

PAPERS = 1_000
TOPICS = 20
PAGES = "https://papers.example.org/"
BASE = "https://digest.example.org"
SHOWN = 11  # papers in a digest on average, each with a card: 57 kB on the wire
AGE = timedelta(days=30)  # of the readers
# Three in five readers have an address at one of the large domains, the others are scattered.
LARGE = 3
SMALL = 299  # shares no factor with the pattern of the large ones
_SCATTER = (2654435761, 2246822519, 3266489917, 668265263)  # one for each topic of a reader

_SYLLABLES = ("ba", "cor", "den", "el", "fi", "gra", "hum", "is", "jo", "ket", "lu", "mor", "nis")
_SMALL = ("the", "of", "a", "and", "for", "in", "with", "to", "by", "on")


@contextmanager
def house(
    folder: Path, database_url: str, *, port: int = 25, connections: int = 128
) -> Iterator[Services]:
    """The services of such a house; its mail server listens on `port` of this machine.

    A house remembers its database in `folder`: another database is another house.
    """
    folder.mkdir(parents=True, exist_ok=True)
    services = build(
        Settings(
            base_url=BASE,
            data_dir=folder,
            database_url=database_url,
            secret_key=("kq3ZxT8mW1rYp5uB7nC9vE2dF4gH6jL0",),
            smtp_host="127.0.0.1",
            smtp_port=port,
            smtp_tls="none",
            smtp_connections=connections,
            mx_lookups=False,
            sender_address="digest@example.org",
            postal_address="Example Lab, 1 Example Street, 12345 Example Town",
            cards=2 * SHOWN,
        )
    )
    try:
        yield services
    finally:
        services.engine.dispose()


def populate(
    services: Services, *, people: int, papers: int = PAPERS, interested: float = 0.0
) -> None:
    """Papers, topics, and readers who follow up to four of these, all with a digest due.

    The share `interested` of them has interests too.
    """
    now = datetime.now(UTC)
    with writing(services.engine) as connection:
        for number in range(TOPICS):
            query = f'"{_term(number)}"'
            topics.add(connection, f"Field {number}", query, slug=f"field-{number}", now=now)
        for source in ("huggingface", "arxiv"):
            fetch = Fetch(
                source=source,
                health=Health.OK,
                records=tuple(_record(source, number, now=now) for number in range(papers // 2)),
            )
            shelf.store(connection, fetch, now=now, oldest=now - AGE)
            sources.remember(connection, fetch, Stored(), started_at=now, seconds=1)
        _add_readers(connection, people, now=now)
        add_interests(connection, interested, now=now)


def add_readers(services: Services, people: int, *, queries: Sequence[str]) -> list[str]:
    """Readers alone, and the topics that they follow, one of each query, by slug."""
    now = datetime.now(UTC)
    with writing(services.engine) as connection:
        slugs = [
            topics.add(connection, f"Field {number}", query, now=now).slug
            for number, query in enumerate(queries)
        ]
        _add_readers(connection, people, now=now)
    return slugs


def _term(topic: int) -> str:
    return f"{_SYLLABLES[topic % 13]}{_SYLLABLES[topic // 13]}ology"


def _record(source: str, number: int, *, now: datetime) -> Record:
    chance = random.Random(f"{source} {number}")
    terms = [_term(chance.randrange(TOPICS)) for _ in range(3)]
    page = f"{PAGES}{source}/{number}"
    counts = {"upvotes": 200, "comments": 20, "stars": 900} if source == "huggingface" else {}
    kinds = ("pdf", "html", "huggingface", "code")
    return Record(
        source=source,
        external_id=str(number),
        title=f"{_words(chance, 11)}: {terms[0]}".capitalize(),
        url=page,
        listed_at=now - timedelta(hours=1 + chance.random() * 40),
        abstract=" ".join(f"{_words(chance, 20, *terms).capitalize()}." for _ in range(11)),
        summary=f"{_words(chance, 42, *terms).capitalize()}.",
        authors=tuple(_words(chance, 2).title() for _ in range(8)),
        organisation=f"University of {_words(chance, 1).title()}",
        links={kind: f"{page}/{kind}" for kind in kinds},
        signals={name: chance.randrange(1, most) for name, most in counts.items()},
    )


def _words(chance: random.Random, count: int, *among: str) -> str:
    """Invented words, small ones between them, and those of `among` at random places."""
    found = [
        chance.choice(_SMALL) if chance.random() < 0.3 else "".join(chance.choices(_SYLLABLES, k=3))
        for _ in range(count - len(among))
    ]
    for word in among:
        found.insert(chance.randrange(len(found) + 1), word)
    return " ".join(found)


def _add_readers(connection: Connection, people: int, *, now: datetime) -> None:
    due_at = now.replace(minute=0, second=0, microsecond=0)
    moment: dict[str, Any] = {
        "zone": "UTC",
        "hour": due_at.hour,
        "frequency": Frequency.DAILY,
        "weekday": None,
    }
    numbers = select(literal(1).label("number")).cte("numbers", recursive=True)
    numbers = numbers.union_all(select(numbers.c.number + 1).where(numbers.c.number < people))
    number: ColumnElement[int] = numbers.c.number
    address = literal("reader.") + cast(number, String) + literal("@") + _domain(number)
    _fill(
        connection,
        schema.subscriber,
        address=address,
        address_key=address,
        address_hash=_hash(connection, address),
        name=literal("Reader ") + cast(number, String),
        **moment,
        max_papers=SHOWN - 2 + number % 5,
        locale="en",
        status=Status.ACTIVE,
        created_at=now - AGE,
        confirmed_at=now - AGE,
        paused_until=None,
        next_due_at=due_at,
    )
    reader = schema.subscriber.c.id
    # Due for the first time an hour ago at most: what was due before is nobody's business here.
    since = due_at - timedelta(minutes=1)
    _fill(
        connection,
        schema.schedule,
        subscriber_id=reader,
        since=since,
        until=None,
        **moment,
        active=True,
    )
    for place, factor in enumerate(_SCATTER):
        chosen = reader * literal(factor, schema.subscriber.c.id.type) // 65536 % TOPICS
        _fill(
            connection,
            schema.follow,
            (schema.topic.c.slug == literal("field-") + cast(chosen, String))
            & (reader % len(_SCATTER) >= place),
            subscriber_id=reader,
            topic_id=schema.topic.c.id,
        )


def _domain(number: ColumnElement[int]) -> ColumnElement[str]:
    """Each is a receiving provider of its own, with its own share of every claim."""
    fifth = number // 5 % 5  # not the last figure, which chooses how many papers there are
    return case(
        (fifth < LARGE, literal("large-") + cast(fifth, String)),
        else_=literal("small-") + cast(number % SMALL, String),
    ) + literal(".example.org")


def _fill(
    connection: Connection, table: Table, where: ColumnElement[bool] | None = None, **values: Any
) -> None:
    """Insert a row for each of those that the values are made from."""
    columns = [
        value if isinstance(value, ColumnElement) else literal(value, table.c[name].type)
        for name, value in values.items()
    ]
    # Without any condition SQLite would take ON CONFLICT for a join's.
    chosen = select(*columns).where(true() if where is None else where)
    connection.execute(insert_ignoring(connection, table).from_select(list(values), chosen))


def _hash(connection: Connection, address: ColumnElement[str]) -> ColumnElement[str]:
    """As long and as scattered as a real one; nobody is looked up by it here."""
    if connection.dialect.name == "postgresql":
        return func.encode(func.sha256(cast(address, LargeBinary)), "hex")
    return func.lower(func.hex(func.randomblob(32)))
