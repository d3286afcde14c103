"""arXiv: the day's list by RSS, completed by the query API, and what an outage missed by search.

The list is what was announced, so it decides; the API's index lags it by hours, and what is not
there yet keeps the list's own record until a later read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar, TypeVar

from digest.errors import BrokenAnswer, SourceError
from digest.models import Fetch, Health, Kind, Record
from digest.sources import calendar, outcome
from digest.sources.arxiv_batch import Batch, Verdict, judge, key
from digest.sources.arxiv_xml import SOURCE, Announcement, Page, parse_atom, parse_rss
from digest.sources.http import Client
from digest.sources.outcome import Problem

T = TypeVar("T")

# A list ends at 2,000 items without a word; ten categories stay below it on their fullest day.
_CATEGORIES_AT_ONCE = 10
_LIST_LIMIT = 2000
_IDS_AT_ONCE = 100  # larger batches are answered late or not at all
_GAP_DAYS = 7
_GAP_LIMIT = 2000  # results of one search
_RANK = (Kind.WITHDRAWN, Kind.NEW, Kind.CROSS, Kind.REPLACE)  # which of two listings counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Arxiv:
    """The lists at `{rss_url}/rss/<categories>`, completed by `{api_url}/api/query`.

    Records are of every kind (new, cross, replace, withdrawn): who reads them chooses. State: the
    last whole `batch`, which ids of it are `complete`, `asked_at` and `not_before` (real time).
    """

    rss_url: str
    api_url: str
    categories: tuple[str, ...]

    name: ClassVar[str] = SOURCE

    async def fetch(self, client: Client, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        if refusal := outcome.told_to_wait(self.name, state):
            return refusal
        if asked_at := state.get("asked_at"):
            client.resume(self.name, datetime.fromisoformat(asked_at))
        reading = _Reading(source=self, client=client, known=set(state.get("complete", ())))
        kept = dict(state)
        records: tuple[Record, ...] = ()
        health = Health.OK
        try:
            announcement = await reading.lists()
        except SourceError as error:
            reading.problems.append(outcome.problem(error))
            reading.refusal = error
        else:
            before = Batch.from_state(state.get("batch"), self.categories)
            due = calendar.latest_due(now)
            verdict = judge(announcement, before, due=due, categories=self.categories)
            reading.problems += verdict.problems
            health = verdict.health
            if verdict.usable:
                gap = _missed(before.day, announcement.day, due=due)
                found = await reading.search(gap, listed=announcement)
                records = (*await reading.complete(verdict, before), *found)
                ids = {record.external_id for record in announcement.records}
                kept["complete"] = sorted(reading.known & ids)
                if verdict.again and not records:
                    health = Health.UNCHANGED
                # A day that is not whole stays missing, and is read or searched for again.
                if verdict.whole and not reading.incomplete:
                    kept["batch"] = before.followed_by(announcement, due=due).to_state(
                        self.categories
                    )
        health, reason = outcome.sum_up(reading.problems, otherwise=health)
        kept = outcome.waiting(kept, reading.refusal)
        if last := client.asked_at(self.name):
            kept["asked_at"] = last.isoformat()
        return Fetch(source=self.name, health=health, reason=reason, records=records, state=kept)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One read: its requests, and what went wrong so far."""

    source: Arxiv
    client: Client
    known: set[str]  # ids whose record is complete
    problems: list[Problem] = field(default_factory=list)
    refusal: SourceError | None = None
    incomplete: bool = False  # a day's list has to be read or searched for again

    async def lists(self) -> Announcement:
        """The day's list of all categories. Raises SourceError."""
        names = self.source.categories
        groups = [
            "+".join(names[n : n + _CATEGORIES_AT_ONCE])
            for n in range(0, len(names), _CATEGORIES_AT_ONCE)
        ]
        url = f"{self.source.rss_url.rstrip('/')}/rss/"
        parts = {group: await self._get(url + group, parse_rss) for group in groups}
        newest = max((part.day for part in parts.values() if part.day), default=None)
        records: dict[str, Record] = {}
        for group, part in parts.items():
            if part.day is not None and part.day != newest:
                self._note(
                    Health.HALF_FILLED,
                    f"The list of {group} is still that of {part.day}; it is left out.",
                )
                self.incomplete = True
                continue
            if len(part.records) >= _LIST_LIMIT:
                self._note(
                    Health.HALF_FILLED,
                    f"The list of {group} ends at {_LIST_LIMIT} papers, where arXiv cuts it.",
                )
            if part.bad:
                self._note(
                    Health.OK, f"{part.bad} items of {group} are no papers; they are left out."
                )
            for record in part.records:
                other = records.get(record.external_id, record)
                records[record.external_id] = min(record, other, key=_rank)
        built = [part.built_on for part in parts.values() if part.built_on]
        return Announcement(
            records=tuple(records.values()), day=newest, built_on=min(built, default=None)
        )

    async def complete(self, verdict: Verdict, before: Batch) -> tuple[Record, ...]:
        """The verdict's records that are new to us, with what the query API knows of them."""
        records = {
            record.external_id: record
            for record in verdict.records
            if record.external_id not in self.known
        }
        wanted = [name for name, record in records.items() if record.kind is not Kind.REPLACE]
        url = f"{self.source.api_url.rstrip('/')}/api/query"
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            batch = wanted[start : start + _IDS_AT_ONCE]
            asked = {"id_list": ",".join(batch), "max_results": str(len(batch))}
            try:
                page = await self._get(url, parse_atom, params=asked)
            except SourceError as error:
                self._stop(
                    error,
                    f"{len(wanted) - start} papers have no comment and no journal reference until "
                    "the next read.",
                )
                break
            for found in page.records:
                listed = records.get(found.external_id)
                if listed is not None and (found.version or 1) >= (listed.version or 1):
                    records[found.external_id] = _joined(listed, found)
                    self.known.add(found.external_id)
        if not verdict.again:
            return tuple(records.values())
        return tuple(
            record
            for name, record in records.items()
            if name in self.known or key(record) not in before.keys
        )

    async def search(self, days: Sequence[date], *, listed: Announcement) -> tuple[Record, ...]:
        """What the lists of `days` had, found by date of submission and not in `listed`."""
        if not days:
            return ()
        categories = self.source.categories
        start = calendar.submissions(days[0])[0]
        # Past the last day's deadline, as what came later is in `listed` or is not announced yet.
        end = datetime.combine(days[-1] + timedelta(days=1), time(), UTC)
        asked = {
            "search_query": f"({' OR '.join(f'cat:{name}' for name in categories)}) AND "
            f"submittedDate:[{start:%Y%m%d%H%M} TO {end:%Y%m%d%H%M}]",
            "sortBy": "submittedDate",
            "sortOrder": "descending",
            "max_results": str(_IDS_AT_ONCE),
        }
        url = f"{self.source.api_url.rstrip('/')}/api/query"
        known = {record.external_id for record in listed.records}
        found: dict[str, Record] = {}
        total = 1
        for offset in range(0, _GAP_LIMIT, _IDS_AT_ONCE):
            if offset >= total:
                break
            try:
                page = await self._get(url, _full_page, params={**asked, "start": str(offset)})
            except SourceError as error:
                self.incomplete = True
                self._stop(error, f"The lists of {_span(days)} are searched for again next time.")
                break
            total = page.total
            for record in page.records:
                day = min(calendar.list_of(record.published_at or start), days[-1])
                if day >= days[0] and record.external_id not in known:
                    found[record.external_id] = replace(
                        record,
                        kind=_kind(record, categories),
                        listed_at=calendar.announced_at(day),
                    )
        if total > _GAP_LIMIT:
            self._note(
                Health.HALF_FILLED,
                f"The lists of {_span(days)} had {total} papers; the newest {_GAP_LIMIT} are read.",
            )
        return tuple(found.values())

    async def _get(
        self, url: str, parse: Callable[[bytes], T], *, params: Mapping[str, str] | None = None
    ) -> T:
        return await self.client.get(
            url, lambda answer: parse(answer.body), params=params, lane=SOURCE
        )

    def _note(self, health: Health, reason: str) -> None:
        self.problems.append(Problem(health=health, reason=reason))

    def _stop(self, error: SourceError, consequence: str) -> None:
        """Remember that the API failed; the list stands without it."""
        self.refusal = error
        self._note(Health.HALF_FILLED, f"{error}. {consequence}")


def _missed(last: date | None, day: date | None, *, due: date) -> tuple[date, ...]:
    """The days whose lists nobody read: since the last whole one, and before the one at hand.

    The first read takes the list at hand, or at a weekend that of the last day which had one.
    """
    until = day or due + timedelta(days=1)
    if last is None:
        return () if day else (due,)
    return calendar.list_days(max(last, until - timedelta(days=_GAP_DAYS)), until)


def _full_page(body: bytes) -> Page:
    """A page of a result; an empty one within it is an error that comes and goes."""
    page = parse_atom(body)
    if page.total and not page.records:
        raise BrokenAnswer(f"an empty page came out of a result of {page.total}")
    return page


def _joined(listed: Record, found: Record) -> Record:
    """The API's record, announced as the list says."""
    return replace(
        found,
        kind=found.kind if found.kind is Kind.WITHDRAWN else listed.kind,
        listed_at=listed.listed_at,
        doi=found.doi or listed.doi,
        venue=found.venue or listed.venue,
    )


def _kind(record: Record, categories: Sequence[str]) -> Kind:
    """What the list would have said of a paper that a search found."""
    if record.kind is Kind.WITHDRAWN:
        return record.kind
    return Kind.NEW if record.categories[:1] and record.categories[0] in categories else Kind.CROSS


def _rank(record: Record) -> int:
    return _RANK.index(record.kind)


def _span(days: Sequence[date]) -> str:
    return f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
