"""Receiving providers: who takes the mail for an address, whatever its domain is called.

What a provider allows, or refuses, holds for all domains that it receives mail for. The large ones
are known by name; of other domains the DNS says which hosts take their mail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dns.exception import DNSException
from dns.resolver import NXDOMAIN, NoAnswer, NoResolverConfiguration, Resolver

from digest import suppression

PATIENCE = 5.0  # seconds for one domain, whatever servers are asked

# The domains at which the large providers give away addresses. Not yahoo.co.jp, which is another
# company's.
_ADDRESSES = {
    "google": "gmail.com googlemail.com",
    "microsoft": "outlook.com hotmail.com hotmail.co.uk hotmail.de hotmail.es hotmail.fr hotmail.it"
    " live.com msn.com windowslive.com",
    "yahoo": "yahoo.com yahoo.ca yahoo.co.in yahoo.co.uk yahoo.com.ar yahoo.com.au yahoo.com.br"
    " yahoo.com.mx yahoo.de yahoo.es yahoo.fr yahoo.in yahoo.it ymail.com rocketmail.com aol.com",
    "apple": "icloud.com me.com mac.com",
    "united-internet": "gmx.at gmx.ch gmx.com gmx.de gmx.net web.de",
}
BY_DOMAIN: Mapping[str, str] = {
    domain: name for name, domains in _ADDRESSES.items() for domain in domains.split()
}

# How the hosts end that take mail for these, and for the domains of their customers.
_BY_HOST = {
    "google.com": "google",
    "googlemail.com": "google",
    "protection.outlook.com": "microsoft",
    "mx.microsoft": "microsoft",
    "yahoodns.net": "yahoo",
    "icloud.com": "apple",
    "gmx.net": "united-internet",
    "web.de": "united-internet",
}

# What stands for "company", "university" and the like before a country's two letters: there a name
# that somebody registered has one label more.
_CATEGORIES = {
    *("ac", "co", "com", "ed", "edu", "go", "gob", "gouv", "gov", "govt", "gv", "ltd", "me"),
    *("mil", "ne", "net", "nom", "or", "org", "plc", "sch"),
}
_HOST_NAME = re.compile(r"([a-z0-9_-]{1,63}\.)+[a-z][a-z0-9-]{0,62}")


def provider_of(address: str, known: Mapping[str, str]) -> str:
    """Who receives mail for `address`; `known` is what the DNS said of domains.

    A name such as `google`, else the domain of the hosts that take the mail, else its own.
    """
    domain = suppression.provider(address)
    return BY_DOMAIN.get(domain) or known.get(domain) or domain


def provider_named(text: str) -> str:
    """The provider that an operator means by its name or by one of its domains; "" if none is."""
    found = provider_of(f"@{text}", {})
    return found if found in _ADDRESSES or "." in found else ""


def system_resolver() -> Resolver | None:
    """What asks the DNS as this machine does; None where it is not told how."""
    try:
        return Resolver()
    except NoResolverConfiguration:
        return None


def ask(resolver: Resolver, domain: str) -> str | None:
    """Who receives mail for a domain, as the DNS says; "" where it says nobody, None if it fails.

    The best host is the one with the lowest preference (RFC 5321, 5.1); a domain whose only host is
    "." takes no mail (RFC 7505), one without any takes it itself. Either stands for itself.
    """
    try:
        answer = resolver.resolve(f"{domain}.", "MX", lifetime=PATIENCE)
    except (NXDOMAIN, NoAnswer):
        return ""
    except DNSException:
        return None
    _, host = min((record.preference, record.exchange.to_text()) for record in answer)
    return provider_of_host(host.rstrip(".").lower())


def takes_mail(resolver: Resolver, domain: str) -> bool:
    """Whether mail to a domain can arrive at all, as the DNS says; True when it does not say.

    It can by a host that takes its mail, else by an address of its own (RFC 5321, 5.1).
    """
    try:
        answer = resolver.resolve(f"{domain}.", "MX", lifetime=PATIENCE)
        return any(record.exchange.to_text() != "." for record in answer)
    except NXDOMAIN:
        return False
    except NoAnswer:
        return any(_has(resolver, domain, kind) for kind in ("A", "AAAA"))
    except DNSException:
        return True


def _has(resolver: Resolver, domain: str, kind: str) -> bool:
    try:
        resolver.resolve(f"{domain}.", kind, lifetime=PATIENCE)
    except (NXDOMAIN, NoAnswer):
        return False
    except DNSException:
        pass
    return True


def provider_of_host(host: str) -> str:
    """Whose host that is: a provider's name, else what was registered, guessed by its labels.

    "" for what is no host's name.
    """
    if not _HOST_NAME.fullmatch(host):
        return ""
    labels = host.split(".")
    for start in range(len(labels) - 1):
        if name := _BY_HOST.get(".".join(labels[start:])):
            return name
    deep = len(labels[-1]) == 2 and labels[-2] in _CATEGORIES
    return ".".join(labels[-3 if deep else -2 :])
