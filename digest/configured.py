"""What the settings say, as the values that the parts of the service take."""

from __future__ import annotations

from datetime import timedelta

from digest.delivery import Server
from digest.errors import SettingsError
from digest.models import Frequency, Limits, Site, Wishes
from digest.pipeline import accounts
from digest.pipeline.books import LEASE, Policy, Relay
from digest.providers import BY_DOMAIN, provider_named
from digest.settings import LimitsSetting, RelaySetting, Settings
from digest.sources import Source
from digest.sources.arxiv import Arxiv
from digest.sources.feeds import Feed
from digest.sources.huggingface import HuggingFace
from digest.storage.breaker import Caution


def site_of(settings: Settings) -> Site:
    """Who sends, as mails and pages say it."""
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
        joinable=settings.signup != "closed",
    )


def usual_of(settings: Settings) -> Wishes:
    """What somebody gets who did not say what they wish."""
    weekly = settings.frequency is Frequency.WEEKLY
    return Wishes(
        zone=settings.zone,
        hour=settings.hour,
        frequency=settings.frequency,
        weekday=settings.weekday if weekly else None,
        max_papers=settings.max_papers,
        locale=settings.locale,
    )


def asking_limits_of(settings: Settings) -> accounts.Limits:
    """How often people may ask for mail."""
    return accounts.Limits(
        account_mails_daily=settings.account_mails_daily,
        signups_hourly=settings.signups_hourly,
        confirmations_hourly=settings.confirmations_hourly,
    )


def relays_of(settings: Settings) -> list[Relay]:
    """The mail servers that the settings name, with what they take."""
    named = settings.relays or (
        RelaySetting(
            host=settings.smtp_host,
            port=settings.smtp_port,
            tls=settings.smtp_tls,
            user=settings.smtp_user,
            password=settings.smtp_password.get_secret_value(),
        ),
    )
    providers = _provider_limits(settings)
    return [
        Relay(
            server=Server(
                host=one.host,
                port=one.port,
                tls=one.tls,
                user=one.user,
                password=one.password,
                timeout=settings.smtp_timeout,
                final_timeout=settings.smtp_final_timeout,
                **({"messages": one.limits.messages} if one.limits.messages else {}),
            ),
            priority=one.priority,
            limits=_limits(one.limits, connections=settings.smtp_connections),
            providers=providers,
        )
        for one in named
    ]


def _provider_limits(settings: Settings) -> dict[str, Limits]:
    """The limits by the names that the ledger has for providers; SettingsError."""
    found: dict[str, Limits] = {}
    for text, given in settings.provider_limits:
        name = text if text == "*" else provider_named(text)
        if not name:
            known = ", ".join(sorted(set(BY_DOMAIN.values())))
            raise SettingsError(
                f"DIGEST_PROVIDER_LIMITS: {text} is no receiving provider: write {known}, a domain"
                " such as example.org, or * for all others."
            )
        if name in found:
            raise SettingsError(
                f"DIGEST_PROVIDER_LIMITS: {text} is {name}, which stands there already;"
                " write its limits once."
            )
        found[name] = _limits(given)
    return found


def _limits(given: LimitsSetting, *, connections: int | None = None) -> Limits:
    return Limits(
        connections=given.connections or connections,
        rate=given.rate,
        daily=given.daily,
        messages=given.messages,
    )


def policy_of(settings: Settings) -> Policy:
    """What the settings say about refusals and lost answers."""
    return Policy(
        retry=[timedelta(minutes=step) for step in settings.retry_steps_minutes],
        caution=Caution(window=settings.breaker_window, share=settings.breaker_share),
        resend_unknown=answer_wait(settings) if settings.unknown == "resend" else None,
    )


def answer_wait(settings: Settings) -> timedelta:
    """After so long nobody is still waiting for the answer to a mail that became unknown."""
    return timedelta(seconds=settings.smtp_final_timeout) + 2 * LEASE


def sources_of(settings: Settings) -> list[Source]:
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
