"""The one place that names the concrete classes: settings in, things that work out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Engine

from digest.delivery import Server
from digest.errors import SettingsError
from digest.inbox import Inbox
from digest.message import build as build_message
from digest.models import Message, Newcomer, Site, Subscriber, Wishes
from digest.pipeline.collecting import Limits, collect
from digest.pipeline.delivering import Postman
from digest.pipeline.planning import Plan, Planned, heal, plan
from digest.pipeline.reporting import Report, report
from digest.ranking import Weights
from digest.rendering import Renderer, compose
from digest.selection import Rules
from digest.settings import Settings, secret_keys
from digest.sources import Source
from digest.sources.arxiv import Arxiv
from digest.sources.feeds import Feed
from digest.sources.http import Client
from digest.sources.huggingface import HuggingFace
from digest.storage import migrating, runs, subscribers
from digest.storage.database import open_database, reading, writing
from digest.storage.digests import Content
from digest.storage.sources import Read
from digest.suppression import address_hashes, address_key
from digest.tokens import Purpose, sign

INBOX = "inbox"  # local mode's Maildir, in the data directory


def real_clock() -> datetime:
    """The business clock, unless a command was given another time."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """Everything that the edges use, built once for a process."""

    settings: Settings
    engine: Engine
    secrets: tuple[bytes, ...]
    site: Site
    plan: Plan
    sources: Sequence[Source]
    clock: Callable[[], datetime] = field(default=real_clock)
    stopping: threading.Event = field(default_factory=threading.Event)  # reading ends at once

    @property
    def locks(self) -> Path:
        """Where SQLite's locks lie: beside it, so that all who open it see them."""
        sqlite = self.engine.dialect.name == "sqlite" and self.engine.url.database
        return (Path(sqlite).parent if sqlite else self.settings.data_dir) / "locks"

    @property
    def inbox(self) -> Path | None:
        """Local mode's Maildir; None where mail really leaves."""
        return self.settings.data_dir / INBOX if self.settings.local else None

    def collect(self) -> list[Read]:
        """Read all sources; Busy while another process does."""
        return collect(
            self.engine,
            self.sources,
            client=self._client,
            limits=Limits(
                lookback=self.plan.rules.lookback,
                longest=self.plan.rules.longest,
                budget=self.settings.fetch_budget,
            ),
            locks=self.locks,
            clock=self.clock,
            stopping=self.stopping,
        )

    def _client(self) -> Client:
        settings = self.settings
        return Client(
            base_url=settings.base_url,
            contact=settings.contact,
            intervals={"arxiv": settings.arxiv_interval},
            read=settings.fetch_timeout,
            total=max(60.0, settings.fetch_timeout),
            limit=settings.fetch_max_bytes,
        )

    def plan_due(self) -> Planned:
        """Freeze the digests that are due; Busy while another process does."""
        return plan(self.engine, self.plan, locks=self.locks, now=self.clock())

    def collect_is_due(self) -> bool:
        """Whether nothing was read for an hour: a restart must not ask the sources again."""
        with reading(self.engine) as connection:
            last = runs.last_collected_at(connection)
        return last is None or self.clock() - last > timedelta(hours=1)

    def clean_up(self) -> dict[str, int]:
        """Forget what is older than the retention, heal what planning relies on; how much."""
        before = self.clock() - timedelta(days=self.settings.retention_days)
        with writing(self.engine) as connection:
            forgotten = runs.forget(connection, before=before)
        return {**forgotten, "healed": heal(self.engine)}

    def report(self, span: timedelta) -> Report:
        """The state of the house for the slots due within `span`."""
        return report(self.engine, self.plan.sources, now=self.clock(), span=span)

    @contextmanager
    def relay(self) -> Iterator[Server]:
        """The mail server to use; in local mode an inbox that lives as long as the block."""
        settings = self.settings
        if self.inbox is not None:
            with Inbox(self.inbox) as inbox:
                yield Server(host=inbox.host, port=inbox.port, tls="none")
            return
        yield Server(
            host=settings.smtp_host,
            port=settings.smtp_port,
            tls=settings.smtp_tls,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value(),
            timeout=settings.smtp_timeout,
            final_timeout=settings.smtp_final_timeout,
        )

    def postman(self, server: Server) -> Postman:
        """What delivers over that server."""
        return Postman(
            self.engine,
            server,
            compose=self.compose,
            connections=self.settings.smtp_connections,
            retry=[timedelta(minutes=step) for step in self.settings.retry_steps_minutes],
            locks=self.locks,
            clock=self.clock,
        )

    def compose(self, content: Content) -> Message:
        """The message of a frozen digest; the same bytes every time."""
        html, text = compose(content.skeleton, content.cards, content.personal)
        return build_message(html=html, text=text, personal=content.personal)

    def newcomer(self, address: str, wishes: Wishes, topics: Sequence[str] = ()) -> Newcomer:
        """Somebody to be stored; AddressError."""
        key = address_key(address)
        return Newcomer(
            address=address,
            key=key,
            hashes=address_hashes(key, secrets=self.secrets),
            wishes=wishes,
            topics=tuple(topics),
        )

    def unsubscribe(self, subscriber_id: int) -> None:
        """Stop writing to somebody who said so by a link; harmless when repeated."""
        with writing(self.engine) as connection:
            subscribers.unsubscribe(
                connection, subscriber_id, now=self.clock(), detail="by the link in a mail"
            )


def build(settings: Settings, *, clock: Callable[[], datetime] = real_clock) -> Services:
    """Open the database, check its tables, and put everything together; DigestError."""
    secrets = secret_keys(settings)
    engine = open_database(settings.database_url)
    migrating.prepare(engine)
    site = _site(settings)
    sources = _sources_of(settings)
    return Services(
        settings=settings,
        engine=engine,
        secrets=secrets,
        site=site,
        plan=_plan_of(settings, site, secrets=secrets, sources=sources),
        sources=sources,
        clock=clock,
    )


def with_sources(services: Services, sources: Sequence[Source], *, sample: bool) -> Services:
    """The same services with other sources; `sample` says that the papers are invented."""
    settings, secrets = services.settings, services.secrets
    site = replace(services.site, sample=sample)
    plan = _plan_of(settings, site, secrets=secrets, sources=sources)
    return replace(services, site=site, plan=plan, sources=sources)


def _site(settings: Settings) -> Site:
    return Site(
        name=settings.site_name,
        tagline=settings.tagline,
        base_url=settings.base_url,
        sender_name=settings.sender_name,
        sender_address=settings.sender_address,
        reply_to=settings.reply_to,
        postal_address=settings.postal_address,
        list_id=settings.list_id,
        imprint_url=settings.imprint_url,
    )


def _plan_of(
    settings: Settings, site: Site, *, secrets: Sequence[bytes], sources: Sequence[Source]
) -> Plan:
    """What planning needs, from the settings."""

    def links(subscriber: Subscriber, now: datetime) -> Mapping[str, str]:
        way_out = sign(Purpose.UNSUBSCRIBE, subscriber.id, secrets=secrets, now=now)
        wishes = sign(Purpose.PREFERENCES, subscriber.id, secrets=secrets, now=now)
        return {
            "unsubscribe_url": f"{settings.base_url}/u/{way_out}",
            "preferences_url": f"{settings.base_url}/settings/{wishes}",
        }

    return Plan(
        renderer=Renderer(settings.templates_dir, site),
        rules=Rules(
            min_score=settings.min_score,
            cards=settings.cards,
            lookback=timedelta(hours=settings.lookback_hours),
            weekly=timedelta(days=settings.weekly_window_days),
            longest=timedelta(days=settings.longest_window_days),
            rise=settings.rise_votes,
        ),
        weights=Weights(
            trend=settings.weight_trend,
            topic=settings.weight_topic,
            half_life=timedelta(hours=settings.half_life_hours),
        ),
        catch_up=timedelta(hours=settings.catch_up_hours),
        give_up=timedelta(hours=settings.give_up_hours),
        site=site,
        sources=tuple(source.name for source in sources),
        links=links,
    )


def _sources_of(settings: Settings) -> list[Source]:
    """The sources that the settings name."""
    found: list[Source] = []
    if "huggingface" in settings.sources:
        found.append(HuggingFace(settings.hf_url))
    if "arxiv" in settings.sources and settings.categories:
        found.append(
            Arxiv(
                api_url=settings.arxiv_url,
                rss_url=settings.arxiv_rss_url,
                categories=settings.categories,
            )
        )
    if "feeds" in settings.sources:
        found.extend(Feed(slug=slug, url=url) for slug, url in settings.feeds)
    if not found:
        raise SettingsError("DIGEST_SOURCES: no source is left to read; name at least one.")
    return found
