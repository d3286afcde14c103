"""Hugging Face Daily Papers: each day's list, and its votes read again for some days.

Papers appear here days after they were submitted to arXiv, so the day that counts is the one on
which the list carries them (`submittedOnDailyAt`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urljoin, urlsplit

from digest.errors import SourceError
from digest.models import Fetch, Health, Record
from digest.papers.identity import parse_arxiv_id
from digest.papers.text import clean_abstract, clean_name, clean_title
from digest.sources import outcome
from digest.sources.bodies import load_json, storable
from digest.sources.http import Answer, Client
from digest.sources.links import arxiv_links, is_code, web_link
from digest.sources.outcome import Problem

_PAGE = "https://huggingface.co/papers/"
_MOST_PAGES = 20  # of one day; the longest list so far was 50 papers
_LONGEST_OUTAGE = 7  # days that are caught up with
_GREATEST = 2**31 - 1  # what a database's integer holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What one answer says: its papers, and the entries that it should not have had."""

    records: tuple[Record, ...]
    bad: int = 0  # entries that are no papers
    stale: int = 0  # entries of another day
    more: str = ""  # the next page's link, as sent


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """The daily list at `{url}/api/daily_papers`.

    Each read asks for today (UTC) and the `reread` days before, since votes grow for days; the
    first one goes back `seed_days`. State: the size of each day's list, `seeded`, `read_on`.
    """

    url: str
    reread: int = 4
    seed_days: int = 4
    page_size: int = 100  # 1..100

    name: ClassVar[str] = "huggingface"

    async def fetch(self, client: Client, *, now: datetime, state: Mapping[str, Any]) -> Fetch:
        if refusal := outcome.told_to_wait(self.name, state):
            return refusal
        today = now.astimezone(UTC).date()
        days = self._days(today, state)
        sizes: dict[str, int] = dict(state.get("sizes", {}))
        records: list[Record] = []
        problems: list[Problem] = []
        refused: SourceError | None = None
        failures = 0
        for day in days:
            try:
                listing = await self._read_day(client, day)
            except SourceError as error:
                failures += 1
                problems.append(_explain(error, day))
                if error.refused:
                    refused = error
                    break
                if failures == 2:  # it is down: more days would cost minutes and bring nothing
                    break
                continue
            records += listing.records
            problems += _doubts(listing, day, size_before=sizes.get(day.isoformat(), 0))
            size = len(listing.records)
            sizes[day.isoformat()] = max(size, sizes.get(day.isoformat(), 0))
            if day == today and not size and not listing.stale:
                problems.append(_nothing_yet(day))
        health, reason = outcome.sum_up(problems)
        known = {day.isoformat() for day in days}
        kept: dict[str, Any] = {
            **outcome.waiting(state, refused),
            "sizes": {day: size for day, size in sizes.items() if day in known},
        }
        if health.good:
            kept |= {"seeded": True, "read_on": today.isoformat()}
        return Fetch(
            source=self.name,
            health=health,
            reason=reason,
            records=_once(records),
            state=kept,
        )

    def _days(self, today: date, state: Mapping[str, Any]) -> list[date]:
        """The days to read, newest first; further back after an outage."""
        back = self.reread if state.get("seeded") else max(self.reread, self.seed_days)
        if read_on := state.get("read_on"):
            missed = (today - date.fromisoformat(read_on)).days
            back = max(back, min(missed, _LONGEST_OUTAGE))
        return [today - timedelta(days=n) for n in range(back + 1)]

    async def _read_day(self, client: Client, day: date) -> Listing:
        """All pages of one day's list. Raises SourceError."""
        url = f"{self.url.rstrip('/')}/api/daily_papers"
        asked = {"date": day.isoformat(), "limit": str(self.page_size)}
        params = asked
        records: list[Record] = []
        bad = stale = 0
        for _ in range(_MOST_PAGES):
            page = await client.get(
                url, lambda answer: _read_page(answer, day), params=params, lane=self.name
            )
            records += page.records
            bad, stale = bad + page.bad, stale + page.stale
            following = urlsplit(urljoin(url, page.more))
            # Only the list that was asked for: not another host's, and not another day's, as the
            # link may leave out the date.
            if not page.more or following[:3] != urlsplit(url)[:3]:
                break
            params = {**dict(parse_qsl(following.query)), **asked}
        return Listing(records=_once(records), bad=bad, stale=stale)


def parse_daily(body: bytes, *, day: date | None = None) -> Listing:
    """The papers in an answer of `/api/daily_papers`; only those listed on `day`, if given.

    An entry that is no paper is counted and left out. Raises SourceError when the whole is no
    list of papers.
    """
    entries = load_json(body)
    if not isinstance(entries, list):
        raise SourceError(f"no list of papers came, but {_describe(entries)}")
    records: list[Record] = []
    bad = stale = 0
    for entry in entries:
        record = _record(entry, day)
        if record is None:
            bad += 1
        elif day is not None and record.listed_at.date() != day:
            stale += 1
        else:
            records.append(record)
    if entries and bad == len(entries):
        raise SourceError(f"no list of papers came: none of its {bad} entries is a paper")
    return Listing(records=_once(records), bad=bad, stale=stale)


def _read_page(answer: Answer, day: date) -> Listing:
    page = parse_daily(answer.body, day=day)
    links = answer.headers.get("Link", "")
    more = next((part for part in links.split(",") if 'rel="next"' in part), "")
    return Listing(
        records=page.records,
        bad=page.bad,
        stale=page.stale,
        more=more.partition("<")[2].partition(">")[0],
    )


def _record(entry: object, day: date | None) -> Record | None:
    """One entry's record, or None; the paper is inside, some fields only outside."""
    if not isinstance(entry, dict):
        return None
    paper = _dict(entry, "paper")
    name = parse_arxiv_id(_text(paper, "id"))
    title = clean_title(_text(paper, "title") or _text(entry, "title"))
    # The inner date is often cut to midnight.
    published_at = _instant(entry, "publishedAt") or _instant(paper, "publishedAt")
    listed_at = _instant(paper, "submittedOnDailyAt")
    if listed_at is None:  # the field is there since March 2025
        listed_at = datetime.combine(day, time(), UTC) if day else published_at
    if name is None or not title or listed_at is None:
        return None
    arxiv_id = name[0]
    organisation = _dict(paper, "organization") or _dict(entry, "organization")
    return Record(
        source=HuggingFace.name,
        external_id=arxiv_id,
        title=title,
        url=_PAGE + arxiv_id,
        listed_at=listed_at,
        abstract=clean_abstract(_text(paper, "summary") or _text(entry, "summary")),
        summary=clean_abstract(_text(paper, "ai_summary")),
        authors=_authors(paper),
        published_at=published_at,
        arxiv_id=arxiv_id,
        organisation=clean_name(_text(organisation, "fullname") or _text(organisation, "name")),
        keywords=tuple(
            " ".join(storable(word).split())
            for word in _list(paper, "ai_keywords")
            if isinstance(word, str) and word.strip()
        ),
        links=_links(entry, paper, arxiv_id),
        signals=_signals(entry, paper),
        raw=json.dumps(entry, separators=(",", ":")),
    )


def _authors(paper: Mapping[str, Any]) -> tuple[str, ...]:
    named = (
        clean_name(_text(author, "name"))
        for author in _list(paper, "authors")
        if isinstance(author, dict) and author.get("hidden") is not True
    )
    return tuple(name for name in named if name)


def _links(entry: Mapping[str, Any], paper: Mapping[str, Any], arxiv_id: str) -> dict[str, str]:
    project = web_link(paper.get("projectPage"))
    code = web_link(paper.get("githubRepo"))
    if is_code(project):
        project, code = "", code or project
    found = {
        "huggingface": _PAGE + arxiv_id,
        "code": code,
        "project": project,
        "thumbnail": web_link(entry.get("thumbnail")),
    }
    return arxiv_links(arxiv_id) | {kind: link for kind, link in found.items() if link}


def _signals(entry: Mapping[str, Any], paper: Mapping[str, Any]) -> dict[str, int]:
    counts = {
        "upvotes": paper.get("upvotes"),
        "comments": entry.get("numComments"),
        "stars": paper.get("githubStars"),
    }
    return {
        name: min(value, _GREATEST)
        for name, value in counts.items()
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0
    }


def _doubts(listing: Listing, day: date, *, size_before: int) -> list[Problem]:
    """What is wrong with a list that was read."""
    found: list[Problem] = []
    size = len(listing.records)
    if listing.stale:
        found.append(
            Problem(
                health=Health.STALE,
                reason=f"The list of {day} holds {listing.stale} papers of another day; "
                "they are left out.",
            )
        )
    # One paper may be taken off a list for good; a list that is cut lacks many.
    if size < 0.9 * size_before:
        found.append(
            Problem(
                health=Health.HALF_FILLED,
                reason=f"The list of {day} has {size} papers and had {size_before}; "
                "what it had is kept.",
            )
        )
    if listing.bad:
        found.append(
            Problem(
                health=Health.OK,
                reason=f"{listing.bad} entries of {day} are no papers; they are left out.",
            )
        )
    return found


def _nothing_yet(day: date) -> Problem:
    if day.weekday() >= 5:
        return Problem(
            health=Health.EMPTY_BY_CALENDAR, reason=f"There is no list at weekends ({day:%A})."
        )
    return Problem(health=Health.OK, reason=f"There is no list yet for today ({day}).")


def _explain(error: SourceError, day: date) -> Problem:
    found = outcome.problem(error)
    if error.status == 400 and b"date" in error.body:
        # The list of a day exists from its first second in UTC on: the two clocks differ.
        return Problem(
            health=found.health,
            reason=f"{error}: by its clock {day} has not begun. Is this machine's clock ahead?",
        )
    return found


def _once(records: list[Record] | tuple[Record, ...]) -> tuple[Record, ...]:
    """Each paper once, as first listed: days are read newest first, a page's repeats are noise."""
    return tuple({record.external_id: record for record in reversed(records)}.values())[::-1]


def _describe(value: object) -> str:
    if isinstance(value, dict):
        said = value.get("message") or value.get("error")
        return f'"{storable(said)[:100]}"' if isinstance(said, str) else "an object"
    return {str: "a text", int: "a number", float: "a number"}.get(type(value), "nothing")


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return storable(found) if isinstance(found, str) else ""


def _dict(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    return found if isinstance(found, list) else []


def _instant(value: Mapping[str, Any], key: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(_text(value, key))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the first and last days of time have no UTC
        return None
