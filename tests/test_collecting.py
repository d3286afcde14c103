"""Collecting: no source, answer or fault stops another, and what is remembered can be built on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from digest import schema
from digest.errors import Busy
from digest.models import Fetch, Health, Paper, Record
from digest.pipeline.collecting import Limits, collect
from digest.sources.http import Client
from digest.storage import papers, runs, sources
from digest.storage.database import open_database, reading, writing
from digest.storage.sources import Memory, Read

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
DAY = timedelta(days=1)
LOOKBACK, LONGEST = 3 * DAY, 14 * DAY


@dataclass
class Told:
    """A source that gives what it is told to, and keeps what it was asked with."""

    name: str
    answer: Callable[[], Fetch]
    states: list[Mapping[str, Any]] = field(default_factory=list)
    seconds: float = 0  # until the answer

    async def fetch(self, client: Client, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        self.states.append(state)
        await asyncio.sleep(self.seconds)
        return self.answer()


def post(source: str, name: str = "1", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "title": f"A post of {source}",
        "url": f"https://example.org/{source}/{name}",
        "listed_at": NOW,
    }
    return Record(source=source, external_id=name, **{**values, **fields})


def good(source: str, *posts: Record, **fields: Any) -> Told:
    found = posts or (post(source),)
    values = {"health": Health.OK, "records": found, "state": {"read": source}}
    return Told(source, lambda: Fetch(source=source, **{**values, **fields}))


def raising(source: str, error: Exception) -> Told:
    def answer() -> Fetch:
        raise error

    return Told(source, answer)


@dataclass
class Collector:
    engine: Engine
    locks: Path
    now: datetime = NOW
    budget: float = 60.0
    stopping: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *read: Told) -> dict[str, Read]:
        reads = collect(
            self.engine,
            read,
            client=lambda: Client(base_url="https://digest.example.org", contact="", intervals={}),
            limits=Limits(lookback=LOOKBACK, longest=LONGEST, budget=self.budget),
            locks=self.locks,
            clock=lambda: self.now,
            stopping=self.stopping,
        )
        return {one.source: one for one in reads}

    def memory(self, source: str) -> Memory:
        with reading(self.engine) as connection:
            return sources.memory(connection, source)

    def papers(self, *, since: datetime = NOW - 99 * DAY) -> list[Paper]:
        with reading(self.engine) as connection:
            return papers.candidates(connection, since=since)


@pytest.fixture
def collector(engine: Engine, tmp_path: Path) -> Collector:
    return Collector(engine, tmp_path / "locks")


@pytest.fixture
def refusing(engine: Engine) -> Iterator[None]:
    """A database that takes no record of feed:bad, whichever and how often it is offered."""

    @event.listens_for(engine, "before_cursor_execute")
    def refuse(_c: Any, _cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith("INSERT INTO record") and "feed:bad" in str(parameters):
            raise RuntimeError("a bug of ours\x00\ud800 " + "x" * 9999)

    yield
    event.remove(engine, "before_cursor_execute", refuse)


@pytest.mark.parametrize(
    "bad",
    [
        raising("feed:bad", RuntimeError("a bug of ours\x00\ud800 " + "x" * 9999)),
        raising("feed:bad", KeyError()),
        good("feed:bad"),  # its records are refused below
    ],
    ids=["fetching", "without a word", "storing"],
)
def test_a_source_that_breaks_stops_no_other(
    collector: Collector, refusing: None, bad: Told, caplog: pytest.LogCaptureFixture
) -> None:
    reads = collector(good("feed:a"), bad, good("feed:z"))
    assert [read.new for read in reads.values()] == [1, 0, 1]
    broken = reads["feed:bad"]
    assert broken.health is Health.FAILED
    assert broken.reason.startswith("An error of ours, please report it: ")
    assert len(broken.reason) < 300
    assert "feed:bad broke" in caplog.text
    assert {paper.sources for paper in collector.papers()} == {("feed:a",), ("feed:z",)}
    # Nothing says that what was lost is known: it is asked for and stored next time.
    assert collector.memory("feed:bad") == Memory(state={}, seeded_at=None, good_at=None)
    assert collector.memory("feed:a") == Memory(
        state={"read": "feed:a"}, seeded_at=NOW, good_at=NOW
    )
    with reading(collector.engine) as connection:
        (run,) = runs.latest(connection)
        assert run["counts"] == {"fetched": 2, "new": 2, "changed": 0, "unchanged": 0}
        rows = sources.latest_reads(connection, ["feed:bad", "feed:z", "feed:new"], now=NOW)
        assert rows == [broken, reads["feed:z"]]


def test_a_record_that_cannot_be_stored_is_told(collector: Collector) -> None:
    bad = post("feed:a", "bad", signals={"comments": 2**70})
    read = collector(good("feed:a", bad, post("feed:a", "2"), reason="Said."))["feed:a"]
    assert (read.health, read.fetched, read.new) == (Health.OK, 2, 1)
    assert read.reason == "Said. 1 of 2 could not be stored; see the log."


@pytest.mark.parametrize(
    ("health", "state", "kept", "is_good"),
    [
        (Health.REFUSED, {"not_before": "later"}, {"not_before": "later"}, False),
        (Health.FAILED, None, {"read": "feed:a"}, False),
        (Health.STALE, {"read": "half"}, {"read": "half"}, False),
        (Health.UNCHANGED, None, {"read": "feed:a"}, True),
        (Health.EMPTY_BY_CALENDAR, {}, {}, True),
    ],
)
def test_what_is_remembered_of_a_read(
    collector: Collector,
    health: Health,
    state: dict[str, Any] | None,
    kept: dict[str, Any],
    is_good: bool,
) -> None:
    collector(good("feed:a"))
    collector.now += DAY
    told = good("feed:a", health=health, records=(), state=state, reason="It says so.")
    read = collector(told)["feed:a"]
    assert told.states == [{"read": "feed:a"}]
    assert (read.health, read.reason, read.started_at) == (health, "It says so.", NOW + DAY)
    seen = collector.memory("feed:a")
    assert seen == Memory(state=kept, seeded_at=NOW, good_at=NOW + DAY if is_good else NOW)


def test_the_first_good_read_seeds(collector: Collector) -> None:
    def listed(name: str, days: int) -> Record:
        return post("feed:a", name, title=f"Post {name}", listed_at=NOW - days * DAY)

    early = good("feed:a", listed("1", 2), listed("2", 5), health=Health.HALF_FILLED)
    assert collector(early)["feed:a"].new == 2
    assert collector.memory("feed:a").seeded_at is None
    collector(good("feed:a", listed("1", 2), listed("3", 1), listed("4", 5)))
    assert [paper.title for paper in collector.papers()] == ["Post 1", "Post 3"]
    collector.now += timedelta(hours=6)
    collector(good("feed:a", listed("5", 13), listed("6", 14), listed("4", 5)))
    assert [paper.title for paper in collector.papers()] == ["Post 1", "Post 3", "Post 5"]
    with reading(collector.engine) as connection:
        assert connection.execute(select(func.count()).select_from(schema.paper)).scalar() == 6


def test_works_of_several_sources_meet_in_one_collect(collector: Collector) -> None:
    """All are read at once, and stored in whatever order they end."""
    reads = collector(
        *(good(f"feed:{n}", post(f"feed:{n}", arxiv_id="2605.00001")) for n in range(9))
    )
    assert sum(read.new for read in reads.values()) == 9
    (paper,) = collector.papers()
    assert len(paper.sources) == 9


_HOLDER = """
import sys
from pathlib import Path
from digest.storage.database import exclusive, open_database
with exclusive(open_database(sys.argv[1]), "collect", Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_collects_at_a_time(
    collector: Collector, database_url: str, tmp_path: Path
) -> None:
    source = good("feed:a")
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, database_url, str(tmp_path / "locks")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[1],
        text=True,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="collect"):
            collector(source)
        assert source.states == []
        other.kill()
    # PostgreSQL notices a moment later that the connection is gone.
    for _ in range(100):
        try:
            reads = collector(source)
        except Busy:
            threading.Event().wait(0.05)
        else:
            break
    assert reads["feed:a"].new == 1


def test_nothing_is_stamped_before_it_can_be_seen(sqlite_url: str, tmp_path: Path) -> None:
    """A collect that waits for the database stamps its papers when it gets it.

    Else a digest that was planned meanwhile, without them, would seem to have seen them.
    """
    from digest.storage.migrating import upgrade

    engine = open_database(sqlite_url)
    upgrade(engine)
    collector = Collector(engine, tmp_path / "locks")
    fetched = threading.Event()

    def answer() -> Fetch:
        fetched.set()
        return good("feed:a").answer()

    waiting = threading.Thread(target=lambda: collector(Told("feed:a", answer)))
    with writing(engine):
        waiting.start()
        assert fetched.wait(20)
        collector.now = NOW + timedelta(minutes=5)
    waiting.join(20)
    (paper,) = collector.papers()
    assert paper.fresh_at == NOW + timedelta(minutes=5)
    engine.dispose()


def test_a_source_that_takes_too_long_is_given_up(collector: Collector) -> None:
    slow = raising("slow", TimeoutError())
    slow.seconds = 60
    collector.budget = 0.1
    reads = collector(good("quick"), slow)
    assert reads["quick"].health is Health.OK
    assert reads["slow"].health is Health.FAILED
    assert "DIGEST_FETCH_BUDGET" in reads["slow"].reason


def test_told_to_end_it_ends_at_once(collector: Collector) -> None:
    slow = good("slow")
    slow.seconds = 60
    collector.stopping.set()
    assert collector(slow) == {}
    assert collector.memory("slow").good_at is None
