"""An invented sample for the demo: what each source would say where none can be reached.

About sixty papers over three announced days. Nothing in it exists: no link leaves example.org, no
record has an arXiv id (an invented one could be a real work's), and DOIs have Crossref's test
prefix 10.5555. The papers lie in `papers/`, a file for each topic.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from digest.models import Fetch, Frequency, Health, Kind, Record
from digest.papers.text import clean_abstract, clean_name, clean_title

SourceKind = Literal["huggingface", "arxiv", "feed"]

SITE = "https://papers.example.org/invented"
CODE = "https://code.example.org/invented"

# Hours until a count has 63 % (1 - 1/e) of its final value: people vote first, and try code later.
_RISE = {"upvotes": 24.0, "comments": 30.0, "stars": 72.0}
_NAMES: Mapping[SourceKind, str] = {
    "huggingface": "huggingface",
    "arxiv": "arxiv",
    "feed": "feed:sample",
}
_SHELVES: Mapping[SourceKind, str] = {
    "huggingface": "daily",
    "arxiv": "preprints",
    "feed": "review",
}

# slug, name, query: each matches at least five of the papers and at most half of them.
TOPICS: tuple[tuple[str, str, str], ...] = (
    (
        "agents",
        "Agents",
        'agent AND (title:agent OR keyword:agent OR "multi-agent" OR "tool use" OR "tool calls")',
    ),
    (
        "reasoning",
        "Reasoning",
        'reasoning OR "chain of thought" OR theorem OR puzzle OR "word problem"',
    ),
    (
        "multimodal",
        "Multimodal",
        'multimodal OR "vision-language" OR (video AND (frame OR audio))',
    ),
    (
        "efficient-inference",
        "Efficient inference",
        (
            'quantization OR pruned OR latency OR "speculative decoding" OR "KV cache"'
            " OR (inference AND (memory OR layers))"
        ),
    ),
    (
        "evaluation",
        "Evaluation",
        (
            '(benchmark OR evaluation OR metric OR leaderboard OR "test set" OR title:grading)'
            " AND NOT (robot OR cat:cs.RO)"
        ),
    ),
    (
        "robotics",
        "Robotics",
        (
            "cat:cs.RO OR (robot AND (manipulation OR grasp OR grasping OR touch OR warehouse"
            " OR directions))"
        ),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSubscriber:
    """Somebody invented who gets the demo's digests; the fields are a subscriber's."""

    address: str
    name: str
    zone: str  # IANA
    hour: int
    frequency: Frequency
    weekday: int | None = None  # 0 Monday; weekly only
    max_papers: int
    topics: tuple[str, ...]  # slugs; none: everything


SUBSCRIBERS: tuple[SampleSubscriber, ...] = (
    SampleSubscriber(
        address="aroha.whetumarama@example.org",
        name="Aroha Whetumarama",
        zone="Pacific/Auckland",
        hour=7,
        frequency=Frequency.DAILY,
        max_papers=8,
        topics=("agents", "robotics"),
    ),
    SampleSubscriber(
        address="meenakshi.sundarvel@example.org",
        name="Meenakshi Sundarvel",
        zone="Asia/Kolkata",
        hour=9,
        frequency=Frequency.WEEKDAYS,
        max_papers=6,
        topics=("efficient-inference", "evaluation"),
    ),
    SampleSubscriber(
        address="jorinde.kaltwasser@example.org",
        name="Jorinde Kaltwasser",
        zone="Europe/Berlin",
        hour=8,
        frequency=Frequency.WEEKDAYS,
        max_papers=10,
        topics=("agents", "reasoning", "multimodal"),
    ),
    SampleSubscriber(
        address="kwaku.amponsem@example.org",
        name="Kwaku Amponsem",
        zone="Africa/Accra",
        hour=6,
        frequency=Frequency.DAILY,
        max_papers=12,
        topics=(),
    ),
    SampleSubscriber(
        address="thaddeus.greenwillow@example.org",
        name="Thaddeus Greenwillow",
        zone="America/New_York",
        hour=18,
        frequency=Frequency.WEEKLY,
        weekday=4,
        max_papers=15,
        topics=("evaluation", "reasoning"),
    ),
    SampleSubscriber(
        address="marisela.ybarrondo@example.org",
        name="Marisela Ybarrondo",
        zone="America/Los_Angeles",
        hour=7,
        frequency=Frequency.DAILY,
        max_papers=5,
        topics=("robotics", "multimodal"),
    ),
)


def records(source: SourceKind, *, now: datetime) -> list[Record]:
    """What a source lists at `now`, newest day first; the same `now` gives the same records.

    The days are the three newest weekdays (UTC) at or before `now`, so that there is a latest
    announced day at any hour. Counts grow with the hours since a paper was listed.
    """
    found = []
    for day in _weekdays(now, 3):
        # Which third of the papers a day lists depends on the day alone, so that a day's list
        # stays the same until the fourth day.
        part = _count_of_weekdays(day) % 3
        listed_at = datetime.combine(day, time(), tzinfo=UTC)
        found += [
            _record(paper, source, listed_at=listed_at, age=now - listed_at)
            for paper in _papers()
            if paper["day"] == part and source in paper["lists"]
        ]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSource:
    """A source whose papers are invented; it is read like the real ones and never fails."""

    name: str  # huggingface | arxiv | feed:<slug>
    kind: SourceKind

    async def fetch(self, client: object, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        """The invented listing at `now`; nothing is asked and nothing is remembered."""
        found = tuple(replace(record, source=self.name) for record in records(self.kind, now=now))
        return Fetch(source=self.name, health=Health.OK, records=found)


def _weekdays(now: datetime, number: int) -> Iterator[date]:
    day = now.astimezone(UTC).date()
    while number:
        if day.weekday() < 5:
            number -= 1
            yield day
        day -= timedelta(days=1)


def _count_of_weekdays(day: date) -> int:
    return (day.toordinal() - 1) // 7 * 5 + day.weekday()  # day 1 of the calendar is a Monday


@cache
def _papers() -> tuple[Mapping[str, Any], ...]:
    folder = files(__name__).joinpath("papers").iterdir()
    shelf = sorted(
        (file for file in folder if file.name.endswith(".toml")), key=lambda file: file.name
    )
    return tuple(
        _cleaned(paper)
        for file in shelf
        for paper in tomllib.loads(file.read_text(encoding="utf-8"))["paper"]
    )


def _cleaned(paper: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        **paper,
        "title": clean_title(paper["title"]),
        "authors": tuple(clean_name(name) for name in paper["authors"]),
        "abstract": clean_abstract(paper["abstract"]),
        "summary": clean_abstract(paper.get("summary", "")),
        "comment": clean_abstract(paper.get("comment", "")),
        "raw": json.dumps(paper, ensure_ascii=False),
    }


def _record(
    paper: Mapping[str, Any], source: SourceKind, *, listed_at: datetime, age: timedelta
) -> Record:
    page = f"{SITE}/{_SHELVES[source]}/{paper['slug']}"
    record = Record(
        source=_NAMES[source],
        external_id=paper["slug"],
        title=paper["title"],
        url=page,
        listed_at=listed_at,
        abstract=paper["abstract"],
        authors=paper["authors"],
        published_at=listed_at - timedelta(days=paper.get("age", 2)),
        doi=paper.get("doi"),
        raw=paper["raw"],
    )
    # Each source tells what its model tells: only one counts votes, only one has versions.
    match source:
        case "huggingface":
            final = {name: paper[name] for name in _RISE if name in paper}
            code = {"code": f"{CODE}/{paper['slug']}"} if "stars" in paper else {}
            return replace(
                record,
                summary=paper["summary"],
                organisation=paper["organisation"],
                keywords=tuple(paper["keywords"]),
                links={"pdf": f"{page}.pdf", **code},
                signals={name: _grown(name, value, age) for name, value in final.items()},
            )
        case "arxiv":
            return replace(
                record,
                kind=Kind(paper.get("kind", Kind.NEW)),
                version=paper.get("version", 1),
                comment=paper["comment"],
                categories=tuple(paper["categories"]),
                links={"pdf": f"{page}.pdf", "html": f"{page}.html"},
            )
        case "feed":
            return replace(record, venue="Invented Review of Machine Learning")


def _grown(name: str, value: int, age: timedelta) -> int:
    hours = age / timedelta(hours=1)
    return int(value * (1 - math.exp(-hours / _RISE[name])))
