"""The way out: limits, waits and retries, against a server that misbehaves on purpose."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from digest import __version__
from digest.errors import BrokenAnswer, SourceError
from digest.sources.bodies import load_json
from digest.sources.http import Answer, Client
from tests.raw_server import Heard, reply, serving


def a_client(**changes: Any) -> Client:
    quick: dict[str, Any] = {
        "base_url": "https://digest.example.org",
        "contact": "ops@example.org",
        "intervals": {},
        "connect": 2.0,
        "read": 2.0,
        "total": 4.0,
        "wait_budget": 3.0,
        "backoff": 0.01,
    }
    return Client(**quick | changes)


def ask(
    replies: Sequence[bytes],
    *,
    path: str = "/list",
    headers: dict[str, str] | None = None,
    delay: float = 0.0,
    **changes: Any,
) -> tuple[Answer | SourceError, Heard]:
    """What one `get` gives, and what the server heard of it."""

    async def run() -> tuple[Answer | SourceError, Heard]:
        async with serving(replies, delay=delay) as heard, a_client(**changes) as client:
            try:
                answer = await client.get(
                    heard.url + path, lambda answer: answer, lane="x", headers=headers
                )
            except SourceError as error:
                return error, heard
            return answer, heard

    return asyncio.run(run())


def refused(found: Answer | SourceError) -> SourceError:
    assert isinstance(found, SourceError)
    return found


def answered(found: Answer | SourceError) -> Answer:
    assert isinstance(found, Answer), found
    return found


def test_it_says_who_asks_and_claims_no_origin() -> None:
    _, heard = ask([reply("200 OK", b"x")])
    head = heard.heads[0].lower()
    agent = f"paperdigest/{__version__} (+https://digest.example.org; mailto:ops@example.org)"
    assert f"user-agent: {agent}\r\n" in head
    assert "\r\norigin:" not in head
    assert "accept-encoding: gzip\r\n" in head


TRIED_AGAIN = {
    "too many requests": reply("429 Too Many Requests"),
    "server error": reply("503 Service Unavailable"),
    "bad gateway with a page": reply("502 Bad Gateway", b"<html>nginx</html>"),
    "reset before an answer": b"",
    "body shorter than it says": reply("200 OK", b"half", length=8),
    "damaged gzip": reply("200 OK", b"no gzip", "Content-Encoding: gzip"),
    "gzip cut off": reply("200 OK", gzip.compress(b"x" * 99)[:-4], "Content-Encoding: gzip"),
}


@pytest.mark.parametrize("bad", TRIED_AGAIN.values(), ids=TRIED_AGAIN)
def test_what_may_pass_is_tried_again(bad: bytes) -> None:
    found, heard = ask([bad, bad, reply("200 OK", b"good")])
    assert answered(found).body == b"good"
    assert len(heard.heads) == 3


@pytest.mark.parametrize("bad", TRIED_AGAIN.values(), ids=TRIED_AGAIN)
def test_three_tries_are_all(bad: bytes) -> None:
    found, heard = ask([bad])
    assert "after 3 tries" in str(refused(found))
    assert "127.0.0.1" in str(found)
    assert len(heard.heads) == 3
    assert refused(found).refused == (b" 429 " in bad)


FINAL = {
    "not found": (
        reply("404 Not Found", b"<p>No such <b>feed</b></p>"),
        'answered 404 Not Found ("No such feed")',
    ),
    "forbidden": (reply("403 Forbidden"), "answered 403 Forbidden"),
    "leads to a file": (
        reply("302 Found", b"", "Location: file:" + "//" + "/etc/passwd"),
        "leads nowhere",
    ),
    "leads in a circle": (reply("302 Found", b"", "Location: /list"), "leads nowhere"),
    "a coding that nobody asked for": (reply("200 OK", b"x", "Content-Encoding: br"), "'br'"),
    "coded twice": (reply("200 OK", b"x", "Content-Encoding: gzip, gzip"), "'gzip, gzip'"),
    "too large": (reply("200 OK", b"x" * 3000), "larger than 0.002 MB"),
    "small on the wire, large in memory": (
        reply("200 OK", gzip.compress(b"\0" * 50_000_000), "Content-Encoding: gzip"),
        "larger than 0.002 MB",
    ),
}


@pytest.mark.parametrize(("bad", "said"), FINAL.values(), ids=FINAL)
def test_what_will_not_pass_is_not_tried_again(bad: bytes, said: str) -> None:
    found, heard = ask([bad], limit=2000)
    assert said in str(refused(found))
    assert not refused(found).refused
    redirects = 5 if b"Location: /list" in bad else 0
    assert len(heard.heads) == 1 + redirects


def test_the_error_carries_status_and_body() -> None:
    error = refused(ask([reply("400 Bad Request", b'{"error":"Invalid date"}')])[0])
    assert (error.status, error.body) == (400, b'{"error":"Invalid date"}')


def test_a_server_that_drips_is_left_in_time() -> None:
    started = time.monotonic()
    found, heard = ask([reply("200 OK", b"x")], delay=5, total=0.2)
    assert "no answer in time" in str(refused(found))
    assert len(heard.heads) == 3
    assert time.monotonic() - started < 4


def test_a_closed_port_is_named() -> None:
    async def run() -> None:
        async with serving([]) as heard:
            url = heard.url
        async with a_client() as client:
            await client.get(f"{url}/list?key=secret", lambda answer: answer, lane="x")

    with pytest.raises(SourceError, match=r"127\.0\.0\.1:\d+/list: it cannot be reached") as error:
        asyncio.run(run())
    assert "secret" not in str(error.value)


def test_redirects_and_gzip_are_followed_to_the_end() -> None:
    found, _ = ask(
        [
            reply("301 Moved Permanently", b"", "Location: {url}/there"),
            reply("200 OK", gzip.compress(b"good"), "Content-Encoding: gzip"),
        ]
    )
    assert answered(found).body == b"good"
    assert answered(found).url.endswith("/there")


def test_304_is_an_answer() -> None:
    found, heard = ask([b"HTTP/1.1 304 Not Modified\r\n\r\n"], headers={"If-None-Match": '"x"'})
    assert answered(found).status == 304
    assert 'if-none-match: "x"\r\n' in heard.heads[0].lower()


def http_date(seconds: float) -> str:
    return email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


SHORT = {
    "seconds": reply("503 Service Unavailable", b"", "Retry-After: 1"),
    "RateLimit": reply("429 Too Many Requests", b"", 'RateLimit: "api";r=0;t=1'),
}


@pytest.mark.parametrize("busy", SHORT.values(), ids=SHORT)
def test_a_short_wait_is_kept(busy: bytes) -> None:
    found, heard = ask([busy, reply("200 OK", b"good")])
    assert answered(found).body == b"good"
    assert heard.times[1] - heard.times[0] >= 1.0


LONG = {
    "seconds": "Retry-After: 120",
    "a date": f"Retry-After: {http_date(3600)}",
    "RateLimit": 'RateLimit: "api";r=0;t=300',
    "longer than a day": "Retry-After: 99999999999999999999",
}


@pytest.mark.parametrize("header", LONG.values(), ids=LONG)
def test_a_longer_wait_than_the_budget_ends_it_at_once(header: str) -> None:
    found, heard = ask([reply("429 Too Many Requests", b"", header)])
    error = refused(found)
    assert error.refused
    assert len(heard.heads) == 1
    assert "it asks us to wait" in str(error)
    assert error.retry_at is not None
    wait = error.retry_at - datetime.now(UTC)
    assert timedelta(seconds=60) < wait <= timedelta(days=1)


def test_a_malformed_wait_is_no_wait() -> None:
    found, _ = ask([reply("503 Busy", b"", "Retry-After: soon"), reply("200 OK", b"good")])
    assert answered(found).body == b"good"


def test_a_spent_window_is_waited_out_before_the_next_request() -> None:
    async def run() -> Heard:
        spent = reply("200 OK", b"x", 'RateLimit: "api";r=0;t=1')
        async with serving([spent, reply("200 OK", b"y")]) as heard, a_client() as client:
            for _ in range(2):
                await client.get(heard.url, lambda answer: answer, lane="x")
        return heard

    heard = asyncio.run(run())
    assert heard.times[1] - heard.times[0] >= 1.0


def test_one_lanes_wait_holds_up_no_other() -> None:
    async def run() -> bytes:
        busy = reply("429 Too Many Requests", b"", "Retry-After: 600")
        async with serving([busy, reply("200 OK", b"good")]) as heard, a_client() as client:
            with pytest.raises(SourceError):
                await client.get(heard.url, lambda answer: answer, lane="one")
            with pytest.raises(SourceError, match="asks us to wait"):
                await client.get(heard.url, lambda answer: answer, lane="one")
            assert len(heard.heads) == 1
            return await client.get(heard.url, lambda answer: answer.body, lane="other")

    assert asyncio.run(run()) == b"good"


def test_a_lane_has_one_request_under_way_and_rests() -> None:
    async def run() -> Heard:
        async with (
            serving([reply("200 OK", b"x")], delay=0.05) as heard,
            a_client(intervals={"slow": 0.2}) as client,
        ):
            await asyncio.gather(
                *(client.get(heard.url, lambda answer: answer, lane="slow") for _ in range(4))
            )
        return heard

    heard = asyncio.run(run())
    gaps = [after - before for before, after in pairwise(heard.times)]
    assert min(gaps) >= 0.2
    assert (heard.connections, heard.most_at_once) == (1, 1)


def test_the_rest_is_kept_from_one_client_to_the_next() -> None:
    async def run() -> float:
        async with (
            serving([reply("200 OK", b"x")]) as heard,
            a_client(intervals={"slow": 0.5}) as client,
        ):
            started = time.monotonic()
            client.resume("slow", datetime.now(UTC) - timedelta(seconds=0.1))
            await client.get(heard.url, lambda answer: answer, lane="slow")
            return heard.times[0] - started

    assert asyncio.run(run()) >= 0.35


def test_a_broken_answer_is_tried_again_and_a_wrong_one_is_not() -> None:
    def wrong(_: Answer) -> None:
        raise SourceError("it says no")

    async def run() -> tuple[Any, int, int]:
        page = reply("200 OK", b"<html>Just a moment...</html>")
        async with serving([page, reply("200 OK", b"[1, ")]) as heard, a_client() as client:
            with pytest.raises(SourceError, match=r"JSON is cut off.*after 3 tries") as error:
                await client.get(heard.url, lambda answer: load_json(answer.body), lane="x")
            assert isinstance(error.value.__cause__, BrokenAnswer)
            before = len(heard.heads)
            with pytest.raises(SourceError, match="it says no"):
                await client.get(heard.url, wrong, lane="x")
            return None, before, len(heard.heads)

    assert asyncio.run(run())[1:] == (3, 4)


def test_a_bug_in_parsing_stays_loud() -> None:
    def broken(_: Answer) -> None:
        raise KeyError("ours")

    async def run() -> None:
        async with serving([reply("200 OK", b"x")]) as heard, a_client() as client:
            await client.get(heard.url, broken, lane="x")

    with pytest.raises(KeyError, match="ours"):
        asyncio.run(run())
