"""What contradicts what: settings that are fine alone and wrong together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from digest.settings import checks
from digest.settings.checks import PREFIX

if TYPE_CHECKING:
    from digest.settings.model import Settings

ARXIV_WAIT = 3.0  # seconds between two requests: the terms of use of arXiv's API


def contradictions(given: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each as (the names, the first to mend; why)."""
    if given.probe_port == given.web_port:
        yield (
            ("probe_port", "web_port"),
            f"the pages are at that port: write another one than {PREFIX}WEB_PORT",
        )
    if given.smtp_host and given.relays:
        yield ("relays", "smtp_host"), "name the mail servers in one of the two"
    if given.relays and given.smtp_user:
        yield ("relays", "smtp_user"), "name each mail server's user and password in its URL"
    if not given.has_relay and not given.local_base:
        yield (
            ("smtp_host", "relays", "base_url"),
            (
                f"name the mail server; mail is caught locally only while {PREFIX}BASE_URL is this"
                " machine, and it is not"
            ),
        )
    if given.local and not checks.local(given.web_host):
        yield (
            ("web_host", "smtp_host", "relays", "base_url"),
            f"without {PREFIX}SMTP_HOST the page shows all mail, so it listens on 127.0.0.1 only",
        )
    if not given.sender_address and not given.local and given.has_relay:
        yield (
            ("sender_address", "smtp_host", "relays", "base_url"),
            "write the address that mail comes from",
        )
    if given.smtp_password.get_secret_value() and not given.smtp_user:
        yield (("smtp_user", "smtp_password"), "a password is set: name the user too")
    if given.smtp_user and not given.smtp_password.get_secret_value():
        yield (("smtp_password", "smtp_user"), "a user is set: give the password too")
    if given.smtp_user and given.smtp_tls == "none" and not checks.local(given.smtp_host):
        yield (
            ("smtp_tls", "smtp_user", "smtp_host"),
            "a password must not travel in the clear: write tls or starttls",
        )
    loopback = all(
        checks.local(urlsplit(url).hostname) for url in (given.arxiv_url, given.arxiv_rss_url)
    )
    if given.arxiv_interval < ARXIV_WAIT and not loopback:
        yield (
            ("arxiv_interval", "arxiv_url", "arxiv_rss_url"),
            f"arXiv asks for {ARXIV_WAIT:g} s between requests: write {ARXIV_WAIT:g} or more",
        )
    if (given.signup == "domains") != bool(given.signup_domains):
        words = (
            "name the domains whose addresses may subscribe"
            if given.signup == "domains"
            else f"it is used with {PREFIX}SIGNUP=domains alone"
        )
        yield ("signup_domains", "signup"), words
    if given.weight_trend == given.weight_topic == 0:
        yield ("weight_trend", "weight_topic"), "both weights are 0: nothing would have a score"
    windows = ("lookback_hours", "weekly_window_days")
    if 24 * given.longest_window_days < max(given.lookback_hours, 24 * given.weekly_window_days):
        yield (
            ("longest_window_days", *windows),
            f"write at least {PREFIX}LOOKBACK_HOURS and {PREFIX}WEEKLY_WINDOW_DAYS",
        )
    if given.retention_days <= given.longest_window_days:
        yield (
            ("retention_days", "longest_window_days"),
            (
                f"a paper can be chosen for {given.longest_window_days} days, so what is"
                f" known of it must be kept longer: write {given.longest_window_days + 1} or more"
            ),
        )
    if given.digest_retention_days < given.retention_days:
        yield (
            ("digest_retention_days", "retention_days"),
            f"a digest is kept as long as its attempts: write {given.retention_days} or more",
        )
    if given.smtp_final_timeout < given.smtp_timeout:
        yield (
            ("smtp_final_timeout", "smtp_timeout"),
            f"write at least {PREFIX}SMTP_TIMEOUT ({given.smtp_timeout:g})",
        )
