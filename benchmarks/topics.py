"""Topics: every paper against every topic's filter, as planning does once for all readers.

The baseline searches for the topics' phrases by regular expression: no stems, no marks.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from benchmarks.measuring import Row, Took, interleave, measure, timed
from benchmarks.surroundings import house, replay
from digest.models import Paper
from digest.storage.database import reading
from digest.storage.papers import candidates
from digest.topics.language import parse
from digest.topics.match import Document, index, match

DAWN = datetime(1970, 1, 1, tzinfo=UTC)
PHRASES = 3  # in a topic

Round = tuple[Took, Took, int]  # to make ready, to match, and how many did


def run(*, papers: int = 500, topics: int = 50, rounds: int = 5) -> list[Row]:
    """The recorded day's papers, or the invented sample's: again from the first when too few."""
    with (
        tempfile.TemporaryDirectory() as folder,
        replay() as url,
        house(Path(folder), f"sqlite:///{folder}/day.db", url) as services,
    ):
        services.collect()
        with reading(services.engine) as connection:
            known = candidates(connection, since=DAWN)
    shelf = list(islice(cycle(known), papers))
    phrases = _phrases(known, topics)
    took = interleave(
        rounds,
        {"plain": partial(_search, shelf, phrases), "ours": partial(_match, shelf, phrases)},
    )
    size = len(shelf) * len(phrases)

    def row(what: str, rounds: Sequence[Round]) -> Row:
        matched = [took for _, took, _ in rounds]
        apiece = median(took.seconds for took in matched) / size
        more = {"a pair": f"{apiece * 1e6:.1f} us", "hits": str(rounds[0][2])}
        return timed(what, matched, baseline=[took for _, took, _ in took["plain"]], more=more)

    return [
        row(f"{papers} papers x {topics} topics, by search", took["plain"]),
        row(f"{papers} papers x {topics} topics, by filter", took["ours"]),
        timed(f"{papers} papers made ready", [ready for ready, _, _ in took["ours"]]),
    ]


def _phrases(papers: Sequence[Paper], topics: int) -> list[Sequence[str]]:
    """What each topic asks for: the papers' most frequent keywords, a few for each."""
    counted = Counter(
        re.sub(r"[^\w -]", " ", keyword).casefold().strip()
        for paper in papers
        for keyword in paper.keywords
    )
    names = cycle(name for name, _ in counted.most_common(topics * PHRASES) if name)
    return [list(islice(names, PHRASES)) for _ in range(topics)]


def _search(papers: Sequence[Paper], phrases: Sequence[Sequence[str]]) -> Round:
    patterns = [re.compile(rf"\b(?:{'|'.join(map(re.escape, some))})\b") for some in phrases]
    texts: list[str] = []
    hits: list[bool] = []
    ready = measure(lambda: texts.extend(map(_text, papers)))
    matched = measure(
        lambda: hits.extend(bool(pattern.search(text)) for text in texts for pattern in patterns)
    )
    return ready, matched, sum(hits)


def _text(paper: Paper) -> str:
    return "\n".join([paper.title, paper.abstract, paper.summary, *paper.keywords]).casefold()


def _match(papers: Sequence[Paper], phrases: Sequence[Sequence[str]]) -> Round:
    queries = [parse(" OR ".join(f'"{phrase}"' for phrase in some)) for some in phrases]
    documents: list[Document] = []
    hits: list[bool] = []
    ready = measure(lambda: documents.extend(map(index, papers)))
    matched = measure(
        lambda: hits.extend(
            match(query, document) is not None for document in documents for query in queries
        )
    )
    return ready, matched, sum(hits)
