"""Hugging Face Daily Papers: every recorded body, and a day's read with each fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from digest.errors import SourceError
from digest.models import Fetch, Health, Record
from digest.sources.http import Client
from digest.sources.huggingface import HuggingFace, parse_daily
from tests.raw_server import reply, serving
from tests.replay import Replay

NOON = datetime(2026, 5, 29, 12, tzinfo=UTC)  # a Friday
LIST = "/api/daily_papers"


def entry(**paper: Any) -> dict[str, Any]:
    whole = {
        "id": "2608.19880",
        "title": "EnvHarness:\n  Awakening Environments",
        "summary": "Agents\n  learn.",
        "authors": [{"name": "Ada Example"}, {"name": "Not Shown", "hidden": True}],
        "publishedAt": "2026-08-20T00:00:00.000Z",
        "submittedOnDailyAt": "2026-08-21T00:00:00.000Z",
        "upvotes": 163,
    }
    return {
        "paper": whole | paper,
        "publishedAt": "2026-08-19T20:00:00.000Z",
        "numComments": 2,
        "thumbnail": "https://cdn.example.org/a.png",
    }


def one(**paper: Any) -> Record:
    (record,) = parse_daily(json.dumps([entry(**paper)]).encode()).records
    return record


def test_an_entry_is_read_inside_and_outside() -> None:
    record = one(
        projectPage="https://env.example.org/",
        githubRepo="https://github.com/example/env",
        githubStars=8,
        ai_summary="It learns.",
        ai_keywords=["LLM  agents", 7, ""],
        organization={"name": "ex", "fullname": "Example Lab"},
    )
    assert (record.external_id, record.arxiv_id, record.source) == (
        "2608.19880",
        "2608.19880",
        "huggingface",
    )
    assert record.title == "EnvHarness: Awakening Environments"
    assert (record.abstract, record.summary) == ("Agents learn.", "It learns.")
    assert record.authors == ("Ada Example",)
    assert record.listed_at == datetime(2026, 8, 21, tzinfo=UTC)
    assert record.published_at == datetime(2026, 8, 19, 20, tzinfo=UTC)
    assert record.signals == {"upvotes": 163, "comments": 2, "stars": 8}
    assert (record.organisation, record.keywords) == ("Example Lab", ("LLM agents",))
    assert record.url == "https://huggingface.co/papers/2608.19880"
    assert record.links["project"] == "https://env.example.org/"
    assert record.links["code"] == "https://github.com/example/env"
    assert record.links["thumbnail"] == "https://cdn.example.org/a.png"
    assert record.links["pdf"] == "https://arxiv.org/pdf/2608.19880"
    assert json.loads(record.raw)["numComments"] == 2


ODD = {
    "a project page that is code": (
        {"projectPage": "https://github.com/example/env"},
        {"code": "https://github.com/example/env", "project": None},
    ),
    "a link that runs": (
        {"projectPage": "javascript:alert(1)", "githubRepo": "data:text/html,x"},
        {"code": None, "project": None},
    ),
    "a link that pretends": ({"projectPage": "https://arxiv.org@evil.example"}, {"project": None}),
    "empty fields": ({"projectPage": "", "githubRepo": None}, {"code": None, "project": None}),
}


@pytest.mark.parametrize(("paper", "links"), ODD.values(), ids=ODD)
def test_only_web_links_are_kept(paper: dict[str, Any], links: Mapping[str, str | None]) -> None:
    found = one(**paper).links
    assert {name: found.get(name) for name in links} == links


BAD_ENTRIES: dict[str, object] = {
    "a number": 7,
    "no paper inside": {"title": "x"},
    "paper is a list": {"paper": []},
    "no id": entry(id=None),
    "an id that is no arXiv id": entry(id="../../etc"),
    "no title": entry(title=" \n "),
}


@pytest.mark.parametrize("bad", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_one_bad_entry_does_not_cost_the_list(bad: object) -> None:
    listing = parse_daily(json.dumps([bad, entry()]).encode())
    assert (len(listing.records), listing.bad) == (1, 1)


HOSTILE: dict[str, dict[str, Any]] = {
    "fields of other types": {
        "summary": 3,
        "authors": "x",
        "ai_keywords": {},
        "organization": [],
        "upvotes": "9",
        "githubStars": True,
    },
    "a day outside of time": {"submittedOnDailyAt": "0001-01-01T00:00:00+14:00"},
    "what no database stores": {
        "title": "A \ud800\u0000 b",
        "summary": "\udfff",
        "upvotes": 10**40,
    },
    "markup": {"title": "<script>alert(1)</script> on GANs"},
}


@pytest.mark.parametrize("paper", HOSTILE.values(), ids=HOSTILE)
def test_hostile_fields_are_survived(paper: dict[str, Any]) -> None:
    record = one(**paper)
    record.title.encode()
    assert "\0" not in record.title + record.raw
    assert all(0 <= value < 2**31 for value in record.signals.values())


NO_LISTS = {
    "an object": (b'{"error": "nope"}', 'but "nope"'),
    "a number": (b"1", "but a number"),
    "a web page": (b"<!DOCTYPE html><p>Just a moment", "a web page came"),
    "nothing": (b"", "an empty answer"),
    "half of it": (b'[{"paper": {"id"', "cut off"),
    "too deep": (b"[" * 200_000, "cut off or malformed"),
    "no entry is a paper": (b"[1, 2]", "none of its 2 entries"),
}


@pytest.mark.parametrize(("body", "said"), NO_LISTS.values(), ids=NO_LISTS)
def test_what_is_no_list_is_an_error(body: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        parse_daily(body)


def test_every_recorded_bad_body_fails_clearly(shared_data: Path) -> None:
    bodies = sorted((shared_data / "hf" / "bad_bodies").iterdir())
    assert len(bodies) == 7
    for path in bodies:
        with pytest.raises(SourceError, match="no list of papers came, but"):
            parse_daily(path.read_bytes())


def test_every_recorded_body_parses(shared_data: Path) -> None:
    folder = shared_data / "hf"
    (wire,) = (folder / "wire_body").iterdir()
    assert len(parse_daily(wire.read_bytes()).records) == 30
    versions = sorted((folder / "versions").iterdir())
    for path in versions + sorted((folder / "daily").iterdir())[::10]:
        listing = parse_daily(path.read_bytes(), day=date.fromisoformat(path.name[:10]))
        assert len(listing.records) == len(json.loads(path.read_bytes()))
        assert not listing.bad
        assert not listing.stale
        assert all("\n" not in record.title + record.abstract for record in listing.records)


def test_a_list_only_has_papers_of_its_day_and_each_once() -> None:
    body = json.dumps([entry(), entry(), entry(id="2608.00001", submittedOnDailyAt="2026-08-20")])
    listing = parse_daily(body.encode(), day=date(2026, 8, 21))
    assert [record.external_id for record in listing.records] == ["2608.19880"]
    assert listing.stale == 1


# ------------------------------------------------------------------ requests


def read(
    url: str,
    *,
    now: datetime = NOON,
    state: Mapping[str, Any] | None = None,
    page_size: int = 100,
    **changes: Any,
) -> Fetch:
    async def run() -> Fetch:
        quick = {"read": 0.5, "total": 1.0, "wait_budget": 1.0, "backoff": 0.01} | changes
        async with Client(
            base_url="http://localhost", contact="ops@example.org", intervals={}, **quick
        ) as client:
            source = HuggingFace(url, page_size=page_size)
            return await source.fetch(client, now=now, state=state or {})

    return asyncio.run(run())


def days(fetch: Fetch) -> set[str]:
    return {record.listed_at.date().isoformat() for record in fetch.records}


def test_a_normal_day_and_the_days_before(replay: Replay) -> None:
    fetch = read(replay.url)
    assert (fetch.health, fetch.reason) == (Health.OK, "")
    assert days(fetch) == {
        f"2026-05-{day}" for day in (25, 27, 28, 29)
    }  # there was no list on the 26th
    assert len({record.external_id for record in fetch.records}) == len(fetch.records) > 100
    asked = [line["path"].partition("date=")[2][:10] for line in replay.log()]
    assert asked == [f"2026-05-{day}" for day in (29, 28, 27, 26, 25)]
    assert fetch.state is not None
    json.dumps(fetch.state)
    assert sum(fetch.state["sizes"].values()) == len(fetch.records)


def test_pages_are_followed_to_the_end_of_the_day(replay: Replay) -> None:
    whole, paged = read(replay.url), read(replay.url, page_size=7)
    names = [sorted(record.external_id for record in fetch.records) for fetch in (whole, paged)]
    assert names[0] == names[1]
    assert any("p=1" in line["path"] and "date=" in line["path"] for line in replay.log())


def test_weekends_have_no_list_and_votes_still_grow(replay: Replay) -> None:
    replay.today(date(2026, 5, 30))
    fetch = read(replay.url, now=NOON + timedelta(days=1))
    assert fetch.health is Health.EMPTY_BY_CALENDAR
    assert "weekends" in fetch.reason
    assert "2026-05-29" in days(fetch)


def test_a_weekday_without_a_list_yet_is_no_fault(replay: Replay) -> None:
    replay.faults([{"match": LIST, "times": 1, "status": 200, "body": "[]"}])
    fetch = read(replay.url)
    assert fetch.health is Health.OK
    assert "no list yet" in fetch.reason


def test_a_clock_ahead_of_theirs_is_named(replay: Replay) -> None:
    replay.today(date(2026, 5, 28))
    fetch = read(replay.url)
    assert fetch.health is Health.FAILED
    assert "Is this machine's clock ahead?" in fetch.reason
    assert "2026-05-28" in days(fetch)


def test_a_list_that_shrank_is_half_filled_and_what_it_had_is_remembered(replay: Replay) -> None:
    good = read(replay.url)
    (first, *_) = good.records
    body = json.dumps([json.loads(first.raw)])
    replay.faults([{"match": LIST, "times": 1, "status": 200, "body": body}])
    fetch = read(replay.url, state=good.state)
    assert fetch.health is Health.HALF_FILLED
    assert "has 1 papers and had" in fetch.reason
    assert fetch.state is not None
    assert good.state is not None
    assert fetch.state["sizes"] == good.state["sizes"]


def test_yesterdays_list_under_todays_date_is_not_taken(replay: Replay) -> None:
    body = json.dumps([entry(id=f"2605.0000{n}", submittedOnDailyAt="2026-05-28") for n in (1, 2)])
    replay.faults([{"match": LIST, "times": 1, "status": 200, "body": body}])
    fetch = read(replay.url)
    assert fetch.health is Health.STALE
    assert "2026-05-29" not in days(fetch)


def test_after_an_outage_it_reads_further_back(replay: Replay) -> None:
    read(replay.url, state={"seeded": True, "read_on": "2026-05-20"})
    asked = [line["path"].partition("date=")[2][:10] for line in replay.log()]
    assert asked[-1] == "2026-05-22"


FAULTS: dict[str, tuple[dict[str, Any], Health, str]] = {
    "garbage": ({"kind": "garbage"}, Health.FAILED, "a web page came instead of JSON"),
    "truncate": ({"kind": "truncate"}, Health.FAILED, "cut off"),
    "reset": ({"kind": "reset"}, Health.FAILED, "connection broke"),
    "503": ({"status": 503}, Health.FAILED, "503"),
    "hang": ({"kind": "hang", "seconds": 3}, Health.FAILED, "no answer in time"),
    "429": ({"status": 429, "headers": {"Retry-After": "300"}}, Health.REFUSED, "wait 300 s"),
}


@pytest.mark.parametrize(("fault", "health", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_for_good_has_a_reason(
    replay: Replay, fault: dict[str, Any], health: Health, said: str
) -> None:
    replay.faults([{"match": LIST, "times": 99, **fault}])
    fetch = read(replay.url, read=0.2)
    assert (fetch.health, fetch.records) == (health, ())
    assert said in fetch.reason
    assert len(replay.log()) <= 6


@pytest.mark.parametrize("fault", [FAULTS[name][0] for name in FAULTS if name != "429"])
def test_a_fault_that_passes_is_not_seen(replay: Replay, fault: dict[str, Any]) -> None:
    replay.faults([{"match": LIST, "times": 1, **fault}])
    assert read(replay.url, read=0.2).health is Health.OK


def test_one_day_that_fails_costs_only_itself(replay: Replay) -> None:
    replay.faults([{"match": LIST, "times": 3, "status": 500}])
    fetch = read(replay.url)
    assert fetch.health is Health.FAILED
    assert days(fetch) == {f"2026-05-{day}" for day in (25, 27, 28)}
    assert fetch.state is not None
    assert "seeded" not in fetch.state


def test_a_refusal_is_remembered_and_then_forgotten(replay: Replay) -> None:
    replay.faults([{"match": LIST, "times": 1, "status": 429, "headers": {"Retry-After": "300"}}])
    refused = read(replay.url)
    replay.reset()
    again = read(replay.url, state=refused.state)
    assert (again.health, again.state, replay.log()) == (Health.REFUSED, None, [])
    assert refused.state is not None
    over = {**refused.state, "not_before": "2020-01-01T00:00:00+00:00"}
    later = read(replay.url, state=over)
    assert later.health is Health.OK
    assert later.state is not None
    assert "not_before" not in later.state


def test_a_next_link_elsewhere_is_not_followed() -> None:
    async def run() -> tuple[Fetch, int]:
        page = reply("200 OK", b"[]", 'Link: <https://evil.example/x?p=1>; rel="next"')
        async with (
            serving([page]) as heard,
            Client(base_url="http://localhost", contact="", intervals={}) as client,
        ):
            fetch = await HuggingFace(heard.url).fetch(client, now=NOON, state={})
            return fetch, len(heard.heads)

    fetch, requests = asyncio.run(run())
    assert fetch.health is Health.OK
    assert requests == 5
