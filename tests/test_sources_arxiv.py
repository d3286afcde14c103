"""arXiv: every recorded body, what is taken from a list, and days read with each fault."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from digest import __version__
from digest.errors import BrokenAnswer, SourceError
from digest.models import Fetch, Health, Kind, Record
from digest.sources.arxiv import Arxiv
from digest.sources.arxiv_batch import Batch, judge
from digest.sources.arxiv_xml import Announcement, parse_atom, parse_rss
from digest.sources.http import Client
from tests.raw_server import reply, serving
from tests.replay import Replay

CATEGORIES = ("cs.CL", "cs.MA")
FRIDAY = date(2026, 5, 29)


# ------------------------------------------------------------------ bodies


def item(
    name: str = "2605.00001v1", kind: str = "new", *, title: str = "A title", extra: str = ""
) -> str:
    return (
        f"<item><title>{title}</title><link>https://arxiv.org/abs/x</link>"
        f"<description>arXiv:{name} Announce Type: {kind} \nAbstract: We do.</description>"
        f"<guid>oai:arXiv.org:{name}</guid><category>cs.DS</category><category>I.2.7</category>"
        "<pubDate>Fri, 29 May 2026 00:00:00 -0400</pubDate>"
        f"<arxiv:announce_type>{kind}</arxiv:announce_type>"
        f"<dc:creator>Paulo Andr\\'e, Ada Example</dc:creator>{extra}</item>"
    )


def rss(
    *items: str, title: str = "cs.DS updates on arXiv.org", built: str = "Fri, 29 May 2026"
) -> bytes:
    return (
        '<rss xmlns:arxiv="http://arxiv.org/schemas/atom" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" version="2.0"><channel>'
        f"<title>{title}</title><lastBuildDate>{built} 04:00:00 +0000</lastBuildDate>"
        f"{''.join(items)}</channel></rss>"
    ).encode()


def test_an_item_says_what_was_announced() -> None:
    announcement = parse_rss(rss(item("math.GT/0309136v3", extra="<arxiv:DOI>10.1/X</arxiv:DOI>")))
    (record,) = announcement.records
    assert announcement.day == announcement.built_on == FRIDAY
    assert (record.external_id, record.arxiv_id, record.version) == (
        "math/0309136",
        "math/0309136",
        3,
    )
    assert record.listed_at == datetime(2026, 5, 29, 0, tzinfo=UTC)
    assert record.abstract == "We do."
    assert record.authors == ("Paulo André", "Ada Example")
    assert record.categories == ("cs.DS",)
    assert record.links["pdf"] == "https://arxiv.org/pdf/math/0309136"
    assert "html" not in record.links


KINDS = {
    "new": Kind.NEW,
    "cross": Kind.CROSS,
    "replace": Kind.REPLACE,
    "replace-cross": Kind.REPLACE,
}


@pytest.mark.parametrize(("word", "kind"), KINDS.items())
def test_kinds_are_told_apart(word: str, kind: Kind) -> None:
    (record,) = parse_rss(rss(item(kind=word))).records
    assert record.kind is kind


def test_a_withdrawal_is_one_whatever_it_was_announced_as() -> None:
    body = rss(item(kind="replace")).replace(b"We do.", b"This paper has been withdrawn.")
    assert parse_rss(body).records[0].kind is Kind.WITHDRAWN


def test_one_bad_item_does_not_cost_the_list() -> None:
    found = parse_rss(rss(item("no id"), item(), item(kind="odd"), item("2605.00002v1", title="")))
    assert (len(found.records), found.bad) == (1, 3)


NO_LISTS = {
    "a web page": (b"<!DOCTYPE html><p>Just a moment", "a web page came"),
    "cut off": (rss(item(), item("2605.00002v1"))[:-40], "cut off or malformed"),
    "another document": (b"<note/>", "document <note> came"),
    "an unknown category": (
        rss(title="Feed error for query: cs.XX"),
        "Is each category spelt as arXiv spells it",
    ),
    "an entity that grows": (
        b'<!DOCTYPE rss [<!ENTITY a "aa">]><rss><channel><item>&a;</item></channel></rss>',
        "none of its 1 items",
    ),
}


@pytest.mark.parametrize(("body", "said"), NO_LISTS.values(), ids=NO_LISTS)
def test_what_is_no_list_is_an_error(body: bytes, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        parse_rss(body)


def test_a_file_that_an_entity_names_is_not_read(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2")
    body = f'<!DOCTYPE rss [<!ENTITY a SYSTEM "{secret.as_uri()}">]>'.encode() + rss(
        item(title="A &a; title")
    )
    assert "hunter2" not in repr(parse_rss(body))


def test_every_recorded_list_parses_or_is_cut_off(shared_data: Path) -> None:
    ends: dict[str, int | str] = {}
    for path in sorted((shared_data / "arxiv" / "rss").iterdir()):
        try:
            ends[path.stem] = len(parse_rss(path.read_bytes()).records)
        except BrokenAnswer as error:
            ends[path.stem] = str(error)[:25]
    assert ends == {
        "atom_cs.AI_2025-08-20__10d69f8": 7,
        "atom_cs.AI_2025-08-20__ba640e7": "the XML is cut off or mal",
        "atom_cs.AI_2025-08-20__e856935": "the XML is cut off or mal",
        "rss_arxiv_cs_ai": 3,
        "rss_arxiv_cs_cl": 3,
        "rss_arxiv_cs_lg": 3,
    }


def test_every_recorded_answer_of_the_api_parses_or_is_its_error(shared_data: Path) -> None:
    recorded = sorted((shared_data / "arxiv" / "api").glob("*.json"))
    assert len(recorded) == 20
    for path in recorded:
        answer = json.loads(path.read_bytes())
        body = answer["body"].encode()
        if answer["status_code"] == 400:
            with pytest.raises(SourceError, match='arXiv says "incorrect id format for abc"'):
                parse_atom(body)
            continue
        page = parse_atom(body)
        assert not page.bad
        assert len(page.records) == body.count(b"<entry>")
        assert all(record.published_at and record.categories for record in page.records)


def test_every_old_answer_of_the_api_parses(shared_data: Path) -> None:
    for path in sorted((shared_data / "arxiv" / "api" / "old_shape").iterdir()):
        page = parse_atom(path.read_bytes())
        assert page.records
        assert not page.bad
    record = parse_atom(path.with_name("id_list=1111.2011v2.xml").read_bytes()).records[0]
    assert (record.version, record.doi) == (2, "10.1103/physrevb.85.115117")
    assert record.venue == "Phys. Rev. B 85, 115117 (2012)"
    assert record.comment == "8 pages, 3 figures. Published version"
    assert record.categories == ("cond-mat.str-el", "cond-mat.stat-mech")
    assert record.published_at == datetime(2011, 11, 8, 18, 48, 36, tzinfo=UTC)


# ------------------------------------------------------------------ judging


def listed(n: int, *, start: int = 0, category: str = "cs.DS") -> tuple[Record, ...]:
    return tuple(
        Record(
            source="arxiv",
            external_id=f"2605.{number:05}",
            title="A title",
            url="https://arxiv.org/abs/x",
            listed_at=datetime(2026, 5, 29, tzinfo=UTC),
            categories=(category,),
            version=1,
        )
        for number in range(start, start + n)
    )


def a_list(
    *records: Record, day: date | None = FRIDAY, built_on: date | None = FRIDAY
) -> Announcement:
    return Announcement(records=records, day=day, built_on=built_on)


THURSDAY = Batch(
    day=date(2026, 5, 28),
    keys=frozenset(f"2605.{number:05}v1" for number in range(40)),
    sizes={"4": [100, 60], "3": [40]},
)

VERDICTS = {
    "the day's list": (a_list(*listed(50, start=100)), Health.OK, 50),
    "yesterday's list": (
        a_list(*listed(40), day=date(2026, 5, 28)), Health.STALE, 0,
    ),
    "yesterday's under today's date": (a_list(*listed(40)), Health.STALE, 0),
    "one category still at yesterday's": (
        a_list(*listed(40, start=100), *listed(20, category="cs.LO")), Health.HALF_FILLED, 40,
    ),
    "a few cross-lists of yesterday's": (
        a_list(*listed(50, start=100), *listed(4)), Health.OK, 54,
    ),
    "a piece of a list": (a_list(*listed(17, start=100)), Health.HALF_FILLED, 17),
    "a small list": (a_list(*listed(19, start=100)), Health.OK, 19),
    "empty on a day with a list": (a_list(day=None), Health.HALF_FILLED, 0),
    "empty and old": (a_list(day=None, built_on=date(2026, 5, 28)), Health.STALE, 0),
    "empty at the weekend": (
        a_list(day=None, built_on=date(2026, 5, 30)), Health.EMPTY_BY_CALENDAR, 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("found", "health", "taken"), VERDICTS.values(), ids=VERDICTS)
def test_what_is_taken_from_a_list(found: Announcement, health: Health, taken: int) -> None:
    verdict = judge(found, THURSDAY, due=FRIDAY, categories=("cs.DS", "cs.LO"))
    healths = [problem.health for problem in verdict.problems] or [verdict.health]
    assert healths == [health]
    assert len(verdict.records) == taken
    assert verdict.usable == (health.good or taken > 0)
    assert verdict.whole == health.good


def test_where_little_ever_comes_nothing_is_no_fault() -> None:
    before = Batch(day=date(2026, 5, 28), sizes={"4": [6, 1]})
    verdict = judge(a_list(day=None), before, due=FRIDAY, categories=("math.HO",))
    assert verdict.whole
    assert "announced nothing" in verdict.problems[0].reason


def test_a_list_that_shrank_during_the_day_is_half_filled() -> None:
    before = THURSDAY.followed_by(a_list(*listed(50, start=100)), due=FRIDAY)
    verdict = judge(a_list(*listed(49, start=100)), before, due=FRIDAY, categories=("cs.DS",))
    assert [problem.health for problem in verdict.problems] == [Health.HALF_FILLED]
    assert not verdict.usable


def test_a_batch_survives_its_state_and_forgets_it_with_its_categories() -> None:
    state = json.loads(json.dumps(THURSDAY.to_state(["cs.DS", "cs.LO"])))
    assert Batch.from_state(state, ["cs.LO", "cs.DS"]) == THURSDAY
    assert Batch.from_state(state, ["cs.DS"]) == Batch(day=THURSDAY.day)
    assert Batch.from_state(None, ["cs.DS"]) == Batch()


# ------------------------------------------------------------------ requests


def read(
    url: str,
    day: date = FRIDAY,
    state: Mapping[str, Any] | None = None,
    *,
    hour: int = 12,
    interval: float = 0.0,
    **changes: Any,
) -> Fetch:
    async def run() -> Fetch:
        quick: dict[str, Any] = {
            "read": 5.0,
            "total": 5.0,
            "wait_budget": 1.0,
            "backoff": 0.01,
        } | changes
        async with Client(
            base_url="https://digest.example.org",
            contact="ops@example.org",
            intervals={"arxiv": interval},
            **quick,
        ) as client:
            now = datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
            source = Arxiv(rss_url=url, api_url=url, categories=CATEGORIES)
            return await source.fetch(client, now=now, state=state or {})

    return asyncio.run(run())


def state_of(fetch: Fetch) -> dict[str, Any]:
    assert fetch.state is not None
    copy: dict[str, Any] = json.loads(json.dumps(fetch.state))
    return copy


def queries(replay: Replay) -> list[dict[str, list[str]]]:
    paths = [urlsplit(line["path"]) for line in replay.log()]
    return [parse_qs(path.query) for path in paths if path.path == "/api/query"]


@pytest.fixture
def thursday(replay: Replay) -> dict[str, Any]:
    """What was remembered after a good read on Thursday, 28 May."""
    replay.today(date(2026, 5, 28))
    state = state_of(read(replay.url, date(2026, 5, 28)))
    replay.today(FRIDAY)
    replay.reset()
    return state


def test_a_normal_day_is_listed_then_completed(replay: Replay) -> None:
    fetch = read(replay.url)
    assert (fetch.health, fetch.reason) == (Health.OK, "")
    assert {record.kind for record in fetch.records} == {Kind.NEW, Kind.CROSS}
    assert all(record.published_at for record in fetch.records)
    assert any(record.comment for record in fetch.records)
    assert {record.listed_at for record in fetch.records} == {datetime(2026, 5, 29, tzinfo=UTC)}
    first, *rest = replay.log()
    assert first["path"] == "/rss/cs.CL+cs.MA"
    assert all(line["path"].startswith("/api/query?id_list=") for line in rest)
    asked = [query["id_list"][0].split(",") for query in queries(replay)]
    assert sorted(chain.from_iterable(asked)) == sorted(
        record.external_id for record in fetch.records
    )
    assert [int(query["max_results"][0]) for query in queries(replay)] == list(map(len, asked))
    assert max(map(len, asked)) <= 100


def test_requests_rest_use_one_connection_and_say_who_asks(replay: Replay) -> None:
    state = state_of(read(replay.url, interval=0.3))
    read(replay.url, state={key: state[key] for key in ("asked_at",)}, interval=0.3)
    log = replay.log()
    assert len(log) >= 4
    assert min(b["at"] - a["at"] for a, b in pairwise(log)) >= 0.29
    assert {line["user_agent"] for line in log} == {
        f"PaperDigest/{__version__} (+https://digest.example.org; mailto:ops@example.org)"
    }


def test_a_list_read_again_is_unchanged_and_asks_nothing_more(replay: Replay) -> None:
    state = state_of(read(replay.url))
    replay.reset()
    fetch = read(replay.url, state=state, hour=18)
    assert (fetch.health, fetch.records) == (Health.UNCHANGED, ())
    assert [urlsplit(line["path"]).path for line in replay.log()] == ["/rss/cs.CL+cs.MA"]


def test_without_the_api_the_list_stands_and_is_completed_later(replay: Replay) -> None:
    replay.faults([{"match": "/api/query", "times": 99, "status": 503}])
    bare = read(replay.url)
    assert bare.health is Health.HALF_FILLED
    assert "503" in bare.reason
    assert "until the next read" in bare.reason
    assert bare.records
    assert not any(record.comment or record.published_at for record in bare.records)
    replay.reset()
    later = read(replay.url, state=state_of(bare), hour=18)
    assert later.health is Health.OK
    assert len(later.records) == len(bare.records)
    assert all(record.published_at for record in later.records)


def test_weekends_are_empty_by_calendar(replay: Replay) -> None:
    state = state_of(read(replay.url))
    for day in (date(2026, 5, 30), date(2026, 5, 31)):
        replay.today(day)
        fetch = read(replay.url, day, state)
        assert (fetch.health, fetch.records) == (Health.EMPTY_BY_CALENDAR, ())
        state = state_of(fetch)


def test_a_first_read_at_a_weekend_searches_for_the_last_list(replay: Replay) -> None:
    day = date(2026, 5, 30)
    replay.today(day)
    fetch = read(replay.url, day)
    assert fetch.health is Health.EMPTY_BY_CALENDAR
    assert {record.listed_at for record in fetch.records} == {datetime(2026, 5, 29, tzinfo=UTC)}
    (query, *_) = queries(replay)
    assert query["search_query"] == [
        "(cat:cs.CL OR cat:cs.MA) AND submittedDate:[202605271800 TO 202605300000]"
    ]
    replay.reset()
    again = read(replay.url, day, state_of(fetch), hour=18)
    assert (again.records, queries(replay)) == ((), [])


def test_days_missed_in_an_outage_are_searched_for(
    replay: Replay, thursday: dict[str, Any]
) -> None:
    batch = thursday["batch"] | {"day": "2026-05-27", "keys": []}
    fetch = read(replay.url, state={"batch": batch})
    assert fetch.health is Health.OK
    listed_at = {record.listed_at for record in fetch.records}
    assert listed_at == {datetime(2026, 5, 28, tzinfo=UTC), datetime(2026, 5, 29, tzinfo=UTC)}
    assert len({record.external_id for record in fetch.records}) == len(fetch.records)
    assert state_of(fetch)["batch"]["day"] == "2026-05-29"


def test_a_search_that_fails_is_made_again(replay: Replay, thursday: dict[str, Any]) -> None:
    batch = thursday["batch"] | {"day": "2026-05-27", "keys": []}
    replay.faults([{"match": "/api/query", "times": 3, "status": 500}])
    fetch = read(replay.url, state={"batch": batch})
    assert fetch.health is Health.HALF_FILLED
    assert "2026-05-28 are searched for again" in fetch.reason
    assert state_of(fetch)["batch"]["day"] == "2026-05-27"
    again = read(replay.url, state=state_of(fetch), hour=18)
    assert again.health is Health.OK
    assert again.records


def test_a_stale_list_is_not_taken(replay: Replay, thursday: dict[str, Any]) -> None:
    replay.faults([{"match": "/rss/", "kind": "stale"}])
    fetch = read(replay.url, state=thursday)
    assert (fetch.health, fetch.records) == (Health.STALE, ())
    assert "repeats that of 2026-05-28" in fetch.reason
    assert queries(replay) == []
    after = read(replay.url, state=state_of(fetch), hour=18)
    assert after.health is Health.OK
    assert after.records


def test_a_list_not_rebuilt_is_stale(replay: Replay, thursday: dict[str, Any]) -> None:
    replay.today(date(2026, 5, 28))
    assert read(replay.url, state=thursday, hour=5).health is Health.UNCHANGED
    assert read(replay.url, state=thursday, hour=7).health is Health.STALE


def test_an_error_with_status_200_is_an_error(replay: Replay) -> None:
    error = (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/api/errors#x</id>'
        "<title>Error</title><summary>max_results too large</summary></entry></feed>"
    )
    replay.faults([{"match": "/api/query", "times": 1, "status": 200, "body": error}])
    fetch = read(replay.url)
    assert fetch.health is Health.HALF_FILLED
    assert 'arXiv says "max_results too large"' in fetch.reason


FAULTS: dict[str, tuple[dict[str, Any], Health, str]] = {
    "garbage": ({"kind": "garbage"}, Health.FAILED, "a web page came instead of XML"),
    "truncate": ({"kind": "truncate"}, Health.FAILED, "cut off"),
    "reset": ({"kind": "reset"}, Health.FAILED, "connection broke"),
    "503": ({"status": 503}, Health.FAILED, "503"),
    "hang": ({"kind": "hang", "seconds": 3}, Health.FAILED, "no answer in time"),
    "429": ({"status": 429, "headers": {"Retry-After": "300"}}, Health.REFUSED, "wait 300 s"),
}


@pytest.mark.parametrize(("fault", "health", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_for_good_has_a_reason_and_keeps_the_memory(
    replay: Replay, thursday: dict[str, Any], fault: dict[str, Any], health: Health, said: str
) -> None:
    replay.faults([{"match": "/rss/", "times": 99, **fault}])
    fetch = read(replay.url, state=thursday, read=0.2 if fault.get("kind") == "hang" else 5.0)
    assert (fetch.health, fetch.records) == (health, ())
    assert said in fetch.reason
    assert state_of(fetch)["batch"] == thursday["batch"]


def test_a_short_retry_after_is_kept_and_a_long_one_stops_the_asking(replay: Replay) -> None:
    replay.faults([{"match": "/api/query", "status": 429, "headers": {"Retry-After": "1"}}])
    assert read(replay.url, wait_budget=5.0).health is Health.OK
    refused, again = [line["at"] for line in replay.log() if "/api/query" in line["path"]][:2]
    assert again - refused >= 0.99
    replay.reset()
    replay.faults([{"match": "/api/query", "status": 429, "headers": {"Retry-After": "3600"}}])
    fetch = read(replay.url)
    assert fetch.health is Health.HALF_FILLED
    assert fetch.records
    replay.reset()
    later = read(replay.url, state=state_of(fetch), hour=18)
    assert (later.health, replay.log()) == (Health.REFUSED, [])


def read_scripted(
    *bodies: bytes, day: date = FRIDAY, categories: tuple[str, ...] = CATEGORIES
) -> tuple[Fetch, list[str]]:
    """A first read of a server that gives these bodies in turn; the paths that it was asked."""

    async def run() -> tuple[Fetch, list[str]]:
        async with (
            serving([reply("200 OK", body) for body in bodies]) as heard,
            Client(base_url="http://localhost", contact="", intervals={}, backoff=0.01) as client,
        ):
            source = Arxiv(rss_url=heard.url, api_url=heard.url, categories=categories)
            now = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
            fetch = await source.fetch(client, now=now, state={})
            return fetch, [head.split()[1] for head in heard.heads]

    return asyncio.run(run())


def atom(*entries: str, total: int) -> bytes:
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom" '
        'xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/">'
        f"<opensearch:totalResults>{total}</opensearch:totalResults>{''.join(entries)}</feed>"
    ).encode()


def queried(name: str, *, comment: str = "", title: str = "A title") -> str:
    return (
        f"<entry><id>http://arxiv.org/abs/{name}</id><title>{title}</title><summary>We.</summary>"
        f"<published>2026-05-27T20:00:00Z</published><arxiv:comment>{comment}</arxiv:comment>"
        '<arxiv:primary_category term="cs.CL"/></entry>'
    )


def test_an_empty_page_within_a_result_is_asked_for_again() -> None:
    saturday = rss(built="Sat, 30 May 2026")
    fetch, paths = read_scripted(saturday, atom(total=7), day=date(2026, 5, 30))
    assert fetch.health is Health.HALF_FILLED
    assert "an empty page came out of a result of 7" in fetch.reason
    assert len(paths) == 1 + 3


def test_a_search_ends_where_it_was_told_to_and_says_so() -> None:
    saturday, page = rss(built="Sat, 30 May 2026"), atom(queried("2605.00001v1"), total=2500)
    fetch, paths = read_scripted(saturday, page, day=date(2026, 5, 30))
    assert fetch.health is Health.HALF_FILLED
    assert "had 2500 papers; the newest 2000 are read" in fetch.reason
    assert [record.kind for record in fetch.records] == [Kind.NEW]
    assert len(paths) == 1 + 20


def test_the_api_knows_of_withdrawals_and_may_lag_behind_the_list() -> None:
    listed = rss(item("2605.00001v1"), item("2605.00002v2", "cross"), item("2605.00003v1"))
    answer = atom(
        queried("2605.00001v2", comment="Withdrawn by the authors", title="Whole"),
        queried("2605.00002v1", title="An older version"),
        total=2,
    )
    fetch, _ = read_scripted(listed, answer)
    assert [(record.kind, record.title) for record in fetch.records] == [
        (Kind.WITHDRAWN, "Whole"),
        (Kind.CROSS, "A title"),
        (Kind.NEW, "A title"),
    ]
    assert state_of(fetch)["complete"] == ["2605.00001"]
    assert state_of(fetch)["batch"]["day"] == "2026-05-29"


def test_many_categories_are_several_lists_and_a_stale_one_is_left_out() -> None:
    names = tuple(f"cs.A{letter}" for letter in "ABCDEFGHIJKL")
    friday = rss(item("2605.00001v1", "cross"), item("no id"))
    thursday = rss(item("2605.00002v1")).replace(b"Fri, 29 May", b"Thu, 28 May")
    fetch, paths = read_scripted(friday, thursday, atom(total=0), categories=names)
    assert paths[0] == f"/rss/{'+'.join(names[:10])}"
    assert paths[1] == f"/rss/{'+'.join(names[10:])}"
    assert fetch.health is Health.HALF_FILLED
    assert "cs.AK+cs.AL is still that of 2026-05-28" in fetch.reason
    assert "1 items of" in fetch.reason
    assert [record.external_id for record in fetch.records] == ["2605.00001"]
    assert "batch" not in state_of(fetch)
    both, _ = read_scripted(friday, rss(item()), atom(total=0), categories=names)
    assert [record.kind for record in both.records] == [Kind.NEW]


def test_ten_days_in_a_row_bring_each_paper_as_announced(replay: Replay) -> None:
    state: dict[str, Any] = {}
    taken: dict[date, int] = {}
    for n in range(10):
        day = date(2026, 5, 18) + timedelta(days=n)
        replay.today(day)
        fetch = read(replay.url, day, state)
        assert fetch.health is (Health.EMPTY_BY_CALENDAR if day.weekday() > 4 else Health.OK)
        state = state_of(fetch)
        taken[day] = len(fetch.records)
    assert all((size > 0) == (day.weekday() < 5) for day, size in taken.items())
