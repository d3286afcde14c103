"""Search: a fixed mix of queries over 100,000 invented papers, ten a second, nothing remembered.

Words are as frequent as in a language (Zipf). A third of the queries is a word that is in more than
a fifth of the papers, a third two or three words, a third a rare word. The time of each is from the
moment at which it was due. The baseline has the database rank all that matches, one query after the
other, and reads no paper.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from itertools import accumulate, islice
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import Connection, Engine, func, insert, select, text

from benchmarks import pages
from benchmarks.databases import KINDS, absent, databases, drop, settle
from benchmarks.measuring import Row, clock
from benchmarks.population import add_readers, house
from benchmarks.processes import apart
from digest import schema
from digest.models import Paper
from digest.storage import index, papers
from digest.storage.database import open_database, reading, writing
from digest.storage.fulltext import fts5, tsquery
from digest.storage.index import frequencies
from digest.storage.search import search
from digest.storage.similar import similar
from digest.storage.suggestions import suggest
from digest.topics.language import parse

PAPERS = READERS = 100_000
REQUESTS = 120
RATE = 10.0  # a second
MEDIAN, P99 = 0.100, 0.400  # seconds, of all
VOCABULARY = 60_000
FREQUENT = 0.2  # of the papers
TOPICS = range(100, 1_000, 45)  # words of these ranks are topics: in 1 to 10 % of the papers
KINDS_OF_QUERIES = ("frequent word", "two or three words", "rare word")
DAWN = datetime(2023, 1, 1, tzinfo=UTC)
A_DAY = 150  # papers
ADDED = 300  # papers, to tell what one costs in a full index

_ONSETS, _VOWELS = "bcdfghjklmnprtvz", "aeiou"
_SYLLABLES = [onset + vowel for onset in _ONSETS for vowel in _VOWELS]


def word(rank: int) -> str:
    """The word of that rank, 0 is the most frequent; the more frequent the shorter."""
    base, number = len(_SYLLABLES), rank + len(_SYLLABLES)
    found = ""
    while number:
        number, place = divmod(number, base)
        found += _SYLLABLES[place]
    return f"{found}n"  # no plural of anything


def mix(requests: int) -> Iterator[tuple[str, str]]:
    """What kind of query each is, and the query: the same in every run."""
    chance = random.Random("search")
    for number in range(requests):
        kind = KINDS_OF_QUERIES[number % 3]
        ranks = {
            "frequent word": [chance.randrange(40)],
            "two or three words": chance.sample(range(20, 1_500), chance.choice((2, 3))),
            "rare word": [chance.randrange(4_000, VOCABULARY // 2)],
        }[kind]
        yield kind, " ".join(map(word, ranks))


def invented(first: int, count: int) -> Iterator[Paper]:
    """Papers with a title of ten words and an abstract of 100."""
    known, weights = _vocabulary()
    chance = random.Random(first)
    for number in range(first, first + count):
        drawn = chance.choices(known, cum_weights=weights, k=110)
        listed = DAWN + timedelta(days=number // A_DAY)
        yield Paper(
            id=number,
            title=" ".join(drawn[:10]),
            url=f"https://papers.example.org/{number}",
            abstract=" ".join(drawn[10:]),
            authors=tuple(" ".join(chance.choices(known[-9_000:], k=2)) for _ in range(4)),
            categories=(f"cs.{'ABCDEFGH'[number % 8]}",),
            sources=("arxiv",),
            signals={"upvotes": number % 100},
            listed_at=listed,
            first_seen_at=listed,
        )


@cache
def _vocabulary() -> tuple[list[str], list[float]]:
    weights = list(accumulate(1 / (rank + 2) for rank in range(VOCABULARY)))
    return [word(rank) for rank in range(VOCABULARY)], weights


@contextmanager
def filling(url: str, size: int) -> Iterator[Callable[[], float]]:
    """Store the papers and index them; the seconds that indexing took."""
    yield lambda: _fill(url, size)


def _fill(url: str, size: int) -> float:
    engine = open_database(url)
    with writing(engine) as connection:
        for first in range(1, size + 1, 1_000):
            _insert(connection, list(invented(first, min(1_000, size + 1 - first))))
        started = time.perf_counter()
        index.build(connection, papers.unindexed(connection))
        took = time.perf_counter() - started
    engine.dispose()
    return took


def _insert(connection: Connection, found: Sequence[Paper]) -> None:
    rows = []
    for paper in found:
        row: dict[str, Any] = {name: getattr(paper, name) for name in Paper.__dataclass_fields__}
        row["votes"] = paper.signals["upvotes"]
        rows.append({name: list(v) if isinstance(v, tuple) else v for name, v in row.items()})
    connection.execute(insert(schema.paper), rows)


def run(
    *,
    size: int = PAPERS,
    readers: int = READERS,
    requests: int = REQUESTS,
    rate: float = RATE,
    kinds: Sequence[str] = KINDS,
) -> list[Row]:
    """For each kind of database: all queries, each third of them, what a paper costs; the pages."""
    rows = []
    with tempfile.TemporaryDirectory() as name, databases(Path(name), kinds) as creates:
        urls = {kind: create("search", "") for kind, create in creates.items()}
        built = _build(urls, size)
        for kind in kinds:
            if kind not in urls:
                rows.append(absent(kind))
                continue
            settle(urls[kind])
            engine = open_database(urls[kind])
            try:
                rows += _measure(
                    engine, f"{size} papers, {kind}", size, requests=requests, rate=rate
                )
                rows.append(_cost(engine, f"a paper into the index, {kind}", built[kind], size))
                rows += _pages(Path(name) / kind, urls[kind], kind, size, readers=readers)
            finally:
                engine.dispose()
            drop(urls[kind])
    return rows


def _pages(folder: Path, url: str, kind: str, size: int, *, readers: int) -> list[Row]:
    with house(folder, url) as services:
        slugs = add_readers(services, readers, queries=[word(rank) for rank in TOPICS])
    settle(url)
    return pages.measure(
        folder,
        url,
        f"pages, {size} papers, {readers} readers, {kind}",
        papers=size,
        readers=readers,
        newest=DAWN + timedelta(days=(size - 1) // A_DAY),
        days=size // A_DAY,
        topics=slugs,
        requests=min(size, pages.REQUESTS),
    )


def _build(urls: dict[str, str], size: int) -> dict[str, float]:
    """Fill all at once, which takes no longer than the slowest on two cores."""
    with ExitStack() as stack:
        builders = {
            kind: stack.enter_context(apart(filling, url, size)) for kind, url in urls.items()
        }
        for builder in builders.values():
            builder.start()
        return {kind: builder.wait()[0] for kind, builder in builders.items()}


def _measure(engine: Engine, what: str, size: int, *, requests: int, rate: float) -> list[Row]:
    asked = list(mix(requests))
    _check(engine, [query for kind, query in asked if kind == KINDS_OF_QUERIES[0]])
    ours = _at_rate(engine, asked, rate=rate)
    plain = [_timed(partial(_plain, engine, query)) for _, query in asked[: max(3, requests // 5)]]
    middle, slowest = median(ours), _p99(ours)
    rows = [
        Row(
            what=what,
            figures={
                **_figures(ours, plain),
                "bar": f"<= {clock(MEDIAN)}, <= {clock(P99)}",
            },
            missed=middle > MEDIAN or slowest > P99,
        )
    ]
    for number, kind in enumerate(KINDS_OF_QUERIES):
        rows.append(Row(what=f"  {kind}", figures=_figures(ours[number::3], plain[number::3])))
    few = random.Random("few")
    misspelt = [_misspelt(word(few.randrange(100, 9_000)), few) for _ in range(12)]
    chosen = [few.randrange(1, size + 1) for _ in range(12)]
    for name, took in (
        ("what was meant", [_timed(partial(_suggest, engine, query)) for query in misspelt]),
        ("papers like one", [_timed(partial(_similar, engine, number)) for number in chosen]),
    ):
        rows.append(Row(what=f"  {name}", figures={"median": clock(median(took))}))
    return rows


def _misspelt(right: str, chance: random.Random) -> str:
    at = chance.randrange(1, len(right) - 1)
    return f"{right[:at]}{right[at + 1]}{right[at]}{right[at + 2 :]}"


def _suggest(engine: Engine, query: str) -> None:
    with reading(engine) as connection:
        suggest(connection, parse(query), found=0)


def _similar(engine: Engine, paper_id: int) -> None:
    with reading(engine) as connection:
        assert similar(connection, paper_id)


def _figures(ours: Sequence[float], plain: Sequence[float]) -> dict[str, str]:
    return {
        "median": clock(median(ours)),
        "p99": clock(_p99(ours)),
        "plain: median": clock(median(plain)),
        "plain: longest": clock(max(plain)),
    }


def _p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]


def _check(engine: Engine, queries: Sequence[str]) -> None:
    """The frequent words have to be what they are called."""
    with reading(engine) as connection:
        size = index.size(connection)
        known = frequencies(connection, queries)
    for query in queries:
        if known.get(query, 0) < FREQUENT * size:
            raise RuntimeError(f"{query} is in {known.get(query, 0)} of {size} papers only.")


def _at_rate(engine: Engine, asked: Sequence[tuple[str, str]], *, rate: float) -> list[float]:
    """Each query when it is due, whether or not those before have their answers."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        _ask(engine, asked[0][1])  # connections are opened once
        begun = time.perf_counter() + 0.1

        def answer(number: int) -> float:
            _ask(engine, asked[number][1])
            return time.perf_counter() - (begun + number / rate)

        waiting = []
        for number in range(len(asked)):
            time.sleep(max(0.0, begun + number / rate - time.perf_counter()))
            waiting.append(pool.submit(answer, number))
        return [one.result() for one in waiting]


def _ask(engine: Engine, query: str) -> None:
    with reading(engine) as connection:
        found = search(connection, parse(query))
        assert len(found.hits) == min(50, found.count)


def _plain(engine: Engine, query: str) -> None:
    """The database's own ranking of all that matches: the first 50 ids."""
    tree = parse(query)
    with reading(engine) as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(
                text(
                    "SELECT rowid FROM indexed_words WHERE indexed_words MATCH :query"
                    " ORDER BY rank LIMIT 50"
                ),
                {"query": fts5(tree)},
            ).all()
        else:
            connection.execute(
                text(
                    "SELECT place FROM indexed_words WHERE terms @@ CAST(:query AS tsquery)"
                    " ORDER BY ts_rank(terms, CAST(:query AS tsquery)) DESC LIMIT 50"
                ),
                {"query": tsquery(tree)},
            ).all()


def _timed(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _cost(engine: Engine, what: str, built: float, size: int) -> Row:
    """What a further paper costs in a full index, and what each did that was there before it."""
    with writing(engine) as connection:
        first = connection.execute(select(func.max(schema.paper.c.id))).scalar_one() + 1
        more = [replace(paper, fresh_at=None) for paper in islice(invented(first, ADDED), ADDED)]
        _insert(connection, more)
        took = _timed(lambda: index.renew(connection, more))
    figures = {"median": clock(took / ADDED)}
    return Row(what=what, figures=figures, note=f"(when it was built: {clock(built / size)})")
