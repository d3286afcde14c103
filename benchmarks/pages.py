"""Pages: fifty requests a second of a fixed mix, with 100,000 papers and readers stored.

The server is a process of its own, so that what asks takes nothing of its time but the cores. Each
time is from the moment at which the request was due. Beside it stands a page that asks no database.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import httpx

from benchmarks import processes
from benchmarks.measuring import Row, clock
from benchmarks.population import house
from benchmarks.processes import apart
from digest.tokens import Purpose, sign
from digest.web.build import build
from digest.web.server import WebServer, listen

RATE = 50.0  # requests a second
REQUESTS = 1_000
MEDIAN, P99 = 0.050, 0.150  # seconds
PORT, END = "port", "end"
# Of a hundred requests, to each kind of page.
MIX = {
    "/": 22,
    "/papers/{day}": 14,
    "/papers/{day}?page=2": 4,
    "/week": 5,
    "/month": 5,
    "/p/{paper}": 24,
    "/topics/{topic}": 8,
    "/feed.atom": 4,
    "/me/{token}": 8,
    "/subscribe": 4,
    "/privacy": 2,
}


@contextmanager
def serving(folder: Path, url: str) -> Iterator[Callable[[], None]]:
    """Serve the pages of that database; the port is in `folder`, and so is the wish to end."""

    def serve() -> None:
        while not (folder / END).exists():
            time.sleep(0.1)

    with (
        house(folder, url) as services,
        WebServer(build(services), listen("127.0.0.1", 0)) as server,
    ):
        (folder / PORT).write_text(str(server.port), encoding="ascii")
        yield serve


def measure(
    folder: Path,
    url: str,
    what: str,
    *,
    papers: int,
    readers: int,
    newest: datetime,
    days: int,
    topics: list[str],
    requests: int = REQUESTS,
) -> list[Row]:
    """All requests together, and each kind of page alone."""
    with house(folder, url) as services:
        secrets = services.secrets
    chance = random.Random("pages")
    kinds = chance.choices(list(MIX), weights=list(MIX.values()), k=requests)
    now = datetime.now(UTC)
    paths = [
        kind.format(
            day=(newest - timedelta(days=chance.randrange(days))).date(),
            paper=chance.randrange(1, papers + 1),
            topic=chance.choice(topics),
            token=sign(
                Purpose.PREFERENCES, chance.randrange(1, readers + 1), secrets=secrets, now=now
            ),
        )
        for kind in kinds
    ]
    with apart(serving, folder, url) as server:
        server.start()
        base = f"http://127.0.0.1:{(folder / PORT).read_text(encoding='ascii')}"
        asyncio.run(_ask(base, _one_of_each(paths, kinds), rate=10))  # templates are read once
        before = processes.cpu(server.pid)
        took = asyncio.run(_ask(base, paths, rate=RATE))
        used = processes.cpu(server.pid) - before
        (folder / END).touch()
        server.wait()
        peak = server.peak
    middle, slowest = median(took), _p99(took)
    by_kind = {kind: [t for k, t in zip(kinds, took, strict=True) if k == kind] for kind in MIX}
    return [
        Row(
            what=what,
            figures={
                "median": clock(middle),
                "p99": clock(slowest),
                "bar": f"<= {clock(MEDIAN)}, <= {clock(P99)}",
                "without a database": clock(median(by_kind["/privacy"])),
                "server's CPU each": clock(used / len(took)),
                "memory": f"{peak / 1e6:.0f} MB",
            },
            missed=middle > MEDIAN or slowest > P99,
        ),
        *(
            Row(
                what=f"  {kind}",
                figures={"median": clock(median(found)), "p99": clock(_p99(found))},
            )
            for kind, found in by_kind.items()
            if found
        ),
    ]


def _one_of_each(paths: list[str], kinds: list[str]) -> list[str]:
    """A path of each kind."""
    return list(dict(zip(kinds, paths, strict=True)).values())


async def _ask(base: str, paths: list[str], *, rate: float) -> list[float]:
    """Each when it is due, whether or not those before have their answers."""
    limits = httpx.Limits(max_connections=32)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=30) as client:
        begun = time.perf_counter() + 0.1

        async def ask(number: int, path: str) -> float:
            due = begun + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            answer = await client.get(path)
            if answer.status_code != 200:
                raise RuntimeError(f"{path} answers {answer.status_code}.")
            return time.perf_counter() - due

        return await asyncio.gather(*(ask(n, path) for n, path in enumerate(paths)))


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]
