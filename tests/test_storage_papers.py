"""One paper a work on real databases: in every order, through merges, faults and repetitions."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, select

from digest import schema
from digest.errors import NotFound
from digest.models import Fetch, Health, Kind, Paper, Record
from digest.papers.text import clean_abstract, clean_name, clean_title
from digest.sources.huggingface import parse_daily
from digest.storage import merges, papers, records
from digest.storage.database import open_database
from digest.storage.migrating import upgrade
from digest.storage.papers import Stored
from tests.databases import new_database

NOW = datetime(2026, 5, 28, 6, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=9999)
HOUR = timedelta(hours=1)
A, B, D, D2 = "2605.00001", "2605.00002", "10.1000/first", "10.1000/second"


def said(source: str, external_id: str = "x", **fields: Any) -> Record:
    values: dict[str, Any] = {
        "title": f"A title of {source} for {external_id}",
        "url": f"https://example.org/{source}/{external_id}",
        "listed_at": NOW,
        "published_at": NOW,
        "raw": f"raw {source} {external_id}",
    }
    return Record(source=source, external_id=external_id, **{**values, **fields})


def by_arxiv(name: str = A, **fields: Any) -> Record:
    return said("arxiv", name, **{"arxiv_id": name, "version": 1, **fields})


def by_hf(name: str = A, **fields: Any) -> Record:
    return said("huggingface", name, **{"arxiv_id": name, **fields})


def read(
    connection: Connection,
    *found: Record,
    at: datetime = NOW,
    health: Health = Health.OK,
    oldest: datetime = LONG_AGO,
) -> Stored:
    """Store records, each source's in a read of its own; what the last one changed."""
    stored = Stored()
    for source, group in itertools.groupby(found, key=lambda record: record.source):
        fetch = Fetch(source=source, health=health, records=tuple(group))
        stored = papers.store(connection, fetch, now=at, oldest=oldest)
    return stored


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """One database of each kind for all tests here, since each takes back what it did."""
    if request.param == "sqlite":
        found = open_database(f"sqlite:///{tmp_path_factory.mktemp('papers')}/digest.db")
        upgrade(found)
    else:
        found = open_database(new_database(request.getfixturevalue("postgres_url")))
    yield found
    found.dispose()


@contextmanager
def trial(engine: Engine) -> Iterator[Connection]:
    """A transaction of which nothing stays."""
    options = {"digest_write": True}
    with engine.connect().execution_options(**options) as connection, connection.begin() as began:
        yield connection
        began.rollback()


def live(connection: Connection) -> list[Paper]:
    table = schema.paper
    rows = connection.execute(
        select(table).where(table.c.merged_into.is_(None)).order_by(table.c.id)
    ).mappings()
    return [papers.paper_of(row) for row in rows]


def only(connection: Connection) -> Paper:
    (paper,) = live(connection)
    return paper


def dump(connection: Connection, *, merged: bool = False) -> dict[str, list[dict[str, Any]]]:
    """Every row of papers, records, identifiers and signals, and of merges if asked for."""
    tables = [schema.paper, schema.record, schema.identifier, schema.signal]
    return {
        table.name: [
            dict(row)
            for row in connection.execute(
                select(table).order_by(*table.primary_key.columns)
            ).mappings()
        ]
        for table in (*tables, *((schema.merge,) if merged else ()))
    }


# ------------------------------------------------------------------ one paper a work

TITLE = "Attention Is All That Anybody Ever Needed"
WHO = ("Ada One", "Bob Two", "Cy Three")


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        pytest.param(by_arxiv(), by_hf(), True, id="one arXiv id"),
        pytest.param(
            by_arxiv(), said("feed:a", url=f"https://arxiv.org/pdf/{A}v3"), True, id="url"
        ),
        pytest.param(said("feed:a", doi=D), said("feed:b", doi=D), True, id="one DOI"),
        pytest.param(by_arxiv(), by_arxiv(B), False, id="two arXiv ids"),
        pytest.param(by_arxiv(doi=D), by_arxiv(B, doi=D), False, id="two arXiv ids, one DOI typed"),
        pytest.param(
            by_arxiv(title=TITLE, authors=WHO),
            by_arxiv(B, title=TITLE, authors=WHO),
            False,
            id="two arXiv ids, one title",
        ),
        pytest.param(
            by_arxiv(title=TITLE, authors=WHO),
            said("feed:a", title=TITLE.upper(), authors=WHO[:1]),
            True,
            id="title with author and year",
        ),
        pytest.param(
            said("feed:a", title=TITLE, authors=WHO),
            said("feed:b", title=TITLE, authors=WHO[:1]),
            True,
            id="title on both sides",
        ),
        pytest.param(
            by_arxiv(title=TITLE, authors=WHO),
            said("feed:a", title=TITLE, doi=D, authors=WHO),
            False,
            id="title, but both have exact names",
        ),
        pytest.param(
            said("feed:a", title=TITLE, authors=WHO),
            said("feed:b", title=TITLE, authors=("Dan Four",)),
            False,
            id="title, other authors",
        ),
    ],
)
def test_what_is_one_work(engine: Engine, first: Record, second: Record, together: bool) -> None:
    for order in ((first, second), (second, first)):
        with trial(engine) as connection:
            read(connection, *order)
            assert (len(live(connection)) == 1) is together


def test_recorded_works_with_one_title_stay_apart(engine: Engine, shared_data: Path) -> None:
    groups = json.loads((shared_data / "arxiv" / "same_title_different_id.json").read_text())
    for group in groups:
        found = [
            by_arxiv(
                entry["id"],
                title=clean_title(entry["title"]),
                authors=tuple(entry["authors"]),
                published_at=datetime.fromisoformat(entry["first_seen"]).replace(tzinfo=UTC),
            )
            for entry in group
        ]
        for order in itertools.permutations(found):
            with trial(engine) as connection:
                read(connection, *order)
                assert len(live(connection)) == len(group)


WORK = (
    by_arxiv(title=TITLE, authors=WHO, abstract="Short.", categories=("cs.CL",), comment="9 pages"),
    # Names one author, who stands in the middle of arXiv's list: only its title joins feed:a's.
    by_hf(title=TITLE, authors=WHO[2:], summary="One.", signals={"upvotes": 7}),
    said("feed:a", title=TITLE, authors=WHO[2:], abstract="A much longer abstract.", venue="Lab"),
    said("feed:journal", title=TITLE, authors=WHO, doi=D, keywords=("attention",)),
    said("feed:index", title="Another spelling", arxiv_id=A, doi=D, links={"code": "https://c"}),
)


def read_in_every_order(
    connection: Connection, before: tuple[Record, ...] = ()
) -> Iterator[tuple[Record, ...]]:
    """Each order of WORK once it has been read; what two begin with is read once for both."""
    if len(before) == len(WORK):
        yield before
    for record in WORK:
        if record not in before:
            with connection.begin_nested() as began:
                read(connection, record, at=NOW + len(before) * HOUR)
                yield from read_in_every_order(connection, (*before, record))
                began.rollback()


def test_a_work_becomes_one_paper_in_every_order(engine: Engine) -> None:
    contents = []
    with trial(engine) as connection:
        for order in read_in_every_order(connection):
            read(connection, *order, at=NOW + 9 * HOUR)
            paper = only(connection)
            contents.append(replace(paper, id=0))
            kept = dump(connection)
            assert {row["paper_id"] for row in kept["record"] + kept["identifier"]} == {paper.id}
            assert {row["raw"] for row in kept["record"]} == {record.raw for record in WORK}
            assert [row["value"] for row in kept["signal"]] == [7]
            assert paper.fresh_at == NOW + 4 * HOUR
    assert len(contents) == 120
    assert all(content == contents[0] for content in contents)
    assert contents[0].abstract == "Short."
    assert contents[0].links["code"] == "https://c"


def test_the_same_answer_again_changes_nothing(engine: Engine) -> None:
    with trial(engine) as connection:
        read(connection, *WORK)
        before = dump(connection, merged=True)
        for record in WORK:
            stored = read(connection, record, at=NOW + HOUR)
            assert (stored.new, stored.changed) == (0, 0)
        read(connection, *WORK, at=NOW + 2 * HOUR, health=Health.HALF_FILLED)
        assert dump(connection, merged=True) == before


def test_one_name_twice_in_an_answer_is_one_record(engine: Engine) -> None:
    with trial(engine) as connection:
        stored = read(connection, by_hf(), by_hf(signals={"upvotes": 3}), by_hf(B))
        assert stored == Stored(new=2)
        assert live(connection)[0].signals == {"upvotes": 3}


def test_an_entry_that_turns_to_another_work_keeps_its_arxiv_id(engine: Engine) -> None:
    with trial(engine) as connection:
        read(connection, said("feed:a", arxiv_id=A))
        read(connection, said("feed:a", arxiv_id=B))
        read(connection, by_arxiv(A), by_arxiv(B))
        assert [paper.arxiv_id for paper in live(connection)] == [A, B]


def test_a_paper_takes_no_second_arxiv_id(engine: Engine) -> None:
    """A post that was joined by its title later names another work, which nobody knew yet."""
    with trial(engine) as connection:
        post = said("feed:a", title=TITLE, authors=WHO)
        read(connection, by_arxiv(title=TITLE, authors=WHO), post)
        read(connection, replace(post, arxiv_id=B))
        read(connection, by_arxiv(B))
        assert [paper.arxiv_id for paper in live(connection)] == [A, B]


# ------------------------------------------------------------------ merging


def test_a_later_record_merges_two_papers(engine: Engine) -> None:
    with trial(engine) as connection:
        read(connection, by_arxiv(), by_hf(signals={"upvotes": 5}))
        read(connection, said("feed:journal", doi=D, venue="Journal"), at=NOW + HOUR)
        first, second = live(connection)
        read(connection, said("feed:index", arxiv_id=A, doi=D), at=NOW + 2 * HOUR)
        paper = only(connection)
        assert paper.id == first.id
        assert papers.get(connection, second.id) == paper
        assert paper.venue == "Journal"
        assert paper.signals == {"upvotes": 5}
        assert paper.fresh_at == NOW + 2 * HOUR
        assert [seen.record.source for seen in papers.records_of(connection, paper.id)] == [
            "arxiv",
            "huggingface",
            "feed:journal",
            "feed:index",
        ]
        found = papers.candidates(connection, since=NOW - HOUR)
        assert [candidate.id for candidate in found] == [paper.id]
        both = frozenset({first.id, second.id})
        assert papers.same_works(connection) == {first.id: both, second.id: both}


def test_a_record_whose_paper_was_merged_a_line_before(engine: Engine) -> None:
    """The first record of an answer merges the paper by whose number the second one is known."""
    first, second = said("feed:a", "1", arxiv_id=A), said("feed:a", "2", doi=D)
    with trial(engine) as connection:
        read(connection, first, second)
        read(
            connection,
            replace(first, doi=D),
            replace(second, doi=None, title=TITLE, authors=WHO, signals={"comments": 9}),
            at=NOW + HOUR,
        )
        paper = only(connection)
        counts = papers.signals(connection, [paper], now=NOW + HOUR, gained=HOUR)[paper.id]
        assert 9 in [count.value for count in counts]
        assert {row["paper_id"] for row in dump(connection)["identifier"]} == {paper.id}
        assert len(dump(connection, merged=True)["merge"]) == 1


# Which merges join papers 1, 2 and 3, and the paper whose newest merge each undoing takes back.
CHAINS = {
    "the last first": (((1, 2), (1, 3)), (3, 2)),
    "the first first": (((1, 2), (1, 3)), (2, 3)),
    "a merged one merged, the last first": (((2, 3), (1, 2)), (1, 3)),
    "a merged one merged, the first first": (((2, 3), (1, 2)), (3, 2)),
}


@pytest.mark.parametrize("case", CHAINS)
def test_undoing_merges_restores_what_was(engine: Engine, case: str) -> None:
    joined, undone = CHAINS[case]
    works = (
        by_arxiv(signals={"upvotes": 1}),
        # Two posts of one feed, with counts of their own read at one time.
        said("feed:a", "1", doi=D, signals={"comments": 2}),
        said("feed:a", "2", doi=D2, signals={"comments": 3}),
    )
    with trial(engine) as connection:
        read(connection, *works)
        ids = [paper.id for paper in live(connection)]
        before, shown = dump(connection), live(connection)
        for kept, merged in joined:
            assert merges.merge(
                connection, ids[kept - 1], ids[merged - 1], reason="a test", now=NOW
            )
            records.refresh(connection, [ids[kept - 1]])
        assert only(connection).id == ids[0]
        for paper in undone:
            merges.undo_merge(connection, ids[paper - 1], now=NOW)
        assert live(connection) == shown
        assert dump(connection) == before
        everybody = frozenset(ids)
        assert papers.same_works(connection) == dict.fromkeys(ids, everybody)
        with pytest.raises(NotFound, match="no merge to undo"):
            merges.undo_merge(connection, ids[0], now=NOW)


@pytest.mark.parametrize("case", CHAINS)
def test_what_was_set_apart_stays_so(engine: Engine, case: str) -> None:
    """Whoever named two of them goes on doing so, and so does a newcomer."""
    joined, undone = CHAINS[case]
    works = (
        by_arxiv(),
        said("feed:a", "2", doi=D),
        said("feed:a", "3", title=TITLE, authors=WHO),
    )
    exact: dict[str, Any] = {"arxiv_id": A, "doi": D}
    titled: dict[str, Any] = {"title": TITLE, "authors": WHO}
    naming = {(1, 2): exact, (1, 3): {"arxiv_id": A, **titled}, (2, 3): {"doi": D, **titled}}
    bridges = [said("feed:b", str(pair), **naming[pair]) for pair in joined]
    with trial(engine) as connection:
        read(connection, *works)
        ids = [paper.id for paper in live(connection)]
        for bridge in bridges:
            read(connection, bridge)
        assert only(connection).id == ids[0]
        for paper in undone:
            merges.undo_merge(connection, ids[paper - 1], now=NOW)
        assert [paper.id for paper in live(connection)] == ids
        newcomers = [replace(bridge, source="feed:c") for bridge in bridges]
        read(connection, *works, *bridges, *newcomers, at=NOW + HOUR)
        assert [paper.id for paper in live(connection)] == ids


def test_a_join_by_title_can_be_undone(engine: Engine) -> None:
    post = said("feed:a", title=TITLE, authors=WHO, signals={"comments": 4})
    with trial(engine) as connection:
        read(connection, by_arxiv(title=TITLE, authors=WHO), post)
        paper = only(connection)
        other = merges.undo_merge(connection, paper.id, now=NOW)
        read(connection, by_arxiv(title=TITLE, authors=WHO), post, at=NOW + HOUR)
        first, second = live(connection)
        assert (first.id, second.id) == (paper.id, other)
        assert (first.sources, second.sources) == (("arxiv",), ("feed:a",))
        assert second.signals == {"comments": 4}


# ------------------------------------------------------------------ what replaces what


@pytest.mark.parametrize(
    ("health", "fields", "expected"),
    [
        pytest.param(Health.OK, {"title": "New"}, {"title": "New"}, id="good"),
        pytest.param(Health.OK, {"version": 3, "title": "New"}, {"title": "New"}, id="newer"),
        pytest.param(Health.OK, {"version": 1, "title": "Worse"}, {}, id="older"),
        pytest.param(Health.OK, {"version": None, "title": "New"}, {"title": "New"}, id="unknown"),
        pytest.param(
            Health.OK,
            {"version": 3, "kind": Kind.REPLACE, "abstract": "New.", "comment": "", "venue": ""},
            {"abstract": "New."},
            id="a list knows no comment",
        ),
        pytest.param(
            Health.OK,
            dict.fromkeys(("title", "abstract", "comment", "venue"), "")
            | {"authors": (), "categories": (), "doi": None, "published_at": None, "links": {}},
            {},
            id="everything turned empty",
        ),
        pytest.param(Health.HALF_FILLED, {"title": "Worse", "version": 9}, {}, id="half-filled"),
        pytest.param(Health.STALE, {"title": "Worse", "signals": {"upvotes": 0}}, {}, id="stale"),
        pytest.param(
            Health.HALF_FILLED,
            {"signals": {"upvotes": 1, "stars": 4}, "summary": "Found."},
            {"signals": {"upvotes": 7, "stars": 4}, "summary": "Found."},
            id="half-filled fills what was missing",
        ),
        pytest.param(
            Health.OK,
            {"signals": {"upvotes": 5}},
            {"signals": {"upvotes": 5}},
            id="votes are taken back",
        ),
    ],
)
def test_what_replaces_what(
    engine: Engine, health: Health, fields: dict[str, Any], expected: dict[str, Any]
) -> None:
    good = by_arxiv(
        version=2,
        title="Good",
        abstract="Good.",
        comment="9 pages",
        venue="Journal",
        authors=WHO,
        categories=("cs.CL", "cs.LG"),
        doi=D,
        links={"code": "https://code"},
        signals={"upvotes": 7},
    )
    with trial(engine) as connection:
        read(connection, good)
        before = only(connection)
        read(connection, replace(good, **fields), at=NOW + HOUR, health=health)
        assert only(connection) == replace(before, **expected)
        (row,) = dump(connection)["record"]
        assert row["version"] == (3 if fields.get("version") == 3 else 2)
        read(connection, good, at=NOW + 2 * HOUR)
        kept = {**expected, "signals": {**expected.get("signals", {}), "upvotes": 7}}
        if "title" in kept and fields.get("version", 2) != 3:
            kept["title"] = "Good"
        assert only(connection) == replace(before, **kept)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param({"kind": Kind.WITHDRAWN, "version": 2}, id="announced"),
        pytest.param({"comment": "Withdrawn by the authors"}, id="in the comment"),
        pytest.param({"abstract": "This paper has been withdrawn.", "version": 2}, id="abstract"),
    ],
)
def test_a_withdrawn_paper_is_no_candidate(engine: Engine, later: dict[str, Any]) -> None:
    with trial(engine) as connection:
        read(connection, by_arxiv(), by_hf())
        assert len(papers.candidates(connection, since=NOW - HOUR)) == 1
        read(connection, by_arxiv(**later), at=NOW + HOUR)
        assert only(connection).withdrawn
        # Nor does it come back because a list or Hugging Face still has it.
        read(connection, by_arxiv(version=2), by_hf(), by_hf(B), at=NOW + 2 * HOUR)
        found = papers.candidates(connection, since=NOW - HOUR)
        assert [paper.arxiv_id for paper in found] == [B]


@pytest.mark.parametrize(
    ("record", "fresh"),
    [
        pytest.param(by_arxiv(), True, id="new"),
        pytest.param(by_arxiv(kind=Kind.CROSS), True, id="cross-listed"),
        pytest.param(by_arxiv(kind=Kind.REPLACE), False, id="replaced"),
        pytest.param(by_arxiv(kind=Kind.WITHDRAWN), False, id="withdrawn"),
        pytest.param(by_arxiv(listed_at=NOW - timedelta(days=4)), False, id="too old"),
        pytest.param(by_arxiv(listed_at=NOW - timedelta(days=3)), True, id="just not too old"),
    ],
)
def test_what_makes_a_candidate(engine: Engine, record: Record, fresh: bool) -> None:
    with trial(engine) as connection:
        read(connection, record, oldest=NOW - timedelta(days=3))
        assert only(connection).fresh_at == (NOW if fresh else None)
        # Known once, a work is not announced again by the same source.
        later = NOW + timedelta(days=1)
        read(connection, replace(record, kind=Kind.REPLACE, version=2, abstract="v2"), at=later)
        read(connection, replace(record, kind=Kind.CROSS, version=2), at=later)
        assert only(connection).fresh_at == (NOW if fresh else None)


def test_hugging_face_makes_a_work_news_again(engine: Engine) -> None:
    listed = NOW + timedelta(days=6)
    with trial(engine) as connection:
        read(connection, by_arxiv())
        assert papers.candidates(connection, since=NOW) == []
        read(connection, by_hf(listed_at=listed), at=listed)
        (paper,) = papers.candidates(connection, since=NOW)
        assert (paper.fresh_at, paper.listed_at, paper.first_seen_at) == (listed, listed, NOW)
        # A replacement is no news.
        read(connection, by_arxiv(version=2, abstract="v2", kind=Kind.REPLACE), at=listed + HOUR)
        assert papers.candidates(connection, since=listed) == []


# ------------------------------------------------------------------ counts over time


def history(connection: Connection) -> list[tuple[datetime, str, int]]:
    table = schema.signal
    return [
        (row.seen_at, row.name, row.value)
        for row in connection.execute(select(table).order_by(table.c.seen_at, table.c.name))
    ]


def test_a_history_grows_when_a_count_changes(engine: Engine) -> None:
    steps: tuple[tuple[dict[str, int], int], ...]
    steps = (({"upvotes": 1}, 1), ({"upvotes": 1}, 0), ({"upvotes": 5, "stars": 2}, 2), ({}, 0))
    with trial(engine) as connection:
        for number, (counts, rows) in enumerate(steps):
            before = len(history(connection))
            read(connection, by_hf(signals=counts), at=NOW + number * HOUR)
            assert len(history(connection)) - before == rows
        paper = only(connection)
        assert paper.signals == {"stars": 2, "upvotes": 5}
        for gained, gain in ((timedelta(minutes=90), 4), (timedelta(hours=9), 4), (HOUR, 0)):
            found = papers.signals(connection, [paper], now=NOW + 3 * HOUR, gained=gained)
            counted = {one.name: (one.value, one.gain) for one in found[paper.id]}
            assert counted == {"upvotes": (5, gain), "stars": (2, 0)}
        (then,) = papers.signals(connection, [paper], now=NOW, gained=HOUR)[paper.id]
        assert (then.value, then.day) == (1, NOW.date())


def test_two_records_of_one_source_keep_their_own_counts(engine: Engine) -> None:
    """Two posts about one work, each with comments: no to and fro at each read."""
    posts = [said("feed:a", str(n), doi=D, signals={"comments": n}) for n in (3, 8)]
    with trial(engine) as connection:
        read(connection, *posts)
        assert read(connection, *posts, at=NOW + HOUR) == Stored(unchanged=2)
        paper = only(connection)
        assert paper.signals == {"comments": 8}
        found = papers.signals(connection, [paper], now=NOW + HOUR, gained=HOUR)[paper.id]
        assert [(one.value, one.gain) for one in found] == [(3, 0), (8, 0)]


def test_recorded_votes(engine: Engine, shared_data: Path) -> None:
    """18,885 readings of two months: a row for each change and no other, the last one counts."""
    readings: dict[str, dict[str, int]] = defaultdict(dict)
    with (shared_data / "hf" / "upvote_history.jsonl").open() as lines:
        for line in lines:
            one = json.loads(line)
            readings[one["seen_at"]][one["paper_id"]] = one["upvotes"]
    expected: dict[str, list[int]] = defaultdict(list)
    times = sorted(readings)[:60]
    with trial(engine) as connection:
        for time in times:
            at = datetime.fromisoformat(time)
            votes = readings[time]
            read(
                connection,
                *(by_hf(name, signals={"upvotes": count}) for name, count in votes.items()),
                at=at,
            )
            for name, count in votes.items():
                if expected[name][-1:] != [count]:
                    expected[name].append(count)
        found = {paper.arxiv_id: paper for paper in live(connection)}
        assert len(history(connection)) == sum(map(len, expected.values()))
        assert {name: paper.signals["upvotes"] for name, paper in found.items()} == {
            name: counts[-1] for name, counts in expected.items()
        }
        end = datetime.fromisoformat(times[-1])
        counts = papers.signals(
            connection, list(found.values()), now=end, gained=timedelta(days=9999)
        )
        for paper in found.values():
            (one,) = counts[paper.id]
            series = expected[str(paper.arxiv_id)]
            assert one.gain == series[-1] - series[0]


def test_recorded_states_of_a_growing_day(engine: Engine, shared_data: Path) -> None:
    """The list of 8 January 2025 as it was committed: it grows, and so do its votes."""
    bodies = sorted((shared_data / "hf" / "versions").glob("2025-01-08__*.json"))
    assert len(bodies) > 5
    last: dict[str, int] = {}
    with trial(engine) as connection:
        for number, body in enumerate(bodies):
            found = parse_daily(body.read_bytes(), day=date(2025, 1, 8)).records
            stored = read(connection, *found, at=NOW + number * HOUR)
            assert stored.new == len({record.external_id for record in found} - set(last))
            last |= {record.external_id: record.signals["upvotes"] for record in found}
        assert {str(paper.arxiv_id): paper.signals["upvotes"] for paper in live(connection)} == last
        assert len(history(connection)) > 2 * len(last)


def test_recorded_changes_of_arxiv_papers(engine: Engine, shared_data: Path) -> None:
    def fields(name: str, value: Any) -> dict[str, Any]:
        clean: dict[str, Callable[[Any], Any]] = {
            "title": clean_title,
            "summary": clean_abstract,
            "comment": lambda text: clean_title(text or ""),
            "authors": lambda names: tuple(map(clean_name, names)),
            "categories": tuple,
        }
        return {{"summary": "abstract"}.get(name, name): clean[name](value)}

    with (shared_data / "arxiv" / "changes.jsonl").open() as lines:
        changes = [json.loads(line) for line in lines]
    assert len(changes) == 189
    differing = 0
    for change in changes:
        before = fields(change["field"], change["old"])
        after = fields(change["field"], change["new"])
        with trial(engine) as connection:
            read(connection, by_arxiv(change["id"], **before))
            stored = read(
                connection, by_arxiv(change["id"], version=2, raw="v2", **after), at=NOW + HOUR
            )
            assert stored.changed == 1
            paper = only(connection)
            assert {name: getattr(paper, name) for name in after} == after
            (row,) = dump(connection)["record"]
            assert (row["version"], row["raw"]) == (2, "v2")
            differing += before != after
    assert differing > 150


# ------------------------------------------------------------------ hostile words


def _noise(length: int) -> str:
    """Text that does not compress, as PostgreSQL's index would do."""
    return "".join(random.Random(length).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=length))


@pytest.mark.parametrize(
    ("fields", "stored_on"),
    [
        pytest.param({"title": "a\x00b"}, ("sqlite",), id="NUL in a title"),
        pytest.param({"raw": "a\x00b"}, ("sqlite",), id="NUL in raw"),
        pytest.param({"keywords": ("\ud800",)}, (), id="lone surrogate in a keyword"),
        pytest.param({"authors": ("A \udfff",)}, (), id="lone surrogate in a name"),
        pytest.param({"raw": "\ud800"}, (), id="lone surrogate in raw"),
        pytest.param({"signals": {"stars": 2**70}}, (), id="a count beyond all bounds"),
        pytest.param({"external_id": _noise(9000)}, ("sqlite",), id="a name beyond the index"),
        pytest.param({"doi": f"10.1000/{_noise(9000)}"}, ("sqlite", "postgresql"), id="huge DOI"),
        pytest.param({"abstract": _noise(3_000_000)}, ("sqlite", "postgresql"), id="huge abstract"),
        pytest.param({"title": _noise(1_000_000)}, ("sqlite", "postgresql"), id="huge title"),
        pytest.param({"listed_at": datetime(2026, 5, 28)}, (), id="no zone"),  # noqa: DTZ001
    ],
)
def test_a_bad_record_stops_only_itself(
    engine: Engine,
    caplog: pytest.LogCaptureFixture,
    fields: dict[str, Any],
    stored_on: Sequence[str],
) -> None:
    good = [said("feed:a", str(n), doi=f"10.1000/{n}", signals={"comments": n}) for n in range(9)]
    good.insert(4, said("feed:a", **{"external_id": "bad", **fields}))
    with trial(engine) as connection:
        stored = read(connection, *good)
        if engine.dialect.name in stored_on:
            assert stored == Stored(new=10)
        else:
            assert stored.refused == 1
            assert "cannot be stored" in caplog.text
        shown = {paper.doi for paper in live(connection)}
        assert shown >= {f"10.1000/{n}" for n in range(9)}
        assert read(connection, *good, at=NOW + HOUR).new == 0


def test_many_merges_in_one_read(engine: Engine) -> None:
    """Each of 200 posts names two papers; the time of each does not grow with their number."""
    count = 200
    with trial(engine) as connection:
        read(
            connection,
            *(by_arxiv(f"2605.{n:05}") for n in range(count)),
            *(said("feed:a", str(n), doi=f"10.1000/{n}") for n in range(count)),
        )
        assert len(live(connection)) == 2 * count
        read(
            connection,
            *(
                said("feed:b", str(n), arxiv_id=f"2605.{n:05}", doi=f"10.1000/{n}")
                for n in range(count)
            ),
        )
        found = live(connection)
        assert len(found) == count
        assert all(re.fullmatch(r"10\.1000/\d+", paper.doi or "") for paper in found)
        assert all(len(paper.sources) == 3 for paper in found)
