"""Matching: which papers match which topics, the same for all readers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from digest.errors import TopicSyntaxError
from digest.models import Paper, Topic
from digest.topics.language import Query, parse
from digest.topics.match import Match, index, match

log = logging.getLogger(__name__)


class Matcher:
    """Which papers match which topics, remembered from one pool to the next.

    Taking the words of a day's papers costs a second, and a pool is made for every hour at which
    somebody is due.
    """

    def __init__(self) -> None:
        self._queries: Mapping[str, Query] = {}
        self._known: dict[int, tuple[Paper, dict[str, Match]]] = {}

    def matches(
        self, papers: Iterable[Paper], queries: Mapping[str, Query]
    ) -> dict[int, dict[str, Match]]:
        """For each paper, its matches by topic slug."""
        known = self._known if queries == self._queries else {}
        found = {}
        for paper in papers:
            before = known.get(paper.id)
            found[paper.id] = (
                before if before and before[0] == paper else (paper, _match_all(paper, queries))
            )
        self._queries, self._known = queries, found
        return {paper_id: hits for paper_id, (_, hits) in found.items()}


def _match_all(paper: Paper, queries: Mapping[str, Query]) -> dict[str, Match]:
    document = index(paper)
    return {slug: hit for slug, query in queries.items() if (hit := match(query, document))}


def usable(found: Iterable[Topic]) -> tuple[dict[str, Topic], dict[str, Query]]:
    """The topics, and their filters, that can be read; one that cannot stops no other."""
    usable, queries = {}, {}
    for topic in found:
        try:
            queries[topic.slug] = parse(topic.query)
        except TopicSyntaxError as error:
            log.error(
                "The filter of topic %s cannot be read; nothing matches it until it is mended: %s",
                topic.slug,
                error,
                extra={"action": "plan", "topic": topic.slug},
            )
        else:
            usable[topic.slug] = topic
    return usable, queries
