"""The pages and the probes for these services: names what the applications need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from starlette.applications import Starlette

from digest.pipeline.readiness import tables
from digest.pipeline.reporting import summary
from digest.services import Services
from digest.web import DAILY_PAPERS, WebSite
from digest.web.app import create_app
from digest.web.exposition import page
from digest.web.probe import Probe, probe_app
from digest.web.questions import Seldom
from digest.web.server import WebServer, listen

DAY = timedelta(days=1)
WEEK = timedelta(days=7)  # as `digest status` counts


def build(services: Services) -> Starlette:
    """The application; TemplateError."""
    settings = services.settings
    return create_app(
        accounts=services.accounts,
        plan=services.plan,
        templates=settings.templates_dir,
        site=WebSite(
            name=settings.site_name,
            tagline=settings.tagline,
            base_url=settings.base_url,
            reply_to=settings.reply_to or settings.sender_address,
            imprint_url=settings.imprint_url,
            privacy_contact=settings.privacy_contact,
            locale=settings.locale,
            public=settings.public_pages,
            signup=settings.signup,
            signup_domains=settings.signup_domains,
            trusted_proxies=settings.trusted_proxies,
            retention_days=settings.retention_days,
            digest_retention_days=settings.digest_retention_days,
            sources=named_sources(services),
            sample=services.site.sample,
        ),
        probe=_probe(services, lambda: tables(services.engine), house=True),
    )


@contextmanager
def probing(
    services: Services, problems: Callable[[], Sequence[str]], *, house: bool
) -> Iterator[None]:
    """Answer monitoring at DIGEST_PROBE_PORT while the block runs; without a port do nothing.

    The process is ready when its database is and `problems` gives none. `house` puts what the
    database knows on the metrics page: one process of all is enough for that.
    """
    settings = services.settings
    if not settings.probe_port:
        yield
        return

    def ready() -> list[str]:
        return [*tables(services.engine), *problems()]

    listener = listen(settings.web_host, settings.probe_port, setting="DIGEST_PROBE_PORT")
    app = probe_app(_probe(services, ready, house=house))
    with WebServer(app, listener, name="The probe is"):
        yield


def named_sources(services: Services) -> tuple[str, ...]:
    """What is read, as readers know it; nothing where papers are made up, which pages say."""
    known = {"huggingface": DAILY_PAPERS, "arxiv": "arXiv"}
    names = [source.name for source in services.sources if not services.site.sample]
    return tuple(known.get(name) or name.removeprefix("feed:") for name in names)


def _probe(services: Services, ready: Callable[[], Sequence[str]], *, house: bool) -> Probe:
    week = Seldom(lambda: summary(services.report(WEEK)))
    return Probe(
        ready=ready,
        status=week,
        metrics=page((lambda: services.report(DAY)) if house else None),
        token=services.settings.metrics_token.get_secret_value(),
    )
