"""The one place that names the concrete classes: settings in, things that work out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

from sqlalchemy import Engine

from digest import journal
from digest.configured import (
    asking_limits_of,
    policy_of,
    relays_of,
    site_of,
    sources_of,
    usual_of,
)
from digest.delivery import Server
from digest.errors import InputError
from digest.inbox import Inbox
from digest.logs import configure
from digest.models import Limits, Newcomer, Site, Subscriber, Wishes
from digest.pipeline import accounts
from digest.pipeline.accounts.base import PATHS, Accounts, raise_mark
from digest.pipeline.alerting import Watch, watch
from digest.pipeline.bookkeeping import LocalBooks
from digest.pipeline.books import Books, Relay
from digest.pipeline.collecting import Limits as Reading
from digest.pipeline.collecting import collect
from digest.pipeline.delivering import Postman
from digest.pipeline.drafting import Plan
from digest.pipeline.planning import Planned, heal, plan
from digest.pipeline.processes import Crew, RemoteBooks
from digest.pipeline.receivers import look_up, receivers
from digest.pipeline.reporting import Report, report
from digest.providers import provider_of, system_resolver, takes_mail
from digest.ranking import Weights
from digest.rendering import Assembler, Renderer
from digest.selection import Rules
from digest.settings import Settings, secret_keys
from digest.sources import Source
from digest.sources.http import Client
from digest.storage import house, migrating, optouts, runs
from digest.storage.database import (
    DatabaseClock,
    exclusive,
    open_database,
    reading,
    refuse_unsafe,
    writing,
)
from digest.storage.erasing import forget_offers, remove_unconfirmed
from digest.storage.forgetting import forget, forget_asking
from digest.storage.sources import Read
from digest.suppression import address_hashes, address_key
from digest.tokens import Purpose, digest_subject, sign

log = logging.getLogger(__name__)

ASKED_LASTS = timedelta(days=2)  # what is counted by the day, and links that work for an hour
UNCONFIRMED_LASTS = timedelta(days=7)  # as their links do
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
            limits=Reading(
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

    def plan_due(self, limit: int | None = None) -> Planned:
        """Freeze the digests that are due, of at most `limit` subscribers.

        Raises RestoredDatabase, and Busy while another process plans on SQLite.
        """
        house.refuse_if_behind(self.engine, self.settings.data_dir)
        found = self.plan
        if self.settings.mx_lookups:
            found = replace(found, provider=receivers(self.engine))
        planned = plan(self.engine, found, locks=self.locks, now=self.clock(), limit=limit)
        if planned.digests or planned.skipped:
            raise_mark(self.engine, self.settings.data_dir)
        return planned

    def look_up_domains(self) -> int:
        """Ask the DNS who receives subscribers' mail; how many answers. Busy while another does."""
        resolver = system_resolver()
        if self.settings.local or not self.settings.mx_lookups or resolver is None:
            return 0
        return look_up(
            self.engine, resolver, locks=self.locks, stopping=self.stopping, now=self.clock()
        )

    def collect_is_due(self) -> bool:
        """Whether nothing was read for an hour: a restart must not ask the sources again."""
        with reading(self.engine) as connection:
            last = runs.last_collected_at(connection)
        return last is None or self.clock() - last > timedelta(hours=1)

    def clean_up(self) -> dict[str, int]:
        """Forget what is older than the retention, heal what planning relies on; how much."""
        now, settings = self.clock(), self.settings
        forgotten = forget(
            self.engine,
            before=now - timedelta(days=settings.retention_days),
            digests_before=now - timedelta(days=settings.digest_retention_days),
        )
        asked = forget_asking(self.engine, before=now - ASKED_LASTS)
        unconfirmed = remove_unconfirmed(self.engine, before=now - UNCONFIRMED_LASTS, now=now)
        return {
            **forgotten,
            **asked,
            "offers": forget_offers(self.engine, before=now - UNCONFIRMED_LASTS, now=now),
            "unconfirmed": unconfirmed,
            "healed": heal(self.engine),
        }

    def watch(self) -> None:
        """Tell the operator what is wrong, and what is over; Busy while another process does."""
        settings = self.settings
        watch(
            self.engine,
            Watch(
                late_after=timedelta(minutes=settings.late_after_minutes),
                sources=self.plan.sources,
                webhook=settings.alert_webhook.get_secret_value(),
                mail=settings.alert_mail,
                confirmations=settings.confirmations_hourly,
            ),
            site=self.site,
            locks=self.locks,
            now=self.clock(),
            restored=self.restored(),
        )

    def restored(self) -> str | None:
        """What to do about a database that was put back; None when it was not.

        The look itself is remembered in the data directory; see `house.check`.
        """
        return house.check(self.engine, self.settings.data_dir)

    def report(self, span: timedelta) -> Report:
        """The state of the house for the slots due within `span`."""
        return report(self.engine, self.plan.sources, now=self.clock(), span=span)

    @contextmanager
    def relays(self) -> Iterator[Sequence[Relay]]:
        """The mail servers to use; in local mode an inbox that lives as long as the block."""
        settings = self.settings
        if self.inbox is not None:
            with Inbox(self.inbox) as inbox:
                server = Server(host=inbox.host, port=inbox.port, tls="none")
                yield [Relay(server=server, limits=Limits(connections=settings.smtp_connections))]
            return
        yield relays_of(settings)

    def postman(self, relays: Sequence[Relay], *, processes: int = 1) -> Postman | Crew:
        """What delivers over these mail servers, in this process or in several.

        Before it can, who left by the journal is taken out again.
        """
        self.heed_journal()
        if processes == 1:
            books = self._books(relays, locks=self.locks)
            return _postman(self.settings, self.engine, relays, books, clock=self.clock)
        family: set[int] = set()
        sqlite = self.engine.dialect.name == "sqlite"
        return Crew(
            partial(_sender, self.settings, tuple(relays)),
            processes=processes,
            books=partial(self._books, relays, family=family) if sqlite else None,
            is_needed=self._books(relays).is_needed,
            lock=partial(exclusive, self.engine, "deliver", self.locks) if sqlite else nullcontext,
        )

    def _books(
        self,
        relays: Sequence[Relay],
        *,
        locks: Path | None = None,
        family: set[int] | None = None,
    ) -> LocalBooks:
        return LocalBooks(
            self.engine,
            relays,
            policy_of(self.settings),
            clock=self.clock,
            locks=locks,
            data_dir=self.settings.data_dir,
            family=family,
        )

    @property
    def accounts(self) -> Accounts:
        """What the accounts of readers need."""
        settings = self.settings
        resolver = system_resolver() if settings.signup_mx else None
        return Accounts(
            engine=self.engine,
            secrets=self.secrets,
            renderer=self.plan.renderer,
            site=self.site,
            clock=self.clock,
            data_dir=settings.data_dir,
            provider=receivers(self.engine) if settings.mx_lookups else self.plan.provider,
            usual=usual_of(settings),
            weekday=settings.weekday,
            limits=asking_limits_of(settings),
            signup=settings.signup,
            domains=frozenset(settings.signup_domains),
            takes_mail=partial(takes_mail, resolver) if resolver else None,
            welcome=settings.welcome,
            inbox=self.inbox,
        )

    def answer_requests(self) -> int:
        """Send what people asked for on a page; how many requests. Harmless when there are none."""
        return accounts.answer(self.accounts)

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
        self.stop_writing(subscriber_id, detail="by the link in a mail")

    def stop_writing(self, subscriber_id: int, *, detail: str) -> bool:
        """Unsubscribe somebody, whoever asked for it; False when that was so already."""
        return accounts.stop(self.accounts, subscriber_id, detail=detail)

    def heed_journal(self) -> int:
        """Take out whom the journal knows to have left and the database does not; how many.

        So it is after a crash between both, and in a copy that passes for the database.
        """
        path, now = self.settings.data_dir / journal.FILE, self.clock()
        try:
            with reading(self.engine) as connection:
                entries = journal.read(path) if path.exists() else ()
                lost = optouts.unknown(connection, entries)
        except InputError as error:
            log.error("%s", error, extra={"action": "unsubscribe"})
            return 0
        if not lost:
            return 0
        with writing(self.engine) as connection:
            taken_out = sum(optouts.replay(connection, lost, since=now, now=now).values())
        log.warning(
            "The journal of opt-outs knew more than the database: %d who left were taken out again."
            " If it was put back from a backup, run: digest restored --backup-time TIME",
            taken_out,
            extra={"action": "unsubscribe", "taken_out": taken_out},
        )
        return taken_out


def build(settings: Settings, *, clock: Callable[[], datetime] | None = None) -> Services:
    """Open the database, check its tables, and put everything together; DigestError."""
    secrets = secret_keys(settings)
    engine = open_database(settings.database_url)
    if not settings.allow_unsafe_database:
        refuse_unsafe(engine)
    migrating.prepare(engine)
    site = site_of(settings)
    sources = sources_of(settings)
    return Services(
        settings=settings,
        engine=engine,
        secrets=secrets,
        site=site,
        plan=_plan_of(settings, site, secrets=secrets, sources=sources),
        sources=sources,
        clock=clock or clock_of(engine),
    )


def _postman(
    settings: Settings,
    engine: Engine,
    relays: Sequence[Relay],
    books: Books,
    *,
    clock: Callable[[], datetime],
) -> Postman:
    return Postman(
        engine,
        books,
        relays,
        composer=Assembler(),
        policy=policy_of(settings),
        clock=clock,
        drain=settings.drain_seconds,
    )


def _sender(settings: Settings, relays: Sequence[Relay], pipe: Pipe | None) -> Postman:
    """A postman in a process of its own; at the pipe's other end somebody keeps its books."""
    configure(settings.log_level, settings.log_format)
    engine = open_database(settings.database_url)
    clock = clock_of(engine)
    books = (
        RemoteBooks(pipe)
        if pipe is not None
        else LocalBooks(
            engine, relays, policy_of(settings), clock=clock, data_dir=settings.data_dir
        )
    )
    return _postman(settings, engine, relays, books, clock=clock)


def clock_of(engine: Engine) -> Callable[[], datetime]:
    """The business clock: the database's, where several machines share one."""
    return DatabaseClock(engine) if engine.dialect.name == "postgresql" else real_clock


def with_sources(services: Services, sources: Sequence[Source], *, sample: bool) -> Services:
    """The same services with other sources; `sample` says that the papers are invented."""
    settings, secrets = services.settings, services.secrets
    site = replace(services.site, sample=sample)
    plan = _plan_of(settings, site, secrets=secrets, sources=sources)
    return replace(services, site=site, plan=plan, sources=sources)


def _plan_of(
    settings: Settings, site: Site, *, secrets: Sequence[bytes], sources: Sequence[Source]
) -> Plan:
    """What planning needs, from the settings."""

    def links(subscriber: Subscriber, slot: date, now: datetime) -> Mapping[str, str]:
        way_out = sign(Purpose.UNSUBSCRIBE, subscriber.id, secrets=secrets, now=now)
        wishes = sign(
            Purpose.PREFERENCES,
            subscriber.id,
            secrets=secrets,
            now=now,
            generation=subscriber.generation,
        )
        digest = digest_subject(subscriber.id, slot)
        view, feedback = (
            sign(purpose, digest, secrets=secrets, now=now, generation=subscriber.generation)
            for purpose in (Purpose.VIEW, Purpose.FEEDBACK)
        )
        return {
            "unsubscribe_url": f"{settings.base_url}/{PATHS[Purpose.UNSUBSCRIBE]}/{way_out}",
            "preferences_url": f"{settings.base_url}/{PATHS[Purpose.PREFERENCES]}/{wishes}",
            "view_url": f"{settings.base_url}/{PATHS[Purpose.VIEW]}/{view}",
            "feedback": feedback,
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
        provider=partial(provider_of, known={}),
    )
