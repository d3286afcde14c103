"""The pages: parse a request, call one function, show the result."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

DAILY_PAPERS = "Hugging Face Daily Papers"  # the only source of ours that has votes


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSite:
    """Who runs this, in the words of the settings; an empty one is left out of the page."""

    name: str
    tagline: str
    base_url: str  # without a slash at its end; links and origins come from here, never from Host
    reply_to: str  # where a person's question arrives
    imprint_url: str = ""
    privacy_contact: str = ""
    locale: str = "en"
    public: bool = True  # whether papers, topics, search and feeds are shown to everybody
    signup: str = "open"  # open | domains | closed
    signup_domains: tuple[str, ...] = ()
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    retention_days: int = 90  # of attempts
    digest_retention_days: int = 400
    sources: tuple[str, ...] = ()  # where the papers are read, by the names that readers know
    sample: bool = False  # some of the papers are invented: every page says so
