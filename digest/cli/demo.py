"""The demo: the main job once, with sample subscribers and a local inbox, then a page to look at.

Nothing of the person's own settings is read, all data lies in a directory of its own that is made
anew each time, addresses are under example.org, and no mail server but the embedded one is known.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from queue import Empty, Queue

import httpx

from digest.cadence import slots
from digest.cli.output import say
from digest.inbox import messages
from digest.logs import configure
from digest.models import Newcomer, Schedule, State, Wishes
from digest.sample import SUBSCRIBERS, TOPICS, SampleSource, SourceKind
from digest.services import INBOX, Services, build, real_clock, with_sources
from digest.settings import Settings
from digest.storage import subscribers, topics
from digest.storage.database import writing
from digest.web.build import build as web
from digest.web.server import WebServer, listen

PORT = 8000
PATIENCE = 3.0  # seconds in which all providers together are reached, or are not
BEFORE = timedelta(hours=12)  # the sample is read as it was then, too: votes that grew
FOLDER = Path("var/demo")


def run_demo(
    *,
    serve: bool,
    folder: Path = FOLDER,
    clock: Callable[[], datetime] = real_clock,
    reachable: Callable[[Mapping[str, str]], set[str]] | None = None,
) -> int:
    """Run the main job once and say what to look at; the exit code.

    `folder` is emptied first; `reachable` tells which of the providers' URLs answer.
    """
    configure("error", "human")
    listener = listen("127.0.0.1", PORT, search=True)
    port = listener.getsockname()[1]
    if serve and port != PORT:
        say(f"Port {PORT} is taken; the page is on port {port}.")
    shutil.rmtree(folder, ignore_errors=True)
    settings = Settings(
        base_url=f"http://127.0.0.1:{port}",
        data_dir=folder,
        lookback_hours=168,
        postal_address="Example Lab, 1 Example Street, 12345 Example Town",
    )
    services = _services(settings, clock=clock, reachable=reachable or find_reachable)
    now = services.clock()
    _populate(services, now=now)
    ok = _run(services, now=now)
    if not serve:
        listener.close()
        _next_steps(settings, served=False)
        return 0 if ok else 1
    with WebServer(web(services), listener):
        _next_steps(settings, served=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say()
    return 0 if ok else 1


def _services(
    settings: Settings,
    *,
    clock: Callable[[], datetime],
    reachable: Callable[[Mapping[str, str]], set[str]],
) -> Services:
    """Services that read what can be reached, and an invented sample in the place of the rest."""
    say("Looking for Hugging Face and arXiv ...")
    reached = reachable({"huggingface": settings.hf_url, "arxiv": settings.arxiv_rss_url})
    live = build(settings, clock=clock)
    missing = [source.name for source in live.sources if source.name not in reached]
    for name in missing:
        say(f"  {name} cannot be reached: an invented sample takes its place.")
    found = _with_sample(live, missing)
    # Whatever the hour and weekday, everybody's latest slot is sent.
    return replace(
        found,
        plan=replace(found.plan, catch_up=timedelta(days=15), give_up=timedelta(days=30)),
    )


def _with_sample(services: Services, missing: Sequence[str]) -> Services:
    """The services with invented papers in the place of these sources."""
    if not missing:
        return services
    kinds: Mapping[str, SourceKind] = {"huggingface": "huggingface", "arxiv": "arxiv"}
    sample = [SampleSource(name=name, kind=kinds[name]) for name in missing if name in kinds]
    kept = [source for source in services.sources if source.name not in missing]
    if not any(source.name == "feed:sample" for source in kept):
        sample.append(SampleSource(name="feed:sample", kind="feed"))
    changed = with_sources(services, [*kept, *sample], sample=True)
    plan = replace(changed.plan, catch_up=services.plan.catch_up, give_up=services.plan.give_up)
    return replace(changed, plan=plan)


def find_reachable(urls: Mapping[str, str]) -> set[str]:
    """The names of those that answer within PATIENCE, all asked at once.

    In threads that nobody waits for: looking up a name cannot be cut short.
    """
    answered: Queue[str | None] = Queue()

    def ask(name: str, url: str) -> None:
        try:
            with httpx.stream("GET", url, timeout=PATIENCE, follow_redirects=True) as answer:
                # An API may have no page here; a proxy that lets nobody through says 403 or 5xx.
                answered.put(name if answer.status_code in (200, 404) else None)
        except httpx.HTTPError:
            answered.put(None)

    deadline = time.monotonic() + PATIENCE
    for pair in urls.items():
        threading.Thread(target=ask, args=pair, daemon=True).start()
    found: set[str | None] = set()
    with suppress(Empty):
        for _ in urls:
            found.add(answered.get(timeout=max(0.0, deadline - time.monotonic())))
    return {name for name in found if name}


def _populate(services: Services, *, now: datetime) -> None:
    with writing(services.engine) as connection:
        for slug, name, query in TOPICS:
            topics.add(connection, name, query, slug=slug, now=now)
        for person in SUBSCRIBERS:
            newcomer = services.newcomer(
                person.address,
                Wishes(
                    name=person.name,
                    zone=person.zone,
                    hour=person.hour,
                    frequency=person.frequency,
                    weekday=person.weekday,
                    max_papers=person.max_papers,
                ),
                person.topics,
            )
            since = _latest_slot(newcomer, now=now)
            subscribers.add_many(connection, [newcomer], now=since, since=since)


def _latest_slot(newcomer: Newcomer, *, now: datetime) -> datetime:
    """When the person's latest digest was due: with a subscription since then, it is due now."""
    wishes, start = newcomer.wishes, now - timedelta(days=15)
    schedule = Schedule(
        since=start,
        zone=wishes.zone,
        hour=wishes.hour,
        frequency=wishes.frequency,
        weekday=wishes.weekday,
    )
    return slots([schedule], start=start, end=now)[-1].due_at


def _run(services: Services, *, now: datetime) -> bool:
    """Collect, plan, deliver, and say what came of it; whether everybody got a mail."""
    started = time.monotonic()
    sample = [source for source in services.sources if isinstance(source, SampleSource)]
    if sample:
        replace(services, sources=sample, clock=lambda: now - BEFORE).collect()
    reads = services.collect()
    silent = [read.source for read in reads if not read.health.good and not read.fetched]
    if silent:
        say(f"  {' and '.join(silent)} answered, but gave nothing: invented papers instead.")
        services = _with_sample(services, silent)
        reads = services.collect()
    for read in reads:
        say(f"  {read.source}: {read.fetched} papers. {read.reason}".rstrip())
    planned = services.plan_due()
    with services.relays() as relays:
        delivered = services.postman(relays).deliver()
    sent = delivered.states.get(State.SENT, 0)
    say(
        f"{planned.digests} digests for {len(SUBSCRIBERS)} subscribers, {sent} sent over SMTP,"
        f" in {time.monotonic() - started:.1f} s."
    )
    for mail in messages(services.settings.data_dir / INBOX, limit=len(SUBSCRIBERS)):
        say(f"  {mail.recipient}: {mail.subject}")
    return sent == len(SUBSCRIBERS)


def _next_steps(settings: Settings, *, served: bool) -> None:
    say()
    if served:
        say(f"The papers:  {settings.base_url}/")
        say(f"The mails:   {settings.base_url}/inbox/")
        say("Ctrl-C ends it.")
    else:
        say(f"The mails are in {settings.data_dir / INBOX}. To look at them: make demo")
    say()
    say("To send real mail: cp .env.example .env, set DIGEST_SMTP_HOST and DIGEST_BASE_URL in it,")
    say("then `make run`. README.md, “Install for real”, has the details.")
