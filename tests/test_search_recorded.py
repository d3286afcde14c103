"""500 filters made from recorded papers: search finds exactly what topics match."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path

import pytest
from sqlalchemy import Connection

from digest.errors import TopicSyntaxError
from digest.models import Paper, Record
from digest.papers.text import clean_abstract, clean_name, clean_title
from digest.sources.huggingface import parse_daily
from digest.storage import migrating
from digest.storage.database import open_database, reading, writing
from digest.storage.index import id_at
from digest.storage.matches import matching
from digest.storage.search import search
from digest.topics.box import read
from digest.topics.language import parse
from tests.databases import new_database
from tests.shelf import documents, live, matched, said, store

LISTED = 1_000  # papers of arXiv's lists
DAYS = 12  # of Hugging Face, 40 to 50 papers each
QUERIES = 500


def recorded(folder: Path) -> Iterator[Record]:
    with gzip.open(folder / "arxiv" / "listings" / "papers.jsonl.gz", "rt") as lines:
        for line in islice(lines, 0, LISTED * 20, 20):
            paper = json.loads(line)
            yield said(
                paper["id"],
                clean_title(paper["title"]),
                source="arxiv",
                arxiv_id=paper["id"],
                abstract=clean_abstract(paper["summary"]),
                authors=tuple(map(clean_name, paper["authors"])),
                categories=tuple(paper["categories"]),
                listed_at=datetime.fromisoformat(paper["first_seen"]).replace(tzinfo=UTC),
            )
    for path in sorted((folder / "hf" / "daily").glob("2026-*.json"))[-DAYS:]:
        yield from parse_daily(path.read_bytes(), day=date.fromisoformat(path.stem)).records


def made(papers: list[Paper], seed: int) -> Iterator[str]:
    """Filters that somebody may write who has one of the papers in mind, each once."""
    chance = random.Random(seed)
    leaves: list[Callable[[Paper], str]] = [
        lambda paper: _run(chance, f"{paper.title} {paper.abstract}", 1),
        lambda paper: _run(chance, paper.abstract, 1),
        lambda paper: f'"{_run(chance, paper.title, 2)}"',
        lambda paper: f'"{_run(chance, paper.abstract, chance.choice((2, 3)))}"',
        lambda paper: f"{_run(chance, paper.abstract, 1)[:4]}*",
        lambda paper: f"title:{_run(chance, paper.title, 1)}",
        lambda paper: f'abstract:"{_run(chance, paper.abstract, 2)}"',
        lambda paper: f'author:"{chance.choice(paper.authors)}"' if paper.authors else "x",
        lambda paper: f"author:{_run(chance, ' '.join(paper.authors), 1)}",
        lambda paper: f'keyword:"{chance.choice(paper.keywords)}"' if paper.keywords else "y",
        lambda paper: f'org:"{paper.organisation}"' if paper.organisation else "z",
        lambda paper: f"cat:{chance.choice(paper.categories or ('cs',))}",
        lambda paper: chance.choice(("cat:cs", "cat:math.*", "source:arxiv", "cat:stat")),
        lambda _: f"upvotes:{chance.choice(('>', '<', '>=', '<='))}{chance.randrange(90)}",
        lambda _: chance.choice(("code:yes", "code:no", "comments:>1", "stars:>=100")),
    ]

    def leaf() -> str:
        return chance.choice(leaves)(chance.choice(papers))

    def tree(paper: Paper) -> str:
        first, second = (chance.choice(leaves)(paper) for _ in range(2))
        forms = (first, first, f"{first} {second}", f"{first} {second}", f"{first} OR {leaf()}",
                 f"{first} -{leaf()}", f"{first} ({second} OR {leaf()})",
                 f"{first} -({second} {leaf()})", f"({first} OR -{second}) {leaf()}")  # fmt: skip
        return chance.choice(forms)

    known = set()
    while True:
        query = tree(chance.choice(papers))
        if query not in known:
            known.add(query)
            try:
                parse(query)
            except TopicSyntaxError:
                continue
            yield query


def _run(chance: random.Random, text: str, size: int) -> str:
    """Words that stand side by side, as written: with hyphens, digits, accents."""
    found = re.findall(r'[^\s()"“”„«»]+', text) or ["nothing"]
    start = chance.randrange(max(1, len(found) - size + 1))
    return " ".join(found[start : start + size]).strip(".,;:*~^!-")


@pytest.fixture(scope="module")
def shelves(
    shared_data: Path, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Connection]]:
    """The recorded papers in both databases."""
    records = list(recorded(shared_data))
    folder = tmp_path_factory.mktemp("recorded")
    with ExitStack() as stack:
        connections = []
        for url in (f"sqlite:///{folder}/digest.db", new_database(postgres_url)):
            engine = open_database(url)
            stack.callback(engine.dispose)
            migrating.upgrade(engine)
            with writing(engine) as connection:
                store(connection, *records)
            connections.append(stack.enter_context(reading(engine)))
        yield connections


def test_recorded_papers(shelves: list[Connection]) -> None:
    shelf = documents(shelves[0])
    assert len(shelf) > 1_400
    assert live(shelves[1]) == [paper for paper, _ in shelf]
    some = 0
    for query in islice(made([paper for paper, _ in shelf], seed=7), QUERIES):
        expected = matched(shelf, query)
        for connection in shelves:
            places = matching(connection, parse(query), most=10**6)
            assert [id_at(place) for place in places] == expected, query
        some += bool(expected)
    assert some > 0.9 * QUERIES


# How a paper is looked for by who has seen its title, and the least mean reciprocal rank.
LOOKED_FOR: dict[str, tuple[Callable[[str], str], float]] = {
    "whole": (lambda title: title, 1.0),
    "copied from a PDF": (lambda title: "“" + title.replace(" ", "\n ", 3) + "”.", 1.0),
    "three words of it": (lambda title: " ".join(title.split()[1:4]), 0.9),
}


def test_a_title_finds_its_paper_first(shelves: list[Connection]) -> None:
    for connection in shelves:
        papers = live(connection)[::40]
        for name, (typed, least) in LOOKED_FOR.items():
            ranks = [_reciprocal(connection, paper, typed(paper.title)) for paper in papers]
            assert sum(ranks) >= least * len(ranks), (connection.dialect.name, name, sum(ranks))


def _reciprocal(connection: Connection, paper: Paper, text: str) -> float:
    query = read(text).query
    if query is None:
        return 0.0
    found = [one.id for one in search(connection, query).papers]
    return 1 / (found.index(paper.id) + 1) if paper.id in found else 0.0
