"""The one way out to the web: polite, bounded, and clear about what went wrong.

Upstream is hostile or merely broken: time, size, redirects and tries are bounded, every wait that
a server asks for is kept or the server is left alone, and each failure is a SourceError whose text
says what was asked and what came.
"""

from __future__ import annotations

import asyncio
import email.utils
import logging
import random
import re
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx

from digest import __version__
from digest.errors import BrokenAnswer, SourceError
from digest.sources.bodies import excerpt

log = logging.getLogger(__name__)

T = TypeVar("T")

MEGABYTE = 1_000_000
LONGEST_WAIT = 86_400.0  # seconds; a server cannot silence itself for longer
_LONGEST_PAUSE = 30.0  # seconds between two tries
# IETF draft-ietf-httpapi-ratelimit-headers, as Hugging Face sends it: "api";r=499;t=300
_RATE_LIMIT = re.compile(r"\br=(\d{1,9})\b.*?\bt=(\d{1,9})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer below 400, body decompressed; `url` is where redirects ended."""

    url: str
    status: int
    headers: Mapping[str, str]  # keys in any case
    body: bytes


@dataclass(slots=True)
class _Lane:
    """One service: one request at a time over one connection, and a rest between two."""

    interval: float  # seconds
    http: httpx.AsyncClient
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    ready_at: float = 0.0  # monotonic: the rest ends
    free_at: float = 0.0  # monotonic: the wait that the server asked for ends
    asked_at: datetime | None = None  # real time of the last request

    def rest(self) -> None:
        self.ready_at = time.monotonic() + self.interval

    @property
    def hold(self) -> float:
        """Seconds for which the server wants to be left alone; 0 or less when it does not."""
        return self.free_at - time.monotonic()


class _TryAgain(Exception):
    """A failure that the next try may not meet; `refused` where the server said "too many"."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class Client:
    """An async context manager around httpx; one lives for one collect run.

    Each `get` names its lane, which is the service asked: a lane has one request under way, over
    one connection, and keeps the waits that its servers ask for. `intervals` gives some lanes a
    rest between requests, in seconds ("arxiv": 3.0, over all its hosts:
    https://info.arxiv.org/help/api/tou.html). Times are in seconds: `connect` and `read` for one
    step, `total` for one request, `wait_budget` for all waits of one `get`. `backoff` is the
    longest pause before the second try and doubles after it.
    """

    def __init__(
        self,
        *,
        base_url: str,
        contact: str,
        intervals: Mapping[str, float],
        connect: float = 10.0,
        read: float = 30.0,
        total: float = 60.0,
        tries: int = 3,
        wait_budget: float = 60.0,
        backoff: float = 2.0,
        limit: int = 20 * MEGABYTE,
    ) -> None:
        mailto = f"; mailto:{contact}" if contact else ""
        self.user_agent = f"PaperDigest/{__version__} (+{base_url}{mailto})"
        self._timeout = httpx.Timeout(read, connect=connect)
        self._total, self._tries = total, tries
        self._wait_budget, self._backoff = wait_budget, backoff
        self._limit = limit
        self._intervals = dict(intervals)
        self._lanes: dict[str, _Lane] = {}
        self._trust = httpx.create_ssl_context()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for lane in self._lanes.values():
            await lane.http.aclose()

    def asked_at(self, lane: str) -> datetime | None:
        """When the lane's last request left, in real time."""
        return self._lane(lane).asked_at

    def resume(self, lane: str, asked_at: datetime) -> None:
        """Keep the rest after a request that an earlier client sent at `asked_at`."""
        here = self._lane(lane)
        ago = max(0.0, (datetime.now(UTC) - asked_at).total_seconds())
        here.ready_at = max(here.ready_at, time.monotonic() + here.interval - ago)

    async def get(
        self,
        url: str,
        parse: Callable[[Answer], T],
        *,
        lane: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        limit: int | None = None,
    ) -> T:
        """What `parse` makes of the answer to GET `url`, which is a whole answer below 400.

        429, 5xx, timeouts, broken connections and a BrokenAnswer from `parse` are tried again,
        with exponential back-off and full jitter; a wait that the server asks for is kept. `parse`
        runs in a thread, so that a long list does not hold up the loop; `limit` is in bytes.

        Raises SourceError: `refused`, with the `retry_at` that the server named, when it wants a
        longer wait than the budget allows.
        """
        where, here = _place(url), self._lane(lane)
        budget = self._wait_budget
        for attempt in range(1, self._tries + 1):
            if here.hold > budget:
                raise _told_to_wait(where, here.hold)
            budget -= max(0.0, here.hold)
            await asyncio.sleep(here.hold)
            try:
                answer = await self._ask(
                    here, url, params, headers, min(limit or self._limit, self._limit)
                )
                return await asyncio.to_thread(parse, answer)
            except (_TryAgain, BrokenAnswer) as error:
                last = error
            except SourceError as error:
                raise _at(where, error) from error
            if here.hold > budget:
                raise _told_to_wait(where, here.hold) from last
            pause = random.uniform(0, min(_LONGEST_PAUSE, self._backoff * 2 ** (attempt - 1)))
            if attempt == self._tries or pause > budget:
                break
            log.info(
                "%s: %s; trying again.", where, last, extra={"action": "retry", "attempt": attempt}
            )
            budget -= pause
            await asyncio.sleep(pause)
        refused = isinstance(last, _TryAgain) and last.refused
        raise SourceError(
            f"{where}: {last}, after {attempt} tries" if attempt > 1 else f"{where}: {last}",
            refused=refused,
            retry_at=_from_now(here.hold) if refused and here.hold > 0 else None,
        ) from last

    def _lane(self, name: str) -> _Lane:
        if name not in self._lanes:
            http = httpx.AsyncClient(
                headers={"User-Agent": self.user_agent, "Accept-Encoding": "gzip"},
                timeout=self._timeout,
                limits=httpx.Limits(max_connections=1),
                follow_redirects=True,
                max_redirects=5,
                verify=self._trust,
            )
            self._lanes[name] = _Lane(self._intervals.get(name, 0.0), http)
        return self._lanes[name]

    async def _ask(
        self,
        lane: _Lane,
        url: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        limit: int,
    ) -> Answer:
        """One request in its turn. Raises _TryAgain and SourceError."""
        async with lane.turn:
            await asyncio.sleep(lane.ready_at - time.monotonic())
            lane.asked_at = datetime.now(UTC)
            lane.rest()
            try:
                async with (
                    asyncio.timeout(self._total),
                    lane.http.stream("GET", url, params=params, headers=headers) as response,
                ):
                    # Counted from here, no delay on the way brings two requests closer together.
                    lane.rest()
                    if wait := _wait_asked_for(response):
                        lane.free_at = time.monotonic() + min(wait, LONGEST_WAIT)
                    body = await _read(response, limit)
            except (TimeoutError, httpx.TimeoutException) as error:
                raise _TryAgain("no answer in time") from error
            except httpx.ConnectError as error:
                raise _TryAgain(f"it cannot be reached ({error})") from error
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ProxyError) as error:
                raise _TryAgain("the connection broke before the answer was whole") from error
            except (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
                raise SourceError(f"it leads nowhere ({error})") from error
        _refuse_error(response, body, told_to_wait=lane.hold > 0)
        return Answer(
            url=str(response.url),
            status=response.status_code,
            headers=response.headers,
            body=body,
        )


def _refuse_error(response: httpx.Response, body: bytes, *, told_to_wait: bool) -> None:
    """Raises _TryAgain or SourceError for a status of 400 or more, with the server's words."""
    if not response.is_error:
        return
    said = f"it answered {response.status_code} {response.reason_phrase}".rstrip()
    if text := excerpt(body):
        said += f' ("{text}")'
    if response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        raise _TryAgain(said, refused=True)
    if response.is_server_error:
        # A server that names the time of its return refuses; one that does not is broken.
        raise _TryAgain(said, refused=told_to_wait)
    raise SourceError(said, status=response.status_code, body=body)


def _wait_asked_for(response: httpx.Response) -> float | None:
    """Seconds for which the server wants to be left alone."""
    busy = response.status_code == HTTPStatus.TOO_MANY_REQUESTS
    if busy or response.is_server_error:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        if wait is not None:
            return wait
    found = _RATE_LIMIT.search(response.headers.get("RateLimit", ""))
    return float(found[2]) if found and (busy or int(found[1]) == 0) else None


async def _read(response: httpx.Response, limit: int) -> bytes:
    """The decompressed body. Raises SourceError beyond `limit` bytes, however small it travels.

    httpx would decompress each chunk whole, a thousandfold at worst; here it is bounded.
    """
    coding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise SourceError(f"it is encoded as {coding!r}, which was not asked for")
    inflate = None if coding in ("identity", "") else zlib.decompressobj(wbits=47)  # gzip or zlib
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += inflate.decompress(chunk, limit + 1 - len(body)) if inflate else chunk
        except zlib.error as error:
            raise _TryAgain(f"the compressed answer is damaged ({error})") from error
        if len(body) > limit:
            raise SourceError(f"the answer is larger than {limit / MEGABYTE:g} MB")
    if inflate and not inflate.eof and response.status_code != HTTPStatus.NOT_MODIFIED:
        raise _TryAgain("the compressed answer is cut off")
    return bytes(body)


def _retry_after(text: str) -> float | None:
    """Seconds to wait, from seconds or an HTTP date (RFC 9110, 10.2.3); None when malformed."""
    if text.strip().isdecimal():
        return float(text.strip()[:9])
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _told_to_wait(where: str, seconds: float) -> SourceError:
    retry_at = _from_now(seconds)
    return SourceError(
        f"{where}: it asks us to wait {seconds:.0f} s, so it is left alone until "
        f"{retry_at:%H:%M:%S} UTC",
        refused=True,
        retry_at=retry_at,
    )


def _from_now(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def _place(url: str) -> str:
    """Host and path for a person; the query and a user name may carry secrets."""
    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"


def _at(where: str, error: SourceError) -> SourceError:
    return SourceError(
        f"{where}: {error}",
        refused=error.refused,
        retry_at=error.retry_at,
        status=error.status,
        body=error.body,
    )
