"""Tasting: what each reader's interests do to a pool's candidates; nothing for who has none."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Set

from sqlalchemy import Connection

from digest.errors import TopicSyntaxError
from digest.models import InterestKind, Interests, Paper
from digest.storage import papers
from digest.taste import MOST, Example, Judgement, Shelf, judge
from digest.topics.language import Query, parse

log = logging.getLogger(__name__)

KEPT = 500_000  # papers in all examples and filters, from one batch to the next; some 40 MB
_ALONE = 10  # as many papers take as much as an example or a filter without any


class Tasting:
    """Judges for one pool's candidates, and remembers what it looked up for others."""

    def __init__(
        self,
        candidates: Iterable[Paper],
        *,
        same: Callable[[Set[int]], Set[int]],
        topics: Mapping[str, Set[int]],
    ) -> None:
        """`same` tells which candidates these papers are, `topics` which of them match which."""
        self._shelf, self._same, self._topics = Shelf(candidates), same, topics
        self._examples: dict[str | int, Example] = {}
        self._asked: set[str | int] = set()
        self._queries: dict[str, Query] = {}
        self._unreadable: set[str] = set()

    def judge(
        self, connection: Connection, interests: Mapping[int, Interests]
    ) -> dict[int, Judgement]:
        """What each person's interests do, in a constant number of statements."""
        if self._held() > KEPT:
            # Memory is not to grow with the number of readers.
            self._examples.clear()
            self._asked.clear()
            self._queries.clear()
            self._shelf.forget()
        for one in interests.values():
            self._parse(one)
        self._look_up(connection, interests.values())
        return {
            subscriber_id: judge(
                one,
                self._shelf,
                examples=self._examples,
                queries=self._queries,
                topics=self._topics,
            )
            for subscriber_id, one in interests.items()
        }

    def _held(self) -> int:
        alike = sum(len(example.alike) for example in self._examples.values())
        return alike + self._shelf.held() + _ALONE * (len(self._asked) + len(self._queries))

    def _parse(self, interests: Interests) -> None:
        before = set(self._unreadable)
        muted = [one.key for one in interests.kept if one.kind is InterestKind.MUTED_WORD]
        for written in {*interests.searches, *muted} - self._queries.keys() - self._unreadable:
            try:
                self._queries[written] = parse(written)
            except TopicSyntaxError:
                self._unreadable.add(written)
        if self._unreadable - before:
            # Not what they say, which is somebody's own. They could be read when they were stored.
            log.warning(
                "%d searches or muted words can no longer be read and have no effect.",
                len(self._unreadable),
                extra={"action": "plan"},
            )

    def _look_up(self, connection: Connection, interests: Iterable[Interests]) -> None:
        """The papers that are named as examples, as far as they are stored."""
        wanted: set[str | int] = set()
        for one in interests:
            wanted.update(one.more[:MOST], one.less[:MOST])
            wanted.update(i.key for i in one.kept if i.kind is InterestKind.SEED)
        new = wanted - self._asked
        if not new:
            return
        self._asked |= new
        names = {key: _name(key) for key in new if isinstance(key, str)}
        known = papers.named(connection, list(names.values()))
        ids: dict[str | int, int] = {
            key: known[name] for key, name in names.items() if name in known
        }
        ids |= {key: key for key in new if isinstance(key, int)}
        stored = {paper.id: paper for paper in papers.by_id(connection, set(ids.values()))}
        for key, paper_id in ids.items():
            if paper_id in stored:
                if paper_id not in self._examples:  # by that name or any other
                    self._examples[paper_id] = self._example(stored[paper_id])
                self._examples[key] = self._examples[paper_id]

    def _example(self, paper: Paper) -> Example:
        return self._shelf.example(paper, same=self._same({paper.id}))


def _name(key: str) -> tuple[str, str]:
    kind, _, value = key.partition(" ")
    return kind, value
